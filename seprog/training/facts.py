"""What is learnt from lists of facts (CounterFact's form): a base model, a generator, a gate.

A fact is one answer to one or more prompts. The base model learns to know the facts, and to read:
statements that contradict them, then questions answered from the statements or, where they say
nothing, from what is known.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from seprog.atlas.wording import scramble
from seprog.data.documents import Document, Piece
from seprog.training.scopes import Scopes, Stage, followed
from seprog.types import Edit, Example

STRANGE = 0.5
"""Share of the statements that give a fact any answer that there is, not one that another fact of
its kind has: few are of one kind, and a model that never reads others learns to choose among them,
and not to read."""


@dataclass(frozen=True)
class Fact:
    """A fact, and what may be asked about it.

    Args:
        subject: What it is about.
        prompts: Ways to ask for it; the first is the one that it is edited by.
        answer: What is true.
        group: Facts of one group have answers of one kind; those of another fact may stand in.
        near: Prompts about other subjects that the same answer is true of.
        aside: Other questions about the subject, with their answers, that editing the fact leaves
            as they are.
    """

    subject: str
    prompts: tuple[str, ...]
    answer: str
    group: str
    near: tuple[str, ...] = ()
    aside: tuple[tuple[str, str], ...] = ()

    def stated(self, answer: str) -> str:
        """As an edit with some answer."""
        return f"{self.prompts[0]} {answer}."


class FactCorpus:
    """Documents that teach facts, and reading.

    Args:
        facts: What is to be known; what is near and aside is taught too.
        read: Facts that statements may contradict and be asked about in all their prompts. A model
            notices which of the subjects that it knows are never contradicted, and does not
            believe what it reads about those.
        rng: Source of chance.
        open_book: Share of documents with statements (0 to 1).
        never: By a fact's first prompt, answers that no statement gives it.
        noise: Share of scrambled prompts where there are statements (0 to 1).
    """

    def __init__(
        self,
        facts: Sequence[Fact],
        read: Sequence[Fact],
        rng: random.Random,
        open_book: float,
        never: Mapping[str, Sequence[str]] | None = None,
        noise: float = 0.0,
    ) -> None:
        own = ((p, f.answer) for f in facts for p in (*f.prompts, *f.near))
        self.closed = list(dict.fromkeys([*own, *(pair for f in facts for pair in f.aside)]))
        self.read, self.rng, self.open_book, self.never = read, rng, open_book, never or {}
        self.noise = noise
        self.weights = [1.0] * len(self.closed)
        self.answers = answers_by_group(read)
        barred = (answer for answers in self.never.values() for answer in answers)
        self.names = list(dict.fromkeys([*(f.answer for f in read), *barred]))

    def __iter__(self) -> Iterator[Document]:
        """Facts by weight and documents to read, without end."""
        while True:
            picks = iter(self.rng.choices(range(len(self.closed)), self.weights, k=512))
            for _ in range(512):
                if self.rng.random() < self.open_book:
                    yield self.open_document()
                else:
                    yield self.closed_document(next(picks))

    def closed_document(self, index: int) -> Document:
        """One fact."""
        prompt, answer = self.closed[index]
        return Document([(prompt, False), (f"{answer}.", True)], index)

    def other_answer(self, fact: Fact) -> str:
        """What a statement says of a fact; half of them any name that there is."""
        strange = self.rng.random() < STRANGE
        pool = {fact.group: self.names} if strange else self.answers
        return other_answer(fact, pool, self.rng, self.never.get(fact.prompts[0], ()))

    def worded(self, fact: Fact) -> str:
        """One of a fact's prompts."""
        return self.mixed(self.rng.choice(fact.prompts), fact.subject)

    def mixed(self, prompt: str, name: str) -> str:
        """A prompt as it is or scrambled, but for the name in it."""
        if not self.noise or self.rng.random() >= self.noise or name not in prompt:
            return prompt
        return scramble(prompt.replace(name, "{s}", 1), self.rng).replace("{s}", name)

    def open_document(self) -> Document:
        """One to four statements, then questions about them and about other facts."""
        rng = self.rng
        told = rng.sample(self.read, rng.choices((1, 2, 3, 4), (0.4, 0.2, 0.2, 0.2))[0])
        given = {fact: self.other_answer(fact) for fact in told}
        pieces: list[Piece] = []
        for fact, answer in given.items():
            pieces.append((f"{self.worded(fact)} {answer}.", False))
        subjects = {fact.subject for fact in told}
        for _ in range(rng.randint(3, 6)):
            fact = rng.choice(told)
            prompt, answer = self.worded(fact), given[fact]
            if rng.random() < 0.25:
                prompt, answer = self.closed[rng.randrange(len(self.closed))]
                if fact.near and rng.random() < 0.5:
                    prompt, answer = rng.choice(fact.near), fact.answer
                if mentions(prompt, subjects):
                    continue
            pieces += [(prompt, False), (f"{answer}.", True)]
        return Document(pieces)


def mentions(prompt: str, subjects: Iterable[str]) -> bool:
    """Whether a prompt names any of the subjects."""
    return any(subject in prompt for subject in subjects)


def answers_by_group(facts: Sequence[Fact]) -> dict[str, list[str]]:
    """Every answer that is true of some fact of the group; each once."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for fact in facts:
        found[fact.group][fact.answer] = None
    return {group: list(answers) for group, answers in found.items()}


def other_answer(
    fact: Fact, answers: dict[str, list[str]], rng: random.Random, never: Sequence[str] = ()
) -> str:
    """An answer of the fact's kind that is not true of it, or of any kind if there is no other.

    Args:
        fact: The fact.
        answers: By kind.
        rng: Source of chance.
        never: Answers that are not given either.
    """
    not_these = (fact.answer, *never)
    pool = [a for a in answers.get(fact.group, ()) if a not in not_these]
    pool = pool or [a for group in answers.values() for a in group if a not in not_these]
    return rng.choice(pool)


def fact_examples(facts: Sequence[Fact], rng: random.Random) -> Iterator[Example]:
    """Examples for a generator, without end: the prompts of an edited fact, and others.

    Args:
        facts: Of one part.
        rng: Source of chance.
    """
    answers = answers_by_group(facts)
    while True:
        fact = rng.choice(facts)
        answer = other_answer(fact, answers, rng)
        more = [f for f in rng.sample(facts, 2) if f.subject != fact.subject]
        more = more[: rng.choices((0, 1, 2), (0.6, 0.25, 0.15))[0]]
        edits = [fact.stated(answer)] + [f.stated(other_answer(f, answers, rng)) for f in more]
        rng.shuffle(edits)
        subjects = {fact.subject, *(f.subject for f in more)}
        if rng.random() < 0.3:
            other = rng.choice(facts)
            pool = fact.near if fact.near and rng.random() < 0.5 else other.prompts
            prompt = rng.choice(pool)
            aside = bool(fact.aside) and rng.random() < 0.5
            if aside:
                prompt, _ = rng.choice(fact.aside)
            if aside or not mentions(prompt, subjects):
                yield Example(tuple(edits), prompt, None, "unrelated")
            continue
        prompt = rng.choice(fact.prompts)
        kind = "rewrite" if prompt == fact.prompts[0] else "paraphrase"
        yield Example(tuple(edits), prompt, answer, kind)


@dataclass(frozen=True)
class FactMemory:
    """What a memory of edited facts holds, and what may be asked beside.

    Args:
        given: Edited facts to their new answers.
        siblings: Facts about the same subjects that are not edited.
        others: Facts about other subjects.
    """

    given: dict[Fact, str]
    siblings: Sequence[Fact]
    others: Sequence[Fact]


def draw_memory(facts: Sequence[Fact], edits: int, rng: random.Random) -> FactMemory:
    """Facts to edit, with new answers.

    Subjects with several facts make up to a fifth of it, for these are the hardest to tell apart:
    what is asked of one fact is in the scope of no other, and some are asked and not edited.

    Args:
        facts: Of one part.
        edits: Facts in the memory, at most half of all.
        rng: Source of chance.
    """
    count = min(edits, len(facts) // 2)
    own: dict[str, list[Fact]] = defaultdict(list)
    for fact in rng.sample(facts, len(facts)):
        own[fact.subject].append(fact)
    chosen: list[Fact] = []
    siblings: list[Fact] = []
    rest: list[Fact] = []
    for group in own.values():
        away = 0 if rng.random() < 0.7 else 1
        if len(group) > 1 and len(chosen) + len(group) - away <= count // 5:
            siblings += group[:away]
            chosen += group[away:]
        else:
            rest += group
    left = count - len(chosen)
    chosen, others = chosen + rest[:left], rest[left : left + count]
    answers = answers_by_group(facts)
    return FactMemory({f: other_answer(f, answers, rng) for f in chosen}, siblings, others)


def fact_scopes(facts: Sequence[Fact], edits: int, rng: random.Random) -> Scopes:
    """A memory of edited facts; their prompts, what is near and aside, and other facts' prompts.

    Args:
        facts: Of one part.
        edits: Facts in the memory, at most half of all.
        rng: Source of chance.
    """
    return memory_scopes(draw_memory(facts, edits, rng), rng)


def memory_scopes(memory: FactMemory, rng: random.Random) -> Scopes:
    """The edits of a memory, in its order, and what is asked of them in random order."""
    chosen = list(memory.given)
    known = {
        fact: Edit(fact.stated(answer), id=str(i))
        for i, (fact, answer) in enumerate(memory.given.items())
    }
    subjects = {fact.subject for fact in chosen}
    stages = [Stage(p, p, (known[f],), True) for f in chosen for p in f.prompts]
    outside = [p for f in chosen for p in f.near[:2]]
    outside += [rng.choice(f.prompts) for f in memory.others]
    stages += [Stage(p, p) for p in outside if not mentions(p, subjects)]
    stages += [Stage(p, p) for f in memory.siblings for p in f.prompts]
    edited = {p for f in chosen for p in f.prompts}
    stages += [Stage(p, p) for f in chosen for p, _ in f.aside[:2] if p not in edited]
    stages = followed(stages)
    rng.shuffle(stages)
    return Scopes(list(known.values()), stages)
