"""What is worth reading of what was found."""

from __future__ import annotations

import random

import numpy as np
import pytest

from seprog.gate import Glance, Sighting, fit_glance
from seprog.gate.glance import ENOUGH, features
from seprog.types import Edit


def drawn(texts: int, seed: int) -> tuple[list[list[Sighting]], list[bool]]:
    """Per text one edit that fires, near and by name, and up to five that are further off."""
    rng = random.Random(seed)
    found, fired = [], []
    for _ in range(texts):
        right = Sighting(Edit("right"), rng.uniform(0.5, 0.9), 1.0, rng.uniform(1.0, 2.0))
        others = [
            Sighting(Edit("other"), rng.uniform(0.0, 0.6), rng.uniform(0.0, 0.5), 0.5)
            for _ in range(rng.randint(0, 5))
        ]
        found.append([right, *others])
        fired += [True, *[False] * len(others)]
    return found, fired


@pytest.mark.parametrize("seed", range(3))
def test_all_that_fires_is_kept_and_little_else(seed: int) -> None:
    glance = Glance(fit_glance(*drawn(300, seed)))
    found, _ = drawn(300, seed + 10)
    kept = [glance.worth(seen, later=False) for seen in found]
    assert all(edits[:1] == [Edit("right")] for edits in kept)
    assert sum(map(len, kept)) < 0.5 * sum(map(len, found))


def test_too_few_that_fire_or_nothing_to_leave_out_fit_nothing() -> None:
    found, fired = drawn(ENOUGH - 1, 0)
    assert fit_glance(found, fired) == () == fit_glance([], [])
    only = [seen[:1] for seen, _ in zip(drawn(300, 0)[0], range(300), strict=True)]
    assert fit_glance(only, [True] * 300) == ()


def test_features_are_own_and_behind_the_best_and_their_products() -> None:
    seen = [Sighting(Edit("a"), 0.5, 1.0, 2.0), Sighting(Edit("b"), 0.7, 0.0, 0.0)]
    found = features(seen)
    assert np.allclose(found[:, :6], [[0.5, 1, 2, -0.2, 0, 0], [0.7, 0, 0, 0, -1, -2]])
    pairs = [(i, j) for i in range(6) for j in range(i, 6)]
    assert np.allclose(found[:, 6:], [[row[i] * row[j] for i, j in pairs] for row in found])
    assert features([]).shape == (0, 27)


def test_a_glance_of_before_has_no_weights_for_products() -> None:
    seen = [Sighting(Edit("a"), 0.5, 1.0, 2.0), Sighting(Edit("b"), 0.7, 0.0, 0.0)]
    glance = Glance((0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -0.5))
    assert glance.worth(seen, later=False) == [Edit("a")]
