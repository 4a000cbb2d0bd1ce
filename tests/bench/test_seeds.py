"""Means over seeds as people read them."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from seprog.bench.seeds import summary, table

OWN = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 10}


def row(seed: int, metrics: dict[str, Any]) -> dict[str, Any]:
    where = {"protocol": "property", "edits": 1, "method": "seprog", "when": "after_all"}
    return {**where, "seed": seed, "metrics": metrics}


def printed(rows: list[dict[str, Any]]) -> str:
    console = Console(width=200)
    with console.capture() as out:
        console.print(table({"summary": summary(rows)}, "Title"))
    return out.get()


def test_one_seed_keeps_its_own_interval() -> None:
    [alone] = summary([row(0, {"rewrite": OWN, "far": {"value": 1.0, "n": 3}})])
    assert alone["metrics"] == {"rewrite": OWN, "far": {"value": 1.0, "n": 3}}
    said = printed([row(0, {"rewrite": OWN, "far": {"value": 1.0, "n": 3}})])
    assert "50.0 (25.0 to 75.0)" in said and "100.0" in said and "±" not in said


def test_several_seeds_are_told_by_their_spread() -> None:
    rows = [row(seed, {"rewrite": OWN | {"value": 0.4 + seed / 10}}) for seed in range(3)]
    [one] = summary(rows)
    half = 4.30 * 0.1 / 3**0.5
    assert one["metrics"]["rewrite"] == pytest.approx({"value": 0.5, "half": half, "n": 30})
    assert "50.0 ± 24.8" in printed(rows)


def test_what_only_one_of_several_seeds_was_asked_keeps_its_interval() -> None:
    [one] = summary([row(0, {"rewrite": OWN}), row(1, {"far": OWN})])
    assert one["metrics"] == {"rewrite": OWN, "far": OWN}
