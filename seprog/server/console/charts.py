"""Numbers to shapes: the geometry of the charts, which templates draw as SVG.

Every chart is 600 wide and 160 high, stretched to the width that there is; labels stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 600.0, 160.0


@dataclass(frozen=True)
class Line:
    """A line of steps.

    Args:
        path: The line, as an SVG path.
        area: What lies below it.
        top: The value at the upper edge.
        start: When it begins, in seconds since 1970.
        end: When it ends.
    """

    path: str
    area: str
    top: int
    start: float
    end: float


@dataclass(frozen=True)
class Bar:
    """A bar: its place, and what it says."""

    x: float
    y: float
    width: float
    height: float
    label: str


def steps(points: Sequence[tuple[float, int]], end: float) -> Line | None:
    """A line through times and values, each value holding until the next time.

    Args:
        points: Times, rising, and values from 0.
        end: Where it ends.
    """
    if not points:
        return None
    start = points[0][0]
    end = max(end, points[-1][0])
    span = (end - start) or 1.0
    top = nice(max(value for _, value in points))

    def x(time: float) -> str:
        return f"{(time - start) / span * WIDTH:.1f}"

    def y(value: int) -> str:
        return f"{HEIGHT - value / top * (HEIGHT - 4):.1f}"

    path = f"M{x(start)} {y(points[0][1])}" + "".join(f"H{x(t)}V{y(v)}" for t, v in points[1:])
    path += f"H{WIDTH:.1f}"
    return Line(path, f"{path}V{HEIGHT:.1f}H0Z", top, start, end)


def nice(value: float) -> int:
    """The least of 1, 2, 5, 10, 20, … that is no less than a value."""
    size = 1
    while True:
        for step in (1, 2, 5):
            if step * size >= value:
                return step * size
        size *= 10


def bars(
    values: Sequence[float], labels: Sequence[str], down: bool = False, height: float = HEIGHT
) -> list[Bar]:
    """Bars side by side.

    Args:
        values: From 0; the highest is as high as the chart.
        labels: What each says when pointed at.
        down: Whether they hang from the upper edge.
        height: Of the chart.
    """
    top, room = max(values, default=0) or 1, WIDTH / max(1, len(values))
    found = []
    for i, (value, label) in enumerate(zip(values, labels, strict=True)):
        size = max(2.0, value / top * height) if value else 0.0
        y = 0.0 if down else height - size
        x, width = round(i * room + 1, 1), round(max(1.0, room - 2), 1)
        found.append(Bar(x, round(y, 1), width, round(size, 1), label))
    return found


def histogram(shares: Sequence[float], bins: int = 20) -> list[int]:
    """How many shares (0 to 1) lie in each of as many equal parts."""
    counts = [0] * bins
    for share in shares:
        counts[min(int(share * bins), bins - 1)] += 1
    return counts


def quantile(cumulative: Mapping[float, float], share: float) -> float | None:
    """A quantile of values that were counted in buckets; ``None`` if there are none.

    Args:
        cumulative: Upper bounds with how many values were no more than each; the last bound is
            infinite.
        share: 0.5 is the median.
    """
    bounds = sorted(cumulative)
    total = cumulative[bounds[-1]] if bounds else 0
    if not total:
        return None
    low, before = 0.0, 0.0
    for bound in bounds:
        count = cumulative[bound]
        if count >= share * total:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (share * total - before) / ((count - before) or 1)
        low, before = bound, count
    return low
