"""Health: how many edits there are, how often they fire, how sure the gate is, how long it takes.

What concerns all namespaces together is shown to administrators only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from seprog.editor import Editor
from seprog.memory import Event
from seprog.server.console.charts import Bar, bars, histogram, quantile, steps
from seprog.server.console.door import Asking, ConsoleRoute
from seprog.server.console.pages import page
from seprog.server.service import Served
from seprog.server.telemetry import Metrics

router = APIRouter(route_class=ConsoleRoute)

_EVENTS = 5000
_SAMPLE = 50
_ADDS = {"added": 1, "restored": 1, "superseded": -1, "forgotten": -1}
_BINS = 20
_BUCKETS = 10
"""Fewest bars of the latencies."""
HALF = 80.0
"""Height of one of two charts that stand on one another."""


@dataclass(frozen=True)
class Latency:
    """How long the API's answers took.

    Args:
        count: How many there were.
        median: Seconds; ``None`` if there were none.
        p95: The same of all but the slowest twentieth.
        bars: How many took how long.
        first: The least time on the chart.
        last: The greatest.
    """

    count: int
    median: float | None
    p95: float | None
    bars: list[Bar]
    first: str
    last: str


@dataclass(frozen=True)
class Check:
    """What the gate says when edits' own questions are asked.

    Args:
        asked: How many were.
        fire: How many of them fired their own edit.
        stray: How many fired another, which answers another question.
        own: Scores of the edits themselves, as bars.
        others: The highest scores of all others, hanging.
        threshold: Where edits begin to fire (0 to 1).
    """

    asked: int
    fire: int
    stray: int
    own: list[Bar]
    others: list[Bar]
    threshold: float


@router.get("/health")
def health(request: Request, service: Served, caller: Asking) -> Response:
    """The charts."""
    memory, name = service.memory, caller.namespace
    count = memory.count(name)
    events = memory.history(namespace=name, limit=_EVENTS)
    fired, silent = _decisions(service.metrics)
    return page(
        request,
        "health.html",
        caller,
        here="health",
        count=count,
        growth=steps(_course(events, count), time.time()),
        calibration=service.editor.calibration(name) if service.loaded else None,
        fired=fired,
        silent=silent,
        latency=_latency(service.metrics),
    )


@router.post("/health/check")
async def check(request: Request, service: Served, caller: Asking) -> Response:
    """Ask the newest edits' own questions, and see what the gate says."""
    editor, name = service.editor, caller.namespace
    result = await service.call(request, lambda: _check(editor, name))
    return page(request, "parts/check.html", caller, check=result, half=HALF)


def _check(editor: Editor, namespace: str) -> Check:
    shelf, limit = editor.shelf(namespace), editor.calibration(namespace).threshold
    asked = list(shelf.edits.values())[-_SAMPLE:]
    decisions = editor.explain_many([e.prompt or e.statement for e in asked], namespace)
    own, others = [], []
    for edit, decision in zip(asked, decisions, strict=True):
        first = [c for c in decision.candidates if c.hop == 0]
        own.append(max((c.probability for c in first if c.edit.id == edit.id), default=0.0))
        others.append(max((c.probability for c in first if c.edit.id != edit.id), default=0.0))
    return Check(
        len(asked),
        sum(p > limit for p in own),
        sum(p > limit for p in others),
        _spread(own, "of the edits themselves", down=False),
        _spread(others, "of the next best", down=True),
        limit,
    )


def _spread(scores: Sequence[float], whose: str, down: bool) -> list[Bar]:
    counts = histogram(scores, _BINS)
    labels = [
        f"{i / _BINS:.0%} to {(i + 1) / _BINS:.0%}: {n} {whose}" for i, n in enumerate(counts)
    ]
    return bars(counts, labels, down, HALF)


def _course(events: Sequence[Event], count: int) -> list[tuple[float, int]]:
    """How many edits were in force after each event, reckoned back from how many are now."""
    points: list[tuple[float, int]] = []
    for event in reversed(events):
        points.append((event.at, max(0, count)))
        count -= _ADDS[event.action]
    points.reverse()
    points.sort(key=lambda point: point[0])  # imported events may be older than they are late
    return points


def _decisions(metrics: Metrics) -> tuple[int, int]:
    """Queries that an edit fired for, and the others, since the start."""
    found = {"yes": 0, "no": 0}
    for metric in metrics.decisions.collect():
        for sample in metric.samples:
            if sample.name.endswith("_total"):
                found[sample.labels["fired"]] += int(sample.value)
    return found["yes"], found["no"]


def _latency(metrics: Metrics) -> Latency:
    cumulative: dict[float, float] = {}
    for metric in metrics.seconds.collect():
        for sample in metric.samples:
            asked = sample.labels.get("route", "").startswith(("/v1/c", "/ask"))
            if sample.name.endswith("_bucket") and asked:
                bound = float(sample.labels["le"])
                cumulative[bound] = cumulative.get(bound, 0) + sample.value
    bounds = sorted(cumulative)
    sums = [cumulative[b] for b in bounds]
    counts = [int(n - before) for n, before in zip(sums, [0.0, *sums], strict=False)]
    used = [i for i, n in enumerate(counts) if n]
    high = max(used[-1] + 2, _BUCKETS) if used else 0
    low = max(0, min(used[0] - 1, high - _BUCKETS)) if used else 0
    labels = [f"up to {_time(b)}: {n}" for b, n in zip(bounds, counts, strict=True)]
    return Latency(
        int(sums[-1]) if sums else 0,
        quantile(cumulative, 0.5),
        quantile(cumulative, 0.95),
        bars(counts[low:high], labels[low:high]),
        _time(bounds[low - 1]) if low else "0",
        _time(bounds[min(high, len(bounds)) - 1]) if used else "",
    )


def _time(seconds: float) -> str:
    if seconds == float("inf"):
        return "longer"
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"
