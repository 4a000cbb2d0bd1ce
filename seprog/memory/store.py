"""The memory: all edits, their history, and caches made from them, in one SQLite file.

Knows edits, bytes and vectors; no models. What SQL does is in ``records`` (edits and events),
``search`` and ``transfer``; vectors, prefixes and metadata are in ``caches``; the file's layout
is in ``migrations``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from seprog.errors import InputError
from seprog.memory import records, transfer
from seprog.memory import search as full_text
from seprog.memory.caches import Caches
from seprog.memory.database import Database
from seprog.memory.edit_text import check_text, checked
from seprog.memory.records import Event
from seprog.memory.settled import Rivals, settled
from seprog.memory.transfer import ImportReport
from seprog.types import Edit

__all__ = ["Event", "ImportReport", "Memory"]

# Inside the class, the name ``list`` is the method.
Edits: TypeAlias = list[Edit]
Events: TypeAlias = list[Event]
Names: TypeAlias = list[str]


class Memory(Caches):
    """All edits, on disk: the only source of truth. Several processes may write to one file.

    A method that changes something is durable when it returns. Ids may be shortened to as much
    of their start as no other edit's id shares, four characters or more, wherever one is taken;
    ids begin with the time, so those of one day share their first letters. Every method may raise
    ``MemoryFileError``: the file is damaged, locked for more than 10 seconds, read-only (methods
    that write) or its disk is full; then nothing was changed.

    ::

        with Memory("memory.db") as memory:
            edit = memory.add(make_edit("The capital of Australia is Sydney."))
            memory.forget(edit.id, author="ada", reason="it is Canberra")

    Args:
        path: The file, created if missing; ``":memory:"`` keeps everything in RAM.
        read_only: Open for reading only. A file or folder that cannot be written is opened
            for reading anyway, and each change then raises ``MemoryFileError``.

    Raises:
        MemoryFileError: The file cannot be opened, or is not a memory of a known version.
    """

    def __init__(self, path: Path | str, read_only: bool = False) -> None:
        super().__init__(Database(path, read_only))

    @property
    def path(self) -> str:
        """The file, as given."""
        return self._database.path

    @property
    def read_only(self) -> bool:
        """Whether changes are refused."""
        return self._database.read_only

    def close(self) -> None:
        """Close the file. Closing twice is fine; other use after it raises MemoryFileError."""
        self._database.close()

    def __enter__(self) -> Memory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Changing edits

    def add(self, edit: Edit, supersedes: Sequence[str] = ()) -> Edit:
        """Put an edit in force.

        Active edits of the namespace with the same prompt, or the same subject and relation
        (case and spacing aside), are superseded. If an active edit has the same statement
        already, no edit is added: that one is returned, with its own author and reason, and it
        does the superseding. But if the new one brings a prompt, target or triple that the other
        lacks or has otherwise, it is added, and the other is superseded.

        Args:
            edit: Its ``id``, ``created_at``, ``supersedes`` and ``active`` are not looked at.
            supersedes: Ids of further edits that it replaces; inactive ones are passed over.

        Returns:
            The edit with its id and time; ``supersedes`` is the first edit it replaced.

        Raises:
            InputError: A text is empty, too long or not storable, or an id in ``supersedes``
                belongs to another namespace.
            UnknownEdit: An id in ``supersedes`` is unknown.
        """
        return self.add_many([edit], [supersedes])[0]

    def add_many(
        self,
        edits: Sequence[Edit],
        supersedes: Sequence[Sequence[str]] = (),
        rivals: Rivals | None = None,
    ) -> Edits:
        """Put several edits in force, in their order: all of them or, on an error, none.

        Args:
            edits: As for ``add``.
            supersedes: As for ``add``, one entry per edit; empty if there are none at all.
            rivals: Says what else they replace.

        Returns:
            One edit per given one; inactive if a later one of them superseded it.

        Raises:
            InputError: As for ``add``.
            UnknownEdit: As for ``add``.
        """
        named = supersedes or [()] * len(edits)
        if len(named) != len(edits) or any(isinstance(ids, str) for ids in named):
            raise InputError(
                f"{len(edits)} edits came with supersedes={supersedes!r}",
                "one list of ids per edit",
                "Put the ids of each edit into a list",
            )
        good = [checked(replace(edit, id="", active=True)) for edit in edits]
        with settled(self._database, good, rivals) as (connection, found):
            now, ids = time.time(), dict[str, str]()  # by mark
            for i, edit in enumerate(good):
                new = replace(edit, id=records.new_id(connection), created_at=now, supersedes=None)
                old = [*named[i], *(ids.get(id, id) for id in found[i])]
                ids[records.mark(i)] = records.admit(connection, new, now, old).id
            return [records.find(connection, id) for id in ids.values()]

    def forget(self, id: str, author: str | None = None, reason: str | None = None) -> Edit:
        """Put an edit out of force; it stays in the history and can be restored.

        An edit that it superseded does not come back by this; restore that one to have it.

        Args:
            id: The edit.
            author: Who forgets it. ``None`` means unknown.
            reason: Why. ``None`` means not given.

        Returns:
            The edit, now inactive.

        Raises:
            UnknownEdit: No edit has this id.
            InputError: The edit is out of force already.
        """
        _check_provenance(author, reason)
        with self._database.writing() as connection:
            edit = records.find(connection, id)
            if not edit.active:
                last = records.events(connection, edit.id)[-1]
                by = f" by {last.other_id}" if last.action == "superseded" else ""
                raise InputError(
                    f"Edit {edit.id} is out of force already ({last.action}{by})",
                    "an active edit",
                    "See its history",
                )
            records.set_active(connection, edit.id, False)
            event = Event(edit.id, "forgotten", time.time(), author, reason)
            records.record(connection, event)
        return replace(edit, active=False)

    def restore(
        self,
        id: str,
        author: str | None = None,
        reason: str | None = None,
        supersedes: Sequence[str] = (),
        rivals: Rivals | None = None,
    ) -> Edit:
        """Put a forgotten or superseded edit in force again.

        If another active edit answers its question by now, or states the same, that one is
        superseded, and the history says so.

        Args:
            id: The edit.
            author: Who restores it. ``None`` means unknown.
            reason: Why. ``None`` means not given.
            supersedes: Ids of further edits that it replaces; inactive ones are passed over.
            rivals: Says what else it replaces.

        Returns:
            The edit, now active.

        Raises:
            UnknownEdit: No edit has this id, or one in ``supersedes``.
            InputError: The edit is in force, or one in ``supersedes`` is of another namespace.
        """
        _check_provenance(author, reason)
        back = replace(self.get(id), active=True)
        with settled(self._database, [back], rivals) as (connection, found):
            edit = records.find(connection, id)
            if edit.active:
                raise InputError(
                    f"Edit {edit.id} is in force", "a forgotten or superseded edit", "Keep it so"
                )
            replaced = [*supersedes, *found[0]]
            records.restore(connection, edit, time.time(), author, reason, replaced)
        return replace(edit, active=True)

    # Reading edits

    def get(self, id: str) -> Edit:
        """One edit, active or not.

        Args:
            id: Its id, or the start of it.

        Returns:
            The edit.

        Raises:
            UnknownEdit: No id is like that; the message names the nearest one.
            InputError: Several ids start like that.
        """
        with self._database.reading() as connection:
            return records.find(connection, id)

    def list(
        self,
        namespace: str | None = None,
        active: bool | None = None,
        limit: int | None = None,
        offset: int = 0,
        newest_first: bool = False,
    ) -> Edits:
        """Edits in the order in which they were added, or the other way round.

        Args:
            namespace: Only edits of this namespace.
            active: Only active, or only inactive ones; ``None`` means both.
            limit: At most so many; ``None`` means all.
            offset: Pass over so many first.
            newest_first: Whether the last one added comes first.

        Returns:
            The edits.

        Raises:
            InputError: A limit or offset is negative.
        """
        _check_range(limit, offset)
        condition, values = records.matching(namespace=namespace, active=active)
        with self._database.reading() as connection:
            return records.edits_from(
                connection.execute(
                    f"SELECT * FROM edits WHERE {condition} "
                    f"ORDER BY seq {'DESC' if newest_first else 'ASC'} LIMIT ? OFFSET ?",
                    (*values, -1 if limit is None else limit, offset),
                )
            )

    def search(
        self,
        text: str,
        namespace: str | None = None,
        limit: int = 20,
        active: bool | None = True,
        offset: int = 0,
    ) -> Edits:
        """Edits whose statement, prompt, target, subject or object has all words of a text.

        A word also finds those that begin with it. If nothing is found so, edits whose
        statement contains the text as it stands.

        Args:
            text: What was typed; no character in it is special.
            namespace: Only edits of this namespace.
            limit: At most so many.
            active: Only active, or only inactive ones; ``None`` means both.
            offset: Pass over so many first.

        Returns:
            The edits, best match first; none if the text has no words.

        Raises:
            InputError: The limit or the offset is negative.
        """
        _check_range(limit, offset)
        with self._database.reading() as connection:
            return full_text.search(connection, text, namespace, active, limit, offset)

    def count(self, namespace: str | None = None) -> int:
        """How many edits are in force.

        Args:
            namespace: Count only edits of this namespace.

        Returns:
            The number of active edits.
        """
        condition, values = records.matching(namespace=namespace, active=True)
        with self._database.reading() as connection:
            row = connection.execute(f"SELECT count(*) FROM edits WHERE {condition}", values)
            return int(row.fetchone()[0])

    def rivals(self, edit: Edit) -> Edits:
        """Edits in force with the same prompt, or the same subject and relation, as an edit.

        Args:
            edit: In the memory or not; its namespace counts.

        Returns:
            Those that it would supersede if it were added now, in the order in which they were.
        """
        with self._database.reading() as connection:
            return records.rivals(connection, edit)

    def namespaces(self) -> Names:
        """The namespaces that have edits, active or not, in alphabetical order."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT DISTINCT namespace FROM edits ORDER BY namespace")
            return [row["namespace"] for row in rows]

    def history(
        self, id: str | None = None, namespace: str | None = None, limit: int | None = None
    ) -> Events:
        """What happened to edits, oldest first.

        Args:
            id: Only to this edit.
            namespace: Only to edits of this namespace.
            limit: Only the latest so many; ``None`` means all.

        Returns:
            The events.

        Raises:
            UnknownEdit: No edit has this id.
            InputError: The limit is negative.
        """
        _check_range(limit, 0)
        with self._database.reading() as connection:
            full = records.find(connection, id).id if id is not None else None
            return records.events(connection, full, namespace, limit)

    def as_of(self, time: float, namespace: str | None = None) -> Edits:
        """The edits that were in force at a time.

        Args:
            time: Seconds since the epoch (UTC).
            namespace: Only edits of this namespace.

        Returns:
            The edits in the order in which they were added, with ``active`` as it was then.
        """
        with self._database.reading() as connection:
            return records.as_of(connection, time, namespace)

    def revision(self) -> int:
        """The number of the last event: grows with every change to the edits, by any process.

        Caches and metadata do not count.

        Returns:
            0 for an empty memory.
        """
        with self._database.reading() as connection:
            return records.revision(connection)

    def changes(self, since: int, namespace: str | None = None) -> tuple[int, Edits]:
        """What happened since a revision, in one state of the memory.

        Args:
            since: An earlier ``revision()``; 0 for everything.
            namespace: Only edits of this namespace.

        Returns:
            The revision now, and each edit that an event since then was about, as it is now, in
            the order in which they were added.
        """
        condition, values = records.matching(namespace=namespace)
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT edits.* FROM (SELECT DISTINCT edit_id FROM events WHERE seq > ?) "
                f"CROSS JOIN edits ON id = edit_id WHERE {condition} ORDER BY seq",
                (since, *values),
            )
            return records.revision(connection), records.edits_from(rows)

    # In and out

    def export(
        self, namespace: str | None = None, history: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Edits as rows for JSON lines, in the order in which they were added.

        Args:
            namespace: Only edits of this namespace.
            history: Also inactive edits, and what happened to each.

        Returns:
            One mapping per edit, of one state of the memory; see ``transfer`` for the fields.
        """
        with self._database.reading() as connection:
            return iter(transfer.export_rows(connection, namespace, history))

    def import_rows(
        self,
        lines: Iterable[str],
        namespace: str | None = None,
        skip_bad: bool = False,
        author: str | None = None,
        provenance: bool = True,
        check: transfer.Check | None = None,
        rivals: Rivals | None = None,
    ) -> ImportReport:
        """Add edits from JSON lines, in one transaction.

        A row holds a statement, or a prompt and a target, or a subject, a relation and an
        object; or what ``export`` gave. Its id is kept if no edit has it yet. ``supersedes`` is
        an id or a list of ids that it replaces; those that are not there are passed over.

        Args:
            lines: One JSON object each; empty lines are passed over.
            namespace: Put all edits here; ``None`` means where their rows say.
            skip_bad: Import the good rows even if others are bad.
            author: Of the rows that name none.
            provenance: Whether rows may name their author, time and events, as those of an export
                do; else these are passed over.
            check: Raises an ``InputError`` for an edit that is not to be stored, such as an
                editor's ``check``; its row is bad then.
            rivals: Says what else they replace; without it, only the same prompt or triple is.

        Returns:
            The report. If it has errors and ``skip_bad`` is false, nothing was imported.

        Raises:
            InputError: The lines are not UTF-8, or the namespace is not storable.
        """
        if namespace is not None:
            check_text("namespace", namespace)
        rows, errors = transfer.parse_lines(lines, namespace, author, provenance, check)
        if errors and not skip_bad:
            return ImportReport(errors=errors)
        fresh = [replace(row.edit, id="") for row in rows]
        with settled(self._database, fresh, rivals) as (connection, found):
            report = transfer.Importer(connection, time.time()).run(rows, found)
        return replace(report, errors=errors)


def _check_provenance(author: str | None, reason: str | None) -> None:
    for name, text in (("author", author), ("reason", reason)):
        check_text(name, text or "", may_be_empty=True)


def _check_range(limit: int | None, offset: int) -> None:
    if offset < 0 or (limit is not None and limit < 0):
        raise InputError(
            f"limit={limit} and offset={offset} were given", "numbers from 0", "Give 0 or more"
        )
