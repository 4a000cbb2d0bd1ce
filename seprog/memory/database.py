"""One memory file: opening it safely, transactions, and SQLite's failures in words.

Knows nothing of edits; what is in the file is described in ``migrations``.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seprog.errors import DiskFull, InputError, MemoryFileError
from seprog.memory.migrations import APPLICATION_ID, MIGRATIONS, migrate, version

BUSY_SECONDS = 10.0
"""How long to wait for another process that is writing."""

IN_MEMORY = ":memory:"
_HEADER = b"SQLite format 3\x00"

_WORDS = {
    sqlite3.SQLITE_BUSY: (
        "The memory {path} is being written by another process",
        "it to be free within a few seconds",
        "Wait for the other process to finish, then try again",
    ),
    sqlite3.SQLITE_READONLY: (
        "The memory {path} cannot be written, so nothing was changed",
        "a writable file in a writable folder",
        "Check the permissions, or work on a copy",
    ),
    sqlite3.SQLITE_FULL: (
        "There is no space left for the memory {path}; this change was not saved, "
        "all earlier ones are",
        "free space on its disk",
        "Free some space, then try again",
    ),
    sqlite3.SQLITE_IOERR: (
        "The disk failed while the memory {path} was in use ({error})",
        "a disk that can be read and written",
        "Check the disk, then try again",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "The memory {path} cannot be opened ({error})",
        "a file that can be read, in a folder that can be written",
        "Check the path and the permissions",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "The file {path} is damaged ({error})",
        "an intact memory",
        "Restore it from a copy or from an export",
    ),
    sqlite3.SQLITE_NOTADB: (
        "The file {path} is not a seprog memory",
        "a memory, or a path where there is no file yet",
        "Check the path",
    ),
}


class Database:
    """An open memory file. Threads may share it; each transaction has it for itself.

    Args:
        path: The file, created if missing; ``":memory:"`` keeps everything in RAM.
        read_only: Open for reading only. A file or folder that cannot be written is opened
            for reading whatever this says.

    Raises:
        MemoryFileError: The file cannot be opened, or is not a memory of a known version.
    """

    def __init__(self, path: Path | str, read_only: bool = False) -> None:
        self.path = str(path)
        self.read_only = read_only
        self._lock = threading.RLock()
        if self.path != IN_MEMORY:
            _check_file(self.path, read_only)
            self.read_only = read_only or not _is_writable(Path(self.path))
        elif read_only:
            raise InputError(
                "A memory in RAM was to be opened for reading only",
                "a file",
                "Give a path, or open it for writing",
            )
        with translated(self.path):
            self.connection = _connect(self.path, self.read_only)
            try:
                self._prepare()
            except BaseException:
                self.connection.close()
                raise

    def _prepare(self) -> None:
        _check_ours(self.connection, self.path)
        if self.read_only:
            if version(self.connection) < len(MIGRATIONS):
                raise MemoryFileError(
                    f"The memory {self.path} is empty or of an older version, and is read-only",
                    f"version {len(MIGRATIONS)}",
                    "Open it once where it can be written; that brings it up to date",
                )
            return
        migrate(self.connection)
        _use_write_ahead_log(self.connection)
        self.connection.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one state of the file, whatever others write meanwhile.

        Yields:
            The connection.

        Raises:
            MemoryFileError: SQLite failed.
        """
        with self._lock, translated(self.path), _transaction(self.connection, "BEGIN"):
            yield self.connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is either durable as a whole when it returns, or did not happen.

        Yields:
            The connection.

        Raises:
            MemoryFileError: The file is read-only, or SQLite failed; nothing was changed.
        """
        if self.read_only:
            came, expected, advice = _WORDS[sqlite3.SQLITE_READONLY]
            raise MemoryFileError(came.format(path=self.path), expected, advice)
        with self._lock, translated(self.path), _transaction(self.connection, "BEGIN IMMEDIATE"):
            yield self.connection

    def close(self) -> None:
        """Close the file; further use raises ``MemoryFileError``. Closing twice is fine."""
        with self._lock:
            self.connection.close()


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Raise seprog's errors where SQLite would raise its own.

    Args:
        path: The file, for the message.

    Yields:
        Nothing.

    Raises:
        MemoryFileError: SQLite failed.
        InputError: A text is not Unicode, or a number too large to be stored.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise _in_words(error, path) from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise InputError(
            f"A text or number cannot be stored ({error})",
            "UTF-8 text and numbers below 2^63",
            "Check the texts and numbers given",
        ) from error


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _in_words(error: sqlite3.Error, path: str) -> MemoryFileError:
    unforeseen = (
        "The memory {path} cannot be used ({error})",
        "an open, intact memory",
        "Open it again",
    )
    came, expected, advice = _WORDS.get(_kind(error), unforeseen)
    failure = DiskFull if _kind(error) == sqlite3.SQLITE_FULL else MemoryFileError
    return failure(came.format(path=path, error=error), expected, advice)


def _kind(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of the code is detail


def _check_file(path: str, must_exist: bool) -> None:
    if "\x00" in path:
        raise MemoryFileError("The path holds a NUL character", "a path", "Remove it")
    file = Path(path)
    if file.is_dir():
        raise MemoryFileError(
            f"{path} is a folder", "a file", f"Name a file in it, such as {file / 'memory.db'}"
        )
    if not file.parent.is_dir():
        raise MemoryFileError(
            f"The folder {file.parent} does not exist",
            "an existing folder to hold the memory",
            "Create it, or choose another path",
        )
    if not file.exists():
        if must_exist:
            raise MemoryFileError(
                f"There is no memory at {path}", "an existing file", "Check the path"
            )
        return
    if not file.is_file() or not os.access(file, os.R_OK):
        raise MemoryFileError(
            f"{path} cannot be read", "a regular, readable file", "Check its permissions"
        )
    _check_header(file)


def _check_header(file: Path) -> None:
    try:
        with file.open("rb") as opened:
            start = opened.read(len(_HEADER))
    except OSError as error:
        raise MemoryFileError(
            f"{file} cannot be read ({error.strerror})", "a readable file", "Check the disk"
        ) from error
    if start not in (b"", _HEADER):  # an empty file is a memory that nothing was written to
        came, expected, advice = _WORDS[sqlite3.SQLITE_NOTADB]
        raise MemoryFileError(came.format(path=file), expected, advice)


def _is_writable(file: Path) -> bool:
    if not file.exists():
        return True  # SQLite will say so if it cannot create it
    return os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)


def _connect(path: str, read_only: bool) -> sqlite3.Connection:
    if path == IN_MEMORY:
        return _open(IN_MEMORY)
    uri = Path(path).absolute().as_uri()
    connection = _open(f"{uri}?mode={'ro' if read_only else 'rwc'}")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        connection.close()
        # SQLite wants to make a log, which it cannot in a folder that cannot be written; if
        # there is no log yet, the file is complete as it stands.
        refused = _kind(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
        if not (read_only and refused) or Path(path + "-wal").exists():
            raise
        return _open(f"{uri}?mode=ro&immutable=1")
    return connection


def _open(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri,
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,  # transactions are begun by hand
        check_same_thread=False,  # Database holds a lock instead
    )
    connection.row_factory = sqlite3.Row
    return connection


def _check_ours(connection: sqlite3.Connection, path: str) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    found, known = version(connection), len(MIGRATIONS)
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and (application or found or tables):
        raise MemoryFileError(
            f"{path} is a SQLite file of another program",
            "a seprog memory, or a path where there is no file yet",
            "Check the path",
        )
    if found > known:
        raise MemoryFileError(
            f"The memory {path} has version {found}, made by a newer seprog",
            f"version {known} or older",
            "Upgrade seprog",
        )


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:  # this pragma does not wait by itself
            if _kind(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
