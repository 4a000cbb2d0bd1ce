"""Train a self-encoder: right answers in scope, the base model's own answers out of scope."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from seprog.atlas.tokens import spellings
from seprog.atlas.world import load_world
from seprog.generator import SelfEncoder, SelfEncoderConfig
from seprog.generator.objective import Objective, join_prefixes, objective_for
from seprog.lm import LanguageModel
from seprog.training.compute import Compute
from seprog.training.examples import atlas_examples, file_examples
from seprog.training.learner import Learner
from seprog.training.run import Run, trapezoid
from seprog.types import Example

SHARES = (1.0, 0.75, 0.5, 0.25)
"""Sizes of the trained additions that are tried at the end."""


@dataclass(frozen=True)
class GeneratorTraining(Compute):
    """How a generator is trained.

    Args:
        summary: Summary tokens per edit; 0 only where the text is kept.
        rank: Rank of the LoRA.
        keep_text: Whether the text's own tokens are part of the prefix too.
        refine: Steps on a prefix that does not take, when an edit is written; not in training.
        steps: Optimizer steps at most.
        batch: Examples per step.
        lr: Peak learning rate.
        keep: Weight of the loss on prompts whose answer must stay.
        others: Share of Atlas' examples in more writers' phrasings (0 to 1).
        check_every: Steps between checks on held-out subjects.
        patience: Checks without a better one before training stops.
        seed: Of data and initial weights.
    """

    summary: int = 0
    rank: int = 16
    keep_text: bool = True
    refine: int = 30
    steps: int = 1000
    batch: int = 32
    lr: float = 5e-4
    keep: float = 0.2
    others: float = 0.0
    check_every: int = 50
    patience: int = 8
    seed: int = 0


Data = Callable[[int], tuple[Iterator[Example], list[Example]]]
"""A seed to training examples, without end, and held-out ones that are always the same."""


def with_base_answers(
    objective: Objective, examples: Iterator[Example], block: int = 512
) -> Iterator[Example]:
    """The same examples; where the base model's own answer is wanted, it has been asked."""
    while part := list(islice(examples, block)):
        asked = sorted({e.prompt for e in part if e.answer is None}, key=len)
        own: dict[str, str] = {}
        for start in range(0, len(asked), 64):
            prompts = asked[start : start + 64]
            own |= zip(prompts, objective.base_answers(prompts), strict=True)
        for example in part:
            if example.answer is None:
                yield replace(example, answer=own[example.prompt], keep=True)
            else:
                yield example


@torch.no_grad()
def check(
    objective: Objective, generator: SelfEncoder, examples: Sequence[Example]
) -> dict[str, float]:
    """Share of examples that are answered rightly.

    Returns:
        Per kind; ``learn`` of those in scope (of all if none is), ``stay`` of the others.
    """
    right: dict[str, list[bool]] = {}
    for start in range(0, len(examples), 64):
        part = examples[start : start + 64]
        asked = objective.ask(join_prefixes(generator, part), part)
        for example, ok in zip(part, asked.hits(), strict=True):
            right.setdefault(example.kind, []).append(ok)
            right.setdefault("stay" if example.keep else "learn", []).append(ok)
    right.setdefault("learn", right.get("stay", []))
    return {kind: sum(ok) / len(ok) for kind, ok in sorted(right.items())}


def sources(
    config: GeneratorTraining, data: Path | None, start: int, tokenizer: Any = None
) -> tuple[Iterator[Example], list[Example]]:
    """Training examples, and held-out ones (other subjects, other phrasings).

    With a tokenizer, names in Atlas' training examples use all of its tokens.
    """
    rng = random.Random(config.seed + start)
    held = random.Random(config.seed + 1)
    if data is not None:
        return file_examples(data, rng, False), list(islice(file_examples(data, held, True), 512))
    world = load_world()
    words = [] if tokenizer is None else spellings(tokenizer, rng)
    return atlas_examples(world, "train", rng, words, config.others), list(
        islice(atlas_examples(world, "calibration", held), 512)
    )


def train_generator(
    lm: LanguageModel,
    out: Path,
    run_folder: Path,
    config: GeneratorTraining,
    data: Path | Data | None = None,
) -> SelfEncoder:
    """Train a self-encoder for a base model, or go on with a run that was stopped.

    Args:
        lm: The base model.
        out: Folder that the best generator is written to.
        run_folder: Folder for checkpoint and log.
        config: How.
        data: A user's file of examples, or where examples come from; ``None`` means Atlas' own.

    Returns:
        The best generator by the checks on held-out examples.

    Raises:
        InputError: If generators can't be trained for such a base model, or the file is wrong.
    """
    config.begin()
    torch.manual_seed(config.seed)
    objective = objective_for(lm)
    generator = SelfEncoder(
        lm, SelfEncoderConfig(config.summary, config.rank, config.keep_text, config.refine)
    ).to(lm.device)
    optimizer = torch.optim.AdamW(generator.parameters(), lr=config.lr, weight_decay=0.0)
    run = Run(run_folder, "generator", config.steps)
    learner = Learner(generator, run.checkpoint, adamw=optimizer)
    start, _, state = learner.resume(
        {k: getattr(config, k) for k in ("summary", "rank", "keep_text")}
    )
    best, stale = state.get("best", -1.0), state.get("stale", 0)
    kept = run_folder / "best"

    def save(step: int) -> None:
        learner.save(step, {}, {"best": best, "stale": stale, **asdict(config)})

    train, held = (
        data(config.seed + start) if callable(data) else sources(config, data, start, lm.tokenizer)
    )
    examples = with_base_answers(objective, train)
    held_out = list(with_base_answers(objective, iter(held)))
    if start == 0:  # with the text kept, the start is nearly the verbatim generator: to be beaten
        scores = check(objective, generator, held_out)
        run.report(0, **scores)
        best = scores["learn"]
        generator.save_pretrained(kept)
    for step in run.each_step(start, save):
        part = list(islice(examples, config.batch))
        with config.autocast():
            found = objective.losses(generator, part)
        nothing = torch.zeros((), device=lm.device)
        loss = found.get("learn", nothing) + config.keep * found.get("keep", nothing)
        learner.step(loss, config.lr * trapezoid(step, config.steps, 50, 0.4))
        if step % 25 == 0:
            run.report(step, **{k: v.item() for k, v in found.items()})
        if (step + 1) % config.check_every == 0 or step + 1 == config.steps:
            scores = check(objective, generator, held_out)
            run.report(step + 1, **scores)
            stale = stale + 1 if scores["learn"] <= best else 0
            if scores["learn"] >= best:
                best = scores["learn"]
                generator.save_pretrained(kept)
            if stale >= config.patience:
                break
    generator.lora.detach()  # its hooks would be run through ever after
    return _shrunk(lm, objective, kept, held_out, out, run)


def _shrunk(
    lm: LanguageModel,
    objective: Objective,
    kept: Path,
    held_out: Sequence[Example],
    out: Path,
    run: Run,
) -> SelfEncoder:
    """The generator with its additions as small as does for the held-out examples, written.

    On the way back to the base model it reads new phrasings better (Wortsman et al. 2022, "Robust
    fine-tuning of zero-shot models"); the smallest share within a standard error of the best is
    taken (Breiman et al. 1984, "Classification and Regression Trees", section 3.4.3).
    """

    def at(share: float) -> SelfEncoder:
        generator = SelfEncoder.from_pretrained(kept, lm)
        generator.lora.scale(share)
        return generator

    found: dict[float, float] = {}
    for share in SHARES:
        trial = at(share)
        scores = check(objective, trial, held_out)
        trial.lora.detach()
        run.report(run.steps, share=share, **scores)
        found[share] = scores["learn"]
    best = max(found.values())
    count = sum(not e.keep for e in held_out) or len(held_out)
    enough = best - (best * (1 - best) / count) ** 0.5
    best_one = at(min(share for share, learn in found.items() if learn >= enough))
    best_one.save_pretrained(out)
    best_one.lora.detach()
    return SelfEncoder.from_pretrained(out, lm)
