"""``seprog eval``: measure the whole system."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seprog.cli import common, options
from seprog.cli.output import console, example, print_json
from seprog.cli.train import Bf16, Threads
from seprog.errors import InputError

if TYPE_CHECKING:
    from seprog.bench.trials import Task

app = typer.Typer(help="Measure the whole system.")


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


@app.callback()
def evaluate() -> None:
    """Measure the whole system."""


@app.command(
    "atlas",
    epilog=example("seprog eval atlas --edits 100 --json result.json --answers answers.jsonl"),
)
def atlas(
    edits: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            help="Edits in the memory; may be given several times.",
            show_default="1, 10, 100, 1000",
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A method to compare; may be given several times.",
            show_default="all of them",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of edits and probes.")] = 0,
    json: Json = None,
    answers: Answers = None,
    model: options.Model = None,
    generator: options.Generator = None,
    gate: options.Gate = None,
    device: options.Device = "cpu",
) -> None:
    """Edit Atlas, and ask it what was edited, what follows from it, and what must stay."""
    sizes = edits or [1, 10, 100, 1000]
    if min(sizes) < 1:
        raise InputError(f"--edits {min(sizes)} came", "a number from 1", "Give 1 or more")
    from seprog.bench.atlas import METHODS, table
    from seprog.bench.atlas import evaluate as measure

    chosen = methods or list(METHODS)
    if unknown := [name for name in chosen if name not in METHODS]:
        raise InputError(
            f"There is no method {unknown[0]!r}", f"some of {', '.join(METHODS)}", "Check its name"
        )
    editor = common.open_editor(None, model, generator, gate, device=device)
    out = None if json == common.STDIN else json
    result = measure(editor, sizes, chosen, seed, out, answers, sys.stderr.isatty())
    if json == common.STDIN:
        print_json(result)
    else:
        console().print(table(result))


@app.command(
    "leapofthought",
    epilog=example("seprog eval leapofthought --data ./leapofthought --work ./work"),
)
def leapofthought(
    data: Data,
    work: Work,
    seeds: Seeds = 5,
    threads: Threads = 1,
    bf16: Bf16 = True,
    json: Json = None,
    answers: Answers = None,
) -> None:
    """Edit a true-or-false classifier, and ask what follows from the edits (LeapOfThought)."""
    with common.waiting("Loading the data"):
        from seprog.bench.leapofthought import LeapOfThought
        from seprog.training.classifier import ClassifierTraining

        task = LeapOfThought(data, how=ClassifierTraining(threads=threads, bf16=bf16))
    _measure(task, "LeapOfThought", work, seeds, threads, bf16, json, answers)


@app.command("fever", epilog=example("seprog eval fever --data ./fever --work ./work"))
def fever(
    data: Data,
    work: Work,
    seeds: Seeds = 5,
    threads: Threads = 1,
    bf16: Bf16 = True,
    json: Json = None,
    answers: Answers = None,
) -> None:
    """Flip what a fact checker believes of claims, and ask about claims they exclude (FEVER)."""
    with common.waiting("Loading the data"):
        from seprog.bench.fever import FactChecking
        from seprog.training.classifier import ClassifierTraining

        task = FactChecking(data, how=ClassifierTraining(threads=threads, bf16=bf16))
    _measure(task, "FEVER", work, seeds, threads, bf16, json, answers)


@app.command(
    "counterfact", epilog=example("seprog eval counterfact --data ./counterfact --work ./work")
)
def counterfact(
    data: Data,
    work: Work,
    seeds: Seeds = 3,
    threads: Threads = 1,
    bf16: Bf16 = True,
    json: Json = None,
    answers: Answers = None,
) -> None:
    """Teach a causal model CounterFact's facts, edit them, and ask in other words."""
    with common.waiting("Loading the data"):
        from dataclasses import replace

        from seprog.bench.counterfact import CounterFact, CounterFactBench

        config = CounterFactBench()
        how = replace(config.model, threads=threads, bf16=bf16)
        task = CounterFact(data, replace(config, model=how))
    _measure(task, "CounterFact", work, seeds, threads, bf16, json, answers)


def _measure(
    task: Task,
    title: str,
    work: Path,
    seeds: int,
    threads: int,
    bf16: bool,
    json: Path | None,
    answers: Path | None,
) -> None:
    """Run a task's trials, and show the result."""
    from dataclasses import replace

    from seprog.bench.trials import TrialBench, evaluate, table

    config = TrialBench(seeds=tuple(range(seeds)))
    config = replace(
        config,
        generator=replace(config.generator, threads=threads),
        gate=replace(config.gate, threads=threads, bf16=bf16),
    )
    out = None if json == common.STDIN else json
    result = evaluate(task, work, config, out, answers, sys.stderr.isatty())
    if json == common.STDIN:
        print_json(result)
    else:
        console().print(table(result, title))
