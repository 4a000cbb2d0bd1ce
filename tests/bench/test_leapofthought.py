"""The LeapOfThought bench, from nothing to a table, on a tiny encoder."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from seprog.bench import classifiers, seeds
from seprog.bench.leapofthought import LeapOfThought
from seprog.bench.metrics import SHARES
from seprog.bench.seeds import METHODS, TrialBench, evaluate, summary, table
from seprog.errors import InputError
from seprog.training.classifier import ClassifierTraining
from seprog.training.gate import GateTraining
from seprog.training.generator import GeneratorTraining
from tests.data.leaps import write

HOW = ClassifierTraining(steps=30, batch=8, lr=3e-3, bf16=False)
CONFIG = TrialBench(
    seeds=(0, 1),
    generator=GeneratorTraining(summary=2, rank=2, steps=2, batch=4, check_every=2, refine=1),
    gate=GateTraining(scenarios=1, edits=6, steps=2, groups=2, bf16=False),
)


@pytest.fixture
def tiny(encoder_folder: Path, small_encoder: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "packaged_folder", lambda: encoder_folder)
    monkeypatch.setattr(seeds, "RATE", 0.2)


def shares(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what was timed."""
    return row | {"metrics": {k: v for k, v in row["metrics"].items() if k in SHARES}}


def test_every_method_is_measured(tiny: None, tmp_path: Path) -> None:
    task, work = (
        LeapOfThought(write(tmp_path / "data"), sizes=(1, 0), far=4, how=HOW),
        tmp_path / "work",
    )
    out, answers = tmp_path / "out.json", tmp_path / "answers.jsonl"
    result = evaluate(task, "leapofthought", work, CONFIG, out, answers)
    assert json.loads(out.read_text()) == {**result, "answers": "answers.jsonl"}
    cells = {(r["protocol"], r["edits"], r["method"]) for r in result["results"]}
    assert {m for _, _, m in cells} == set(METHODS)
    assert {(p, n) for p, n, _ in cells} >= {("property", 1), ("property", 4), ("both", 10)}
    for row in (r for r in result["results"] if r["when"] == "after_all"):
        metrics = row["metrics"]
        if row["method"] == "none" and "far" in metrics:
            assert metrics["far"]["value"] == 1.0
        if row["method"].endswith("oracle") and "near_miss" in metrics:
            assert metrics["near_miss"]["value"] == metrics["far"]["value"] == 1.0
    rows = [json.loads(line) for line in answers.open()]
    fired = {s for r in rows for s in r["fired"] or ()}
    assert all(set(r["needed"]) or r["kind"] in ("near_miss", "far") for r in rows)
    assert fired <= {s for r in rows for s in (*r["needed"], *(r["fired"] or ()))}
    assert {r["answer"] for r in rows} <= {"true", "false"}
    trained = {p: p.stat().st_mtime_ns for p in work.rglob("*.safetensors")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeds, "measured", None)  # what a seed came to is not asked again
        patch.setattr(seeds, "provenance", lambda: {"versions": {}, "commit": "another"})
        again = evaluate(task, "leapofthought", work, replace(CONFIG, seeds=(0,)))
        other = LeapOfThought(tmp_path / "data", sizes=(1, 0), far=3, how=HOW)
        with pytest.raises(TypeError):  # but what is asked now is other questions
            evaluate(other, "leapofthought", work, replace(CONFIG, seeds=(0,)))
    assert again["commit"] == "another" and again["made"] == [
        m for m in result["made"] if m["seed"] == 0
    ]
    assert {m["seed"] for m in result["made"]} == {0, 1}
    for group in result["made"]:
        behind = {"seprog", "verbatim", "in_context_retrieved"} & set(group["methods"])
        assert bool(behind) == ("gate" in group["fingerprints"]) == ("threshold" in group)
    assert {m["commit"] for m in result["made"]} == {result["commit"]}
    assert {p: p.stat().st_mtime_ns for p in work.rglob("*.safetensors")} == trained
    first = [r for r in result["results"] if r["seed"] == 0]
    assert again["results"] == first
    only = replace(CONFIG, seeds=(0,), methods=("none", "seprog"), edits=(4,))
    some = evaluate(task, "leapofthought", work, only)["results"]
    same = [r for r in first if r["edits"] == 4 and r["method"] in ("none", "seprog")]
    assert list(map(shares, some)) == list(map(shares, same))
    with pytest.raises(InputError, match="magic"):
        evaluate(task, "leapofthought", work, replace(only, methods=("magic",)))
    told = [r for r in result["summary"] if r["when"] == "after_all"]
    assert table(result, "x").row_count == len(told) < len(result["summary"])


def test_too_few_questions_to_calibrate_on_are_refused_before_a_gate_is_trained(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeds, "RATE", 0.001)
    task = LeapOfThought(write(tmp_path / "data"), sizes=(1,), far=4, how=HOW)
    with pytest.raises(InputError, match="at least 999"):
        evaluate(task, "leapofthought", tmp_path / "work", replace(CONFIG, seeds=(0,)))
    assert not (tmp_path / "work" / "gate-0.run").exists()


def test_summary_is_the_mean_with_students_interval() -> None:
    def row(seed: int, value: float) -> dict[str, Any]:
        metrics = {"entailed": {"value": value, "n": 10}}
        where = {"protocol": "property", "edits": 1, "method": "seprog", "seed": seed}
        where["when"] = "after_all"
        return {**where, "metrics": metrics}

    [one] = summary([row(0, 0.5), row(1, 0.7), row(2, 0.9)])
    assert one["metrics"]["entailed"] == pytest.approx(
        {"value": 0.7, "half": 4.30 * 0.2 / 3**0.5, "n": 30}
    )
    [alone] = summary([row(0, 0.5)])
    assert alone["metrics"]["entailed"] == {"value": 0.5, "n": 10}, "one seed has no spread"


def test_what_is_unrelated_was_learnt_by_nobody(tmp_path: Path) -> None:
    task = LeapOfThought(write(tmp_path), sizes=(0,), far=4)
    far = [*task.dev_far, *task.test_far]
    assert len(far) == len(set(far)) > 8 and not set(task.dev_far) & set(task.test_far)
    learnt = {text for part in task.labelled() for text, _ in part}
    learnt |= {s.text for s in task.scopes(6, random.Random(0)).stages}
    learnt |= {e.prompt for e in islice(task.examples("train", random.Random(0)), 400)}
    assert learnt.isdisjoint(far)


def test_trials_share_everything_out_once(tmp_path: Path) -> None:
    task = LeapOfThought(write(tmp_path), sizes=(1, 3, 0), far=4)
    asked = list(task.trials(0, lambda texts: ["false"] * len(texts)))
    kind_of = {x.phrase: x.premise.subject for x in task.test if x.premise}
    kind_of |= {x.premise.statement: x.premise.subject for x in task.test if x.premise}
    for protocol, size, count in (("property", 1, 4), ("property", 3, 2), ("slag", 3, 2)):
        part = [t for t in asked if (t.protocol, t.edits) == (protocol, size)]
        assert len(part) == count
        assert all(len(set(t.memory)) == len(t.memory) == size for t in part)
        questions = [q for t in part for q in t.questions]
        assert sum(q.kind == "far" for q in questions) == 4
        asked_of = [q.text for q in questions if q.kind == "rewrite"]
        assert len(asked_of) == len(set(asked_of)) >= 4, "each edit once"
        near = [q.text for q in questions if q.kind == "near_miss"]
        assert len(near) == len(set(near)) and bool(near) == (protocol == "property")
        for trial in part:
            told = {s for edit in trial.memory for s in edit}
            assert all(set(q.needed) <= told for q in trial.questions)
            assert all(bool(q.needed) == (q.answer is not None) for q in trial.questions)
            classes = {kind_of[s] for s in told if s in kind_of}
            near = [q.text for q in trial.questions if q.kind == "near_miss"]
            assert {kind_of[text] for text in near} <= classes, "of the classes that are edited"
    single = [t for t in asked if t.protocol == "both"]
    assert len(single) == 1 and all(len(edit) == 2 for edit in single[0].memory)
    assert single[0].edits == len({s for edit in single[0].memory for s in edit})
    assert len(single[0].questions) == len(set(single[0].questions))
    assert sum(q.kind == "rewrite" for q in single[0].questions) == 4, "one for each property"
    believed = list(task.trials(0, lambda texts: ["true"] * len(texts)))
    assert not any(t.protocol == "slag" for t in believed)
