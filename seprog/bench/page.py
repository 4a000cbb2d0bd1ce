"""A report as one HTML page that needs nothing else: tables that can be sorted, and curves."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from seprog.bench.metrics import MEANS
from seprog.bench.report import Figure, Report, Where, cell, heading
from seprog.errors import MissingExtra

CURVES = (
    *MEANS,
    "entailed",
    "false_change",
    "ms_per_edit",
    "ms_per_query_in_scope",
    "ms_per_query_out_of_scope",
)
"""Metrics that are drawn against the number of edits."""


def page(report: Report, title: str) -> str:
    """The whole report.

    Args:
        report: What is shown.
        title: Of the page.

    Returns:
        HTML.

    Raises:
        MissingExtra: If matplotlib or jinja2 is not installed.
    """
    try:
        from jinja2 import Environment
    except ImportError as error:
        raise _missing("jinja2") from error
    template = files("seprog.bench").joinpath("page.html").read_text("utf-8")
    return (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            title=title,
            plots=plots(report),
            tables=[_table(report, where) for where in report.rows],
            made=report.made,
            failed=report.failed,
        )
    )


def _table(report: Report, where: Where) -> dict[str, Any]:
    """A table: each cell with what it is sorted by, and what is shown."""
    metrics = report.metrics(where)
    rows = [
        [(name, name)] + [(_value(row.get(m)), cell(m, row.get(m))) for m in metrics]
        for name, row in report.rows[where].items()
    ]
    blank = [(-1.0, "")] * (len(metrics) - 1)
    rows += [[(m, m), (-1.0, why), *blank] for m, why in report.missing(where).items()]
    columns = ["method", *(m.replace("_", " ") for m in metrics)]
    return {"heading": heading(where), "columns": columns, "rows": rows}


def _value(figure: Figure | None) -> float:
    return -1.0 if figure is None else figure.value


def plots(report: Report) -> list[tuple[str, str]]:
    """Headings and SVG: curves where several numbers of edits were tried, and cost by quality."""
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise _missing("matplotlib") from error
    found = []
    after = [where for where in report.rows if where.when == "after_all"]
    for dataset, protocol in dict.fromkeys((w.dataset, w.protocol) for w in after):
        places = [w for w in after if (w.dataset, w.protocol) == (dataset, protocol)]
        name = f"{dataset}, {protocol}"
        if len(places) > 1 and (canvas := _curves(Canvas, report, places)):
            found.append((f"{name}: as edits grow in number", _svg(canvas)))
        if canvas := _by_age(Canvas, report, places[-1]):
            found.append((f"{name}: by the age of the edit", _svg(canvas)))
        if canvas := _scatter(Canvas, report, places[-1]):
            found.append((f"{name}: cost and quality, {places[-1].edits:,} edits", _svg(canvas)))
    return found


def _curves(new: Any, report: Report, places: Sequence[Where]) -> Any:
    """A small plot per metric, a line per method."""
    methods = list(dict.fromkeys(m for where in places for m in report.rows[where]))
    drawn = [
        metric
        for metric in CURVES
        if sum(any(metric in row for row in report.rows[w].values()) for w in places) > 1
    ]
    if not drawn:
        return None
    rows = -(-len(drawn) // 3)
    canvas = new(figsize=(11, 2.9 * rows), layout="constrained")
    axes = canvas.subplots(rows, 3, squeeze=False).flatten()
    for axis, metric in zip(axes, drawn, strict=False):
        for i, method in enumerate(methods):
            points = [
                (w.edits, f) for w in places if (f := report.rows[w].get(method, {}).get(metric))
            ]
            xs, figures = [x for x, _ in points], [f for _, f in points]
            axis.plot(xs, [f.value for f in figures], "o-", ms=3, color=f"C{i}", label=method)
            low, high = [f.low for f in figures], [f.high for f in figures]
            axis.fill_between(xs, low, high, color=f"C{i}", alpha=0.12, lw=0)
        axis.set(xscale="log", title=metric.replace("_", " "), xlabel="edits")
    for axis in axes[len(drawn) :]:
        axis.set_axis_off()
    canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return canvas


def _by_age(new: Any, report: Report, where: Where) -> Any:
    """Right answers to rewrites and paraphrases, the newest edits on the left."""
    aged = report.retention.get(where, {})
    if len({age for ages in aged.values() for age in ages}) < 2:
        return None
    canvas = new(figsize=(7, 4), layout="constrained")
    axis = canvas.subplots()
    for i, (method, ages) in enumerate(aged.items()):
        figures = list(ages.values())
        axis.plot(list(ages), [100 * f.value for f in figures], "o-", color=f"C{i}", label=method)
        low, high = [100 * f.low for f in figures], [100 * f.high for f in figures]
        axis.fill_between(list(ages), low, high, color=f"C{i}", alpha=0.12, lw=0)
    axis.set(xlabel="edits written since", ylabel="rewrite and paraphrase, %", ylim=(-3, 103))
    canvas.legend(loc="outside lower center", ncols=6)
    return canvas


def _scatter(new: Any, report: Report, where: Where) -> Any:
    """The harmonic mean by the milliseconds that an edit takes."""
    points = [
        (row["ms_per_edit"].value, row["harmonic_mean"].value, method)
        for method, row in report.rows[where].items()
        if "ms_per_edit" in row and "harmonic_mean" in row
    ]
    if len(points) < 2:
        return None
    canvas = new(figsize=(7, 4), layout="constrained")
    axis = canvas.subplots()
    for x, y, method in points:
        axis.plot([x], [100 * y], "o")
        axis.annotate(method, (x, 100 * y), textcoords="offset points", xytext=(5, 4))
    axis.set(xscale="symlog", xlabel="ms per edit", ylabel="harmonic mean, %", ylim=(-3, 103))
    return canvas


def _svg(canvas: Any) -> str:
    text = io.StringIO()
    canvas.savefig(text, format="svg")
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _missing(library: str) -> MissingExtra:
    return MissingExtra(
        f"{library} is not installed", "the extra report", "pip install 'seprog[report]'"
    )
