"""Vectors, prefixes and metadata in the memory file: the part of ``Memory`` that is not edits.

Vectors and prefixes can be deleted at any time: they are made again from the edits. They are
kept for active edits only, and a read-only memory quietly keeps none.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from seprog.errors import InputError
from seprog.memory.codec import decode_keys, decode_prefix, encode_keys, encode_prefix
from seprog.memory.database import Database
from seprog.memory.records import is_taken, matching, unknown
from seprog.types import Prefix


class Caches:
    """Base of ``Memory``; not used by itself.

    Args:
        database: The open memory file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def put_keys(
        self, encoder_fingerprint: str, ids: Sequence[str], keys: Float32[np.ndarray, "n d"]
    ) -> None:
        """Keep the vectors of edits, as float16; edits out of force by now are passed over.

        Args:
            encoder_fingerprint: What made the vectors.
            ids: Full ids, one per row.
            keys: Normalised vectors, as wide as all others of the encoder.

        Raises:
            InputError: Numbers of ids and rows differ, or the vectors do not fit.
            UnknownEdit: No edit has one of the ids.
        """
        _check_count(ids, len(keys), "vectors")
        blobs = encode_keys(keys)
        if blobs and not self._database.read_only:
            with self._database.writing() as connection:
                _check_width(connection, encoder_fingerprint, keys.shape[1])
                _put(connection, "keys", encoder_fingerprint, ids, blobs)

    def get_keys(
        self, encoder_fingerprint: str, ids: Sequence[str]
    ) -> tuple[list[str], Float32[np.ndarray, "n d"]]:
        """The vectors that are kept for some edits.

        Args:
            encoder_fingerprint: What made the vectors.
            ids: Full ids.

        Returns:
            Ids of active edits in the order in which these were added, and a float32 matrix with
            a row for each; ``(0, 0)`` if there are none. An id is missing if its vector must be
            made (again).
        """
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT edits.id, keys.value FROM json_each(?) AS wanted "
                "CROSS JOIN edits ON edits.id = wanted.value "
                "CROSS JOIN keys ON fingerprint = ? AND edit = seq WHERE active = 1 ORDER BY seq",
                (json.dumps(list(ids)), encoder_fingerprint),
            ).fetchall()
        return [row["id"] for row in rows], decode_keys([row["value"] for row in rows])

    def put_prefixes(
        self, fingerprint: str, ids: Sequence[str], prefixes: Sequence[Prefix]
    ) -> None:
        """Keep the prefixes of edits, dtypes kept; edits out of force by now are passed over.

        Args:
            fingerprint: What made the prefixes (generator and base model).
            ids: Full ids, one per prefix.
            prefixes: On any device.

        Raises:
            InputError: Numbers of ids and prefixes differ.
            UnknownEdit: No edit has one of the ids.
        """
        _check_count(ids, len(prefixes), "prefixes")
        if ids and not self._database.read_only:
            blobs = [encode_prefix(prefix) for prefix in prefixes]
            with self._database.writing() as connection:
                _put(connection, "prefixes", fingerprint, ids, blobs)

    def get_prefixes(self, fingerprint: str, ids: Sequence[str]) -> dict[str, Prefix]:
        """The prefixes that are kept for some edits.

        Args:
            fingerprint: What made the prefixes.
            ids: Full ids.

        Returns:
            By id, on the CPU; an id is missing if its prefix must be made (again).
        """
        found: dict[str, Prefix] = {}
        with self._database.reading() as connection:
            for id in ids:
                row = connection.execute(
                    "SELECT value FROM prefixes JOIN edits ON seq = edit "
                    "WHERE fingerprint = ? AND id = ? AND active = 1",
                    (fingerprint, id),
                ).fetchone()
                prefix = decode_prefix(row["value"]) if row else None
                if prefix is not None:
                    found[id] = prefix
        return found

    def prefix_bytes(self, fingerprint: str) -> int:
        """How much room prefixes take.

        Args:
            fingerprint: What made the prefixes.

        Returns:
            Bytes.
        """
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT coalesce(sum(length(value)), 0) FROM prefixes WHERE fingerprint = ?",
                (fingerprint,),
            ).fetchone()
        return int(row[0])

    def drop_caches(self, fingerprint: str | None = None) -> None:
        """Delete vectors and prefixes; no edit is lost by this.

        Args:
            fingerprint: Only those made by this encoder or generator; ``None`` means all.
        """
        condition, values = matching(fingerprint=fingerprint)
        if not self._database.read_only:
            with self._database.writing() as connection:
                connection.execute(f"DELETE FROM keys WHERE {condition}", values)
                connection.execute(f"DELETE FROM prefixes WHERE {condition}", values)

    def set_meta(self, key: str, value: object) -> None:
        """Keep a value, such as a gate's calibration. Unlike a cache, it is never skipped.

        Args:
            key: Its name; a value kept under it before is replaced.
            value: Anything that JSON can hold.

        Raises:
            InputError: JSON cannot hold the value.
            MemoryFileError: The memory is read-only.
        """
        try:
            text = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"The value of {key!r} cannot be kept ({error})",
                "numbers, texts, lists and mappings",
                "Turn it into these first",
            ) from error
        with self._database.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, text))

    def get_meta(self, key: str) -> Any:
        """The value kept under a name.

        Args:
            key: Its name.

        Returns:
            The value as it comes back from JSON; ``None`` if there is none.
        """
        with self._database.reading() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return json.loads(row["value"]) if row else None

    def metas(self, start: str) -> dict[str, Any]:
        """All values whose names start alike.

        Args:
            start: How their names start.

        Returns:
            By name, in alphabetical order.
        """
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT key, value FROM meta WHERE substr(key, 1, ?) = ? ORDER BY key",
                (len(start), start),
            ).fetchall()
        return {row["key"]: json.loads(row["value"]) for row in rows}

    def drop_meta(self, key: str) -> bool:
        """Delete a value.

        Args:
            key: Its name.

        Returns:
            Whether it was there.

        Raises:
            MemoryFileError: The memory is read-only.
        """
        with self._database.writing() as connection:
            return connection.execute("DELETE FROM meta WHERE key = ?", (key,)).rowcount > 0


def _put(
    connection: sqlite3.Connection,
    table: Literal["keys", "prefixes"],
    fingerprint: str,
    ids: Sequence[str],
    blobs: Sequence[bytes],
) -> None:
    for id, blob in zip(ids, blobs, strict=True):
        written = connection.execute(
            f"INSERT OR REPLACE INTO {table} (fingerprint, edit, value) "
            "SELECT ?, seq, ? FROM edits WHERE id = ? AND active = 1",
            (fingerprint, blob, id),
        ).rowcount
        if not written and not is_taken(connection, id):
            raise unknown(connection, id)


def _check_width(connection: sqlite3.Connection, fingerprint: str, width: int) -> None:
    row = connection.execute(
        "SELECT length(value) / 2 AS width FROM keys WHERE fingerprint = ? LIMIT 1", (fingerprint,)
    ).fetchone()
    if row and row["width"] != width:
        raise InputError(
            f"The vectors have {width} numbers each",
            f"{row['width']}, like those already kept for {fingerprint!r}",
            "Give each encoder its own fingerprint",
        )


def _check_count(ids: Sequence[str], count: int, what: str) -> None:
    if len(ids) != count:
        raise InputError(f"{len(ids)} ids came with {count} {what}", "one per id", "Pair them up")
