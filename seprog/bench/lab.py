"""Measures a suite's cells: what they need is loaded or trained once."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

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
from seprog.training.compute import Compute

ALONE = tuple(name for name, c in CONTESTANTS.items() if c.search)
"""Methods that are tuned, and need no gate of ours."""


def workshop_on(
    dataset: str,
    data: Path | None,
    work: Path,
    on: Compute | None = None,
    seed: int = 0,
) -> Workshop:
    """What methods are made from on a data set.

    Args:
        dataset: Its name.
        data: Folder with its files; Atlas needs none.
        work: Folder for what is trained, the base model too where the data set has to be taught.
        on: What to compute on; ``None``: a single CPU thread.
        seed: Of the gate and the generator that methods behind our gate share.

    Raises:
        InputError: If there is no such data set, or its files are missing.
    """
    on = on or Compute()
    if dataset == "atlas":
        lm = CausalLM.from_pretrained(str(MODEL), "float32", on.device)
        return Workshop(AtlasCourse(lm), work, editor=lambda: _shipped(lm))
    if dataset not in TASKS or data is None:
        raise InputError(
            f"Methods were to be measured on {dataset!r}"
            + (", without its files" if data is None else ""),
            f"atlas, or the folder with the files of {', '.join(TASKS)}",
            "Give one of these names with --dataset, and the folder with --data",
        )
    task = TASKS[dataset](folder_of(data), on)
    models, how = task.models(work), bench_of((seed,), (), (), on)
    return Workshop(
        TrialCourse(dataset, task, models),
        work / "peers",
        editor=lambda: seeds.trained_editor(task, models.base, work, how, seed),
    )


def _shipped(lm: CausalLM) -> Editor:
    """What ships beside Atlas, on a copy that methods may change."""
    gate = ScopeGate.from_pretrained(GATE, TextEncoder(device=lm.device))
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
        on: What to compute on.
        progress: Whether to show progress bars.
    """

    def __init__(self, work: Path, data: Path, on: Compute, progress: bool) -> None:
        on.begin()
        self.work, self.data = work, data
        self.on, self.progress = on, progress

    @cached_property
    def editor(self) -> Editor:
        """Atlas with what ships beside it."""
        return Editor.from_pretrained(dtype="float32", device=self.on.device)

    @cached_property
    def workshop(self) -> Workshop:
        """For methods on a copy of Atlas that they may change."""
        return workshop_on("atlas", None, self.work / "atlas", self.on)

    def measure(self, cell: Cell, out: Path, answers: Path) -> None:
        """Measure a cell, and write its result and answers."""
        name, methods, seed = cell.part.dataset, cell.methods, cell.seed
        saved = (out, answers, self.progress)
        shared = set(methods) <= set(together(name))
        if cell.edits is None:
            own, part, work = self.data / name, cell.part, self.work / name
            folder = folder_of(part.data or (own if own.is_dir() else self.data))
            if shared:
                task = TASKS[name](folder, self.on)
                how = bench_of((seed,), methods, part.edits, self.on)
                seeds.evaluate(task, name, work, how, *saved)
            else:
                shop = workshop_on(name, folder, work, self.on, seed)
                evaluation.evaluate(shop, part.edits, methods, seed, *saved)
        elif shared:
            atlas.evaluate(self.editor, [cell.edits], methods, seed, *saved)
        else:
            evaluation.evaluate(self.workshop, [cell.edits], methods, seed, *saved)
