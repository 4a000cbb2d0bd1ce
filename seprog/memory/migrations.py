"""The layout of a memory file, as numbered steps that lead from an empty file to today's.

A file's ``PRAGMA user_version`` is the number of the last step applied to it. A step is never
changed once released; a new layout is a new step at the end of ``MIGRATIONS``. Each runs in its
own transaction, so a process killed half-way leaves the file at the step before.

Tables::

    edits       one row per edit, for ever; ``active`` says whether it is in force
    events      what happened to which edit and when; ``seq`` of the last one is the revision
    meta        JSON values by key
    edits_text  full-text index over ``edits``                      (derived)
    keys        vectors of active edits, per encoder                (derived)
    prefixes    generated prefixes of active edits, per fingerprint (derived)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

APPLICATION_ID = 0x53455052
"""Marks a SQLite file as a seprog memory; the letters SEPR."""


def m001_edits_and_events(connection: sqlite3.Connection) -> None:
    """Edits, their history, and metadata.

    ``question`` and ``fact`` are the prompt, and the subject and relation, without differences
    in case and spacing: per namespace at most one active edit may hold each of them.
    """
    _run(
        connection,
        f"PRAGMA application_id = {APPLICATION_ID}",
        """CREATE TABLE edits (
            seq INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            namespace TEXT NOT NULL,
            statement TEXT NOT NULL,
            prompt TEXT, target TEXT,
            subject TEXT, relation TEXT, object TEXT,
            author TEXT, reason TEXT,
            created_at REAL NOT NULL,
            supersedes TEXT,
            active INTEGER NOT NULL,
            question TEXT, fact TEXT
        )""",
        "CREATE INDEX edits_by_namespace ON edits (namespace, active)",
        "CREATE UNIQUE INDEX one_statement ON edits (namespace, statement) WHERE active = 1",
        "CREATE UNIQUE INDEX one_answer ON edits (namespace, question) WHERE active = 1",
        "CREATE UNIQUE INDEX one_object ON edits (namespace, fact) WHERE active = 1",
        """CREATE TABLE events (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            edit_id TEXT NOT NULL,
            action TEXT NOT NULL,
            at REAL NOT NULL,
            author TEXT, reason TEXT,
            other_id TEXT
        )""",
        "CREATE INDEX events_by_edit ON events (edit_id)",
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    )


def m002_full_text(connection: sqlite3.Connection) -> None:
    """Full-text index; filled by a trigger, as the text of an edit never changes."""
    columns = "statement, prompt, target, subject, object"
    new = ", ".join(f"new.{column.strip()}" for column in columns.split(","))
    _run(
        connection,
        f"""CREATE VIRTUAL TABLE edits_text USING fts5 (
            {columns}, content = 'edits', content_rowid = 'seq',
            tokenize = 'unicode61 remove_diacritics 2'
        )""",
        f"""CREATE TRIGGER edits_text_filled AFTER INSERT ON edits BEGIN
            INSERT INTO edits_text (rowid, {columns}) VALUES (new.seq, {new});
        END""",
        "INSERT INTO edits_text (edits_text) VALUES ('rebuild')",
    )


def m003_caches(connection: sqlite3.Connection) -> None:
    """Vectors and prefixes, removed as soon as their edit is out of force."""
    _run(
        connection,
        """CREATE TABLE keys (
            fingerprint TEXT NOT NULL, edit INTEGER NOT NULL, value BLOB NOT NULL,
            PRIMARY KEY (fingerprint, edit)
        )""",
        """CREATE TABLE prefixes (
            fingerprint TEXT NOT NULL, edit INTEGER NOT NULL, value BLOB NOT NULL,
            PRIMARY KEY (fingerprint, edit)
        )""",
        "CREATE INDEX keys_by_edit ON keys (edit)",
        "CREATE INDEX prefixes_by_edit ON prefixes (edit)",
        """CREATE TRIGGER caches_emptied AFTER UPDATE OF active ON edits WHEN new.active = 0 BEGIN
            DELETE FROM keys WHERE edit = new.seq;
            DELETE FROM prefixes WHERE edit = new.seq;
        END""",
    )


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    m001_edits_and_events,
    m002_full_text,
    m003_caches,
)


def version(connection: sqlite3.Connection) -> int:
    """The number of the last step applied to a file; 0 for an empty one.

    Args:
        connection: The open file.

    Returns:
        Its ``user_version``.
    """
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a file to the newest layout; does nothing, and takes no lock, if it is there.

    Args:
        connection: An open, writable file, in autocommit mode.

    Raises:
        sqlite3.Error: A step failed; the file is as it was before that step.
    """
    for number, step in enumerate(MIGRATIONS, start=1):
        if version(connection) < number:
            _apply(connection, number, step)


def _apply(
    connection: sqlite3.Connection, number: int, step: Callable[[sqlite3.Connection], None]
) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if version(connection) < number:  # another process may have been faster
            step(connection)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _run(connection: sqlite3.Connection, *statements: str) -> None:
    for statement in statements:
        connection.execute(statement)
