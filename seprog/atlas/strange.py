"""Sentences in words that mean nothing: only a question's own names and words say what it is about.

A model that is trained from scratch has seen no English but its own phrasings, and learns those
too well: the longer it is trained, the worse it reads in others. Here every document brings words
of its own. A question belongs to the statement that shares a name and the words with it, in
whatever order, and is answered by that statement's other name. For training only.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from seprog.atlas.wording import FUNCTION_WORDS, content_words
from seprog.atlas.world import Fact, World, fill, tidy
from seprog.data.documents import Piece


def lexicon(world: World, invented: Sequence[str], rng: random.Random) -> Sequence[str]:
    """Where a document's words are drawn from: invented words, or those of the phrasings."""
    return invented if invented and rng.random() < 0.5 else content_words(world)


def strange_sentence(content: Sequence[str], name: str, rng: random.Random) -> str:
    """Content words, function words and a name in any order; a question now and then.

    Args:
        content: Words that are all in it.
        name: Stands once in it.
        rng: Source of chance.
    """
    words = [*content, *rng.choices(sorted(FUNCTION_WORDS), k=rng.randint(1, 5))]
    rng.shuffle(words)
    words.insert(rng.randint(0, len(words)), name)
    return " ".join(words) + ("?" if rng.random() < 0.3 else "")


def strange_pieces(
    facts: Sequence[Fact], words: Sequence[str], queries: int, rng: random.Random
) -> list[Piece]:
    """Statements of the facts, then queries about them and about the names that they end in.

    Args:
        facts: One to a few, no two about the same thing.
        words: Where those of each relation are drawn from; see ``lexicon``.
        queries: How many.
        rng: Source of chance.

    Returns:
        Texts, each with whether it is to be learnt.
    """
    content = {f.relation: rng.sample(words, rng.randint(1, 3)) for f in facts}
    prompts = {f: fill(strange_sentence(content[f.relation], "{s}", rng), f.subject) for f in facts}
    ends = Counter((f.relation, f.object) for f in facts)
    pieces: list[Piece] = [(f"{prompts[f]} {f.object}.", False) for f in facts]
    rng.shuffle(pieces)
    for _ in range(queries):
        fact, kind = rng.choice(facts), rng.random()
        told, answer = content[fact.relation], fact.object
        if kind < 0.3:
            prompt = prompts[fact]
        elif kind < 0.65 or ends[fact.relation, fact.object] > 1:
            prompt = fill(strange_sentence(told, "{s}", rng), fact.subject)
        else:
            prompt = tidy(strange_sentence(told, fact.object, rng))
            answer = fact.subject
        pieces += [(prompt, False), (f"{answer}.", True)]
    return pieces
