"""Reports are worked out from saved answers alone."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seprog.bench.metrics import SHARES, Record, score
from seprog.bench.page import page
from seprog.bench.report import Where, _lines, load, markdown
from seprog.errors import InputError

WHERE = Where("atlas", "sequential", 10, "after_all")


def record(method: str, edits: int, kind: str, right: bool, fired: bool | None = None) -> Record:
    hits = None if fired is None else (("a",) if fired else ())
    answer = "Oslo." if right else "Rome."
    return Record(method, edits, "after_all", kind, "?", "Oslo", answer, ("a",), hits)


def write(folder: Path, records: list[tuple[int, Record]], name: str = "atlas") -> Path:
    """A result and its answers, with a false share in the result that nothing may rest on."""
    rows = [
        {"dataset": "atlas", "protocol": "sequential", "seed": seed, **r.row()}
        for seed, r in records
    ]
    answers = folder / f"{name}-answers.jsonl"
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics: dict[str, Any] = {"rewrite": {"value": 0.123, "n": 1}, "ms_per_edit": {"value": 7.0}}
    metrics["ms_per_edit"]["n"] = 4
    cells = dict.fromkeys((r.method, r.edits) for _, r in records)
    result = {
        "config": {"dataset": "atlas"},
        "versions": {"seprog": "1"},
        "commit": "f" * 40,
        "answers": answers.name,
        "results": [
            {"method": m, "edits": n, "when": "after_all", "metrics": metrics} for m, n in cells
        ],
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result))
    return path


MIXED = [
    (0, record(method, edits, kind, i < right, True))
    for method, right in (("seprog", 3), ("ft", 1))
    for edits in (10, 100)
    for kind in ("rewrite", "far")
    for i in range(4)
]


def test_shares_come_from_the_answers_and_costs_from_the_result(tmp_path: Path) -> None:
    report = load([write(tmp_path, MIXED)])
    assert list(report.rows) == [WHERE, WHERE._replace(edits=100)]
    row = report.rows[WHERE]["seprog"]
    wanted = score([r for _, r in MIXED if r.method == "seprog" and r.edits == 10])
    for name, metric in wanted.items():
        assert row[name]._asdict() == metric
    assert row["ms_per_edit"].value == 7.0 and row["rewrite"].value == 0.75
    assert row["harmonic_mean"].value == pytest.approx(0.75)
    assert report.metrics(WHERE)[:3] == ["harmonic_mean", "rewrite", "far"]


def test_old_edits_have_a_table_of_their_own(tmp_path: Path) -> None:
    records = [
        (0, replace(record("ft", 100, "rewrite", age < 50), age=age)) for age in (3, 7, 55, 99)
    ]
    path = write(tmp_path, records)
    ages = load([path]).retention[WHERE._replace(edits=100)]["ft"]
    assert {age: f.value for age, f in ages.items()} == {0: 1.0, 50: 0.0, 90: 0.0}
    text = markdown(load([path]))
    assert "| method | 0 edits ago | 50 edits ago | 90 edits ago |" in text
    assert "by the age" not in markdown(load([write(tmp_path, MIXED)]))


@pytest.mark.parametrize(
    ("n", "right", "interval"),
    [(100, (50, 51), (0.505 - 0.06355, 0.505 + 0.06355)), (4, (1, 2), (0.0, 1.0))],
)
def test_several_seeds_have_students_interval_within_bounds(
    n: int, right: tuple[int, int], interval: tuple[float, float], tmp_path: Path
) -> None:
    records = [(s, record("ft", 10, "rewrite", i < right[s])) for s in (0, 1) for i in range(n)]
    figure = load([write(tmp_path, records)]).rows[WHERE]["ft"]["rewrite"]
    assert figure.value == pytest.approx(sum(right) / 2 / n) and figure.n == 2 * n
    assert (figure.low, figure.high) == pytest.approx(interval, abs=1e-5)


def test_one_seed_is_not_counted_twice(tmp_path: Path) -> None:
    first = write(tmp_path, MIXED)
    other = write(tmp_path, [(1, r) for _, r in MIXED], "other")
    assert load([first, other]).rows[WHERE]["ft"]["rewrite"].n == 8
    assert load([first, tmp_path, other]) == load([first, other]), "a file that is given twice"
    again = write(tmp_path, MIXED[-1:], "again")
    with pytest.raises(InputError, match=r"atlas\.json and .*again\.json both hold ft with seed 0"):
        load([first, again])
    with pytest.raises(InputError, match="both hold"):
        load([tmp_path])


def test_answers_may_be_gzipped(tmp_path: Path) -> None:
    path = write(tmp_path, MIXED)
    before = load([path])
    plain = tmp_path / "atlas-answers.jsonl"
    (tmp_path / "atlas-answers.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    assert load([path]) == before
    (tmp_path / "atlas-answers.jsonl.gz").unlink()
    with pytest.raises(InputError, match=r"atlas-answers\.jsonl"):
        load([path])


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, MIXED)
    (tmp_path / "bad.json").write_text('{"config": {}}')
    with pytest.raises(InputError, match="no result"):
        load([tmp_path / "bad.json"])
    with pytest.raises(InputError, match="no result"):
        load([tmp_path / "missing.json"])
    assert load([tmp_path]) == load([path])  # a folder may hold results of other kinds
    with (tmp_path / "atlas-answers.jsonl").open("a") as file:
        file.write('{"method": "ft"}\n')
    with pytest.raises(InputError, match=f"Line {len(MIXED) + 1} "):
        load([path])


def test_what_is_never_right_has_a_mean_too(tmp_path: Path) -> None:
    report = load([write(tmp_path, [(0, record("none", 1, "rewrite", False))])])
    [row] = report.rows.values()
    assert row["none"]["harmonic_mean"].value == 0.0
    assert "atlas, sequential, 1 edit, scored after all edits" in markdown(report)


def test_markdown_has_a_table_per_number_of_edits(tmp_path: Path) -> None:
    text = markdown(load([write(tmp_path, MIXED)]))
    assert text.count("| method |") == 2 and "atlas, sequential, 100 edits" in text
    row = next(line for line in text.splitlines() if line.startswith("| seprog"))
    assert "| 75.0 | 75.0 (11.8 to 98.5) |" in row, "two edits, four answers"
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {
        row.count("|")
    }


def test_a_cell_that_failed_is_a_row_that_says_so(tmp_path: Path) -> None:
    write(tmp_path, MIXED)
    burnt = {"dataset": "atlas", "methods": ["rome"], "edits": 10, "error": "ValueError: burnt"}
    (tmp_path / "atlas-rome-10-s0.failed").write_text(json.dumps(burnt))
    report = load([tmp_path])
    tables = markdown(report).split("## ")
    said = [t.splitlines()[0] for t in tables if "| rome | not measured: ValueError: burnt |" in t]
    assert said == ["atlas, sequential, 10 edits, scored after all edits"]
    assert [t.splitlines()[0] for t in tables if "- atlas-rome-10-s0: " in t] == ["Not measured"]
    shown = page(report, "Title")
    assert shown.count("not measured: ValueError: burnt") == 1 and "atlas-rome-10-s0" in shown


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    html = page(load([write(tmp_path, MIXED)]), "A <b>title</b>")
    assert "A &lt;b&gt;title&lt;/b&gt;" in html and html.count("<table>") == 2
    assert html.count("<svg") == 2  # curves, and cost by quality
    aged = [(0, replace(r, age=10 * i)) for i, (_, r) in enumerate(MIXED[:8])]
    more = page(load([write(tmp_path, aged, "aged")]), "Old edits")
    assert more.count("by the age of the edit") == 1
    assert not re.search(r'(src|href)="http', html)
    assert 'data-value="0.75">75.0 (30.1 to 95.4)' in html


RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
PUBLISHED = [p.name for p in sorted(RESULTS.glob("*.json")) if '"answers":' in p.read_text("utf-8")]


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_published_has_its_answers_beside_it(name: str) -> None:
    assert next(_lines(RESULTS / json.loads((RESULTS / name).read_text("utf-8"))["answers"]))


def test_what_is_published_can_be_worked_out_again() -> None:
    path = RESULTS / "atlas-1000-rome.json"
    [published] = [
        r for r in json.loads(path.read_text("utf-8"))["results"] if r["when"] == "after_all"
    ]
    found = load([path]).rows[Where("atlas", "sequential", 1000, "after_all")]["rome"]
    for metric in SHARES:
        assert (metric in found) == (metric in published["metrics"])
        if metric in found:
            assert found[metric]._asdict() == published["metrics"][metric]
