"""``seprog bench``: many measurements in one run, and their results to read and to show."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from seprog.cli import common, options
from seprog.cli.output import console, example, print_result
from seprog.cli.trials import Edits, Json, Methods, Work
from seprog.errors import InputError, MissingExtra

app = typer.Typer(help="Measure a whole suite, and show the results.")


@app.callback()
def bench() -> None:
    """Measure a whole suite, and show the results."""


@app.command("run", epilog=example("seprog bench run benchmarks/suites/cpu.yaml --out ./results"))
def run(
    suite: Annotated[
        Path, typer.Argument(metavar="SUITE", help="A YAML file, or the name of a data set.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Folder for results and answers; what is there stays as it is."
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder with a folder for each data set; for a single one also its own folder, "
            "or its name on the Hub.",
        ),
    ] = Path("data"),
    methods: Methods = None,
    edits: Edits = None,
    work: Work = Path("work"),
    device: options.Device = "cpu",
    threads: options.Threads = 1,
    bf16: options.Bf16 = True,
) -> None:
    """Measure a suite, cell by cell; a run that was stopped goes on.

    --methods and --edits stand for those that the suite names.
    """
    from seprog.bench.suite import cells, load_suite, narrowed
    from seprog.bench.suite import run as run_suite

    found = narrowed(load_suite(suite), tuple(methods or ()), tuple(edits or ()))
    from seprog.bench.lab import ALONE, Lab, together

    todo = cells(found, together, ALONE)
    show = sys.stderr.isatty()
    lab = Lab(work, data, common.compute(device, threads, bf16), show)
    failed = run_suite(todo, out, lab.measure, show)
    console().print(
        f"{len(todo) - len(failed)} of {len(todo)} cells measured. "
        f"Show them with: seprog bench report {out}",
        soft_wrap=True,
    )
    for cell, why in failed.items():
        console().print(f"Failed: {cell.name}: {why}", soft_wrap=True)
    if failed:
        raise typer.Exit(1)


@app.command("report", epilog=example("seprog bench report ./results --html report.html"))
def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT...",
            help="Results with their answers beside them, or folders of them.",
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


@app.command("cost", epilog=example("seprog bench cost gpt2 --edits 1000 --json cost.json"))
def cost(
    shape: Annotated[
        str,
        typer.Argument(
            metavar="SHAPE",
            help="A type of model in its default shape, such as gpt2, or a folder with a config.",
        ),
    ],
    edits: Annotated[int, typer.Option(min=1, metavar="N", help="Edits in the memory.")] = 1000,
    methods: Methods = None,
    work: Work = Path("work"),
    device: options.Device = "cpu",
    threads: options.Threads = 1,
    json: Json = None,
) -> None:
    """Measure what editing costs on random weights of a real shape."""
    from seprog.bench.shapes import measure, table

    common.compute(device, threads).begin()
    show = sys.stderr.isatty()
    result = measure(shape, edits, methods or (), work, common.file_of(json), show, device)
    print_result(result, table, json)


@app.command("load", epilog=example("seprog bench load http://127.0.0.1:8000 --clients 1,8,32"))
def load(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Of a server that runs.")],
    key: Annotated[
        str | None, typer.Option(envvar="SEPROG_KEY", metavar="KEY", help="One that may edit.")
    ] = None,
    namespace: Annotated[
        str, typer.Option(metavar="NAME", help="Where edits are put and asked about.")
    ] = "load",
    edits: Annotated[int, typer.Option(min=1, metavar="N", help="Edits in the memory.")] = 10_000,
    clients: Annotated[
        str, typer.Option(metavar="N,...", help="How many ask at the same time.")
    ] = "1,8,32",
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each turn.")] = 15.0,
    turns: Annotated[int, typer.Option(min=1, help="With editing, and as many without.")] = 2,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 32,
    json: Json = None,
) -> None:
    """Load a server with questions, half of them about its edits, and with editing off beside."""
    from seprog.bench.load import Load, measure, table

    try:
        counts = tuple(int(c) for c in clients.split(","))
    except ValueError:
        raise InputError(f"--clients {clients} came", "numbers such as 1,8,32", "") from None
    how = Load(edits, counts, seconds, turns, max_tokens)
    out, show = common.file_of(json), sys.stderr.isatty()
    print_result(measure(address.rstrip("/"), key, namespace, how, out, show), table, json)


@app.command(
    "harness",
    epilog=example(
        "seprog bench harness --tasks atlas_facts --include_path benchmarks/harness "
        "--model_args memory=seprog.db"
    ),
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def harness(context: typer.Context) -> None:
    """Run lm-evaluation-harness on a model with edits; takes the arguments of lm_eval.

    The model is seprog unless another is named; --model_args takes pretrained, memory, generator,
    gate, namespace, device and batch_size.
    """
    try:
        from seprog.bench.harness import main
    except ImportError as error:
        raise MissingExtra(
            f"{error.name} is not installed", "the extra harness", "pip install 'seprog[harness]'"
        ) from error
    named = any(a == "--model" or a.startswith(("--model=", "-M")) for a in context.args)
    main([*([] if named else ["--model", "seprog"]), *context.args])
