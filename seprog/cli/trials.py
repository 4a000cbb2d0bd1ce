"""``seprog eval`` on data sets of knowledge editing: one command each, all alike."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from seprog.cli import common
from seprog.cli.output import console, example, print_json
from seprog.cli.train import Bf16, Threads

if TYPE_CHECKING:
    from seprog.bench.trials import Task

Data = Annotated[Path, typer.Option(metavar="DIR", help="Folder with the data set's files.")]
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
        task: Given its folder and options for the training of the base model (``threads``,
            ``bf16``), what is to be measured.
    """

    title: str
    help: str
    seeds: int
    task: Callable[..., Task]


def _leapofthought(data: Path, **options: Any) -> Task:
    from seprog.bench.leapofthought import LeapOfThought
    from seprog.training.classifier import ClassifierTraining

    return LeapOfThought(data, how=ClassifierTraining(**options))


def _fever(data: Path, **options: Any) -> Task:
    from seprog.bench.fever import FactChecking
    from seprog.training.classifier import ClassifierTraining

    return FactChecking(data, how=ClassifierTraining(**options))


def _counterfact(data: Path, **options: Any) -> Task:
    from dataclasses import replace

    from seprog.bench.counterfact import CounterFact, CounterFactBench

    config = CounterFactBench()
    return CounterFact(data, replace(config, model=replace(config.model, **options)))


def _zsre(data: Path, **options: Any) -> Task:
    from dataclasses import replace

    from seprog.bench.zsre import ZsRE, ZsREBench

    config = ZsREBench()
    return ZsRE(data, replace(config, model=replace(config.model, **options)))


DATA_SETS = {
    "leapofthought": DataSet(
        "LeapOfThought",
        "Edit a true-or-false classifier, and ask what follows from the edits (LeapOfThought).",
        5,
        _leapofthought,
    ),
    "fever": DataSet(
        "FEVER",
        "Flip what a fact checker believes of claims, and ask about claims they exclude (FEVER).",
        5,
        _fever,
    ),
    "counterfact": DataSet(
        "CounterFact",
        "Teach a causal model CounterFact's facts, edit them, and ask in other words.",
        3,
        _counterfact,
    ),
    "zsre": DataSet(
        "zsRE",
        "Teach a sequence-to-sequence model zsRE's answers, edit them, and ask in other words.",
        3,
        _zsre,
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
        seeds: Seeds = data_set.seeds,
        threads: Threads = 1,
        bf16: Bf16 = True,
        json: Json = None,
        answers: Answers = None,
    ) -> None:
        with common.waiting("Loading the data"):
            task = data_set.task(data, threads=threads, bf16=bf16)
        from dataclasses import replace

        from seprog.bench.trials import TrialBench, evaluate, table

        config = TrialBench(seeds=tuple(range(seeds)))
        config = replace(
            config,
            generator=replace(config.generator, threads=threads),
            gate=replace(config.gate, threads=threads, bf16=bf16),
        )
        out = None if json == common.STDIN else json
        result = evaluate(task, name, work, config, out, answers, sys.stderr.isatty())
        if json == common.STDIN:
            print_json(result)
        else:
            console().print(table(result, data_set.title))
