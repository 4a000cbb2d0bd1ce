"""Articles, prompts and sentences."""

from __future__ import annotations

import random

import pytest

from seprog.atlas.wording import FUNCTION_WORDS, say_fact, say_query, scramble
from seprog.atlas.world import SPLITS, Fact, Query, Split, fill, load_world, tidy

WORLD = load_world()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A ape is", "An ape is"),
        ("what is a owl?", "What is an owl?"),
        ("A cat is", "A cat is"),
        ("an cat is", "A cat is"),
        ("an owl", "An owl"),
        ("a unicorn", "A unicorn"),
        ("a the class of the owl is", "The class of the owl is"),
        ("Is the an owl here", "Is an owl here"),
        ("the body of a the bird", "The body of the bird"),
        ("known for an 81-point game", "Known for an 81-point game"),
        ("banana is a example", "Banana is an example"),
        ("Alpha and", "Alpha and"),
        ("", ""),
    ],
)
def test_articles_and_capitals(text: str, expected: str) -> None:
    assert tidy(text) == expected
    assert tidy(expected) == expected


def test_a_prompt_is_a_phrasing_without_its_object() -> None:
    assert fill("The capital of {s} is {o}.", "Peru") == "The capital of Peru is"
    assert fill("What is a {s}? {o}.", "owl") == "What is an owl?"
    assert fill("{s} is a {o}.", "iron") == "Iron is a"


@pytest.mark.parametrize("split", SPLITS)
def test_a_fact_is_said_in_the_phrasings_of_its_split(split: Split) -> None:
    rng, fact = random.Random(0), Fact("Peru", "capital", "Oslo")
    relation = WORLD.relations["capital"]
    stated = {say_fact(WORLD, fact, split, rng) for _ in range(60)}
    asked = {say_fact(WORLD, fact, split, rng, asked=1.0) for _ in range(60)}

    def filled(phrasings: tuple[str, ...]) -> set[str]:
        return {p.replace("{s}", "Peru").replace("{o}", "Oslo") for p in phrasings}

    assert stated == filled(relation.statements(split))
    assert asked == filled(relation.questions(split))


@pytest.mark.parametrize("split", SPLITS)
def test_queries_nest_their_hops_and_turn_around(split: Split) -> None:
    rng, capital = random.Random(0), WORLD.relations["capital"]
    nouns = {n.replace("{s}", "Ann Bo") for n in WORLD.relations["citizenship"].nouns[split]}
    for _ in range(20):
        prompt = say_query(WORLD, Query("Ann Bo", ("citizenship", "capital")), split, rng)
        assert any(n.removeprefix("the ") in prompt for n in nouns)
        assert not prompt.endswith(".") and "{" not in prompt
        inverse = say_query(WORLD, Query("Lima", ("capital",), inverse=True), split, rng)
        assert any(
            inverse == tidy(p.replace("{o}", "Lima").removesuffix(" {s}."))
            for p in capital.inverses[split]
        )


def test_a_prompt_can_be_avoided() -> None:
    rng, query = random.Random(0), Query("Peru", ("capital",))
    avoid = say_query(WORLD, query, "calibration", rng)
    others = {say_query(WORLD, query, "calibration", rng, avoid=avoid) for _ in range(20)}
    assert others and avoid not in others


def test_scrambled_phrasings_keep_what_matters() -> None:
    rng = random.Random(0)
    phrasings = [p for r in WORLD.relations.values() for p in r.phrasings["train"]]
    assert len(phrasings) > 150
    changed = 0
    for phrasing in phrasings:
        mixed = scramble(phrasing, rng)
        changed += mixed != phrasing
        assert mixed.endswith(" {o}.") and mixed.count("{s}") == mixed.count("{o}") == 1

        def content(text: str) -> list[str]:
            words = text.removesuffix("{o}.").replace("?", "").lower().split()
            return sorted(w for w in words if w not in FUNCTION_WORDS)

        assert content(mixed) == content(phrasing)
    assert changed > len(phrasings) / 2
