"""Where no keys are asked for: only this machine's own pages and programs may ask."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from seprog.server.errors import Refused, body_of
from seprog.server.settings import is_loopback


class OwnOnly:
    """Middleware: refuses what a web page from elsewhere has a browser on this machine send.

    Such a page may let its own name point here (so the ``Host`` is a foreign one), or send a form
    here (so the ``Origin`` is).

    Args:
        app: What answers.
        origins: Pages that may ask all the same.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str] = ()) -> None:
        self._app, self._origins = app, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            headers = {k: v.decode("latin-1") for k, v in scope["headers"]}
            host, origin = f"//{headers.get(b'host', '')}", headers.get(b"origin", "")
            foreign = origin and origin not in self._origins and not _is_own(origin)
            if foreign or not _is_own(host):
                error = Refused(
                    403,
                    "foreign_page",
                    f"A page of {origin or host[2:]} asked a server that asks for no keys",
                    "a program or page of this machine",
                    "Use keys: seprog keys add NAME, and leave out --no-auth",
                )
                status, body = body_of(error)
                await JSONResponse(body, status)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_own(address: str) -> bool:
    try:
        return is_loopback(urlsplit(address).hostname or "")
    except ValueError:
        return False
