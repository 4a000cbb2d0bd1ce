"""What of Atlas is edited and asked: names and phrasings never trained on."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from seprog.atlas.scenario import Probe, Scenario, make_scenario
from seprog.atlas.world import Fact, Split, Wording, load_world
from seprog.bench.changes import Changes, draw_changes

RIGHT_AFTER = 60
"""Edits, spread over the sequence, whose probes are also scored right after the edit."""


@dataclass(frozen=True)
class Plan:
    """What is edited and asked: the same for every method.

    Args:
        scenario: The edits.
        early: Some of them, in order, each with probes to ask right after it.
        probes: To ask after all edits.
        changes: What becomes of some edits then.
    """

    scenario: Scenario
    early: dict[Fact, list[Probe]]
    probes: list[Probe]
    changes: Changes


def plan(
    size: int,
    seed: int,
    split: Split = "test",
    per_kind: int | None = None,
    wording: Wording | None = None,
) -> Plan:
    """So many edits in a split's names, and their probes.

    Args:
        size: Number of edits.
        seed: Of edits and probes.
        split: Whose names.
        per_kind: Probes of each kind to ask after all edits, and none at other times: for those who
            measure costs; ``None`` asks all.
        wording: Whose phrasings; ``None`` means the split's.
    """
    rng = random.Random(seed * 1_000_003 + size)
    scenario = make_scenario(load_world(), split, size, rng, wording=wording)
    facts = list(scenario.facts.values())
    chosen = set(rng.sample(facts, min(RIGHT_AFTER, size)))
    early = {
        f: [*scenario.in_scope(rng, [f]), *scenario.near_misses(rng, [f])]
        for f in facts
        if f in chosen
    }
    probes = _probes(scenario, rng)
    changes = draw_changes(scenario, random.Random(f"changes {seed} {size}"))
    if per_kind is not None:
        kinds: dict[str, list[Probe]] = {}
        for probe in probes:
            kinds.setdefault(probe.kind, []).append(probe)
        early, probes = {}, [p for of_kind in kinds.values() for p in of_kind[:per_kind]]
        changes = replace(changes, probes=[])
    return Plan(scenario, early, probes, changes)


def _probes(scenario: Scenario, rng: random.Random) -> list[Probe]:
    facts = list(scenario.facts.values())
    probes = list(scenario.in_scope(rng)) + list(scenario.near_misses(rng, facts))
    rounds = max(1, min(4, 300 // max(1, len(scenario.chains))))
    for _ in range(rounds):
        probes += scenario.composed(rng)
    return list(dict.fromkeys(probes + list(scenario.far(rng, max(100, len(facts) // 2)))))
