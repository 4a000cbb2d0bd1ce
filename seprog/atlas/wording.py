"""Facts and queries in words, in the phrasings of one split."""

from __future__ import annotations

import random

from seprog.atlas.world import Fact, Query, Split, World, fill, tidy

FUNCTION_WORDS = frozenset(
    "a an and as by called can do does for has have in is its it known me name of on tell that the "
    "to was what where which who with you".split()
)
"""Words that carry no relation by themselves."""


def scramble(phrasing: str, rng: random.Random) -> str:
    """A phrasing in another order, with function words lost and found.

    A model that is trained from scratch has seen no English but its own few phrasings; scrambled
    ones teach it to go by a phrasing's subject and its content words. For training only.

    Args:
        phrasing: With ``{s}``; an ending ``{o}.`` stays at the end.
        rng: Source of chance.

    Returns:
        Another phrasing of the same words.
    """
    body = phrasing.removesuffix("{o}.").rstrip()
    ending = phrasing[len(body) :]
    asked = body.endswith("?")
    words = body.removesuffix("?").split()
    if rng.random() < 0.5:
        cut = rng.randrange(len(words))
        words = words[cut:] + words[:cut]
    for i in range(len(words) - 1):
        if rng.random() < 0.1:
            words[i], words[i + 1] = words[i + 1], words[i]
    words = [w for w in words if w.lower() not in FUNCTION_WORDS or rng.random() > 0.2]
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        words.insert(rng.randint(0, len(words)), rng.choice(sorted(FUNCTION_WORDS)))
    if asked != (rng.random() < 0.15):
        words[-1] += "?"
    return " ".join(words) + ending


def say_fact(
    world: World,
    fact: Fact,
    split: Split,
    rng: random.Random,
    asked: float = 0.0,
    noise: float = 0.0,
) -> str:
    """A sentence that states a fact.

    Args:
        world: Supplies the phrasings.
        fact: What is stated.
        split: Whose phrasings.
        rng: Source of chance.
        asked: Probability of a question with its answer instead (0 to 1).
        noise: Probability that the phrasing is scrambled (0 to 1).

    Returns:
        The sentence.
    """
    relation = world.relations[fact.relation]
    asks = rng.random() < asked
    phrasing = rng.choice(relation.questions(split) if asks else relation.statements(split))
    if rng.random() < noise:
        phrasing = scramble(phrasing, rng)
    return f"{fill(phrasing, fact.subject)} {fact.object}."


def say_query(
    world: World,
    query: Query,
    split: Split,
    rng: random.Random,
    avoid: str | None = None,
    noise: float = 0.0,
) -> str:
    """A prompt that asks the query: a question, or a statement without its end.

    Args:
        world: Supplies the phrasings.
        query: What is asked.
        split: Whose phrasings.
        rng: Source of chance.
        avoid: A prompt that must not come out again (where another phrasing exists).
        noise: Probability that the outermost phrasing is scrambled (0 to 1).

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
        phrasings = list(relation.phrasings[split])
        if rng.random() < noise:
            phrasings = [scramble(p, rng) for p in phrasings]
        options = [fill(p, subject) for p in phrasings]
    options = [o for o in options if o != avoid] or options
    return rng.choice(options)
