"""Invented people, firms, places and things, so that a generator can be trained on endless edits.

Names are drawn from syllables by a seeded generator; a name belongs to a split by its hash, as
real ones do, so no name of the test split is ever seen in training.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from seprog.atlas.world import Fact, Relation, Split, World, split_of

ONSETS = "b br c ch d dr f g gr h j k kl l m n p pr r s sh st t th tr v w y z".split()
NUCLEI = "a e i o u a e i o ai ea ou".split()
CODAS = ["", "", "", "l", "n", "r", "s", "m", "k", "th", "x"]
TITLES = ("{} and the River", "The Garden of {}", "The Last Days of {}", "Songs of {}", "{}")
FIRMS = ("{}", "{} Motors", "{} Labs", "{} Bank", "{} Foods")


def word(rng: random.Random, syllables: int) -> str:
    """An invented word in lower case."""
    parts = (
        rng.choice(ONSETS) + rng.choice(NUCLEI) + (rng.choice(CODAS) if last else "")
        for last in [False] * (syllables - 1) + [True]
    )
    return "".join(parts)


def _title(rng: random.Random) -> str:
    return rng.choice(TITLES).format(word(rng, rng.choice((2, 3))).capitalize())


NAMERS: dict[str, Callable[[random.Random], str]] = {
    "person": lambda r: f"{word(r, 2).capitalize()} {word(r, r.choice((2, 2, 3))).capitalize()}",
    "city": lambda r: word(r, r.choice((2, 3))).capitalize(),
    "country": lambda r: word(r, 2).capitalize() + r.choice(("ia", "land", "stan", "ia")),
    "company": lambda r: r.choice(FIRMS).format(word(r, r.choice((2, 3))).capitalize()),
    "book": _title,
    "film": _title,
    "painting": _title,
    "element": lambda r: word(r, 2) + "ium",
    "organism": lambda r: word(r, r.choice((2, 3))),
}


def invent(type_: str, split: Split, rng: random.Random) -> str:
    """A new name for an entity of the given type, belonging to the given split.

    Raises:
        KeyError: If things of this type cannot be invented (currencies, genres and the like).
    """
    return _of_split(split, lambda: NAMERS[type_](rng))


def compose(words: Sequence[str], split: Split, rng: random.Random) -> str:
    """A name of one or two of the words, belonging to the given split."""
    return _of_split(split, lambda: " ".join(rng.choices(words, k=rng.randint(1, 2))))


@cache
def real_names(world: World) -> frozenset[str]:
    """Every name and value that the tables hold."""
    return frozenset(name for key, value in world.facts.items() for name in (key[1], value))


def respelt(
    world: World, facts: Iterable[Fact], words: Sequence[str], split: Split, rng: random.Random
) -> dict[Fact, Fact]:
    """The facts with most of their invented names made of the words, the same name in the same way.

    Args:
        world: The tables; names that they hold stay.
        facts: Any number of them.
        words: See ``spellings`` of the tokenizer.
        split: That the new names belong to.
        rng: Source of chance.

    Returns:
        By each fact, the new one.
    """
    facts = list(facts)
    new = {
        name: compose(words, split, rng)
        for name in dict.fromkeys(n for f in facts for n in (f.subject, f.object))
        if name not in real_names(world) and rng.random() < 0.75
    }
    return {
        f: Fact(new.get(f.subject, f.subject), f.relation, new.get(f.object, f.object))
        for f in facts
    }


def _of_split(split: Split, draw: Callable[[], str]) -> str:
    return next(name for name in iter(draw, None) if split_of(name) == split)


def counterfact(
    world: World,
    relation: Relation,
    split: Split,
    rng: random.Random,
    subject: str | None = None,
    object: str | None = None,
    invented_subject: float = 0.5,
    invented_object: float = 0.35,
) -> Fact:
    """A false fact about a real subject, or any fact about an invented one.

    Args:
        world: The true facts; the new one never agrees with them.
        relation: What the fact states.
        split: Where the subject's name (and an invented object's) comes from.
        rng: Source of chance.
        subject: A given subject; ``None`` draws one.
        object: A given object; ``None`` draws one.
        invented_subject: Probability that a drawn subject is invented (0 to 1).
        invented_object: Probability that a drawn object is invented, where it can be (0 to 1).

    Returns:
        The fact.
    """
    if subject is None:
        known = split_entities(world, relation.subject, split)
        invented = rng.random() < invented_subject or not known
        subject = invent(relation.subject, split, rng) if invented else rng.choice(known)
    while object is None or object in (subject, world.facts.get((relation.name, subject))):
        if relation.object in NAMERS and rng.random() < invented_object:
            object = invent(relation.object, split, rng)
        else:
            object = rng.choice(world.objects(relation.object))
    return Fact(subject, relation.name, object)


@cache
def split_entities(world: World, type_: str, split: Split) -> list[str]:
    """The real entities of a type whose names belong to the split."""
    return [n for n in world.entities[type_] if split_of(n) == split]
