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

import numpy as np
import torch
from torch import Tensor

from seprog.atlas.scenario import Scenario, make_scenario
from seprog.atlas.world import Split, Wording, load_world
from seprog.gate import (
    GateConfig,
    ScopeGate,
)
from seprog.text_encoder import TextEncoder
from seprog.training.calibration import RATE, calibrate_on_scenarios
from seprog.training.compute import Compute
from seprog.training.examples import NOISE
from seprog.training.learner import Learner
from seprog.training.run import Run, trapezoid
from seprog.training.scopes import Scopes, Stage, atlas_scopes
from seprog.types import Edit


@dataclass(frozen=True)
class GateTraining(Compute):
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
        others: Share of Atlas' memories in more writers' phrasings (0 to 1).
        seed: Of data and initial weights.
    """

    scenarios: int = 3
    edits: int = 1000
    chained: float = 0.5
    steps: int = 3000
    groups: int = 8
    negatives: int = 3
    lr: float = 1e-3
    share: float = 0.5
    others: float = 0.0
    seed: int = 0


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
    rng, world = random.Random(config.seed), load_world()
    many = round(config.others * config.scenarios)
    wordings: list[Wording] = ["many" if i < many else "train" for i in range(config.scenarios)]
    return [
        make_scenario(world, split, config.edits, rng, config.chained, NOISE, wording=wording)
        for wording in wordings
    ]


def _some(scopes: Scopes, config: GateTraining, memories: int, rng: random.Random) -> Scopes:
    """A memory with no more stages than training comes to."""
    count = config.groups * config.steps // memories + config.groups
    return Scopes(scopes.edits, rng.sample(scopes.stages, min(count, len(scopes.stages))))


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
    device = gate.encoder.device
    x, y = (torch.from_numpy(vectors).to(device) for vectors in (queries, edits))
    who, loss = torch.tensor(owner, device=device), torch.zeros(())
    for _ in range(400):
        rows = torch.from_numpy(rng.choice(len(x), min(512, len(x)), replace=False)).to(device)
        cosines = retriever.project_queries(x[rows]) @ retriever.project_edits(y[rows]).T
        twins = who[rows][:, None] == who[rows][None]
        twins.fill_diagonal_(False)
        logits = (cosines / 0.05).masked_fill(twins, -1e4)
        loss = torch.nn.functional.cross_entropy(logits, torch.arange(len(rows), device=device))
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
    logits = gate.scorer(texts, [e for g in groups for e in g.edits]).float()
    scope = logits.new_tensor([s for g in groups for s in g.scope])
    same = logits.new_tensor([s for g in groups for s in g.same])
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
    config.begin()
    torch.manual_seed(config.seed)
    if start_from is None:
        gate = ScopeGate(TextEncoder(device=config.device), GateConfig())
    else:
        gate = ScopeGate.from_pretrained(start_from, TextEncoder(device=config.device))
    origin = {name: weights.clone() for name, weights in gate.scorer.state_dict().items()}
    run = Run(run_folder, "gate", config.steps)
    rng = random.Random(config.seed)
    if asked is None:
        asked = [atlas_scopes(scenario, rng) for scenario in scenarios(config)]
    if start_from is None:  # later, all are looked at for those that it is not sure of
        asked = [_some(scopes, config, len(asked), rng) for scopes in asked]
        with run.phase("learning to find"):
            last = learn_to_find(gate, asked, config.seed)
        run.report(0, retriever_loss=last)
    with run.phase("looking for edits that are alike"):
        mined, found = mine(gate, asked, config, rng)
        with config.autocast():
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
        with config.autocast():
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
            report = calibrate_on_scenarios(
                gate, edits=1000, rate=RATE, seed=config.seed + 1, many=config.others > 0
            )
        else:
            report = calibrate(gate)
    run.report(config.steps, **report)
    gate.save_pretrained(out)
    return gate
