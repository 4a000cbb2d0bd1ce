"""Train the scope gate on scenarios: first the retriever, then the scorer on what it retrieves.

Negatives are drawn from the memory itself: the edits nearest to a query that do not bear on it. A
gate that was trained before goes on with its scorer alone, on what it is not sure of; what is kept
is a mean of its weights before and after, which decides better than either (Wortsman et al. 2022,
"Robust fine-tuning of zero-shot models", section 3).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from seprog.atlas.scenario import Scenario, make_scenario
from seprog.atlas.world import Split, load_world
from seprog.gate import (
    GateConfig,
    Glance,
    ScopeGate,
    Shelf,
    Sighting,
    cue,
    fit_glance,
    fit_threshold,
    wilson,
)
from seprog.gate.calibration import LEAST
from seprog.text_encoder import TextEncoder
from seprog.training.examples import NOISE
from seprog.training.learner import Learner
from seprog.training.run import Run, trapezoid
from seprog.training.scopes import Scopes, Stage, as_edits, atlas_scopes
from seprog.types import Edit, GateDecision

RATE = 0.005
"""False fires that a gate's own threshold promises in the calibration split's phrasings. It is half
of what is wanted: in phrasings that are new again, twice as many were seen."""
MEMORIES = 3
"""Of Atlas, that a gate's own threshold is fitted on: few queries out of scope come near it, and
those of one memory by chance."""


@dataclass(frozen=True)
class GateTraining:
    """How the gate is trained.

    Args:
        scenarios: Memories to draw from.
        edits: Edits per memory.
        chained: Share of the edits that belong to chains (0 to 1).
        steps: Steps of the scorer.
        groups: Queries per step.
        negatives: Near edits out of scope per query.
        lr: Peak learning rate of the scorer.
        share: How far to go from the gate that it starts from, if any, to where training leads (0,
            exclusive, to 1).
        seed: Of data and initial weights.
        threads: CPU threads.
        bf16: Multiply matrices in bfloat16; quicker only where the CPU has instructions for it.
    """

    scenarios: int = 3
    edits: int = 1000
    chained: float = 0.5
    steps: int = 3000
    groups: int = 8
    negatives: int = 3
    lr: float = 1e-3
    share: float = 0.5
    seed: int = 0
    threads: int = 1
    bf16: bool = True


@dataclass(frozen=True)
class Group:
    """A text, and the edits near it: those that bear on it first.

    Args:
        text: A query, perhaps followed by statements that fired before.
        edits: Statements.
        scope: Per statement, whether it bears on the text.
        same: Per statement, whether it answers the very question of the text.
    """

    text: str
    edits: tuple[str, ...]
    scope: tuple[bool, ...]
    same: tuple[bool, ...]


def scenarios(config: GateTraining, split: Split = "train") -> list[Scenario]:
    """The memories of Atlas to train on; a third of the phrasings is scrambled."""
    rng = random.Random(config.seed)
    return [
        make_scenario(load_world(), split, config.edits, rng, config.chained, NOISE)
        for _ in range(config.scenarios)
    ]


def train_retriever(
    gate: ScopeGate, queries: np.ndarray, edits: np.ndarray, owner: Sequence[int], seed: int
) -> float:
    """Draw queries towards their edits, away from the others in the batch.

    Args:
        gate: Its retriever is trained.
        queries: Encoder vectors of texts, ``(n, width)``.
        edits: Encoder vectors of the statements that bear on them, ``(n, width)``.
        owner: Per row, which edit it is; rows of one edit are not each other's negatives.
        seed: Of the batches.

    Returns:
        The last loss.
    """
    retriever = gate.retriever.requires_grad_(True)
    optimizer = torch.optim.AdamW(retriever.parameters(), lr=3e-4, weight_decay=0.0)
    rng = np.random.default_rng(seed)
    x, y, who = torch.from_numpy(queries), torch.from_numpy(edits), torch.tensor(owner)
    loss = torch.zeros(())
    for _ in range(400):
        rows = torch.from_numpy(rng.choice(len(x), min(512, len(x)), replace=False))
        cosines = retriever.project_queries(x[rows]) @ retriever.project_edits(y[rows]).T
        twins = (who[rows][:, None] == who[rows][None]) & ~torch.eye(len(rows), dtype=torch.bool)
        logits = (cosines / 0.05).masked_fill(twins, -1e4)
        loss = torch.nn.functional.cross_entropy(logits, torch.arange(len(rows)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    retriever.requires_grad_(False)
    return loss.item()


def learn_to_find(gate: ScopeGate, asked: Sequence[Scopes], seed: int) -> float:
    """Train the retriever on what should fire at each stage.

    Returns:
        The last loss.
    """
    x, y, owner = [], [], []
    for number, scopes in enumerate(asked):
        place = {edit.id: i for i, edit in enumerate(scopes.edits)}
        rows = [(stage.text, place[e.id]) for stage in scopes.stages for e in stage.right]
        keys = gate.encoder.encode([e.statement for e in scopes.edits])
        x.append(gate.encoder.encode([text for text, _ in rows]))
        y.append(keys[[j for _, j in rows]])
        owner += [j + 10**6 * number for _, j in rows]
    return train_retriever(gate, np.concatenate(x), np.concatenate(y), owner, seed)


def mine(
    gate: ScopeGate, asked: Sequence[Scopes], config: GateTraining, rng: random.Random
) -> tuple[list[Group], float]:
    """For each stage the edits that the gate would score.

    Returns:
        Groups for the scorer, in random order, and the share of right edits among those found.
    """
    groups, hits = [], []
    for scopes in asked:
        near = gate.near(
            [stage.text for stage in scopes.stages],
            [stage.cue for stage in scopes.stages],
            gate.shelf(scopes.edits),
            [{e.id for e in stage.told} for stage in scopes.stages],
        )
        for stage, seen in zip(scopes.stages, near, strict=True):
            candidates = [s.edit for s in seen]
            hits += [edit in candidates for edit in stage.right]
            groups.append(_group(stage, candidates, config, rng))
    rng.shuffle(groups)
    return groups, float(np.mean(hits))


def _group(
    stage: Stage, candidates: Sequence[Edit], config: GateTraining, rng: random.Random
) -> Group:
    """The right edits, and wrong ones: the nearest, and one at random."""
    others = [c for c in candidates if c not in stage.right and c.id not in stage.unclear]
    near, rest = others[: config.negatives - 1], others[config.negatives - 1 :]
    wrong = near + ([rng.choice(rest)] if rest else [])
    edits = [*stage.right, *wrong]
    return Group(
        stage.text,
        tuple(e.statement for e in edits),
        tuple(e in stage.right for e in edits),
        tuple(e in stage.right and stage.same for e in edits),
    )


def unsure(
    gate: ScopeGate, groups: Sequence[Group], rng: random.Random, sure: float = 0.05
) -> list[Group]:
    """Groups that the gate does not yet decide with confidence, and as many others.

    Args:
        gate: Trained before.
        groups: To choose from.
        rng: Source of chance.
        sure: How far a probability may be from the truth (0 to 1).

    Returns:
        The groups chosen, in random order.
    """
    texts = [g.text for g in groups for _ in g.edits]
    scores = gate.scorer.probabilities(texts, [e for g in groups for e in g.edits])[:, 0]
    truth = torch.tensor([float(s) for g in groups for s in g.scope])
    off = ((scores - truth).abs() > sure).split([len(g.edits) for g in groups])
    hard = [g for g, wrong in zip(groups, off, strict=True) if wrong.any()]
    easy = [g for g, wrong in zip(groups, off, strict=True) if not wrong.any()]
    chosen = hard + rng.sample(easy, min(len(hard), len(easy)))
    rng.shuffle(chosen)
    return chosen


def scorer_loss(gate: ScopeGate, groups: Sequence[Group]) -> Tensor:
    """Binary cross-entropy of both logits; *same question* counts a quarter."""
    texts = [g.text for g in groups for _ in g.edits]
    logits = gate.scorer(texts, [e for g in groups for e in g.edits])
    scope = torch.tensor([s for g in groups for s in g.scope], dtype=torch.float32)
    same = torch.tensor([s for g in groups for s in g.same], dtype=torch.float32)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    return entropy(logits[:, 0], scope) + 0.25 * entropy(logits[:, 1], same)


def train_gate(
    out: Path,
    run_folder: Path,
    config: GateTraining,
    start_from: Path | None = None,
    asked: Sequence[Scopes] | None = None,
    calibrate: Callable[[ScopeGate], dict[str, float]] | None = None,
) -> ScopeGate:
    """Train a gate, calibrate it, and write it.

    Args:
        out: Folder that the gate is written to.
        run_folder: Folder for checkpoint and log; a stopped run goes on from there.
        config: How.
        start_from: Folder of a gate trained before, to go on from with what it is not sure of;
            ``None`` starts from the encoder as it is.
        asked: What to learn from; ``None`` means scenarios of Atlas.
        calibrate: Fits the gate's threshold and says how well it does; ``None`` means on a
            few scenarios of Atlas.

    Returns:
        The gate.

    Raises:
        InputError: If ``start_from`` holds no gate.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    if start_from is None:
        gate = ScopeGate(TextEncoder(), GateConfig())
    else:
        gate = ScopeGate.from_pretrained(start_from, TextEncoder())
    origin = {name: weights.clone() for name, weights in gate.scorer.state_dict().items()}
    run = Run(run_folder, "gate", config.steps)
    rng = random.Random(config.seed)
    if asked is None:
        asked = [atlas_scopes(scenario, rng) for scenario in scenarios(config)]
    if start_from is None:
        with run.phase("learning to find"):
            last = learn_to_find(gate, asked, config.seed)
        run.report(0, retriever_loss=last)
    with run.phase("looking for edits that are alike"):
        mined, found = mine(gate, asked, config, rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            groups = mined if start_from is None else unsure(gate, mined, rng)
    run.report(0, found=found, groups=len(groups), mined=len(mined))
    scorer = gate.scorer.requires_grad_(True)
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=config.lr, weight_decay=0.01)
    learner = Learner(scorer, run.checkpoint, adamw=optimizer)
    start = learner.resume({}).step

    def save(step: int) -> None:
        learner.save(step, {}, asdict(config))

    running = 0.5
    for step in run.each_step(start, save):
        first = step * config.groups % max(1, len(groups) - config.groups)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            loss = scorer_loss(gate, groups[first : first + config.groups])
        learner.step(loss, config.lr * trapezoid(step, config.steps, 50, 0.5))
        running += 0.02 * (loss.item() - running)
        if step % 20 == 0:
            run.report(step, loss=running)
    gate.requires_grad_(False)
    if start_from is not None:
        for name, weights in gate.scorer.state_dict().items():
            weights.copy_(torch.lerp(origin[name], weights, config.share))
    with run.phase("calibrating"):
        if calibrate is None:
            report = calibrate_on_scenarios(gate, edits=1000, rate=RATE, seed=config.seed + 1)
        else:
            report = calibrate(gate)
    run.report(config.steps, **report)
    gate.save_pretrained(out)
    return gate


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
) -> dict[str, float]:
    """Fit the gate's own threshold on subjects and phrasings that nothing was trained on.

    Returns:
        As ``calibrate``.
    """
    rng = random.Random(seed)
    return calibrate(gate, [_judged(gate, edits, rng, split) for _ in range(memories)], rate)


def _judged(gate: ScopeGate, edits: int, rng: random.Random, split: Split) -> Judged:
    scenario = make_scenario(load_world(), split, edits, rng)
    known = as_edits(scenario)
    facts = list(known)
    outside = [p.prompt for p in scenario.near_misses(rng, facts)]
    outside += [p.prompt for p in scenario.far(rng, edits // 2)]
    inside = list(scenario.in_scope(rng, rng.sample(facts, min(300, len(facts)))))
    for _ in range(4):
        inside += scenario.composed(rng)
    needed = [(p.prompt, {known[f].id for f in p.used}) for p in inside]
    return Judged(gate.shelf(list(known.values())), outside, needed)


def calibrate(gate: ScopeGate, memories: Sequence[Judged], rate: float) -> dict[str, float]:
    """Fit the gate's glance and threshold on memories, and see how well it does there.

    Args:
        gate: Its glance and its calibration are set.
        memories: Of about the same size.
        rate: Promised share of false fires (0 to 1, exclusive).

    Returns:
        The threshold, the share of queries out of scope that fire at it with its upper bound, and
        the share of those in scope for which every edit needed fires.
    """
    gate.glance = glance_of(gate, memories)
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
    for memory in memories:
        asked = [*((query, set[str]()) for query in memory.outside), *memory.inside]
        rows = [_Row(text, text, needed, set()) for text, needed in asked]
        for stage in found:
            near, fires, rows = _look(gate, memory.shelf, rows)
            found[stage] += near
            fired[stage] += fires
    return Glance(**{stage: fit_glance(found[stage], fired[stage]) for stage in found})


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
    scores = gate.scorer.probabilities(
        [row.text for row, _ in pairs], [edit.statement for _, edit in pairs]
    )[:, 0].tolist()
    fires = [
        edit.id in row.needed and score > LEAST
        for (row, edit), score in zip(pairs, scores, strict=True)
    ]
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
