"""The data sets that trials are run on, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from seprog.bench.counterfact import CounterFact, CounterFactBench
from seprog.bench.fever import FactChecking
from seprog.bench.knowedit import KnowEdit, KnowEditBench
from seprog.bench.leapofthought import LeapOfThought
from seprog.bench.mquake import MQuAKE, MQuAKEBench
from seprog.bench.seeds import TrialBench
from seprog.bench.trials import Task
from seprog.bench.zsre import ZsRE, ZsREBench
from seprog.training.classifier import ClassifierTraining
from seprog.training.compute import Compute


def _leapofthought(data: Path, on: Compute) -> Task:
    return LeapOfThought(data, how=ClassifierTraining(**asdict(on)))


def _fever(data: Path, on: Compute) -> Task:
    return FactChecking(data, how=ClassifierTraining(**asdict(on)))


def _taught(task: Callable[[Path, Any], Task], config: Any) -> Callable[[Path, Compute], Task]:
    """A task whose base model is taught as its configuration says."""

    def make(data: Path, on: Compute) -> Task:
        return task(data, replace(config, model=replace(config.model, **asdict(on))))

    return make


TASKS: dict[str, Callable[[Path, Compute], Task]] = {
    "leapofthought": _leapofthought,
    "fever": _fever,
    "counterfact": _taught(CounterFact, CounterFactBench()),
    "knowedit": _taught(KnowEdit, KnowEditBench()),
    "mquake": _taught(MQuAKE, MQuAKEBench()),
    "zsre": _taught(ZsRE, ZsREBench()),
}
"""Given a folder with the data, and what to compute on, a task."""


def bench_of(
    seeds: tuple[int, ...],
    methods: tuple[str, ...],
    edits: tuple[int, ...],
    on: Compute,
) -> TrialBench:
    """Trials of some methods (none named: all)."""
    config = TrialBench(seeds=seeds, edits=edits)
    return replace(
        config,
        methods=methods or config.methods,
        generator=replace(config.generator, **asdict(on)),
        gate=replace(config.gate, **asdict(on)),
    )
