"""Measures a suite's cells: what they need is loaded or trained once."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch

from seprog.atlas import MODEL
from seprog.bench import atlas, peers, trials
from seprog.bench.suite import Cell
from seprog.bench.tasks import TASKS, bench_of
from seprog.bench.workshop import Workshop
from seprog.data.folders import folder_of
from seprog.editor import Editor
from seprog.lm import CausalLM

TOGETHER = atlas.METHODS
"""Methods that share the gate's decisions."""
ALONE = tuple(name for name in peers.PEERS if name not in TOGETHER)
"""The others."""


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
        return Workshop(CausalLM.from_pretrained(str(MODEL), "float32"), self.work / "atlas")

    def measure(self, cell: Cell, out: Path, answers: Path) -> None:
        """Measure a cell, and write its result and answers."""
        name, seed = cell.part.dataset, cell.seed
        if cell.edits is None:
            own = self.data / name
            folder = cell.part.data or (own if own.is_dir() else self.data)
            task = TASKS[name](folder_of(folder), self.threads, self.bf16)
            part = cell.part
            how = bench_of((seed,), cell.methods, part.edits, self.threads, self.bf16)
            trials.evaluate(task, name, self.work / name, how, out, answers, self.progress)
            return
        sizes = [cell.edits]
        if set(cell.methods) <= set(TOGETHER):
            atlas.evaluate(self.editor, sizes, cell.methods, seed, out, answers, self.progress)
        else:
            peers.evaluate(self.workshop, sizes, cell.methods, seed, out, answers, self.progress)
