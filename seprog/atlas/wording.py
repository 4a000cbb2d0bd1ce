"""Facts and queries in words, in the phrasings of one split, or of other writers."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from functools import cache

from seprog.atlas.world import (
    TRAINING,
    WORDINGS,
    Fact,
    Query,
    Relation,
    Wording,
    World,
    asks,
    fill,
    tidy,
)

FUNCTION_WORDS = frozenset(
    "a an and as by called can do does for has have in is its it known me name of on tell that the "
    "to was what where which who with you".split()
)
"""Words that carry no relation by themselves."""

STATEMENT_FRAMES = (
    "{n} is {o}.",
    "{n} is called {o}.",
    "{n} is known as {o}.",
    "The name of {n} is {o}.",
    "It is known that {n} is {o}.",
    "People say that {n} is {o}.",
    "People know {n} as {o}.",
    "For {n} people give {o}.",
    "As for {n}, it is {o}.",
    "What we call {n} is {o}.",
)
QUESTION_FRAMES = (
    "What is {n}? {o}.",
    "Which is {n}? {o}.",
    "Tell me what {n} is? {o}.",
    "Please name {n}? {o}.",
    "Do you know {n}? {o}.",
    "{n} is what? {o}.",
    "{n} is called what? {o}.",
    "What do people call {n}? {o}.",
    "What is the name of {n}? {o}.",
    "By what name do you know {n}? {o}.",
)
"""Sentences around a noun phrase ``{n}`` for the object; for training only."""
ROLE_FRAMES = (
    "{s} has the {r} {o}.",
    "{s} has a {r} that is {o}.",
    "The {r} which {s} has is {o}.",
    "The {r} {s} has is called {o}.",
    "For {s} the {r} is {o}.",
    "In the case of {s} the {r} is {o}.",
    "About {s} people know the {r} {o}.",
    "When people speak of the {r} of {s} they mean {o}.",
    "What {r} does {s} have? {o}.",
    "Which {r} has {s}? {o}.",
    "{s} has what {r}? {o}.",
    "Who or what is {r} of {s}? {o}.",
    "For {s}, which {r} is right? {o}.",
    "Do people know which {r} {s} has? {o}.",
)
"""Sentences around the role ``{r}`` that the object plays for the subject; for training only."""
INVERSE_FRAMES = (
    "{o} is {h} {s}.",
    "{o} is known as {h} {s}.",
    "{o} is called {h} {s}.",
    "People know {o} as {h} {s}.",
    "It is known that {o} is {h} {s}.",
    "As for {o}, it is {h} {s}.",
    "{o} is {h} which {t}? {s}.",
    "Do you know {h} which {t} {o} is? {s}.",
    "Please name the {t}, {o} is {h} it? {s}.",
    "Which is the {t}, if {o} is {h} it? {s}.",
)
"""Sentences around the head ``{h}`` of a noun phrase that ends with the subject, of type ``{t}``,
which ask for that subject; for training only."""
INVERSE_ROLE_FRAMES = (
    "The {t} whose {r} is {o} is {s}.",
    "The {t} with {o} as {r} is {s}.",
    "With the {r} {o} there is the {t} {s}.",
    "{o} as a {r} belongs to {s}.",
    "{o} is {r} to the {t} {s}.",
    "Which {t} has {o} for a {r}? {s}.",
    "What {t} goes with the {r} {o}? {s}.",
    "{o} is {r} to which {t}? {s}.",
    "If {o} is the {r}, which is the {t}? {s}.",
)
"""Sentences around the role of the object, which ask for the subject; for training only."""
FRAMED = 0.5
"""Share of the training phrasings that are made of a frame (0 to 1)."""


def for_training(others: float, rng: random.Random) -> Wording:
    """More writers' phrasings with probability ``others`` (0 to 1), else the training split's."""
    return "many" if others and rng.random() < others else "train"


def normal(phrasing: str) -> str:
    """A phrasing without what does not make it another one: case, punctuation, articles."""
    words = re.findall(r"\{\w\}|[\w']+", phrasing.lower().replace("'s", " 's"))
    return " ".join(w for w in words if w not in ("a", "an", "the"))


@cache
def held_out(relation: Relation) -> frozenset[str]:
    """Everything that no training text may say, ``normal``."""
    tables = (relation.phrasings, relation.nouns, relation.inverses)
    return frozenset(normal(p) for t in tables for w in WORDINGS if w not in TRAINING for p in t[w])


def _sayable(relation: Relation, texts: Iterable[str]) -> tuple[str, ...]:
    """Those that are not held out, each once."""
    return tuple(dict.fromkeys(t for t in texts if normal(t) not in held_out(relation)))


@cache
def nouns(relation: Relation, wording: Wording) -> tuple[str, ...]:
    """Noun phrases for the object; in training also those that open a statement."""
    listed = relation.nouns[wording]
    if wording not in TRAINING:
        return listed
    found = (
        re.fullmatch(r"The (.*\{s\}.*?) (?:is|are|is called)(?: the)? \{o\}\.", p)
        for p in relation.phrasings[wording]
    )
    return _sayable(relation, [*listed, *(f"the {m[1]}" for m in found if m)])


@cache
def roles(relation: Relation) -> tuple[str, ...]:
    """What the object is to the subject, in one or two words of the training phrasings."""
    found = (re.fullmatch(r"the (\w+(?: \w+)?) of \{s\}", n) for n in nouns(relation, "train"))
    return tuple(dict.fromkeys(m[1] for m in found if m))


@cache
def framed(relation: Relation) -> tuple[str, ...]:
    """Training phrasings made of a noun phrase or a role and a frame, none of them held out."""
    made = [
        frame.replace("{n}", noun)
        for noun in nouns(relation, "train")
        for frame in STATEMENT_FRAMES + QUESTION_FRAMES
    ]
    made += [frame.replace("{r}", role) for role in roles(relation) for frame in ROLE_FRAMES]
    return _sayable(relation, made)


@cache
def framed_inversions(relation: Relation) -> tuple[str, ...]:
    """Training phrasings that ask for the subject, made of a noun or a role and a frame."""
    heads = [n.removesuffix(" {s}") for n in nouns(relation, "train") if n.endswith(" {s}")]
    heads = [h for h in heads if normal(f"{{o}} is {h} {{s}}.") not in held_out(relation)]
    made = [frame.replace("{h}", head) for head in heads for frame in INVERSE_FRAMES]
    made += [frame.replace("{r}", r) for r in roles(relation) for frame in INVERSE_ROLE_FRAMES]
    return _sayable(relation, [frame.replace("{t}", relation.subject) for frame in made])


@cache
def content_words(world: World) -> tuple[str, ...]:
    """Words of the training phrasings, those that carry no relation by themselves left out."""
    texts = (p for r in world.relations.values() for p in (*framed(r), *r.phrasings["train"]))
    words = (w for t in texts for w in re.findall(r"(?<!\{)\b[a-z]+\b(?!\})", t.lower()))
    return tuple(dict.fromkeys(w for w in words if w not in FUNCTION_WORDS and len(w) > 1))


def phrasings(
    relation: Relation, wording: Wording, rng: random.Random, asked: bool | None = None
) -> tuple[str, ...]:
    """The phrasings to choose from: those that were written or, at times in training, framed.

    Args:
        relation: What is said.
        wording: Whose phrasings.
        rng: Source of chance.
        asked: Whether as a question; ``None`` takes both.
    """
    frames = wording in TRAINING and rng.random() < FRAMED
    options = framed(relation) if frames else relation.phrasings[wording]
    return options if asked is None else _either(options, asked)


@cache
def _either(options: tuple[str, ...], asked: bool) -> tuple[str, ...]:
    return tuple(p for p in options if asks(p) == asked)


def inversions(relation: Relation, wording: Wording, rng: random.Random) -> tuple[str, ...]:
    """The phrasings that ask for the subject to choose from, as ``phrasings``."""
    frames = wording in TRAINING and rng.random() < FRAMED
    return (frames and framed_inversions(relation)) or relation.inverses[wording]


def scramble(phrasing: str, rng: random.Random, forbidden: frozenset[str] = frozenset()) -> str:
    """A phrasing in another order, with function words lost and found.

    A model that is trained from scratch has seen no English but its own few phrasings; scrambled
    ones teach it to go by a phrasing's subject and its content words. For training only.

    Args:
        phrasing: With ``{s}`` and ``{o}``; the one that it ends with stays at the end.
        rng: Source of chance.
        forbidden: What must not come out, ``normal``; the phrasing itself comes out instead.

    Returns:
        Another phrasing of the same words.
    """
    body = re.sub(r"\{[so]\}\.$", "", phrasing).rstrip()
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
    mixed = " ".join(words) + ending
    return phrasing if normal(mixed) in forbidden else mixed


def say_fact(
    world: World,
    fact: Fact,
    wording: Wording,
    rng: random.Random,
    asked: float = 0.0,
    noise: float = 0.0,
) -> str:
    """A sentence that states a fact.

    Args:
        world: Supplies the phrasings.
        fact: What is stated.
        wording: Whose phrasings.
        rng: Source of chance.
        asked: Probability of a question with its answer instead (0 to 1).
        noise: Probability that the phrasing is scrambled (0 to 1).

    Returns:
        The sentence.
    """
    relation = world.relations[fact.relation]
    asks = rng.random() < asked
    phrasing = rng.choice(phrasings(relation, wording, rng, asks))
    if rng.random() < noise:
        phrasing = scramble(phrasing, rng, held_out(relation))
    return f"{fill(phrasing, fact.subject)} {fact.object}."


def say_query(
    world: World,
    query: Query,
    wording: Wording,
    rng: random.Random,
    avoid: str | None = None,
    noise: float = 0.0,
) -> str:
    """A prompt that asks the query: a question, or a statement without its end.

    Args:
        world: Supplies the phrasings.
        query: What is asked.
        wording: Whose phrasings.
        rng: Source of chance.
        avoid: A prompt that must not come out again (where another phrasing exists).
        noise: Probability that the outermost phrasing is scrambled (0 to 1).

    Returns:
        The prompt.
    """
    *inner, last = query.path
    subject = query.start
    for i, name in enumerate(inner):
        named = nouns(world.relations[name], wording)
        if i:
            named = nestable(named, world.relations[name].subject)
        subject = rng.choice(named).replace("{s}", subject)
    relation = world.relations[last]
    found = (inversions if query.inverse else phrasings)(relation, wording, rng)
    said = _mixed(nestable(found, relation.subject) if inner else found, relation, rng, noise)
    put = turn if query.inverse else fill
    if avoid is not None:
        said = tuple(p for p in said if put(p, subject) != avoid) or said
    return put(rng.choice(said), subject)


def turn(phrasing: str, object_: str) -> str:
    """A prompt that asks for the subject: the phrasing with its object, without the subject."""
    return tidy(phrasing.replace("{o}", object_).removesuffix("{s}.").rstrip())


@cache
def nestable(phrasings: tuple[str, ...], type_: str) -> tuple[str, ...]:
    """Those in which a whole noun phrase can stand for the subject, or all if there are none.

    None does behind its own type ("the city of the city where Ann was born"), nor before an 's.

    Args:
        phrasings: With ``{s}``.
        type_: The subject's.
    """
    wrong = re.compile(rf"\b{type_}( of| called| named)? \{{s\}}|\{{s\}}'s", re.IGNORECASE)
    return tuple(p for p in phrasings if not wrong.search(p)) or phrasings


def _mixed(
    said: tuple[str, ...], relation: Relation, rng: random.Random, noise: float
) -> tuple[str, ...]:
    """The phrasings, or with probability ``noise`` one of them, scrambled."""
    if rng.random() >= noise:
        return said
    return (scramble(rng.choice(said), rng, held_out(relation)),)
