"""A small CounterFact: invented people and places, in the published forms."""

from __future__ import annotations

import json
from pathlib import Path

TONGUES = ("French", "English", "Dutch")
NAMES = [f"{a}{b}" for a in ("Ka", "Lo", "Mi", "Nu", "Pe") for b in ("ran", "sel", "tov", "wik")]


def write(folder: Path) -> Path:
    """Eight full records and twelve flat ones; some neighbours are edited themselves."""
    folder.mkdir(parents=True, exist_ok=True)
    full, flat = [], []
    for i, name in enumerate(NAMES):
        truth, new = TONGUES[i % 3], TONGUES[(i + 1) % 3]
        if i < 8:
            rewrite = {
                "prompt": "The mother tongue of {} is",
                "subject": name,
                "target_new": {"str": new},
                "target_true": {"str": truth},
            }
            near = [f"The mother tongue of {NAMES[(i + 3) % 10]} is", f"Uncle {i} speaks"]
            full.append(
                {
                    "case_id": i,
                    "requested_rewrite": rewrite,
                    "paraphrase_prompts": [f"It rained. {name} speaks", f"{name}, a native of"],
                    "neighborhood_prompts": near,
                }
            )
        flat.append(
            {
                "case_id": 100 + i,
                "prompt": f"The mother tongue of {name} is",
                "target_new": new,
                "subject": name,
                "ground_truth": truth,
                "rephrase_prompt": f"Where {name} is from, people speak",
                "locality_prompt": f"Aunt {i} is a native speaker of",
                "locality_ground_truth": truth,
            }
        )
    (folder / "counterfact.json").write_text(json.dumps(full))
    (folder / "flat.jsonl").write_text("\n".join(map(json.dumps, flat)))
    return folder
