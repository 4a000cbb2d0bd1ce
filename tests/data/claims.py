"""A small FEVER: invented pages, claims and pairs, in the published form."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

PAGES = [f"Page_{i}_-LRB-film-RRB-" for i in range(40)]


def write(folder: Path) -> Path:
    """Five claims on each of forty pages, two of them refuted; a pair on each page.

    On every other page the pair's sentence is made up: it refutes what holds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, sides = [], []
    for i, page in enumerate(PAGES):
        for j, thing in enumerate(("king", "home", "author", "capital")):
            label = "REFUTES" if j == 1 else "SUPPORTS"
            claim = f"Page {i} has a {thing}."
            evidence = [[[1, 2, page, j % 3]]]
            rows.append({"id": 4 * i + j, "label": label, "claim": claim, "evidence": evidence})
        nothing = [[[1, None, None, None]]]
        text = f"Page {i} is long."
        rows.append({"id": i, "label": "NOT ENOUGH INFO", "claim": text, "evidence": nothing})
        claim, evidence = f"Page {i} is red.", [[[1, 2, page, 3]]]
        rows.append({"id": i, "label": "REFUTES", "claim": claim, "evidence": evidence})
        made_up = "red" if i % 2 else "blue"
        for colour in ("red", "blue"):
            label = "SUPPORTS" if colour == made_up else "REFUTES"
            claim, told = f"Page {i} is {colour} .", f"Page {i} is {made_up} all over ."
            sides.append({"id": str(i), "label": label, "claim": claim, "evidence_sentence": told})
    for label in ("SUPPORTS", "REFUTES"):  # comes with both labels: of no use
        rows.append({"label": label, "claim": "Ann sings.", "evidence": [[[1, 2, "Ann", 0]]]})
    text = "\n".join(map(json.dumps, rows))
    (folder / "paper_dev.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "symmetric_v0.1_full.jsonl").write_text("\n".join(map(json.dumps, sides)))
    return folder
