"""CounterFact on a causal base model that knows its facts.

The base model is trained from nothing on what is true: the records' prompts and their neighbours'.
Test records are edited; it has read their own prompts only, never their paraphrases. Generators and
gates learn from other records, on other subjects, without the neighbours that test and calibration
ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from seprog.bench.facts import CausalFactEditing, FactParts, fact_of, shared_out
from seprog.data.cases import Case, load_folder
from seprog.data.counterfact import FLAT, FULL
from seprog.errors import InputError
from seprog.training.causal import CausalTraining
from seprog.training.facts import Fact, mentions

PARTS = ("test", "far", "calibration", "train")
"""In the order in which they are filled, from the full records on."""


@dataclass(frozen=True)
class CounterFactBench:
    """How large a share of CounterFact is taught and edited.

    Args:
        train: Records that generators and gates learn from, at most.
        calibration: Records that thresholds are fitted on, at most.
        test: Records that are edited, at most.
        far: Records that are asked about only, at most.
        neighbours: Of each test record's neighbours, how many are taught and asked.
        sizes: Edits at a time; 0 means all.
        few: Records that are edited where there are fewer edits at a time than this.
        open_book: Share of the base model's documents that are to be read.
        model: How the base model is trained.
    """

    train: int = 6000
    calibration: int = 600
    test: int = 2000
    far: int = 300
    neighbours: int = 10
    sizes: tuple[int, ...] = (1, 10, 100, 1000, 0)
    few: int = 300
    open_book: float = 0.35
    model: CausalTraining = field(
        default_factory=lambda: CausalTraining(vocabulary=8192, layers=8, steps=5000)
    )


class CounterFact(CausalFactEditing):
    """The task.

    Args:
        folder: With CounterFact's files as published: full records, flat ones, or both.
        config: How much of it.

    Raises:
        InputError: If no file of CounterFact is there, or a row is wrong.
    """

    def __init__(self, folder: Path, config: CounterFactBench | None = None) -> None:
        self.config = config or CounterFactBench()
        self.model = self.config.model
        parts = shared_out(_cases(folder), {name: getattr(self.config, name) for name in PARTS})
        test, far, dev, train = ([self._fact(c) for c in parts[name]] for name in PARTS)
        targets = {c.edits[0].prompt: c.edits[0].target for name in PARTS for c in parts[name]}
        taught = FactParts(train, dev, test, far, targets)
        known = [*train, *taught.once()]
        dev = _unasked(dev, test, far)
        train = _unasked(train, [*test, *dev], far)
        near_of = {f.prompts[0]: f.near for f in (*test, *dev)}
        super().__init__(
            replace(taught, train=train, dev=dev, near=near_of),
            known,
            self.config.sizes,
            self.config.few,
            self.config.open_book,
            read=known,
        )

    def _fact(self, case: Case) -> Fact:
        """With some of its neighbours."""
        near = [a.prompt for a in case.asked if a.kind == "near_miss"]
        return fact_of(case, near=tuple(near[: self.config.neighbours]))

    def exam(self) -> dict[str, list[tuple[str, str]]]:
        """The test records, and their neighbours."""
        return {
            "records": [(f.prompts[0], f.answer) for f in self.parts.test],
            "neighbours": [(p, f.answer) for f in self.parts.test for p in f.near],
        }


def _unasked(facts: Sequence[Fact], edited: Sequence[Fact], far: Sequence[Fact]) -> list[Fact]:
    """Facts without neighbours that others ask too, or that name what those edit.

    Facts that are such neighbours themselves are left out: records share their neighbours.
    """
    asked = {p for f in (*edited, *far) for p in (*f.prompts, *f.near)}
    subjects = {f.subject for f in edited}

    def unasked(prompt: str) -> bool:
        return prompt not in asked and not mentions(prompt, subjects)

    return [
        replace(f, near=tuple(filter(unasked, f.near)))
        for f in facts
        if asked.isdisjoint(f.prompts)
    ]


def _cases(folder: Path) -> list[Case]:
    """Full records first, each fact once, and of those that contradict each other the first."""
    found: dict[str, Case] = {}
    for cases in sorted(load_folder(folder, (FULL, FLAT)), key=lambda c: -len(c[0].asked)):
        for case in cases:
            if case.edits[0].subject and case.edits[0].truth:
                found.setdefault(case.edits[0].prompt, case)
    if not found:
        raise InputError(
            f"{folder} holds no file of CounterFact",
            "counterfact.json, or EasyEdit's flat files, plain or gzipped",
            "Give such a folder with --data",
        )
    return _consistent(list(found.values()))


def _consistent(cases: Sequence[Case]) -> list[Case]:
    """Without cases that edit what an earlier one edits, which can't hold together.

    They are on the same subject and the same relation, as Meng et al. 2023 (MEMIT) leave them out.
    Flat records don't name it: it is read off full ones in the same words, or, where there are
    none, taken to be the same if the true answer is.
    """
    edited = [case.edits[0] for case in cases]
    named = {edit.wording: edit.relation for edit in edited if edit.relation}
    taken: set[tuple[str, str]] = set()
    found = []
    for case, edit in zip(cases, edited, strict=True):
        relation = named.get(edit.wording, edit.wording)
        keys = {(edit.subject, relation), (edit.subject, edit.truth[0])}
        if not keys & taken:
            found.append(case)
        taken |= keys
    return found
