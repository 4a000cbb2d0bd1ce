"""JSON lines, plain or gzipped, with the number of the row in every error."""

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
        path: JSON lines; gzipped if its name ends in ``.gz``.
        parse: Turns a row into what is wanted; raises ``LookupError``, ``TypeError`` or
            ``ValueError`` if it is something else.
        form: What a row looks like, for the error.

    Returns:
        One result per row, in order; empty lines are passed over.

    Raises:
        InputError: If there is no such file, or a row is not of that form; it names the row.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} could not be read ({error})",
            "a file of JSON lines, plain or gzipped",
            "Check the path",
        ) from error
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(parse(json.loads(line)))
        except (LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"Row {number} of {path} came as {line[:80]} ({error!r})",
                form,
                "Correct the row, or leave it out",
            ) from error
    return found
