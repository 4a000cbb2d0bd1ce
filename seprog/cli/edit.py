"""``seprog edit``: store a correction."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from seprog.cli import common, options
from seprog.cli.output import clean, console, example, print_json, short

if TYPE_CHECKING:
    from seprog.editor import Editor
    from seprog.memory import Memory
    from seprog.types import Edit

EXAMPLE = example(
    'seprog edit "The capital of Australia is Sydney."',
    'seprog edit --prompt "The capital of Australia is" --target Sydney --author ada',
)


def edit(
    statement: Annotated[
        str | None, typer.Argument(metavar="STATEMENT", help="The correction as a sentence.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Or, or too: a question or sentence start."),
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The answer to the prompt.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Or: a triple, with --relation and --object.")
    ] = None,
    relation: Annotated[
        str | None, typer.Option(metavar="TEXT", help='As a noun, such as "capital".')
    ] = None,
    object_: Annotated[
        str | None, typer.Option("--object", metavar="TEXT", help="The end of the triple.")
    ] = None,
    author: options.Author = None,
    reason: options.Reason = None,
    memory: options.Memory = None,
    namespace: options.Namespace = "default",
    model: options.Model = None,
    generator: options.Generator = None,
    gate: options.Gate = None,
    device: options.Device = "cpu",
    json: options.AsJson = False,
) -> None:
    """Store a correction; it is in force at once.

    An edit that answers the same question is superseded: it stays in the history.
    """
    from seprog.memory import make_edit

    fields = {
        "statement": statement,
        "prompt": prompt,
        "target": target,
        "subject": subject,
        "relation": relation,
        "object": object_,
        "author": author,
        "reason": reason,
    }
    make_edit(**fields, namespace=namespace)  # before a model is loaded
    path = common.memory_path(memory, create=True)
    editor = common.open_editor(path, model, generator, gate, namespace, device)
    before = time.time()
    stored, milliseconds = store(editor, **fields)
    known = stored.created_at < before
    replaced = superseded_by(editor.memory, stored.id, before)
    if json:
        rows = [asdict(old) for old in replaced]
        values = {"edit": asdict(stored), "known": known, "superseded": rows}
        print_json({**values, "milliseconds": round(milliseconds, 3)})
        return
    out = console()
    state = "was in force already, as it was" if known else "is in force"
    out.print(f"{short(stored.id)} {state} ({milliseconds:.0f} ms)", soft_wrap=True)
    for old in replaced:
        out.print(f"  supersedes {short(old.id)} ({clean(old.statement)})", soft_wrap=True)


def store(editor: Editor, **fields: str | None) -> tuple[Edit, float]:
    """Store an edit, and make its key and prefix now rather than when it is first asked for.

    Returns:
        The edit, and the milliseconds that it took.
    """
    start = time.perf_counter()
    stored = editor.edit(**fields)
    editor.shelf()
    editor.cached_prefixes([stored])
    return stored, 1000 * (time.perf_counter() - start)


def superseded_by(memory: Memory, id_: str, since: float) -> list[Edit]:
    """The edits that an edit has put out of force since a time."""
    events = memory.history(namespace=memory.get(id_).namespace, limit=100)
    return [
        memory.get(event.edit_id)
        for event in events
        if event.action == "superseded" and event.other_id == id_ and event.at >= since
    ]
