"""Later changes to edits leave nothing arguable."""

from __future__ import annotations

import random

import pytest

from seprog.atlas.scenario import make_scenario
from seprog.atlas.world import Query, load_world
from seprog.bench.changes import draw_changes
from seprog.bench.course import series_of
from seprog.bench.plan import plan


@pytest.mark.parametrize("size", [1, 2, 30, 400])
def test_a_tenth_is_replaced_and_a_tenth_taken_back(size: int) -> None:
    scenario = make_scenario(load_world(), "test", size, random.Random(size))
    facts = set(scenario.facts.values())
    changes = draw_changes(scenario, random.Random(0))
    count = max(1, size // 10)
    times = [len(newer) for newer in changes.replaced.values()]
    left = min(count, max(0, size - 2 * count))
    assert 0.7 * count <= times.count(1) <= count and 0.7 * left <= times.count(2) <= left
    assert len(changes.taken) == min(count, size - count)
    assert not set(changes.taken) & changes.replaced.keys()
    for old, newer in changes.replaced.items():
        assert old in facts and {new.key for new in newer} == {old.key}
        assert len({old.object, *(new.object for new in newer)}) == 1 + len(newer)
        for new in newer:
            assert new.object != scenario.world.facts.get(new.key)
            assert scenario.prompts[new]
    assert set(scenario.facts.values()) == facts, "the scenario itself stays"


def test_what_is_asked_has_one_right_answer() -> None:
    scenario = make_scenario(load_world(), "test", 300, random.Random(3))
    changes = draw_changes(scenario, random.Random(1))
    gone, newest = set(changes.taken), {newer[-1] for newer in changes.replaced.values()}
    after = {k: f for k, f in scenario.facts.items() if f not in gone}
    after |= {f.key: f for f in newest}
    kinds = {p.kind for p in changes.probes}
    assert kinds == {"superseded", "superseded_twice", "forgotten"}
    said = {scenario.prompts[f] for f in (*changes.replaced, *gone)}
    assert said & {p.prompt for p in changes.probes}
    for probe in changes.probes:
        if probe.kind.startswith("superseded"):
            [fact] = probe.used
            outcome = scenario.world.answer(Query(fact.subject, (fact.relation,)), after)
            assert fact in newest and outcome is not None
            assert outcome.answer == probe.answer == fact.object
        else:
            assert probe.answer is None and not probe.used


def test_a_series_knows_how_old_each_edit_is() -> None:
    what = series_of(plan(50, 0))
    statements = [request.statement for request in what.edits]
    for question in what.questions:
        if question.needed:
            newest = max(statements.index(s) for s in question.needed)
            assert what.age(question) == 49 - newest
        else:
            assert what.age(question) is None
