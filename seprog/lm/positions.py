"""Where tokens and prefixes stand: position ids from masks, as plain functions.

Masks are ``(batch, time)``, true (or 1) where a token is real, padded on one side.
"""

from __future__ import annotations

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from seprog.types import PrefixBatch

Mask = Shaped[Tensor, "batch time"]


def from_zero(time: int, mask: Mask | None, device: torch.device | str) -> Int[Tensor, "rows time"]:
    """The first real token of each row is at 0; ``rows`` is 1 without a mask."""
    index = torch.arange(time, device=device)[None]
    if mask is None:
        return index
    first = mask.bool().int().argmax(dim=1, keepdim=True)
    return (index - first).clamp_min(0)


def up_to_minus_one(
    time: int, mask: Mask | None, device: torch.device | str
) -> Int[Tensor, "rows time"]:
    """The last real token of each row is at -1; ``rows`` is 1 without a mask."""
    index = torch.arange(time, device=device)[None] - time
    if mask is None:
        return index
    return index + mask.bool().int().flip(1).argmax(dim=1, keepdim=True)


def shifts(
    batch: int, prefixes: PrefixBatch, shift: int | Int[Tensor, " edited"] | None
) -> Int[Tensor, " batch"]:
    """How far each row's positions move up: ``shift``, or the number of its virtual tokens.

    Rows without a prefix do not move.
    """
    count = prefixes.mask.sum(dim=1)
    by = count if shift is None else torch.as_tensor(shift, device=count.device).expand_as(count)
    moved = torch.zeros(batch, dtype=count.dtype, device=count.device)
    rows = torch.tensor(prefixes.rows, device=count.device)
    return moved.index_copy(0, rows, by.to(count.dtype))
