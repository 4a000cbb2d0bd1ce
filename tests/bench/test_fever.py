"""FEVER as a task."""

from __future__ import annotations

import json
import random
from pathlib import Path

from seprog.bench.fever import FactChecking
from seprog.bench.trials import Task
from tests.data.claims import write


def test_edits_flip_what_is_believed(tmp_path: Path) -> None:
    task = FactChecking(write(tmp_path), sizes=(2, 0))
    assert isinstance(task, Task)
    train, held_out = task.labelled()
    assert len(train) == 200 and len(held_out) == 40 and not set(train) & set(held_out)
    for believed, wanted in (("true", "false"), ("false", "true")):
        trials = list(task.trials(0, lambda texts, b=believed: [b] * len(texts)))
        flips = [t for t in trials if t.protocol == "flip"]
        assert {t.edits for t in flips} == {2, len(flips[-1].memory)}
        rewrites = [q for t in flips for q in t.questions if q.kind == "rewrite"]
        assert {q.answer for q in rewrites} == {wanted}
        for trial in trials:
            told = {s for edit in trial.memory for s in edit}
            assert all(set(q.needed) <= told for q in trial.questions)
            assert not {q.text for q in trial.questions if not q.needed} & told
        entailed = [q for t in trials for q in t.questions if q.kind == "entailed"]
        assert entailed and all(q.answer == "false" and "blue" in q.text for q in entailed)


def test_calibration_and_test_share_no_page(tmp_path: Path) -> None:
    task = FactChecking(write(tmp_path), sizes=(0,))

    def titles(texts: list[str]) -> set[str]:
        return {" ".join(t.removeprefix("It is not true that ").split()[:2]) for t in texts}

    calibration = task.calibration(random.Random(0))
    asked = [q.text for t in task.trials(0, lambda x: ["true"] * len(x)) for q in t.questions]
    learnt = [s.text for s in task.scopes(50, random.Random(0)).stages]
    parts = [titles([q.text for q in calibration.questions]), titles(asked), titles(learnt)]
    assert all(parts) and not (parts[0] & parts[1] or parts[1] & parts[2] or parts[0] & parts[2])


def test_near_misses_are_on_the_pages_of_what_a_protocol_edits(tmp_path: Path) -> None:
    folder = write(tmp_path)
    with (folder / "symmetric_v0.1_full.jsonl").open() as file:
        sides = [json.loads(line) for line in file]
    kept = [row for row in sides if int(row["id"]) % 2]  # every other page has a pair
    (folder / "symmetric_v0.1_full.jsonl").write_text("\n".join(map(json.dumps, kept)))
    task = FactChecking(folder, sizes=(2, 0), edits=4)
    place = {c.text: (c.page, c.line) for part in task.parts.values() for c in part.claims}
    kinds: dict[str, set[str]] = {"flip": set(), "exclude": set()}
    for trial in task.trials(0, lambda texts: ["true"] * len(texts)):
        told = {s.removeprefix("It is not true that ") for edit in trial.memory for s in edit}
        edited = {place[s] for s in told}
        pages = {page for page, _ in edited}
        for question in trial.questions:
            if not question.needed:
                kinds[trial.protocol].add(question.kind)
                assert place[question.text] not in edited
                assert (place[question.text][0] in pages) == (question.kind == "near_miss")
    assert kinds == {"flip": {"near_miss", "far"}, "exclude": {"near_miss", "far"}}
    for part in task.parts.values():
        assert all(pair.line == 3 and int(pair.page.split("_")[1]) % 2 for pair in part.pairs)
