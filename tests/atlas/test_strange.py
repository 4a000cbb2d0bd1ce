"""Strange sentences can be answered from their names and words alone."""

from __future__ import annotations

import random

from seprog.atlas.corpus import Corpus
from seprog.atlas.strange import strange_pieces, strange_sentence
from seprog.atlas.wording import FUNCTION_WORDS, content_words
from seprog.atlas.world import Fact, load_world

WORLD = load_world()
FACTS = [
    Fact("Ann", "capital", "Oslo"),
    Fact("Bob", "capital", "Rome"),
    Fact("Ann", "author", "Max"),
    Fact("Cy", "author", "Max"),
]
LEXICON = ["blick", "dax", "wug", "fep", "toma", "zup"]


def test_a_sentence_holds_its_words_and_its_name() -> None:
    rng, orders = random.Random(0), set()
    for _ in range(200):
        text = strange_sentence(["blick", "dax"], "Ann Lee", rng)
        words = text.removesuffix("?").replace("Ann Lee", "ANN").split()
        assert {"blick", "dax", "ANN"} <= set(words)
        assert set(words) - {"blick", "dax", "ANN"} <= FUNCTION_WORDS
        orders.add(tuple(w for w in words if w in ("blick", "dax", "ANN")))
    assert len(orders) == 6


def test_a_question_shares_a_name_and_words_with_one_statement_that_has_the_answer() -> None:
    turned = 0
    for seed in range(300):
        rng = random.Random(seed)
        pieces = strange_pieces(FACTS, LEXICON, 6, rng)
        told, asked = [t for t, learn in pieces[:4] if not learn], pieces[4:]
        assert len(told) == 4 and [learn for _, learn in asked] == [False, True] * 6
        for (prompt, _), (answer, _) in zip(asked[::2], asked[1::2], strict=True):
            name = answer.removesuffix(".")
            named = [n for n in ("Ann", "Bob", "Cy", "Oslo", "Rome", "Max") if n in prompt.split()]
            named += [n for n in ("Ann", "Bob", "Cy", "Oslo", "Rome") if f"{n}?" in prompt.split()]
            assert any(f.subject == name or f.object == name for f in FACTS)
            assert name not in named
            turned += name in ("Ann", "Bob", "Cy")
            assert not (name in ("Ann", "Cy") and "Max" in named)  # Max is of two
    assert turned > 200


def test_the_corpus_has_its_share_of_them() -> None:
    known = set(content_words(WORLD)) | FUNCTION_WORDS
    assert {"capital", "author", "whom"} <= known
    corpus = Corpus(WORLD, random.Random(0), strange=1.0, words=("Blick", "Dax", "Wug"))
    mine = [corpus.open_document() for _ in range(40)]
    texts = " ".join(t for d in mine for t, _ in d.pieces)
    assert "Blick" in texts and "{" not in texts
    plain = Corpus(WORLD, random.Random(0), strange=0.0, noise=0.0)
    assert all(d.fact == -1 for d in mine)
    assert plain.open_document().pieces != mine[0].pieces
