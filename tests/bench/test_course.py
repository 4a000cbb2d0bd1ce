"""Peers get the very edits and questions that seprog is measured on, whatever the data set."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import torch

from seprog.bench import classifiers, contestants, evaluation, lab
from seprog.bench.contestants import CONTESTANTS
from seprog.bench.counterfact import CounterFact
from seprog.bench.course import Course, TrialCourse
from seprog.bench.evaluation import evaluate
from seprog.bench.lab import workshop_on
from seprog.bench.leapofthought import LeapOfThought
from seprog.bench.seeds import TrialBench, trained_editor
from seprog.bench.trials import Trial, written
from seprog.bench.workshop import Workshop
from seprog.editor import Editor
from seprog.errors import InputError
from seprog.training.gate import GateTraining
from tests.bench.test_counterfact import CONFIG as ONE_LAYER
from tests.bench.test_leapofthought import HOW
from tests.bench.test_peers import TINY
from tests.data import leaps
from tests.data.records import write

CONFIG = replace(ONE_LAYER, model=replace(ONE_LAYER.model, layers=2))


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> TrialCourse:
    folder = tmp_path_factory.mktemp("counterfact")
    task = CounterFact(write(folder / "data"), CONFIG)
    return TrialCourse("counterfact", task, task.models(folder / "work"))


def test_edits_and_questions_are_those_of_the_trials(course: TrialCourse) -> None:
    assert isinstance(course, Course) and course.sizes(3) == [2, 8]
    trials = list(course.task.trials(3, lambda texts: [""] * len(texts)))
    for size in (2, 8):
        own, found = [t for t in trials if t.edits == size], course.series(size, 3)
        assert len(own) == len(found) and all(s.size == size for s in found)
        for trial, series in zip(own, found, strict=True):
            assert list(series.questions) == list(trial.questions)
            rows = [{"statement": r.statement, "prompt": r.prompt} for r in series.edits]
            assert rows == [{k: row[k] for k in ("statement", "prompt")} for row in written(trial)]
            ages = [series.age(q) for q in series.questions if q.kind == "rewrite"]
            assert sorted(a for a in ages if a is not None) == list(range(size))
    assert all(series.age(q) is None for q in series.questions if not q.needed)
    with pytest.raises(InputError, match=r"Trials of 7 edits at a time.*some of 2, 8"):
        course.series(7, 3)


def _without_near(calibration: Callable[..., Trial], rng: random.Random) -> Trial:
    return replace(calibration(rng), near={})


def test_nothing_that_is_reported_is_learnt_from_or_tuned_on(
    course: TrialCourse, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported = {f.subject for f in course.task.parts.test}

    def clean(text: str) -> bool:
        return not any(subject in text for subject in reported)

    lessons = list(islice(course.lessons(0), 20))
    for request, asked, away in lessons:
        assert clean(request.statement) and clean(asked.prompt)
        assert request.subject in asked.prompt and asked.answer == request.target
        assert away.keep and away.answer and request.subject not in away.prompt
        assert not asked.edits and not away.edits
    examples = list(islice(course.examples(0), 50))
    assert all(len(e.edits) == 1 and clean(e.edits[0]) for e in examples)
    assert any(e.answer is None for e in examples)
    tuning = course.tuning(1)
    assert len(tuning.edits) == 1 and clean(tuning.edits[0].statement)
    kinds = [q.kind for q in tuning.questions]
    assert set(kinds) == {"rewrite", "paraphrase", "near_miss", "far"}
    [edited] = [f for f in course.task.parts.dev if f.subject == tuning.edits[0].subject]
    near = [q.text for q in tuning.questions if q.kind == "near_miss"]
    assert near and set(near) <= set(edited.near) and kinds.count("far") == len(near)
    with monkeypatch.context() as patch:
        patch.setattr(course.task, "calibration", partial(_without_near, course.task.calibration))
        with pytest.raises(InputError, match="1 edits to tune on came without questions of near"):
            course.tuning(1)
    [scopes] = course.scopes(GateTraining(scenarios=1, edits=3))
    assert len(scopes.edits) == 3 and all(clean(e.statement) for e in scopes.edits)


def test_methods_are_measured_on_facts(
    course: TrialCourse, tmp_path: Path, small_encoder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contestants, "BUDGET", 1)
    monkeypatch.setattr(evaluation, "TUNING_EDITS", 2)
    monkeypatch.setattr(evaluation, "QUERIES", 2)
    before = [p.clone() for p in course.lm.model.parameters()]
    shop = Workshop(course, tmp_path, TINY)
    out, answers = tmp_path / "r.json", tmp_path / "a.jsonl"
    names = ["none", "mend", "serac", "recipe"]
    result = evaluate(shop, [8], names, 0, out, answers, progress=False)
    assert result["config"]["dataset"] == "counterfact"
    rows = {(r["method"], r["edits"], r["when"]): r["metrics"] for r in result["results"]}
    for name in names:
        own = rows[name, 8, "after_all"]
        assert own["rewrite"]["n"] == 8 and own["ms_per_edit"]["n"] == 8
        assert own["rewrite_teacher_forced"]["n"] == own["rewrite_prefers_new"]["n"] == 8
        assert rows[name, 8, "right_after"]["rewrite"]["n"] == 8
        assert (name, 8, "after_changes") not in rows, "nothing is replaced or taken back"
    assert rows["none", 8, "after_all"]["near_miss"]["value"] == 1.0
    said = [json.loads(line) for line in answers.open()]
    assert {(r["dataset"], r["protocol"]) for r in said} == {("counterfact", "sequential")}
    assert all(torch.equal(a, b) for a, b in zip(before, course.lm.model.parameters(), strict=True))


def test_what_stands_behind_our_gate_is_measured_beside_peers(
    course: TrialCourse, tmp_path: Path, one_step: TrialBench
) -> None:
    def editor() -> Editor:
        return trained_editor(course.task, course.lm, tmp_path, one_step, 0)

    shop = Workshop(course, tmp_path / "peers", TINY, editor)
    result = evaluate(shop, [2], ["none", "seprog"], progress=False)
    rows = {(r["method"], r["when"]): r["metrics"] for r in result["results"]}
    asked = {name: rows[name, "after_all"]["rewrite"]["n"] for name in ("none", "seprog")}
    assert asked["none"] == asked["seprog"] and "fired_rightly" in rows["seprog", "after_all"]
    assert result["fingerprints"]["gate"] == shop.editor.gate.fingerprint
    with pytest.raises(InputError, match="without a gate"):
        evaluate(Workshop(course, tmp_path), [2], ["seprog"], progress=False)


def test_a_workshop_for_a_data_set(
    course: TrialCourse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(lab.TASKS, "counterfact", lambda *a: CounterFact(a[0], CONFIG))
    data = write(tmp_path / "data")
    shop = workshop_on("counterfact", data, tmp_path / "work")
    assert shop.lm is shop.course.lm and shop.work == tmp_path / "work" / "peers"
    assert (tmp_path / "work" / "base" / "model.safetensors").exists()
    CONTESTANTS["none"].make(shop, {})
    with pytest.raises(InputError, match="reader_oracle was to be measured on counterfact"):
        evaluate(shop, [8], ["reader_oracle"], progress=False)
    atlas = workshop_on("atlas", None, tmp_path)
    assert atlas.course.name == "atlas" and atlas.editor.lm is atlas.lm
    with pytest.raises(InputError, match="'counterfact', without its files"):
        workshop_on("counterfact", None, tmp_path)
    with pytest.raises(InputError, match="measured on 'quux'"):
        workshop_on("quux", data, tmp_path)


def test_methods_are_measured_on_a_classifier(
    encoder_folder: Path,
    small_encoder: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(classifiers, "packaged_folder", lambda: encoder_folder)
    monkeypatch.setattr(contestants, "BUDGET", 1)
    monkeypatch.setattr(evaluation, "TUNING_EDITS", 2)
    monkeypatch.setattr(evaluation, "QUERIES", 2)
    task = LeapOfThought(leaps.write(tmp_path / "data"), sizes=(0,), far=4, how=HOW)
    course = TrialCourse("leapofthought", task, task.models(tmp_path / "work"))
    shop = Workshop(course, tmp_path / "work" / "peers", TINY)
    names = ["none", "ft_l", "grace", "serac"]
    sizes = course.sizes(0)
    result = evaluate(shop, sizes[:1], names, progress=False)
    rows = {
        (r["protocol"], r["edits"], r["method"]): r["metrics"]
        for r in result["results"]
        if r["when"] == "after_all"
    }
    assert "both" not in {protocol for protocol, *_ in rows}, "rules have no prompt of their own"
    whole = sizes[0]
    assert whole > 1 and rows["property", whole, "none"]["far"]["value"] == 1.0
    for name in names:
        own = rows["property", whole, name]
        assert own["rewrite"]["n"] == rows["property", whole, "none"]["rewrite"]["n"]
        assert "perplexity_ratio" not in own and own["query_ratio_in_scope"]["value"] > 0
        assert ("training_seconds" in own) == (name != "serac"), "its reader came with the data"
    with pytest.raises(InputError, match=r"rome was to edit a base model that is a EncoderModel"):
        evaluate(shop, [1], ["rome"], progress=False)
    with pytest.raises(InputError, match="a data set of facts"):
        course.taught()
