"""The edits API: write corrections, look at them, take them back, and try them before."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from seprog.chat import check_query
from seprog.errors import InputError
from seprog.memory import Event, transfer
from seprog.memory.edit_text import MAX_CHARACTERS
from seprog.server.errors import COMMON, Refused
from seprog.server.replies import firing
from seprog.server.schemas import (
    BatchIn,
    EditIn,
    EditList,
    EditOut,
    EventList,
    EventOut,
    ImportReport,
    Moment,
    PreviewIn,
    ScopeIn,
    Why,
)
from seprog.server.service import Asker, Caller, Served, Service, Writer, visible
from seprog.types import Edit

router = APIRouter(prefix="/v1", tags=["Edits"], responses=COMMON)

_KEPT = 24 * 3600.0
"""Seconds for which an Idempotency-Key is remembered."""
_writing = threading.Lock()

Id = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{4,64}$", description="The whole id of an edit.")]
IfMatch = Annotated[
    str | None,
    Header(description="Change only the state with this ETag; else 412.", max_length=200),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Any text; the same request with it writes nothing anew for a day.",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
    ),
]


# --- reading ----------------------------------------------------------------------------------


@router.get("/edits", response_model=EditList)
def list_edits(
    service: Served,
    caller: Asker,
    q: Annotated[
        str | None, Query(max_length=MAX_CHARACTERS, description="Words to search for.")
    ] = None,
    active: Annotated[bool | None, Query(description="In force or not; without it both.")] = None,
    as_of: Annotated[
        Moment | None, Query(description="As it was at a time (seconds since 1970, or ISO 8601).")
    ] = None,
    newest_first: bool = False,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> EditList:
    """Edits of the namespace: all, those with some words, or those in force at a time."""
    memory, name = service.memory, caller.namespace
    if as_of is not None:
        if q is not None or active is not None:
            raise InputError("as_of came with q or active", "as_of alone", "Leave the others out")
        then = memory.as_of(as_of, name)
        found = (then[::-1] if newest_first else then)[offset : offset + limit + 1]
    elif q is not None:
        found = memory.search(q, name, limit + 1, active, offset)
    else:
        found = memory.list(name, active, limit + 1, offset, newest_first)
    more = len(found) > limit
    return EditList(data=[EditOut(**asdict(e)) for e in found[:limit]], has_more=more)


@router.get("/edits/export", response_class=StreamingResponse)
def export(service: Served, caller: Asker, history: bool = False) -> StreamingResponse:
    """All edits as JSON lines, as ``seprog import`` and ``/v1/edits/import`` take them."""
    rows = service.memory.export(caller.namespace, history)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return StreamingResponse(lines, media_type="application/jsonl")


@router.get("/edits/{id}", response_model=EditOut)
def read(
    service: Served,
    caller: Asker,
    id: Id,
    response: Response,
    if_none_match: Annotated[str | None, Header(max_length=200)] = None,
) -> Any:
    """One edit, with its ETag."""
    edit = visible(service, caller, id)
    shown = _shown(service, edit, response)
    tag = response.headers["ETag"]
    if if_none_match is not None and tag in _tags(if_none_match):
        return Response(status_code=304, headers={"ETag": tag})
    return shown


@router.get("/edits/{id}/history", response_model=EventList)
def history_of(service: Served, caller: Asker, id: Id) -> EventList:
    """What happened to an edit."""
    return _events(service.memory.history(visible(service, caller, id).id))


@router.get("/history", response_model=EventList)
def history(
    service: Served, caller: Asker, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> EventList:
    """What happened to the namespace's edits last."""
    return _events(service.memory.history(namespace=caller.namespace, limit=limit))


def _events(events: Sequence[Event]) -> EventList:
    return EventList(data=[EventOut(**asdict(e)) for e in events])


# --- writing ----------------------------------------------------------------------------------


@router.post("/edits", response_model=EditOut, status_code=201)
def create(
    service: Served,
    caller: Writer,
    body: EditIn,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> EditOut:
    """Write a correction; it is in force, and safe, when this answers."""
    [edit] = write(service, caller, [body], idempotency_key)
    response.headers["Location"] = f"/v1/edits/{edit.id}"
    return _shown(service, edit, response)


@router.post("/edits/batch", response_model=EditList, status_code=201)
def create_batch(
    service: Served, caller: Writer, body: BatchIn, idempotency_key: IdempotencyKey = None
) -> EditList:
    """Write several corrections: all of them or, on an error, none.

    One that answers the same question as an earlier one takes its place, as if it came alone.
    """
    edits = write(service, caller, body.edits, idempotency_key)
    return EditList(data=[EditOut(**asdict(e)) for e in edits], has_more=False)


@router.post("/edits/{id}/supersede", response_model=EditOut, status_code=201)
def supersede(
    service: Served,
    caller: Writer,
    id: Id,
    body: EditIn,
    response: Response,
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> EditOut:
    """Write a correction in the place of another, which is in force."""
    body.supersedes = [*body.supersedes, id]
    [edit] = write(service, caller, [body], idempotency_key, id, if_match)
    response.headers["Location"] = f"/v1/edits/{edit.id}"
    return _shown(service, edit, response)


@router.delete("/edits/{id}", response_model=EditOut)
def forget(
    service: Served,
    caller: Writer,
    id: Id,
    response: Response,
    reason: Annotated[str | None, Query(max_length=MAX_CHARACTERS)] = None,
    if_match: IfMatch = None,
) -> EditOut:
    """Take an edit back; the model answers as if it were not there. It can be restored.

    An edit whose place it took does not come back by this; restore that one to have it.
    """
    with _writing:
        _check_in_force(service, caller, id, if_match)
        edit = service.memory.forget(id, caller.key.name, reason)
    return _shown(service, edit, response)


@router.post("/edits/{id}/restore", response_model=EditOut)
def restore(
    service: Served,
    caller: Writer,
    id: Id,
    response: Response,
    body: Why | None = None,
    if_match: IfMatch = None,
) -> EditOut:
    """Bring an edit that was taken back or replaced into force again."""
    with _writing:
        edit = visible(service, caller, id)
        _unchanged(service, edit, if_match)
        if edit.active:
            raise _conflict(f"Edit {id} is in force", "an edit out of force")
        edit = service.editor.restore(id, caller.key.name, body.reason if body else None)
    return _shown(service, edit, response)


@router.post("/edits/import", response_model=ImportReport, status_code=200)
async def import_edits(
    request: Request,
    service: Served,
    caller: Writer,
    skip_bad: Annotated[bool, Query(description="Import the good lines of a bad file.")] = False,
) -> JSONResponse:
    """Write edits from JSON lines (the body); 422 if some are bad and were not to be skipped.

    Each takes the place of older ones that answer the same question, those of earlier lines too;
    that takes minutes for ten thousand lines, in which others are served.
    """
    from starlette.concurrency import run_in_threadpool

    try:
        text = (await request.body()).decode()
    except UnicodeDecodeError as error:
        raise InputError("The body is not UTF-8", "UTF-8 text", "Convert it to UTF-8") from error

    report = await run_in_threadpool(import_lines, service, caller, text.split("\n"), skip_bad)
    failed = bool(report.errors) and not skip_bad
    errors = [{"line": line, "fault": fault} for line, fault in report.errors]
    body: dict[str, Any] = {**asdict(report), "errors": errors}
    if failed:
        first = errors[0]
        bad = "1 line is bad" if len(errors) == 1 else f"{len(errors)} lines are bad"
        message = f"{bad}; line {first['line']}: {first['fault']}"
        detail = {"type": "invalid_request_error", "param": None, "code": "bad_lines"}
        body["error"] = {"message": message, **detail}
    return JSONResponse(body, 422 if failed else 200)


def import_lines(
    service: Service, caller: Caller, lines: Sequence[str], skip_bad: bool
) -> transfer.ImportReport:
    """Write edits from JSON lines; only an administrator's may say whose they were, and when."""
    return service.editor.import_rows(
        lines,
        namespace=caller.namespace,
        skip_bad=skip_bad,
        author=caller.key.name,
        provenance=names_authors(caller),
    )


def names_authors(caller: Caller) -> bool:
    """Whether imported lines may name their author, time and events."""
    return caller.key.may("admin")


def write(
    service: Service,
    caller: Caller,
    edits: Sequence[EditIn],
    key: str | None = None,
    old: str | None = None,
    if_match: str | None = None,
) -> list[Edit]:
    """Write edits, unless the same request has done so under the same key before.

    Args:
        service: The server's state.
        caller: Whose edits they are.
        edits: Which.
        key: The Idempotency-Key, if one came.
        old: Id of an edit that must be in force, since they take its place.
        if_match: The state that it must be in.

    Raises:
        InputError: An edit is none, or the model cannot spell it.
        Refused: The key came with another request (422), or the old edit is out of force (409)
            or in another state (412).
    """
    rows = _rows(service, caller, edits)
    digest = sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
    name = f"idempotency/{caller.namespace}/{key}"
    memory, editor = service.memory, service.editor
    with _writing:
        done = memory.get_meta(name) if key else None
        if done is not None and time.time() - done["at"] < _KEPT:
            if done["digest"] != digest:
                raise Refused(
                    422,
                    "idempotency_key_reused",
                    f"The Idempotency-Key {key!r} came before with another request",
                    "a new key for a new request",
                    "Make a new one",
                )
            return [memory.get(id_) for id_ in done["ids"]]
        if old:
            _check_in_force(service, caller, old, if_match)
        made = editor.edit_many(rows)
        service.written(made)
        if key:
            kept = {"at": time.time(), "digest": digest, "ids": [e.id for e in made]}
            memory.set_meta(name, kept)
    return made


def _rows(service: Service, caller: Caller, edits: Sequence[EditIn]) -> list[dict[str, Any]]:
    """Edits as the editor takes them; what they supersede is the caller's own."""
    rows = [edit.row(caller) for edit in edits]
    for id_ in dict.fromkeys(i for row in rows for i in row["supersedes"]):
        visible(service, caller, id_)
    return rows


def _shown(service: Service, edit: Edit, response: Response) -> EditOut:
    """An edit, with its ETag on the response."""
    response.headers["ETag"] = etag(service, edit)
    return EditOut(**asdict(edit))


def forget_old_keys(service: Service) -> None:
    """Drop the Idempotency-Keys that are older than a day."""
    for name, kept in service.memory.metas("idempotency/").items():
        if time.time() - kept["at"] > _KEPT:
            service.memory.drop_meta(name)


def etag(service: Service, edit: Edit) -> str:
    """Changes with everything that happens to an edit."""
    return f'"{edit.id}-{len(service.memory.history(edit.id))}"'


def _tags(header: str) -> Iterator[str]:
    return (tag.strip().removeprefix("W/") for tag in header.split(","))


def _unchanged(service: Service, edit: Edit, if_match: str | None) -> None:
    if if_match is None or if_match.strip() == "*" or etag(service, edit) in _tags(if_match):
        return
    raise Refused(
        412,
        "edit_changed",
        f"Edit {edit.id} has changed since {if_match}",
        etag(service, edit),
        "Read it again",
    )


def _check_in_force(service: Service, caller: Caller, id_: str, if_match: str | None) -> None:
    edit = visible(service, caller, id_)
    _unchanged(service, edit, if_match)
    if not edit.active:
        raise _conflict(f"Edit {id_} is out of force already", "an edit in force")


def _conflict(came: str, expected: str) -> Refused:
    return Refused(409, "edit_state", came, expected, "See its history")


# --- trying -----------------------------------------------------------------------------------


@router.post("/edits/preview")
async def preview(
    request: Request, service: Served, caller: Asker, body: PreviewIn
) -> dict[str, Any]:
    """What the model would answer if edits were written, beside what it answers now."""
    for query in body.queries:
        check_query(query)
    rows = _rows(service, caller, body.edits)
    editor, name = service.editor, caller.namespace
    most = min(body.max_tokens, service.settings.max_tokens)
    pairs = await service.call(
        request, lambda: editor.preview(rows, body.queries, most, name, body.threshold)
    )
    data = [
        {
            "query": after.query,
            "before": before.text,
            "after": after.text,
            "changed": before.text != after.text,
            "seprog": firing(after.decision, name),
        }
        for before, after in pairs
    ]
    return {"object": "list", "data": data}


@router.post("/scope")
async def scope(request: Request, service: Served, caller: Asker, body: ScopeIn) -> dict[str, Any]:
    """Which edits would fire for texts, which nearly would, and at what threshold."""
    for query in body.queries:
        check_query(query)
    editor, name = service.editor, caller.namespace
    decisions = await service.call(
        request, lambda: editor.explain_many(body.queries, name, body.threshold)
    )
    data = [{"query": d.query, "seprog": firing(d, name)} for d in decisions]
    return {"object": "list", "data": data}
