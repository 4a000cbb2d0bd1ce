"""Methods side by side: each is tuned, edits the same, and is asked the same."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

from seprog.bench.contestants import BUDGET, CONTESTANTS, Setting
from seprog.bench.course import Series
from seprog.bench.measure import QUERIES, Costs, first_edits, run
from seprog.bench.metrics import MEANS, Record, harmonic_mean, score
from seprog.bench.progress import watch
from seprog.bench.results import entries, write_json, written
from seprog.bench.workshop import Workshop
from seprog.errors import InputError
from seprog.methods.contract import require_known
from seprog.methods.weights import blocks

TUNING_EDITS = 100
"""Edits that settings are tried on, in the calibration split's names and phrasings."""
TIMED = 10
"""Memories, where there are many, in which queries are timed."""


def evaluate(
    workshop: Workshop,
    edits: Sequence[int],
    methods: Sequence[str],
    seed: int = 0,
    out: Path | None = None,
    answers: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Tune each method, then edit and ask.

    Args:
        workshop: With the base model, which is as before when this returns.
        edits: Numbers of edits; none given: all that there are.
        methods: Names from ``CONTESTANTS``.
        seed: Of edits and probes.
        out: Where the result goes, as JSON; the settings tried are in it.
        answers: Where every single answer goes, as JSON lines.
        progress: Whether to show progress bars.

    Returns:
        The result, as it is written to ``out``.

    Raises:
        InputError: If a method is not known, or not made for the base model or the data set.
    """
    require_known(methods, CONTESTANTS)
    for name in methods:
        CONTESTANTS[name].method.require_fit(workshop.lm)
        if CONTESTANTS[name].twin and workshop.course.reader is None:
            raise InputError(
                f"{name} was to be measured on {workshop.course.name}",
                "a data set that brings a twin of the base model that reads edits",
                "Leave it out",
            )
    more: dict[str, Any] = {}
    if tuned := {n: tune(workshop, n, progress) for n in methods if CONTESTANTS[n].search}:
        more["tuning"] = tuned
    results: list[dict[str, Any]] = []
    records: list[tuple[str, Record]] = []
    edits = edits or workshop.course.sizes(seed)
    for size, name in product(edits, methods):
        setting = tuned[name]["chosen"] if name in tuned else {}
        for protocol, found, costs in measured(workshop, name, setting, size, seed, progress):
            results += entries(name, size, found, costs, protocol)
            records += [(protocol, record) for record in found]
    by = {"model": workshop.lm.fingerprint}
    if any(CONTESTANTS[name].gated for name in methods):
        editor = workshop.editor
        by |= {"generator": editor.generator.fingerprint, "gate": editor.gate.fingerprint}
        more["threshold"] = editor.gate.calibration.threshold
    dataset = workshop.course.name
    return written(edits, methods, dataset, seed, results, records, out, answers, by, **more)


def measured(
    workshop: Workshop, name: str, setting: Setting, size: int, seed: int, progress: bool
) -> Iterator[tuple[str, list[Record], Costs]]:
    """What a method comes to with so many edits at a time, by protocol.

    Args:
        workshop: With the base model.
        name: Of the method.
        setting: How it is made.
        size: Edits at a time.
        seed: Of edits and probes.
        progress: Whether to show progress bars.

    Yields:
        The protocol, every answer, and costs: the mean over its memories.
    """
    contestant, base_says, show = CONTESTANTS[name], workshop.course.base_says, progress
    protocols: dict[str, list[Series]] = {}
    for series in workshop.course.series(size, seed):
        if contestant.method.reads or series.asks:
            protocols.setdefault(series.protocol, []).append(series)
    for protocol, parts in protocols.items():
        start = time.perf_counter()
        method = contestant.make(workshop, setting)
        making = time.perf_counter() - start
        queries, alone = QUERIES // min(TIMED, len(parts)), len(parts) == 1
        found: list[Record] = []
        each: list[Costs] = []
        title = f"{name}, {size:,} edits"
        for i, what in enumerate(watch(parts, title, show and not alone)):
            timed = queries if i < TIMED else 0
            records, costs = run(method, contestant.at_once, what, base_says, alone and show, timed)
            found += records
            each.append(costs)
        mean = _mean(each) | first_edits(method, contestant.at_once, parts[0])
        if (trained := workshop.seconds(contestant.parts)) is not None:
            mean["training_seconds"] = {"value": making + trained, "n": 1}
        yield protocol, found, mean


def _mean(costs: Sequence[Costs]) -> Costs:
    """Over memories; of a single one, as it is."""
    if len(costs) == 1:
        return dict(costs[0])
    mean: Costs = {}
    for name in dict.fromkeys(name for part in costs for name in part):
        found = [part[name] for part in costs if name in part]
        value = statistics.mean(f["value"] for f in found)
        mean[name] = {"value": value, "n": sum(f["n"] for f in found)}
    return mean


def tune(workshop: Workshop, name: str, progress: bool) -> dict[str, Any]:
    """Try a method's settings on a scenario of the calibration split; the best one, and all.

    What was found is kept in the workshop's folder, setting by setting: a run that was stopped goes
    on behind them.
    """
    contestant = CONTESTANTS[name]
    tried_by = repr((TUNING_EDITS, BUDGET, contestant.at_once, contestant.search, MEANS))
    stamp = sha256(tried_by.encode()).hexdigest()[:8]
    kept = workshop.work / "tuning" / f"{name}-{stamp}.json"
    found: dict[str, Any] = {"chosen": None, "tried": []}
    if kept.exists():
        found = json.loads(kept.read_text())
    if found["chosen"] is not None:
        return found
    tried: list[dict[str, Any]] = found["tried"]
    settings = contestant.settings(len(blocks(workshop.lm)))[len(tried) :]
    what = workshop.course.tuning(TUNING_EDITS)
    for setting in watch(settings, f"{name}: settings", progress):
        method = contestant.make(workshop, setting)
        records, _ = run(method, contestant.at_once, what, workshop.course.base_says, queries=0)
        metrics = score([r for r in records if r.when == "after_all"])
        values = {m: metrics[m]["value"] for m in MEANS if m in metrics}
        tried.append({"setting": setting, **values, "harmonic_mean": harmonic_mean(values)})
        write_json(kept, found)
    best = max(tried, key=lambda t: (t["harmonic_mean"], sum(t.get(m, 0.0) for m in MEANS)))
    found["chosen"] = best["setting"]
    write_json(kept, found)
    return found
