"""Facts that are edited and asked about in other words: what several data sets have in common.

The base model knows the facts. Some of those of the test part are edited; generators and gates
learn from other facts, on other subjects.
"""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from seprog.bench.metrics import normalise
from seprog.bench.trials import (
    BaseSays,
    EditTexts,
    Models,
    Part,
    Question,
    Trial,
    replies,
    spread,
)
from seprog.data.byte_pairs import byte_pairs
from seprog.data.cases import Case
from seprog.lm import CausalLM, LanguageModel
from seprog.training.causal import CausalTraining, train_causal
from seprog.training.facts import Fact, FactCorpus, fact_examples, fact_scopes, mentions
from seprog.training.scopes import Scopes
from seprog.types import Example


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
        entailed: By the same, questions that follow from the new answer, with the answers that
            are accepted, the right one first.
    """

    train: Sequence[Fact]
    dev: Sequence[Fact]
    test: Sequence[Fact]
    far: Sequence[Fact]
    targets: Mapping[str, str]
    near: Mapping[str, Sequence[str]] = field(default_factory=dict)
    entailed: Mapping[str, Sequence[tuple[str, tuple[str, ...]]]] = field(default_factory=dict)

    def once(self) -> list[Fact]:
        """The facts that no generator or gate learns from, in the wording that is taught."""
        apart = (*self.test, *self.far, *self.dev)
        return [replace(f, prompts=f.prompts[:1]) for f in apart]


def known_share(lm: LanguageModel, asked: Sequence[tuple[str, str]]) -> float:
    """Share of (prompt, answer) that a model answers rightly (0 to 1)."""
    said = replies(lm, [prompt for prompt, _ in asked])
    right = sum(normalise(s) == answer for s, (_, answer) in zip(said, asked, strict=True))
    return right / max(1, len(asked))


def fact_of(case: Case, written: Callable[[str], str] = str, near: tuple[str, ...] = ()) -> Fact:
    """A case as a fact: its group is its prompt without the subject.

    Args:
        case: With a subject that stands in the prompt, and a true answer.
        written: Spells answers as the base model would.
        near: Prompts about other subjects that the same answer is true of.
    """
    edit = case.edits[0]
    prompts = [edit.prompt, *(a.prompt for a in case.asked if a.kind == "paraphrase")]
    answer = written(edit.truth[0])
    return Fact(edit.subject, tuple(dict.fromkeys(prompts)), answer, edit.wording, near)


def shared_out(
    cases: Iterable[Case],
    sizes: Mapping[str, int],
    of: Callable[[Case], object] = lambda case: case.edits[0].subject,
) -> dict[str, list[Case]]:
    """Cases by part, no two parts with the same subject.

    Args:
        cases: In the order in which the parts are filled.
        sizes: By part, in the same order, how many cases it takes, at most; cases about a subject
            that it has already come on top.
        of: What the parts are not to share, where it is not the subject of the first edit.
    """
    parts: dict[str, list[Case]] = {name: [] for name in sizes}
    part_of: dict[object, str] = {}
    for case in cases:
        free = (name for name, size in sizes.items() if len(parts[name]) < size)
        part = part_of.get(of(case)) or next(free, None)
        if part is not None:
            part_of[of(case)] = part
            parts[part].append(case)
    return parts


class FactEditing(ABC):
    """A task but for how its base model is trained, which each data set brings.

    Args:
        parts: The facts.
        known: What the base model is taught, in the wordings that it is to read.
        sizes: Edits at a time; 0 means all.
        few: Facts that are edited where there are fewer edits at a time than this.
        open_book: Share of the base model's documents that are to be read.
        read: Facts that these are about; ``None``: those of the parts.
    """

    def __init__(
        self,
        parts: FactParts,
        known: Sequence[Fact],
        sizes: Sequence[int],
        few: int,
        open_book: float,
        read: Sequence[Fact] | None = None,
    ) -> None:
        self.parts, self.known, self.open_book = parts, known, open_book
        self.read = list(dict.fromkeys(read or [*parts.train, *parts.once()]))
        self.sizes, self.few = sizes, few

    @abstractmethod
    def teach(self, folder: Path, run_folder: Path) -> None:
        """Train the base model on ``corpus`` and write it."""

    @abstractmethod
    def load(self, folder: Path) -> LanguageModel:
        """The base model."""

    @abstractmethod
    def exam(self) -> dict[str, list[tuple[str, str]]]:
        """By name, what the base model is asked to see what it knows, with the answers."""

    def corpus(self, seed: int) -> FactCorpus:
        """What the base model reads; nothing that it reads gives a fact the answer of its edit."""
        never = {prompt: (target,) for prompt, target in self.parts.targets.items()}
        return FactCorpus(self.known, self.read, random.Random(seed), self.open_book, never)

    def models(self, work: Path) -> Models:
        """The base model; it has no reading twin, for it was taught to read itself."""
        folder, note = work / "base", work / "base.json"
        if not (folder / "training.json").exists():
            self.teach(folder, work / "base.run")
        lm = self.load(folder)
        if not note.exists():
            knows = {name: known_share(lm, asked) for name, asked in self.exam().items()}
            note.write_text(json.dumps(knows))
        return Models(lm, None, json.loads(note.read_text()))

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
            yield from self._trials("sequential", size, order[:count], self.parts.far, rng)

    def _trials(
        self,
        protocol: str,
        size: int,
        facts: Sequence[Fact],
        far: Sequence[Fact],
        rng: random.Random,
    ) -> Iterator[Trial]:
        parts, subjects = self.parts, {f.subject for f in facts}
        edited = {p for f in facts for p in f.prompts}
        near = {p for f in facts for p in parts.near.get(f.prompts[0], ())}
        named = {p for p in near if mentions(p, subjects)}
        others = [f.prompts[0] for f in far if not mentions(f.prompts[0], subjects)]
        about: dict[EditTexts, list[Question]] = {}
        beside: dict[EditTexts, list[Question]] = {}
        for fact in facts:
            rewrite, *rephrased = fact.prompts
            target = parts.targets[rewrite]
            told = (fact.stated(target),)
            change = (target, fact.answer)
            about[told] = [Question("rewrite", rewrite, target, told, change)]
            about[told] += [Question("paraphrase", p, target, told, change) for p in rephrased]
            follows = parts.entailed.get(rewrite, ())
            about[told] += [
                Question("entailed", q, answer, told, accepted=tuple(more))
                for q, (answer, *more) in follows
            ]
            stay = {p: fact.answer for p in parts.near.get(rewrite, ()) if p not in named}
            stay |= {p: answer for p, answer in fact.aside if p not in edited | stay.keys()}
            beside[told] = [
                Question("near_miss", p, compared=(true, target)) for p, true in stay.items()
            ]
        away = [Question("far", p) for p in others]
        yield from spread(protocol, size, about, beside, away, rng)


class CausalFactEditing(FactEditing):
    """On a causal base model that is taught from nothing, with a tokenizer of its own."""

    model: CausalTraining
    """How the base model is trained."""

    def teach(self, folder: Path, run_folder: Path) -> None:
        """From nothing, with a tokenizer of its own."""
        tokenizer = self._tokenizer(run_folder / "tokenizer")
        train_causal(folder, run_folder, self.model, self.corpus, tokenizer)

    def load(self, folder: Path) -> CausalLM:
        """The base model."""
        return CausalLM.from_pretrained(str(folder), "float32", self.model.device)

    def spelt(self) -> list[str]:
        """Texts that the tokenizer learns from."""
        texts = [f"{p} {f.answer}." for f in self.known for p in (*f.prompts, *f.near)]
        texts += [f"{prompt} {answer}." for f in self.known for prompt, answer in f.aside]
        return texts + [
            f.stated(self.parts.targets.get(f.prompts[0], f.answer)) for f in self.known
        ]

    def _tokenizer(self, path: Path) -> PreTrainedTokenizerFast:
        if not path.exists():
            byte_pairs(iter(self.spelt()), self.model.vocabulary).save_pretrained(path)
        return PreTrainedTokenizerFast.from_pretrained(path)
