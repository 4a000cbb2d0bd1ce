"""``seprog bench``: results of evaluations, to read and to show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seprog.cli.output import console, example

app = typer.Typer(help="Results of evaluations, to read and to show.")


@app.callback()
def bench() -> None:
    """Results of evaluations, to read and to show."""


@app.command(
    "report", epilog=example("seprog bench report benchmarks/results/*.json --html report.html")
)
def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT...",
            help="Results that seprog eval wrote with --json, their --answers beside them.",
        ),
    ],
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the tables here, as Markdown.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write one page with tables and curves here."),
    ] = None,
    title: Annotated[str, typer.Option(metavar="TEXT", help="Of the page.")] = "seprog",
) -> None:
    """Work out every table again from the saved answers, without a model."""
    from seprog.bench import report as reports

    found = reports.load(results)
    text = reports.markdown(found)
    if markdown is not None:
        markdown.write_text(text, "utf-8")
    if html is not None:
        from seprog.bench.page import page

        html.write_text(page(found, title), "utf-8")
    if markdown is None and html is None:
        console().print(text, markup=False, soft_wrap=True)
