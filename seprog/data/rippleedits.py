"""RippleEdits (Cohen et al. 2023, arXiv 2307.12976): popular, random and recent.

A question counts under its own conditions only: those on what the model must know beforehand are
not checked here.
"""

from __future__ import annotations

from typing import Any

from seprog.data.cases import Asked, Case, Correction, Importer, Kind, text, texts

GROUPS: dict[str, Kind] = {
    "Subject_Aliasing": "paraphrase",
    "Logical_Generalization": "entailed",
    "Compositionality_I": "composed",
    "Compositionality_II": "composed",
    "Relation_Specificity": "near_miss",
    "Forgetfulness": "near_miss",
}


def _parse(row: dict[str, Any]) -> Case:
    edit = row["edit"]
    statement = text(edit["prompt"]).removesuffix(".")
    prompt, between, target = statement.rpartition(" is ")
    if not between:
        raise ValueError(f"{statement!r} does not say what something is")
    prompt = f"{prompt} is"
    asked = [Asked("rewrite", prompt, (target,), "edit")]
    for group, kind in GROUPS.items():
        for test in row.get(group, ()):
            for query in test["test_queries"]:
                answers = texts([[a["value"], *a["aliases"]] for a in query["answers"]])
                if answers:
                    asked.append(Asked(kind, text(query["prompt"]), answers, group))
    original = (edit.get("original_fact") or {}).get("prompt", "")
    truth = texts(original.rpartition(" is ")[2].removesuffix("."))
    return Case(prompt, (Correction(prompt, target, truth=truth),), tuple(asked))


RIPPLEEDITS = Importer(
    "RippleEdits", frozenset({"edit", "Relation_Specificity", "Compositionality_I"}), _parse
)
