"""Train a self-encoder: right answers in scope, the base model's own answers out of scope."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seprog.atlas.world import load_world
from seprog.generator import SelfEncoder, SelfEncoderConfig
from seprog.lm import LanguageModel
from seprog.training.checkpoint import (
    load_checkpoint,
    optimizer_tensors,
    require_same,
    restore_optimizer,
    save_checkpoint,
)
from seprog.training.examples import Example, atlas_examples, file_examples
from seprog.training.run import Run, trapezoid
from seprog.types import PrefixBatch


@dataclass(frozen=True)
class GeneratorTraining:
    """How a generator is trained.

    Args:
        summary: Summary tokens per edit.
        rank: Rank of the LoRA.
        keep_text: Whether the text's own tokens are part of the prefix too.
        steps: Optimizer steps at most.
        batch: Examples per step.
        lr: Peak learning rate.
        keep: Weight of the loss on prompts whose answer must stay.
        check_every: Steps between checks on held-out subjects.
        patience: Checks without a better one before training stops.
        seed: Of data and initial weights.
        threads: CPU threads.
    """

    summary: int = 4
    rank: int = 16
    keep_text: bool = True
    steps: int = 400
    batch: int = 32
    lr: float = 5e-4
    keep: float = 0.2
    check_every: int = 50
    patience: int = 4
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class Batch:
    """Examples as tensors, padded on the left.

    Args:
        ids: Prompt and answer.
        mask: Where a token is real.
        answer: Where a token belongs to the answer.
        keep: Rows whose answer must stay the base model's.
    """

    ids: Int[Tensor, "batch time"]
    mask: Int[Tensor, "batch time"]
    answer: Bool[Tensor, "batch time"]
    keep: Bool[Tensor, " batch"]


def join_prefixes(generator: SelfEncoder, examples: Sequence[Example]) -> PrefixBatch:
    """Each example's edits as one prefix, in one pass of the generator over all of them."""
    texts = list(dict.fromkeys(edit for e in examples for edit in e.edits))
    place = {text: i for i, text in enumerate(texts)}
    single = generator(texts)
    most = max(len(e.edits) for e in examples)
    table = torch.zeros(len(examples), most, dtype=torch.long)
    real = torch.zeros(len(examples), most, dtype=torch.bool)
    for i, example in enumerate(examples):  # on the left, padding: the real ones end the row
        rows = [place[t] for t in example.edits]
        table[i, most - len(rows) :] = torch.tensor(rows)
        real[i, most - len(rows) :] = True

    def join(x: Tensor) -> Tensor:  # (texts, heads, P, dim) -> (examples, heads, most * P, dim)
        return x[table.to(x.device)].transpose(1, 2).flatten(2, 3)

    return PrefixBatch(
        tuple(range(len(examples))),
        tuple(join(k) for k in single.keys),
        tuple(join(v) for v in single.values),
        (
            single.mask[table.to(single.mask.device)] & real[:, :, None].to(single.mask.device)
        ).flatten(1),
    )


def answer_text(lm: LanguageModel, answer: str) -> str:
    """The answer as the model should go on: closed by a period, then its end-of-text token."""
    return f"{answer.rstrip('.')}." + (lm.tokenizer.eos_token or "")


def with_base_answers(
    lm: LanguageModel, examples: Iterator[Example], block: int = 512
) -> Iterator[Example]:
    """The same examples; where the base model's own answer is wanted, it has been asked."""
    while part := list(islice(examples, block)):
        asked = sorted({e.prompt for e in part if e.answer is None}, key=len)
        own: dict[str, str] = {}
        for start in range(0, len(asked), 64):
            prompts = asked[start : start + 64]
            own |= zip(prompts, lm.generate(prompts, max_new_tokens=16), strict=True)
        for example in part:
            if example.answer is None:
                answer = own[example.prompt].strip() or "."
                yield replace(example, answer=answer, keep=True)
            else:
                yield example


def collate(lm: LanguageModel, examples: Sequence[Example]) -> Batch:
    """Examples, all with answers, as a batch."""
    keep = [e.keep for e in examples]
    rows, answers = [], []
    for example in examples:
        prompt = lm.tokens.encode([example.prompt], True)[0]
        target = lm.tokens.encode([" " + answer_text(lm, example.answer or "")], False)[0]
        rows.append(prompt + target)
        answers.append(len(target))
    ids, mask = lm.tokens.pad(rows, lm.device)
    count = torch.tensor(answers, device=lm.device)[:, None]
    answer_mask = torch.arange(ids.shape[1], device=lm.device)[None] >= ids.shape[1] - count
    return Batch(ids, mask, answer_mask, torch.tensor(keep, device=lm.device))


def losses(
    lm: LanguageModel, generator: SelfEncoder, examples: Sequence[Example]
) -> dict[str, Tensor]:
    """Cross-entropy on wanted answers; divergence from the unedited model on the others.

    Returns:
        ``learn`` and ``keep``; one is left out if no example is of its kind.
    """
    batch = collate(lm, examples)
    logits = lm.forward(batch.ids, batch.mask, join_prefixes(generator, examples))[:, :-1]
    targets, answer = batch.ids[:, 1:], batch.answer[:, 1:]
    learn, keep = answer & ~batch.keep[:, None], answer & batch.keep[:, None]
    found: dict[str, Tensor] = {}
    if learn.any():
        found["learn"] = torch.nn.functional.cross_entropy(logits[learn].float(), targets[learn])
    if keep.any():
        with torch.no_grad():
            base = lm.forward(batch.ids[batch.keep], batch.mask[batch.keep])[:, :-1]
        found["keep"] = _divergence(base[keep[batch.keep]], logits[keep])
    return found


def _divergence(
    base: Float[Tensor, "n vocab"], edited: Float[Tensor, "n vocab"]
) -> Float[Tensor, ""]:
    p, q = base.float().log_softmax(-1), edited.float().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).mean()


@torch.no_grad()
def check(
    lm: LanguageModel, generator: SelfEncoder, examples: Sequence[Example]
) -> dict[str, float]:
    """Share of examples, per kind and of ``all``, whose every answer token is the likeliest."""
    right: dict[str, list[bool]] = {}
    for start in range(0, len(examples), 64):
        part = examples[start : start + 64]
        batch = collate(lm, part)
        logits = lm.forward(batch.ids, batch.mask, join_prefixes(generator, part))[:, :-1]
        hit = (logits.argmax(-1) == batch.ids[:, 1:]) | ~batch.answer[:, 1:]
        for example, ok in zip(part, hit.all(dim=1).tolist(), strict=True):
            right.setdefault(example.kind, []).append(ok)
            right.setdefault("all", []).append(ok)
    return {kind: sum(ok) / len(ok) for kind, ok in sorted(right.items())}


def sources(
    config: GeneratorTraining, data: Path | None, start: int
) -> tuple[Iterator[Example], list[Example]]:
    """Training examples, and held-out ones (other subjects, other phrasings)."""
    rng = random.Random(config.seed + start)
    held = random.Random(config.seed + 1)
    if data is not None:
        return file_examples(data, rng, False), list(islice(file_examples(data, held, True), 512))
    world = load_world()
    return atlas_examples(world, "train", rng), list(
        islice(atlas_examples(world, "calibration", held), 512)
    )


def train_generator(
    lm: LanguageModel,
    out: Path,
    run_folder: Path,
    config: GeneratorTraining,
    data: Path | None = None,
) -> SelfEncoder:
    """Train a self-encoder for a base model, or go on with a run that was stopped.

    Args:
        lm: The base model.
        out: Folder that the best generator is written to.
        run_folder: Folder for checkpoint and log.
        config: How.
        data: A user's examples; ``None`` means Atlas' own.

    Returns:
        The best generator by the checks on held-out examples.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    generator = SelfEncoder(
        lm, SelfEncoderConfig(config.summary, config.rank, config.keep_text)
    ).to(lm.device)
    optimizer = torch.optim.AdamW(generator.parameters(), lr=config.lr, weight_decay=0.0)
    run = Run(run_folder, "generator", config.steps)
    start, best, stale = 0, -1.0, 0
    if saved := load_checkpoint(run.checkpoint):
        sizes = {k: getattr(config, k) for k in ("summary", "rank", "keep_text")}
        require_same(run.checkpoint, saved[1], sizes)
        start, best, stale = (saved[1][k] for k in ("step", "best", "stale"))
        generator.load_state_dict(
            {k.removeprefix("model/"): v for k, v in saved[0].items() if k.startswith("model/")}
        )
        restore_optimizer("adamw", optimizer, saved[0])

    def save(step: int) -> None:
        tensors = {f"model/{k}": v for k, v in generator.state_dict().items()}
        tensors |= optimizer_tensors("adamw", optimizer)
        state = {"step": step, "best": best, "stale": stale, **asdict(config)}
        save_checkpoint(run.checkpoint, tensors, state)

    train, held = sources(config, data, start)
    examples = with_base_answers(lm, train)
    held_out = list(with_base_answers(lm, iter(held)))
    if not saved:  # with the text kept, the start is nearly the verbatim generator: to be beaten
        scores = check(lm, generator, held_out)
        run.report(0, **scores)
        best = scores["all"]
        generator.save_pretrained(out)
    for step in run.each_step(start, save):
        found = losses(lm, generator, list(islice(examples, config.batch)))
        nothing = torch.zeros((), device=lm.device)
        loss = found.get("learn", nothing) + config.keep * found.get("keep", nothing)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(generator.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * trapezoid(step, config.steps, 50, 0.4)
        optimizer.step()
        optimizer.zero_grad()
        if step % 25 == 0:
            run.report(step, **{k: v.item() for k, v in found.items()})
        if (step + 1) % config.check_every == 0 or step + 1 == config.steps:
            scores = check(lm, generator, held_out)
            run.report(step + 1, **scores)
            stale = stale + 1 if scores["all"] <= best else 0
            if scores["all"] >= best:
                best = scores["all"]
                generator.save_pretrained(out)
            if stale >= config.patience:
                break
    return SelfEncoder.from_pretrained(out, lm)
