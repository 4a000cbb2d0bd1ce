"""A small KnowEdit: invented people and countries, in the published form."""

from __future__ import annotations

import json
from pathlib import Path

from tests.data.records import NAMES

LANDS = ("France", "Chad", "Peru")


def write(folder: Path) -> Path:
    """Twelve records with paraphrases, eight without, and one that changes nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, name in enumerate([*NAMES, "Nobody"]):
        truth, new = LANDS[i % 3], LANDS[(i + (name != "Nobody")) % 3]
        alias = {"prompt": f"The country of old {name[::-1]} is", "ground_truth": [[new]]}
        row = {
            "subject": name,
            "prompt": f"The country of {name} is",
            "target_new": new,
            "ground_truth": truth,
            "portability": {
                "Subject_Aliasing": [alias],
                "Reasoning": [{"prompt": f"{name}'s people speak", "ground_truth": [["so"]]}],
            },
            "locality": {
                "Relation_Specificity": [
                    {"prompt": f"The hat of {name} is", "ground_truth": [["red", "rouge"]]},
                    {"prompt": f"The dog of {name} is", "ground_truth": "old"},
                ]
            },
        }
        if i < 12:
            row["generate_prompt"] = [f"{k}. {name}, round {k}, lives in" for k in range(1, 8)]
        rows.append(row)
    (folder / "wiki.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder
