"""Teacher-forced scores: how new answers fare where their right tokens are given one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seprog.methods.contract import Forced

AT_ONCE = 32
"""Questions that are read in one batch."""

Score = tuple[float | None, bool | None]
"""Token accuracy of the first answer, and whether it is likelier than the second; or neither."""


def forced_scores(
    pairs: Sequence[tuple[str, str] | None],
    fare: Callable[[Sequence[int], Sequence[str]], list[Forced]],
) -> list[Score]:
    """Scores of questions that have two answers to compare.

    Args:
        pairs: Per question, both; ``None`` where it has none.
        fare: Given places of questions, and an answer for each, how the answers fare.

    Returns:
        Per question, its scores; without answers, none.
    """
    found: list[Score] = [(None, None)] * len(pairs)
    asked = [(i, *pair) for i, pair in enumerate(pairs) if pair is not None]
    for start in range(0, len(asked), AT_ONCE):
        rows, first, second = zip(*asked[start : start + AT_ONCE], strict=True)
        for i, (accuracy, loss), (_, other) in zip(
            rows, fare(rows, first), fare(rows, second), strict=True
        ):
            found[i] = accuracy, loss < other
    return found
