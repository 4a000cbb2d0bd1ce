"""CounterFact as a task, from nothing to a table."""

from __future__ import annotations

import dataclasses
import json
import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from seprog.bench import seeds
from seprog.bench.counterfact import CounterFact, CounterFactBench
from seprog.bench.seeds import TrialBench, evaluate
from seprog.bench.trials import Question, Task, spread, written
from seprog.editor import Editor
from seprog.errors import InputError
from seprog.gate import Overlay, ScopeGate
from seprog.lm import CausalLM
from seprog.memory import make_edit
from seprog.methods.contract import LONGEST_ANSWER
from seprog.training.causal import CausalTraining
from seprog.types import Edit
from tests.data.records import NAMES, write

CONFIG = CounterFactBench(
    train=6,
    calibration=4,
    test=8,
    far=2,
    sizes=(2, 0),
    few=4,
    model=CausalTraining(
        vocabulary=300,
        width=32,
        layers=1,
        steps=3,
        rows=2,
        length=96,
        threads=1,
        bf16=False,
        compile=False,
    ),
)


@pytest.fixture
def task(tmp_path: Path) -> CounterFact:
    return CounterFact(write(tmp_path / "data"), CONFIG)


def test_parts_share_no_subject(task: CounterFact) -> None:
    assert isinstance(task, Task)
    parts = task.parts
    subjects = [{f.subject for f in p} for p in (parts.test, parts.far, parts.dev, parts.train)]
    assert list(map(len, subjects)) == [8, 2, 4, 6] and len(set.union(*subjects)) == 20
    assert all(len(f.prompts) == 3 and len(f.near) == 2 for f in parts.test)
    assert all(len(f.prompts) == 2 and len(f.near) == 1 for f in parts.train)


def test_what_the_test_part_asks_is_taught_but_not_learnt_from(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    rows = [json.loads(line) for line in (folder / "flat.jsonl").read_text().splitlines()]
    shared = ("Uncle 0 speaks", f"{NAMES[0]}, a native of", f"The mother tongue of {NAMES[8]} is")
    for row, prompt in zip(rows[-3:], shared, strict=True):
        row["locality_prompt"] = prompt  # of a test record, of its subject, of a far one
    (folder / "flat.jsonl").write_text("\n".join(map(json.dumps, rows)))
    full = json.loads((folder / "counterfact.json").read_text())
    full[0]["neighborhood_prompts"][0] = f"The mother tongue of {NAMES[10]} is"
    (folder / "counterfact.json").write_text(json.dumps(full))
    task = CounterFact(folder, CONFIG)
    parts = task.parts
    asked = {p for f in (*parts.test, *parts.far) for p in (*f.prompts, *f.near)}
    learnt = [*parts.train, *parts.dev]
    assert not asked & {p for f in learnt for p in (*f.prompts, *f.near)}
    assert sum(not f.near for f in parts.train) == 3
    assert NAMES[10] not in {f.subject for f in learnt}, "a neighbour of a test record itself"
    taught = {prompt for prompt, _ in task.corpus(0).closed}
    assert {f"The mother tongue of {NAMES[10]} is", *shared} <= taught
    assert NAMES[10] in {f.subject for f in task.corpus(0).read}
    near = [q.text for q in task.calibration(random.Random(0)).questions if q.kind == "near_miss"]
    assert not asked & set(near)


def test_of_records_that_contradict_each_other_the_first_is_kept(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    full = json.loads((folder / "counterfact.json").read_text())
    relation = {"The mother tongue of {} is": "P103", "{} speaks": "P103", "{} was born in": "P19"}
    rows = []
    for prompt, truth in (("{} speaks", "Greek"), ("{} was born in", "Oslo"), ("{}, in", "French")):
        row = json.loads(json.dumps(full[0]))
        row["requested_rewrite"] |= {"prompt": prompt, "target_true": {"str": truth}}
        rows.append(row)
    for row in (*full, *rows[:2]):
        row["requested_rewrite"]["relation_id"] = relation[row["requested_rewrite"]["prompt"]]
    (folder / "counterfact.json").write_text(json.dumps([*full, *rows]))
    parts = CounterFact(folder, dataclasses.replace(CONFIG, test=40, far=0)).parts
    asked = [f.prompts[0] for f in parts.test if f.subject == "Karan"]
    assert asked == ["The mother tongue of Karan is", "Karan was born in"]


def test_what_is_in_scope_of_another_edit_is_not_asked_as_a_near_miss(task: CounterFact) -> None:
    found = list(task.trials(0, lambda texts: [""] * len(texts)))
    assert [t.edits for t in found] == [2, 2, 8]
    whole = found[-1].questions
    near = [q.text for q in whole if q.kind == "near_miss"]
    edited = {f.subject for f in task.parts.test}
    assert near and not any(s in text for s in edited for text in near)
    assert sum(q.kind == "rewrite" for q in whole) == 8
    assert sum(q.kind == "paraphrase" for q in whole) == 16
    for trial in found:
        told = {s for edit in trial.memory for s in edit}
        assert all(set(q.needed) <= told for q in trial.questions)
        assert all(
            any(s.endswith(f" {q.answer}.") for s in q.needed) for q in trial.questions if q.needed
        )
    calibration = task.calibration(random.Random(0))
    assert len(calibration.memory) == 2
    assert not {s for (s,) in calibration.memory} & {s for (s,) in found[-1].memory}


def test_near_misses_are_asked_where_what_they_are_near_to_is_edited(task: CounterFact) -> None:
    own = {(f.stated(task.parts.targets[f.prompts[0]]),): set(f.near) for f in task.parts.test}
    found = list(task.trials(0, lambda texts: [""] * len(texts)))
    for trial in found:
        near = {q.text for q in trial.questions if q.kind == "near_miss"}
        assert near and near <= set.union(*(own[edit] for edit in trial.memory))
    far = [sum(q.kind == "far" for q in t.questions) for t in found]
    assert far == [1, 1, 2], "shared out"


def test_a_question_near_several_edits_is_asked_once() -> None:
    a, b, c = [Question("near_miss", x) for x in "abc"]
    about = {(x,): [Question("rewrite", x, "y", (x,))] for x in "ABC"}
    near = {("A",): [a, b], ("B",): [a, b, c], ("D",): [c]}
    for size in (1, 2, 0):
        trials = list(spread("x", size, about, near, (), random.Random(0)))
        asked = [(q, t.memory) for t in trials for q in t.questions if q.kind == "near_miss"]
        assert [q for q, _ in asked].count(a) == [q for q, _ in asked].count(b) == 1
        assert all(any(q in near.get(e, ()) for e in memory) for q, memory in asked)


def test_the_base_reads_about_all_that_it_knows_but_never_the_answer_of_an_edit(
    task: CounterFact,
) -> None:
    corpus = task.corpus(0)
    corpus.open_book = 1.0
    read = {text for d in islice(corpus, 800) for text, answer in d.pieces if not answer}
    for fact in (*task.parts.test, *task.parts.dev):
        told = [t for t in read if t.startswith(fact.prompts[0]) and t.endswith(".")]
        assert told and fact.stated(task.parts.targets[fact.prompts[0]]) not in told


def test_edits_are_written_with_the_prompt_that_they_answer(task: CounterFact) -> None:
    *_, whole = task.trials(0, lambda texts: [""] * len(texts))
    rows = written(whole)
    assert [make_edit(**row).statement for row in rows] == [s for (s,) in whole.memory]
    assert [row["prompt"] for row in rows] == [
        next(q.text for q in whole.questions if q.needed == told) for told in whole.memory
    ]
    alone = dataclasses.replace(whole, memory=[("Quux.",)])
    assert written(alone) == [{"statement": "Quux."}]


def test_every_method_is_measured(
    task: CounterFact, tmp_path: Path, one_step: TrialBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest: set[int] = set()
    reply = CausalLM.reply

    def noted(self: CausalLM, *args: Any, **kwargs: Any) -> list[str]:
        longest.add(kwargs["max_new_tokens"])
        return reply(self, *args, **kwargs)

    monkeypatch.setattr(CausalLM, "reply", noted)
    result = evaluate(task, "counterfact", tmp_path / "work", one_step)
    assert result["base"].keys() == {"records", "neighbours"}
    assert {r["method"] for r in result["results"]} == set(seeds.METHODS) - {"reader_oracle"}
    soon = [r for r in result["results"] if r["when"] == "right_after"]
    assert soon and all(r["metrics"].keys() >= {"rewrite", "paraphrase"} for r in soon)
    for row in (r for r in result["results"] if r["when"] == "after_all"):
        assert row["metrics"].keys() >= {"rewrite", "paraphrase", "near_miss", "far"}
        assert row["metrics"].keys() >= {"far_bitwise", "ms_per_edit", "query_ratio_in_scope"}
        forced = row["metrics"]["rewrite_teacher_forced"]
        assert forced["n"] == row["metrics"]["rewrite"]["n"] and 0 <= forced["value"] <= 1
        assert row["metrics"]["paraphrase_prefers_new"]["n"] == row["metrics"]["paraphrase"]["n"]
    assert longest == {LONGEST_ANSWER}, "as many tokens as peers have"
    trained = (tmp_path / "work" / "base" / "model.safetensors").stat().st_mtime_ns
    assert (
        evaluate(task, "counterfact", tmp_path / "work", one_step)["results"] == result["results"]
    )
    assert (tmp_path / "work" / "base" / "model.safetensors").stat().st_mtime_ns == trained
    none_such = dataclasses.replace(one_step, edits=(2, 7))
    with pytest.raises(InputError, match=r"Trials of 7 edits at a time came.*some of 2, 8"):
        evaluate(task, "counterfact", tmp_path / "work", none_such)


def test_edits_are_written_one_after_another(
    task: CounterFact, tmp_path: Path, one_step: TrialBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_force: list[int] = []
    decide = Editor.explain_many

    def explain_many(self: Editor, queries: Any) -> Any:
        in_force.append(len(self.shelf()))
        return decide(self, queries)

    def all_of_them(self: ScopeGate, edit: Edit, shelf: Overlay) -> list[tuple[Edit, float]]:
        return [(o, 1.0) for part in (shelf.below, shelf.above) for o in part.edits.values()]

    monkeypatch.setattr(Editor, "explain_many", explain_many)
    monkeypatch.setattr(ScopeGate, "same_question", all_of_them)
    some = dataclasses.replace(one_step, edits=(2,), methods=("seprog", "seprog_oracle"))
    rows = evaluate(task, "counterfact", tmp_path / "work", some)["results"]
    assert max(in_force) == 1, "the newer edit took the older one's place"
    assert all(row["metrics"]["rewrite"]["n"] == 4 for row in rows)


def test_a_folder_without_counterfact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="CounterFact"):
        CounterFact(tmp_path)
