"""Run the server until it is told to stop."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import uvicorn

from seprog.errors import InputError
from seprog.server.app import create_app
from seprog.server.settings import Settings
from seprog.server.telemetry import log_to_stderr

SHAPES_KEPT = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
"""What torch and oneDNN keep for each shape that a layer met, up to 1,024 of them each and more
than a gigabyte; a server meets new shapes all the time."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then what has begun is ended first.

    Raises:
        InputError: Keys are asked for, and there is none; or the address cannot be listened on.
        MemoryFileError: The memory cannot be opened.
    """
    for cache in SHAPES_KEPT:
        os.environ.setdefault(cache, "64")
    app = create_app(settings)
    if settings.auth and not app.state.service.keys.all():
        raise InputError(
            f"The memory {settings.memory} has no API keys, so nobody could ask",
            "at least one key",
            f"Make one with: seprog keys add NAME --role admin --memory {settings.memory}; "
            "or, on your own machine, add --no-auth",
        )
    log_to_stderr(settings.log_level)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=int(settings.drain),
        server_header=False,
    )
    server = uvicorn.Server(config)
    with suppress(SystemExit):  # how it ends where it cannot listen
        server.run()
    if not server.started:
        raise InputError(
            f"{settings.host}:{settings.port} cannot be listened on",
            "an address of this machine and a port that is free",
            "Choose another with --host and --port",
        )
    sys.stderr.flush()
