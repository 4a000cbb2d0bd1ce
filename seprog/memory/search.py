"""Finding edits by their words."""

from __future__ import annotations

import re
import sqlite3

from seprog.memory.records import edits_from, matching
from seprog.types import Edit

_WORD = re.compile(r"\w+")


def search(
    connection: sqlite3.Connection,
    text: str,
    namespace: str | None,
    active: bool | None,
    limit: int,
    offset: int = 0,
) -> list[Edit]:
    """Edits that have all words of a text, or words that start with them, best match first.

    If there is none, edits whose statement contains the text as it stands: so texts in
    languages written without spaces find theirs too.

    Args:
        connection: In a transaction.
        text: What was typed; nothing in it is special.
        namespace: Only edits of this namespace.
        active: Only active, or only inactive ones; ``None`` means both.
        limit: At most so many.
        offset: Pass over so many first.

    Returns:
        The edits; none for a text without words.
    """
    words = _WORD.findall(text)
    if not words:
        return []
    condition, values = matching(namespace=namespace, active=active)
    whole = " ".join(f'"{word}"' for word in words)  # no word holds a quotation mark
    starts = " ".join(f'"{word}"*' for word in words)

    def having_words(limit: int, offset: int) -> list[sqlite3.Row]:
        return connection.execute(
            "SELECT edits.* FROM edits_text JOIN edits ON seq = edits_text.rowid "
            f"WHERE edits_text MATCH ? AND {condition} "
            "ORDER BY edits_text.rank, seq DESC LIMIT ? OFFSET ?",
            # so that whole words rank higher
            (f"({whole}) OR ({starts})", *values, limit, offset),
        ).fetchall()

    found = having_words(limit, offset)
    if found or (offset and having_words(1, 0)):
        return edits_from(found)
    return edits_from(_containing(connection, text.strip(), condition, values, limit, offset))


def _containing(
    connection: sqlite3.Connection,
    text: str,
    condition: str,
    values: list[object],
    limit: int,
    offset: int,
) -> list[sqlite3.Row]:
    escaped = re.sub(r"([\\%_])", r"\\\1", text)
    return connection.execute(
        f"SELECT * FROM edits WHERE statement LIKE ? ESCAPE '\\' AND {condition} "
        "ORDER BY seq DESC LIMIT ? OFFSET ?",
        (f"%{escaped}%", *values, limit, offset),
    ).fetchall()
