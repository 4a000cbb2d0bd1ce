"""Edits and events as rows: the SQL behind ``Memory``. Every function runs inside a transaction."""

from __future__ import annotations

import difflib
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from seprog.errors import InputError, UnknownEdit
from seprog.memory.edit_text import fact_of, question_of
from seprog.types import Edit

Action = Literal["added", "superseded", "forgotten", "restored"]

EDIT_FIELDS = (
    "id",
    "statement",
    "prompt",
    "target",
    "subject",
    "relation",
    "object",
    "namespace",
    "author",
    "reason",
    "created_at",
    "supersedes",
    "active",
)
"""Columns of ``edits`` that are fields of an ``Edit``."""

FORM_TEXTS = ("prompt", "target", "subject", "relation", "object")
"""Columns of ``edits`` with what an edit says beside its statement."""

_ID_TICKS_PER_SECOND = 62_500  # 12 hex digits last until 2112
_SHORTEST_ABBREVIATION = 4
_SUGGESTIONS_AMONG = 2000


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an edit.

    Args:
        edit_id: The edit that it happened to.
        action: ``added``, ``superseded``, ``forgotten`` or ``restored``.
        at: When, in seconds since the epoch (UTC).
        author: Who did it. ``None`` means unknown.
        reason: Why. ``None`` means not given.
        other_id: For ``superseded``, the edit that took over; for ``added`` and ``restored``,
            the (first) edit that was superseded by it. ``None`` if there is none.
    """

    edit_id: str
    action: Action
    at: float
    author: str | None = None
    reason: str | None = None
    other_id: str | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """What came of adding an edit.

    Args:
        id: The new edit, or the active one with the same statement.
        added: Whether it is new.
        superseded: Ids of the edits that it put out of force.
    """

    id: str
    added: bool
    superseded: tuple[str, ...]


def edits_from(rows: Iterable[sqlite3.Row]) -> list[Edit]:
    """Rows of ``edits`` as edits.

    Args:
        rows: Rows with at least the columns ``EDIT_FIELDS``.

    Returns:
        One edit per row.
    """
    return [
        Edit(**{**{name: row[name] for name in EDIT_FIELDS}, "active": bool(row["active"])})
        for row in rows
    ]


def matching(**wanted: object) -> tuple[str, list[object]]:
    """A condition that holds where each column has the value wanted.

    Args:
        **wanted: Column names with values; ``None`` means that any value will do.

    Returns:
        SQL to put after WHERE, and its parameters.
    """
    given = {column: value for column, value in wanted.items() if value is not None}
    return " AND ".join(f"{column} = ?" for column in given) or "1", list(given.values())


def find(connection: sqlite3.Connection, id: str) -> Edit:
    """The edit with this id, active or not.

    Args:
        connection: In a transaction.
        id: A full id, or as much of its start as no other id shares, four characters or more.

    Returns:
        The edit.

    Raises:
        UnknownEdit: No id is like that.
        InputError: Several ids start like that.
    """
    rows = connection.execute("SELECT * FROM edits WHERE id = ?", (id,)).fetchall()
    if not rows and len(id) >= _SHORTEST_ABBREVIATION:
        rows = connection.execute(
            "SELECT * FROM edits WHERE id >= ? AND id < ? || '~' ORDER BY id LIMIT 3", (id, id)
        ).fetchall()
    if len(rows) > 1:
        raise InputError(
            f"Several ids start with {id!r}: {', '.join(row['id'] for row in rows)}",
            "the start of just one",
            "Give more characters of the id",
        )
    if not rows:
        raise unknown(connection, id)
    return edits_from(rows)[0]


def unknown(connection: sqlite3.Connection, id: str) -> UnknownEdit:
    """The error for an id that no edit has.

    Args:
        connection: In a transaction.
        id: The id that was asked for.

    Returns:
        An error, to be raised, that names the nearest id.
    """
    recent = connection.execute(
        "SELECT id FROM edits ORDER BY seq DESC LIMIT ?", (_SUGGESTIONS_AMONG,)
    )
    near = difflib.get_close_matches(id, [row["id"] for row in recent], n=1)
    return UnknownEdit(
        f"No edit has the id {id!r}",
        "the id of an edit in this memory, or the start of just one",
        f"Did you mean {near[0]}?" if near else "List the edits to see their ids",
    )


def new_id(connection: sqlite3.Connection) -> str:
    """An id that no edit has: 12 hex digits that grow with time.

    Args:
        connection: In a writing transaction.

    Returns:
        The id.
    """
    tick = int(time.time() * _ID_TICKS_PER_SECOND)
    while is_taken(connection, f"{tick:012x}"):
        tick += 1
    return f"{tick:012x}"


def mark(position: int) -> str:
    """What an edit of a call is named by before it has an id; no id holds a ``#``.

    Args:
        position: In the call, from 0.
    """
    return f"#{position}"


def is_taken(connection: sqlite3.Connection, id: str, namespace: str | None = None) -> bool:
    """Whether an edit has exactly this id.

    Args:
        connection: In a transaction.
        id: A full id.
        namespace: Only an edit of this namespace counts.

    Returns:
        True if so.
    """
    condition, values = matching(id=id, namespace=namespace)
    return bool(connection.execute(f"SELECT 1 FROM edits WHERE {condition}", values).fetchone())


def admit(
    connection: sqlite3.Connection,
    edit: Edit,
    at: float,
    supersedes: Sequence[str] = (),
    record_added: bool = True,
) -> Admission:
    """Put an edit in force, and those that it replaces out of force.

    If an active edit of the namespace has the same statement, that one takes the place of the
    new one: nothing is added, but it still supersedes the others. If the new one brings a prompt,
    target or triple that the other has not, it is the other that is superseded.

    Args:
        connection: In a writing transaction.
        edit: With id and ``created_at``; its ``supersedes`` is kept if nothing is superseded.
        at: The time of the events.
        supersedes: Ids that the caller knows to be replaced; inactive ones are passed over.
        record_added: Whether to write the event ``added``.

    Returns:
        What came of it.

    Raises:
        UnknownEdit: An id in ``supersedes`` is unknown.
        InputError: An id in ``supersedes`` belongs to another namespace.
    """
    twin = _active_twin(connection, edit)
    replaced = [_in_namespace(find(connection, id), edit.namespace) for id in supersedes]
    replaced += rivals(connection, edit)
    if twin is not None and _brings_more(edit, twin):
        replaced.append(twin)
        twin = None
    keeper = twin.id if twin else edit.id
    active = tuple(dict.fromkeys(old.id for old in replaced if old.active and old.id != keeper))
    for id in active:
        set_active(connection, id, False)
    if twin is None:
        first = replaced[0].id if replaced else edit.supersedes
        insert(connection, replace(edit, supersedes=first, active=True))
        if record_added:
            record(connection, Event(edit.id, "added", at, edit.author, edit.reason, first))
    for id in active:
        record(connection, Event(id, "superseded", at, edit.author, edit.reason, keeper))
    return Admission(keeper, twin is None, active)


def _active_twin(connection: sqlite3.Connection, edit: Edit) -> Edit | None:
    rows = connection.execute(
        "SELECT * FROM edits WHERE namespace = ? AND statement = ? AND active = 1",
        (edit.namespace, edit.statement),
    )
    return next(iter(edits_from(rows)), None)


def _brings_more(edit: Edit, twin: Edit) -> bool:
    """Whether an edit has a field of its form that another of the same statement has not so."""
    fields = ((getattr(edit, n), getattr(twin, n) or "") for n in FORM_TEXTS)
    return any(new and new.split() != old.split() for new, old in fields)


def _in_namespace(edit: Edit, namespace: str) -> Edit:
    if edit.namespace != namespace:
        raise InputError(
            f"Edit {edit.id} belongs to the namespace {edit.namespace!r}",
            f"an edit of {namespace!r}",
            "Supersede only edits of the same namespace",
        )
    return edit


def rivals(connection: sqlite3.Connection, edit: Edit) -> list[Edit]:
    """Active edits that answer the same question or state the same relation of the subject.

    Args:
        connection: In a transaction.
        edit: Any edit, in the memory or not.

    Returns:
        The edits in the order in which they were added.
    """
    rows = connection.execute(
        "SELECT * FROM edits WHERE namespace = ? AND active = 1 AND question = ? "
        "UNION SELECT * FROM edits WHERE namespace = ? AND active = 1 AND fact = ? ORDER BY seq",
        (edit.namespace, question_of(edit), edit.namespace, fact_of(edit)),
    )
    return edits_from(rows)


def _successor(connection: sqlite3.Connection, id: str) -> list[str]:
    """The active edit that an edit was superseded by, directly or through others; one or none."""
    seen = {id}
    while True:
        row = connection.execute(
            "SELECT other_id FROM events WHERE edit_id = ? AND action = 'superseded' "
            "ORDER BY seq DESC LIMIT 1",
            (id,),
        ).fetchone()
        if row is None or row[0] is None or row[0] in seen:
            return []
        id = row[0]
        seen.add(id)
        active = connection.execute("SELECT active FROM edits WHERE id = ?", (id,)).fetchone()
        if active is not None and active[0]:
            return [id]


def restore(
    connection: sqlite3.Connection,
    edit: Edit,
    at: float,
    author: str | None,
    reason: str | None,
    supersedes: Sequence[str] = (),
) -> None:
    """Put an inactive edit in force again, and those that took its place out of force.

    Args:
        connection: In a writing transaction.
        edit: An inactive edit of the memory.
        at: The time of the events.
        author: Who restores it.
        reason: Why.
        supersedes: As for ``admit``.
    """
    twin = _active_twin(connection, edit)
    named = [_in_namespace(find(connection, id), edit.namespace) for id in supersedes]
    others = [old.id for old in [*named, *rivals(connection, edit)] if old.active]
    others += _successor(connection, edit.id)
    taken = tuple(dict.fromkeys(others + ([twin.id] if twin else [])))
    for id in taken:
        set_active(connection, id, False)
    set_active(connection, edit.id, True)
    first = taken[0] if taken else None
    record(connection, Event(edit.id, "restored", at, author, reason, first))
    for id in taken:
        record(connection, Event(id, "superseded", at, author, reason, edit.id))


def insert(connection: sqlite3.Connection, edit: Edit) -> None:
    """Write one row of ``edits``.

    Args:
        connection: In a writing transaction.
        edit: With an id that is not taken.
    """
    names = (*EDIT_FIELDS, "question", "fact")
    values = [getattr(edit, name) for name in EDIT_FIELDS]
    connection.execute(
        f"INSERT INTO edits ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
        (*values, question_of(edit), fact_of(edit)),
    )


def set_active(connection: sqlite3.Connection, id: str, active: bool) -> None:
    """Say whether an edit is in force; the caller records the event.

    Args:
        connection: In a writing transaction.
        id: A full id.
        active: The new state.
    """
    connection.execute("UPDATE edits SET active = ? WHERE id = ?", (active, id))


def revision(connection: sqlite3.Connection) -> int:
    """The number of the last event; 0 if there is none.

    Args:
        connection: In a transaction.
    """
    row = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
    return int(row[0])


def record(connection: sqlite3.Connection, event: Event) -> None:
    """Write one row of ``events``.

    Args:
        connection: In a writing transaction.
        event: What happened.
    """
    connection.execute(
        "INSERT INTO events (edit_id, action, at, author, reason, other_id) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (event.edit_id, event.action, event.at, event.author, event.reason, event.other_id),
    )


def events(
    connection: sqlite3.Connection,
    id: str | None = None,
    namespace: str | None = None,
    limit: int | None = None,
) -> list[Event]:
    """What happened, oldest first.

    Args:
        connection: In a transaction.
        id: Only to this edit.
        namespace: Only to edits of this namespace.
        limit: Only the latest so many.

    Returns:
        The events.
    """
    condition, values = matching(edit_id=id, namespace=namespace)
    rows = connection.execute(
        "SELECT events.* FROM events JOIN edits ON edits.id = edit_id "
        f"WHERE {condition} ORDER BY at DESC, events.seq DESC LIMIT ?",
        (*values, -1 if limit is None else limit),
    ).fetchall()
    return [
        Event(r["edit_id"], r["action"], r["at"], r["author"], r["reason"], r["other_id"])
        for r in reversed(rows)
    ]


def as_of(connection: sqlite3.Connection, at: float, namespace: str | None) -> list[Edit]:
    """The edits that were in force at a time.

    Args:
        connection: In a transaction.
        at: Seconds since the epoch (UTC).
        namespace: Only edits of this namespace.

    Returns:
        The edits in the order in which they were added, ``active`` as it was then.
    """
    condition, values = matching(namespace=namespace)
    rows = connection.execute(
        "SELECT edits.*, last.action FROM edits JOIN (SELECT edit_id, action, row_number() OVER "
        "(PARTITION BY edit_id ORDER BY at DESC, seq DESC) AS back FROM events WHERE at <= ?) "
        "AS last ON last.edit_id = id AND back = 1 "
        f"WHERE action IN ('added', 'restored') AND {condition} "
        "ORDER BY edits.seq",
        (at, *values),
    )
    return [replace(edit, active=True) for edit in edits_from(rows)]
