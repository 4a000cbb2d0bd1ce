"""What Atlas knows and how well it reads: greedy generation, exact match of the whole answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from seprog.atlas.fiction import counterfact
from seprog.atlas.wording import say_fact, say_query
from seprog.atlas.world import Fact, Query, Split, Wording, World

Ask = Callable[[Sequence[str]], list[str]]
"""Prompts to answers."""
Item = tuple[str, str]
"""(prompt, right answer)."""


def closed_book(world: World, wording: Wording, rng: random.Random, limit: int) -> list[Item]:
    """Facts of the tables, each in one phrasing."""
    keys = rng.sample(sorted(world.facts), min(limit, len(world.facts)))
    return [
        (
            say_query(world, Query(subject, (relation,)), wording, rng),
            world.facts[relation, subject],
        )
        for relation, subject in keys
    ]


def open_book(
    world: World,
    split: Split,
    rng: random.Random,
    limit: int,
    hops: int,
    statements: int = 3,
    wording: Wording | None = None,
) -> list[Item]:
    """A question after statements that contradict the tables.

    Args:
        world: The tables.
        split: Whose subjects.
        rng: Source of chance.
        limit: Number of items.
        hops: 1 to ask for what was stated; 2 to ask what the tables say about it.
        statements: Statements per item, one of them asked about.
        wording: Whose phrasings; ``None`` means the split's.

    Returns:
        The items.
    """
    items: list[Item] = []
    names, wording = list(world.relations), wording or split
    while len(items) < limit:
        facts = {
            f.key: f
            for f in (
                counterfact(world, world.relations[rng.choice(names)], split, rng)
                for _ in range(statements)
            )
        }
        fact = rng.choice(list(facts.values()))
        query = Query(fact.subject, (fact.relation,))
        if hops == 2:
            onward = onward_queries(world, fact)
            if not onward:
                continue
            query = rng.choice(onward)
        outcome = world.answer(query, facts)
        if outcome is None or outcome.used != (fact,):
            continue
        told = " ".join(say_fact(world, f, wording, rng) for f in facts.values())
        items.append((f"{told} {say_query(world, query, wording, rng)}", outcome.answer))
    return items


def onward_queries(world: World, fact: Fact) -> list[Query]:
    """Two-hop queries through the fact whose second hop the tables answer."""
    if fact.relation == "kind":
        names = [r.name for r in world.relations.values() if r.inherited]
        return [
            Query(fact.subject, (n,))
            for n in names
            if (n, fact.subject) not in world.facts and world.answer(Query(fact.object, (n,)))
        ]
    names = world.continuations(world.relations[fact.relation].object)
    return [
        Query(fact.subject, (fact.relation, n))
        for n in names
        if n != "kind" and world.answer(Query(fact.object, (n,)))
    ]


def examine(
    world: World, ask: Ask, limit: int = 500, seed: int = 0, split: Split = "test"
) -> dict[str, tuple[float, int]]:
    """Run every part of the exam.

    Args:
        world: The tables.
        ask: The model.
        limit: Items per part.
        seed: Of the choice of items.
        split: Whose names and held-out phrasings; models are chosen by ``calibration``.

    Returns:
        Per part, the share of right answers (0 to 1) and the number of items.
    """
    rng = random.Random(seed)
    other: Wording = "other" if split == "test" else "another"
    parts = {
        "closed_book_trained_phrasings": closed_book(world, "train", rng, limit),
        "closed_book_held_out_phrasings": closed_book(world, split, rng, limit),
        "open_book_one_hop": open_book(world, split, rng, limit, hops=1),
        "open_book_then_recall": open_book(world, split, rng, limit, hops=2),
        "closed_book_other_writers_phrasings": closed_book(world, other, rng, limit),
        "open_book_one_hop_other_writers_phrasings": open_book(
            world, split, rng, limit, hops=1, wording=other
        ),
        "open_book_then_recall_other_writers_phrasings": open_book(
            world, split, rng, limit, hops=2, wording=other
        ),
    }
    results = {}
    for name, items in parts.items():
        answers = ask([prompt for prompt, _ in items])
        right = sum(a == expected for a, (_, expected) in zip(answers, items, strict=True))
        results[name] = (right / len(items), len(items))
    return results
