"""Rows of files, plain or gzipped, with the number of the row in every error."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from seprog.errors import InputError

T = TypeVar("T")


def read_rows(path: Path, parse: Callable[[dict[str, Any]], T], form: str) -> list[T]:
    """Every row of a JSON file, parsed.

    Args:
        path: JSON lines, one JSON array, or one object, which is the only row then; gzipped if
            its name ends in ``.gz``.
        parse: Turns a row into what is wanted; raises ``AttributeError``,
            ``LookupError``, ``TypeError`` or ``ValueError`` if it is something else.
        form: What a row looks like, for the error.

    Returns:
        One result per row, in order; empty lines are passed over.

    Raises:
        InputError: If there is no such file, or a row is not of that form; it names the row.
    """
    content = _content(path)
    if _is_whole(content):
        try:
            value = json.loads(content)
        except ValueError as error:
            raise _unreadable(path, error) from error
        rows = value if isinstance(value, list) else [value]
        show = partial(json.dumps, ensure_ascii=False)
        return _parsed(path, enumerate(rows, 1), parse, form, show)
    return _parsed(path, _lines(content), lambda line: parse(json.loads(line)), form, str)


def read_lines(path: Path, parse: Callable[[str], T], form: str) -> list[T]:
    """Every line of a file, plain or gzipped, parsed; as ``read_rows``, without JSON."""
    return _parsed(path, _lines(_content(path)), parse, form, str)


def _is_whole(content: str) -> bool:
    """Whether it is one array, or one object over several lines, rather than a row a line."""
    first, *_ = content.lstrip().split("\n", 1)
    return first.startswith("[") or (not _is_json(first) and _is_json(content))


def _is_json(content: str) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def _lines(content: str) -> list[tuple[int, str]]:
    return [(i, line) for i, line in enumerate(content.split("\n"), 1) if line.strip()]


def _parsed(
    path: Path,
    numbered: Iterable[tuple[int, Any]],
    parse: Callable[[Any], T],
    form: str,
    show: Callable[[Any], str],
) -> list[T]:
    found = []
    for number, row in numbered:
        try:
            found.append(parse(row))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"Row {number} of {path} came as {show(row)[:80]} ({error!r})",
                form,
                "Correct the row, or leave it out",
            ) from error
    return found


def _content(path: Path) -> str:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except (OSError, EOFError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} could not be read ({error})",
        "a file of lines, or of one JSON array, plain or gzipped",
        "Check the path",
    )
