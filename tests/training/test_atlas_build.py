"""Building a very small Atlas, end to end."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from seprog.atlas.build import AtlasConfig, build
from seprog.atlas.corpus import Corpus
from seprog.atlas.tokens import train_tokenizer
from seprog.atlas.world import load_world
from seprog.lm import CausalLM
from seprog.training import causal
from seprog.training.checkpoint import load_checkpoint
from seprog.training.learner import Learner
from seprog.training.run import Run

TINY = AtlasConfig(
    vocabulary=320, width=32, layers=1, steps=4, rows=2, length=96, threads=1, compile=False
)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    corpus = Corpus(load_world(), random.Random(0))
    train_tokenizer(corpus, TINY.vocabulary, 40).save_pretrained(folder)
    return folder


@pytest.fixture
def run_folder(tmp_path: Path, tokenizer_folder: Path) -> Path:
    """A run whose tokenizer is there already; a new one reads twenty thousand documents."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tokenizer").symlink_to(tokenizer_folder)
    return tmp_path / "run"


def test_atlas_is_built_and_can_be_loaded(tmp_path: Path, run_folder: Path) -> None:
    assert build(tmp_path / "out", run_folder, TINY) == tmp_path / "out"
    lm = CausalLM.from_pretrained(str(tmp_path / "out"), dtype="float32")
    assert lm.positions == "rotary" and lm.n_positions == 512
    assert lm.tokens.leading == [] and lm.tokenizer.eos_token == "<end>"
    assert len(lm.generate(["The capital of Peru is"], max_new_tokens=4)) == 1
    assert lm.model.config.tie_word_embeddings and lm.model.config.eos_token_id == 0
    assert json.loads((tmp_path / "out" / "training.json").read_text())["vocabulary"] == 320
    rows = [json.loads(line) for line in (run_folder / "log.jsonl").open()]
    assert rows[0]["step"] == 0 and {"facts", "known", "lr"} <= rows[0].keys()
    again = CausalLM.from_pretrained(str(build(tmp_path / "again", run_folder, TINY)), "float32")
    assert again.fingerprint == lm.fingerprint  # nothing was left to do


class Killed(BaseException):
    """Stands for a power cut."""


def test_a_killed_build_goes_on_where_it_was(
    tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., None] = Learner.step
    steps: list[str] = []

    def counted(*args: object) -> None:
        if len(steps) == 2:
            steps.append("killed")
            raise Killed
        steps.append("step")
        real(*args)

    def eager(folder: Path, title: str, count: int) -> Run:
        return Run(folder, title, count, save_every=-1.0)

    monkeypatch.setattr(causal, "Run", eager)
    monkeypatch.setattr(Learner, "step", counted)
    with pytest.raises(Killed):
        build(tmp_path / "out", run_folder, TINY)
    assert not (tmp_path / "out").exists()
    saved = load_checkpoint(run_folder / "checkpoint")
    assert saved is not None and saved[1]["step"] == 2
    build(tmp_path / "out", run_folder, TINY)
    assert steps == ["step", "step", "killed", "step", "step"]
    done = load_checkpoint(run_folder / "checkpoint")
    assert done is not None and done[1]["step"] == 4
    assert not torch.equal(done[0]["meter"], saved[0]["meter"])
    lm = CausalLM.from_pretrained(str(tmp_path / "out"), dtype="float32")
    embeddings = lm.model.get_input_embeddings().weight
    torch.testing.assert_close(embeddings, done[0]["mean/lm_head.weight"].bfloat16().float())


def test_a_build_goes_on_from_another(tmp_path: Path, run_folder: Path) -> None:
    first = build(tmp_path / "first", run_folder, TINY)
    none = dataclasses.replace(TINY, layers=2, steps=1, lr=0.0)
    second = build(tmp_path / "second", tmp_path / "run2", none, start_from=first)
    one, two = (CausalLM.from_pretrained(str(p), "float32") for p in (first, second))
    ids = torch.arange(1, 9)[None]
    torch.testing.assert_close(one.model(ids).logits, two.model(ids).logits)
    assert one.tokenizer.get_vocab() == two.tokenizer.get_vocab()
    quick = dataclasses.replace(TINY, lr=0.1)
    whole = build(tmp_path / "whole", tmp_path / "run3", quick, start_from=first)
    halfway = dataclasses.replace(quick, share=0.5)
    half = build(tmp_path / "half", tmp_path / "run4", halfway, start_from=first)
    begin, between, there = (load_file(p / "model.safetensors") for p in (first, half, whole))
    for name, weights in between.items():
        torch.testing.assert_close(weights, (begin[name] + there[name]) / 2, rtol=0.01, atol=3e-4)
    embedded = "model.embed_tokens.weight"
    assert (begin[embedded] - there[embedded]).abs().mean() > 0.002
    gone = tmp_path / "gone"  # what a run began with is not needed to go on
    third = build(tmp_path / "third", tmp_path / "run2", none, start_from=gone)
    assert CausalLM.from_pretrained(str(third), "float32").fingerprint == two.fingerprint
