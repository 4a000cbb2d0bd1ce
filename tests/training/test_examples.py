"""Examples to learn from: Atlas' own, and a user's file."""

from __future__ import annotations

import json
import random
from itertools import islice
from pathlib import Path

import pytest

from seprog.atlas.world import Split, load_world
from seprog.errors import InputError
from seprog.training.examples import MIX, STRANGE, atlas_examples, file_examples
from seprog.types import Example

WORLD = load_world()


def write(path: Path, count: int, **changes: object) -> Path:
    rows = [
        {
            "edits": [f"The home of P{i} is Zed.", "No."],
            "prompt": f"Where is P{i}?",
            "answer": "Zed",
        }
        for i in range(count)
    ]
    path.write_text("\n".join(json.dumps(r | changes) for r in rows) + "\n")
    return path


def test_atlas_examples_are_of_every_kind_in_their_proportion() -> None:
    examples = list(islice(atlas_examples(WORLD, "train", random.Random(0)), 24 * 25))
    strange = [e for e in examples if e.kind == "strange"]
    assert len(strange) / len(examples) == pytest.approx(STRANGE, abs=0.08)
    assert all(e.answer and 1 <= len(e.edits) <= 3 for e in strange)
    plain = [e for e in examples if e.kind != "strange"]
    share = {k: sum(e.kind == k for e in plain) / len(plain) for k in MIX}
    assert sum(share.values()) == pytest.approx(1.0)
    assert all(share[k] == pytest.approx(MIX[k], abs=0.08) for k in MIX)
    assert sum(MIX.values()) == pytest.approx(1.0)


def test_a_share_of_the_training_examples_is_in_more_writers_phrasings() -> None:
    def prompts(others: float, split: Split = "train") -> set[str]:
        found = atlas_examples(WORLD, split, random.Random(0), others=others)
        return {e.prompt for e in islice(found, 24 * 10)}

    assert prompts(1.0) != prompts(0.0)
    assert prompts(1.0, "calibration") == prompts(0.0, "calibration")


def test_in_scope_examples_carry_what_their_answer_rests_on() -> None:
    for example in islice(atlas_examples(WORLD, "calibration", random.Random(1)), 24 * 20):
        assert 1 <= len(example.edits) <= 8 and len(set(example.edits)) == len(example.edits)
        assert all(e.endswith(".") for e in example.edits)
        if example.kind in ("near_miss", "far"):
            assert example.answer is None
        else:
            assert example.answer
        if example.kind in ("rewrite", "paraphrase"):
            assert any(e.endswith(f"{example.answer}.") for e in example.edits)
        if example.kind == "rewrite":
            assert f"{example.prompt} {example.answer}." in example.edits
        if example.kind == "composed":
            assert len(example.edits) >= 2


def test_the_seed_decides_the_examples() -> None:
    one, two, other = (
        list(islice(atlas_examples(WORLD, "train", random.Random(s)), 50)) for s in (0, 0, 1)
    )
    assert one == two != other


def test_a_file_is_read_without_end_and_a_tenth_is_held_out(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", 20)
    held = list(islice(file_examples(path, random.Random(0), True), 6))
    assert {e.prompt for e in held} == {"Where is P9?", "Where is P19?"}
    seen = list(islice(file_examples(path, random.Random(0), False), 54))
    prompts = [e.prompt for e in seen]
    for start in (0, 18, 36):
        assert len(set(prompts[start : start + 18])) == 18
    assert not {e.prompt for e in held} & set(prompts)
    assert prompts[:18] != prompts[18:36]  # another order each time
    assert held[0] == Example(held[0].edits, held[0].prompt, "Zed", "example")


def test_an_answer_may_be_null_and_lines_may_be_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", 12, answer=None, prompt="line\u2028separator")
    path.write_text("\n\n" + path.read_text().replace("\\u2028", "\u2028") + "  \n")
    found = next(file_examples(path, random.Random(0), False))
    assert found.answer is None and found.prompt == "line\u2028separator"


GOOD = {"edits": ["It is so."], "prompt": "Is it?", "answer": "yes"}


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "7",
        '"text"',
        json.dumps({"prompt": "Is it?", "answer": "yes"}),
        json.dumps({"edits": ["It is so."], "answer": "yes"}),
        json.dumps({"edits": ["It is so."], "prompt": "Is it?"}),
        json.dumps(GOOD | {"edits": []}),
        json.dumps(GOOD | {"edits": "It is so."}),
        json.dumps(GOOD | {"edits": [7]}),
        json.dumps(GOOD | {"edits": [" "]}),
        json.dumps(GOOD | {"edits": None}),
        json.dumps(GOOD | {"prompt": None}),
        json.dumps(GOOD | {"prompt": ""}),
        json.dumps(GOOD | {"answer": 7}),
    ],
)
@pytest.mark.parametrize("held_out", [True, False])
def test_a_bad_line_is_named(tmp_path: Path, line: str, held_out: bool) -> None:
    path = write(tmp_path / "data.jsonl", 20)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], "", line, *lines[4:]]))
    with pytest.raises(InputError, match=r"Row 6 of .*data\.jsonl") as raised:
        next(file_examples(path, random.Random(0), held_out))
    assert raised.value.expected and raised.value.advice


@pytest.mark.parametrize("count", [0, 9])
def test_a_file_that_is_too_short_is_refused(tmp_path: Path, count: int) -> None:
    path = write(tmp_path / "data.jsonl", count)
    with pytest.raises(InputError, match="at least 10"):
        next(file_examples(path, random.Random(0), True))
