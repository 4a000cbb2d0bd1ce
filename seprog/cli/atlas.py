"""``seprog atlas``: build the model that ships with seprog, and examine it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from seprog.cli import common, options
from seprog.cli.output import console, example, percent, print_json
from seprog.cli.train import run_folder, wrote

app = typer.Typer(help="Atlas, the small model that ships with seprog.")


@app.callback()
def atlas() -> None:
    """Atlas, the small model that ships with seprog."""


@app.command("build", epilog=example("seprog atlas build --out ./atlas --threads 2"))
def build(
    out: options.Out,
    run: options.RunFolder = None,
    vocabulary: Annotated[
        int, typer.Option(min=1, metavar="N", help="Tokens of the tokenizer.")
    ] = 6144,
    width: Annotated[
        int, typer.Option(min=32, metavar="N", help="Hidden size; heads are 32 wide.")
    ] = 192,
    layers: Annotated[int, typer.Option(min=1, metavar="N", help="Transformer layers.")] = 12,
    steps: options.Steps = 14000,
    rows: Annotated[int, typer.Option(min=1, metavar="N", help="Rows per step.")] = 12,
    length: Annotated[int, typer.Option(min=1, metavar="N", help="Tokens per row.")] = 256,
    lr: options.Rate = 4e-3,
    decay: Annotated[
        float,
        typer.Option(min=0.01, max=1.0, metavar="X", help="Share of the steps in which lr falls."),
    ] = 0.7,
    again: Annotated[
        int,
        typer.Option(min=0, max=5, metavar="N", help="Times lr rises and falls again; averaged."),
    ] = 2,
    open_book: Annotated[
        float, typer.Option(min=0.0, max=1.0, metavar="X", help="Share of open-book documents.")
    ] = 0.3,
    others: options.Others = 0.0,
    start_from: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Take weights and tokenizer of a model built before, as deep or less.",
        ),
    ] = None,
    share: options.Share = 1.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    threads: options.Threads = 2,
    bf16: options.Bf16 = True,
    compile: Annotated[
        bool, typer.Option(help="Compile the layers, where there is a C++ compiler.")
    ] = True,
) -> None:
    """Train Atlas from its tables; hours on two cores."""
    from seprog.atlas.build import AtlasConfig
    from seprog.atlas.build import build as train

    common.check_device(device)
    config = AtlasConfig(
        vocabulary=vocabulary,
        width=width,
        layers=layers,
        steps=steps,
        rows=rows,
        length=length,
        lr=lr,
        decay=decay,
        again=again,
        open_book=open_book,
        others=others,
        share=share,
        seed=seed,
        device=device,
        threads=threads,
        bf16=bf16,
        compile=compile,
    )
    train(out, run_folder(out, run), config, start_from)
    wrote(out, f"--model {out}")


@app.command("exam", epilog=example("seprog atlas exam --limit 500 --json exam.json"))
def exam(
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Questions per part.")] = 500,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the choice of questions.")] = 0,
    split: Annotated[
        Literal["calibration", "test"],
        typer.Option(help="Whose names and held-out phrasings; choose models by calibration."),
    ] = "test",
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the result here; - prints it, without a table."),
    ] = None,
    model: options.OnlyModel = None,
    device: options.Device = "cpu",
) -> None:
    """Ask the base model, without any edit, what it knows and how well it reads."""
    import json as encoder

    from rich.table import Table

    from seprog.atlas import MODEL
    from seprog.bench.exam import examine_model
    from seprog.lm import load_lm

    common.check_device(device)
    lm = load_lm(model or str(MODEL), dtype="float32", device=device)
    result = examine_model(lm, limit, seed, split)
    if json == common.STDIN:
        print_json(result)
        return
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(encoder.dumps(result, indent=1) + "\n")
    view = Table("part", "right", "95 % interval", "n")
    for name, part in result["results"].items():
        interval = f"{percent(part['low'])} to {percent(part['high'])}"
        view.add_row(name.replace("_", " "), percent(part["value"]), interval, str(part["n"]))
    console().print(view)
