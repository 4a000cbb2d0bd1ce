"""Who may come in, and what they see when something goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from seprog.errors import SeprogError
from seprog.memory.keys import Role
from seprog.server.console.pages import (
    HEADERS,
    NAMESPACE_COOKIE,
    go,
    is_partial,
    keep,
    kept_namespace,
    page,
)
from seprog.server.errors import Refused, status_of
from seprog.server.faults import fault
from seprog.server.service import Caller, Served, caller_of, key_of, service_of

KEY_COOKIE = "seprog_key"


def visitor(request: Request, role: Role) -> Caller:
    """Who looks at the console, and at whose edits.

    The namespace is the one that the page was made for (a header that htmx sends along), one
    named in the address, or the one last switched to.

    Raises:
        Refused: Nobody is logged in (401), or the key does not allow it (403).
    """
    key = key_of(service_of(request), request.cookies.get(KEY_COOKIE))
    named = unquote(request.headers.get("X-Console-Namespace", ""))
    named = named or request.query_params.get("namespace", "")
    kept = kept_namespace(request)
    return caller_of(key, role, named or (kept if kept and key.sees(kept) else None))


def _needs(role: Role) -> Callable[[Request], Caller]:
    def check(request: Request) -> Caller:
        return visitor(request, role)

    return check


Asking = Annotated[Caller, Depends(_needs("ask"))]
Changing = Annotated[Caller, Depends(_needs("edit"))]


class ConsoleRoute(APIRoute):
    """A route whose errors are pages, and that only the console's own pages may change things by.

    Browsers let no other site send the header that htmx sends.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's function, with that around it."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                if request.method not in ("GET", "HEAD") and "HX-Request" not in request.headers:
                    raise Refused(
                        403,
                        "not_from_the_console",
                        "The request did not come from a page of the console",
                        "one that carries the header HX-Request",
                        "Programs use the API; see /docs",
                    )
                return await handle(request)
            except SeprogError as error:
                return _sorry(request, status_of(error)[0], str(error))
            except RequestValidationError as error:
                return _sorry(request, 400, str(fault(error.errors(), error.body)[0]))
            except HTTPException as error:
                return _sorry(request, error.status_code, f"{error.detail}.")

        return guarded


def _sorry(request: Request, status: int, message: str) -> Response:
    """An error as a page, or as a notice on the page that is there."""
    if status == 401 and request.url.path != "/login":
        back = request.url.path if request.method == "GET" else "/"
        return go(f"/login?back={quote(back)}", request)
    if is_partial(request):
        aside = {"HX-Retarget": "#notice", "HX-Reswap": "innerHTML"}
        return page(request, "parts/error.html", status=status, headers=aside, message=message)
    caller = None
    with suppress(SeprogError):
        caller = visitor(request, "ask")
    return page(request, "error.html", caller, status, message=message, number=status, here="")


router = APIRouter(route_class=ConsoleRoute)


@router.get("/login")
def login_page(request: Request, service: Served, back: str = "/") -> Response:
    """Where a key is asked for."""
    if not service.settings.auth:
        return go("/", request)
    return page(request, "login.html", back=_own(back))


@router.post("/login")
def login(
    request: Request,
    service: Served,
    key: Annotated[str, Form(max_length=200)] = "",
    back: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    """Remember a key, if it is one."""
    token = key.strip()
    try:
        key_of(service, token)
    except Refused as error:
        return page(request, "parts/refused.html", status=401, message=error.came)
    response = go(_own(back), request)
    if service.settings.auth:
        keep(request, response, KEY_COOKIE, token)
    return response


@router.post("/logout")
def logout(request: Request) -> Response:
    """Forget the key."""
    response = go("/login", request)
    for name in (KEY_COOKIE, NAMESPACE_COOKIE):
        response.delete_cookie(name, httponly=True, samesite="strict")
    return response


@router.get("/loading")
def loading(request: Request, service: Served) -> Response:
    """The notice that the model is being loaded; nothing once it is there."""
    if service.loaded:
        return Response(status_code=200, headers=HEADERS)
    return page(request, "parts/loading.html")


def _own(path: str) -> str:
    """A path of this server, whatever came."""
    fine = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if fine else "/"
