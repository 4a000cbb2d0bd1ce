"""The threshold and its promise."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seprog.errors import InputError
from seprog.gate import Calibration, fit_threshold, wilson
from seprog.gate.calibration import LEAST, SURE

RATES = st.sampled_from([0.005, 0.01, 0.05, 0.1, 0.25, 0.5])


def draw(seed: int) -> list[float]:
    """Two to four hundred scores, with ties."""
    rng = random.Random(seed)
    return [round(rng.random(), rng.choice((1, 2, 9))) for _ in range(rng.randint(200, 400))]


SCORES = st.integers(0, 2**32).map(draw)


@settings(max_examples=30)
@given(SCORES, RATES, SCORES)
def test_no_more_of_the_queries_fire_than_promised(
    highest: list[float], rate: float, inside: list[float]
) -> None:
    fitted = fit_threshold(highest, rate, edits=7, gate="g", inside=inside)
    assert fitted.observed == sum(s > fitted.threshold for s in highest) / len(highest)
    assert fitted.observed <= rate
    assert fitted.threshold >= LEAST
    assert (fitted.rate, fitted.queries, fitted.edits, fitted.gate) == (rate, len(highest), 7, "g")


@settings(max_examples=30)
@given(SCORES, RATES)
def test_the_threshold_is_no_higher_than_the_promise_needs(
    highest: list[float], rate: float
) -> None:
    highest = [0.5 + score / 2 for score in highest]  # below, it is not the promise that decides
    fitted = fit_threshold(highest, rate, edits=1)
    at_least = sum(s >= fitted.threshold for s in highest)
    assert at_least >= math.floor((len(highest) + 1) * rate)


@settings(max_examples=30)
@given(SCORES)
def test_a_stricter_promise_never_lowers_the_threshold(highest: list[float]) -> None:
    thresholds = [fit_threshold(highest, r, 1).threshold for r in (0.5, 0.1, 0.01)]
    assert thresholds == sorted(thresholds)


def test_a_new_query_fires_as_rarely_as_promised() -> None:
    scores = [0.5 + i / 200 for i in range(99)]
    fitted = fit_threshold(scores, 0.1, edits=1)
    assert fitted.threshold == scores[89]  # the 90th of 99: a hundredth one exceeds it 1 in 10


@pytest.mark.parametrize(("rate", "needed"), [(0.01, 99), (0.05, 19), (0.5, 1)])
def test_too_few_queries_are_refused(rate: float, needed: int) -> None:
    with pytest.raises(InputError, match=f"at least {needed}"):
        fit_threshold([0.1] * (needed - 1), rate, edits=1)
    assert fit_threshold([0.1] * needed, rate, edits=1).threshold == 0.5


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.floats(0, 0.4))
def test_where_the_promise_is_cheap_queries_in_scope_decide(
    inside: list[float], outside: float
) -> None:
    fitted = fit_threshold([outside] * 99, 0.01, edits=1, inside=inside)
    least = max(LEAST, outside)
    fires = sum(s > fitted.threshold for s in inside)
    could = sum(s > least for s in inside)
    lost = sum(s > 0 for s in inside) - could
    assert least <= fitted.threshold <= SURE
    assert could - fires <= 2 * math.sqrt(max(lost, 1))


def test_a_threshold_stays_as_high_as_it_can() -> None:
    low, high = ([p] * 20 + [0.9] * 80 for p in (0.3, 0.45))
    assert fit_threshold([0.0] * 99, 0.01, 1, inside=low).threshold == 0.299
    assert fit_threshold([0.0] * 99, 0.01, 1, inside=high).threshold == 0.449
    assert fit_threshold([0.0] * 99, 0.01, 1, inside=[0.3] + [0.9] * 99).threshold == SURE


@pytest.mark.parametrize("never", [0, 1, 900])
def test_what_never_fires_says_nothing_of_a_threshold(never: int) -> None:
    inside = [0.0] * never + [0.3] * 5 + [0.9] * 95
    assert fit_threshold([0.0] * 99, 0.01, 1, inside=inside).threshold == 0.299


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        fit_threshold([0.1] * 100, rate, edits=1)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (0, 0, 0.0, 1.0),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (90, 100, 0.8256, 0.9448),
    ],
)
def test_wilson_intervals(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_observed_rate(case: tuple[int, int]) -> None:
    successes, n = case
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n + 1e-12
    assert successes / n - 1e-12 <= high <= 1


def test_a_calibration_is_stale_once_the_memory_has_doubled() -> None:
    assert not Calibration(0.5, 0.01, 100, 200, 0.0).is_stale(399)
    assert Calibration(0.5, 0.01, 100, 200, 0.0).is_stale(400)
    assert not Calibration(0.5, 0.01, 100, 0, 0.0).is_stale(99)
