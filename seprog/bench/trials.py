"""Trials: memories of edits and what is asked of them, the same way for several data sets.

A task brings the base model, what generators and gates learn from, and the trials.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from seprog.errors import InputError
from seprog.lm import LanguageModel
from seprog.methods.contract import LONGEST_ANSWER
from seprog.training.scopes import Scopes
from seprog.types import Example

EditTexts = tuple[str, ...]
"""One edit, or several that are written together."""
Part = Literal["train", "calibration"]


@dataclass(frozen=True)
class Question:
    """What is asked.

    Args:
        kind: A kind of probe; see ``seprog.bench.metrics``.
        text: The query.
        answer: The right answer; ``None`` out of scope, where the base model's own is right.
        needed: Statements of the edits that the answer rests on.
        compared: Two answers, of which the first is to be the likelier one: the new and the old
            one, or, out of scope, what is true and what an edit says of another subject; ``None``
            where that, and teacher-forced scores, mean nothing.
        accepted: Other names for the right answer; ``None`` where the data set does not say.
    """

    kind: str
    text: str
    answer: str | None = None
    needed: EditTexts = ()
    compared: tuple[str, str] | None = field(default=None, compare=False)
    accepted: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Trial:
    """A memory, and what is asked of it.

    Args:
        protocol: What is tried.
        edits: Number of edits at a time, as reported.
        memory: The edits in force.
        questions: In and out of scope.
        near: Per edit, those of the questions that are near it.
        rewrites: What edits are asked by that are not asked about here.
    """

    protocol: str
    edits: int
    memory: Sequence[EditTexts]
    questions: Sequence[Question]
    near: Mapping[EditTexts, Sequence[Question]] = field(default_factory=dict)
    rewrites: Sequence[Question] = ()


BaseSays = Callable[[Sequence[str]], list[str]]
"""Queries to the unedited base model's answers."""


@dataclass(frozen=True)
class Models:
    """What is edited.

    Args:
        base: The base model.
        reader: Its twin that was fine-tuned to read edits in its context, if there is one.
        accuracy: What is known about them: shares of right answers (0 to 1), by name.
    """

    base: LanguageModel
    reader: LanguageModel | None
    accuracy: dict[str, float]


@runtime_checkable
class Task(Protocol):
    """A data set, as this bench needs it."""

    def models(self, work: Path) -> Models:
        """The base model; trained, if it is not in the folder."""
        ...

    def examples(self, part: Part, rng: random.Random) -> Iterator[Example]:
        """What generators learn from, or are checked on; without end."""
        ...

    def scopes(self, edits: int, rng: random.Random) -> Scopes:
        """A memory of so many edits that gates learn from."""
        ...

    def calibration(self, rng: random.Random) -> Trial:
        """What thresholds are fitted on."""
        ...

    def trials(self, seed: int, base_says: BaseSays) -> Iterator[Trial]:
        """What is reported."""
        ...


def chosen(trials: Sequence[Trial], edits: Sequence[int]) -> list[Trial]:
    """The trials of so many edits at a time; all if none are named."""
    sizes = sorted({t.edits for t in trials})
    if unknown := sorted(set(edits) - set(sizes)):
        raise InputError(
            f"Trials of {', '.join(map(str, unknown))} edits at a time came",
            f"some of {', '.join(map(str, sizes))}",
            "Give one of these with --edits, or leave it out for all",
        )
    return [t for t in trials if not edits or t.edits in edits]


def replies(lm: LanguageModel, texts: Sequence[str]) -> list[str]:
    """What a model says to texts."""
    found: list[str] = []
    for start in range(0, len(texts), 64):
        found += lm.reply(texts[start : start + 64], max_new_tokens=LONGEST_ANSWER)
    return found


def remembering(lm: LanguageModel) -> BaseSays:
    """What a model says; each text is asked once, while nothing is edited."""
    said: dict[str, str] = {}

    def answers(texts: Sequence[str]) -> list[str]:
        fresh = [t for t in dict.fromkeys(texts) if t not in said]
        said.update(zip(fresh, replies(lm, fresh), strict=True))
        return [said[t] for t in texts]

    return answers


def statements(memory: Sequence[EditTexts]) -> list[str]:
    """What a memory says, each statement once."""
    return list(dict.fromkeys(s for edit in memory for s in edit))


def written(trial: Trial) -> list[dict[str, str]]:
    """The edits as they are given to the memory: with the prompt that asks for them, if any."""
    asked = {
        q.needed[0]: {"prompt": q.text, "target": q.answer}
        for q in (*trial.questions, *trial.rewrites)
        if q.kind == "rewrite" and q.answer is not None and len(q.needed) == 1
    }
    return [{"statement": s, **asked.get(s, {})} for s in statements(trial.memory)]


def spread(
    protocol: str,
    size: int,
    about: Mapping[EditTexts, Sequence[Question]],
    near: Mapping[EditTexts, Sequence[Question]],
    far: Sequence[Question],
    rng: random.Random,
) -> Iterator[Trial]:
    """Trials of so many edits each, until every edit has been asked about in one.

    The last memory is filled up with edits that were asked about before.

    Args:
        protocol: What is tried.
        size: Edits at a time; 0 means all of them, and counts what they say, each statement once.
            There are no trials of more than there are.
        about: Per edit, the questions in its scope; one that several have is asked once.
        near: Per edit, questions near it that no edit bears on. Each is asked once, where one of
            the edits that it is near to is in force.
        far: Questions that are near no edit, shared out evenly.
        rng: Source of the order.
    """
    edits = rng.sample(list(about), len(about))
    beside, whole = _once(near), statements(edits)
    step = size or len(edits)
    asked = [edits[i : i + step] for i in range(0, len(edits), max(1, step))]
    for i, part in enumerate(asked if step <= len(edits) else ()):
        memory = [*part, *edits[: step - len(part)]]
        questions = [question for edit in part for question in about[edit]]
        own = {edit: beside[edit] for edit in part if edit in beside}
        questions += [question for near_it in own.values() for question in near_it]
        questions += far[i :: len(asked)]
        filled = [q for edit in memory[len(part) :] for q in about[edit] if q.kind == "rewrite"]
        unique = list(dict.fromkeys(questions))
        yield Trial(protocol, size or len(whole), memory, unique, own, filled)


def _once(near: Mapping[EditTexts, Sequence[Question]]) -> dict[EditTexts, list[Question]]:
    """Each question with one edit only, of those that it stands with the one that has fewest."""
    homes: dict[Question, list[EditTexts]] = defaultdict(list)
    for edit, questions in near.items():
        for question in questions:
            homes[question].append(edit)
    found: dict[EditTexts, list[Question]] = {edit: [] for edit in near}
    for question, edits in homes.items():
        found[min(edits, key=lambda edit: len(found[edit]))].append(question)
    return found
