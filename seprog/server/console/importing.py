"""Import and export: many edits as JSON lines, each bad line with what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from seprog.errors import InputError
from seprog.memory.transfer import ImportReport, parse_lines
from seprog.server import edits
from seprog.server.console.door import Asking, Changing, ConsoleRoute
from seprog.server.console.pages import page
from seprog.server.service import Caller, Served, Service
from seprog.types import Edit

router = APIRouter(route_class=ConsoleRoute)

_SHOWN = 200
"""Bad lines that are listed; the others are counted."""


@dataclass(frozen=True)
class Bad:
    """A line that is no edit.

    Args:
        number: From 1.
        fault: What is wrong with it.
        text: How it begins.
    """

    number: int
    fault: str
    text: str


@router.get("/import")
def import_page(request: Request, caller: Asking) -> Response:
    """Where a file is chosen, or lines are pasted."""
    return page(request, "import.html", caller, here="import")


@router.post("/import")
async def import_edits(request: Request, service: Served, caller: Changing) -> Response:
    """Check lines, or write them."""
    async with request.form(max_part_size=service.settings.max_body) as form:
        lines = await _lines(form.get("file"), form.get("text"))
        skip, check = form.get("skip") is not None, form.get("do") == "check"
    if not any(line.strip() for line in lines):
        raise InputError("Nothing came", "a file or some lines", "Choose a file or paste lines")
    good, report = await run_in_threadpool(
        _checked if check else _written, service, lines, caller, skip
    )
    errors = report.errors[:_SHOWN]
    return page(
        request,
        "parts/imported.html",
        caller,
        checked=check,
        report=report,
        good=good,
        bad=[Bad(n, fault, lines[n - 1].strip()[:160]) for n, fault in errors],
        more=len(report.errors) - len(errors),
        skip=skip,
    )


@router.get("/export")
def export(service: Served, caller: Asking) -> Response:
    """The edits in force, as a file that can be imported again."""
    found = edits.export(service, caller)
    name = quote(f"{caller.namespace}.jsonl", safe="")
    found.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{name}"
    return found


async def _lines(file: UploadFile | str | None, text: UploadFile | str | None) -> list[str]:
    """The lines of the file if one was chosen, else those that were pasted."""
    if isinstance(file, UploadFile) and file.filename:
        raw = await file.read()
        try:
            return raw.decode().split("\n")
        except UnicodeDecodeError as error:
            raise InputError(
                "The file is not UTF-8", "UTF-8 text", "Convert it to UTF-8"
            ) from error
    return text.split("\n") if isinstance(text, str) else []


def _checked(
    service: Service, lines: Sequence[str], caller: Caller, skip: bool
) -> tuple[list[Edit], ImportReport]:
    """What would be imported; nothing is."""
    rows, errors = parse_lines(
        lines,
        caller.namespace,
        provenance=edits.names_authors(caller),
        check=service.editor.check,
    )
    return [row.edit for row in rows], ImportReport(errors=errors)


def _written(
    service: Service, lines: Sequence[str], caller: Caller, skip: bool
) -> tuple[list[Edit], ImportReport]:
    return [], edits.import_lines(service, caller, lines, skip)
