"""Later changes to edits leave nothing arguable."""

from __future__ import annotations

import random

import pytest

from seprog.atlas.scenario import make_scenario
from seprog.atlas.world import Query, load_world
from seprog.bench.atlas import plan
from seprog.bench.changes import draw_changes


@pytest.mark.parametrize("size", [1, 2, 30, 400])
def test_a_tenth_is_replaced_and_a_tenth_taken_back(size: int) -> None:
    scenario = make_scenario(load_world(), "test", size, random.Random(size))
    facts = set(scenario.facts.values())
    changes = draw_changes(scenario, random.Random(0))
    count = max(1, size // 10)
    assert 0.7 * count <= len(changes.replaced) <= count
    assert len(changes.taken) == min(count, size - count)
    assert not set(changes.taken) & changes.replaced.keys()
    for old, new in changes.replaced.items():
        assert old in facts and old.key == new.key and old.object != new.object
        assert new.object != scenario.world.facts.get(new.key)
        assert scenario.prompts[new]
    assert set(scenario.facts.values()) == facts, "the scenario itself stays"


def test_what_is_asked_has_one_right_answer() -> None:
    scenario = make_scenario(load_world(), "test", 300, random.Random(3))
    changes = draw_changes(scenario, random.Random(1))
    gone, newest = set(changes.taken), set(changes.replaced.values())
    after = {k: f for k, f in scenario.facts.items() if f not in gone}
    after |= {f.key: f for f in newest}
    kinds = {p.kind for p in changes.probes}
    assert kinds == {"superseded", "forgotten"}
    said = {scenario.prompts[f] for f in (*changes.replaced, *gone)}
    assert said & {p.prompt for p in changes.probes}
    for probe in changes.probes:
        if probe.kind == "superseded":
            [fact] = probe.used
            outcome = scenario.world.answer(Query(fact.subject, (fact.relation,)), after)
            assert fact in newest and outcome is not None
            assert outcome.answer == probe.answer == fact.object
        else:
            assert probe.answer is None and not probe.used


def test_a_plan_knows_how_old_each_edit_is() -> None:
    what = plan(50, 0)
    facts = list(what.scenario.facts.values())
    for probe in what.probes:
        if probe.used:
            assert what.age(probe) == 49 - max(facts.index(f) for f in probe.used)
        else:
            assert what.age(probe) is None
    said = [" yes." for _ in what.probes]
    aside = what.aside(said)
    assert all(more == " yes." for _, more in aside) and 90 <= len(aside) <= 100
    assert what.aside([""] * len(said)) == []
