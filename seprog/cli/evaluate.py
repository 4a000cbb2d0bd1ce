"""``seprog eval``: measure the whole system."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from seprog.cli import common, options, trials
from seprog.cli.output import example, print_result
from seprog.cli.trials import Answers, Json, Methods, Work
from seprog.errors import InputError

app = typer.Typer(help="Measure the whole system.")


Edits = Annotated[
    list[int] | None,
    typer.Option(
        metavar="N",
        help="Edits in the memory; may be given several times.",
        show_default="1, 10, 100, 1000",
    ),
]


def _sizes(edits: list[int] | None) -> list[int]:
    sizes = edits or [1, 10, 100, 1000]
    if min(sizes) < 1:
        raise InputError(f"--edits {min(sizes)} came", "a number from 1", "Give 1 or more")
    return sizes


@app.callback()
def evaluate() -> None:
    """Measure the whole system."""


@app.command(
    "atlas",
    epilog=example("seprog eval atlas --edits 100 --json result.json --answers answers.jsonl"),
)
def atlas(
    edits: Edits = None,
    methods: Methods = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of edits and probes.")] = 0,
    wording: Annotated[
        Literal["test", "other"],
        typer.Option(help="Phrasings: held-out ones, or those of other writers."),
    ] = "test",
    json: Json = None,
    answers: Answers = None,
    model: options.Model = None,
    generator: options.Generator = None,
    gate: options.Gate = None,
    device: options.Device = "cpu",
) -> None:
    """Edit Atlas, and ask it what was edited, what follows from it, and what must stay."""
    sizes = _sizes(edits)
    from seprog.bench.atlas import METHODS
    from seprog.bench.atlas import evaluate as measure
    from seprog.bench.tables import table
    from seprog.methods.contract import require_known

    chosen = methods or list(METHODS)
    require_known(chosen, METHODS)  # before the model is loaded
    editor = common.open_editor(None, model, generator, gate, device=device)
    out = common.file_of(json)
    show = sys.stderr.isatty()
    result = measure(editor, sizes, chosen, seed, out, answers, show, wording=wording)
    print_result(result, table, json)


@app.command("peers", epilog=example("seprog eval peers --edits 100 --json peers.json"))
def peers(
    dataset: Annotated[
        str, typer.Option(metavar="NAME", help="atlas, or a data set of seprog eval.")
    ] = "atlas",
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder with the data set's files, or its name on the Hub; Atlas needs none.",
        ),
    ] = None,
    edits: trials.Edits = None,
    methods: Methods = None,
    work: Work = Path("peers"),
    seed: Annotated[int, typer.Option(metavar="N", help="Of edits and probes.")] = 0,
    device: options.Device = "cpu",
    threads: options.Threads = 1,
    bf16: options.Bf16 = True,
    json: Json = None,
    answers: Answers = None,
) -> None:
    """Edit by other methods (fine-tuning, ROME, MEMIT, GRACE, SERAC ...), and ask.

    On the very edits and questions of seprog eval with the data set's name. Its base model is
    taught if it is not in the data set's folder in the one that --work names. What stands behind
    our gate is measured beside them if it is named (--method seprog --method memit).
    """
    sizes = _sizes(edits) if edits else []
    from seprog.bench.contestants import CONTESTANTS, PEERS
    from seprog.bench.evaluation import evaluate
    from seprog.bench.lab import workshop_on
    from seprog.bench.tables import table
    from seprog.methods.contract import require_known

    require_known(methods or (), CONTESTANTS)  # before a base model is taught
    on = common.compute(device, threads, bf16)
    on.begin()
    shop = workshop_on(dataset, data, work / dataset, on, seed)
    names = methods or [name for name in PEERS if CONTESTANTS[name].method.fits(shop.lm)]
    out, show = common.file_of(json), sys.stderr.isatty()
    result = evaluate(shop, sizes, names, seed, out, answers, show)
    print_result(result, table, json)


for name, data_set in trials.DATA_SETS.items():
    trials.add_command(app, name, data_set)
