"""Write docs/cli.md from the commands' own help: ``python scripts/cli_docs.py``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from seprog.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
HEAD = """# The command line

Written by `scripts/cli_docs.py` from `seprog --help`; do not edit.

Every error is one line on standard error, and the exit code says what kind it was: 0 all right,
1 something failed, 2 the input is not usable, 3 the memory file, 4 the model, 5 a missing extra,
130 interrupted.
"""


def commands(group: Any, context: Any) -> Iterator[tuple[Any, Any]]:
    """Every command below a group that does something, with its context."""
    for name, command in group.commands.items():
        inner = command.make_context(name, [], parent=context, resilient_parsing=True)
        if "commands" in vars(command):
            yield from commands(command, inner)
        else:
            yield command, inner


def paragraph(text: str) -> str:
    """Text for a table cell."""
    return " ".join(text.split()).replace("|", "\\|")


def section(command: Any, context: Any) -> str:
    """One command: what it does, its options, its example."""
    pieces = " ".join(command.collect_usage_pieces(context))
    lines = [f"## {context.command_path}", "", command.help.strip(), ""]
    lines += ["```text", f"{context.command_path} {pieces}", "```", ""]
    lines += ["| | |", "|---|---|"]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and parameter.name != "help":
            name = re.sub(r" <[^>]*>", "", record[0])  # types of flags and arguments
            lines.append(f"| `{name}` | {paragraph(record[1])} |")
    _, *examples = (line for line in command.epilog.split("\n") if line)
    return "\n".join([*lines, "", "```sh", *examples, "```", ""])


def page() -> str:
    """The whole page."""
    root: Any = get_command(app)
    context = root.make_context("seprog", [], resilient_parsing=True)
    found = list(commands(root, context))
    summary = [
        f"- [`{inner.command_path}`](#{inner.command_path.replace(' ', '-')}): "
        f"{paragraph(command.help.strip().splitlines()[0])}"
        for command, inner in found
    ]
    return "\n".join([HEAD, *summary, "", *(section(*pair) for pair in found)])


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
