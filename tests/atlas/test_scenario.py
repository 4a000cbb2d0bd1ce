"""Edits and probes: names, scope, answers, chance."""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice, pairwise

import pytest

from seprog.atlas import scenario as scenarios
from seprog.atlas.corpus import Corpus
from seprog.atlas.exam import closed_book, examine, onward_queries, open_book
from seprog.atlas.fiction import NAMERS, counterfact, invent
from seprog.atlas.scenario import KINDS, Probe, Scenario, make_scenario
from seprog.atlas.wording import framed
from seprog.atlas.world import (
    SPLITS,
    Query,
    Relation,
    Split,
    Wording,
    fill,
    load_world,
    split_of,
)

WORLD = load_world()
TRUE_NAMES = {subject for _, subject in WORLD.facts}
Asked = list[tuple[Query, Probe]]


@pytest.fixture(scope="module", params=SPLITS)
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return make_scenario(WORLD, request.param, 250, random.Random(3))


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[Query]:
    """What is asked from now on, in symbols."""
    asked: list[Query] = []
    say = scenarios.say_query

    def note(world: object, query: Query, *rest: object, **more: object) -> str:
        asked.append(query)
        return say(world, query, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(scenarios, "say_query", note)
    return asked


def pairs(probes: Iterator[Probe], queries: list[Query]) -> Asked:
    """Each probe that asks a query in words, with that query."""
    found = []
    for probe in probes:
        if probe.kind != "rewrite":
            found.append((queries[-1], probe))
    return found


# --- edits ------------------------------------------------------------------------------------


def sayings(relation: Relation, split: Split) -> tuple[str, ...]:
    """Every phrasing of a split, framed ones included."""
    return relation.phrasings[split] + (framed(relation) if split == "train" else ())


def test_a_scenario_has_so_many_edits_in_words(scenario: Scenario) -> None:
    assert len(scenario.facts) == len(scenario.prompts) == 250
    for key, fact in scenario.facts.items():
        assert key == fact.key
        relation = WORLD.relations[fact.relation]
        options = {fill(p, fact.subject) for p in sayings(relation, scenario.split)}
        assert scenario.prompts[fact] in options
        assert scenario.statement(fact) == f"{scenario.prompts[fact]} {fact.object}."
        assert fact.object not in (fact.subject, WORLD.facts.get(key))
    statements = [scenario.statement(f) for f in scenario.facts.values()]
    assert len(set(statements)) == len(statements)


def test_chains_hang_together(scenario: Scenario) -> None:
    assert scenario.chains
    assert 0.15 < sum(map(len, scenario.chains)) / 250 < 0.6
    for chain in scenario.chains:
        assert 2 <= len(chain) <= 4
        assert all(scenario.facts[f.key] == f for f in chain)
        for first, second in pairwise(chain):
            assert first.object == second.subject


def test_subjects_belong_to_the_split(scenario: Scenario) -> None:
    assert {split_of(f.subject) for f in scenario.facts.values()} == {scenario.split}
    known = {n for names in WORLD.entities.values() for n in names}
    invented = sum(f.subject not in known for f in scenario.facts.values())
    assert 50 < invented < 230


def test_splits_share_no_subject() -> None:
    subjects = [
        {f.subject for f in make_scenario(WORLD, s, 200, random.Random(0)).facts.values()}
        for s in SPLITS
    ]
    assert not (subjects[0] & subjects[1] | subjects[1] & subjects[2] | subjects[0] & subjects[2])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_small_scenarios(size: int) -> None:
    for seed in range(10):
        made = make_scenario(WORLD, "test", size, random.Random(seed), chained=1.0)
        assert len(made.facts) == size


# --- probes -----------------------------------------------------------------------------------


def test_in_scope_probes_rest_on_their_edit(scenario: Scenario, queries: list[Query]) -> None:
    probes = pairs(scenario.in_scope(random.Random(0)), queries)
    kinds = [p.kind for _, p in probes]
    assert kinds.count("paraphrase") == 250 and kinds.count("entailed") > 50
    for query, probe in probes:
        outcome = WORLD.answer(query, scenario.facts)
        assert outcome is not None
        assert (outcome.answer, outcome.used) == (probe.answer, probe.used)
        [fact] = probe.used
        assert scenario.facts[fact.key] == fact
        if probe.kind == "paraphrase":
            assert probe.prompt != scenario.prompts[fact] and probe.answer == fact.object


def test_rewrites_are_the_edits_own_prompts(scenario: Scenario) -> None:
    probes = [p for p in scenario.in_scope(random.Random(0)) if p.kind == "rewrite"]
    assert [p.used[0] for p in probes] == list(scenario.facts.values())
    for probe in probes:
        assert probe.prompt == scenario.prompts[probe.used[0]]
        assert probe.answer == probe.used[0].object
    [only] = islice(scenario.facts.values(), 1)
    assert {p.used for p in scenario.in_scope(random.Random(0), [only])} == {(only,)}


def test_composed_probes_need_several_edits_in_their_order(
    scenario: Scenario, queries: list[Query]
) -> None:
    probes = pairs(scenario.composed(random.Random(0)), queries)
    assert len(probes) > len(scenario.chains) / 3
    for query, probe in probes:
        outcome = WORLD.answer(query, scenario.facts)
        assert outcome is not None and outcome.answer == probe.answer
        assert outcome.used == probe.used and len(probe.used) >= 2
        assert any(chain[: len(probe.used)] == probe.used for chain in scenario.chains)


@pytest.mark.parametrize("kind", ["near_miss", "far"])
def test_out_of_scope_probes_touch_no_edit(
    scenario: Scenario, queries: list[Query], kind: str
) -> None:
    rng = random.Random(0)
    if kind == "far":
        found = pairs(scenario.far(rng, 120), queries)
        assert len(found) == 120
    else:
        found = pairs(scenario.near_misses(rng, list(scenario.facts.values())), queries)
        assert len(found) > 100
    prompts = set(scenario.prompts.values())
    for query, probe in found:
        assert (probe.answer, probe.used) == (None, ())
        assert probe.kind in ("near_miss", kind)
        outcome = WORLD.answer(query, scenario.facts)
        assert outcome is None or outcome.used == ()
        assert outcome == WORLD.answer(query)
        assert probe.prompt not in prompts
        if split_of(query.start) != scenario.split and query.start in TRUE_NAMES:
            assert SPLITS.index(split_of(query.start)) < SPLITS.index(scenario.split)


def test_far_questions_share_no_word_with_a_name_in_memory(
    scenario: Scenario, queries: list[Query]
) -> None:
    names = " ".join(f"{f.subject} {f.object}" for f in scenario.facts.values()).lower()
    known = set(re.findall(r"\w+", names))
    found = pairs(scenario.far(random.Random(0), 300), queries)
    for query, probe in found:
        shares = bool(known & set(re.findall(r"\w+", query.start.lower())))
        assert probe.kind == ("near_miss" if shares else "far")
    assert {probe.kind for _, probe in found} == {"near_miss", "far"}


def test_near_misses_are_near(scenario: Scenario, queries: list[Query]) -> None:
    subjects = {f.subject for f in scenario.facts.values()}
    relations = {f.relation for f in scenario.facts.values()}
    found = pairs(scenario.near_misses(random.Random(0), list(scenario.facts.values())), queries)
    shared = [q.start in subjects for q, _ in found]
    assert 0 < sum(shared) < len(shared)
    assert 0 < sum(q.inverse for q, _ in found) < len(found) / 4
    assert all(same or q.path[0] in relations for same, (q, _) in zip(shared, found, strict=True))


def test_other_writers_words_about_a_splits_names() -> None:
    rng = random.Random(3)
    made = make_scenario(WORLD, "test", 40, rng, wording="other")
    assert {split_of(f.subject) for f in made.facts.values()} == {"test"}
    for fact in made.facts.values():
        told = WORLD.relations[fact.relation].phrasings["other"]
        assert made.prompts[fact] in {fill(p, fact.subject) for p in told}
    for probe in made.in_scope(rng):
        if probe.kind == "paraphrase":
            [fact] = probe.used
            told = WORLD.relations[fact.relation].phrasings["other"]
            assert probe.prompt in {fill(p, fact.subject) for p in told}
            assert probe.prompt != made.prompts[fact]
    items = open_book(WORLD, "test", random.Random(0), 20, 1, wording="other")
    assert items != open_book(WORLD, "test", random.Random(0), 20, 1)


def test_only_the_splits_phrasings_are_used(scenario: Scenario) -> None:
    held_out = [s for s in SPLITS if s != scenario.split]
    for probe in scenario.in_scope(random.Random(0)):
        if probe.kind == "paraphrase":
            [fact] = probe.used
            relation = WORLD.relations[fact.relation]
            own = {fill(p, fact.subject) for p in sayings(relation, scenario.split)}
            other = {fill(p, fact.subject) for s in held_out for p in sayings(relation, s)}
            assert probe.prompt in own - other


# --- chance -----------------------------------------------------------------------------------


def digest(seed: int) -> str:
    """A hash over a scenario, its probes and some documents."""
    rng = random.Random(seed)
    made = make_scenario(WORLD, "test", 60, rng)
    facts = list(made.facts.values())
    probes = [*made.in_scope(rng), *made.composed(rng), *made.near_misses(rng, facts)]
    documents = list(islice(Corpus(WORLD, rng), 50))
    text = repr((made.facts, made.prompts, made.chains, probes, documents))
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_seed_decides_everything_in_every_process() -> None:
    assert digest(5) == digest(5) != digest(6)
    code = "from tests.atlas.test_scenario import digest; print(digest(5))"
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest(5)


# --- inventions -------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_invented_names_belong_to_the_split(split: Split) -> None:
    rng = random.Random(0)
    for type_ in NAMERS:
        names = {invent(type_, split, rng) for _ in range(40)}
        assert len(names) > 25
        assert {split_of(n) for n in names} == {split}
        assert all(n == n.strip() and n for n in names)
    with pytest.raises(KeyError):
        invent("currency", split, rng)


@pytest.mark.parametrize("split", SPLITS)
def test_counterfacts_are_false(split: Split) -> None:
    rng = random.Random(0)
    for relation in WORLD.relations.values():
        for _ in range(20):
            fact = counterfact(WORLD, relation, split, rng)
            assert fact.relation == relation.name and split_of(fact.subject) == split
            assert fact.object != fact.subject
            assert fact.object != WORLD.facts.get(fact.key)
    capital = WORLD.relations["capital"]
    given = counterfact(WORLD, capital, split, rng, subject="Peru", object="Oslo")
    assert (given.subject, given.object) == ("Peru", "Oslo")
    assert counterfact(WORLD, capital, split, rng, "Peru", "Lima").object != "Lima"


# --- exam -------------------------------------------------------------------------------------


def test_closed_book_items_are_the_tables() -> None:
    items = closed_book(WORLD, "test", random.Random(0), 100)
    assert len(items) == len(set(items)) == 100
    assert all(answer in WORLD.facts.values() for _, answer in items)
    assert len(closed_book(WORLD, "test", random.Random(0), 10**6)) == len(WORLD.facts)


@pytest.mark.parametrize("hops", [1, 2])
def test_open_book_items_tell_before_they_ask(hops: int) -> None:
    items = open_book(WORLD, "test", random.Random(0), 60, hops)
    assert len(items) == 60
    for prompt, answer in items:
        assert prompt.count(". ") >= 1
        assert hops == 2 or f"{answer}." in prompt


def test_onward_queries_lead_through_the_fact() -> None:
    scenario = make_scenario(WORLD, "test", 100, random.Random(0))
    for fact in scenario.facts.values():
        for query in onward_queries(WORLD, fact):
            outcome = WORLD.answer(query, {fact.key: fact})
            assert outcome is not None
            assert query.start == fact.subject and outcome.used == (fact,)


@pytest.mark.parametrize(("split", "other"), [("test", "other"), ("calibration", "another")])
def test_the_exam_counts_right_answers(split: Split, other: Wording) -> None:
    rng = random.Random(4)
    items = closed_book(WORLD, "train", rng, 20) + closed_book(WORLD, split, rng, 20)
    items += open_book(WORLD, split, rng, 20, 1) + open_book(WORLD, split, rng, 20, 2)
    items += closed_book(WORLD, other, rng, 20)
    for hops in (1, 2):
        items += open_book(WORLD, split, rng, 20, hops, wording=other)
    known = dict(items)
    perfect = examine(WORLD, lambda prompts: [known[p] for p in prompts], 20, 4, split)
    assert set(perfect.values()) == {(1.0, 20)} and len(perfect) == 7
    silent = examine(WORLD, lambda prompts: [""] * len(prompts), 20, 4, split)
    assert set(silent.values()) == {(0.0, 20)}


def test_kinds_are_all_there() -> None:
    made, rng = make_scenario(WORLD, "test", 100, random.Random(0)), random.Random(0)
    probes = [*made.in_scope(rng), *made.composed(rng), *made.far(rng, 3)]
    probes += made.near_misses(rng, list(made.facts.values()))
    assert {p.kind for p in probes} == set(KINDS)
