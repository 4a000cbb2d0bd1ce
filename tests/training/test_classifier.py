"""Fine-tuning a classifier on a tiny encoder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from seprog.errors import InputError
from seprog.lm import EncoderModel
from seprog.training import classifier as training
from seprog.training.classifier import ClassifierTraining, read_labelled, train_classifier
from seprog.training.run import Run
from tests.conftest import DEVICES

ROWS = [(f"the {noun} of {letter}", noun) for noun in ("king", "home") for letter in "abcdefghij"]
TINY = ClassifierTraining(steps=60, batch=8, lr=3e-3, bf16=False)


@pytest.mark.parametrize("device", DEVICES)
def test_a_classifier_learns_and_takes_prefixes(
    device: str, encoder_folder: Path, tmp_path: Path
) -> None:
    how = replace(TINY, device=device)
    held_out = [("the king of x", "king"), ("the home of z", "home")]
    out, run = tmp_path / "out", tmp_path / "run"
    assert train_classifier(encoder_folder, ROWS, held_out, out, run, how) == 1.0
    lm = EncoderModel.from_pretrained(str(out), "float32")
    assert lm.labels == ("home", "king") and lm.head == "sequence"
    assert lm.reply([text for text, _ in held_out]) == ["king", "home"]
    rows = [json.loads(line) for line in (run / "log.jsonl").open()]
    assert rows[0]["loss"] > rows[-2]["loss"] and rows[-1]["held_out"] == 1.0
    train_classifier(encoder_folder, ROWS, held_out, tmp_path / "again", run, how)
    again = EncoderModel.from_pretrained(str(tmp_path / "again"), "float32")
    assert again.fingerprint == lm.fingerprint  # nothing was left to do


class Killed(BaseException):
    """Stands for a power cut."""


def test_a_killed_run_goes_on_where_it_was(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    class Counting(Run):
        def report(self, step: int, **values: float) -> None:
            if "loss" in values:
                steps.append(step)
                if step == 40 and steps.count(40) == 1:
                    raise Killed
            super().report(step, **values)

    monkeypatch.setattr(training, "Run", lambda *args: Counting(*args, save_every=-1.0))
    with pytest.raises(Killed):
        train_classifier(encoder_folder, ROWS, ROWS, tmp_path / "out", tmp_path / "run", TINY)
    assert not (tmp_path / "out").exists()
    train_classifier(encoder_folder, ROWS, ROWS, tmp_path / "out", tmp_path / "run", TINY)
    assert steps == [0, 20, 40, 40]
    other = [(text, f"{label}s") for text, label in ROWS]
    with pytest.raises(InputError, match="labels"):
        train_classifier(encoder_folder, other, ROWS, tmp_path / "o", tmp_path / "run", TINY)


def test_one_label_is_none(encoder_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two or more"):
        train_classifier(encoder_folder, ROWS[:10], [], tmp_path / "o", tmp_path / "r", TINY)


def test_labelled_texts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"text": text, "label": label} for text, label in ROWS]
    path.write_text("\n".join(map(json.dumps, rows)))
    train, held_out = read_labelled(path)
    assert held_out == [ROWS[9], ROWS[19]] and len(train) == 18
    path.write_text("\n".join(map(json.dumps, rows[:9])))
    with pytest.raises(InputError, match="9 rows"):
        read_labelled(path)
    path.write_text(json.dumps({"text": "", "label": "x"}))
    with pytest.raises(InputError, match="Row 1"):
        read_labelled(path)
