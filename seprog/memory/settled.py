"""Writing what was worked out from the edits, on those very edits: nobody wrote in between."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from seprog.errors import MemoryFileError
from seprog.memory import records
from seprog.memory.database import Database
from seprog.types import Edit

_TRIES = 8
Rivals: TypeAlias = Callable[[Sequence[Edit]], Sequence[Sequence[str]]]
"""Says of edits that are to be written which ids each replaces, beside those of the same prompt or
triple; an earlier one of the call stands there as its ``mark``. It is asked outside of the
transaction, and again if others wrote meanwhile."""


@contextmanager
def settled(
    database: Database, edits: Sequence[Edit], rivals: Rivals | None
) -> Iterator[tuple[sqlite3.Connection, Sequence[Sequence[str]]]]:
    """A writing transaction on the state of the edits that rivals were found in.

    Args:
        database: The open memory file.
        edits: To be written.
        rivals: Finds what they replace; ``None``: nothing.

    Yields:
        The connection, and the ids that each edit replaces.

    Raises:
        MemoryFileError: Others wrote each time, or SQLite failed; nothing was changed.
    """
    for _ in range(_TRIES):
        with database.reading() as connection:
            revision = records.revision(connection)
        found = rivals(edits) if rivals else [()] * len(edits)
        with database.writing() as connection:
            if rivals is None or records.revision(connection) == revision:
                yield connection, found
                return
    raise MemoryFileError(
        f"Others kept writing to the memory {database.path}, so nothing was changed",
        "a moment in which its edits stay as they are",
        "Try again",
    )
