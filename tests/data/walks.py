"""A small MQuAKE: invented people, countries and heads of state, in the published form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.data.records import NAMES

HEADS = dict(
    zip(
        ("France", "Chad", "Peru", "Togo", "Laos", "Oman"),
        ("Anna", "Bert", "Cleo", "Dora", "Emil", "Fred"),
        strict=True,
    )
)
LANDS = tuple(HEADS)


def hop(subject: str, relation: str, answer: str) -> dict[str, Any]:
    """One hop as the data set writes it."""
    cloze, question = {
        "home": (f"{subject} is a citizen of", f"What is the country of {subject}?"),
        "head": (f"The head of {subject} is", f"Who is the head of {subject}?"),
    }[relation]
    return {"cloze": cloze, "question": question, "answer": answer, "answer_alias": []}


def record(i: int, name: str) -> dict[str, Any]:
    """Someone's country is edited; of every sixth, its head, too."""
    was, now = LANDS[i % 6], LANDS[(i + 1) % 6]
    both = i % 6 == 0
    last = f"King {name}" if both else HEADS[now]
    triples = {
        "triples_labeled": [[name, "home", was], [was, "head", HEADS[was]]],
        "new_triples_labeled": [[name, "home", now], [now, "head", last]],
    }
    edits = [(name, "home", was, now)] + ([(now, "head", HEADS[now], last)] if both else [])
    return {
        "case_id": i,
        "requested_rewrite": [
            {
                "prompt": hop(subject, relation, "")["cloze"].replace(subject, "{}"),
                "question": hop(subject, relation, "")["question"],
                "subject": subject,
                "target_true": {"str": old},
                "target_new": {"str": new},
            }
            for subject, relation, old, new in edits
        ],
        "questions": [f"Who leads the country of {name}?", f"Whom do {name}'s people follow?"],
        "answer": HEADS[was],
        "answer_alias": [],
        "new_answer": last,
        "new_answer_alias": [last.upper()],
        "single_hops": [hop(name, "home", was), hop(was, "head", HEADS[was])],
        "new_single_hops": [hop(name, "home", now), hop(now, "head", last)],
        "orig": triples,
    }


def write(folder: Path) -> Path:
    """A record for each name."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [record(i, name) for i, name in enumerate(NAMES)]
    (folder / "cases.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder
