"""Edits as JSON lines, out of a memory and into one.

A row has the fields of ``Edit`` (those that are ``None`` left out); with history also ``events``,
a list of objects with ``action``, ``at``, ``author``, ``reason``, ``other_id``. On the way in,
``supersedes`` may be a list of ids, as in the API.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from seprog.errors import InputError
from seprog.memory import records
from seprog.memory.edit_text import FORMS, check_text, checked, make_edit
from seprog.memory.records import EDIT_FIELDS, Action, Event
from seprog.types import Edit

_TEXTS = tuple(n for n in EDIT_FIELDS if n not in ("created_at", "active", "supersedes"))
_KNOWN = (*EDIT_FIELDS, "events")
_PROVENANCE = ("author", "created_at", "events")
_EVENT_FIELDS = ("action", "at", "author", "reason", "other_id")
_ID = re.compile(r"[0-9A-Za-z_-]{4,64}")
_IN_FORCE = ("added", "restored")
_EXAMPLE = '{"statement": "The capital of Australia is Canberra."}'
_LEAVE_OUT = "Export the memory again, or leave the events out"
_LAST_TIME = 1e11
"""In the year 5138; greater numbers are no seconds."""
Check = Callable[[Edit], object]
"""Raises an ``InputError`` for an edit that is not wanted."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What came of an import.

    Args:
        added: Edits added, active or not.
        duplicates: Rows whose edit was in the memory, or earlier in the import, already.
        superseded: Edits that were put out of force by imported ones.
        errors: Line numbers, from 1, with what is wrong there.
    """

    added: int = 0
    duplicates: int = 0
    superseded: int = 0
    errors: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Row:
    """One parsed line: an edit, the ids that it says it replaces, and its events if they came."""

    edit: Edit
    replaces: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()


def export_rows(
    connection: sqlite3.Connection, namespace: str | None, history: bool
) -> list[dict[str, Any]]:
    """Edits as rows to write as JSON lines, in the order in which they were added.

    Args:
        connection: In a transaction.
        namespace: Only edits of this namespace.
        history: Also inactive edits, and each edit's events.

    Returns:
        One mapping per edit.
    """
    condition, values = records.matching(namespace=namespace, active=None if history else True)
    edits = records.edits_from(
        connection.execute(f"SELECT * FROM edits WHERE {condition} ORDER BY seq", values)
    )
    rows = [_given({name: getattr(edit, name) for name in EDIT_FIELDS}) for edit in edits]
    if history:
        events: dict[str, list[dict[str, Any]]] = {edit.id: [] for edit in edits}
        for event in records.events(connection, namespace=namespace):
            values_of = {name: getattr(event, name) for name in _EVENT_FIELDS}
            events[event.edit_id].append(_given(values_of))
        rows = [{**row, "events": events[row["id"]]} for row in rows]
    return rows


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def parse_lines(
    lines: Iterable[str],
    namespace: str | None,
    author: str | None = None,
    provenance: bool = True,
    check: Check | None = None,
) -> tuple[list[Row], list[tuple[int, str]]]:
    """Read JSON lines, without looking at any memory.

    Args:
        lines: One JSON object each; empty lines are passed over.
        namespace: Put all edits here, whatever the rows say.
        author: Of the rows that name none.
        provenance: Whether rows may name their author, time and events; else these are passed over.
        check: Raises an ``InputError`` for an edit that is not wanted; its line is at fault then.

    Returns:
        The good rows, and the line numbers (from 1) and faults of the others.

    Raises:
        InputError: ``lines`` is a file that is not UTF-8.
    """
    rows: list[Row] = []
    errors: list[tuple[int, str]] = []
    try:
        for number, line in enumerate(lines, start=1):
            try:
                if text := line.strip().lstrip("\ufeff"):
                    row = _parse(text, namespace, author, provenance)
                    if check is not None:
                        check(row.edit)
                    rows.append(row)
            except InputError as error:
                errors.append((number, str(error)))
    except UnicodeDecodeError as error:
        raise InputError(
            "The lines hold bytes that are not UTF-8", "UTF-8 text", "Convert the file to UTF-8"
        ) from error
    return rows, errors


def _parse(text: str, namespace: str | None, author: str | None, provenance: bool) -> Row:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"The line is not JSON ({error})", "one JSON object", f"Write {_EXAMPLE} on one line"
        ) from error
    if not isinstance(values, dict):
        raise InputError(
            f"The line is {_kind(values)}", "a JSON object", f"Write {_EXAMPLE}, one to a line"
        )
    values = _given(values)
    if not provenance:
        values = {name: value for name, value in values.items() if name not in _PROVENANCE}
    if namespace is not None:
        values["namespace"] = namespace
    if author is not None:
        values.setdefault("author", author)
    _check_types(values)
    events = _parse_events(values.pop("events", []), bool(values.get("active", True)))
    replaces = tuple(_ids(values.pop("supersedes", [])))
    return Row(replace(_edit_from(values), supersedes=next(iter(replaces), None)), replaces, events)


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")


def _ids(value: Any) -> list[Any]:
    """What a row replaces: one id, or a list of them."""
    return value if isinstance(value, list) else [value]


def _check_types(values: dict[str, Any]) -> None:
    if unknown := [repr(name) for name in values if name not in _KNOWN]:
        raise InputError(
            f"The row has the unknown field {unknown[0]}",
            f"only {', '.join(_KNOWN)}",
            "Rename the field or leave it out",
        )
    for name in _TEXTS:
        if not isinstance(values.get(name, ""), str):
            raise InputError(f"The field {name} is not a text", "a text", "Put it in quotes")
    _check_time("created_at", values.get("created_at", 0))
    if not isinstance(values.get("active", True), bool):
        raise InputError(
            "The field active is not a truth value", "true or false", "Write it without quotes"
        )
    for name in ("id", "supersedes"):
        for id in _ids(values.get(name, [])):
            if not isinstance(id, str) or not _ID.fullmatch(id):
                raise InputError(
                    f"The field {name} holds {id!r}",
                    "an id of 4 to 64 letters, digits, - or _",
                    "Leave it out",
                )


def _check_time(name: str, value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= float(str(value)) <= _LAST_TIME:
        raise InputError(
            f"The time {name} is {value!r}",
            "seconds since 1970",
            "Divide it by 1000 if it is in milliseconds",
        )


def _edit_from(values: dict[str, Any]) -> Edit:
    kept = {name: values.pop(name) for name in _KEPT if name in values}
    if "created_at" in kept:
        kept["created_at"] = float(kept["created_at"])
    if "statement" in values:
        return replace(checked(Edit(**values)), **kept)
    if not {"prompt", "subject"} & set(values):
        raise InputError("The row has no edit in it", FORMS, "Add the missing fields")
    return replace(make_edit(**values), **kept)


_KEPT = ("id", "created_at", "active")


def _parse_events(values: object, active: bool) -> tuple[Event, ...]:
    if not isinstance(values, list):
        raise InputError("The field events is not a list", "a list of objects", _LEAVE_OUT)
    events = tuple(_parse_event(value) for value in values)
    if events and (events[0].action != "added" or (events[-1].action in _IN_FORCE) != active):
        raise InputError(
            "The events do not lead to the edit's state",
            "'added' first, and last what made the edit active or inactive",
            _LEAVE_OUT,
        )
    return events


def _parse_event(values: object) -> Event:
    if not isinstance(values, dict) or not set(values) <= set(_EVENT_FIELDS):
        raise InputError(
            "An event is not as exported", f"an object with {', '.join(_EVENT_FIELDS)}", _LEAVE_OUT
        )
    if values.get("action") not in get_args(Action):
        raise InputError(
            "An event has an unknown action", f"one of {', '.join(get_args(Action))}", _LEAVE_OUT
        )
    _check_time("of an event", values.get("at"))
    for name in ("author", "reason", "other_id"):
        text = values.get(name, "")
        if not isinstance(text, str | None):
            raise InputError(f"The {name} of an event is not a text", "a text", "Put it in quotes")
        check_text(f"{name} of an event", text or "", may_be_empty=True)
    return Event(edit_id="", **{**values, "at": float(values["at"])})


class Importer:
    """Puts parsed rows into a memory, in one transaction that the caller holds.

    Args:
        connection: In a writing transaction.
        at: The time of the events of rows that came without.
    """

    def __init__(self, connection: sqlite3.Connection, at: float) -> None:
        self._connection = connection
        self._at = at
        self._ids: dict[str, str] = {}  # as in the rows -> as in this memory
        self._events: list[Event] = []
        self._report = ImportReport()

    def run(self, rows: Sequence[Row], rivals: Sequence[Sequence[str]]) -> ImportReport:
        """Add the rows in their order.

        Args:
            rows: From ``parse_lines``.
            rivals: Per row, what else it replaces; as ``Rivals`` gives it.

        Returns:
            The report, without errors.
        """
        for i, (row, others) in enumerate(zip(rows, rivals, strict=True)):
            edit = self._placed(row.edit)
            add = self._add_active if row.edit.active else self._add_inactive
            id = add(edit, replace(row, replaces=(*row.replaces, *others)))
            self._ids[row.edit.id or edit.id] = self._ids[records.mark(i)] = id
        for event in sorted(self._events, key=lambda event: event.at):
            other = event.other_id and self._ids.get(event.other_id, event.other_id)
            records.record(self._connection, replace(event, other_id=other))
        return self._report

    def _placed(self, edit: Edit) -> Edit:
        """The edit with the id, time and predecessor that it will have in this memory."""
        keeps = edit.id and not records.is_taken(self._connection, edit.id)
        before = self._ids.get(edit.supersedes or "", edit.supersedes)
        if before and not records.is_taken(self._connection, before):
            before = None
        return replace(
            edit,
            id=edit.id if keeps else records.new_id(self._connection),
            created_at=edit.created_at or self._at,
            supersedes=before,
        )

    def _add_active(self, edit: Edit, row: Row) -> str:
        ids = [self._ids.get(id, id) for id in row.replaces]
        old = [id for id in ids if records.is_taken(self._connection, id, edit.namespace)]
        record_added = not row.events
        admission = records.admit(self._connection, edit, self._at, old, record_added)
        if admission.added:
            self._events += [replace(event, edit_id=edit.id) for event in row.events]
        self._count(admission.added, len(admission.superseded))
        return admission.id

    def _add_inactive(self, edit: Edit, row: Row) -> str:
        known = (
            row.edit.id
            and self._connection.execute(
                "SELECT 1 FROM edits WHERE id = ? AND namespace = ? AND statement = ?",
                (row.edit.id, edit.namespace, edit.statement),
            ).fetchone()
        )
        if known:
            self._count(False, 0)
            return row.edit.id
        records.insert(self._connection, edit)
        events = row.events or (
            Event("", "added", self._at, edit.author, edit.reason, edit.supersedes),
            Event("", "forgotten", self._at, None, "imported as inactive"),
        )
        self._events += [replace(event, edit_id=edit.id) for event in events]
        self._count(True, 0)
        return edit.id

    def _count(self, added: bool, superseded: int) -> None:
        report = self._report
        self._report = replace(
            report,
            added=report.added + added,
            duplicates=report.duplicates + (not added),
            superseded=report.superseded + superseded,
        )
