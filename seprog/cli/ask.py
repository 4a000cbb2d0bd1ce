"""``seprog ask``: what the model says, and by which edits."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seprog.cli import common, options
from seprog.cli.output import (
    candidate_fields,
    clean,
    console,
    example,
    fired,
    percent,
    print_json,
    print_table,
    short,
)
from seprog.errors import InputError

if TYPE_CHECKING:
    from seprog.editor import Editor
    from seprog.types import Answer, GateDecision

EXAMPLE = example(
    'seprog ask "What is the capital of Australia?"',
    "seprog ask --compare --file questions.txt",
)


def ask(
    queries: Annotated[
        list[str] | None, typer.Argument(metavar="QUERY", help="Questions, or starts of texts.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Queries, one per line; - means standard input."),
    ] = None,
    edits: Annotated[
        bool, typer.Option("--edits/--no-edits", help="Whether edits may fire.")
    ] = True,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show the answers without and with the edits.")
    ] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="Print each answer while it is written.")
    ] = False,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, metavar="N", help="Longest answer, in tokens.")
    ] = 32,
    chat: Annotated[
        bool, typer.Option("--chat", help="Put each query as a user's turn, if it is a chat model.")
    ] = False,
    threshold: options.Threshold = None,
    memory: options.Memory = None,
    namespace: options.Namespace = "default",
    model: options.Model = None,
    generator: options.Generator = None,
    gate: options.Gate = None,
    device: options.Device = "cpu",
    json: options.AsJson = False,
) -> None:
    """Ask the model, as the edits correct it; what no edit bears on, it answers as ever."""
    _check_flags(edits, compare, stream, chat, threshold, json)
    asked = [query.strip() for query in queries or []]
    asked += common.read_lines(file) if file else []
    if not asked:
        raise InputError("No query came", "at least one", "Write it behind seprog ask, or --file")
    from seprog.editor import Editor
    from seprog.types import GateDecision

    path = common.memory_path(memory, create=False)
    editor = common.open_editor(path, model, generator, gate, namespace, device)
    if stream:
        for query in asked:
            decision = GateDecision(query)
            if edits:
                [decision] = editor.explain_many([query], threshold=threshold)
            _stream(editor, decision, max_new_tokens, len(asked) > 1)
        return
    templated = editor.lm.tokenizer.chat_template  # without one, a turn is put as it stands
    say = _chat if chat and templated else Editor.generate
    answers = say(editor, asked, max_new_tokens, threshold=threshold, edits=edits)
    before = say(editor, asked, max_new_tokens, edits=False) if compare else []
    if json:
        print_json([_fields(a, b) for a, b in zip_longest(answers, before)])
    elif before:
        rows = [
            (b.query, b.text, a.text, "; ".join(_by(a.decision)))
            for a, b in zip(answers, before, strict=True)
        ]
        print_table(("query", "before", "after", "by"), rows)
    else:
        for answer in answers:
            _print(answer, len(answers) > 1)


def _chat(editor: Editor, queries: list[str], max_new_tokens: int, **options: Any) -> list[Answer]:
    turns = ([{"role": "user", "content": query}] for query in queries)
    return [editor.chat(messages, max_new_tokens, **options) for messages in turns]


def _check_flags(
    edits: bool, compare: bool, stream: bool, chat: bool, threshold: float | None, json: bool
) -> None:
    given = {
        "--chat": chat,
        "--no-edits": not edits,
        "--compare": compare,
        "--stream": stream,
        "--threshold": threshold is not None,
        "--json": json,
    }
    for one, other in (
        ("--no-edits", "--compare"),
        ("--no-edits", "--threshold"),
        ("--stream", "--compare"),
        ("--stream", "--json"),
        ("--stream", "--chat"),
    ):
        if given[one] and given[other]:
            raise InputError(f"{one} came with {other}", "one of the two", "Leave one out")


def _by(decision: GateDecision) -> list[str]:
    """The edits that fired, in words."""
    return [
        f"{short(c.edit.id)} ({percent(c.probability)}) {clean(c.edit.statement)}"
        for c in fired(decision)
    ]


def _print(answer: Answer, several: bool) -> None:
    out = console()
    if several:
        out.print(f"> {clean(answer.query)}", style="bold", soft_wrap=True)
    out.print("\n".join(clean(line) for line in answer.text.splitlines()), soft_wrap=True)
    _print_edits(answer.decision)


def _print_edits(decision: GateDecision) -> None:
    for line in _by(decision):
        console().print(f"  by {line}", style="dim", soft_wrap=True)


def _stream(editor: Editor, decision: GateDecision, longest: int, several: bool) -> None:
    out = console()
    if several:
        out.print(f"> {clean(decision.query)}", style="bold", soft_wrap=True)
    start = True
    for piece in editor.stream(decision, longest):
        shown = piece.lstrip() if start else piece
        start = start and not shown
        typer.echo("".join(c if c == "\n" else clean(c) for c in shown), nl=False)
    typer.echo("")
    _print_edits(decision)


def _fields(answer: Answer, before: Answer | None) -> dict[str, Any]:
    values: dict[str, Any] = {"query": answer.query, "text": answer.text}
    if before is not None:
        values["before"] = before.text
    return values | {
        "threshold": answer.decision.threshold,
        "fired": [candidate_fields(c) for c in fired(answer.decision)],
        "seconds": answer.seconds,
    }
