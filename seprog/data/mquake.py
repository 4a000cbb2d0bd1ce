"""MQuAKE-CF (Zhong et al. 2023): multi-hop questions, some of whose hops are edited.

Edits of different cases contradict each other (MQuAKE-Remastered): edit case by case. The joined
form knows the new answer only where the last hop is edited; elsewhere it has no composed question.
"""

from __future__ import annotations

from typing import Any

from seprog.data.cases import Asked, Case, Correction, Hop, Importer, text, texts


def _full(row: dict[str, Any]) -> Case:
    edits, asked = [], []
    for rewrite in row["requested_rewrite"]:
        subject = text(rewrite["subject"])
        prompt = text(rewrite["prompt"]).replace("{}", subject)
        target = text(rewrite["target_new"]["str"])
        truth = (text(rewrite["target_true"]["str"]),)
        edits.append(Correction(prompt, target, subject, truth))
        asked.append(Asked("rewrite", prompt, (target,), "prompt"))
        asked.append(Asked("paraphrase", text(rewrite["question"]), (target,), "question"))
    answers = texts([text(row["new_answer"]), *row["new_answer_alias"]])
    for question in texts(row["questions"]):
        asked.append(Asked("composed", question, answers, "questions"))
    triples = row.get("orig", {})
    before = _hops(triples.get("triples_labeled", ()), row.get("single_hops", ()))
    after = _hops(triples.get("new_triples_labeled", ()), row.get("new_single_hops", ()))
    return Case(str(row["case_id"]), tuple(edits), tuple(asked), before, after)


def _hops(triples: Any, hops: Any) -> tuple[Hop, ...]:
    """In order; none if the file has no triples."""
    return tuple(
        Hop(
            text(subject),
            text(relation),
            (text(hop["cloze"]), text(hop["question"])),
            text(hop["answer"]),
        )
        for (subject, relation, _), hop in zip(triples, hops, strict=bool(triples))
    )


def _joined(row: dict[str, Any]) -> Case:
    edits, asked = [], []
    for edit in row["edits"]:
        statement, target = text(edit["statement"]), text(edit["target_new"])
        prompt = statement.removesuffix(target).strip()
        if not prompt or prompt == statement:  # the target does not end it: ask the question
            prompt = text(edit["question"])
        edits.append(Correction(prompt, target))
        asked.append(Asked("rewrite", prompt, (target,), "statement"))
        asked.append(Asked("paraphrase", text(edit["question"]), (target,), "question"))
    if row["new_answer"] is not None:
        for question in texts(row["questions"]):
            asked.append(Asked("composed", question, texts(row["new_answer"]), "questions"))
    if not edits:
        raise ValueError("no edits")
    return Case(str(row["case_id"]), tuple(edits), tuple(asked))


FULL = Importer(
    "MQuAKE-CF", frozenset({"case_id", "requested_rewrite", "questions", "new_answer"}), _full
)
JOINED = Importer(
    "MQuAKE-CF (joined)", frozenset({"case_id", "edits", "questions", "new_answer"}), _joined
)
