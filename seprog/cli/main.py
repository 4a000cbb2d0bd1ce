"""The program ``seprog``: its commands, and what becomes of errors."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from inspect import cleandoc
from typing import Annotated, Any, NoReturn

try:
    import typer
    from typer.core import TyperGroup

    from seprog.cli import (
        ask,
        atlas,
        bench,
        calibrate,
        change,
        demo,
        doctor,
        edit,
        evaluate,
        explain,
        keys,
        listing,
        serve,
        show,
        train,
        transfer,
    )
    from seprog.errors import SeprogError
except KeyboardInterrupt:  # Ctrl-C while all this is loaded
    sys.exit(130)


class Program(TyperGroup):
    """Errors become one line on stderr and an exit code; no traceback."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line."""
        args = list(sys.argv[1:] if args is None else args) or ["--help"]
        rest = (complete_var, False, windows_expand_args)
        if not standalone_mode:
            return super().main(args, prog_name, *rest, **extra)
        try:
            code = super().main(args, prog_name, *rest, **extra)
        except SeprogError as error:
            _fail(str(error), error.exit_code)
        except typer.TyperException as error:
            context = getattr(error, "ctx", None)  # usage errors know where they happened
            path = context.command_path if context else "seprog"
            _fail(f"{error.format_message().rstrip('.')}. Try: {path} --help", error.exit_code)
        except typer.Abort:
            _fail("Aborted", 1)
        except OSError as error:
            _fail(str(error), 1)
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"Error: {' '.join(message.split())}", err=True)
    sys.exit(code)


app = typer.Typer(cls=Program, pretty_exceptions_enable=False)


def _version(asked: bool) -> bool:
    if asked:
        from seprog import __version__

        typer.echo(f"seprog {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def seprog(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Correct what a frozen language model knows, with edits kept in a memory."""


START, EDITS, MOVE, SERVE = "Start here", "Edits", "In and out", "For others"
TUNE = "Models and measurements"
_COMMANDS = (
    ("demo", demo.demo, demo.EXAMPLE, START),
    ("doctor", doctor.doctor, doctor.EXAMPLE, START),
    ("edit", edit.edit, edit.EXAMPLE, EDITS),
    ("ask", ask.ask, ask.EXAMPLE, EDITS),
    ("explain", explain.explain, explain.EXAMPLE, EDITS),
    ("list", listing.list_edits, listing.EXAMPLE, EDITS),
    ("show", show.show, show.SHOW_EXAMPLE, EDITS),
    ("history", show.history, show.HISTORY_EXAMPLE, EDITS),
    ("forget", change.forget, change.FORGET_EXAMPLE, EDITS),
    ("restore", change.restore, change.RESTORE_EXAMPLE, EDITS),
    ("import", transfer.import_edits, transfer.IMPORT_EXAMPLE, MOVE),
    ("export", transfer.export_edits, transfer.EXPORT_EXAMPLE, MOVE),
    ("serve", serve.serve, serve.EXAMPLE, SERVE),
    ("calibrate", calibrate.calibrate, calibrate.EXAMPLE, TUNE),
)
for _name, _command, _example, _panel in _COMMANDS:
    app.command(_name, epilog=_example, rich_help_panel=_panel)(_command)
_GROUPS = (
    ("keys", keys.app, SERVE),
    ("train", train.app, TUNE),
    ("eval", evaluate.app, TUNE),
    ("bench", bench.app, TUNE),
    ("atlas", atlas.app, TUNE),
)
for _name, _group, _panel in _GROUPS:
    app.add_typer(_group, name=_name, rich_help_panel=_panel)
for _told in (c for part in (app, *(g for _, g, _ in _GROUPS)) for c in part.registered_commands):
    _text = _told.help or cleandoc(_told.callback.__doc__ or "")
    _told.help = "\n\n".join(" ".join(part.split()) for part in _text.split("\n\n"))


def run() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a terminal that cannot show a letter shows its number
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="seprog")
    except KeyboardInterrupt:  # before a command has begun
        sys.exit(130)
