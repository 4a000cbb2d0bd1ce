"""What edits and queries cost an editor."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from seprog.bench.meters import PeakMemory, editing
from seprog.editor import Editor
from seprog.lm import LanguageModel
from seprog.memory import Memory
from seprog.methods.contract import LONGEST_ANSWER

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


def query_times(
    pairs: Sequence[tuple[Callable[[], Any], Callable[[], Any]]],
) -> tuple[dict[str, float], dict[str, float]]:
    """What queries take, each measured in turn on the base model and with the edits in force.

    Args:
        pairs: Per query, how the base model is asked, and how the edited one.

    Returns:
        The edited time over the base's, and the edited time in milliseconds; see ``spread``.
    """

    def seconds(run: Callable[[], Any]) -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    times = [(seconds(base), seconds(edited)) for base, edited in pairs]
    ratios = spread([edited / base for base, edited in times])
    return ratios, spread([1000 * edited for _, edited in times])


def work(
    editor: Editor, edits: Sequence[dict[str, str]], prompts: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Arithmetic and memory of edits, written to a fresh memory, and the memory of answers.

    Args:
        editor: Its own memory is not touched; it answers by it.
        edits: As for ``Editor.edit``, at least one.
        prompts: What is answered, as one batch.
    """
    fresh = Editor(editor.lm, editor.gate, editor.generator, Memory(":memory:"))

    def write() -> None:
        for edit in edits:
            fresh.cached_prefixes([fresh.edit(**edit)])

    found = editing(write, len(edits), editor.lm.device)
    with PeakMemory(editor.lm.device) as answering:
        editor.generate(prompts, LONGEST_ANSWER)
    return found | {"peak_bytes_answering": {"value": answering.bytes, "n": len(prompts)}}


def spread(values: Sequence[float], mean: bool = False) -> dict[str, float]:
    """Median, or mean, and 5th and 95th percentile."""
    ordered = sorted(values)
    last = len(ordered) - 1
    low, high = ordered[math.floor(0.05 * last)], ordered[math.ceil(0.95 * last)]
    value = statistics.mean(ordered) if mean else statistics.median(ordered)
    return {"value": value, "low": low, "high": high, "n": len(ordered)}
