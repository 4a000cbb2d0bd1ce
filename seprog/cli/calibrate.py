"""``seprog calibrate``: fit the threshold to a memory."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seprog.cli import common, options
from seprog.cli.output import console, example, percent, print_json
from seprog.errors import InputError

if TYPE_CHECKING:
    from seprog.gate import Calibration

EXAMPLE = example(
    "seprog calibrate --queries unrelated.txt --rate 0.01", "seprog calibrate --reset"
)


def calibrate(
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Queries that no edit bears on, one per line; - means standard input.",
        ),
    ] = None,
    rate: Annotated[
        float,
        typer.Option(metavar="R", help="Share of such queries that may fire anything (0 to 1)."),
    ] = 0.01,
    reset: Annotated[
        bool, typer.Option("--reset", help="Go back to the threshold that the gate came with.")
    ] = False,
    memory: options.Memory = None,
    namespace: options.Namespace = "default",
    model: options.Model = None,
    generator: options.Generator = None,
    gate: options.Gate = None,
    device: options.Device = "cpu",
    json: options.AsJson = False,
) -> None:
    """Fit the gate's threshold to this memory, and keep it there.

    Beside the queries given, each edit is asked of all the others. For a rate of 1 % there must be
    at least 99 edits and queries together.
    """
    if not 0 < rate < 1:
        raise InputError(f"--rate is {rate}", "a number between 0 and 1", "Try --rate 0.01")
    if reset and queries:
        raise InputError(
            "--reset came with --queries", "one of the two", "Leave --queries out to go back"
        )
    from seprog.gate import kept_as

    texts = common.read_lines(queries) if queries else []
    path = common.memory_path(memory or common.DEFAULT_MEMORY, create=False)
    editor = common.open_editor(path, model, generator, gate, namespace, device)
    before = editor.calibration(namespace).threshold
    if reset:
        editor.memory.set_meta(kept_as(namespace), None)
        _say_reset(editor.gate.calibration, before, json)
        return
    with common.waiting("Asking"):
        fitted = editor.calibrate(texts, rate)
    if json:
        print_json({**asdict(fitted), "threshold_before": before})
        return
    console().print(
        f"Edits fire above {percent(fitted.threshold)} (before: {percent(before)}). "
        f"Of {fitted.queries} queries out of scope, {percent(fitted.observed)} fire; "
        f"promised: at most {percent(fitted.rate)}.",
        soft_wrap=True,
    )


def _say_reset(own: Calibration, before: float, json: bool) -> None:
    if json:
        print_json({**asdict(own), "threshold_before": before})
        return
    console().print(
        f"Edits fire above {percent(own.threshold)} again, as the gate came (before: "
        f"{percent(before)}).",
        soft_wrap=True,
    )
