"""Facts and queries in words, in the phrasings of one split."""

from __future__ import annotations

import random

from seprog.atlas.world import Fact, Query, Split, World, fill, tidy


def say_fact(world: World, fact: Fact, split: Split, rng: random.Random, asked: float = 0.0) -> str:
    """A sentence that states the fact, or (with probability ``asked``) a question and its answer."""
    relation = world.relations[fact.relation]
    asks = rng.random() < asked
    phrasing = rng.choice(relation.questions(split) if asks else relation.statements(split))
    return f"{fill(phrasing, fact.subject)} {fact.object}."


def say_query(
    world: World, query: Query, split: Split, rng: random.Random, avoid: str | None = None
) -> str:
    """A prompt that asks the query: a question, or a statement without its end.

    Args:
        world: Supplies the phrasings.
        query: What is asked.
        split: Whose phrasings.
        rng: Source of chance.
        avoid: A prompt that must not come out again (where another phrasing exists).

    Returns:
        The prompt.
    """
    *inner, last = query.path
    subject = query.start
    for name in inner:
        subject = rng.choice(world.relations[name].nouns[split]).replace("{s}", subject)
    relation = world.relations[last]
    if query.inverse:
        options = [
            tidy(p.replace("{o}", subject).removesuffix("{s}.").rstrip())
            for p in relation.inverses[split]
        ]
    else:
        options = [fill(p, subject) for p in relation.phrasings[split]]
    options = [o for o in options if o != avoid] or options
    return rng.choice(options)
