"""From scores to a threshold with a promise: the share of out-of-scope queries that fire.

One-sided split conformal (Vovk et al. 2005; Angelopoulos & Bates 2021, section 1): with n
out-of-scope queries' *highest* score over the whole memory, the ceil((n + 1)(1 - rate))-th smallest
is exceeded by a new such query with probability at most ``rate``. That is the least threshold;
where it is low, queries in scope say how much higher one may go.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from seprog.errors import InputError

LEAST, LIKELY, SURE = 0.2, 0.5, 0.75
"""Nothing fires below the first, however clean the queries were. Where the promise asks for less,
the threshold is the second, or what queries in scope allow for up to the third: a false fire costs
as much as three edits that do not fire where they should."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold and the evidence for it; kept in the memory's metadata.

    Args:
        threshold: Probability from which an edit fires (an edit fires above it).
        rate: Promised share of out-of-scope queries that fire anything (0 to 1).
        queries: Number of out-of-scope queries behind the threshold.
        edits: Number of edits in the memory when it was fitted; 0 if shipped with the gate.
        observed: Share of those queries that fire at the threshold.
        gate: Fingerprint of the gate that gave the scores.
    """

    threshold: float
    rate: float
    queries: int
    edits: int
    observed: float
    gate: str = ""

    def is_stale(self, edits: int) -> bool:
        """Whether the memory has at least doubled since (false fires grow with it)."""
        return edits >= 2 * max(self.edits, 50)


def kept_as(namespace: str) -> str:
    """The name under which a memory keeps a namespace's own calibration."""
    return f"calibration/{namespace}"


def fit_threshold(
    highest: Sequence[float],
    rate: float,
    edits: int,
    gate: str = "",
    inside: Sequence[float] = (),
) -> Calibration:
    """Fit the threshold: the promise's own or, where that is low, a higher one that costs nothing.

    Args:
        highest: Per out-of-scope query, its highest score over the memory (0 to 1).
        rate: Promised rate (0 to 1, exclusive).
        edits: Number of edits in that memory.
        gate: Fingerprint of the gate.
        inside: Per in-scope query, the threshold up to which the right edits fire (0 to 1, 0 if
            never). Of those that fire at all no more than two standard errors may be lost by a
            threshold over ``LEAST`` that the promise does not call for; without any it is
            ``LIKELY``.

    Returns:
        The calibration.

    Raises:
        InputError: If the rate is none, or the queries are too few for the promise.
    """
    require_enough(len(highest), rate)
    rank = min(math.ceil((len(highest) + 1) * (1 - rate)), len(highest))
    promised = max(LEAST, sorted(highest)[rank - 1])
    reached = sorted(score for score in inside if score > 0)
    threshold = max(promised, _costs_nothing(promised, reached) if reached else LIKELY)
    observed = sum(score > threshold for score in highest) / len(highest)
    return Calibration(threshold, rate, len(highest), edits, observed, gate)


def require_enough(outside: int, rate: float) -> None:
    """Raise ``InputError`` if a rate is none, or so many queries out of scope too few for it."""
    if not 0 < rate < 1:
        raise InputError(
            f"The false-fire rate {rate} came", "a share between 0 and 1", "Give one such as 0.01"
        )
    needed = math.ceil(1 / rate) - 1
    if outside < needed:
        raise InputError(
            f"{outside} out-of-scope queries came for a false-fire rate of {rate:.2%}",
            f"at least {needed}",
            "Give more queries, or promise a higher rate with --rate",
        )


def _costs_nothing(least: float, inside: Sequence[float]) -> float:
    """The highest threshold up to ``SURE`` that loses few queries in scope which another keeps.

    Args:
        least: The other threshold.
        inside: As ``fit_threshold``, in order.
    """
    n = len(inside)
    lost = bisect_right(inside, least)
    first = min(math.floor(lost + 2 * math.sqrt(max(lost, 1))), n - 1)
    return min(SURE, (math.ceil(inside[first] * 1000) - 1) / 1000)


def wilson(successes: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a rate (Wilson 1927); ``(0, 1)`` if ``n`` is 0."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
