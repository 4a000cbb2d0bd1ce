"""``seprog import`` and ``seprog export``: edits as JSON lines."""

from __future__ import annotations

import json as json_
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seprog.cli import common, options
from seprog.cli.output import clean, console, example, print_json
from seprog.errors import InputError

if TYPE_CHECKING:
    from seprog.memory import Memory

IMPORT_EXAMPLE = example(
    "seprog import edits.jsonl --model ./model", "seprog import --skip-bad - < edits.jsonl"
)
EXPORT_EXAMPLE = example("seprog export --output edits.jsonl", "seprog export --history | gzip")


def import_edits(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="JSON lines; - means standard input.")
    ],
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Import the good rows even if others are bad.")
    ] = False,
    memory: options.Memory = None,
    namespace: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Put all edits here.", show_default="as the rows say"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            **options.A_MODEL_OR_EDITOR
            | {
                "help": "Refuse edits that this model cannot spell or has no room for.",
                "show_default": "edits are not tried on a model",
            }
        ),
    ] = None,
    json: options.AsJson = False,
) -> None:
    """Add edits from JSON lines: all of them or, if a row is bad, none.

    A row holds a statement, or a prompt and a target, or a subject, a relation and an object; or
    what seprog export gave.
    """
    check = None if model is None else common.open_editor(None, model, None, None).check
    with common.open_lines(file) as lines, common.open_memory(memory, create=True) as opened:
        report = opened.import_rows(lines, namespace, skip_bad, check=check)
    refused = bool(report.errors) and not skip_bad
    for line, fault in report.errors:
        typer.echo(f"Line {line}: {fault}", err=True)
    if json:
        errors = [{"line": line, "error": fault} for line, fault in report.errors]
        counts = {k: getattr(report, k) for k in ("added", "duplicates", "superseded")}
        print_json({**counts, "errors": errors})
    elif not refused:
        bad = f", {len(report.errors)} bad rows passed over" if report.errors else ""
        console().print(
            f"{report.added} added, {report.duplicates} known already, "
            f"{report.superseded} superseded{bad}"
        )
    if refused:
        raise InputError(
            f"{len(report.errors)} of the rows are bad, so nothing was imported",
            "good rows only",
            "Correct them, or pass over them with --skip-bad",
        )


def export_edits(
    history: Annotated[
        bool, typer.Option("--history", help="Also edits out of force, and what happened to each.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write.", show_default="standard output"),
    ] = None,
    memory: options.Memory = None,
    namespace: options.AnyNamespace = None,
) -> None:
    """Write edits as JSON lines, for seprog import or another program."""
    with common.open_memory(memory) as opened:
        if output is None:
            for row in opened.export(namespace, history):
                typer.echo(json_.dumps(row, ensure_ascii=False))
        else:
            _write(opened, output, namespace, history)


def _write(memory: Memory, output: Path, namespace: str | None, history: bool) -> None:
    """Write a file as a whole, or leave what was there."""
    if output.exists() and Path(memory.path).exists() and output.samefile(memory.path):
        raise InputError(
            f"--output names the memory itself ({output})", "another file", "Choose another name"
        )
    if output.is_dir():
        raise InputError(f"--output names the folder {output}", "a file", "Add a file's name")
    part = output.with_name(f"{output.name}.part")
    count = 0
    try:
        with part.open("w", encoding="utf-8") as file:
            for row in memory.export(namespace, history):
                file.write(json_.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        os.replace(part, output)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(
            f"{output} cannot be written ({error.strerror})", "a writable file", "Check the path"
        ) from error
    console().print(f"{count} edits written to {clean(str(output))}", soft_wrap=True)
