"""Rows of JSON files, plain or gzipped, with the number of the row in every error."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from seprog.errors import InputError

T = TypeVar("T")


def read_rows(path: Path, parse: Callable[[dict[str, Any]], T], form: str) -> list[T]:
    """Every row of a file, parsed.

    Args:
        path: JSON lines, or one JSON array; gzipped if its name ends in ``.gz``.
        parse: Turns a row into what is wanted; raises ``AttributeError``,
            ``LookupError``, ``TypeError`` or ``ValueError`` if it is something else.
        form: What a row looks like, for the error.

    Returns:
        One result per row, in order; empty lines are passed over.

    Raises:
        InputError: If there is no such file, or a row is not of that form; it names the row.
    """
    found = []
    for number, text, row in _rows(path):
        try:
            found.append(parse(json.loads(text) if row is None else row))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            shown = text or json.dumps(row, ensure_ascii=False)
            raise InputError(
                f"Row {number} of {path} came as {shown[:80]} ({error!r})",
                form,
                "Correct the row, or leave it out",
            ) from error
    return found


def _rows(path: Path) -> list[tuple[int, str, Any]]:
    """Number and either the line's text or, of an array, the element."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
        if text.lstrip().startswith("["):
            return [(i, "", row) for i, row in enumerate(json.loads(text), 1)]
    except (OSError, EOFError, ValueError) as error:
        raise InputError(
            f"{path} could not be read ({error})",
            "a file of JSON lines, or of one JSON array, plain or gzipped",
            "Check the path",
        ) from error
    return [(i, line, None) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
