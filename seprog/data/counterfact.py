"""CounterFact (Meng et al. 2022, ROME): the full records, and EasyEdit's flat ones.

Many paraphrases begin with a sentence on something else, by design. A neighbour shares the edited
fact's true object, so of the flat form the neighbour's answer is that object.
"""

from __future__ import annotations

from typing import Any

from seprog.data.cases import Asked, Case, Correction, Importer, text, texts


def _full(row: dict[str, Any]) -> Case:
    rewrite = row["requested_rewrite"]
    subject = text(rewrite["subject"])
    prompt = text(rewrite["prompt"]).replace("{}", subject)
    target, truth = text(rewrite["target_new"]["str"]), text(rewrite["target_true"]["str"])
    asked = [Asked("rewrite", prompt, (target,), "requested_rewrite")]
    for phrase in texts(row["paraphrase_prompts"]):
        asked.append(Asked("paraphrase", phrase, (target,), "paraphrase_prompts"))
    for other in texts(row["neighborhood_prompts"]):
        asked.append(Asked("near_miss", other, (truth,), "neighborhood_prompts"))
    edit = Correction(prompt, target, subject, (truth,), rewrite.get("relation_id", ""))
    return Case(str(row["case_id"]), (edit,), tuple(asked))


def _flat(row: dict[str, Any]) -> Case:
    prompt, target = text(row["prompt"]), text(row["target_new"])
    asked = (
        Asked("rewrite", prompt, (target,), "prompt"),
        Asked("paraphrase", text(row["rephrase_prompt"]), (target,), "rephrase_prompt"),
        Asked(
            "near_miss",
            text(row["locality_prompt"]),
            texts(row["locality_ground_truth"]),
            "locality_prompt",
        ),
    )
    edit = Correction(prompt, target, text(row["subject"]), texts(row["ground_truth"]))
    return Case(str(row["case_id"]), (edit,), asked)


FULL = Importer(
    "CounterFact",
    frozenset({"case_id", "requested_rewrite", "paraphrase_prompts", "neighborhood_prompts"}),
    _full,
)
FLAT = Importer(
    "CounterFact (flat)",
    frozenset({"case_id", "prompt", "target_new", "rephrase_prompt", "locality_prompt"}),
    _flat,
)
