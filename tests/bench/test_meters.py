"""Meters read what was really spent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from seprog.bench.costs import percentiles
from seprog.bench.meters import PeakMemory, flops, perplexity
from seprog.lm import CausalLM


def test_flops_are_those_of_the_products_backward_too() -> None:
    a, b = torch.randn(3, 5, requires_grad=True), torch.randn(5, 7, requires_grad=True)
    assert flops(lambda: a @ b) == 2 * 3 * 5 * 7
    assert flops(lambda: (a @ b).sum().backward()) == 3 * 2 * 3 * 5 * 7
    assert flops(lambda: None) == 0


@pytest.mark.parametrize("n", [1, 2, 3, 30, 101])
def test_percentiles_hold_the_median_and_most_of_the_rest(n: int) -> None:
    values = [float(i) for i in range(n, 0, -1)]
    found = percentiles(values)
    assert found["low"] <= found["value"] <= found["high"] and found["n"] == n
    assert sum(found["low"] <= v <= found["high"] for v in values) >= 0.9 * n


def test_the_peak_counts_what_was_let_go_again() -> None:
    with PeakMemory(torch.device("cpu")) as idle:
        pass
    with PeakMemory(torch.device("cpu")) as busy:
        for _ in range(30):
            held = torch.ones(50_000_000)  # 200 MB
            del held
    assert idle.bytes < 20e6 and 180e6 < busy.bytes < 400e6


def test_perplexity_is_of_what_is_said_alone(tiny_lm: CausalLM) -> None:
    said = [("Ann lives in", " Rome."), ("Bob", " has a dog and sings."), ("Eve", " sleeps.")]
    asked, more = [p for p, _ in said], [m for _, m in said]
    count = sum(len(row) for row in tiny_lm.tokens.encode(more, False))
    expected = math.exp(-sum(tiny_lm.score(asked, more)) / count)

    def read(texts: Sequence[str]) -> torch.Tensor:
        ids, mask = tiny_lm.tokens.pad(tiny_lm.tokens.encode(texts, True), tiny_lm.device)
        return tiny_lm.forward(ids, mask)

    assert perplexity(tiny_lm, said, read) == pytest.approx(expected, rel=1e-3)
    vocabulary = read(["Ann"]).shape[-1]
    even = perplexity(tiny_lm, said * 20, lambda texts: torch.zeros_like(read(texts)))
    assert even == pytest.approx(vocabulary)
