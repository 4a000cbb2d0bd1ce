"""``seprog eval`` on data sets of knowledge editing: one command each, all alike."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from seprog.cli import common, options
from seprog.cli.output import example, print_result

Data = Annotated[
    Path,
    typer.Option(metavar="DIR", help="Folder with the data set's files, or its name on the Hub."),
]
Work = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        help="Folder for what is trained on the way; what is there is not trained again.",
    ),
]
Seeds = Annotated[
    int, typer.Option(min=1, max=10, metavar="N", help="Generators and gates to train.")
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--methods",
        "--method",
        metavar="NAME",
        help="A method to compare; may be given several times.",
        show_default="all of them",
    ),
]
Edits = Annotated[
    list[int] | None,
    typer.Option(
        metavar="N",
        help="Edits at a time; may be given several times.",
        show_default="those the data set is made for",
    ),
]
Json = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the result here; - prints it, without a table."),
]
Answers = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write every answer here, as JSON lines.")
]


class DataSet(NamedTuple):
    """A data set that can be measured on.

    Args:
        title: Its name.
        help: What is done with it.
        seeds: Generators and gates that are trained unless told otherwise.
    """

    title: str
    help: str
    seeds: int


DATA_SETS = {
    "leapofthought": DataSet(
        "LeapOfThought",
        "Edit a true-or-false classifier, and ask what follows from the edits (LeapOfThought).",
        5,
    ),
    "fever": DataSet(
        "FEVER",
        "Flip what a fact checker believes of claims, and ask about claims they exclude (FEVER).",
        5,
    ),
    "counterfact": DataSet(
        "CounterFact",
        "Teach a causal model CounterFact's facts, edit them, and ask in other words.",
        3,
    ),
    "knowedit": DataSet(
        "KnowEdit",
        "Teach a causal model KnowEdit's facts, edit them, and ask for what is near and follows.",
        3,
    ),
    "mquake": DataSet(
        "MQuAKE",
        "Teach a causal model MQuAKE's facts, edit them case by case, and ask what follows.",
        3,
    ),
    "zsre": DataSet(
        "zsRE",
        "Teach a sequence-to-sequence model zsRE's answers, edit them, and ask in other words.",
        3,
    ),
}
"""By the name of the command."""


def add_command(app: typer.Typer, name: str, data_set: DataSet) -> None:
    """Add the command that measures on a data set."""

    @app.command(
        name,
        help=data_set.help,
        epilog=example(f"seprog eval {name} --data ./{name} --work ./work"),
    )
    def measure(
        data: Data,
        work: Work,
        methods: Methods = None,
        edits: Edits = None,
        seeds: Seeds = data_set.seeds,
        device: options.Device = "cpu",
        threads: options.Threads = 1,
        bf16: options.Bf16 = True,
        json: Json = None,
        answers: Answers = None,
    ) -> None:
        with common.waiting("Loading the data"):
            from seprog.bench.seeds import evaluate, table
            from seprog.bench.tasks import TASKS, bench_of
            from seprog.data.folders import folder_of

            on = common.compute(device, threads, bf16)
            task = TASKS[name](folder_of(data), on)
        config = bench_of(tuple(range(seeds)), tuple(methods or ()), tuple(edits or ()), on)
        out = common.file_of(json)
        show = sys.stderr.isatty()
        result = evaluate(task, name, work / name, config, out, answers, show)
        print_result(result, lambda r: table(r, data_set.title), json)
