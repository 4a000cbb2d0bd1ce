"""zsRE as a task, from nothing to a table."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from seprog.bench import seeds, workshop
from seprog.bench.contestants import CONTESTANTS
from seprog.bench.course import TrialCourse
from seprog.bench.seeds import TrialBench, evaluate
from seprog.bench.trials import Task
from seprog.bench.workshop import Training, Workshop
from seprog.bench.zsre import ZsRE, ZsREBench
from seprog.errors import InputError
from seprog.methods import MendTraining
from seprog.training.gate import GateTraining
from seprog.training.seq2seq import Seq2SeqTraining
from tests.data.questions import write

ONE_STEP = Seq2SeqTraining(layers=2, steps=1, batch=2, threads=1, bf16=False)

CONFIG = ZsREBench(
    test=6,
    aside=4,
    dev=4,
    far=3,
    sizes=(2, 0),
    few=4,
    model=replace(ONE_STEP, steps=3),
)


@pytest.fixture
def task(tmp_path: Path, encoder_folder: Path) -> ZsRE:
    return ZsRE(write(tmp_path / "data"), CONFIG, encoder_folder)


def test_parts_share_no_subject(task: ZsRE) -> None:
    assert isinstance(task, Task)
    parts = task.parts
    subjects = [{f.subject for f in p} for p in (parts.test, task.aside, parts.dev, parts.train)]
    assert list(map(len, subjects)) == [6, 4 + 4, 4, 2 + 3] and len(set.union(*subjects)) == 23
    assert "Nobody" not in set.union(*subjects)  # its target is what is true already
    asked = {p for f in (*parts.test, *parts.dev, *task.aside) for p in f.prompts}
    assert not asked & {p for f in parts.train for p in f.prompts}
    assert all(f.answer == f.answer.lower() for f in parts.test)  # as the encoder's tokens spell it


def test_what_is_asked(task: ZsRE) -> None:
    found = list(task.trials(0, lambda texts: [""] * len(texts)))
    assert [t.edits for t in found] == [2, 2, 6]
    kinds = [q.kind for q in found[-1].questions]
    assert [kinds.count(k) for k in ("rewrite", "paraphrase", "entailed", "far")] == [6, 6, 6, 3]
    edited = {f.subject for f in task.parts.test}
    near = [q.text for q in found[-1].questions if q.kind == "near_miss"]
    assert near and not any(s in text for s in edited for text in near)
    assert len(task.calibration(random.Random(0)).memory) == 2


def test_every_method_is_measured(task: ZsRE, tmp_path: Path, one_step: TrialBench) -> None:
    result = evaluate(task, "zsre", tmp_path / "work", one_step)
    assert result["base"].keys() == {"questions", "paraphrases", "unrelated"}
    assert {r["method"] for r in result["results"]} == set(seeds.METHODS) - {"reader_oracle"}
    for row in (r for r in result["results"] if r["when"] == "after_all"):
        assert row["metrics"].keys() >= {"rewrite", "paraphrase", "entailed", "near_miss", "far"}
    weights = tmp_path / "work" / "base" / "model.safetensors"
    trained = weights.stat().st_mtime_ns
    assert evaluate(task, "zsre", tmp_path / "work", one_step)["results"] == result["results"]
    assert weights.stat().st_mtime_ns == trained


@pytest.mark.parametrize("name", ["mend", "grace", "serac"])
def test_peers_that_learn_from_the_task_edit_it(
    name: str,
    task: ZsRE,
    tmp_path: Path,
    encoder_folder: Path,
    small_encoder: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workshop, "packaged_folder", lambda: encoder_folder)
    course = TrialCourse("zsre", task, task.models(tmp_path / "work"))
    training = Training(
        mend=MendTraining(depth=1, rank=4, steps=1, batch=1),
        gate=GateTraining(scenarios=1, edits=4, steps=1, groups=2, bf16=False),
        translator=ONE_STEP,
    )
    shop, [series] = Workshop(course, tmp_path / "peers", training), course.series(6, 0)
    asked = [q.text for q in series.questions]
    method = CONTESTANTS[name].make(shop, CONTESTANTS[name].settings(2)[-1])
    said, own = method.answer(asked), shop.lm.reply(asked, max_new_tokens=16)
    assert said == own
    method.apply(series.edits)
    assert method.bytes_kept() > 0 and len(method.answer(asked)) == len(asked)
    method.revert()
    assert method.answer(asked) == own


def test_a_folder_without_zsre_is_refused(tmp_path: Path, encoder_folder: Path) -> None:
    with pytest.raises(InputError, match="zsRE"):
        ZsRE(tmp_path, CONFIG, encoder_folder)
    write(tmp_path)
    (tmp_path / "more.tsv").write_text("a question\tan answer\nno tab here\n")
    with pytest.raises(InputError, match=r"Row 2 of .*more\.tsv"):
        ZsRE(tmp_path, CONFIG, encoder_folder)
