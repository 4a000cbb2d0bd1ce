"""The oracle: right answers in a world with edits, and the edits they rest on."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from seprog.atlas.corpus import chains, closed_book_queries, walk_query
from seprog.atlas.scenario import make_scenario
from seprog.atlas.world import (
    SPLITS,
    WORDINGS,
    Fact,
    Key,
    Outcome,
    Query,
    Relation,
    Split,
    World,
    load_world,
)


def relation(name: str, subject: str, object: str, **options: bool) -> Relation:
    empty: dict = dict.fromkeys(WORDINGS, ())
    flags = {"one_to_one": False, "inherited": False} | options
    return Relation(
        name, subject, object, name, **flags, phrasings=empty, nouns=empty, inverses=empty
    )


RELATIONS = [
    relation("home", "person", "country"),
    relation("capital", "country", "city", one_to_one=True),
    relation("language", "country", "language"),
    relation("kind", "organism", "organism"),
    relation("covering", "organism", "covering", inherited=True),
]
FACTS = {
    ("home", "Ann"): "France",
    ("capital", "France"): "Paris",
    ("capital", "Peru"): "Lima",
    ("language", "France"): "French",
    ("language", "Peru"): "Spanish",
    ("kind", "sparrow"): "bird",
    ("kind", "kiwi"): "bird",
    ("kind", "bird"): "animal",
    ("kind", "carp"): "fish",
    ("covering", "animal"): "skin",
    ("covering", "bird"): "feathers",
    ("covering", "kiwi"): "down",
}
WORLD = World({r.name: r for r in RELATIONS}, FACTS)


def ask(
    start: str, *path: str, edits: tuple[Fact, ...] = (), inverse: bool = False
) -> Outcome | None:
    held: dict[Key, Fact] = {f.key: f for f in edits}
    return WORLD.answer(Query(start, path, inverse), held)


def test_without_edits_it_is_the_tables() -> None:
    assert ask("France", "capital") == Outcome("Paris")
    assert ask("Ann", "home", "language") == Outcome("French")
    assert ask("Ann", "capital") is None and ask("Bob", "home", "language") is None
    assert WORLD.answer(Query("France", ("capital",))) == Outcome("Paris")


def test_an_edit_answers_its_own_question() -> None:
    edit = Fact("France", "capital", "Lyon")
    assert ask("France", "capital", edits=(edit,)) == Outcome("Lyon", (edit,))
    assert ask("Peru", "capital", edits=(edit,)) == Outcome("Lima")
    new = Fact("Zed", "capital", "Zedville")
    assert ask("Zed", "capital", edits=(edit, new)) == Outcome("Zedville", (new,))


def test_edits_are_used_in_the_order_of_the_hops() -> None:
    home, language = Fact("Ann", "home", "Peru"), Fact("Peru", "language", "Quechua")
    assert ask("Ann", "home", "language", edits=(home,)) == Outcome("Spanish", (home,))
    assert ask("Ann", "home", "language", edits=(language,)) == Outcome("French")
    for edits in ((home, language), (language, home)):
        assert ask("Ann", "home", "language", edits=edits) == Outcome("Quechua", (home, language))
    assert ask("Ann", "home", "capital", edits=(language, home)) == Outcome("Lima", (home,))


def test_a_step_into_the_unknown_has_no_answer() -> None:
    assert ask("Ann", "home", "language", edits=(Fact("Ann", "home", "Zed"),)) is None


def test_values_are_inherited_unless_there_is_a_nearer_one() -> None:
    assert ask("sparrow", "covering") == Outcome("feathers")
    assert ask("kiwi", "covering") == Outcome("down")
    assert ask("bird", "covering") == Outcome("feathers")
    assert ask("carp", "covering") is None  # fish has none and no class
    assert ask("sparrow", "home") is None


def test_edits_along_the_inheritance() -> None:
    scales = Fact("bird", "covering", "scales")
    assert ask("sparrow", "covering", edits=(scales,)) == Outcome("scales", (scales,))
    assert ask("kiwi", "covering", edits=(scales,)) == Outcome("down")
    kind = Fact("sparrow", "kind", "animal")
    assert ask("sparrow", "covering", edits=(kind,)) == Outcome("skin", (kind,))
    assert ask("sparrow", "covering", edits=(kind, scales)) == Outcome("skin", (kind,))
    to_fish, of_fish = Fact("sparrow", "kind", "fish"), Fact("fish", "covering", "scales")
    both = ask("sparrow", "covering", edits=(of_fish, to_fish))
    assert both == Outcome("scales", (to_fish, of_fish))
    own = Fact("sparrow", "covering", "wool")
    assert ask("sparrow", "covering", edits=(to_fish, of_fish, own)) == Outcome("wool", (own,))
    invented = Fact("zog", "kind", "bird")
    assert ask("zog", "covering", edits=(invented,)) == Outcome("feathers", (invented,))


def test_a_circle_of_classes_has_no_answer() -> None:
    circle = (Fact("fish", "kind", "carp"),)
    assert ask("carp", "covering", edits=circle) is None


def test_the_inverse() -> None:
    assert ask("Paris", "capital", inverse=True) == Outcome("France")
    assert ask("Nowhere", "capital", inverse=True) is None
    moved = Fact("France", "capital", "Lyon")
    assert ask("Lyon", "capital", inverse=True, edits=(moved,)) == Outcome("France", (moved,))
    assert ask("Paris", "capital", inverse=True, edits=(moved,)) is None
    claimed = Fact("Peru", "capital", "Paris")
    assert ask("Paris", "capital", inverse=True, edits=(claimed,)) == Outcome("Peru", (claimed,))
    again = Fact("Zed", "capital", "Paris")
    assert ask("Paris", "capital", inverse=True, edits=(claimed, again)) is None


def test_an_edit_used_twice_is_named_once() -> None:
    back = Fact("Paris", "home", "Paris")
    assert ask("Paris", "home", "home", edits=(back,)) == Outcome("Paris", (back,))


@pytest.mark.parametrize("split", SPLITS)
def test_every_edit_of_a_large_memory_answers_its_own_question(split: Split) -> None:
    world = load_world()
    scenario = make_scenario(world, split, 300, random.Random(1))
    for fact in scenario.facts.values():
        outcome = world.answer(Query(fact.subject, (fact.relation,)), scenario.facts)
        assert outcome == Outcome(fact.object, (fact,))
        assert world.answer(Query(fact.subject, (fact.relation,)), {fact.key: fact}) == outcome


def test_every_closed_book_query_has_an_answer_that_rests_on_nothing() -> None:
    world = load_world()
    queries = closed_book_queries(world)
    assert len(queries) == len(set(queries)) > len(world.facts)
    for query in queries:
        outcome = world.answer(query)
        assert outcome is not None and outcome.used == ()
        if query.inverse:
            assert world.answer(Query(outcome.answer, query.path)) == Outcome(query.start)


def test_chains_fit_together() -> None:
    world = load_world()
    paths = chains(world)
    assert {len(p) for p in paths} == {2, 3, 4} and len(set(paths)) == len(paths)
    for path in paths:
        for first, second in pairwise(path):
            assert world.relations[first].object == world.relations[second].subject


def test_a_step_to_a_class_goes_without_saying_before_what_is_inherited() -> None:
    assert walk_query(WORLD, "zog", ["kind", "covering"]) == Query("zog", ("covering",))
    assert walk_query(WORLD, "zog", ["kind"]) == Query("zog", ("kind",))
    assert walk_query(WORLD, "Ann", ["home", "capital"]) == Query("Ann", ("home", "capital"))
