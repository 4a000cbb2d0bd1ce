"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Memory = Annotated[
    Path | None,
    typer.Option(
        envvar="SEPROG_MEMORY",
        metavar="FILE",
        help="The file of the edits.",
        show_default="seprog.db",
        readable=False,  # whether it can be read, the memory itself says
    ),
]
Namespace = Annotated[str, typer.Option(metavar="NAME", help="Whose edits.")]
AnyNamespace = Annotated[
    str | None, typer.Option(metavar="NAME", help="Whose edits.", show_default="all")
]
OwnNamespace = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Refuse an edit of another namespace.", show_default="any will do"
    ),
]
A_MODEL: dict[str, Any] = {
    "envvar": "SEPROG_MODEL",
    "metavar": "MODEL",
    "help": "The base model: a folder or a Hub id.",
    "show_default": "Atlas, the model that ships with seprog",
}
A_MODEL_OR_EDITOR = A_MODEL | {
    "help": "The base model: a folder or a Hub id, or a folder of a saved editor."
}
Model = Annotated[str | None, typer.Option(**A_MODEL_OR_EDITOR)]
Comparing = Annotated[
    str | None,
    typer.Option(
        **A_MODEL_OR_EDITOR
        | {
            "help": "Replace edits that answer the same question as the gate sees it, and "
            "refuse what it cannot spell or has no room for; atlas: the model that ships.",
            "show_default": "only edits with the same prompt or triple are replaced",
        }
    ),
]
OnlyModel = Annotated[str | None, typer.Option(**A_MODEL)]
Generator = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="A generator trained for the model.",
        show_default="the one beside the model, else the verbatim one",
    ),
]
Gate = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="A scope gate.", show_default="the one that ships"),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="Where the model runs: cpu, cuda, …")]
Threshold = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        metavar="P",
        help="Probability above which an edit fires.",
        show_default="as calibrated",
    ),
]
Author = Annotated[
    str | None, typer.Option(metavar="NAME", help="Who does this; kept in the history.")
]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; kept in the history.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Id = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="The id of an edit, or as much of its start as no other shares."
    ),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder for the result.")]
RunFolder = Annotated[
    Path | None,
    typer.Option(
        "--run",
        metavar="DIR",
        help="Folder for checkpoint and log; a stopped run goes on from there.",
        show_default="OUT.run",
    ),
]
Steps = Annotated[int, typer.Option(min=1, metavar="N", help="Optimizer steps at most.")]
Rate = Annotated[float, typer.Option(metavar="X", help="Peak learning rate.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Of data and initial weights.")]
Threads = Annotated[int, typer.Option(min=1, metavar="N", help="CPU threads.")]
Bf16 = Annotated[
    bool, typer.Option(help="Multiply in bfloat16; slow on CPUs without AVX512-BF16 or AMX.")
]
Share = Annotated[
    float,
    typer.Option(
        min=0.05,
        max=1.0,
        metavar="X",
        help="How far to go from where it starts to where training leads.",
    ),
]
Others = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1.0,
        metavar="X",
        help="Share of what Atlas' tables say that is in more writers' phrasings.",
    ),
]
