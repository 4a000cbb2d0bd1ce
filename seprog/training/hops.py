"""What is learnt about questions of several hops (MQuAKE's): to read a fact, and to go on from it.

A walk is such a question without its start: "Who heads the country that {} is a citizen of?". From
other starts, and with facts along it edited, the few that a data set brings make many.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from seprog.data.documents import Document, Piece
from seprog.training.facts import (
    STRANGE,
    Fact,
    FactCorpus,
    answers_by_group,
    draw_memory,
    fact_examples,
    memory_scopes,
)
from seprog.training.scopes import Scopes, Stage, in_turn
from seprog.types import Edit, Example

Given = Mapping[Fact, str]
"""Edited facts to their new answers."""
TRIES = 50
"""How often a walk that leads nowhere is drawn again."""
LONGEST = 4
"""Hops of a question that is made of another."""
WALKED = 0.5
"""Share of the documents to read, and of a generator's examples, that ask for several hops."""


@dataclass(frozen=True)
class Walk:
    """A question of several hops, without its start.

    Args:
        wording: With ``{}`` where the start is named.
        relations: Of the hops, in order; groups of facts.
    """

    wording: str
    relations: tuple[str, ...]

    def asked(self, start: str) -> str:
        """The question."""
        return self.wording.replace("{}", start)

    def behind(self, relation: str) -> Walk:
        """The same, one hop further away: what is asked about is the relation of a start."""
        noun = f"the {relation} of {{}}"
        wording = self.wording.replace('"{}"', "{}").replace("{}", noun)
        return Walk(wording, (relation, *self.relations))


@dataclass(frozen=True)
class Asked:
    """A question of several hops with some facts edited.

    Args:
        prompt: The question.
        answer: Where it leads.
        facts: On the way, in order.
    """

    prompt: str
    answer: str
    facts: tuple[Fact, ...]

    def used(self, given: Given) -> tuple[Fact, ...]:
        """Those on the way that are edited, in order."""
        return tuple(f for f in self.facts if f in given)


class Hops:
    """Facts by where they start, and walks along them.

    Args:
        facts: All that are known; those of one group are of one relation.
        walks: Questions to ask.
        edited: Facts that may be edited, and whose subjects walks start from.
        never: By a fact's first prompt, answers that no edit gives it.
        longer: Whether questions that are made of these by putting a fact before them are drawn as
            often (after Andreas 2020, "Good-Enough Compositional Data Augmentation").
    """

    def __init__(
        self,
        facts: Sequence[Fact],
        walks: Sequence[Walk],
        edited: Sequence[Fact],
        never: Mapping[str, Sequence[str]] | None = None,
        longer: bool = False,
    ) -> None:
        self.walks, self.never = walks, never or {}
        self.at = {(f.subject, f.group): f for f in facts}
        self.answers = answers_by_group(facts)
        barred = (a for answers in self.never.values() for a in answers)
        named = (name for f in facts for name in (f.subject, f.answer))
        self.names = list(dict.fromkeys([*named, *barred]))
        self.edited = set(edited)
        self.starts: dict[str, list[str]] = defaultdict(list)
        for fact in edited:
            self.starts[fact.group].append(fact.subject)
        self.pools = [walks, *([self._longer()] if longer else [])]

    def _longer(self) -> list[Walk]:
        """Walks of up to ``LONGEST`` hops behind which another one, or one fact, is left."""
        facts = [Walk(f"What is the {relation} of {{}}?", (relation,)) for relation in self.starts]
        found, last = list[Walk](), [*self.walks, *facts]
        while last:
            made = (w.behind(r) for w in last if len(w.relations) < LONGEST for r in self.starts)
            last = [w for w in dict.fromkeys(made) if self._leads_on(w)]
            found += last
        return found

    def _leads_on(self, walk: Walk) -> bool:
        starts = self.starts[walk.relations[0]]
        return any(self.follow(walk, start, {}) is not None for start in starts)

    def follow(self, walk: Walk, start: str, given: Given) -> Asked | None:
        """Where a walk leads with some facts edited; ``None`` if a fact on the way isn't known."""
        here, passed = start, []
        for relation in walk.relations:
            fact = self.at.get((here, relation))
            if fact is None:
                return None
            passed.append(fact)
            here = given.get(fact, fact.answer)
        return Asked(walk.asked(start), here, tuple(passed))

    def draw(self, rng: random.Random) -> tuple[dict[Fact, str], Asked]:
        """One or two edits along a walk, and the question that rests on them.

        Raises:
            ValueError: If no walk can be edited.
        """
        for _ in range(TRIES * max(1, len(self.walks))):
            walk = rng.choice(rng.choice(self.pools))
            starts = self.starts[walk.relations[0]]
            if not starts:
                continue
            start, given = rng.choice(starts), dict[Fact, str]()
            for _ in range(rng.choice((1, 1, 1, 2))):
                given |= self._edit(walk, start, given, rng)
            asked = self.follow(walk, start, given)
            if asked is not None and asked.used(given):
                return {fact: given[fact] for fact in asked.used(given)}, asked
        raise ValueError("No walk leads on from any fact's other answers")

    def _edit(self, walk: Walk, start: str, given: Given, rng: random.Random) -> dict[Fact, str]:
        """An edit of a fact on the way, from whose new answer the walk leads on; or none."""
        asked = self.follow(walk, start, given)
        if asked is None:
            return {}
        hop = rng.randrange(len(walk.relations))
        fact, rest = asked.facts[hop], Walk("", walk.relations[hop + 1 :])
        barred = (fact.answer, *self.never.get(fact.prompts[0], ()))
        if fact not in self.edited or fact in given:
            return {}
        strange = not rest.relations and rng.random() < STRANGE
        pool = [a for a in (self.names if strange else self.answers[fact.group]) if a not in barred]
        pool = [a for a in pool if self.follow(rest, a, given) is not None]
        return {fact: rng.choice(pool)} if pool else {}


class HopCorpus(FactCorpus):
    """Documents that teach facts, reading, and going on from what was read.

    Args:
        facts: As for ``FactCorpus``.
        read: As for ``FactCorpus``.
        hops: Walks that are asked behind statements.
        questions: Of several hops, with their true answers.
        rng: Source of chance.
        open_book: Share of documents with statements (0 to 1).
        never: As for ``FactCorpus``.
        noise: As for ``FactCorpus``.
    """

    def __init__(
        self,
        facts: Sequence[Fact],
        read: Sequence[Fact],
        hops: Hops,
        questions: Sequence[tuple[str, str]],
        rng: random.Random,
        open_book: float,
        never: Mapping[str, Sequence[str]] | None = None,
        noise: float = 0.0,
    ) -> None:
        super().__init__(facts, read, rng, open_book, never, noise)
        self.hops, self.names = hops, hops.names
        self.closed = list(dict.fromkeys([*self.closed, *questions]))
        self.weights = [1.0] * len(self.closed)

    def open_document(self) -> Document:
        """Half of them ask for several hops, and for the single ones on the way."""
        rng = self.rng
        if rng.random() >= WALKED:
            return super().open_document()
        given, asked = self.hops.draw(rng)
        for _ in range(rng.choice((0, 0, 1, 2))):
            aside, _ = self.hops.draw(rng)
            given |= {f: a for f, a in aside.items() if f not in asked.facts and f not in given}
        told: list[Piece] = [
            (f"{self.worded(fact)} {answer}.", False) for fact, answer in given.items()
        ]
        rng.shuffle(told)
        steps = [(self.worded(f), given.get(f, f.answer)) for f in asked.facts]
        start = asked.facts[0].subject
        questions = [*steps, *((self.mixed(asked.prompt, start), asked.answer) for _ in range(2))]
        rng.shuffle(questions)
        pieces = [piece for p, a in questions for piece in ((p, False), (f"{a}.", True))]
        return Document([*told, *pieces])


def hop_examples(hops: Hops, facts: Sequence[Fact], rng: random.Random) -> Iterator[Example]:
    """Examples for a generator, without end: of single facts, and of several hops.

    Args:
        hops: What is asked.
        facts: Those that are edited and asked by themselves, and that stand beside.
        rng: Source of chance.
    """
    single = fact_examples(facts, rng)
    while True:
        if rng.random() >= WALKED:
            yield next(single)
            continue
        given, asked = hops.draw(rng)
        statements = tuple(f.stated(a) for f, a in given.items())
        if rng.random() < 0.2:  # the same question, of a start that no edit is on
            other, kept = hops.draw(rng)
            if not kept.used(given) and other.keys().isdisjoint(given):
                yield Example(statements, kept.prompt, None, "unrelated")
            continue
        yield Example(statements, asked.prompt, asked.answer, "composed")


def hop_scopes(hops: Hops, facts: Sequence[Fact], edits: int, rng: random.Random) -> Scopes:
    """A memory of edited facts, their own prompts, and questions of several hops.

    Args:
        hops: What is asked.
        facts: Those that are edited.
        edits: In the memory, at most half of all.
        rng: Source of chance.
    """
    memory = draw_memory(facts, edits, rng)
    scopes = memory_scopes(memory, rng)
    given = memory.given
    known = dict(zip(given, scopes.edits, strict=True))
    stages = list(scopes.stages)
    for walk in hops.walks:
        starts = hops.starts[walk.relations[0]]
        for start in rng.sample(starts, min(4, len(starts))):
            if asked := hops.follow(walk, start, given):
                stages += hop_stages(asked, given, known, start)
    rng.shuffle(stages)
    return Scopes(scopes.edits, stages)


def hop_stages(asked: Asked, given: Given, known: Mapping[Fact, Edit], start: str) -> list[Stage]:
    """What the gate is asked in the course of a question of several hops.

    An edit on a thing that neither the question nor an edit before it names can't be found by what
    is asked; whether the gate lets it fire is left open.

    Args:
        asked: The question.
        given: The edits.
        known: The same, with ids.
        start: What the question names.
    """
    named, right = start, list[Edit]()
    for fact in asked.used(given):
        if fact.subject != named:
            break
        right.append(known[fact])
        named = given[fact]
    return in_turn(asked.prompt, right, unclear={known[f].id for f in asked.used(given)})
