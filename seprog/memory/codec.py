"""Prefixes and vectors as bytes. Both are caches: bytes that cannot be read are no loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from seprog.errors import InputError
from seprog.types import Prefix

_HALF = np.dtype("<f2")


def encode_prefix(prefix: Prefix) -> bytes:
    """A prefix as safetensors bytes, dtypes kept.

    Args:
        prefix: On any device.

    Returns:
        Bytes with the tensors ``keys.0``, ``values.0``, ``keys.1``, ...
    """
    tensors: dict[str, Tensor] = {}
    for site, (keys, values) in enumerate(zip(prefix.keys, prefix.values, strict=True)):
        # Cloned, as safetensors refuses views that share storage.
        tensors[f"keys.{site}"] = keys.detach().cpu().contiguous().clone()
        tensors[f"values.{site}"] = values.detach().cpu().contiguous().clone()
    return save(tensors)


def decode_prefix(data: bytes) -> Prefix | None:
    """The prefix that ``encode_prefix`` turned into these bytes.

    Args:
        data: Bytes from ``encode_prefix``.

    Returns:
        The prefix, on the CPU; ``None`` if the bytes are not a prefix.
    """
    try:
        tensors = load(data)
        sites = range(len(tensors) // 2)
        keys = tuple(tensors[f"keys.{site}"] for site in sites)
        values = tuple(tensors[f"values.{site}"] for site in sites)
    except (SafetensorError, KeyError, ValueError):
        return None
    return Prefix(keys, values) if keys else None


def encode_keys(keys: Float32[np.ndarray, "n d"]) -> list[bytes]:
    """Vectors as float16 bytes, one value per row.

    Args:
        keys: One vector per row; normalised ones lose nothing that matters.

    Returns:
        ``2 * d`` bytes per row, little-endian.

    Raises:
        InputError: A number is not finite, or too large for float16.
    """
    with np.errstate(over="ignore"):
        halves = keys.astype(_HALF)
    if not np.isfinite(halves).all():
        raise InputError(
            "A key vector holds a number that is not finite or is above 65504",
            "normalised vectors",
            "Check the encoder",
        )
    return [row.tobytes() for row in halves]


def decode_keys(rows: Sequence[bytes]) -> Float32[np.ndarray, "n d"]:
    """The vectors that ``encode_keys`` turned into these bytes.

    Args:
        rows: Bytes of equal length.

    Returns:
        A float32 matrix; ``(0, 0)`` if there are no rows.
    """
    if not rows:
        return np.zeros((0, 0), dtype=np.float32)
    return np.frombuffer(b"".join(rows), dtype=_HALF).reshape(len(rows), -1).astype(np.float32)
