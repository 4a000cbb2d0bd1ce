"""Means over seeds, and the table of them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from seprog.bench.metrics import IN_SCOPE, OUT_OF_SCOPE

T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Student's t, two-sided 95 %, by the number of seeds."""
COLUMNS = (*IN_SCOPE, "composed", *OUT_OF_SCOPE, "false_fire", "fired_rightly")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean over several seeds, and half the width of its 95 % interval (Student's t)."""
    half = T_95[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values), half


def summary(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over the seeds with its 95 % interval (Student's t), per protocol, size and method.

    What one seed came to keeps its own interval, over its probes: seeds say nothing of it.
    """
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in results:
        groups[row["protocol"], row["edits"], row["method"]].append(row["metrics"])
    found = []
    for (protocol, edits, method), parts in groups.items():
        metrics = {}
        for name in dict.fromkeys(name for part in parts for name in part):
            metrics[name] = _over([part[name] for part in parts if name in part])
        found.append({"protocol": protocol, "edits": edits, "method": method, "metrics": metrics})
    return found


def _over(seeds: Sequence[dict[str, float]]) -> dict[str, float]:
    """A metric over its seeds."""
    if len(seeds) == 1:
        return {k: v for k, v in seeds[0].items() if k in ("value", "low", "high", "n")}
    mean, half = interval([m["value"] for m in seeds])
    return {"value": mean, "half": half, "n": sum(m["n"] for m in seeds)}


def table(result: dict[str, Any], title: str) -> Table:
    """The summary as people read it, in per cent; what was not asked has no column."""
    view = Table("protocol", "edits", "method", title=f"{title}, mean over seeds")
    shown = [c for c in COLUMNS if any(c in row["metrics"] for row in result["summary"])]
    for name in shown:
        view.add_column(name.replace("_", " "), justify="right")
    for row in result["summary"]:
        cells = [_cell(row["metrics"].get(name)) for name in shown]
        view.add_row(row["protocol"], str(row["edits"]), row["method"].replace("_", " "), *cells)
    return view


def _cell(metric: dict[str, float] | None) -> str:
    if metric is None:
        return ""
    value = f"{100 * metric['value']:.1f}"
    if "half" in metric:
        return f"{value} ± {100 * metric['half']:.1f}"
    if "low" not in metric:
        return value
    return f"{value} ({100 * metric['low']:.1f} to {100 * metric['high']:.1f})"
