"""All routes of the console, none of them in the OpenAPI document."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.staticfiles import StaticFiles

from seprog.server.console import changing, door, health, importing, playground
from seprog.server.console.pages import STATIC

router = APIRouter(include_in_schema=False)
for part in (door, playground, changing, importing, health):
    router.include_router(part.router)


def install(app: FastAPI) -> None:
    """Add the console to a server."""
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
