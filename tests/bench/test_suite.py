"""Suites are read with care, and measured cell by cell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seprog.bench import lab
from seprog.bench.lab import ALONE, Lab, together
from seprog.bench.report import load
from seprog.bench.suite import TRIALS, Cell, Part, Suite, cells, load_suite, narrowed, run
from seprog.bench.tasks import TASKS
from seprog.errors import InputError, MissingExtra, SeprogError
from seprog.training.compute import Compute

ON = Compute(bf16=False)
SUITES = sorted((Path(__file__).parents[2] / "benchmarks" / "suites").glob("*.yaml"))
TEXT = """
parts:
  - dataset: atlas
    methods: [none, seprog, ft]
    edits: [1, 10]
    seeds: [0, 1]
  - dataset: fever
    data: claims
    edits: [1]
    seeds: [4]
"""


def test_a_suite_is_read_and_cut_into_cells(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT)
    suite = load_suite(tmp_path / "s.yaml")
    assert suite.parts[1] == Part("fever", tmp_path / "claims", (), (1,), (4,))
    todo = cells(suite, lambda name: ("none", "seprog"), ("ft",))
    names = [cell.name for cell in todo]
    assert names[:3] == ["atlas-none+seprog-1-s0", "atlas-ft-1-s0", "atlas-none+seprog-10-s0"]
    assert names[-1] == "fever-1-s4" and len(names) == len(set(names)) == 9
    assert todo[-1].edits is None and todo[-1].methods == ()
    mixed = Suite((Part("fever", methods=("ft", "seprog")),))
    groups = [c.methods for c in cells(mixed, lambda name: ("none", "seprog"), ("ft",))]
    assert groups == [("seprog",), ("ft",)], "peers by themselves, at all numbers of edits"


def test_a_suite_is_narrowed() -> None:
    suite = Suite((Part("atlas", edits=(1, 10)), Part("zsre", methods=("none",))))
    assert narrowed(suite, (), ()) == suite
    other = narrowed(suite, ("seprog",), (100,))
    assert other == Suite(
        (Part("atlas", None, ("seprog",), (100,)), Part("zsre", None, ("seprog",), (100,)))
    )


def test_a_data_sets_name_is_a_suite() -> None:
    assert load_suite(Path("zsre")) == Suite((Part("zsre"),))
    todo = cells(load_suite(Path("atlas")), together, ALONE)
    assert {m for cell in todo for m in cell.methods} == {*together("atlas"), *ALONE}
    assert set(TASKS) == set(TRIALS)


@pytest.mark.parametrize("path", SUITES, ids=lambda p: p.name)
def test_the_suites_that_come_along_can_be_run(path: Path) -> None:
    assert cells(load_suite(path), together, ALONE)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no suite"),
        ("parts: 3", "no suite"),
        ("parts: [atlas]", "the part 'atlas'"),
        ("parts: [{dataset: atlas, edit: 3}]", "edits"),
        ("parts: [{dataset: moon}]", "moon"),
        ("parts: [{dataset: atlas, methods: [magic]}]", "magic"),
        ("parts: [", "no suite"),
    ],
)
def test_what_is_no_suite_is_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(InputError, match=match):
        cells(load_suite(tmp_path / "s.yaml"), together, ALONE)
    with pytest.raises(InputError, match="no suite"):
        load_suite(tmp_path / "missing.yaml")


def test_a_run_goes_on_and_a_failure_is_a_row(tmp_path: Path) -> None:
    todo = [Cell(Part("atlas"), (name,), 1, 0) for name in ("none", "ft", "rome")]
    calls: list[str] = []

    def measure(cell: Cell, out: Path, answers: Path) -> None:
        calls.append(cell.name)
        if cell.methods == ("ft",):
            raise ValueError("it burnt")
        out.write_text("{}")

    failed = run(todo, tmp_path, measure, progress=False)
    burnt = tmp_path / "atlas-ft-1-s0.failed"
    assert failed == {todo[1]: f"ValueError: it burnt; see {burnt}"} and len(calls) == 3
    assert run(todo, tmp_path, measure, progress=False) == failed and len(calls) == 3
    why = json.loads((tmp_path / f"{todo[1].name}.failed").read_text())
    assert why["error"] == "ValueError: it burnt" and "measure" in why["traceback"]
    (tmp_path / f"{todo[1].name}.failed").unlink()
    run(todo, tmp_path, measure, progress=False)
    assert calls[3:] == [todo[1].name]
    for name in ("none", "rome"):
        (tmp_path / f"atlas-{name}-1-s0.json").unlink()
    [failure] = load([tmp_path]).failed
    assert (failure.name, failure.error) == ("atlas-ft-1-s0", "ValueError: it burnt")


@pytest.mark.parametrize("kind", [InputError, MissingExtra])
def test_a_cell_that_lacks_something_is_tried_again(
    tmp_path: Path, kind: type[SeprogError]
) -> None:
    todo = [Cell(Part("zsre"), (name,), None, 0) for name in ("none", "seprog")]
    there = False

    def measure(cell: Cell, out: Path, answers: Path) -> None:
        if cell is todo[0] and not there:
            raise kind("There is no folder data", "a folder", "Check the path")
        out.write_text("{}")

    said = "There is no folder data. Expected a folder. Check the path."
    assert run(todo, tmp_path, measure, progress=False) == {todo[0]: said}
    assert [p.name for p in tmp_path.iterdir()] == ["zsre-seprog-s0.json"], "the others go on"
    there = True
    assert run(todo, tmp_path, measure, progress=False) == {}


def test_every_cell_goes_to_who_measures_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, tuple[object, ...]]] = []
    for name in ("atlas", "evaluation", "seeds"):
        module = getattr(lab, name)
        monkeypatch.setattr(module, "evaluate", lambda *a, name=name: calls.append((name, a)))
    monkeypatch.setitem(TASKS, "fever", lambda *a: a)
    (tmp_path / "s.yaml").write_text(TEXT.replace("    data: claims\n", ""))
    (tmp_path / "data" / "fever").mkdir(parents=True)
    here = Lab(tmp_path / "work", tmp_path / "data", ON, False)
    for name in ("editor", "workshop"):
        monkeypatch.setitem(here.__dict__, name, name)
    out, answers = tmp_path / "r.json", tmp_path / "r.jsonl"
    todo = cells(load_suite(tmp_path / "s.yaml"), together, ALONE)
    for cell in (todo[0], todo[1], todo[-1]):
        here.measure(cell, out, answers)
    assert calls[0] == ("atlas", ("editor", [1], ("none", "seprog"), 0, out, answers, False))
    assert calls[1] == ("evaluation", ("workshop", [1], ("ft",), 0, out, answers, False))
    who, (task, dataset, work, how, *rest) = calls[2]
    assert who == "seeds" and task == (tmp_path / "data" / "fever", ON)
    assert (dataset, work, rest) == ("fever", tmp_path / "work" / "fever", [out, answers, False])
    assert (how.seeds, how.edits) == ((4,), (1,))  # type: ignore[attr-defined]
    alone = Lab(tmp_path / "work", tmp_path / "data" / "fever", ON, False)
    alone.measure(todo[-1], out, answers)
    assert calls[3][1][0] == task, "a data set's own folder will do"
