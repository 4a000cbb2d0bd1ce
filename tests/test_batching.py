"""Batches by size."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from seprog.batching import batches


@given(st.lists(st.integers()), st.integers(1, 5))
def test_every_item_is_in_one_batch_beside_its_like(sizes: list[int], most: int) -> None:
    found = list(batches(sizes, most))
    assert sorted(i for batch in found for i in batch) == list(range(len(sizes)))
    assert all(len(batch) == most for batch in found[:-1])
    assert all(sizes[a[-1]] <= sizes[b[0]] for a, b in pairwise(found))
