"""What Atlas reads while it is trained: closed-book facts and open-book documents.

Open-book documents open with statements that contradict the world or speak of
invented things, and then ask: about them, about what follows from them, or about something else.
Only training phrasings and, for counterfactual subjects, names are ever used.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from seprog.atlas.fiction import counterfact, invent, respelt
from seprog.atlas.strange import lexicon, strange_pieces
from seprog.atlas.wording import for_training, say_fact, say_query
from seprog.atlas.world import Fact, Query, Relation, Split, Wording, World
from seprog.data.documents import Document, Piece

SPLIT: Split = "train"


@dataclass
class Corpus:
    """An endless, seeded stream of documents.

    Args:
        world: The tables.
        rng: Source of chance.
        open_book: Share of open-book documents (0 to 1).
        noise: Share of the phrasings that are scrambled (0 to 1).
        strange: Share of the open-book documents in words that mean nothing (0 to 1).
        others: Share of the documents in more writers' phrasings (0 to 1); of these none is in
            words that mean nothing.
        words: Words of which most of the invented names are made, so that every token is read
            and copied often; empty leaves the names as they are.
    """

    world: World
    rng: random.Random
    open_book: float = 0.2
    noise: float = 0.35
    strange: float = 0.3
    others: float = 0.0
    words: Sequence[str] = ()
    closed: list[Query] = field(init=False)
    weights: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.closed = closed_book_queries(self.world)
        self.answers = [self._answer(q) for q in self.closed]
        self.weights = [1.0] * len(self.closed)
        self.chains = chains(self.world)
        self.recalls = recalls(self.world)
        self.bridges = [key for key, names in self.recalls.items() for _ in names]

    def _answer(self, query: Query) -> str:
        outcome = self.world.answer(query)
        assert outcome is not None
        return outcome.answer

    def __iter__(self) -> Iterator[Document]:
        while True:
            n_open = sum(self.rng.random() < self.open_book for _ in range(512))
            picks = self.rng.choices(range(len(self.closed)), self.weights, k=512 - n_open)
            batch = [self.closed_document(i) for i in picks]
            batch += [self.open_document() for _ in range(n_open)]
            self.rng.shuffle(batch)
            yield from batch

    def closed_document(self, index: int) -> Document:
        """One fact or consequence of the true world, asked in one phrasing."""
        prompt = self._ask(self.closed[index], for_training(self.others, self.rng))
        return Document([(prompt, False), (self.answers[index] + ".", True)], index)

    def _ask(self, query: Query, wording: Wording) -> str:
        return say_query(self.world, query, wording, self.rng, noise=self.noise)

    def open_document(self) -> Document:
        """One to five statements, then queries, each on its own, most of them resting on them."""
        rng, world = self.rng, self.world
        facts, wording = self._statements(), for_training(self.others, rng)
        if wording == SPLIT and rng.random() < self.strange:
            words = lexicon(world, self.words, rng)
            return Document(strange_pieces(facts, words, rng.randint(4, 8), rng))
        edits = {f.key: f for f in facts}
        told = [say_fact(world, f, wording, rng, asked=0.25, noise=self.noise / 2) for f in facts]
        rng.shuffle(told)
        pieces: list[Piece] = [(text, False) for text in told]
        for _ in range(rng.randint(4, 8)):
            query = self._query(facts)
            outcome = world.answer(query, edits)
            if outcome is not None:
                pieces.append((self._ask(query, wording), False))
                pieces.append((outcome.answer + ".", True))
        return Document(pieces)

    def _statements(self) -> list[Fact]:
        rng, world = self.rng, self.world
        chained = rng.random() < 0.45
        facts = self.chain(rng.choice(self.chains)) if chained else [self._statement()]
        while rng.random() < 0.65 and len(facts) < 5:
            same = rng.choice(facts)
            facts.append(self._statement(beside=same if rng.random() < 0.5 else None))
        if self.words:
            facts = list(respelt(world, facts, self.words, SPLIT, rng).values())
        return list({f.key: f for f in facts if f.object != world.facts.get(f.key)}.values())

    def _statement(self, beside: Fact | None = None) -> Fact:
        """A counterfact; beside another one, on the same subject or of the same relation."""
        rng, world = self.rng, self.world
        if beside is None:
            if rng.random() < 0.5:
                return self._recalled()
            return self._counterfact(self._relation())
        relation = world.relations[beside.relation]
        if rng.random() < 0.5:
            return self._counterfact(relation)
        other = world.relations[rng.choice(world.continuations(relation.subject))]
        return self._counterfact(other, beside.subject)

    def _recalled(self) -> Fact:
        """A counterfact about whose object the tables say something, each saying as often."""
        bridge, type_ = self.rng.choice(self.bridges)
        leading = [r for r in self.world.relations.values() if r.object == type_]
        return self._counterfact(self.rng.choice(leading), object=bridge)

    def _counterfact(
        self, relation: Relation, subject: str | None = None, object: str | None = None
    ) -> Fact:
        """Real subjects more often than in edits: what is known is the hard thing to overrule."""
        return counterfact(
            self.world,
            relation,
            SPLIT,
            self.rng,
            subject=subject,
            object=object,
            invented_subject=0.4,
            invented_object=0.4,
        )

    def _relation(self) -> Relation:
        return self.world.relations[self.rng.choice(list(self.world.relations))]

    def chain(self, path: Sequence[str]) -> list[Fact]:
        """Facts that hang together: the object of each is the subject of the next."""
        facts: list[Fact] = []
        for i, name in enumerate(path):
            relation = self.world.relations[name]
            subject = facts[-1].object if facts else None
            object_ = None
            if i + 1 < len(path):
                object_ = invent(relation.object, SPLIT, self.rng)
            facts.append(
                counterfact(self.world, relation, SPLIT, self.rng, subject=subject, object=object_)
            )
        return facts

    def _query(self, facts: Sequence[Fact]) -> Query:
        rng = self.rng
        kind = rng.random()
        fact = rng.choice(facts)
        relation = self.world.relations[fact.relation]
        options = self.world.continuations(relation.object)
        if kind < 0.05:
            return rng.choice(self.closed)
        if kind < 0.09:
            other = rng.choice(self.world.continuations(relation.subject))
            return Query(fact.subject, (other,))
        if kind < 0.13 and options:
            return Query(fact.object, (rng.choice(options),))
        turnable = [f for f in facts if self.world.relations[f.relation].one_to_one]
        if kind < 0.45 and turnable:
            fact = rng.choice(turnable)
            return Query(fact.object, (fact.relation,), inverse=True)
        subjects = {f.subject for f in facts}
        walkable = [f for f in facts if f.object in subjects or self._onward(f)]
        if kind < 0.72 and walkable:
            return self._walk(rng.choice(walkable), facts)
        return Query(fact.subject, (fact.relation,))

    def _onward(self, fact: Fact) -> list[str]:
        """What the tables say about the fact's object, other than what the fact itself says."""
        found = self.recalls.get((fact.object, self.world.relations[fact.relation].object), [])
        return [name for name in found if name != fact.relation]

    def _walk(self, fact: Fact, facts: Sequence[Fact]) -> Query:
        """Two hops or more from the fact, along the document's other facts where there are some."""
        by_subject = {f.subject: f for f in facts if f is not fact}
        path, end = [fact.relation], fact
        while (following := by_subject.get(end.object)) and len(path) < 4:
            if following.relation in path:  # a kind of a kind is asked for as a kind is
                break
            path.append(following.relation)
            end = following
        if len(path) > 1:
            length = self.rng.randint(2, len(path))
            return walk_query(self.world, fact.subject, path[:length])
        if onward := self._onward(fact):
            path.append(self.rng.choice(onward))
        return walk_query(self.world, fact.subject, path)


def walk_query(world: World, start: str, path: Sequence[str]) -> Query:
    """A query along a path; a step to a class before an inherited property goes without saying."""
    said = [
        name
        for name, following in zip(path, [*path[1:], None], strict=True)
        if not (name == "kind" and following and world.relations[following].inherited)
    ]
    return Query(start, tuple(said))


@cache
def closed_book_queries(world: World) -> list[Query]:
    """Every fact, inherited property and answerable inverse of the true world."""
    queries = [Query(subject, (relation,)) for relation, subject in world.facts]
    inherited = [r.name for r in world.relations.values() if r.inherited]
    queries += [
        Query(name, (relation,))
        for name in world.entities["organism"]
        for relation in inherited
        if (relation, name) not in world.facts and world.answer(Query(name, (relation,)))
    ]
    queries += [
        Query(value, (relation,), inverse=True)
        for (relation, _), value in world.facts.items()
        if world.relations[relation].one_to_one and world.answer(Query(value, (relation,), True))
    ]
    return list(dict.fromkeys(queries))


@cache
def recalls(world: World) -> dict[tuple[str, str], list[str]]:
    """What the tables say of what a relation may lead to: by name and type, the relations."""
    return {
        (name, type_): [r for r in world.continuations(type_) if world.answer(Query(name, (r,)))]
        for type_ in dict.fromkeys(r.object for r in world.relations.values())
        for name in world.objects(type_)
    }


@cache
def chains(world: World, longest: int = 4) -> list[tuple[str, ...]]:
    """Paths of two to ``longest`` relations through different entity types, closed under naming."""
    found: list[tuple[str, ...]] = []
    frontier: list[tuple[str, ...]] = [(r,) for r in world.relations]
    for _ in range(longest - 1):
        frontier = [
            (*path, name)
            for path in frontier
            for name in world.continuations(world.relations[path[-1]].object)
            if name not in path and (name != "kind")
        ]
        found += frontier
    return found
