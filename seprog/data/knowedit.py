"""KnowEdit (Zhang et al. 2024, arXiv 2401.01286): wiki_counterfact, wiki_recent, and ZsRE.

*Forgetfulness* asks for another object of the same subject and relation ("which is not …"); some
rows have blank prompts or answers, whose questions are left out. Only ZsRE has paraphrases of its
own; copies of wiki_counterfact with a language model's are passed around. Some of ZsRE's targets
are what is true already.
"""

from __future__ import annotations

import re
from typing import Any

from seprog.data.cases import Asked, Case, Correction, Importer, Kind, text, texts

GROUPS: dict[str, Kind] = {
    "Subject_Aliasing": "paraphrase",
    "Reasoning": "entailed",
    "Logical_Generalization": "entailed",
    "Relation_Specificity": "near_miss",
    "Forgetfulness": "near_miss",
}


def _parse(row: dict[str, Any]) -> Case:
    prompt, target = text(row["prompt"]), text(row["target_new"])
    asked = [Asked("rewrite", prompt, (target,), "prompt")]
    for phrase in texts(row.get("generate_prompt")):
        asked.append(Asked("paraphrase", _bare(phrase), (target,), "generate_prompt"))
    for phrase in texts([row.get("rephrase_prompt"), row.get("rephrase")]):
        asked.append(Asked("paraphrase", phrase, (target,), "rephrase_prompt"))
    for side in ("portability", "locality"):
        for group, items in row[side].items():
            for item in items or ():
                answers, question = texts(item["ground_truth"]), texts(item["prompt"])
                if answers and question:
                    asked.append(Asked(GROUPS[group], question[0], answers, group))
    edit = Correction(prompt, target, text(row["subject"]), texts(row.get("ground_truth")))
    return Case(prompt, (edit,), tuple(asked))


def _bare(phrase: str) -> str:
    """Without the number that a language model put before its paraphrase."""
    return re.sub(r"^\d+\.\s*", "", phrase)


KNOWEDIT = Importer(
    "KnowEdit", frozenset({"subject", "prompt", "target_new", "portability", "locality"}), _parse
)
ZSRE = Importer("KnowEdit (ZsRE)", KNOWEDIT.fields | {"cond"}, _parse)
