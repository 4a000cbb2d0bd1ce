"""Walks: questions of several hops, from any start and with any facts edited."""

from __future__ import annotations

import itertools
import random

import pytest

from seprog.training.facts import Fact
from seprog.training.hops import Asked, HopCorpus, Hops, Walk, hop_scopes, hop_stages
from seprog.types import Edit


def fact(subject: str, relation: str, answer: str) -> Fact:
    return Fact(subject, (f"The {relation} of {subject} is",), answer, relation)


HOME = {name: fact(name, "home", land) for name, land in {"Ann": "Zed", "Bob": "Ur"}.items()}
CHIEF = {land: fact(land, "chief", name) for land, name in {"Zed": "Kay", "Ur": "Lou"}.items()}
FACTS = [*HOME.values(), *CHIEF.values()]
WALK = Walk("Who leads the home of {}?", ("home", "chief"))


def test_a_walk_goes_on_from_what_is_edited() -> None:
    hops = Hops(FACTS, [WALK], FACTS)
    assert hops.follow(WALK, "Ann", {}) == Asked(
        "Who leads the home of Ann?", "Kay", (HOME["Ann"], CHIEF["Zed"])
    )
    moved = hops.follow(WALK, "Ann", {HOME["Ann"]: "Ur"})
    assert moved is not None and moved.answer == "Lou"
    assert moved.used({HOME["Ann"]: "Ur", CHIEF["Zed"]: "Max"}) == (HOME["Ann"],)
    assert hops.follow(WALK, "Ann", {HOME["Ann"]: "Nowhere"}) is None
    assert hops.follow(WALK, "Nobody", {}) is None


def test_what_is_drawn_rests_on_all_its_edits() -> None:
    never = {HOME["Ann"].prompts[0]: ("Ur",)}
    hops = Hops(FACTS, [WALK], [*HOME.values(), CHIEF["Ur"]], never)
    seen = set()
    for seed in range(40):
        given, asked = hops.draw(random.Random(seed))
        assert given and asked == hops.follow(WALK, asked.facts[0].subject, given)
        assert asked.used(given) == tuple(given)
        assert all(answer != f.answer for f, answer in given.items())
        assert given.get(HOME["Ann"]) != "Ur" and CHIEF["Zed"] not in given
        seen |= set(given)
    assert seen == {HOME["Bob"], CHIEF["Ur"]}
    with pytest.raises(ValueError, match="No walk"):
        Hops(FACTS, [WALK], []).draw(random.Random(0))


def test_longer_walks_lead_where_their_hops_do() -> None:
    friend = fact("Cy", "friend", "Ann")
    hops = Hops([*FACTS, friend], [WALK], [*FACTS, friend], longer=True)
    _, longer = hops.pools
    behind = Walk("Who leads the home of the friend of {}?", ("friend", "home", "chief"))
    assert behind in longer
    for walk in longer:
        assert 2 <= len(walk.relations) <= 4
        assert any(hops.follow(walk, name, {}) for name in ("Ann", "Bob", "Cy", "Zed", "Ur"))
    asked = {len(hops.draw(random.Random(seed))[1].facts) for seed in range(40)}
    assert asked == {2, 3}


def test_names_stay_whole_in_scrambled_documents() -> None:
    hops = Hops(FACTS, [WALK], FACTS, longer=True)
    corpus = HopCorpus(FACTS, FACTS, hops, [], random.Random(0), 1.0, noise=1.0)
    plain = {p for f in FACTS for p in f.prompts}
    said = {
        text
        for document in itertools.islice(corpus, 60)
        for text, learnt in document.pieces
        if not learnt
    }
    assert any(not any(text.startswith(p) for p in plain) for text in said)
    assert all(any(f.subject in text for f in FACTS) for text in said)


def test_a_gate_is_asked_for_edits_that_are_named_only() -> None:
    hops = Hops(FACTS, [WALK], FACTS)
    given = {HOME["Ann"]: "Ur", CHIEF["Ur"]: "Max", CHIEF["Zed"]: "Pat"}
    known = {f: Edit(f.stated(a), id=str(i)) for i, (f, a) in enumerate(given.items())}
    chain = hops.follow(WALK, "Ann", given)
    assert chain is not None
    first, second, last = hop_stages(chain, given, known, "Ann")
    home, chief = known[HOME["Ann"]], known[CHIEF["Ur"]]
    assert first.right == (home,) and chief.id in first.unclear
    assert second.right == (chief,) and second.told == (home,) and home.statement in second.text
    assert last.right == () and last.told == (home, chief) and not last.unclear
    hidden = hops.follow(WALK, "Bob", given)  # the edit is on Ur, which the question does not name
    assert hidden is not None
    [only] = hop_stages(hidden, given, known, "Bob")
    assert only.right == () and only.unclear == {chief.id}


def test_memories_ask_for_several_hops() -> None:
    scopes = hop_scopes(Hops(FACTS, [WALK], FACTS), FACTS, 2, random.Random(0))
    assert len(scopes.edits) == 2
    assert any(stage.text.startswith("Who leads the home of") for stage in scopes.stages)
