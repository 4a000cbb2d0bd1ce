"""zsRE in its editing forms: MEND's (with EasyEdit's portability questions), and the annotated one.

MEND's targets are a model's own wrong answers: in some 2 to 3 % of the rows the target is a true
answer all the same, and two of the thousand training rows have none; they are left out. Sources:
Levy et al. 2017; Mitchell et al. 2022 (MEND); Yao et al. 2023 (arXiv 2305.13172) for portability.
Lists of questions with MEND's targets are passed around as well (ReMaKE, arXiv 2312.13040).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seprog.data.cases import Asked, Case, Correction, Importer, text, texts
from seprog.data.rows import read_lines


def _mend(row: dict[str, Any]) -> Case | None:
    if row["alt"] == "":
        return None
    prompt, target = text(row["src"]), text(row["alt"])
    asked = [
        Asked("rewrite", prompt, (target,), "src"),
        Asked("paraphrase", text(row["rephrase"]), (target,), "rephrase"),
    ]
    if portability := row.get("portability"):
        answers = (text(portability["New Answer"]),)
        asked.append(Asked("entailed", text(portability["New Question"]), answers, "portability"))
    unrelated = text(row["loc"]).removeprefix("nq question: ")
    asked.append(Asked("far", unrelated, texts(row["loc_ans"]), "loc"))
    edit = Correction(prompt, target, text(row["subject"]), texts(row["answers"]))
    return Case(text(row["cond"]), (edit,), tuple(asked))


def _annotated(row: dict[str, Any]) -> Case:
    prompt, target = text(row["prompt"]), text(row["target_new"])
    asked = [Asked("rewrite", prompt, (target,), "prompt")]
    for phrase in texts(row["rephrase_prompt"]):
        asked.append(Asked("paraphrase", phrase, (target,), "rephrase_prompt"))
    for other in row["locality"]:
        answers = texts(other["ground_truth"])
        asked.append(Asked("far", text(other["prompt"]), answers, "locality"))
    edit = Correction(prompt, target, text(row["subject"]), texts(row["ground_truth"]))
    return Case(text(row["case_id"]), (edit,), tuple(asked))


MEND = Importer("zsRE (MEND)", frozenset({"src", "rephrase", "alt", "answers", "loc"}), _mend)
ANNOTATED = Importer(
    "zsRE (annotated)",
    frozenset({"case_id", "source_case_id", "prompt", "target_new", "rephrase_prompt", "locality"}),
    _annotated,
)


def read_answered(path: Path) -> list[tuple[str, str]]:
    """Questions, each with some answer that need not be true, from tab separated lines.

    Questions with no answer are left out; ReMaKE's list has 35 of them.

    Raises:
        InputError: If the file cannot be read, or a line is not of that form; it names the row.
    """

    def parse(line: str) -> tuple[str, str]:
        question, answer = line.split("\t")
        return text(question), answer.strip()

    rows = read_lines(path, parse, "a question and an answer with a tab between them")
    return [(question, answer) for question, answer in rows if answer]
