"""Edits: find them, write them with a preview, replace them, take them back, and their history."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from seprog.errors import InputError, SeprogError
from seprog.memory import Event
from seprog.memory.edit_text import MAX_CHARACTERS
from seprog.server import edits
from seprog.server.console.door import Asking, Changing, ConsoleRoute
from seprog.server.console.drafts import Drafted, tried
from seprog.server.console.pages import go, is_partial, page
from seprog.server.schemas import Why
from seprog.server.service import Caller, Served, Service, visible
from seprog.types import Edit

router = APIRouter(route_class=ConsoleRoute)

State = Literal["active", "out", "all"]
_PAGE = 30
_DONE = {"written": "Written. It is in force now."}
"""What the page of an edit says first, by what was just done."""


@dataclass(frozen=True)
class Happened:
    """Something that happened, with what it happened to.

    Args:
        event: What.
        edit: To which edit; ``None`` if nobody may see it.
        other: The edit that took over, or that was taken over.
    """

    event: Event
    edit: Edit | None
    other: Edit | None


@dataclass(frozen=True)
class Row:
    """An edit in a list.

    Args:
        edit: The edit.
        fate: Why it is out of force; ``None`` if it is in force.
    """

    edit: Edit
    fate: Happened | None


# --- looking ----------------------------------------------------------------------------------


@router.get("/edits")
def list_edits(
    request: Request,
    service: Served,
    caller: Asking,
    q: Annotated[str, Query(max_length=MAX_CHARACTERS)] = "",
    state: State = "active",
    at: Annotated[str, Query(max_length=40)] = "",
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> Response:
    """Edits of the namespace, newest first, those with some words, or those in force at a time."""
    wanted = None if state == "all" else state == "active"
    then = _time(at) if at else None
    words = None if at else q.strip() or None
    which = None if at else wanted
    found = edits.list_edits(service, caller, words, which, then, True, _PAGE, offset)
    shown = [Edit(**e.model_dump()) for e in found.data]
    if at:  # as they are now
        shown = [service.memory.get(e.id) for e in shown]
    return page(
        request,
        "parts/rows.html" if is_partial(request) else "edits.html",
        caller,
        here="edits",
        rows=[_row(service, caller, e) for e in shown],
        q=q,
        state=state,
        at=at,
        then=then,
        next=offset + _PAGE if found.has_more else None,
        first=offset == 0,
        count=service.memory.count(caller.namespace),
    )


def _time(text: str) -> float:
    """Seconds since 1970 of a time as browsers write it, taken to be UTC.

    Raises:
        InputError: If it is none, or before 1970.
    """
    with suppress(ValueError):
        time = datetime.fromisoformat(text)
        seconds = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
        if seconds >= 0:
            return seconds
    raise InputError(
        f"The time {text!r} came", "a day and a time such as 2026-05-04T15:30", "Correct it"
    )


@router.get("/edits/new")
def new(
    request: Request, caller: Changing, prompt: Annotated[str, Query(max_length=2000)] = ""
) -> Response:
    """Where a correction is written."""
    return page(request, "write.html", caller, here="edits", old=None, prompt=prompt)


@router.get("/edits/{id}")
def one(
    request: Request, service: Served, caller: Asking, id: edits.Id, done: str = ""
) -> Response:
    """An edit and what happened to it."""
    edit = visible(service, caller, id)
    context = _about(service, caller, edit)
    return page(request, "edit.html", caller, here="edits", done=_DONE.get(done, ""), **context)


@router.get("/history")
def history(
    request: Request,
    service: Served,
    caller: Asking,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Response:
    """What happened last in the namespace."""
    events = service.memory.history(namespace=caller.namespace, limit=limit + 1)[::-1]
    return page(
        request,
        "history.html",
        caller,
        here="history",
        events=_happened(service, caller, events[:limit]),
        more=min(limit + 100, 1000) if len(events) > limit and limit < 1000 else None,
    )


# --- changing ---------------------------------------------------------------------------------


@router.post("/edits/preview")
async def preview(request: Request, service: Served, caller: Changing, draft: Drafted) -> Response:
    """What the edit that is being written would change, and what not."""
    if not draft.complete:
        return page(request, "parts/preview.html", caller, trial=None, fault="")
    try:
        if draft.replaces:
            visible(service, caller, draft.replaces)
        trial = await tried(request, service, caller, draft)
    except SeprogError as error:
        return page(request, "parts/preview.html", caller, trial=None, fault=str(error))
    return page(request, "parts/preview.html", caller, trial=trial, fault="")


@router.post("/edits")
def create(request: Request, service: Served, caller: Changing, draft: Drafted) -> Response:
    """Write an edit, perhaps in the place of another."""
    [edit] = edits.write(service, caller, [draft.body()], old=draft.replaces)
    return go(f"/edits/{edit.id}?done=written", request)


@router.get("/edits/{id}/supersede")
def supersede(request: Request, service: Served, caller: Changing, id: edits.Id) -> Response:
    """Where an edit's successor is written."""
    old = visible(service, caller, id)
    return page(request, "write.html", caller, here="edits", old=old, prompt="")


@router.post("/edits/{id}/forget")
def forget(
    request: Request, service: Served, caller: Changing, id: edits.Id, draft: Drafted
) -> Response:
    """Take an edit back, with a way to undo it."""
    edits.forget(service, caller, id, Response(), draft.reason or None)
    return _changed(request, service, caller, id, "Taken back.", undo=True)


@router.post("/edits/{id}/restore")
def restore(
    request: Request, service: Served, caller: Changing, id: edits.Id, draft: Drafted
) -> Response:
    """Bring an edit back into force."""
    edits.restore(service, caller, id, Response(), Why(reason=draft.reason or None))
    return _changed(request, service, caller, id, "In force again.", undo=False)


def _changed(
    request: Request, service: Served, caller: Caller, id: str, said: str, undo: bool
) -> Response:
    """The row or the page of an edit as it is now, and a notice."""
    edit = visible(service, caller, id)
    in_list = request.headers.get("HX-Target", "").startswith("row-")
    context = _about(service, caller, edit)
    return page(
        request,
        "parts/changed.html",
        caller,
        row=_row(service, caller, edit) if in_list else None,
        said=said,
        undo=undo,
        target=f"row-{id}" if in_list else "edit",
        count=service.memory.count(caller.namespace),
        **context,
    )


# --- what the pages show ----------------------------------------------------------------------


def _about(service: Service, caller: Caller, edit: Edit) -> dict[str, Any]:
    events = service.memory.history(edit.id)
    return {
        "edit": edit,
        "events": _happened(service, caller, reversed(events)),
        "fate": _row(service, caller, edit).fate,
        "before": _seen(service, caller, edit.supersedes),
    }


def _row(service: Service, caller: Caller, edit: Edit) -> Row:
    last = [] if edit.active else service.memory.history(edit.id, limit=1)
    fates = _happened(service, caller, last)
    return Row(edit, fates[0] if fates else None)


def _happened(service: Service, caller: Caller, events: Iterable[Event]) -> list[Happened]:
    """Events with their edits; those of other namespaces stay unseen."""
    known: dict[str | None, Edit | None] = {}

    def seen(id: str | None) -> Edit | None:
        if id not in known:
            known[id] = _seen(service, caller, id)
        return known[id]

    return [Happened(e, seen(e.edit_id), seen(e.other_id)) for e in events]


def _seen(service: Service, caller: Caller, id: str | None) -> Edit | None:
    if id is None:
        return None
    with suppress(SeprogError):
        return visible(service, caller, id)
    return None
