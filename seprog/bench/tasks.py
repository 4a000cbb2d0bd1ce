"""The data sets that trials are run on, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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


def _leapofthought(data: Path, threads: int, bf16: bool) -> Task:
    return LeapOfThought(data, how=ClassifierTraining(threads=threads, bf16=bf16))


def _fever(data: Path, threads: int, bf16: bool) -> Task:
    return FactChecking(data, how=ClassifierTraining(threads=threads, bf16=bf16))


def _taught(task: Callable[[Path, Any], Task], config: Any) -> Callable[[Path, int, bool], Task]:
    """A task whose base model is taught as its configuration says."""

    def make(data: Path, threads: int, bf16: bool) -> Task:
        how = replace(config.model, threads=threads, bf16=bf16)
        return task(data, replace(config, model=how))

    return make


TASKS: dict[str, Callable[[Path, int, bool], Task]] = {
    "leapofthought": _leapofthought,
    "fever": _fever,
    "counterfact": _taught(CounterFact, CounterFactBench()),
    "knowedit": _taught(KnowEdit, KnowEditBench()),
    "mquake": _taught(MQuAKE, MQuAKEBench()),
    "zsre": _taught(ZsRE, ZsREBench()),
}
"""Given a folder with the data, CPU threads and whether to multiply in bfloat16, a task."""


def bench_of(
    seeds: tuple[int, ...],
    methods: tuple[str, ...],
    edits: tuple[int, ...],
    threads: int,
    bf16: bool,
) -> TrialBench:
    """Trials of some methods (none named: all) with so many CPU threads."""
    config = TrialBench(seeds=seeds, edits=edits)
    return replace(
        config,
        methods=methods or config.methods,
        generator=replace(config.generator, threads=threads, bf16=bf16),
        gate=replace(config.gate, threads=threads, bf16=bf16),
    )
