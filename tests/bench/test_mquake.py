"""MQuAKE as a task, from nothing to a table."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path

import pytest

from seprog.bench.mquake import MQuAKE, MQuAKEBench
from seprog.bench.seeds import TrialBench, evaluate
from seprog.bench.trials import Task
from seprog.errors import InputError
from seprog.training.facts import mentions
from tests.bench.test_counterfact import CONFIG as COUNTERFACT
from tests.data.walks import HEADS, write

CONFIG = MQuAKEBench(test=4, dev=4, far=1, model=COUNTERFACT.model)


@pytest.fixture
def task(tmp_path: Path) -> MQuAKE:
    return MQuAKE(write(tmp_path / "data"), CONFIG)


def test_parts_share_no_subject_that_is_edited_or_named(task: MQuAKE) -> None:
    assert isinstance(task, Task)
    subjects = [
        {h.subject for c in cases for h in c.before[:1]}
        | {e.subject for c in cases for e in c.edits}
        for cases in task.cases.values()
    ]
    assert all(subjects) and sum(map(len, subjects)) == len(set.union(*subjects))
    apart = subjects[0] | subjects[1]
    assert not apart & {f.subject for f in task.parts.train}


def test_the_base_reads_no_paraphrase_and_no_question_of_the_test(task: MQuAKE) -> None:
    corpus = task.corpus(0)
    read = {text for d in islice(corpus, 400) for text, _ in d.pieces}
    read |= {prompt for prompt, _ in corpus.closed}
    for case in task.cases["test"]:
        asked = [a.prompt for a in case.asked if a.kind in ("paraphrase", "composed")]
        assert not mentions(" ".join(read), asked)
        assert not any(f"{e.prompt} {e.target}." in read for e in case.edits)


def test_each_case_has_a_memory_to_itself(task: MQuAKE) -> None:
    trials = list(task.trials(0, lambda texts: [""] * len(texts)))
    assert len(trials) == len(task.cases["test"])
    for case, trial in zip(task.cases["test"], trials, strict=True):
        assert [s for (s,) in trial.memory] == [f"{e.prompt} {e.target}." for e in case.edits]
        composed = [q for q in trial.questions if q.kind == "composed"]
        assert len(composed) == 2
        for question in composed:
            assert question.needed == tuple(s for (s,) in trial.memory)
            assert question.answer == case.after[-1].answer
        told = {e.prompt for e in case.edits}
        stays = [q for q in trial.questions if not q.needed]
        assert stays and not told & {q.text for q in stays}


def test_calibration_cases_do_not_contradict_each_other(task: MQuAKE) -> None:
    trial = task.calibration(random.Random(0))
    statements = [s for (s,) in trial.memory]
    prompts = [s.rsplit(" ", 1)[0] for s in statements]
    assert statements and len(set(prompts)) == len(prompts)
    inside = [q for q in trial.questions if q.needed]
    assert {q.kind for q in inside} == {"rewrite", "paraphrase", "composed"}
    outside = [q.text for q in trial.questions if not q.needed]
    named = {
        e.subject
        for c in task.cases["dev"]
        for e in c.edits
        if f"{e.prompt} {e.target}." in statements
    }
    assert len([q for q in trial.questions if q.kind == "far"]) > 2 * task.config.far
    assert outside and not any(p in text for p in prompts for text in outside)
    assert not any(text.endswith(f"{name}?") for name in named for text in outside)
    assert all(set(q.needed) <= set(statements) for q in inside)


def test_examples_follow_their_edits(task: MQuAKE) -> None:
    lands = {f.subject: f.answer for f in task.known if f.group == "home"}
    found = islice(task.examples("train", random.Random(0)), 80)
    walked = [e for e in found if e.kind == "composed" and "is a citizen of" in e.edits[0]]
    assert walked
    for example in walked:
        land = example.edits[0].rsplit(" ", 1)[1].removesuffix(".")
        named = next(n for n in lands if n in example.prompt)
        assert land != lands[named]
        if len(example.edits) == 1 and land in HEADS:
            assert example.answer in (land, HEADS[land])


def test_every_method_is_measured(task: MQuAKE, tmp_path: Path, one_step: TrialBench) -> None:
    result = evaluate(task, "mquake", tmp_path / "work", one_step)
    assert result["base"].keys() == {"hops", "questions"}
    for row in (r for r in result["results"] if r["when"] == "after_all"):
        names = {"rewrite", "paraphrase", "composed", "composed_alias", "near_miss", "far"}
        assert row["metrics"].keys() >= names
        assert row["edits"] == 1


def test_a_folder_without_complete_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="MQuAKE"):
        MQuAKE(tmp_path)


def test_other_files_are_passed_over_and_wrong_rows_are_not(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "more.jsonl").write_text('{"edit": "Ann is a citizen of Chad", "questions": []}')
    assert len(MQuAKE(folder, CONFIG).cases["test"]) >= 4
    rows = (folder / "cases.jsonl").read_text().splitlines()
    (folder / "cases.jsonl").write_text("\n".join([*rows, '{"case_id": 1}']))
    with pytest.raises(InputError, match=f"{len(rows) + 1}"):
        MQuAKE(folder, CONFIG)
