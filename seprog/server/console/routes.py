"""All routes of the console, none of them in the OpenAPI document."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

from seprog.server.console import changing, door, health, importing, playground
from seprog.server.console.pages import STATIC

router = APIRouter(include_in_schema=False)
for part in (door, playground, changing, importing, health):
    router.include_router(part.router)


class _Files(StaticFiles):
    """Files whose address changes with what is in them, so that they may be kept for good."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file."""
        response = await super().get_response(path, scope)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def install(app: FastAPI) -> None:
    """Add the console to a server."""
    app.include_router(router)
    app.mount("/static", _Files(directory=STATIC), name="static")
