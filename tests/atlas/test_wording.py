"""Articles, prompts and sentences."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from seprog.atlas.wording import (
    FUNCTION_WORDS,
    framed,
    framed_inversions,
    held_out,
    inversions,
    nestable,
    normal,
    nouns,
    say_fact,
    say_query,
    scramble,
    turn,
)
from seprog.atlas.world import (
    TRAINING,
    WORDINGS,
    Fact,
    Query,
    Relation,
    Wording,
    asks,
    fill,
    load_world,
    tidy,
)

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


@pytest.mark.parametrize("split", WORDINGS)
def test_a_fact_is_said_in_the_phrasings_of_its_split(split: Wording) -> None:
    rng, fact = random.Random(0), Fact("Peru", "capital", "Oslo")
    relation = WORLD.relations["capital"]
    stated = {say_fact(WORLD, fact, split, rng) for _ in range(4000)}
    asked = {say_fact(WORLD, fact, split, rng, asked=1.0) for _ in range(4000)}

    def filled(phrasings: Iterable[str]) -> set[str]:
        return {tidy(p.replace("{s}", "Peru").replace("{o}", "Oslo")) for p in phrasings}

    frames = framed(relation) if split in TRAINING else ()
    for found, question in ((stated, False), (asked, True)):
        listed = [p for p in relation.phrasings[split] if asks(p) == question]
        extra = found - filled(listed)
        assert found >= filled(listed)
        assert extra <= filled(f for f in frames if asks(f) == question)
        assert bool(extra) == (split in TRAINING)


@pytest.mark.parametrize("relation", WORLD.relations.values(), ids=list(WORLD.relations))
def test_framed_phrasings_are_new_and_not_held_out(relation: Relation) -> None:
    frames = framed(relation)
    assert len(set(frames)) == len(frames) > 60
    assert all(f.endswith(" {o}.") and f.count("{s}") == f.count("{o}") == 1 for f in frames)
    assert any("?" in f for f in frames) and any("?" not in f for f in frames)
    assert not {normal(f) for f in frames} & held_out(relation)
    assert nouns(relation, "test") == relation.nouns["test"]
    for wording in TRAINING:
        assert not {normal(n) for n in nouns(relation, wording)} & held_out(relation)
        said = (*relation.phrasings[wording], *relation.inverses[wording])
        assert len(set(said)) == len(said) and not {normal(p) for p in said} & held_out(relation)
    assert len(relation.phrasings["many"]) > 5 * len(relation.phrasings["train"])


@pytest.mark.parametrize("relation", WORLD.relations.values(), ids=list(WORLD.relations))
def test_framed_inversions_are_new_and_not_held_out(relation: Relation) -> None:
    found = framed_inversions(relation)
    ends = any(n.endswith(" {s}") for n in nouns(relation, "train"))
    assert len(set(found)) == len(found)
    assert len(found) > 30 or not (relation.one_to_one and ends)
    assert all(f.endswith(" {s}.") and f.count("{s}") == f.count("{o}") == 1 for f in found)
    # not even inside a longer sentence
    held = [form for form in held_out(relation) if "{o}" in form]
    assert not [f for f in map(normal, found) if any(form in f for form in held)]


def test_what_is_normal_does_not_depend_on_case_points_and_articles() -> None:
    assert normal("What is the capital of {s}? {o}.") == "what is capital of {s} {o}"
    assert normal("{s}'s capital") == normal("{s} 's the Capital")


def test_scrambling_never_gives_what_is_forbidden() -> None:
    rng, phrasing = random.Random(0), "{s} capital? {o}."
    forbidden = frozenset({normal("capital {s} {o}"), normal("{s} capital {o}")})
    mixed = {scramble(phrasing, rng, forbidden) for _ in range(300)}
    assert phrasing in mixed and len(mixed) > 20
    assert not {normal(m) for m in mixed - {phrasing}} & forbidden


@pytest.mark.parametrize("split", WORDINGS)
def test_queries_nest_their_hops_and_turn_around(split: Wording) -> None:
    rng, capital = random.Random(0), WORLD.relations["capital"]
    named = nouns(WORLD.relations["citizenship"], split)
    said = {n.replace("{s}", "Ann Bo") for n in named}
    for _ in range(20):
        prompt = say_query(WORLD, Query("Ann Bo", ("citizenship", "capital")), split, rng)
        assert any(n.removeprefix("the ") in prompt for n in said)
        assert not prompt.endswith(".") and "{" not in prompt
        inverse = say_query(WORLD, Query("Lima", ("capital",), inverse=True), split, rng)
        assert any(
            inverse == turn(p, "Lima")
            for p in (*capital.inverses[split], *framed_inversions(capital))
        )
        assert inversions(capital, split, rng) == capital.inverses[split] or split in TRAINING


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


def test_a_noun_phrase_stands_where_it_can() -> None:
    said = ("The city of {s} is in {o}.", "{s}'s country is {o}.", "{s} is in {o}.")
    assert nestable(said, "city") == ("{s} is in {o}.",)
    assert nestable(said[:1], "city") == said[:1]
    rng = random.Random(0)
    query = Query("Ann Bo", ("birthplace", "city_country"))
    for split in WORDINGS:
        prompts = {say_query(WORLD, query, split, rng) for _ in range(60)}
        assert not any("city of the city" in p.lower() for p in prompts)
