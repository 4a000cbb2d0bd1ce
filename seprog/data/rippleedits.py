"""RippleEdits (Cohen et al. 2023, arXiv 2307.12976): popular, random and recent.

A question counts under its own conditions only: those on what the model must know beforehand are
not checked here. What was true is ``original_fact`` in the published files and ``previous_fact`` in
those that the authors' code writes; recent has neither, and a few edits of random change nothing.
"""

from __future__ import annotations

import re
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

ENDS = {
    "SIBLING": " are ",
    "CAST_MEMBER": " are ",
    "FOLLOWS": " follows ",
    "FOLLOWED_BY": " is followed by ",
}
"""What stands before the answer, by relation, where it is not " is "."""


def _parse(row: dict[str, Any]) -> Case:
    correction = _correction(row["edit"])
    prompt, target = correction.prompt, correction.target
    asked = [Asked("rewrite", prompt, (target,), "edit")]
    for group, kind in GROUPS.items():
        for test in row.get(group, ()):
            for query in test["test_queries"]:
                answers = texts([[a["value"], *a["aliases"]] for a in query["answers"]])
                if answers:
                    asked.append(Asked(kind, text(query["prompt"]), answers, group))
    return Case(prompt, (correction,), tuple(asked))


def _correction(edit: dict[str, Any]) -> Correction:
    """A statement split where its answer begins: what was true, if known, begins alike."""
    statement, relation = text(edit["prompt"]), edit.get("relation", "")
    before = edit.get("original_fact") or edit.get("previous_fact")
    was = text(before["prompt"]) if before else ""
    end = ENDS.get(relation, " is ")
    begins = [m.end() for m in re.finditer(re.escape(end), statement)]
    begins = [at for at in begins if (was or statement).startswith(statement[:at])]
    if not begins:
        raise ValueError(f"{statement!r} has no answer after {end!r}")
    at = begins[-1]
    truth = texts(was[at:].removesuffix("."))
    target = text(statement[at:].removesuffix("."))
    return Correction(statement[:at].strip(), target, truth=truth, relation=relation)


RIPPLEEDITS = Importer(
    "RippleEdits", frozenset({"edit", "Relation_Specificity", "Compositionality_I"}), _parse
)
