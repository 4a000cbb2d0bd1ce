"""Base models that tell right statements from wrong ones, and their twins that read edits."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from seprog.bench.trials import Models, Part
from seprog.lm import EncoderModel
from seprog.text_encoder import packaged_folder
from seprog.training.classifier import ClassifierTraining, Labelled, train_classifier
from seprog.types import Example

Examples = Callable[[Part, random.Random], Iterator[Example]]


def classifiers(
    work: Path,
    known: Sequence[Labelled],
    held_out: Sequence[Labelled],
    examples: Examples,
    how: ClassifierTraining,
) -> Models:
    """The sentence encoder, fine-tuned on statements alone; its twin, on edits and statements.

    Args:
        work: Folder for both; what is there is not trained again.
        known: Statements and labels that the base model is taught.
        held_out: Statements and labels that it is examined on.
        examples: A part and a source of chance to examples of edits, without end.
        how: How both are fine-tuned.

    Returns:
        Both, and the share of held-out statements that each gets right; the reader's are behind
        edits of the calibration part.
    """
    accuracy: dict[str, float] = {}
    reading = _in_context(examples("train", random.Random(0)), len(known))
    checks = _in_context(examples("calibration", random.Random(0)), 500)
    for name, start, train, held in (
        ("base", packaged_folder(), known, held_out),
        ("reader", work / "base", reading, checks),
    ):
        note = work / f"{name}.json"
        if not note.exists():
            run = work / f"{name}.run"
            right = train_classifier(start, train, held, work / name, run, how)
            note.write_text(json.dumps(right))
        accuracy[name] = float(json.loads(note.read_text()))
    base, reader = (
        EncoderModel.from_pretrained(str(work / name), "float32", how.device)
        for name in ("base", "reader")
    )
    return Models(base, reader, accuracy)


def _in_context(examples: Iterator[Example], count: int) -> list[Labelled]:
    """Examples in scope, as the reader sees them."""
    inside = islice((e for e in examples if e.answer is not None), count)
    return [(" ".join([*e.edits, e.prompt]), str(e.answer)) for e in inside]
