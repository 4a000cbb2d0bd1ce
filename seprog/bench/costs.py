"""What edits and queries cost an editor."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from seprog.lm import LanguageModel
from seprog.methods.contract import LONGEST_ANSWER

Asked = TypeVar("Asked")
"""A query, as its bench has it."""
TRIED = 10
"""Edits whose arithmetic and memory are measured, and queries that are answered for it."""


@contextmanager
def full_length(models: Sequence[LanguageModel]) -> Iterator[None]:
    """Let models that write end no answer before ``LONGEST_ANSWER`` tokens.

    Times of queries then tell what editing costs, not how long the answers are.
    """
    configs = [lm.model.generation_config for lm in models if lm.generates]
    before = [config.min_new_tokens for config in configs]
    try:
        for config in configs:
            config.min_new_tokens = LONGEST_ANSWER
        yield
    finally:
        for config, least in zip(configs, before, strict=True):
            config.min_new_tokens = least


def query_costs(
    pools: Mapping[str, Sequence[Asked]],
    base: Callable[[Asked], Any],
    edited: Callable[[Asked], Any],
    models: Sequence[LanguageModel],
) -> dict[str, dict[str, float]]:
    """What queries take, each measured in turn on the base model and with the edits in force.

    Args:
        pools: Queries, by ``in_scope`` and ``out_of_scope``; one without any is left out.
        base: Asks the base model one.
        edited: Asks the edited one.
        models: All that answer; see ``full_length``.

    Returns:
        Per pool, the edited time over the base's, and in milliseconds; see ``percentiles``.
    """

    def seconds(ask: Callable[[Asked], Any], query: Asked) -> float:
        start = time.perf_counter()
        ask(query)
        return time.perf_counter() - start

    found = {}
    with full_length(models):
        for name, pool in pools.items():
            times = [(seconds(base, query), seconds(edited, query)) for query in pool]
            if times:
                found[f"query_ratio_{name}"] = percentiles([mine / plain for plain, mine in times])
                found[f"ms_per_query_{name}"] = percentiles([1000 * mine for _, mine in times])
    return found


def percentiles(values: Sequence[float], mean: bool = False) -> dict[str, float]:
    """Median, or mean, and 5th and 95th percentile."""
    ordered = sorted(values)
    last = len(ordered) - 1
    low, high = ordered[math.floor(0.05 * last)], ordered[math.ceil(0.95 * last)]
    value = statistics.mean(ordered) if mean else statistics.median(ordered)
    return {"value": value, "low": low, "high": high, "n": len(ordered)}
