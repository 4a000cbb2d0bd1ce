"""Errors as OpenAI's clients know them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from seprog.errors import (
    DiskFull,
    InputError,
    MemoryFileError,
    MissingExtra,
    SeprogError,
    UnknownEdit,
)
from seprog.server.faults import fault


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(description="What came, what was expected, what to do next.")
    type: str = Field(description="Kind of error, such as invalid_request_error.")
    param: str | None = Field(None, description="The field that is at fault.")
    code: str | None = Field(None, description="A word that programs can go by.")


class ErrorBody(BaseModel):
    """Body of every answer that is no success."""

    error: ErrorDetail


class Refused(SeprogError):
    """A request that is turned down for a reason that HTTP has a number for.

    Args:
        status: HTTP status.
        code: A word that programs can go by.
        came: As for every ``SeprogError``.
        expected: The same.
        advice: The same.
        headers: To be sent along.
    """

    def __init__(
        self,
        status: int,
        code: str,
        came: str,
        expected: str = "",
        advice: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(came, expected, advice)
        self.status, self.code, self.headers = status, code, headers or {}


class NotFound(Refused):
    """Nothing of that name is there, or not for the one who asks."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(
            404,
            f"{what}_not_found",
            f"There is no {what} {name!r}",
            "one that you can see",
            "List what there is",
        )


_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_HTTP: dict[int, tuple[str | None, tuple[str, str, str]]] = {
    400: ("invalid_value", ("The body cannot be read", "JSON in UTF-8", "Correct it")),
    404: ("unknown_url", ("There is no {path}", "a path that /docs lists", "Check the address")),
    405: (
        "method_not_allowed",
        ("{path} does not take {method}", "a method that /docs lists for it", "Check the method"),
    ),
    413: ("body_too_large", ("{detail}", "a smaller one", "Send less at a time")),
}
_OTHER = (None, ("{method} {path} failed ({detail})", "a request as in /docs", "Correct it"))
_STATUS: tuple[tuple[type[SeprogError], int, str], ...] = (
    (UnknownEdit, 404, "edit_not_found"),
    (InputError, 400, "invalid_value"),
    (DiskFull, 507, "disk_full"),
    (MemoryFileError, 503, "memory_unavailable"),
    (MissingExtra, 501, "not_installed"),
)


def status_of(error: SeprogError) -> tuple[int, str]:
    """HTTP status and code of an error."""
    if isinstance(error, Refused):
        return error.status, error.code
    for kind, status, code in _STATUS:
        if isinstance(error, kind):
            return status, code
    return 500, "internal_error"


def body_of(error: SeprogError) -> tuple[int, dict[str, Any]]:
    """HTTP status and body of an error."""
    status, code = status_of(error)
    return status, _body(status, str(error), code)


def _body(
    status: int, message: str, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    detail = ErrorDetail(message=message, type=kind, param=param, code=code)
    return ErrorBody(error=detail).model_dump()


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for the OpenAPI document."""
    return {status: {"model": ErrorBody} for status in statuses}


COMMON = documented(400, 401, 403, 404, 408, 409, 412, 413, 422, 429, 500, 503, 504, 507)
"""Errors that a route of the API may answer with."""


def install(app: FastAPI) -> None:
    """Answer every error in this shape."""

    @app.exception_handler(SeprogError)
    async def on_purpose(request: Request, error: SeprogError) -> JSONResponse:
        status, body = body_of(error)
        headers = error.headers if isinstance(error, Refused) else {}
        return JSONResponse(body, status, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        said, where = fault(error.errors(), error.body)
        return JSONResponse(_body(400, str(said), "invalid_value", where), 400)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        status, path = error.status_code, request.url.path
        code, beats = _HTTP.get(status, _OTHER)
        told = {"method": request.method, "path": path, "detail": error.detail}
        message = str(SeprogError(*(beat.format(**told) for beat in beats)))
        return JSONResponse(_body(status, message, code), status, headers=error.headers)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(
            _body(500, "Something unforeseen went wrong; the server's log says what."), 500
        )
