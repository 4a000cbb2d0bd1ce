"""A progress bar for long measurements, on standard error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def watch(items: Sequence[T], title: str, show: bool) -> Iterable[T]:
    """The items, with a bar that goes away at the end if it is to be shown."""
    console = Console(stderr=True)
    return track(items, title, console=console, disable=not show, transient=True)
