"""A memory full of edits, and probes of it: the data for gate, generator, calibration and bench.

Each probe carries the right answer and the edits that it rests on, worked out by ``World.answer``
with all edits in force; a probe whose scope would be arguable (an edit that is reached only through
what the model, not the text, knows) is never made.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from seprog.atlas.corpus import chains, closed_book_queries, walk_query
from seprog.atlas.exam import onward_queries
from seprog.atlas.fiction import NAMERS, counterfact, invent, respelt, split_entities
from seprog.atlas.wording import held_out, phrasings, say_query, scramble
from seprog.atlas.world import SPLITS, Fact, Key, Query, Split, Wording, World, fill, split_of
from seprog.gate.words import words as words_of

Kind = Literal[
    "rewrite",
    "paraphrase",
    "entailed",
    "composed",
    "near_miss",
    "far",
    "superseded",
    "superseded_twice",
    "forgotten",
]
KINDS: tuple[Kind, ...] = ("rewrite", "paraphrase", "entailed", "composed", "near_miss", "far")


@dataclass(frozen=True)
class Probe:
    """One query of a scenario.

    Args:
        kind: What it tests.
        prompt: The text asked.
        answer: The right answer once all edits hold; ``None`` out of scope, where the right answer
            is whatever the base model says.
        used: The edits that the answer rests on, in the order of the hops; empty out of scope.
    """

    kind: Kind
    prompt: str
    answer: str | None
    used: tuple[Fact, ...] = ()


@dataclass
class Scenario:
    """Edits that hold together, in words.

    Args:
        world: The tables.
        split: Whose names.
        wording: Whose phrasings.
        facts: The edits; no two about the same thing.
        prompts: Per fact, the prompt that it was written with.
        chains: Groups of the facts in which the object of each is the subject of the next.
        noise: Share of the edits and queries in scrambled phrasings (0 to 1); for training only.
    """

    world: World
    split: Split
    wording: Wording
    facts: dict[Key, Fact]
    prompts: dict[Fact, str] = field(default_factory=dict)
    chains: list[tuple[Fact, ...]] = field(default_factory=list)
    noise: float = 0.0

    def statement(self, fact: Fact) -> str:
        """The text of the edit."""
        return f"{self.prompts[fact]} {fact.object}."

    def in_scope(self, rng: random.Random, facts: Sequence[Fact] | None = None) -> Iterator[Probe]:
        """Rewrite, paraphrase and, where something follows, an entailed probe for each fact."""
        for fact in facts if facts is not None else list(self.facts.values()):
            own = Query(fact.subject, (fact.relation,))
            yield Probe("rewrite", self.prompts[fact], fact.object, (fact,))
            prompt = self.say(own, rng, avoid=self.prompts[fact])
            yield Probe("paraphrase", prompt, fact.object, (fact,))
            yield from self._entailed(fact, rng)

    def _entailed(self, fact: Fact, rng: random.Random) -> Iterator[Probe]:
        options = onward_queries(self.world, fact)
        if self.world.relations[fact.relation].one_to_one and (not options or rng.random() < 0.2):
            options = [Query(fact.object, (fact.relation,), inverse=True)]
        rng.shuffle(options)
        for query in options:
            outcome = self.world.answer(query, self.facts)
            if outcome is not None and outcome.used == (fact,):
                prompt = self.say(query, rng)
                yield Probe("entailed", prompt, outcome.answer, (fact,))
                return

    def passed_on(self, rng: random.Random) -> Iterator[Probe]:
        """An entailed probe for each edit on a class: what its members have from another now."""
        classes = [f for f in self.facts.values() if f.relation == "kind"]
        yield from (p for p in self.in_scope(rng, classes) if p.kind == "entailed")

    def composed(self, rng: random.Random) -> Iterator[Probe]:
        """For each chain, a query that needs all of it, or its first two or three links."""
        for chain in self.chains:
            length = rng.randint(2, len(chain))
            query = walk_query(self.world, chain[0].subject, [f.relation for f in chain[:length]])
            outcome = self.world.answer(query, self.facts)
            if outcome is not None and outcome.used == chain[:length]:
                prompt = self.say(query, rng)
                yield Probe("composed", prompt, outcome.answer, outcome.used)

    def near_misses(self, rng: random.Random, facts: Sequence[Fact]) -> Iterator[Probe]:
        """Same subject, another relation; or same relation, another subject or object."""
        for fact in facts:
            relation = self.world.relations[fact.relation]
            others = [n for n in self.world.continuations(relation.subject) if n != fact.relation]
            if relation.one_to_one and rng.random() < 0.3:
                objects = self.world.objects(relation.object)
                object_ = rng.choice([n for n in objects if self.may_ask(n)])
                query = Query(object_, (fact.relation,), inverse=True)
            elif others and rng.random() < 0.6:
                query = Query(fact.subject, (rng.choice(others),))
            else:
                query = Query(self._other_subject(fact, rng), (fact.relation,))
            if not self.touches(query):
                yield Probe("near_miss", self.say(query, rng), None)

    def far(self, rng: random.Random, count: int) -> Iterator[Probe]:
        """What the tables say about other things; near misses where names share a word."""
        pool = [q for q in closed_book_queries(self.world) if self.may_ask(q.start)]
        edited = {w for f in self.facts.values() for w in words_of(f"{f.subject} {f.object}")}
        while count > 0:
            query = rng.choice(pool)
            if not self.touches(query):
                count -= 1
                kind: Kind = "far" if edited.isdisjoint(words_of(query.start)) else "near_miss"
                yield Probe(kind, self.say(query, rng), None)

    def may_ask(self, name: str) -> bool:
        """Whether questions may be about a name: not, if it is kept for a later split."""
        return SPLITS.index(split_of(name)) <= SPLITS.index(self.split)

    def say(self, query: Query, rng: random.Random, avoid: str | None = None) -> str:
        """A query in the scenario's words, other ones than those to avoid."""
        return say_query(self.world, query, self.wording, rng, avoid, self.noise)

    def touches(self, query: Query) -> bool:
        """Whether any edit bears on the query or on what the query is nearly about."""
        if (query.path[0], query.start) in self.facts:
            return True
        if query.inverse and any(
            f.relation == query.path[0] and query.start in (f.object, self.world.facts.get(f.key))
            for f in self.facts.values()
        ):
            return True
        inherited = self.world.relations[query.path[0]].inherited
        if inherited and ("kind", query.start) in self.facts:
            return True
        outcome = self.world.answer(query, self.facts)
        return outcome is not None and bool(outcome.used)

    def _other_subject(self, fact: Fact, rng: random.Random) -> str:
        type_ = self.world.relations[fact.relation].subject
        known = split_entities(self.world, type_, self.split)
        if known and rng.random() < 0.7:
            return rng.choice(known)
        return invent(type_, self.split, rng)


def make_scenario(
    world: World,
    split: Split,
    size: int,
    rng: random.Random,
    chained: float = 0.3,
    noise: float = 0.0,
    words: Sequence[str] = (),
    wording: Wording | None = None,
) -> Scenario:
    """Draw edits: false facts about real subjects, facts about invented ones, and chains.

    Args:
        world: The tables.
        split: Whose names.
        size: Number of edits (>= 1).
        rng: Source of chance.
        chained: Share of the edits that belong to chains of two to four (0 to 1).
        noise: Share of the edits and queries in scrambled phrasings (0 to 1); for training only.
        words: Words of which most of the invented names are made; empty leaves them as they are.
        wording: Whose phrasings; ``None`` means the split's.

    Returns:
        The scenario, exactly ``size`` edits.
    """
    scenario = Scenario(world, split, wording or split, {}, noise=noise)
    paths = [p for p in chains(world) if all(world.relations[r].object in NAMERS for r in p[:-1])]
    names = list(world.relations)
    while len(scenario.facts) < size:
        room = size - len(scenario.facts)
        if rng.random() < chained / 2.5 and room > 1:
            chain = _draw_chain(world, rng.choice(paths)[:room], split, rng)
            if all(f.key not in scenario.facts for f in chain):
                scenario.chains.append(tuple(chain))
                scenario.facts |= {f.key: f for f in chain}
            continue
        relation = rng.choice(names)
        if scenario.facts and rng.random() < 0.15:  # several edits about one subject
            other = rng.choice(list(scenario.facts.values()))
            relation = rng.choice(world.continuations(world.relations[other.relation].subject))
            fact = counterfact(world, world.relations[relation], split, rng, other.subject)
        else:
            fact = counterfact(world, world.relations[relation], split, rng)
        scenario.facts.setdefault(fact.key, fact)
    if words:
        new = respelt(world, scenario.facts.values(), words, split, rng)
        scenario.facts = {f.key: f for f in new.values()}
        scenario.chains = [tuple(new[f] for f in chain) for chain in scenario.chains]
    for fact in scenario.facts.values():
        asked = rng.random() < 0.3
        said = world.relations[fact.relation]
        phrasing = rng.choice(phrasings(said, scenario.wording, rng, asked))
        if noise and rng.random() < noise:
            phrasing = scramble(phrasing, rng, held_out(said))
        scenario.prompts[fact] = fill(phrasing, fact.subject)
    return scenario


def _draw_chain(world: World, path: Sequence[str], split: Split, rng: random.Random) -> list[Fact]:
    facts: list[Fact] = []
    for i, name in enumerate(path):
        relation = world.relations[name]
        subject = facts[-1].object if facts else None
        object_ = invent(relation.object, split, rng) if i + 1 < len(path) else None
        facts.append(counterfact(world, relation, split, rng, subject=subject, object=object_))
    return facts
