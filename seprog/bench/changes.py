"""What becomes of edits later: some are replaced by newer ones, some are taken back."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
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
    """Replace a tenth of the edits (one at least), take back another tenth, replace a third twice.

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
        said = [fact]
        while len(said) <= times and (new := _newer(scenario, fact, said, rng)) is not None:
            said.append(new)
        if len(said) > times:
            found[fact] = tuple(said[1:])
    for old, newer in found.items():
        for new in newer:
            said_as = scenario.prompts[old]
            if rng.random() < 0.5:
                said_as = scenario.say(Query(new.subject, (new.relation,)), rng, avoid=said_as)
            scenario.prompts[new] = said_as
    return found


def _newer(
    scenario: Scenario, fact: Fact, said: Collection[Fact], rng: random.Random
) -> Fact | None:
    """Another false fact about the same than were said, if one is drawn in a few tries."""
    relation, gone = scenario.world.relations[fact.relation], {f.object for f in said}
    for _ in range(20):
        new = counterfact(scenario.world, relation, scenario.split, rng, fact.subject)
        if new.object not in gone:
            return new
    return None


def _prompts(scenario: Scenario, fact: Fact, rng: random.Random) -> list[str]:
    """That of the edit, and another."""
    said = scenario.prompts[fact]
    return [said, scenario.say(Query(fact.subject, (fact.relation,)), rng, avoid=said)]
