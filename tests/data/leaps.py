"""A small LeapOfThought: invented classes, members and properties, in the published form."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from seprog.data.leapofthought import Property


def row(
    member: str, kind: str, predicate: str, thing: str, holds: bool, other: str = ""
) -> dict[str, Any]:
    """One row with its rule and, if there is another class, a distractor."""
    validity = "always true" if holds else "never true"
    premise = {"subject": kind, "predicate": predicate, "object": thing, "validity": validity}
    rule = {"subject": member, "predicate": "hypernym", "object": kind, "validity": "always true"}
    meta: dict[str, Any] = {
        "statement": {**premise, "subject": member},
        "property": premise,
        "implicit_rule": rule,
    }
    if other:
        wrong = {**rule, "object": other, "validity": "never true"}
        meta["distractors"] = {"implicit_rule": [wrong]}
    return {
        "phrase": Property(member, predicate, thing, True).statement,
        "answer": int(holds),
        "metadata": meta,
    }


def bare(member: str, kind: str, holds: bool) -> dict[str, Any]:
    """One row that says that a member belongs to a class."""
    validity = "always true" if holds else "never true"
    triple = {"subject": member, "predicate": "hypernym", "object": kind, "validity": validity}
    return {
        "phrase": f"A {member} is a {kind}.",
        "answer": int(holds),
        "metadata": {"statement": triple},
    }


def write(folder: Path) -> Path:
    """Three splits: classes of dev and test, but not those of train, are the published ones."""
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "dev": [], "test": []}
    for split, kinds in (
        ("train", ["tool", "car", "king", "country"]),
        ("dev", ["alcohol", "fruit", "bird"]),
        ("test", ["bird", "music", "alcohol"]),
    ):
        for i, kind in enumerate(kinds):
            for member in (f"{kind[:2]}a", f"{kind[:2]}e", f"{kind[:2]}i"):
                for j, thing in enumerate(["xylem", "wing", "engine", "home"]):
                    holds = (i + j) % 2 == 0
                    other = kinds[i - 1]
                    splits[split].append(row(member, kind, "meronym", thing, holds, other))
    splits["train"] += [bare(f"to{x}", "tool", x in "aei") for x in "abcdefghijklmnop"]
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        text = "\n".join(map(json.dumps, rows)) + "\n"
        if split == "train":
            (folder / "train.jsonl").write_text(text)
        else:
            (folder / f"{split}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return folder
