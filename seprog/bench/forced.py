"""Teacher-forced scores: how new answers fare where their right tokens are given one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seprog.methods.contract import Forced

AT_ONCE = 32
"""Questions that are read in one batch."""

Score = tuple[float | None, bool | None]
"""Token accuracy of the new answer, and whether it is likelier than the old one; or neither."""


def forced_scores(
    pairs: Sequence[tuple[str | None, str | None]],
    fare: Callable[[Sequence[int], Sequence[str]], list[Forced]],
) -> list[Score]:
    """Scores of questions that have both a new and an old answer.

    Args:
        pairs: Per question, both; ``None`` where it has none.
        fare: Given places of questions, and an answer for each, how the answers fare.

    Returns:
        Per question, its scores; without both answers, none.
    """
    found: list[Score] = [(None, None)] * len(pairs)
    asked = [(i, new, old) for i, (new, old) in enumerate(pairs) if new is not None]
    both = [(i, new, old) for i, new, old in asked if old is not None]
    for start in range(0, len(both), AT_ONCE):
        rows, new, old = zip(*both[start : start + AT_ONCE], strict=True)
        for i, (accuracy, loss), (_, before) in zip(
            rows, fare(rows, new), fare(rows, old), strict=True
        ):
            found[i] = accuracy, loss < before
    return found
