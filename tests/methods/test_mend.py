"""MEND's network starts as plain gradient descent and learns what an edit should change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seprog.lm import CausalLM, LanguageModel, Seq2SeqLM
from seprog.methods import MEND, Lesson, MendTraining, Request, train_mend
from seprog.methods.mend import MendNet, feed_forward, pairs_of, shapes_of
from seprog.methods.weights import answer_losses, matrix, outputs, trainable
from seprog.training.learner import Learner, Resumed
from seprog.types import Example
from tests.conftest import make_tokenizer
from tests.lm.families import build, build_seq2seq

REQUESTS = [
    Request(f"The capital of {c} is", "X", c, f"The capital of {c} is X.") for c in ("Peru", "Chad")
]


def model_of(family: str) -> LanguageModel:
    if family in ("t5", "bart"):
        return Seq2SeqLM(build_seq2seq(family), make_tokenizer(bos=True))
    return CausalLM(build(family), make_tokenizer(False))


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "opt", "t5", "bart"])
def test_pairs_add_up_to_the_gradient(family: str) -> None:
    """Also where a layer keeps its weights the other way round, and in a padded batch."""
    lm = model_of(family)
    layers = feed_forward(lm)
    assert set(map(id, outputs(lm))) <= set(map(id, layers))
    asked = [REQUESTS[0], Request("Ann is", "Y", "Ann", "Ann is Y.")]
    found = pairs_of(lm, layers, asked)
    parameters = [m.weight for m in layers]
    with trainable(parameters):
        wanted = torch.autograd.grad(answer_losses(lm, asked).sum(), parameters)
    for layer, pairs, gradient in zip(layers, found, wanted, strict=True):
        whole = gradient if matrix(layer) is layer.weight else gradient.T
        went_in, wish = pairs.split([whole.shape[1], whole.shape[0]], dim=1)
        torch.testing.assert_close(wish.T @ went_in, whole, atol=1e-5, rtol=1e-3)
    assert not any(p.requires_grad or p.grad is not None for p in lm.model.parameters())


def test_an_untrained_network_only_normalises(tiny_lm: CausalLM) -> None:
    layers = feed_forward(tiny_lm)
    net = MendNet(shapes_of(layers), rank=4, rate=0.1)
    pairs = pairs_of(tiny_lm, layers, REQUESTS)[0]
    net.note(0, pairs[:5])
    net.note(0, pairs[5:])
    normal = (pairs - pairs.mean(0)) / (pairs.std(0, correction=0) + 1e-7)
    out, into = net.shapes[0]
    went_in, wish = normal.split([into, out], dim=1)
    torch.testing.assert_close(net(0, pairs), -0.1 * wish.T @ went_in, atol=1e-3, rtol=1e-2)


def lessons(seed: int) -> Iterator[Lesson]:
    away = Example((), "Who wrote Hamlet?", "a b", keep=True)
    while True:
        for r in REQUESTS:
            yield Lesson(r, Example((), f"Tell me: {r.prompt}", "X"), away)


@pytest.mark.parametrize("family", ["llama", "bart"])
def test_it_learns_comes_back_and_reverts(family: str, tmp_path: Path) -> None:
    lm, prompt = model_of(family), REQUESTS[0].prompt
    how = MendTraining(depth=1, rank=8, steps=40, batch=2, lr=3e-2, rate=1e-2)
    net = train_mend(lm, lessons, tmp_path, how)
    before, plain = [p.clone() for p in lm.model.parameters()], lm.generate([prompt])
    method = MEND.load(lm, tmp_path)
    for name, value in net.state_dict().items():
        assert torch.equal(method.net.state_dict()[name], value)
    loss = answer_losses(lm, REQUESTS[:1]).item()
    method.apply(REQUESTS[:1])
    assert answer_losses(lm, REQUESTS[:1]).item() < loss / 2
    assert method.bytes_kept() > 0
    method.revert()
    assert all(torch.equal(a, b) for a, b in zip(before, lm.model.parameters(), strict=True))
    assert lm.generate([prompt]) == plain and method.bytes_kept() == 0
    assert not any(m._forward_hooks for m in lm.model.modules())


def test_a_run_that_goes_on_learns_from_other_lessons(
    tiny_lm: CausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    def drawn(seed: int) -> Iterator[Lesson]:
        seeds.append(seed)
        return lessons(seed)

    how = MendTraining(depth=1, rank=4, steps=3, batch=1, seed=10)
    train_mend(tiny_lm, drawn, tmp_path / "whole", how)
    monkeypatch.setattr(Learner, "resume", lambda self, same: Resumed(2, {}, {}))
    train_mend(tiny_lm, drawn, tmp_path / "rest", how)
    assert seeds == [10, 12]
