"""Facts that are edited and asked about in other words: what CounterFact and zsRE have in common.

The base model knows the facts. Some of those of the test part are edited; generators and gates
learn from other facts, on other subjects.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from seprog.bench.metrics import normalise
from seprog.bench.trials import BaseSays, EditTexts, Part, Question, Trial, spread
from seprog.lm import LanguageModel
from seprog.training.examples import Example
from seprog.training.facts import Fact, fact_examples, fact_scopes, mentions
from seprog.training.scopes import Scopes


@dataclass(frozen=True)
class FactParts:
    """Facts by what they are for; no two parts share a subject.

    Args:
        train: What generators and gates learn from.
        dev: What thresholds are fitted on.
        test: What is edited.
        far: What is asked about only.
        targets: By the first prompt of a fact of ``test`` or ``dev``, the answer it is given.
        near: By the same, prompts that are near the fact's and not in its scope.
        entailed: By the same, questions that follow from the new answer, with theirs.
    """

    train: Sequence[Fact]
    dev: Sequence[Fact]
    test: Sequence[Fact]
    far: Sequence[Fact]
    targets: Mapping[str, str]
    near: Mapping[str, Sequence[str]] = field(default_factory=dict)
    entailed: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)


def known_share(lm: LanguageModel, asked: Sequence[tuple[str, str]]) -> float:
    """Share of (prompt, answer) that a model answers rightly (0 to 1)."""
    right = 0
    for start in range(0, len(asked), 128):
        part = asked[start : start + 128]
        said = lm.reply([p for p, _ in part])
        right += sum(normalise(s) == a for s, (_, a) in zip(said, part, strict=True))
    return right / max(1, len(asked))


class FactEditing:
    """A task without its base model, which each data set brings.

    Args:
        parts: The facts.
        sizes: Edits at a time; 0 means all.
        few: Facts that are edited where there are fewer edits at a time than this.
    """

    def __init__(self, parts: FactParts, sizes: Sequence[int], few: int) -> None:
        self.parts, self.sizes, self.few = parts, sizes, few

    def examples(self, part: Part, rng: random.Random) -> Iterator[Example]:
        """Of the part's own facts."""
        return fact_examples(self.parts.train if part == "train" else self.parts.dev, rng)

    def scopes(self, edits: int, rng: random.Random) -> Scopes:
        """Of the training facts."""
        return fact_scopes(self.parts.train, edits, rng)

    def calibration(self, rng: random.Random) -> Trial:
        """Half of the calibration facts edited, the other half and all near misses asked."""
        order = rng.sample(self.parts.dev, len(self.parts.dev))
        half = len(order) // 2
        [trial] = self._trials("calibration", 0, order[:half], order[half:], rng)
        return trial

    def trials(self, seed: int, base_says: BaseSays) -> Iterator[Trial]:
        """Test facts edited, so many at a time."""
        rng = random.Random(seed)
        order = rng.sample(self.parts.test, len(self.parts.test))
        for size in self.sizes:
            count = self.few if 0 < size < self.few else len(order)
            yield from self._trials("edit", size, order[:count], self.parts.far, rng)

    def _trials(
        self,
        protocol: str,
        size: int,
        facts: Sequence[Fact],
        far: Sequence[Fact],
        rng: random.Random,
    ) -> Iterator[Trial]:
        parts, subjects = self.parts, {f.subject for f in facts}
        near = dict.fromkeys(p for f in facts for p in parts.near.get(f.prompts[0], ()))
        others = [
            *(Question("near_miss", p) for p in near if not mentions(p, subjects)),
            *(Question("far", f.prompts[0]) for f in far if not mentions(f.prompts[0], subjects)),
        ]
        about: dict[EditTexts, list[Question]] = {}
        for fact in facts:
            rewrite, *rephrased = fact.prompts
            target = parts.targets[rewrite]
            told = (fact.stated(target),)
            about[told] = [Question("rewrite", rewrite, target, told)]
            about[told] += [Question("paraphrase", p, target, told) for p in rephrased]
            follows = parts.entailed.get(rewrite, ())
            about[told] += [Question("entailed", q, answer, told) for q, answer in follows]
        yield from spread(protocol, size, about, others, rng)
