"""KnowEdit as a task, from nothing to a table."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path

import pytest

from seprog.bench.knowedit import KnowEdit, KnowEditBench
from seprog.bench.seeds import TrialBench, evaluate
from seprog.bench.trials import Task
from seprog.errors import InputError
from tests.bench.test_counterfact import CONFIG as COUNTERFACT
from tests.data.wiki import write

CONFIG = KnowEditBench(
    test=6, dev=4, far=2, paraphrases=3, near=1, sizes=(2, 0), few=4, model=COUNTERFACT.model
)


@pytest.fixture
def task(tmp_path: Path) -> KnowEdit:
    return KnowEdit(write(tmp_path / "data"), CONFIG)


def test_parts_share_no_subject(task: KnowEdit) -> None:
    assert isinstance(task, Task)
    parts = task.parts
    subjects = [{f.subject for f in p} for p in (parts.test, parts.dev, parts.far, parts.train)]
    assert list(map(len, subjects)) == [6, 4, 2, 8] and len(set.union(*subjects)) == 20
    assert all(len(f.prompts) == 5 for f in (*parts.test, *parts.dev))  # its own, 3, and a name
    assert all(len(f.prompts) == 2 for f in parts.train)


def test_the_base_knows_names_and_what_is_near_but_no_paraphrase(task: KnowEdit) -> None:
    taught = {p for f in task.known for p in f.prompts}
    for fact in task.parts.test:
        own, *worded, name = fact.prompts
        assert own in taught and name in taught and not taught & set(worded)
        assert name.startswith("The country of old") and worded[0].startswith(fact.subject)
        assert fact.aside == ((f"The hat of {fact.subject} is", "red"),)
    exam = task.exam()
    assert len(exam["records"]) == 6 and len(exam["aside"]) == 6
    assert {*exam["records"], *exam["aside"]} <= set(task.corpus(0).closed)


def test_other_questions_about_the_subject_are_near_misses(task: KnowEdit) -> None:
    [*_, whole] = task.trials(0, lambda texts: [""] * len(texts))
    near = [q.text for q in whole.questions if q.kind == "near_miss"]
    assert sorted(near) == sorted(f"The hat of {f.subject} is" for f in task.parts.test)
    scopes = task.scopes(4, random.Random(0))
    outside = [s.text for s in scopes.stages if not s.right]
    assert any(text.startswith("The hat of") for text in outside)
    kept = [e.prompt for e in islice(task.examples("train", random.Random(0)), 60) if not e.answer]
    assert any(text.startswith("The hat of") for text in kept)


def test_every_method_is_measured(task: KnowEdit, tmp_path: Path, one_step: TrialBench) -> None:
    result = evaluate(task, "knowedit", tmp_path / "work", one_step)
    assert result["base"].keys() == {"records", "aside"}
    for row in (r for r in result["results"] if r["when"] == "after_all"):
        names = {"rewrite", "paraphrase", "entailed", "near_miss", "far"}
        assert row["metrics"].keys() >= (names if row["edits"] == 6 else names - {"far"})


def test_a_folder_without_knowedit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="KnowEdit"):
        KnowEdit(tmp_path)
