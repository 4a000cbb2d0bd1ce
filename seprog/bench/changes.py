"""What becomes of edits later: some are replaced by newer ones, some are taken back."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from seprog.atlas.fiction import counterfact
from seprog.atlas.scenario import Kind, Probe, Scenario
from seprog.atlas.world import Fact, Query

MOST = 60
"""Edits that are replaced once, twice, or taken back, at most, of each."""


@dataclass(frozen=True)
class Changes:
    """Later changes to a scenario's edits, and what is asked after them.

    Args:
        replaced: Facts with those that take their place, one after another.
        taken: Facts that are taken back.
        probes: ``superseded`` and, of facts that are replaced twice, ``superseded_twice``: answered
            by the newest fact; ``forgotten``: by the base model.
    """

    replaced: Mapping[Fact, tuple[Fact, ...]]
    taken: Sequence[Fact]
    probes: Sequence[Probe]


def draw_changes(scenario: Scenario, rng: random.Random) -> Changes:
    """Replace a tenth of the edits (one at least), take back a second, replace a third one twice.

    Half of the new facts are written in other words than those that they replace. Nothing is asked
    about a fact that another edit still bears on.

    Args:
        scenario: Its ``prompts`` gain those of the new facts.
        rng: Source of chance.
    """
    facts = list(scenario.facts.values())
    count = min(MOST, max(1, len(facts) // 10))
    order = rng.sample(facts, len(facts))
    taken = order[count : 2 * count]
    replaced = _replaced(scenario, order[:count], 1, rng)
    after = {k: f for k, f in scenario.facts.items() if f not in taken}
    after |= {new.key: new for *_, new in replaced.values()}
    again = random.Random(f"again {len(facts)} {order[0]}")  # what was drawn before this stays
    twice = _replaced(scenario, order[2 * count : 3 * count], 2, again)
    after |= {new.key: new for *_, new in twice.values()}
    replaced |= twice
    later = replace(scenario, facts=after)
    probes = []
    for old, (*between, new) in replaced.items():
        outcome = scenario.world.answer(Query(new.subject, (new.relation,)), after)
        if outcome is not None and outcome.used == (new,):
            for prompt in _prompts(scenario, old, again if between else rng):
                kind: Kind = "superseded_twice" if between else "superseded"
                probes.append(Probe(kind, prompt, new.object, (new,)))
    for fact in taken:
        if not later.touches(Query(fact.subject, (fact.relation,))):
            for prompt in _prompts(scenario, fact, rng):
                probes.append(Probe("forgotten", prompt, None))
    return Changes(replaced, taken, list(dict.fromkeys(probes)))


def _replaced(
    scenario: Scenario, facts: Sequence[Fact], times: int, rng: random.Random
) -> dict[Fact, tuple[Fact, ...]]:
    """Facts with so many that take their place; ``prompts`` gains those of the new ones."""
    found: dict[Fact, tuple[Fact, ...]] = {}
    for fact in facts:
        told = [fact]
        while len(told) <= times and (new := _newer(scenario, told, rng)) is not None:
            told.append(new)
        if len(told) > times:
            found[fact] = tuple(told[1:])
    for old, newer in found.items():
        for new in newer:
            said = scenario.prompts[old]
            if rng.random() < 0.5:
                said = scenario.say(Query(new.subject, (new.relation,)), rng, avoid=said)
            scenario.prompts[new] = said
    return found


def _newer(scenario: Scenario, told: Sequence[Fact], rng: random.Random) -> Fact | None:
    """A false fact about the same as those told, and none of them, if a few tries draw one."""
    relation, gone = scenario.world.relations[told[0].relation], {f.object for f in told}
    for _ in range(20):
        new = counterfact(scenario.world, relation, scenario.split, rng, told[0].subject)
        if new.object not in gone:
            return new
    return None


def _prompts(scenario: Scenario, fact: Fact, rng: random.Random) -> list[str]:
    """That of the edit, and another."""
    said = scenario.prompts[fact]
    return [said, scenario.say(Query(fact.subject, (fact.relation,)), rng, avoid=said)]
