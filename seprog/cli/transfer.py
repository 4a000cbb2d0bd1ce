"""``seprog import`` and ``seprog export``: edits as JSON lines."""

from __future__ import annotations

import errno
import json as json_
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from seprog.cli import common, options
from seprog.cli.output import clean, console, example, print_json
from seprog.errors import InputError

if TYPE_CHECKING:
    from seprog.memory import ImportReport, Memory

IMPORT_EXAMPLE = example(
    "seprog import edits.jsonl --model atlas", "seprog import --skip-bad - < edits.jsonl"
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
    model: options.Comparing = None,
    json: options.AsJson = False,
) -> None:
    """Add edits from JSON lines: all of them or, if a row is bad, none.

    A row holds a statement, or a prompt and a target, or a subject, a relation and an object; or
    what seprog export gave. Without a model it is not known which edits answer the same question
    in other words: both stay in force. With one, the newer one takes the place of the older, as in
    seprog edit; that takes minutes for ten thousand rows.
    """
    with common.open_lines(file) as lines:
        report = _stored(lines, memory, model, namespace, skip_bad)
    refused = bool(report.errors) and not skip_bad
    bad = _counted(len(report.errors), "bad row")
    for line, fault in report.errors:
        typer.echo(f"Line {line}: {fault}", err=True)
    if json:
        errors = [{"line": line, "error": fault} for line, fault in report.errors]
        counts = {k: getattr(report, k) for k in ("added", "duplicates", "superseded")}
        print_json({**counts, "errors": errors})
    elif not refused:
        over = f", {bad} passed over" if report.errors else ""
        console().print(
            f"{report.added} added, {report.duplicates} known already, "
            f"{report.superseded} superseded{over}"
        )
    if refused:
        raise InputError(
            f"The file has {bad}, so nothing was imported",
            "good rows only",
            "Correct them, or pass over them with --skip-bad",
        )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _stored(
    lines: Iterable[str],
    memory: Path | None,
    model: str | None,
    namespace: str | None,
    skip_bad: bool,
) -> ImportReport:
    """Import lines; with a model, the newer edits take the place of the older."""
    if model is None:
        with common.open_memory(memory, create=True) as opened:
            return opened.import_rows(lines, namespace, skip_bad)
    editor = common.comparing_editor(common.memory_path(memory, create=True), model)
    with editor.memory, _progress("Comparing with what is in force") as watch:
        return editor.import_rows(lines, watch, namespace=namespace, skip_bad=skip_bad)


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar, on a terminal; told how many of how many are done."""
    screen = Console(stderr=True)
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


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
        found = opened.export(namespace, history)
        rows = (f"{json_.dumps(row, ensure_ascii=False)}\n" for row in found)
        if output is None:
            _print(rows)
        else:
            _write(opened, output, rows)


def _print(rows: Iterable[str]) -> None:
    with _in_words("Standard output"):
        try:
            for row in rows:
                typer.echo(row, nl=False)
        except OSError:  # what is left in the buffer would fail again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise


def _write(memory: Memory, output: Path, rows: Iterable[str]) -> None:
    """Write a file as a whole, or leave what was there; links, devices and pipes stay such."""
    if output.exists() and Path(memory.path).exists() and output.samefile(memory.path):
        raise InputError(
            f"--output names the memory itself ({output})", "another file", "Choose another name"
        )
    if output.is_dir():
        raise InputError(f"--output names the folder {output}", "a file", "Add a file's name")
    with _in_words(str(output)):
        if output.exists() and not output.is_file():  # a device or a pipe: there is no message,
            with output.open("w", encoding="utf-8") as file:  # as it may be standard output
                _fill(file, rows)
            return
        count = _replace(Path(os.path.realpath(output)), rows)
    console().print(f"{_counted(count, 'edit')} written to {clean(str(output))}", soft_wrap=True)


def _replace(path: Path, rows: Iterable[str]) -> int:
    """Put a new file, with the old one's mode, in its place; the number of rows."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            if path.exists():
                part.chmod(path.stat().st_mode & 0o7777)
            count = _fill(file, rows)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return count


def _fill(file: IO[str], rows: Iterable[str]) -> int:
    return sum(bool(file.write(row)) for row in rows)


@contextmanager
def _in_words(name: str) -> Iterator[None]:
    """Say in seprog's words what the system says where a file is written."""
    try:
        yield
    except BrokenPipeError:  # who reads has read enough
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"There is no space left for {name}", "free space on its disk", "Free some space"
            ) from error
        raise InputError(
            f"{name} cannot be written ({error.strerror})", "a writable file", "Check the path"
        ) from error
