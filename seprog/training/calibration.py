"""Fit a gate's glance and its own threshold on memories that it was not trained on."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from seprog.atlas.scenario import make_scenario
from seprog.atlas.world import Split, Wording, load_world
from seprog.gate import Glance, ScopeGate, Shelf, Sighting, cue, fit_glance, fit_threshold, wilson
from seprog.gate.calibration import LEAST
from seprog.gate.glance import ENOUGH
from seprog.training.scopes import as_edits
from seprog.types import GateDecision

RATE = 0.005
"""False fires that a gate's own threshold promises in the calibration split's phrasings. It is half
of what is wanted: in phrasings that are new again, twice as many were seen."""
MEMORIES = 3
"""Of Atlas, that a gate's own threshold is fitted on: few queries out of scope come near it, and
those of one memory by chance."""
QUESTIONS = (1, 3, 10, 30, 100, 300)
"""In scope, whose edits alone make the smaller memories that a glance learns from, too."""


@dataclass(frozen=True)
class Judged:
    """A memory, and queries of which it is known what they rest on.

    Args:
        shelf: The memory.
        outside: Queries out of its scope.
        inside: Queries in its scope, each with the ids of all edits that it rests on.
    """

    shelf: Shelf
    outside: Sequence[str]
    inside: Sequence[tuple[str, set[str]]]


def calibrate_on_scenarios(
    gate: ScopeGate,
    edits: int,
    rate: float,
    seed: int,
    split: Split = "calibration",
    memories: int = MEMORIES,
    many: bool = False,
) -> dict[str, float]:
    """Fit the gate's own threshold on subjects and phrasings that nothing was trained on.

    Args:
        gate: Its glance and its calibration are set.
        edits: Per memory.
        rate: Promised share of false fires (0 to 1, exclusive).
        seed: Of the memories.
        split: Whose names and phrasings.
        memories: How many.
        many: Whether the glance, which only has to let through what the scorer lets fire, is
            fitted on as many in more writers' phrasings, too.

    Returns:
        As ``calibrate``.
    """
    rng = random.Random(seed)
    own = [_judged(gate, edits, rng, split, split) for _ in range(memories)]
    more = [_judged(gate, edits, rng, split, "many") for _ in range(memories if many else 0)]
    return calibrate(gate, own, rate, more)


def _judged(
    gate: ScopeGate, edits: int, rng: random.Random, split: Split, wording: Wording
) -> Judged:
    scenario = make_scenario(load_world(), split, edits, rng, wording=wording)
    known = as_edits(scenario)
    facts = list(known)
    outside = [p.prompt for p in scenario.near_misses(rng, facts)]
    outside += [p.prompt for p in scenario.far(rng, edits // 2)]
    inside = list(scenario.in_scope(rng, rng.sample(facts, min(300, len(facts)))))
    inside += scenario.passed_on(rng)
    for _ in range(4):
        inside += scenario.composed(rng)
    needed = [(p.prompt, {known[f].id for f in p.used}) for p in inside]
    return Judged(gate.shelf(list(known.values())), outside, needed)


def calibrate(
    gate: ScopeGate, memories: Sequence[Judged], rate: float, beside: Sequence[Judged] = ()
) -> dict[str, float]:
    """Fit the gate's glance and threshold on memories, and see how well it does there.

    Args:
        gate: Its glance and its calibration are set.
        memories: Of about the same size.
        rate: Promised share of false fires (0 to 1, exclusive).
        beside: More memories, that the glance alone is fitted on.

    Returns:
        The threshold, the share of queries out of scope that fire at it with its upper bound, and
        the share of those in scope for which every edit needed fires.
    """
    gate.glance = glance_of(gate, [*memories, *beside])
    highest: list[float] = []
    held: list[float] = []
    for memory in memories:
        highest += gate.highest(memory.outside, memory.shelf)
        decisions = gate.decide([query for query, _ in memory.inside], memory.shelf, LEAST)
        held += [_held(d, needed) for (_, needed), d in zip(memory.inside, decisions, strict=True)]
    size = max(len(memory.shelf) for memory in memories)
    gate.calibration = fit_threshold(highest, rate, size, gate.fingerprint, held)
    threshold = gate.calibration.threshold
    observed = gate.calibration.observed
    return {
        "threshold": threshold,
        "false_fire": observed,
        "false_fire_high": wilson(observed * len(highest), len(highest))[1],
        "fired_rightly": sum(score > threshold for score in held) / len(held),
    }


def _held(decision: GateDecision, needed: set[str]) -> float:
    """The threshold up to which every edit needed fires; 0 if not even at the decision's."""
    scores = [c.probability for c in decision.candidates if c.fired and c.edit.id in needed]
    return min(scores) if len(scores) == len(needed) else 0.0


def glance_of(gate: ScopeGate, memories: Sequence[Judged]) -> Glance:
    """What is worth scoring: learnt from what the scorer rightly lets fire.

    Args:
        gate: With a trained scorer; all that it finds is scored.
        memories: What is asked of each.
    """
    found: dict[str, list[list[Sighting]]] = {"first": [], "later": []}
    fired: dict[str, list[bool]] = {"first": [], "later": []}
    rng = random.Random(0)
    for memory in [m for whole in memories for m in (whole, *_smaller(gate, whole, rng))]:
        asked = [*((query, set[str]()) for query in memory.outside), *memory.inside]
        rows = [_Row(text, text, needed, set()) for text, needed in asked]
        for stage in found:
            near, fires, rows = _look(gate, memory.shelf, rows)
            found[stage] += near
            fired[stage] += fires
    return Glance(**{stage: fit_glance(found[stage], fired[stage]) for stage in found})


def _smaller(gate: ScopeGate, memory: Judged, rng: random.Random) -> Iterator[Judged]:
    """Memories of the edits that some of the questions rest on; the smaller, the more of them."""
    known = len(memory.inside)
    for size in [n for n in QUESTIONS if n < known] if known >= ENOUGH else []:
        for _ in range(max(1, ENOUGH // size)):
            inside = rng.sample(memory.inside, size)
            ids = sorted({id_ for _, needed in inside for id_ in needed})
            edits = memory.shelf.edits
            shelf = gate.shelf([edits[id_] for id_ in ids if id_ in edits])
            yield Judged(shelf, rng.sample(memory.outside, min(size, len(memory.outside))), inside)


class _Row(NamedTuple):
    """A query at some hop: its text, where words are looked up, all that it needs, what fired."""

    text: str
    cue: str
    needed: set[str]
    told: set[str]


def _look(
    gate: ScopeGate, shelf: Shelf, rows: Sequence[_Row]
) -> tuple[list[list[Sighting]], list[bool], list[_Row]]:
    """What rows find, whether each of that rightly fires, and the rows to go on from."""
    if not rows or not len(shelf):
        return [], [], []
    near = gate.near([r.text for r in rows], [r.cue for r in rows], shelf, [r.told for r in rows])
    pairs = [(row, s.edit) for row, seen in zip(rows, near, strict=True) for s in seen]
    needed = [(row, edit) for row, edit in pairs if edit.id in row.needed]
    scores = gate.scorer.probabilities(
        [row.text for row, _ in needed], [edit.statement for _, edit in needed]
    )[:, 0].tolist()
    likely = iter([score > LEAST for score in scores])
    fires = [edit.id in row.needed and next(likely) for row, edit in pairs]
    onward = [
        _Row(
            f"{row.text} {edit.statement}",
            cue(row.text, edit.statement),
            row.needed,
            row.told | {edit.id},
        )
        for (row, edit), right in zip(pairs, fires, strict=True)
        if right
    ]
    return near, fires, onward
