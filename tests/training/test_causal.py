"""Training a tiny causal model."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from seprog.data.byte_pairs import byte_pairs
from seprog.data.documents import Document
from seprog.errors import InputError
from seprog.training import causal
from seprog.training.causal import (
    CausalTraining,
    FactMeter,
    Mean,
    grown,
    new_model,
    optimizers,
    token_losses,
    train_causal,
)
from seprog.training.learner import Learner
from seprog.training.packing import Rows
from seprog.training.run import Run
from tests.conftest import DEVICES

TINY = CausalTraining(vocabulary=320, width=32, layers=1, threads=1)


def test_a_packed_document_is_learnt_as_if_it_were_alone() -> None:
    """Also a question among others: as if it stood right behind what was told."""
    model = new_model(TINY, end=0)
    ids = torch.randint(1, 320, (1, 16), generator=torch.Generator().manual_seed(0))
    owner = torch.tensor([[0] * 5 + [1] * 11])
    branch = torch.tensor([[1] * 5 + [0] * 4 + [1] * 4 + [2] * 3])
    positions = torch.tensor([[*range(5), *range(8), 4, 5, 6]])
    learn = torch.ones(1, 16, dtype=torch.bool)
    learn[0, [0, 5, 9, 13]] = False
    facts = torch.where(owner == 0, 3, -1)
    together, of = token_losses(model, Rows(ids, positions, owner, branch, learn, facts))
    assert of.tolist() == [3] * 4 + [-1] * 8
    told = list(range(5, 9))
    texts = [list(range(5)), told, [*told, *range(9, 13)], [*told, *range(13, 16)]]
    for text, new in zip(texts, (4, 3, 3, 2), strict=True):
        logits = model(ids[:, text]).logits[0, :-1]
        alone = torch.nn.functional.cross_entropy(logits, ids[0, text][1:], reduction="none")
        torch.testing.assert_close(together[:new], alone[-new:], atol=1e-4, rtol=1e-4)
        together = together[new:]


def test_a_grown_model_computes_the_same(tmp_path: Path) -> None:
    small = new_model(dataclasses.replace(TINY, layers=2), end=0)
    small.save_pretrained(tmp_path)
    large = grown(new_model(dataclasses.replace(TINY, layers=5, seed=1), end=0), tmp_path)
    ids = torch.arange(1, 9)[None]
    torch.testing.assert_close(large(ids).logits, small(ids).logits)
    for wrong in (dataclasses.replace(TINY, layers=1), dataclasses.replace(TINY, width=64)):
        with pytest.raises(InputError, match="came as the start"):
            grown(new_model(wrong, end=0), tmp_path)


def test_each_weight_has_one_optimizer() -> None:
    model = new_model(TINY, end=0)
    groups = {
        name: {id(p) for group in o.param_groups for p in group["params"]}
        for name, o in optimizers(model, 0.01).items()
    }
    assert not groups["muon"] & groups["adamw"]
    assert groups["muon"] | groups["adamw"] == {id(p) for p in model.parameters()}
    assert id(model.get_input_embeddings().weight) in groups["adamw"]
    assert len(groups["muon"]) == 7


def test_the_meter_follows_each_facts_own_loss() -> None:
    meter = FactMeter(torch.full((4,), 2.0))
    meter.update(torch.tensor([1, 1, -1, 3]), torch.tensor([1.0, 3.0, 9.0, 0.0]))
    assert meter.loss.tolist() == [2.0, 2.0, 2.0, 1.0]
    assert meter.weights() == pytest.approx([2.1, 2.1, 2.1, 1.1])
    meter.update(torch.tensor([-1]), torch.tensor([5.0]))
    assert meter.loss.tolist() == [2.0, 2.0, 2.0, 1.0]


def test_the_rate_falls_to_nothing_as_often_as_asked() -> None:
    config = dataclasses.replace(TINY, steps=1000, again=2, lr=1.0, decay=0.5)
    assert config.ends() == [700, 850, 1000]
    rates = [config.rate(s) for s in range(1000)]
    assert max(rates[:700]) == 1.0
    for end in config.ends():
        assert 0 < rates[end - 1] < 0.01
    assert rates[700:850] == rates[850:] and max(rates[700:]) == pytest.approx(0.6 * 113 / 150)
    assert dataclasses.replace(config, again=0).ends() == [1000]


def test_the_mean_is_of_the_weights_at_each_moment() -> None:
    model = torch.nn.Linear(3, 2)
    mean, seen = Mean({}), []
    for _ in range(3):
        torch.nn.init.normal_(model.weight)
        mean.add(model)
        seen.append(model.weight.detach().clone())
    torch.testing.assert_close(mean.weights["weight"], torch.stack(seen).mean(0))
    assert mean.count == 3


@dataclasses.dataclass
class Letters:
    """A corpus of one fact."""

    weights: list[float] = dataclasses.field(default_factory=lambda: [1.0])

    def __iter__(self) -> Iterator[Document]:
        while True:
            yield Document([("a b", False), ("c", True)], 0)


class Killed(BaseException):
    """Stands for a power cut."""


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stop", [5, 17])
def test_a_stopped_run_goes_on_to_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, device: str
) -> None:
    """Whether it is stopped before the first end of the rate or between two."""
    config = dataclasses.replace(
        TINY, steps=20, rows=2, length=16, bf16=False, compile=False, device=device
    )
    assert config.ends() == [14, 17, 20]
    tokenizer = byte_pairs(iter(["a b c"] * 3), 320)
    real, taken = Learner.step, 0

    def train(name: str) -> dict[str, Tensor]:
        out = tmp_path / name
        train_causal(out, tmp_path / f"{name}.run", config, lambda seed: Letters(), tokenizer)
        return load_file(out / "model.safetensors")

    def stopping(*args: Any) -> None:
        nonlocal taken
        if taken == stop:
            raise Killed
        taken += 1
        real(*args)

    whole = train("whole")
    monkeypatch.setattr(causal, "Run", lambda *args: Run(*args, save_every=-1.0))
    monkeypatch.setattr(Learner, "step", stopping)
    with pytest.raises(Killed):
        train("stopped")
    monkeypatch.setattr(Learner, "step", real)
    again = train("stopped")
    assert again.keys() == whole.keys()
    for key, value in whole.items():
        assert torch.equal(again[key], value), key


@pytest.mark.skipif(not any(shutil.which(c) for c in causal.COMPILERS), reason="no C++ compiler")
def test_compiled_layers_compute_the_same(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, steps=3, rows=2, length=16, bf16=False)
    tokenizer = byte_pairs(iter(["a b c"] * 3), 320)
    found = []
    for compile in (False, True):
        out = tmp_path / str(compile)
        run = tmp_path / f"{compile}.run"
        given = dataclasses.replace(config, compile=compile)
        train_causal(out, run, given, lambda seed: Letters(), tokenizer)
        found.append(load_file(out / "model.safetensors"))
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, atol=0.01, rtol=0.02)
