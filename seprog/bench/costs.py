"""What edits and queries cost an editor."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from seprog.bench.meters import PeakMemory, editing
from seprog.editor import Editor
from seprog.lm import LanguageModel
from seprog.memory import Memory
from seprog.methods.contract import LONGEST_ANSWER

TRIED = 10
"""Edits whose arithmetic and memory are measured, and queries that are answered for it."""


def query_ratio(lm: LanguageModel, prompt: str, ask: Callable[[], Any]) -> float:
    """Time of one query, asked by ``ask``, over its time on the base model, measured in turn."""

    def seconds(run: Callable[[], Any]) -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    base = seconds(lambda: lm.generate([prompt], max_new_tokens=LONGEST_ANSWER))
    return seconds(ask) / base


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


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, and 5th and 95th percentile."""
    ordered = sorted(values)
    last = len(ordered) - 1
    low, high = ordered[math.floor(0.05 * last)], ordered[math.ceil(0.95 * last)]
    return {"value": statistics.median(ordered), "low": low, "high": high, "n": len(ordered)}
