"""Reading LeapOfThought."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seprog.data.leapofthought import (
    CALIBRATION_CLASSES,
    SAY,
    Property,
    calibration_and_test,
    load_leaps,
)
from seprog.errors import InputError
from tests.data.leaps import row, write


def test_a_row_is_read(tmp_path: Path) -> None:
    leap = load_leaps(write(tmp_path), "test")[0]
    assert leap.phrase == "A bia has a xylem." and leap.answer and leap.member == "bia"
    assert leap.premise == Property("bird", "meronym", "xylem", True)
    assert leap.premise.statement == leap.premise.claim == "A bird has a xylem."
    assert leap.rule is not None and leap.rule.statement == "A bia is a bird."
    assert leap.others == {"alcohol"}


def test_a_bare_statement_has_neither_premise_nor_rule(tmp_path: Path) -> None:
    bare = [leap for leap in load_leaps(write(tmp_path), "train") if leap.premise is None]
    assert len(bare) == 16 and all(leap.rule is None for leap in bare)


@pytest.mark.parametrize("predicate", SAY)
@pytest.mark.parametrize("holds", [True, False])
def test_the_opposite_of_a_property(predicate: str, holds: bool) -> None:
    thing = Property("music", predicate, "xylem", holds)
    assert thing.flipped().flipped() == thing and thing.flipped().claim == thing.claim
    assert {thing.statement, thing.flipped().statement} == {
        f"A music {verb} xylem." for verb in SAY[predicate]
    }
    assert (thing.claim == thing.statement) == holds


def test_calibration_and_test_share_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path)
    train, dev, test = (load_leaps(folder, s) for s in ("train", "dev", "test"))
    calibration, reported = calibration_and_test(dev, test, [*train, test[5]])
    for part, inside in ((calibration, True), (reported, False)):
        assert part
        assert all((x.premise.subject in CALIBRATION_CLASSES) == inside for x in part if x.premise)
    assert not {x.rule for x in calibration} & {x.rule for x in reported}
    assert test[5] not in reported and test[6] in reported


def test_a_wrong_row_is_named(tmp_path: Path) -> None:
    good = row("ba", "bird", "meronym", "wing", True)
    for wrong in (
        {**good, "answer": 2},
        {**good, "phrase": " "},
        {"phrase": "A ba has a wing.", "answer": 1},
        row("ba", "bird", "meronym", "wing", True)
        | {
            "metadata": {
                **good["metadata"],
                "property": {**good["metadata"]["property"], "predicate": "likes"},
            }
        },
        [1],
    ):
        (tmp_path / "dev.jsonl").write_text(f"{json.dumps(good)}\n\n{json.dumps(wrong)}\n")
        with pytest.raises(InputError, match=r"Row 3 of .*dev\.jsonl"):
            load_leaps(tmp_path, "dev")
    (tmp_path / "dev.jsonl").write_text("not json")
    with pytest.raises(InputError, match="Row 1"):
        load_leaps(tmp_path, "dev")


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.jsonl"):
        load_leaps(tmp_path, "train")
    (tmp_path / "train.jsonl.gz").write_bytes(b"\x1f\x8bnot gzip")
    with pytest.raises(InputError, match="could not be read"):
        load_leaps(tmp_path, "train")
