"""LeapOfThought: entailed edits of a classifier, and SLAG's protocol.

The base model is edited with properties of classes, with rules ("A polka is a music."), or with
both, and asked about the statements that follow. SLAG (Hase et al. 2021, arXiv 2111.13654, section
3): edits correct rules that the base model believes to be wrong; success on the rule, consistency
on what follows, and what is retained.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from seprog.bench.classifiers import classifiers
from seprog.bench.trials import BaseSays, EditTexts, Models, Part, Question, Trial, spread
from seprog.data.leapofthought import SPLITS, Leap, Property, calibration_and_test, load_leaps
from seprog.training.classifier import ClassifierTraining, Labelled, label
from seprog.training.leaps import bears, leap_examples, leap_scopes, premises_of
from seprog.training.scopes import Scopes
from seprog.types import Example


class LeapOfThought:
    """The task.

    Args:
        folder: With the data set in it.
        sizes: Edits at a time with properties, and with rules believed to be wrong; 0 means all.
        far: Unrelated statements asked, in all, per protocol and size.
        how: How the classifier is fine-tuned; ``None``: as by default.

    Raises:
        InputError: If the data are not there, or are something else.
    """

    def __init__(
        self,
        folder: Path,
        sizes: Sequence[int] = (1, 10, 100, 0),
        far: int = 300,
        how: ClassifierTraining | None = None,
    ) -> None:
        train, dev, test = (load_leaps(folder, split) for split in SPLITS)
        self.dev, self.test = calibration_and_test(dev, test, train)
        apart = _unrelated_to(train)
        untaught = set(apart)
        self.train = [x for x in train if x.phrase not in untaught]
        self.dev_far, self.test_far = apart[::2], apart[1::2]
        self.sizes, self.far = sizes, far
        self.how = how or ClassifierTraining()

    def labelled(self) -> tuple[list[Labelled], list[Labelled]]:
        """Statements alone, without what they follow from."""
        train, test = ([(x.phrase, label(x.answer)) for x in p] for p in (self.train, self.test))
        return train, test

    def models(self, work: Path) -> Models:
        """The classifier of statements, and its reading twin."""
        return classifiers(work, *self.labelled(), self.examples, self.how)

    def examples(self, part: Part, rng: random.Random) -> Iterator[Example]:
        """Of the published training rows, or of the calibration classes."""
        return leap_examples(self.train if part == "train" else self.dev, rng)

    def scopes(self, edits: int, rng: random.Random) -> Scopes:
        """Properties and rules of the published training rows."""
        return leap_scopes(self.train, edits, rng)

    def calibration(self, rng: random.Random) -> Trial:
        """Half of the calibration classes' properties, and half of their rules."""
        premises, rules = premises_of(self.dev), _rules(self.dev)
        told = [
            *rng.sample(premises, len(premises) // 2),
            *rng.sample(rules, len(rules) // 2),
        ]
        unrelated = self._unrelated(self.dev, told)
        near: dict[EditTexts, list[Question]] = {
            (p.statement,): unrelated.get(p.subject, []) for p in told
        }
        questions = [q for of_class in unrelated.values() for q in of_class]
        questions += [
            Question("far", t) for t in rng.sample(self.dev_far, min(400, len(self.dev_far)))
        ]
        for leap in self.dev:
            if leap.premise in told and leap.premise is not None:
                needed = (leap.premise.statement,)
                questions.append(Question("entailed", leap.phrase, label(leap.answer), needed))
        questions += [Question("rewrite", p.claim, label(p.holds), (p.statement,)) for p in told]
        return Trial("calibration", len(told), list(near), questions, near)

    def trials(self, seed: int, base_says: BaseSays) -> Iterator[Trial]:
        """Properties, rules, both, and the rules that the base model believes to be wrong."""
        rng = random.Random(seed)
        premises = premises_of(self.test)
        chosen = set(rng.sample(premises, len(premises) // 2))
        far = [
            Question("far", t) for t in rng.sample(self.test_far, min(self.far, len(self.test_far)))
        ]
        for protocol in ("property", "both"):
            about: dict[EditTexts, list[Question]] = defaultdict(list)
            told: set[Property] = set()
            of_class: dict[EditTexts, str] = {}
            for leap in self.test:
                if leap.premise in chosen and leap.premise is not None and leap.rule is not None:
                    edits = [leap.premise] if protocol == "property" else [leap.premise, leap.rule]
                    told |= set(edits)
                    of_class[_ask(about, leap, edits)] = leap.premise.subject
            unrelated = self._unrelated(self.test, list(told))
            near = {edit: unrelated.get(kind, []) for edit, kind in of_class.items()}
            for size in self.sizes if protocol == "property" else (0,):
                yield from spread(protocol, size, about, near, far, rng)
        about = defaultdict(list)
        for leap in self.test:
            if leap.rule is not None:
                _ask(about, leap, [leap.rule])
        yield from spread("rule", 0, about, {}, far, rng)
        claims = list(about)  # a rule that holds is its own claim
        believed = base_says([claim for (claim,) in claims])
        wrong = {c: about[c] for c, b in zip(claims, believed, strict=True) if b == label(False)}
        for size in self.sizes:
            yield from spread("slag", size, wrong, {}, far, rng)

    @staticmethod
    def _unrelated(leaps: Sequence[Leap], told: Sequence[Property]) -> dict[str, list[Question]]:
        """By class, statements on which no edit bears."""
        edits, found = set(told), defaultdict(list)
        for x in leaps:
            free = x.rule not in edits and all(bears(p, x) is False for p in edits)
            if free and x.premise is not None:
                found[x.premise.subject].append(Question("near_miss", x.phrase))
        return found


def _unrelated_to(leaps: Sequence[Leap]) -> list[str]:
    """Bare statements on which nothing in other rows bears, each once; nobody is to learn them."""
    others = [x for x in leaps if x.premise is not None]
    said = {x.phrase for x in others} | {p.claim for p in (*premises_of(others), *_rules(others))}
    return list(dict.fromkeys(x.phrase for x in leaps if x.phrase not in said))


def _rules(leaps: Sequence[Leap]) -> list[Property]:
    return list(dict.fromkeys(x.rule for x in leaps if x.rule is not None))


def _ask(
    about: dict[EditTexts, list[Question]], leap: Leap, edits: Sequence[Property]
) -> EditTexts:
    """Note the statement under its edits and, once, the first edit's own claim."""
    needed = tuple(p.statement for p in edits)
    own = Question("rewrite", edits[0].claim, label(edits[0].holds), needed[:1])
    if own not in about[needed]:
        about[needed].append(own)
    about[needed].append(Question("entailed", leap.phrase, label(leap.answer), needed))
    return needed
