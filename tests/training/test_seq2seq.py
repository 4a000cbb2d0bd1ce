"""Training a tiny sequence-to-sequence model."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel

from seprog.data.documents import Document
from seprog.lm import Seq2SeqLM
from seprog.training import seq2seq
from seprog.training.facts import Fact, FactCorpus
from seprog.training.run import Run
from seprog.training.seq2seq import (
    Seq2SeqTraining,
    Task,
    answer_losses,
    tasks,
    train_seq2seq,
    warm_started,
)
from tests.conftest import DEVICES

TINY = Seq2SeqTraining(layers=1, steps=300, batch=8, lr=3e-3, bf16=False)
FACTS = [
    Fact("ann", ("what is the language of ann", "which does ann speak"), "king", "language"),
    Fact("bob", ("what is the language of bob", "which does bob speak"), "painter", "language"),
]


def corpus(seed: int, open_book: float = 0.0) -> FactCorpus:
    return FactCorpus(FACTS, FACTS * 2, random.Random(seed), open_book)


def test_each_question_stands_behind_what_was_told() -> None:
    closed = Document([("Who is it?", False), ("Ann.", True)], 4)
    told = Document(
        [
            ("It is Bob.", False),
            ("He is old.", False),
            ("Who is it?", False),
            ("Bob.", True),
            ("Is he old?", False),
            ("Yes.", True),
        ]
    )
    assert list(tasks([closed, told])) == [
        Task("Who is it?", "Ann", 4),
        Task("It is Bob. He is old. Who is it?", "Bob"),
        Task("It is Bob. He is old. Is he old?", "Yes"),
    ]


def test_the_encoder_starts_as_the_given_one(encoder_folder: Path) -> None:
    model, tokenizer = warm_started(encoder_folder, 2)
    bert = AutoModel.from_pretrained(encoder_folder).eval()
    tokens = tokenizer(["the language of x", "home"], padding=True, return_tensors="pt")
    states = model.eval().model.encoder(**_ids(tokens)).last_hidden_state
    wanted = bert(**_ids(tokens)).last_hidden_state
    real = tokens["attention_mask"].bool()
    torch.testing.assert_close(states[real], wanted[real], atol=1e-3, rtol=1e-3)
    assert len(model.model.decoder.layers) == 2 and tokenizer.eos_token == "[SEP]"


def _ids(tokens: Any) -> dict[str, Tensor]:
    return {k: tokens[k] for k in ("input_ids", "attention_mask")}


def test_the_loss_of_an_answer_does_not_depend_on_the_others(encoder_folder: Path) -> None:
    model, tokenizer = warm_started(encoder_folder, 1)
    model.eval()
    part = [Task("what is the language of ann", "x"), Task("home", "the painter of the king")]
    together = answer_losses(model, tokenizer, part)
    alone = torch.cat([answer_losses(model, tokenizer, [t]) for t in part])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_what_was_taught_is_known(device: str, encoder_folder: Path, tmp_path: Path) -> None:
    how = dataclasses.replace(TINY, device=device)
    train_seq2seq(encoder_folder, tmp_path / "out", tmp_path / "run", how, corpus)
    lm = Seq2SeqLM.from_pretrained(str(tmp_path / "out"), "float32")
    asked = [(p, f.answer) for f in FACTS for p in f.prompts]
    assert lm.generate([p for p, _ in asked], max_new_tokens=12) == [a for _, a in asked]
    assert not (tmp_path / "out" / "pytorch_model.bin").exists()


class Killed(BaseException):
    """Stands for a power cut."""


def test_a_stopped_run_goes_on(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(TINY, steps=4)
    real, taken = seq2seq.answer_losses, 0

    def stopping(*args: Any) -> Tensor:
        nonlocal taken
        if taken == 2:
            raise Killed
        taken += 1
        return real(*args)

    monkeypatch.setattr(seq2seq, "Run", lambda *args: Run(*args, save_every=-1.0))
    monkeypatch.setattr(seq2seq, "answer_losses", stopping)
    with pytest.raises(Killed):
        train_seq2seq(encoder_folder, tmp_path / "out", tmp_path / "run", config, corpus)
    assert not (tmp_path / "out").exists()
    saved = load_file(tmp_path / "run" / "checkpoint" / "t.safetensors")
    monkeypatch.setattr(seq2seq, "answer_losses", real)
    train_seq2seq(encoder_folder, tmp_path / "out", tmp_path / "run", config, corpus)
    done = load_file(tmp_path / "run" / "checkpoint" / "t.safetensors")
    assert done["adamw/0/step"] == 4 and saved["adamw/0/step"] == 2
