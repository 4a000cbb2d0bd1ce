"""Measures a suite's cells: what they need is loaded or trained once."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch

from seprog.atlas import GATE, GENERATOR, MODEL
from seprog.bench import atlas, evaluation, seeds
from seprog.bench.contestants import CONTESTANTS
from seprog.bench.course import AtlasCourse, TrialCourse
from seprog.bench.suite import Cell
from seprog.bench.tasks import TASKS, bench_of
from seprog.bench.workshop import Workshop
from seprog.data.folders import folder_of
from seprog.editor import Editor
from seprog.errors import InputError
from seprog.gate import ScopeGate
from seprog.generator import load_generator
from seprog.lm import CausalLM
from seprog.text_encoder import TextEncoder

ALONE = tuple(name for name, c in CONTESTANTS.items() if c.search)
"""Methods that are tuned, and need no gate of ours."""


def workshop_on(
    dataset: str,
    data: Path | None,
    work: Path,
    threads: int = 1,
    bf16: bool = True,
    seed: int = 0,
) -> Workshop:
    """What methods are made from on a data set.

    Args:
        dataset: Its name.
        data: Folder with its files; Atlas needs none.
        work: Folder for what is trained, the base model too where the data set has to be taught.
        threads: CPU threads.
        bf16: Train in bfloat16.
        seed: Of the gate and the generator that methods behind our gate share.

    Raises:
        InputError: If there is no such data set, or its files are missing.
    """
    if dataset == "atlas":
        lm = CausalLM.from_pretrained(str(MODEL), "float32")
        return Workshop(AtlasCourse(lm), work, editor=lambda: _shipped(lm))
    if dataset not in TASKS or data is None:
        raise InputError(
            f"Methods were to be measured on {dataset!r}"
            + (", without its files" if data is None else ""),
            f"atlas, or the folder with the files of {', '.join(TASKS)}",
            "Give one of these names with --dataset, and the folder with --data",
        )
    task = TASKS[dataset](folder_of(data), threads, bf16)
    models, how = task.models(work), bench_of((seed,), (), (), threads, bf16)
    return Workshop(
        TrialCourse(dataset, task, models),
        work / "peers",
        editor=lambda: seeds.trained_editor(task, models.base, work, how, seed),
    )


def _shipped(lm: CausalLM) -> Editor:
    """What ships beside Atlas, on a copy that methods may change."""
    gate = ScopeGate.from_pretrained(GATE, TextEncoder())
    return Editor(lm, gate, load_generator(GENERATOR, lm))


def together(dataset: str) -> tuple[str, ...]:
    """The methods that share a gate on a data set, and the bounds beside them."""
    return atlas.METHODS if dataset == "atlas" else seeds.METHODS


class Lab:
    """Where cells are measured.

    Args:
        work: Folder for what is trained on the way.
        data: Folder with a folder for each data set, or that of a single one, or its name on the
            Hub.
        threads: CPU threads.
        bf16: Train in bfloat16.
        progress: Whether to show progress bars.
    """

    def __init__(self, work: Path, data: Path, threads: int, bf16: bool, progress: bool) -> None:
        torch.set_num_threads(threads)
        self.work, self.data = work, data
        self.threads, self.bf16, self.progress = threads, bf16, progress

    @cached_property
    def editor(self) -> Editor:
        """Atlas with what ships beside it."""
        return Editor.from_pretrained()

    @cached_property
    def workshop(self) -> Workshop:
        """For methods on a copy of Atlas that they may change."""
        return workshop_on("atlas", None, self.work / "atlas")

    def measure(self, cell: Cell, out: Path, answers: Path) -> None:
        """Measure a cell, and write its result and answers."""
        name, methods, seed = cell.part.dataset, cell.methods, cell.seed
        saved = (out, answers, self.progress)
        shared = set(methods) <= set(together(name))
        if cell.edits is None:
            own, part, work = self.data / name, cell.part, self.work / name
            folder = folder_of(part.data or (own if own.is_dir() else self.data))
            if shared:
                task = TASKS[name](folder, self.threads, self.bf16)
                how = bench_of((seed,), methods, part.edits, self.threads, self.bf16)
                seeds.evaluate(task, name, work, how, *saved)
            else:
                shop = workshop_on(name, folder, work, self.threads, self.bf16, seed)
                evaluation.evaluate(shop, part.edits, methods, seed, *saved)
        elif shared:
            atlas.evaluate(self.editor, [cell.edits], methods, seed, *saved)
        else:
            evaluation.evaluate(self.workshop, [cell.edits], methods, seed, *saved)
