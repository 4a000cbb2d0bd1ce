"""``seprog explain``: why an edit fires for a query, or does not."""

from __future__ import annotations

from typing import Annotated

import typer

from seprog.cli import common, options
from seprog.cli.output import (
    console,
    decision_fields,
    example,
    fires,
    percent,
    print_json,
    print_table,
    short,
)

EXAMPLE = example('seprog explain "What is the currency of Australia?"')


def explain(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A question, or a text's start.")],
    threshold: options.Threshold = None,
    memory: options.Memory = None,
    namespace: options.Namespace = "default",
    model: options.Model = None,
    generator: options.Generator = None,
    gate: options.Gate = None,
    device: options.Device = "cpu",
    json: options.AsJson = False,
) -> None:
    """Show which edits fire for a query, and the nearest ones that do not.

    Hop 0: the query itself led to the edit; hop n: an edit that fired before did. Passed over: a
    likelier edit fired, and the query did not call for this one then.
    """
    path = common.memory_path(memory, create=False)
    editor = common.open_editor(path, model, generator, gate, namespace, device)
    [decision] = editor.explain_many([query.strip()], threshold=threshold)
    if json:
        print_json(decision_fields(decision))
        return
    limit = percent(decision.threshold)
    rows = [
        (
            fires(c, decision.threshold),
            percent(c.probability),
            limit,
            str(c.hop),
            short(c.edit.id),
            c.edit.statement,
        )
        for c in decision.candidates
    ]
    if rows:
        print_table(("fires", "probability", "threshold", "hop", "id", "statement"), rows)
    else:
        console().print(_nothing(len(editor.shelf().edits), namespace), soft_wrap=True)


def _nothing(edits: int, namespace: str) -> str:
    """Why there is nothing to show."""
    if not edits:
        return f"No edits in the namespace {namespace!r}: nothing fires"
    which = "The only edit" if edits == 1 else f"None of the {edits} edits"
    near = "is not near enough" if edits == 1 else "is near enough"
    return f"{which} in the namespace {namespace!r} {near} to be read: nothing fires"
