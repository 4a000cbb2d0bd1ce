"""``seprog list``: the edits of a memory."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from seprog.cli import common, options
from seprog.cli.output import example, print_json, print_table, short, when

EXAMPLE = example("seprog list", "seprog list --all --search capital --json")


def list_edits(
    all_: Annotated[
        bool, typer.Option("--all", help="Also forgotten and superseded edits.")
    ] = False,
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only edits with all words of this text.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 50,
    offset: Annotated[int, typer.Option(min=0, metavar="N", help="Pass over so many.")] = 0,
    memory: options.Memory = None,
    namespace: options.Namespace = "default",
    json: options.AsJson = False,
) -> None:
    """List edits: the oldest first, or the best match first."""
    active = None if all_ else True
    with common.open_memory(memory) as opened:
        if search is None:
            found = opened.list(namespace, active, limit + 1, offset)
        else:
            found = opened.search(search, namespace, limit + 1, active, offset)
    edits, more = found[:limit], len(found) > limit
    if json:
        print_json([asdict(edit) for edit in edits])
        return
    rows = [
        (
            short(edit.id),
            "in force" if edit.active else "out of force",
            when(edit.created_at),
            edit.statement,
        )
        for edit in edits
    ]
    if rows:
        print_table(("id", "state", "added", "statement"), rows)
    notes = Console(stderr=True, markup=False, highlight=False)
    if more:
        notes.print(f"There are more: --offset {offset + limit}", style="dim")
    if not rows:
        notes.print(f"No edits found in the namespace {namespace!r}", style="dim")
