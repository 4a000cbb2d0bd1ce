"""Nearest keys, found exactly, in one matrix. Derived from the store; holds no text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32

from seprog.errors import InputError

_GROWTH = 1.5


class VectorIndex:
    """Ids and their normalised vectors; search compares a query with all of them.

    About 1 ms per query at 10,000 vectors of 384 numbers. Not safe to change while another
    thread searches.
    """

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._matrix: Float32[np.ndarray, "capacity d"] = np.zeros((0, 0), dtype=np.float32)

    def __len__(self) -> int:
        """The number of ids."""
        return len(self._ids)

    def __contains__(self, id: object) -> bool:
        """Whether an id is in the index."""
        return id in self._rows

    def add(self, ids: Sequence[str], keys: Float[np.ndarray, "n d"]) -> None:
        """Add vectors, or replace those of ids that are there already.

        Args:
            ids: One per row of ``keys``.
            keys: Vectors of any length but zero; normalised here.

        Raises:
            InputError: Numbers of ids and rows differ, ``d`` is not that of the index, or a
                number is not finite.
        """
        if len(ids) != len(keys):
            raise InputError(
                f"{len(ids)} ids came with {len(keys)} vectors", "one vector per id", ""
            )
        if not len(ids):
            return
        if not self._ids:
            self._matrix = np.zeros((0, keys.shape[1]), dtype=np.float32)
        unit = self._normalised(keys)
        self._reserve(len(self._ids) + len(ids))
        for id, key in zip(ids, unit, strict=True):
            if id not in self._rows:
                self._rows[id] = len(self._ids)
                self._ids.append(id)
            self._matrix[self._rows[id]] = key

    def remove(self, ids: Sequence[str]) -> None:
        """Take ids out; the last row moves into each gap.

        Args:
            ids: Ids that are not in the index are passed over.
        """
        for id in ids:
            row = self._rows.pop(id, None)
            if row is None:
                continue
            last = self._ids.pop()
            if last != id:
                self._ids[row] = last
                self._rows[last] = row
                self._matrix[row] = self._matrix[len(self._ids)]

    def search(self, queries: Float[np.ndarray, "q d"], k: int) -> list[list[tuple[str, float]]]:
        """The nearest vectors of each query.

        Args:
            queries: One vector per row; normalised here.
            k: How many to find, at least 1; fewer come back if the index holds fewer.

        Returns:
            Per query, ids and cosines (-1 to 1), highest first; equal ones by id.

        Raises:
            InputError: ``k`` is below 1, or the vectors do not fit the index.
        """
        if k < 1:
            raise InputError(f"k is {k}", "at least 1", "Ask for one neighbour or more")
        if not self._ids:
            return [[] for _ in queries]
        scores = self._normalised(queries) @ self._matrix[: len(self._ids)].T  # (q, n)
        return [self._best(row, k) for row in scores]

    def cosines(self, query: Float[np.ndarray, " d"], ids: Sequence[str]) -> list[float]:
        """Cosines (-1 to 1) of a vector of any length to those of ids that are in the index."""
        rows = [self._rows[id] for id in ids]
        if not rows:
            return []
        [unit] = self._normalised(query[None])
        return [float(c) for c in self._matrix[rows] @ unit]

    def _best(self, scores: Float32[np.ndarray, " n"], k: int) -> list[tuple[str, float]]:
        chosen = np.arange(len(scores))
        if k < len(scores):
            kth = np.partition(scores, -k)[-k]
            chosen = np.flatnonzero(scores >= kth)  # more than k if some are equal
        found = [(self._ids[row], float(scores[row])) for row in chosen]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:k]

    def _normalised(self, vectors: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        width = self._matrix.shape[1]
        if vectors.shape[1] != width:
            raise InputError(
                f"The vectors have {vectors.shape[1]} numbers each",
                f"{width}, like those in the index",
                "Use one encoder for all of them",
            )
        if not np.isfinite(vectors).all():
            raise InputError("A vector holds a number that is not finite", "finite numbers", "")
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.maximum(norms, 1e-12)).astype(np.float32)

    def _reserve(self, rows: int) -> None:
        if rows > len(self._matrix):
            grown = np.zeros((int(rows * _GROWTH), self._matrix.shape[1]), dtype=np.float32)
            grown[: len(self._ids)] = self._matrix[: len(self._ids)]
            self._matrix = grown
