"""Training a tiny causal model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from seprog.errors import InputError
from seprog.training.causal import (
    CausalTraining,
    FactMeter,
    grown,
    new_model,
    optimizers,
    token_losses,
)
from seprog.training.packing import Rows

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
