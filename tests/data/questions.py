"""A small zsRE: invented people and places, in the published forms."""

from __future__ import annotations

import json
from pathlib import Path

from tests.data.records import NAMES, TONGUES


def write(folder: Path) -> Path:
    """Twelve questions with consequences, eight annotated ones, four with some answer only."""
    folder.mkdir(parents=True, exist_ok=True)
    mend, annotated = [], []
    for i, name in enumerate(NAMES):
        truth, new = TONGUES[i % 3], TONGUES[(i + 1) % 3]
        question = f"What does {name} speak?" if i % 2 else f"What is the tongue of {name}?"
        if i < 12:
            follows = {"New Question": f"Is {name} from {new} land?", "New Answer": "Yes"}
            mend.append(
                {
                    "subject": name,
                    "src": question,
                    "rephrase": f"Which language has {name}?",
                    "alt": new,
                    "answers": [truth],
                    "loc": f"nq question: who sang song {i}",
                    "loc_ans": f"Singer {i}",
                    "cond": f"{truth} >> {new}",
                    "portability": follows,
                }
            )
        else:
            annotated.append(
                {
                    "case_id": f"zsre_{i}",
                    "source_case_id": "x",
                    "prompt": question,
                    "subject": name,
                    "target_new": new,
                    "ground_truth": truth,
                    "rephrase_prompt": [f"In what language does {name} write?"],
                    "locality": [{"prompt": "Where is Bo?", "ground_truth": "Here"}],
                }
            )
    mend.append({**mend[0], "subject": "Nobody", "src": "What does Nobody speak?", "alt": "French"})
    (folder / "mend.jsonl").write_text("\n".join(map(json.dumps, mend)))
    (folder / "annotated.json").write_text(json.dumps(annotated))
    more = [f"What is the tongue of Uncle {i}?\t{TONGUES[i % 3]}" for i in range(3)]
    more.append(f"What is the home of {NAMES[0]}?\tHere")
    more.append("What is the tongue of Uncle 9?\t")
    (folder / "more.tsv").write_text("\n".join(more) + "\n")
    return folder
