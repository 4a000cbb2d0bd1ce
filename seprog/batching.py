"""Which items run together, so that little is padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def batches(sizes: Sequence[Any], most: int) -> Iterator[list[int]]:
    """Indices of items in batches, those of similar size together.

    Args:
        sizes: Of each item; anything that can be sorted.
        most: Items per batch (>= 1).

    Yields:
        Every index once, ``most`` at a time.
    """
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    for start in range(0, len(order), most):
        yield order[start : start + most]
