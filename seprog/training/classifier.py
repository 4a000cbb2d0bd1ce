"""Fine-tune an encoder as a classifier of texts: a base model that believes things."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from seprog.batching import batches
from seprog.data.rows import read_rows
from seprog.errors import InputError
from seprog.training.compute import Compute
from seprog.training.learner import Learner
from seprog.training.run import Run, trapezoid

Labelled = tuple[str, str]
"""A text and its label."""


def label(answer: bool) -> str:
    """The label of a statement that holds, or does not."""
    return "true" if answer else "false"


@dataclass(frozen=True)
class ClassifierTraining(Compute):
    """How a classifier is fine-tuned.

    Args:
        steps: Optimizer steps.
        batch: Texts per step.
        lr: Peak learning rate.
        seed: Of the order and of the new head's weights.
    """

    steps: int = 3000
    batch: int = 32
    lr: float = 1e-4
    seed: int = 0


def read_labelled(path: Path) -> tuple[list[Labelled], list[Labelled]]:
    """Texts and labels from JSON lines with ``text`` and ``label``; one row in ten is held out.

    Raises:
        InputError: If the file is not like that, or has fewer than ten rows.
    """

    def parse(row: dict[str, object]) -> Labelled:
        text, label = row["text"], row["label"]
        if not isinstance(text, str) or not text.strip() or not isinstance(label, str):
            raise ValueError("text or label is no text")
        return text, label

    rows = read_rows(path, parse, 'an object like {"text": "…", "label": "…"}')
    if len(rows) < 10:
        raise InputError(f"{path} has {len(rows)} rows", "at least 10", "Add more rows")
    train = [row for i, row in enumerate(rows) if i % 10 != 9]
    return train, [row for i, row in enumerate(rows) if i % 10 == 9]


def train_classifier(
    base: Path,
    train: Sequence[Labelled],
    held_out: Sequence[Labelled],
    out: Path,
    run_folder: Path,
    config: ClassifierTraining,
) -> float:
    """Fine-tune a classifier, or go on with a run that was stopped, and write it.

    Args:
        base: Folder of an encoder; a head for the labels is put on it.
        train: What to learn; its labels are the classifier's, in alphabetical order.
        held_out: What to report the accuracy on.
        out: Folder for the classifier and its tokenizer.
        run_folder: Folder for checkpoint and log.
        config: How.

    Returns:
        The share of held-out texts that get their label (0 to 1).

    Raises:
        InputError: If there are fewer than two labels.
    """
    config.begin()
    torch.manual_seed(config.seed)
    labels = sorted({label for _, label in train})
    if len(labels) < 2:
        raise InputError(
            f"{len(labels)} label came to tell apart", "two or more", "Give texts of other labels"
        )
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(
        base,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
    )
    model.to(config.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.01)
    run = Run(run_folder, "classifier", config.steps)
    learner = Learner(model, run.checkpoint, adamw=optimizer)
    start = learner.resume({"labels": labels}).step

    def save(step: int) -> None:
        learner.save(step, {}, {"labels": labels, **asdict(config)})

    draws = _draws(train, config, start)
    for step in run.each_step(start, save):
        texts, wanted = zip(*next(draws), strict=True)
        tokens = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        targets = torch.tensor([labels.index(label) for label in wanted], device=config.device)
        with config.autocast():
            logits = model(**tokens.to(config.device)).logits
        loss = torch.nn.functional.cross_entropy(logits.float(), targets)
        learner.step(loss, config.lr * trapezoid(step, config.steps, 100, 0.8))
        if step % 20 == 0:
            run.report(step, loss=loss.item())
    right = accuracy(model.eval(), tokenizer, labels, held_out)
    run.report(config.steps, held_out=right)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return right


def _draws(
    train: Sequence[Labelled], config: ClassifierTraining, start: int
) -> Iterator[list[Labelled]]:
    """Batches without end; every text once before any comes again."""
    rng = random.Random(config.seed + start)
    waiting: list[Labelled] = []
    while True:
        while len(waiting) < config.batch:
            waiting += rng.sample(train, len(train))
        yield waiting[: config.batch]
        del waiting[: config.batch]


@torch.no_grad()
def accuracy(model: Any, tokenizer: Any, labels: Sequence[str], rows: Sequence[Labelled]) -> float:
    """Share of texts that get their label (0 to 1); 0 without any."""
    right = 0
    for part in batches([len(text) for text, _ in rows], 64):
        texts = [rows[i][0] for i in part]
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        best = model(**tokens.to(model.device)).logits.argmax(-1).tolist()
        right += sum(labels[b] == rows[i][1] for b, i in zip(best, part, strict=True))
    return right / max(1, len(rows))
