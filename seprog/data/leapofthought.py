"""LeapOfThought: what holds of a class holds of its members (Talmor et al. 2020, arXiv 2006.06609).

A row asks whether a statement about a member holds ("A polka has a xylem."). It follows from a
property of the class ("A music does not have a xylem.") by way of an implicit rule ("A polka is a
music."). As published, each row also tells distractors, and half of the rows leave the rule out; it
can be told from the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seprog.data.rows import read_rows
from seprog.errors import InputError

SPLITS = ("train", "dev", "test")
CALIBRATION_CLASSES = frozenset({"alcohol", "flower", "fruit"})
"""Of the seven classes that dev and test share: thresholds come from these, figures from the rest,
so that neither a rule nor a property stands on both sides."""

SAY = {
    "hypernym": ("is a", "is not a"),
    "/r/IsA": ("is a", "is not a"),
    "meronym": ("has a", "does not have a"),
    "/r/CapableOf": ("is capable of", "is not capable of"),
    "/r/Desires": ("desires", "does not desire"),
    "/r/PartOf": ("is part of", "is not part of"),
    "/r/Antonym": ("is not a", "is a"),
}
"""Verbs by predicate: what holds, and what does not; opposites as the data's own rules say them."""


@dataclass(frozen=True)
class Property:
    """What holds, or does not, of everything in a class.

    Args:
        subject: The class.
        predicate: A key of ``SAY``.
        object: What of.
        holds: Whether it does.
    """

    subject: str
    predicate: str
    object: str
    holds: bool

    @property
    def statement(self) -> str:
        """As a sentence that is right."""
        return f"A {self.subject} {SAY[self.predicate][not self.holds]} {self.object}."

    @property
    def claim(self) -> str:
        """As a sentence that is right or wrong, according to ``holds``."""
        return replace(self, holds=True).statement

    def flipped(self) -> Property:
        """The opposite."""
        return replace(self, holds=not self.holds)


@dataclass(frozen=True)
class Leap:
    """A row.

    Args:
        phrase: The statement asked about.
        answer: Whether it holds.
        member: What it speaks of.
        premise: The property it follows from; ``None`` for a bare statement about a class.
        others: Classes that the member is said not to belong to.
    """

    phrase: str
    answer: bool
    member: str
    premise: Property | None = None
    others: frozenset[str] = frozenset()

    @property
    def rule(self) -> Property | None:
        """That the member belongs to the class."""
        if self.premise is None:
            return None
        return Property(self.member, "hypernym", self.premise.subject, True)


def load_leaps(folder: Path, split: str) -> list[Leap]:
    """One split, in the order of its file.

    Args:
        folder: With ``train``, ``dev`` and ``test`` as ``.jsonl`` or ``.jsonl.gz``, as published
            by the SLAG repository (Hase et al. 2021) under shorter names.
        split: Which one.

    Raises:
        InputError: If the file is missing, or a row is none of the data set's; it names the row.
    """
    names = [folder / f"{split}.jsonl.gz", folder / f"{split}.jsonl"]
    path = next((p for p in names if p.exists()), None)
    if path is None:
        raise InputError(
            f"{folder} has no {names[0].name} or {names[1].name}",
            "a folder with train, dev and test of LeapOfThought (variant training_mix)",
            "Give such a folder with --data",
        )
    return read_rows(path, _parse, 'an object with "phrase", "answer" and "metadata"')


def _parse(row: dict[str, Any]) -> Leap:
    meta = row["metadata"]
    answer = {0: False, 1: True}[row["answer"]]
    rules = meta.get("distractors", {}).get("implicit_rule", ())
    return Leap(
        _text(row["phrase"]),
        answer,
        _text(meta["statement"]["subject"]),
        _property(meta["property"]) if "property" in meta else None,
        frozenset(r["object"] for r in rules if r["validity"] == "never true"),
    )


def _property(triple: dict[str, str]) -> Property:
    if triple["predicate"] not in SAY:
        raise ValueError(f"the predicate {triple['predicate']!r} is not known")
    holds = {"always true": True, "never true": False}[triple["validity"]]
    return Property(_text(triple["subject"]), triple["predicate"], _text(triple["object"]), holds)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r} is no text")
    return value


def calibration_and_test(
    dev: Sequence[Leap], test: Sequence[Leap], train: Sequence[Leap]
) -> tuple[list[Leap], list[Leap]]:
    """Rows to calibrate on and rows to report: no rule, property, class or phrase in common.

    Args:
        dev: The published dev split; its rows on ``CALIBRATION_CLASSES`` are kept.
        test: The published test split; its rows on other classes are kept.
        train: Phrases of these rows are left out of both.

    Returns:
        Calibration rows, test rows.
    """
    seen = {leap.phrase for leap in train}

    def kept(leaps: Sequence[Leap], calibration: bool) -> list[Leap]:
        return [
            x
            for x in leaps
            if x.premise is not None
            and (x.premise.subject in CALIBRATION_CLASSES) == calibration
            and x.phrase not in seen
        ]

    return kept(dev, True), kept(test, False)
