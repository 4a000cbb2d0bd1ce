"""How commands print: tables for people, plain columns into a pipe, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seprog.cli.common import STDIN

if TYPE_CHECKING:
    from seprog.types import Candidate, GateDecision

SHOWN = 12
"""Characters of an id that are shown."""


def example(*lines: str) -> str:
    """The end of a command's help."""
    return "\n\n".join(["Example:", *lines])


def console() -> Console:
    """Standard output, in which no text is markup."""
    return Console(markup=False, highlight=False, emoji=False)


def clean(text: str) -> str:
    """One line without control characters, which a terminal might obey."""
    return "".join(c if c.isprintable() else " " for c in text)


def short(id_: str) -> str:
    """An id as it is shown."""
    return id_[:SHOWN]


def when(seconds: float) -> str:
    """A time as it is shown, in the local time zone."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def percent(share: float) -> str:
    """A probability as it is shown."""
    return f"{100 * share:.1f}%"


def print_json(value: Any) -> None:
    """Print as JSON."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_result(result: Any, table: Callable[[Any], Table], path: Path | None) -> None:
    """Print a measured result: as JSON where ``--json -`` asked for it, else as a table."""
    if path == STDIN:
        print_json(result)
    else:
        console().print(table(result))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; into a pipe, tab-separated columns without a head.

    Args:
        columns: Their heads; the last one takes the room that is left.
        rows: One text per column.
    """
    out = console()
    if not out.is_terminal:
        for row in rows:
            typer.echo("\t".join(clean(cell) for cell in row))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=name != columns[-1], overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    out.print(table)


def candidate_fields(candidate: Candidate) -> dict[str, Any]:
    """A candidate as JSON."""
    return asdict(candidate)


def decision_fields(decision: GateDecision) -> dict[str, Any]:
    """A decision as JSON."""
    return asdict(decision)


def fires(candidate: Candidate, threshold: float) -> str:
    """Whether a candidate fires, in a word or two."""
    if candidate.fired:
        return "yes"
    return "passed over" if candidate.probability > threshold else "no"


def fired(decision: GateDecision) -> list[Candidate]:
    """The candidates that fired, in the order in which the chain reached them."""
    return sorted((c for c in decision.candidates if c.fired), key=lambda c: c.hop)
