"""Results as people read them."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from seprog.bench.metrics import COSTS, SHARES


def table(result: dict[str, Any]) -> Table:
    """The result as people read it: a row per measure, a column per method; shares in per cent."""
    methods = result["config"]["methods"]
    view = Table(
        "protocol",
        "edits",
        "measure",
        title=f"{result['config']['dataset']}, scored after all edits",
    )
    for name in methods:
        view.add_column(name.replace("_", " "), justify="right")
    places: dict[tuple[str, int], dict[str, Any]] = {}
    for row in result["results"]:
        if row["when"] == "after_all":
            where = (row["protocol"], row["edits"])
            places.setdefault(where, {})[row["method"]] = row["metrics"]
    for (protocol, size), rows in places.items():
        for metric in (*SHARES, *COSTS):
            cells = [shown(metric, rows[name].get(metric)) for name in methods]
            if any(cells):
                view.add_row(protocol, f"{size:,}", metric.replace("_", " "), *cells)
        view.add_section()
    return view


def shown(name: str, metric: dict[str, float] | None) -> str:
    """One figure; empty if there is none."""
    if metric is None:
        return ""
    if name in COSTS:
        return f"{metric['value']:,.2f}" if "ratio" in name else f"{metric['value']:,.0f}"
    return f"{100 * metric['value']:.1f}"
