"""``seprog train``: the scope gate, and a generator for a base model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seprog.cli import common, options
from seprog.cli.output import clean, console, example

app = typer.Typer(help="Train a scope gate, or a generator for a base model.")


def run_folder(out: Path, run: Path | None) -> Path:
    """Where checkpoint and log of a run go."""
    return run or out.with_name(f"{out.name}.run")


def wrote(out: Path, use: str) -> None:
    """Say what to do with the result."""
    console().print(f"Wrote {clean(str(out))}; use it with {use}", soft_wrap=True)


@app.command("generator", epilog=example("seprog train generator --model ./my-model --out ./gen"))
def generator(
    out: options.Out,
    model: options.OnlyModel = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON lines with edits, prompt and answer (null: the model's own answer).",
            show_default="the tables of Atlas",
        ),
    ] = None,
    run: options.RunFolder = None,
    device: options.Device = "cpu",
    summary: Annotated[int, typer.Option(min=0, metavar="N", help="Summary tokens per edit.")] = 0,
    rank: Annotated[int, typer.Option(min=1, metavar="N", help="Rank of the LoRA.")] = 16,
    keep_text: Annotated[
        bool, typer.Option(help="Whether the text's own tokens are part of the prefix too.")
    ] = True,
    refine: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Steps on a prefix that fails on its own edit."),
    ] = 30,
    steps: options.Steps = 1000,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Examples per step.")] = 32,
    lr: options.Rate = 5e-4,
    keep: Annotated[
        float, typer.Option(metavar="X", help="Weight of the loss where the answer must stay.")
    ] = 0.2,
    others: options.Others = 0.0,
    check_every: Annotated[
        int, typer.Option(min=1, metavar="N", help="Steps between checks on held-out examples.")
    ] = 50,
    patience: Annotated[
        int, typer.Option(min=1, metavar="N", help="Checks without a better one before the end.")
    ] = 8,
    seed: options.Seed = 0,
    threads: options.Threads = 1,
    bf16: options.Bf16 = True,
) -> None:
    """Train a generator for a base model: edits to short prefixes."""
    if data is not None:
        common.read_lines(data)  # before a model is loaded
    with common.waiting("Loading the model"):
        from seprog import atlas
        from seprog.lm import load_lm
        from seprog.training.generator import GeneratorTraining, train_generator

        common.check_device(device)
        dtype = "float32" if device == "cpu" else "auto"
        lm = load_lm(model or str(atlas.MODEL), dtype=dtype, device=device)
    config = GeneratorTraining(
        summary=summary,
        rank=rank,
        keep_text=keep_text,
        refine=refine,
        steps=steps,
        batch=batch,
        lr=lr,
        keep=keep,
        others=others,
        check_every=check_every,
        patience=patience,
        seed=seed,
        device=device,
        threads=threads,
        bf16=bf16,
    )
    train_generator(lm, out, run_folder(out, run), config, data)
    wrote(out, f"--generator {out}")


@app.command("gate", epilog=example("seprog train gate --out ./gate"))
def gate(
    out: options.Out,
    run: options.RunFolder = None,
    scenarios: Annotated[int, typer.Option(min=1, metavar="N", help="Memories to draw from.")] = 3,
    edits: Annotated[int, typer.Option(min=1, metavar="N", help="Edits per memory.")] = 1000,
    chained: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, metavar="X", help="Share of the edits in chains."),
    ] = 0.5,
    steps: options.Steps = 3000,
    groups: Annotated[int, typer.Option(min=1, metavar="N", help="Queries per step.")] = 8,
    negatives: Annotated[
        int, typer.Option(min=1, metavar="N", help="Near edits out of scope per query.")
    ] = 3,
    lr: options.Rate = 1e-3,
    start_from: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Go on from a gate trained before."),
    ] = None,
    share: options.Share = 0.5,
    others: options.Others = 0.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    threads: options.Threads = 1,
    bf16: options.Bf16 = True,
) -> None:
    """Train a scope gate: which edits bear on a query. It serves any base model."""
    with common.waiting("Loading the encoder"):
        from seprog.training.gate import GateTraining, train_gate
    common.check_device(device)
    config = GateTraining(
        scenarios=scenarios,
        edits=edits,
        chained=chained,
        steps=steps,
        groups=groups,
        negatives=negatives,
        lr=lr,
        share=share,
        others=others,
        seed=seed,
        device=device,
        threads=threads,
        bf16=bf16,
    )
    train_gate(out, run_folder(out, run), config, start_from)
    wrote(out, f"--gate {out}")


@app.command(
    "classifier", epilog=example("seprog train classifier --data labelled.jsonl --out ./classifier")
)
def classifier(
    out: options.Out,
    data: Annotated[Path, typer.Option(metavar="FILE", help="JSON lines with text and label.")],
    base: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="An encoder.", show_default="the sentence encoder"),
    ] = None,
    run: options.RunFolder = None,
    steps: options.Steps = 3000,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Texts per step.")] = 32,
    lr: options.Rate = 1e-4,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    threads: options.Threads = 1,
    bf16: options.Bf16 = True,
) -> None:
    """Fine-tune an encoder as a classifier of texts: a base model to be edited."""
    with common.waiting("Loading the encoder"):
        from seprog.cli.output import percent
        from seprog.text_encoder import packaged_folder
        from seprog.training.classifier import ClassifierTraining, read_labelled, train_classifier

    train, held_out = read_labelled(data)
    common.check_device(device)
    config = ClassifierTraining(
        steps=steps, batch=batch, lr=lr, seed=seed, device=device, threads=threads, bf16=bf16
    )
    run = run_folder(out, run)
    right = train_classifier(base or packaged_folder(), train, held_out, out, run, config)
    console().print(f"{percent(right)} of {len(held_out)} held-out texts get their label")
    wrote(out, f"--model {out}")
