"""``seprog show`` and ``seprog history``: everything about one edit, and what happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from seprog.cli import common, options
from seprog.cli.output import clean, console, example, print_json, print_table, short, when

if TYPE_CHECKING:
    from seprog.memory import Event

SHOW_EXAMPLE = example("seprog show 5f3a09c1", "seprog show 5f3a --json")
HISTORY_EXAMPLE = example("seprog history", "seprog history 5f3a09c1 --json")


def show(
    id_: options.Id,
    memory: options.Memory = None,
    namespace: options.OwnNamespace = None,
    json: options.AsJson = False,
) -> None:
    """Show all fields of an edit, and its history."""
    with common.open_memory(memory) as opened:
        edit = opened.get(id_)
        common.check_namespace(edit, namespace)
        events = opened.history(edit.id)
    if json:
        print_json({**asdict(edit), "events": [asdict(event) for event in events]})
        return
    fields = asdict(edit) | {
        "created_at": when(edit.created_at),
        "active": "yes" if edit.active else "no",
    }
    out = console()
    for name, value in fields.items():
        if value is not None:
            out.print(f"{name:12}{clean(value)}", soft_wrap=True)
    out.print()
    _print_events(events, with_id=False)


def history(
    id_: Annotated[
        str | None, typer.Argument(metavar="ID", help="Only what happened to this edit.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Only the latest so many.", show_default="all"),
    ] = None,
    memory: options.Memory = None,
    namespace: options.Namespace = "default",
    json: options.AsJson = False,
) -> None:
    """Show what happened to the edits of a namespace, or to one edit of any."""
    with common.open_memory(memory) as opened:
        events = opened.history(id_, None if id_ else namespace, limit)
    if json:
        print_json([asdict(event) for event in events])
    else:
        _print_events(events, with_id=True)


def _print_events(events: Sequence[Event], with_id: bool) -> None:
    rows = [
        (
            when(event.at),
            *([short(event.edit_id)] if with_id else []),
            event.action,
            event.author or "",
            _detail(event),
        )
        for event in events
    ]
    columns = ("time", *(["id"] if with_id else []), "what", "author", "detail")
    if rows:
        print_table(columns, rows)


def _detail(event: Event) -> str:
    link = "by" if event.action == "superseded" else "in place of"
    other = [f"{link} {short(event.other_id)}"] if event.other_id else []
    return "; ".join([*other, *([event.reason] if event.reason else [])])
