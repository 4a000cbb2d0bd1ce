"""Checkpoints, Muon, the learning rate, and the run around a loop."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seprog.errors import InputError
from seprog.training import checkpoint
from seprog.training.checkpoint import load_checkpoint, save_checkpoint
from seprog.training.learner import Learner
from seprog.training.muon import Muon, orthogonalise
from seprog.training.run import Run, trapezoid

# --- checkpoints ------------------------------------------------------------------------------


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoint"
    assert load_checkpoint(folder) is None
    tensors = {"a": torch.randn(3, 4).T, "b/c": torch.tensor(7), "d": torch.ones(2).bfloat16()}
    save_checkpoint(folder, tensors, {"step": 3, "best": -1.0})
    loaded = load_checkpoint(folder)
    assert loaded is not None and loaded[1] == {"step": 3, "best": -1.0}
    assert loaded[0].keys() == tensors.keys()
    assert all(
        torch.equal(loaded[0][k], v) and loaded[0][k].dtype == v.dtype for k, v in tensors.items()
    )
    save_checkpoint(folder, {"a": torch.zeros(1)}, {"step": 4})
    again = load_checkpoint(folder)
    assert again is not None and again[1] == {"step": 4} and again[0].keys() == {"a"}
    assert [p.name for p in folder.parent.iterdir()] == ["checkpoint"]


class Killed(BaseException):
    """Stands for a power cut."""


def step_of(folder: Path) -> int:
    loaded = load_checkpoint(folder)
    assert loaded is not None
    assert loaded[0]["step"] == loaded[1]["step"]  # both halves are of the same checkpoint
    return int(loaded[1]["step"])


@pytest.mark.parametrize("calls_survived", range(9))
def test_a_run_killed_at_any_moment_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls_survived: int
) -> None:
    folder = tmp_path / "checkpoint"

    def save(step: int) -> None:
        save_checkpoint(folder, {"step": torch.tensor(step)}, {"step": step})

    save(1)
    left = calls_survived

    def deadly(real):
        def call(*args: object, **options: object) -> object:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*args, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", deadly(checkpoint.save_file))
        patch.setattr(shutil, "rmtree", deadly(shutil.rmtree))
        patch.setattr(os, "replace", deadly(os.replace))
        patch.setattr(Path, "write_text", deadly(Path.write_text))
        patch.setattr(Path, "mkdir", deadly(Path.mkdir))
        try:
            save(2)
        except Killed:
            assert step_of(folder) in (1, 2)
            left = calls_survived  # and killed again at the next start
            try:
                save(2)
            except Killed:
                assert step_of(folder) in (1, 2)
    save(3)
    assert step_of(folder) == 3


class Line(torch.nn.Module):
    """Two weight matrices that are to become 0."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = (torch.nn.Parameter(torch.randn(4, 3)) for _ in range(2))

    def loss(self) -> Tensor:
        return (self.first**2).sum() + 2 * (self.second**2).sum()


@pytest.mark.parametrize("both", [True, False])
def test_a_learner_goes_on_as_if_it_had_never_stopped(tmp_path: Path, both: bool) -> None:
    def make() -> tuple[Line, Learner]:
        module = Line()
        muon = Muon([module.first], lr=0.1, weight_decay=0.1)
        others = [module.second] if both else [module.first, module.second]
        named = {"adamw": torch.optim.AdamW(others)} | ({"muon": muon} if both else {})
        return module, Learner(module, tmp_path / "c", **named)

    straight, learner = make()
    assert learner.resume({"size": 3}) == (0, {}, {})
    for _ in range(5):
        learner.step(straight.loss(), 0.1)
    module, learner = make()
    for _ in range(2):
        learner.step(module.loss(), 0.1)
    learner.save(2, {"seen": torch.ones(1)}, {"size": 3})
    module, learner = make()
    step, tensors, state = learner.resume({"size": 3})
    assert step == 2 and tensors["seen"] == 1 and state["size"] == 3
    for _ in range(3):
        learner.step(module.loss(), 0.1)
    assert torch.equal(module.first, straight.first)
    assert torch.equal(module.second, straight.second)
    with pytest.raises(InputError, match="size"):
        learner.resume({"size": 4})


def test_large_gradients_are_clipped(tmp_path: Path) -> None:
    module = Line()
    learner = Learner(module, tmp_path / "c", sgd=torch.optim.SGD(module.parameters()))
    before = torch.cat([module.first, module.second]).detach().clone()
    learner.step(1000 * module.loss(), 0.5)
    moved = torch.cat([module.first, module.second]) - before
    assert moved.norm().item() == pytest.approx(0.5, rel=1e-4)
    assert module.first.grad is None


# --- muon -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 16, 16), (2, 8, 32), (2, 32, 8), (1, 1, 5)])
def test_all_singular_values_come_near_one(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 37
    result = orthogonalise(matrices)
    assert result.shape == matrices.shape
    values = torch.linalg.svdvals(result)
    # Jordan's coefficients trade exactness for speed: values settle between 0.7 and 1.2
    assert values.max() < 1.3
    assert (values > 0.5).float().mean() > 0.9
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    assert ((u @ v) * result).sum() / ((u @ v).norm() * result.norm()) > 0.95


def test_orthogonalising_nothing_gives_nothing() -> None:
    assert torch.equal(orthogonalise(torch.zeros(1, 3, 4)), torch.zeros(1, 3, 4))


def test_muon_goes_downhill() -> None:
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(6, 5)), torch.nn.Parameter(torch.randn(5, 6))]
    untouched = torch.nn.Parameter(torch.randn(2, 2))  # has no gradient
    before = untouched.clone()
    optimizer = Muon([*weights, untouched], lr=0.05)
    losses = []
    for _ in range(200):
        loss = sum((w**2).sum() for w in weights)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[1] < losses[0] and losses[-1] < 0.2 * losses[0]
    assert torch.equal(untouched, before)


def test_every_direction_moves_equally_far() -> None:
    weight = torch.nn.Parameter(torch.zeros(8, 8))
    optimizer = Muon([weight], lr=0.1, momentum=0.0)
    weight.grad = torch.diag(torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8]))
    optimizer.step()
    moved = -weight.detach().diagonal() / (0.1 * 0.2 * 8**0.5)
    assert ((moved > 0.5) & (moved < 1.3)).all()


def test_weights_decay() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.zeros(2, 2)
    Muon([weight], lr=0.5, weight_decay=0.1).step()
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), 0.95))


# --- run --------------------------------------------------------------------------------------


def test_the_learning_rate_is_a_trapezoid() -> None:
    factors = [trapezoid(s, 100, 10, 0.4) for s in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == factors[60] == 1.0
    assert factors[80] == pytest.approx(0.5) and factors[99] == pytest.approx(1 / 40)
    assert factors[:10] == sorted(factors[:10])
    assert factors[60:] == sorted(factors[60:], reverse=True)
    assert trapezoid(100, 100, 10, 0.4) == 0.0


def test_a_run_counts_saves_and_logs(tmp_path: Path) -> None:
    run = Run(tmp_path / "a" / "run", "test", 5)
    saved: list[int] = []
    steps = []
    for step in run.each_step(2, saved.append):
        steps.append(step)
        run.report(step, loss=0.5, known=1)
    assert steps == [2, 3, 4] and saved == [5]
    assert list(run.each_step(5, saved.append)) == [] and saved == [5]
    rows = [json.loads(line) for line in (tmp_path / "a" / "run" / "log.jsonl").open()]
    assert [r["step"] for r in rows] == [2, 3, 4] and rows[0]["loss"] == 0.5


def test_a_run_saves_now_and_then(tmp_path: Path) -> None:
    run, saved = Run(tmp_path, "test", 4, save_every=-1.0), []
    for step in run.each_step(0, saved.append):
        if step == 2:
            break
    assert saved == [1, 2]  # what was done before; the step that was broken off is not counted
