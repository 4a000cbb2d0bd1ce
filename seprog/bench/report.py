"""``seprog bench report``: every table again from the saved answers, without a model.

A result is a JSON file as ``seprog eval`` writes it, with the file of its answers beside it. Shares
are worked out anew from the answers; only what an answer cannot say, time and bytes, is taken from
the result itself.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from seprog.bench.metrics import COSTS, SHARES, Record, harmonic_mean, retention, score
from seprog.bench.seeds import interval
from seprog.errors import InputError

WHEN = {
    "after_all": "scored after all edits",
    "right_after": "scored right after each edit",
    "after_changes": "scored after some edits were replaced or taken back",
}
"""In words."""


class Where(NamedTuple):
    """What a table is about."""

    dataset: str
    protocol: str
    edits: int
    when: str


class Figure(NamedTuple):
    """A mean with its 95 % interval.

    Args:
        value: The mean over the seeds.
        low: Lower end; of one seed that of its share, of several Student's t.
        high: Upper end.
        n: Answers behind it.
    """

    value: float
    low: float
    high: float
    n: int


Row = dict[str, Figure]
"""By metric."""
Ages = dict[int, Figure]
"""Right answers by the least age of the edits asked about, newest first."""


@dataclass(frozen=True)
class Failure:
    """A cell that could not be measured.

    Args:
        name: Of the cell.
        dataset: Its data set.
        methods: Its methods.
        edits: How many at a time; ``None``: all that the data set is made for.
        error: Why.
    """

    name: str
    dataset: str
    methods: tuple[str, ...]
    edits: int | None
    error: str

    def concerns(self, where: Where) -> bool:
        """Whether its methods are missing from a table."""
        of = where.dataset == self.dataset and where.when == "after_all"
        return of and self.edits in (None, where.edits)


@dataclass(frozen=True)
class Report:
    """Figures by what they are about and by method, in the order in which they came.

    Args:
        rows: The figures.
        retention: By method, right answers by the age of the edit, where edits have one.
        made: Per file, its versions and commit.
        failed: What could not be measured, and why.
    """

    rows: dict[Where, dict[str, Row]]
    retention: dict[Where, dict[str, Ages]]
    made: dict[str, str]
    failed: list[Failure]

    def missing(self, where: Where) -> dict[str, str]:
        """What a table has no figures of, because its cell failed; by method, why."""
        return {
            method: f"not measured: {failure.error}"
            for failure in self.failed
            if failure.concerns(where)
            for method in failure.methods
            if method not in self.rows[where]
        }

    def metrics(self, where: Where) -> list[str]:
        """What was measured of any method there, in the order of the tables."""
        known = {name for row in self.rows[where].values() for name in row}
        return [name for name in ("harmonic_mean", *SHARES, *COSTS) if name in known]


def load(paths: Sequence[Path]) -> Report:
    """Read results.

    Args:
        paths: JSON files of results, or folders of them.

    Raises:
        InputError: If one is no result, or its answers are not beside it.
    """
    shares: dict[Where, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    costs: dict[Where, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    ages: dict[Where, dict[str, list[dict[int, dict[str, float]]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    made = {}
    from_file: dict[tuple[Where, str, int], Path] = {}
    files, failures = _files(paths)
    for path in files:
        result = _result(path)
        versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
        made[path.name] = f"{versions}; commit {result['commit'][:12]}{result['commit'][40:]}"
        for key, records in _answers(path, result).items():
            where, method, seed = key
            if (other := from_file.setdefault(key, path)) != path:
                raise InputError(
                    f"{other} and {path} both hold {method} with seed {seed} on {heading(where)}",
                    "one result for each data set, number of edits, method and seed",
                    "Leave one of the two out, or measure with another seed",
                )
            shares[where][method].append(score(records))
            if old := retention(records):
                ages[where][method].append(old)
        for row in result["results"]:
            where = _where(result, row)
            found = {k: v for k, v in row["metrics"].items() if k in COSTS}
            if found:
                costs[where][row["method"]].append(found)
    rows: dict[Where, dict[str, Row]] = {}
    for where, methods in shares.items():
        rows[where] = {}
        for method, parts in methods.items():
            row = {name: f for name in SHARES if (f := _figure(parts, name))}
            mean = harmonic_mean({name: figure.value for name, figure in row.items()})
            if mean is not None:
                row["harmonic_mean"] = Figure(mean, mean, mean, min(f.n for f in row.values()))
            row |= {n: f for n in COSTS if (f := _figure(costs[where][method], n))}
            rows[where][method] = row
    failed = [_failure(p) for p in failures]
    kept = {w: {m: _ages(parts) for m, parts in ages[w].items()} for w in sorted(ages)}
    return Report(dict(sorted(rows.items(), key=lambda item: item[0][:3])), kept, made, failed)


def _failure(path: Path) -> Failure:
    told = json.loads(path.read_text("utf-8"))
    methods = tuple(map(str, told["methods"]))
    return Failure(path.stem, str(told["dataset"]), methods, told["edits"], str(told["error"]))


def _ages(parts: Sequence[Mapping[int, Mapping[str, float]]]) -> Ages:
    """Over the seeds."""
    known = sorted({age for part in parts for age in part})
    return {age: figure for age in known if (figure := _figure(parts, age)) is not None}


def _files(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Results, and what says why there is none; of a folder those alone that have answers."""
    results = [f for p in paths for f in (_answered(p) if p.is_dir() else [p])]
    return list(dict.fromkeys(results)), [
        f for p in paths if p.is_dir() for f in sorted(p.glob("*.failed"))
    ]


def _answered(folder: Path) -> list[Path]:
    """Results of other kinds, such as an exam or a load test, have nothing to work out again."""
    files = sorted(folder.glob("*.json"))
    return [f for f in files if '"answers":' in f.read_text("utf-8")]


def _result(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text("utf-8"))
        names = ("config", "versions", "commit", "results", "answers")
        return {name: result[name] for name in names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no result ({type(error).__name__}: {error})",
            "a file that seprog eval wrote with both --json and --answers",
            "Measure again, or leave it out",
        ) from error


def _where(result: Mapping[str, Any], row: Mapping[str, Any]) -> Where:
    return Where(
        result["config"]["dataset"],
        row.get("protocol", "sequential"),
        row["edits"],
        row.get("when", "after_all"),
    )


def _answers(path: Path, result: Mapping[str, Any]) -> dict[tuple[Where, str, int], list[Record]]:
    """By what they are about, method and seed."""
    found: dict[tuple[Where, str, int], list[Record]] = defaultdict(list)
    for number, line in enumerate(_lines(path.parent / result["answers"]), 1):
        try:
            row = json.loads(line)
            record, seed = Record.of(row), int(row["seed"])
            key = Where(row["dataset"], row["protocol"], record.edits, record.when)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"Line {number} of {result['answers']} is no answer ({error})",
                "lines that seprog eval wrote with --answers",
                "Measure again",
            ) from error
        found[key, record.method, seed].append(record)
    return found


def _lines(path: Path) -> Iterator[str]:
    """Of the file, or of the same file gzipped."""
    packed = path.with_name(path.name + ".gz")
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from file
    elif packed.exists():
        with gzip.open(packed, "rt", encoding="utf-8") as file:
            yield from file
    else:
        raise InputError(
            f"There is no {path.name} in {path.parent}",
            "the answers beside the result, plain or gzipped",
            "Put them there, or measure again with --answers",
        )


def _figure(parts: Sequence[Mapping[Any, Mapping[str, float]]], name: object) -> Figure | None:
    """What has one name, over the seeds."""
    found = [part[name] for part in parts if name in part]
    if not found:
        return None
    if len(found) == 1:
        only = found[0]
        value = only["value"]
        return Figure(value, only.get("low", value), only.get("high", value), int(only["n"]))
    mean, half = interval([f["value"] for f in found])
    low, high = mean - half, mean + half
    if name not in COSTS:  # a share is none below 0 or above 1
        low, high = max(low, 0.0), min(high, 1.0)
    return Figure(mean, low, high, int(sum(f["n"] for f in found)))


def cell(metric: str, figure: Figure | None) -> str:
    """A figure as people read it: shares in per cent with their interval."""
    if figure is None:
        return ""
    if metric in COSTS:
        digits = 2 if "ratio" in metric else 1 if metric.startswith("ms") else 0
        return f"{figure.value:,.{digits}f}"
    value = f"{100 * figure.value:.1f}"
    if metric == "harmonic_mean":
        return value
    return f"{value} ({100 * figure.low:.1f} to {100 * figure.high:.1f})"


def heading(where: Where) -> str:
    """What a table is about, in words."""
    when = WHEN[where.when]
    edits = "1 edit" if where.edits == 1 else f"{where.edits:,} edits"
    return f"{where.dataset}, {where.protocol}, {edits}, {when}"


def markdown(report: Report) -> str:
    """All tables, a method per row."""
    parts = []
    for where, methods in report.rows.items():
        metrics = report.metrics(where)
        rows = [["method", *(m.replace("_", " ") for m in metrics)]]
        rows.append(["---"] + ["---:"] * len(metrics))
        rows += [[name, *(cell(m, row.get(m)) for m in metrics)] for name, row in methods.items()]
        blank = [""] * (len(metrics) - 1)
        rows += [[name, why, *blank] for name, why in report.missing(where).items()]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts.append(f"## {heading(where)}\n\n{table}\n")
    for where, aged in report.retention.items():
        known = sorted({age for ages in aged.values() for age in ages})
        if len(known) > 1:
            rows = [["method", *(f"{age:,} edits ago" for age in known)]]
            rows.append(["---"] + ["---:"] * len(known))
            rows += [[m, *(cell("", ages.get(age)) for age in known)] for m, ages in aged.items()]
            table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
            parts.append(f"## {heading(where)}: by the age of the edit\n\n{table}\n")
    made = "\n".join(f"- {name}: {how}" for name, how in report.made.items())
    if report.failed:
        why = "\n".join(f"- {failure.name}: {failure.error}" for failure in report.failed)
        parts.append(f"## Not measured\n\n{why}\n")
    return "\n".join([*parts, f"## Made with\n\n{made}\n"])
