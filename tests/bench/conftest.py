"""Benches run on a tiny encoder, with the least training there is."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from seprog.bench.seeds import TrialBench


@pytest.fixture(autouse=True)
def _quickly_collected() -> Iterator[None]:
    """Meters of memory collect garbage first; what libraries hold is none, and takes long."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def small_encoder(encoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a bench or a gate's training takes the packaged encoder, it gets a tiny one."""
    from seprog.bench import evaluation, measure, seeds, workshop
    from seprog.text_encoder import TextEncoder
    from seprog.training import gate

    for module in (seeds, workshop, gate):
        monkeypatch.setattr(
            module, "TextEncoder", lambda device: TextEncoder(encoder_folder, device)
        )
    monkeypatch.setattr(evaluation, "QUERIES", 2)
    monkeypatch.setattr(evaluation, "TIMED", 1)
    monkeypatch.setattr(measure, "TRIED", 1)


@pytest.fixture
def one_step(small_encoder: None, monkeypatch: pytest.MonkeyPatch) -> TrialBench:
    """One seed, and a single step for generator and gate."""
    from seprog.bench import seeds
    from seprog.training.gate import GateTraining
    from seprog.training.generator import GeneratorTraining

    monkeypatch.setattr(seeds, "RATE", 0.4)
    return seeds.TrialBench(
        seeds=(0,),
        generator=GeneratorTraining(summary=2, rank=2, steps=1, batch=2, check_every=1, refine=1),
        gate=GateTraining(scenarios=1, edits=4, steps=1, groups=2, bf16=False),
    )
