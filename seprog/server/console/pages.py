"""Templates to responses, with the headers that keep a page to itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from seprog import __version__
from seprog.memory.keys import ANY
from seprog.server.service import Caller, Service, service_of

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
NAMESPACE_COOKIE = "seprog_namespace"
THEME_COOKIE = "seprog_theme"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Vary": "HX-Request",
}
"""Of every page. Scripts and styles only from this server, never from within a page."""

_MOST_NAMESPACES = 100


def page(
    request: Request,
    name: str,
    caller: Caller | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: Any,
) -> HTMLResponse:
    """A page, or a part of one.

    Args:
        request: What it answers.
        name: The template.
        caller: Who looks at it; ``None``: somebody who is not logged in.
        status: HTTP status.
        headers: Beside those of every page.
        **context: For the template.
    """
    service = service_of(request)
    theme = request.cookies.get(THEME_COOKIE, "")
    text = (
        _templates()
        .get_template(name)
        .render(
            service=service,
            caller=caller,
            namespaces=namespaces(service, caller) if caller else [],
            may_edit=caller is not None and caller.key.may("edit"),
            theme=theme if theme in ("light", "dark") else "",
            **context,
        )
    )
    response = HTMLResponse(text, status, headers={**HEADERS, **(headers or {})})
    if caller is not None and "namespace" in request.query_params:
        keep(request, response, NAMESPACE_COOKIE, quote(caller.namespace, safe=""))
    return response


def is_partial(request: Request) -> bool:
    """Whether only a part of the page is wanted."""
    return "HX-Request" in request.headers and "HX-History-Restore-Request" not in request.headers


def go(path: str, request: Request) -> Response:
    """Have the browser open another page."""
    if is_partial(request):
        return Response(status_code=200, headers={**HEADERS, "HX-Redirect": path})
    return Response(status_code=303, headers={**HEADERS, "Location": path})


def keep(request: Request, response: Response, name: str, value: str) -> None:
    """Set a cookie that ends with the browser's session and that no script can read."""
    response.set_cookie(
        name, value, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )


def kept_namespace(request: Request) -> str:
    """The namespace that was last switched to, or an empty text."""
    return unquote(request.cookies.get(NAMESPACE_COOKIE, ""))


def namespaces(service: Service, caller: Caller) -> list[str]:
    """The namespaces that the caller may switch to; the one in use first."""
    key = caller.key
    known = service.memory.namespaces() if ANY in key.namespaces else key.namespaces
    named = sorted({*known, *key.namespaces, key.home} - {ANY, caller.namespace})
    return [caller.namespace, *named][:_MOST_NAMESPACES]


@cache
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"ago": ago, "moment": moment, "iso": iso, "percent": percent, "path": _path}
    made.globals |= {"static": _static, "version": __version__}
    return made


@cache
def _static(name: str) -> str:
    """The address of a file, with what changes when the file does."""
    return f"/static/{name}?{sha256((STATIC / name).read_bytes()).hexdigest()[:10]}"


def _path(text: str) -> str:
    """A text as a part of an address."""
    return quote(text, safe="")


def moment(seconds: float) -> str:
    """A time for people, in UTC; seconds since 1970."""
    return _utc(seconds).strftime("%-d %b %Y, %H:%M UTC")


def iso(seconds: float) -> str:
    """A time for programs."""
    return _utc(seconds).isoformat(timespec="seconds")


def _utc(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # imported, and beyond any calendar
        return datetime.fromtimestamp(0, UTC)


def ago(seconds: float) -> str:
    """How long ago a time was, or its day if that is more than a week."""
    passed = time.time() - seconds
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if size <= passed < 7 * 86400:
            return f"{int(passed // size)} {unit} ago"
    return "just now" if 0 <= passed < 60 else _utc(seconds).strftime("%-d %b %Y")


def percent(share: float, digits: int = 1) -> str:
    """A share for people; never rounded to all or nothing."""
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    least = 10.0**-digits / 100
    share = round(share, 9)
    if share < least:
        return f"< {least:.{digits}%}"
    if share > 1 - least:
        return f"> {1 - least:.{digits}%}"
    return f"{share:.{digits}%}"
