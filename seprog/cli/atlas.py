"""``seprog atlas``: build the model that ships with seprog."""

from __future__ import annotations

from typing import Annotated

import typer

from seprog.cli.output import example
from seprog.cli.train import Out, Rate, RunFolder, Seed, Steps, Threads, run_folder, wrote

app = typer.Typer(help="Atlas, the small model that ships with seprog.")


@app.callback()
def atlas() -> None:
    """Atlas, the small model that ships with seprog."""


@app.command("build", epilog=example("seprog atlas build --out ./atlas --threads 2"))
def build(
    out: Out,
    run: RunFolder = None,
    vocabulary: Annotated[
        int, typer.Option(min=1, metavar="N", help="Tokens of the tokenizer.")
    ] = 6144,
    width: Annotated[
        int, typer.Option(min=32, metavar="N", help="Hidden size; heads are 32 wide.")
    ] = 192,
    layers: Annotated[int, typer.Option(min=1, metavar="N", help="Transformer layers.")] = 6,
    steps: Steps = 3300,
    rows: Annotated[int, typer.Option(min=1, metavar="N", help="Rows per step.")] = 24,
    length: Annotated[int, typer.Option(min=1, metavar="N", help="Tokens per row.")] = 128,
    lr: Rate = 5e-3,
    decay: Annotated[
        float,
        typer.Option(min=0.01, max=1.0, metavar="X", help="Share of the steps in which lr falls."),
    ] = 0.35,
    open_book: Annotated[
        float, typer.Option(min=0.0, max=1.0, metavar="X", help="Share of open-book documents.")
    ] = 0.4,
    other: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, metavar="X", help="Share of tokens outside answers learnt as well."
        ),
    ] = 0.05,
    seed: Seed = 0,
    threads: Threads = 2,
) -> None:
    """Train Atlas from its tables; hours on two cores."""
    from seprog.atlas.build import AtlasConfig
    from seprog.atlas.build import build as train

    config = AtlasConfig(
        vocabulary=vocabulary,
        width=width,
        layers=layers,
        steps=steps,
        rows=rows,
        length=length,
        lr=lr,
        decay=decay,
        open_book=open_book,
        other=other,
        seed=seed,
        threads=threads,
    )
    train(out, run_folder(out, run), config)
    wrote(out, f"--model {out}")
