"""``seprog serve``: the model with its edits, for other programs and for people at a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seprog.cli import common, options
from seprog.cli.output import example, print_json
from seprog.errors import MissingExtra

EXAMPLE = example(
    "seprog keys add ada --role admin --memory edits.db",
    "seprog serve --memory edits.db",
    "seprog serve ./my-model --config server.toml --print-config",
)


def serve(
    model: Annotated[str | None, typer.Argument(**options.A_MODEL_OR_EDITOR)] = None,
    memory: options.Memory = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where to listen (default 127.0.0.1).")
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", help="Port to listen on (default 8000).")
    ] = None,
    auth: Annotated[
        bool | None,
        typer.Option(
            "--auth/--no-auth",
            help="Whether API keys are asked for; without them only on this machine's own address.",
            show_default="--auth",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Settings as TOML; --print-config shows their names."),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print all settings, as JSON, and stop.")
    ] = False,
    generator: options.Generator = None,
    gate: options.Gate = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where the model runs (default cpu).")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="CPU threads (default 1).")
    ] = None,
) -> None:
    """Serve a model with its edits: OpenAI's API, an API for edits, and a console at /.

    What is not said by a flag is looked for in the environment (SEPROG_HOST, …), then in --config.
    """
    load = _settings()
    settings = load(
        config,
        model=model,
        memory=memory,
        host=host,
        port=port,
        auth=auth,
        generator=generator,
        gate=gate,
        device=device,
        threads=threads,
    )
    if print_config:
        print_json(settings.model_dump(mode="json"))
        return
    common.check_device(settings.device)
    from seprog.server.run import run

    run(settings)


def _settings() -> Any:
    try:
        from seprog.server.settings import Settings
    except ImportError as error:
        raise MissingExtra(
            f"The server needs {error.name}, which is not installed",
            "the extra server",
            "Install it with: pip install 'seprog[server]'",
        ) from error
    return Settings.load
