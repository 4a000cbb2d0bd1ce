"""Masks and biases of attention, widened by columns for a prefix in front."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


def extend_mask(
    mask: Shaped[Tensor, "mask_rows mask_heads time kv_time"] | None,
    prefix_mask: Bool[Tensor, "rows prefix"],
    time: int,
    kv_time: int,
    window: int | None,
    causal: bool,
    additive: torch.dtype | None = None,
) -> Shaped[Tensor, "rows mask_heads time total"]:
    """The mask with columns for the prefix in front, which every query position sees.

    Args:
        mask: ``(rows or 1, 1 or heads, time, kv_time)``, boolean (true: visible) or additive.
            ``None`` means what it means to the model: causal, or everything for one position.
        prefix_mask: Which virtual tokens are real.
        time: Positions that ask.
        kv_time: Positions that are attended to, without the prefix.
        window: Sliding window of the site, used only where ``mask`` is ``None``.
        causal: Whether the site is causal, used only where ``mask`` is ``None``.
        additive: Type of a mask that is made here and has to be added to the scores; ``None``:
            it may be boolean.

    Returns:
        ``(rows, 1 or heads, time, prefix + kv_time)`` of the dtype of ``mask``, or boolean.
    """
    if mask is None:
        mask = torch.ones(time, kv_time, dtype=torch.bool, device=prefix_mask.device)
        if causal and time > 1:  # no mask is left out unless both start at position 0
            mask = mask.tril()
            if window is not None:
                mask = mask.triu(1 - window)
        mask = mask[None, None]
        if additive is not None:
            hidden = torch.finfo(additive).min
            mask = torch.zeros_like(mask, dtype=additive).masked_fill(~mask, hidden)
    front = prefix_mask[:, None, None, :].expand(-1, mask.shape[1], time, -1)
    if mask.dtype != torch.bool:
        hidden = torch.finfo(mask.dtype).min
        front = torch.zeros_like(front, dtype=mask.dtype).masked_fill(~front, hidden)
    return torch.cat([front, mask.expand(len(prefix_mask), -1, -1, -1)], dim=-1)


def extend_bias(
    bias: Float[Tensor, "bias_rows heads time kv_time"],
    rows: Int[Tensor, " rows"],
    source: Any,
    length: int,
    kv_time: int,
) -> Float[Tensor, "rows_or_1 heads time total"]:
    """The bias with columns for the prefix in front, which stands right before position 0.

    Args:
        bias: Of the batch.
        rows: The rows that have a prefix.
        source: What makes biases of distances at this site; ``None``: there is none, as where a
            decoder looks at its encoder.
        length: Virtual tokens.
        kv_time: Positions that are attended to, without the prefix.
    """
    if bias.shape[0] > 1:
        bias = bias.index_select(0, rows)
    heads, time, past = bias.shape[1], bias.shape[2], kv_time - bias.shape[2]
    if source is None:
        front = bias.new_zeros(1, heads, time, length)
    else:
        front = source.compute_bias(time, length, bias.device, past_seen_tokens=length + past)
    return torch.cat([front.to(bias.dtype).expand(bias.shape[0], -1, -1, -1), bias], dim=-1)
