"""FEVER: edits flip what a fact checker believes of claims.

The base model is taught the claims of all parts, since an edit is to overrule what it knows;
generators, gates and thresholds see other pages than the test. What follows from an edit: claims
that it excludes (FEVER Symmetric).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from seprog.bench.classifiers import classifiers
from seprog.bench.trials import BaseSays, EditTexts, Models, Part, Question, Trial, spread
from seprog.data.fever import Claim, Pair, load_fever
from seprog.training.claims import claim_examples, claim_scopes, texts
from seprog.training.classifier import ClassifierTraining, Labelled, label
from seprog.training.scopes import Scopes
from seprog.types import Example


class FactChecking:
    """The task.

    Args:
        folder: With the data set in it.
        sizes: Edits at a time; 0 means all.
        edits: Claims of the test part that are edited.
        outside: Claims on other pages than the edits' that are asked, at most.
        how: How the classifier is fine-tuned; ``None``: as by default.

    Raises:
        InputError: If the data are not there, or are something else.
    """

    def __init__(
        self,
        folder: Path,
        sizes: Sequence[int] = (1, 10, 100, 0),
        edits: int = 500,
        outside: int = 600,
        how: ClassifierTraining | None = None,
    ) -> None:
        self.parts = load_fever(folder)
        self.sizes, self.edits, self.outside = sizes, edits, outside
        self.how = how or ClassifierTraining()

    def labelled(self) -> tuple[list[Labelled], list[Labelled]]:
        """All claims; of the pairs, what is not among them."""
        train = [row for part in self.parts.values() for row in texts(part.claims)]
        known = {text for text, _ in train}
        pairs = [pair for part in self.parts.values() for pair in part.pairs]
        held = [(p.wrong, label(False)) for p in pairs] + [(p.right, label(True)) for p in pairs]
        return train, [row for row in held if row[0] not in known]

    def models(self, work: Path) -> Models:
        """The classifier of statements, and its reading twin."""
        return classifiers(work, *self.labelled(), self.examples, self.how)

    def examples(self, part: Part, rng: random.Random) -> Iterator[Example]:
        """Of the part's own pages."""
        return claim_examples(self.parts[part], rng)

    def scopes(self, edits: int, rng: random.Random) -> Scopes:
        """Of the training pages."""
        return claim_scopes(self.parts["train"], edits, rng)

    def calibration(self, rng: random.Random) -> Trial:
        """Half of the claims on half of the calibration pages, and all of their pairs."""
        part = self.parts["calibration"]
        chosen, rest = _half(part.claims, rng)
        about = self._about(chosen, [label(c.holds) for c in chosen])
        edited = _places(about, chosen)
        for pair in part.pairs:
            about[(pair.wrong,)] = [
                Question("entailed", pair.right, label(False), (pair.wrong,)),
            ]
            edited[(pair.wrong,)] = (pair.page, pair.line)
        said = {pair.right for pair in part.pairs} | {pair.wrong for pair in part.pairs}
        near, far = _outside(rest, edited, said)
        [trial] = spread("calibration", 0, about, near, far, rng)
        return trial

    def trials(self, seed: int, base_says: BaseSays) -> Iterator[Trial]:
        """Flipped claims, and claims that exclude others."""
        rng = random.Random(seed)
        part = self.parts["test"]
        chosen, rest = _half(part.claims, rng)
        paired = {text for pair in part.pairs for text in (pair.wrong, pair.right)}
        chosen = [c for c in chosen if c.text not in paired][: self.edits]
        flips = self._about(chosen, base_says([c.text for c in chosen]))
        near, far = _outside(rest, _places(flips, chosen), paired, self.outside)
        for size in self.sizes:
            yield from spread("flip", size, flips, near, far, rng)
        excluding: dict[EditTexts, list[Question]] = {
            (pair.wrong,): [
                Question("rewrite", pair.wrong, label(True), (pair.wrong,)),
                Question("entailed", pair.right, label(False), (pair.wrong,)),
            ]
            for pair in part.pairs
        }
        near, far = _outside(rest, _places(excluding, part.pairs), paired, self.outside)
        for size in self.sizes:
            yield from spread("exclude", size, excluding, near, far, rng)

    @staticmethod
    def _about(claims: Sequence[Claim], labels: Sequence[str]) -> dict[EditTexts, list[Question]]:
        """Per claim, an edit that says the opposite of a label, and the claim asked."""
        about: dict[EditTexts, list[Question]] = {}
        for claim, believed in zip(claims, labels, strict=True):
            holds = believed == label(False)
            told = (claim.stated(holds),)
            about[told] = [Question("rewrite", claim.text, label(holds), told)]
        return about


Place = tuple[str, int]
"""A page and a sentence of it."""


def _places(edits: Iterable[EditTexts], of: Iterable[Claim | Pair]) -> dict[EditTexts, Place]:
    """Where it stands what each edit is about."""
    return {edit: (x.page, x.line) for edit, x in zip(edits, of, strict=True)}


def _outside(
    claims: Sequence[Claim],
    edited: Mapping[EditTexts, Place],
    said: set[str],
    most: int | None = None,
) -> tuple[dict[EditTexts, list[Question]], list[Question]]:
    """Claims on which no edit bears: those near each edit, for they are on its page, and the rest.

    Those on an edit's own sentence are left out. Of the rest, which are many, ``most`` are taken.
    """
    taken = set(edited.values())
    free = [c for c in claims if (c.page, c.line) not in taken]
    near: dict[EditTexts, list[Question]] = {edit: [] for edit in edited}
    far: list[Question] = []
    for claim in [c for c in free if c.text not in said]:
        beside = [edit for edit, (page, _) in edited.items() if page == claim.page]
        for edit in beside:
            near[edit].append(Question("near_miss", claim.text))
        if not beside:
            far.append(Question("far", claim.text))
    return near, far[:most]


def _half(claims: Sequence[Claim], rng: random.Random) -> tuple[list[Claim], list[Claim]]:
    """Half of the claims on half of the pages, in random order, and the rest."""
    pages = sorted({c.page for c in claims})
    edited = set(rng.sample(pages, len(pages) // 2))
    order = rng.sample(claims, len(claims))
    chosen = [c for i, c in enumerate(order) if c.page in edited and i % 2]
    rest = set(order) - set(chosen)
    return chosen, [c for c in order if c in rest]
