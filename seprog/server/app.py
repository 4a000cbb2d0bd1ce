"""The application: routes, middleware, and what happens at start and end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from seprog import __version__
from seprog.editor import Editor
from seprog.errors import MemoryFileError
from seprog.server import edits, errors, openai
from seprog.server.console import routes as console
from seprog.server.guard import OwnOnly
from seprog.server.service import Served, Service
from seprog.server.settings import Settings
from seprog.server.telemetry import Observed


def create_app(settings: Settings, editor: Editor | None = None) -> FastAPI:
    """The server as an ASGI application.

    Args:
        settings: What it is told.
        editor: If it is loaded already; else it is loaded in the background at the start, and
            ``/readyz`` says when it is there.

    Raises:
        MemoryFileError: The memory cannot be opened.
    """
    service = Service(settings, editor)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        with suppress(MemoryFileError):
            edits.forget_old_keys(service)
        loading = None
        if not service.loaded:
            loading = asyncio.get_running_loop().run_in_executor(None, service.load)
        yield
        if loading is not None:
            await loading
        await asyncio.get_running_loop().run_in_executor(None, service.close)

    app = FastAPI(
        title="seprog",
        version=__version__,
        summary="Corrects what a language model knows, without touching its weights.",
        lifespan=life,
    )
    app.state.service = service
    errors.install(app)
    app.include_router(openai.router)
    app.include_router(edits.router)
    _add_operations(app)
    console.install(app)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["X-Seprog-Fired", "X-Seprog-Threshold", "X-Request-Id", "ETag"],
        )
    if not settings.auth:
        app.add_middleware(OwnOnly, origins=settings.cors_origins)
    app.add_middleware(Observed, metrics=service.metrics, max_body=settings.max_body)
    return app


def _add_operations(app: FastAPI) -> None:
    @app.get("/healthz", tags=["Operations"])
    def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["Operations"], responses=errors.documented(503))
    def readyz(service: Served) -> Any:
        """The model is loaded and the memory can be read."""
        service.editor.memory.revision()
        return JSONResponse({"status": "ready", "model": service.settings.name})

    @app.get("/metrics", tags=["Operations"], response_class=Response)
    def metrics(service: Served) -> Response:
        """For Prometheus."""
        service.metrics.look(service.batcher if service.loaded else None)
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)
