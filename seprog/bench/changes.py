"""What becomes of edits later: some are replaced by newer ones, some are taken back."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from seprog.atlas.fiction import counterfact
from seprog.atlas.scenario import Probe, Scenario
from seprog.atlas.world import Fact, Query

MOST = 60
"""Edits that are replaced, and edits that are taken back, at most."""


@dataclass(frozen=True)
class Changes:
    """Later changes to a scenario's edits, and what is asked after them.

    Args:
        replaced: Facts with those that take their place, in the order of writing.
        taken: Facts that are taken back.
        probes: ``superseded``: answered by the newest fact; ``forgotten``: by the base model.
    """

    replaced: Mapping[Fact, Fact]
    taken: Sequence[Fact]
    probes: Sequence[Probe]


def draw_changes(scenario: Scenario, rng: random.Random) -> Changes:
    """Replace a tenth of the edits (one at least) and take back another tenth.

    Half of the new facts are written in other words than those that they replace. Nothing is asked
    about a fact that another edit still bears on.

    Args:
        scenario: Its ``prompts`` gain those of the new facts.
        rng: Source of chance.
    """
    facts = list(scenario.facts.values())
    count = min(MOST, max(1, len(facts) // 10))
    order = rng.sample(facts, len(facts))
    newer = {fact: _newer(scenario, fact, rng) for fact in order[:count]}
    replaced = {fact: new for fact, new in newer.items() if new is not None}
    taken = order[count : 2 * count]
    for old, new in replaced.items():
        said = scenario.prompts[old]
        if rng.random() < 0.5:
            said = scenario.say(Query(new.subject, (new.relation,)), rng, avoid=said)
        scenario.prompts[new] = said
    after = {k: f for k, f in scenario.facts.items() if f not in taken}
    after |= {new.key: new for new in replaced.values()}
    later = replace(scenario, facts=after)
    probes = []
    for old, new in replaced.items():
        outcome = scenario.world.answer(Query(new.subject, (new.relation,)), after)
        if outcome is not None and outcome.used == (new,):
            for prompt in _prompts(scenario, old, rng):
                probes.append(Probe("superseded", prompt, new.object, (new,)))
    for fact in taken:
        if not later.touches(Query(fact.subject, (fact.relation,))):
            for prompt in _prompts(scenario, fact, rng):
                probes.append(Probe("forgotten", prompt, None))
    return Changes(replaced, taken, list(dict.fromkeys(probes)))


def _newer(scenario: Scenario, fact: Fact, rng: random.Random) -> Fact | None:
    """Another false fact about the same, if one is drawn in a few tries."""
    relation = scenario.world.relations[fact.relation]
    for _ in range(20):
        new = counterfact(scenario.world, relation, scenario.split, rng, fact.subject)
        if new.object != fact.object:
            return new
    return None


def _prompts(scenario: Scenario, fact: Fact, rng: random.Random) -> list[str]:
    """That of the edit, and another."""
    said = scenario.prompts[fact]
    return [said, scenario.say(Query(fact.subject, (fact.relation,)), rng, avoid=said)]
