"""``seprog bench run``: a suite of measurements, cell by cell, that goes on where it was stopped.

A suite is a YAML file: which data sets, which methods, how many edits, which seeds. A cell is what
is measured in one go; it leaves a result and its answers in the suite's folder, or a file that says
why it failed, and is not measured again. One that lacks what it needs leaves nothing.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from seprog.bench.progress import watch
from seprog.errors import InputError, MissingExtra
from seprog.methods.contract import require_known

TRIALS = ("leapofthought", "fever", "counterfact", "knowedit", "mquake", "zsre")
"""Data sets that need a folder, and bring their own methods and numbers of edits."""

EDITS = (1, 10, 100, 1000)
"""How many edits Atlas is given unless a suite says otherwise."""


@dataclass(frozen=True)
class Part:
    """One data set of a suite.

    Args:
        dataset: Its name.
        data: Its folder; ``None``: of its name, beside those of the other data sets.
        methods: Which; empty means all of them.
        edits: How many at a time; empty means those that the data set is made for.
        seeds: Of edits and probes, or of generators and gates.
    """

    dataset: str
    data: Path | None = None
    methods: tuple[str, ...] = ()
    edits: tuple[int, ...] = ()
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Suite:
    """What is measured.

    Args:
        parts: By data set.
    """

    parts: tuple[Part, ...] = field(default_factory=tuple)


@dataclass(frozen=True)
class Cell:
    """What is measured in one go.

    Args:
        part: Where it belongs.
        methods: Those that share what is costly; empty means all that the data set has.
        edits: How many; ``None`` where all that the part asks for share what is costly.
        seed: The seed.
    """

    part: Part
    methods: tuple[str, ...]
    edits: int | None
    seed: int

    @property
    def name(self) -> str:
        """Of its files."""
        sizes = self.part.edits if self.edits is None else (self.edits,)
        what = [self.part.dataset, "+".join(self.methods), "+".join(map(str, sizes))]
        what.append(f"s{self.seed}")
        return "-".join(x for x in what if x)


Measure = Callable[[Cell, Path, Path], object]
"""A cell, where its result goes, and where its answers go."""


def load_suite(path: Path) -> Suite:
    """Read a suite.

    Args:
        path: A YAML file with a list ``parts``, or the name of a data set: the smallest suite.

    Raises:
        InputError: If it is no suite; the message says what is wrong where.
    """
    if path.name == str(path) and path.name in ("atlas", *TRIALS):
        return Suite((Part(path.name),))
    try:
        rows = list(yaml.safe_load(path.read_text("utf-8"))["parts"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is no suite ({type(error).__name__}: {error})",
            f"a YAML file with a list of parts, or one of atlas, {', '.join(TRIALS)}",
            "See benchmarks/suites for examples",
        ) from error
    return Suite(tuple(_part(row, path) for row in rows))


def narrowed(suite: Suite, methods: tuple[str, ...], edits: tuple[int, ...]) -> Suite:
    """A suite with other methods and numbers of edits; none given leaves its own."""
    return Suite(
        tuple(replace(p, methods=methods or p.methods, edits=edits or p.edits) for p in suite.parts)
    )


def _part(row: Any, path: Path) -> Part:
    known = {f.name for f in fields(Part)}
    if not isinstance(row, dict) or not row.keys() <= known or "dataset" not in row:
        raise InputError(
            f"{path} has the part {row!r}",
            f"a dataset and some of {', '.join(known)}",
            "Correct it",
        )
    if row["dataset"] not in ("atlas", *TRIALS):
        raise InputError(
            f"{path} names the data set {row['dataset']!r}",
            f"one of atlas, {', '.join(TRIALS)}",
            "Check its name",
        )
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
    if "data" in values:
        values["data"] = path.parent / str(values["data"])
    return Part(**values)


def cells(
    suite: Suite, together: Callable[[str], tuple[str, ...]], alone: tuple[str, ...]
) -> list[Cell]:
    """What is to be measured.

    Args:
        suite: The suite.
        together: A data set to the methods that share a gate's decisions there, and are measured in
            one go; where a data set has to be taught, at all numbers of edits.
        alone: The other methods; unless named, they are measured on Atlas only.

    Raises:
        InputError: If a method is not known.
    """
    found = []
    for part in suite.parts:
        own = together(part.dataset)
        require_known(part.methods, (*own, *alone))
        wanted = part.methods or ((*own, *alone) if part.dataset == "atlas" else ())
        shared = tuple(m for m in wanted if m in own)
        groups = [shared] if shared or not wanted else []
        groups += [(m,) for m in wanted if m not in own]
        if part.dataset != "atlas":
            found += [Cell(part, group, None, seed) for seed in part.seeds for group in groups]
            continue
        found += [
            Cell(part, group, n, seed)
            for seed in part.seeds
            for n in part.edits or EDITS
            for group in groups
        ]
    return found


def run(todo: list[Cell], folder: Path, measure: Measure, progress: bool) -> dict[Cell, str]:
    """Measure what is not measured yet.

    Args:
        todo: Cells.
        folder: For results, answers and what failed.
        measure: Does it.
        progress: Whether to show a progress bar.

    Returns:
        The cells that failed, now or before, and why. Those that could not begin (no data, a
        package that is not installed) are tried again by the next run; the others once their
        ``.failed`` files are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failed = {}
    for cell in watch(todo, "cells", progress):
        result, why = folder / f"{cell.name}.json", folder / f"{cell.name}.failed"
        if not result.exists() and not why.exists():
            try:
                measure(cell, result, folder / f"{cell.name}.jsonl")
            except (InputError, MissingExtra) as error:  # mended by whoever gave it
                failed[cell] = str(error)
            except Exception as error:  # a cell that fails is a row that says so
                what = {
                    "dataset": cell.part.dataset,
                    "methods": list(cell.methods),
                    "edits": cell.edits,
                    "error": f"{type(error).__name__}: {error}",
                    "traceback": traceback.format_exc(),
                }
                why.write_text(json.dumps(what, indent=1) + "\n")
        if why.exists():
            failed[cell] = f"{json.loads(why.read_text())['error']}; see {why}"
    return failed
