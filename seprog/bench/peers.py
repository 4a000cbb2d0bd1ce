"""Methods that change weights or states, on the very edits and probes of ``seprog eval atlas``.

Edits come one after another, in the order of the scenario, or so many at a time as a method takes;
some are asked about right after they were written, all of them after the last.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seprog.atlas.scenario import Probe
from seprog.bench.atlas import Plan, entries, plan, written
from seprog.bench.costs import TRIED
from seprog.bench.meters import PeakMemory, editing, perplexity
from seprog.bench.metrics import OUT_OF_SCOPE, Record, score
from seprog.bench.progress import watch
from seprog.bench.workshop import Workshop, request_of
from seprog.methods import (
    FT,
    FTL,
    GRACE,
    MEMIT,
    MEND,
    RECIPE,
    ROME,
    SERAC,
    AlphaEdit,
    EditMethod,
    FineTuningConfig,
    GraceConfig,
    LocatingConfig,
    LoRA,
    Nothing,
)
from seprog.methods.contract import require_known

BUDGET = 12
"""Settings that are tried for each method, at most."""
TUNING_EDITS = 30
"""Edits that settings are tried on, in the calibration split's names and phrasings."""
TUNED_FOR = ("rewrite", "paraphrase", "near_miss", "far")
"""The best setting is the one with the highest mean of these."""

Setting = Mapping[str, Any]


@dataclass(frozen=True)
class Peer:
    """How a method is made, fed and tuned.

    Args:
        make: Given a workshop and a setting.
        at_once: Edits at a time; 0 means all of them.
        search: Per name in a setting, the values to try.
        parts: What the workshop trains for it.
    """

    make: Callable[[Workshop, Setting], EditMethod]
    at_once: int
    search: Mapping[str, Sequence[Any]]
    parts: tuple[str, ...] = ()

    def settings(self) -> list[dict[str, Any]]:
        """Every combination, drawn at random where there are more than the budget."""
        names = list(self.search)
        whole = [dict(zip(names, v, strict=True)) for v in product(*self.search.values())]
        return random.Random(0).sample(whole, min(BUDGET, len(whole)))


def _of(kind: type, setting: Setting) -> Any:
    """A configuration with those parts of a setting that it has."""
    return kind(**{f.name: setting[f.name] for f in fields(kind) if f.name in setting})


def _located(
    method: type[ROME] | type[MEMIT],
) -> Callable[[Workshop, Setting], EditMethod]:
    return lambda w, s: method(w.lm, w.texts, config=_of(LocatingConfig, s))


_LAYERS = [(n - 2, n - 1, n) for n in (-4, -5, -6, -7)]
PEERS = {
    "none": Peer(lambda w, s: Nothing(w.lm), 0, {}),
    "ft": Peer(
        lambda w, s: FT(w.lm, _of(FineTuningConfig, s)),
        1,
        {"lr": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3), "steps": (5, 15, 40)},
    ),
    "ft_l": Peer(
        lambda w, s: FTL(w.lm, s["layer"], s["bound"], _of(FineTuningConfig, s)),
        1,
        {"layer": (-1, -3, -6), "bound": (3e-3, 1e-2, 3e-2, 1e-1), "lr": (5e-3,), "steps": (40,)},
    ),
    "lora": Peer(
        lambda w, s: LoRA(w.lm, s["rank"], _of(FineTuningConfig, s)),
        1,
        {"rank": (4, 16), "lr": (3e-4, 1e-3, 3e-3, 1e-2), "steps": (15, 40)},
    ),
    "rome": Peer(
        _located(ROME), 1, {"layers": _LAYERS, "decay": (0.0, 0.5), "largest": (2.0, 4.0, 8.0)}
    ),
    "memit": Peer(
        _located(MEMIT), 0, {"layers": _LAYERS, "prior": (0.1, 1.0, 10.0), "largest": (2.0, 4.0)}
    ),
    "alphaedit": Peer(
        _located(AlphaEdit),
        100,
        {"layers": _LAYERS, "null": (2e-3, 2e-2, 2e-1), "largest": (2.0, 4.0)},
    ),
    "mend": Peer(
        lambda w, s: MEND.load(w.lm, w.mend(), s["strength"]),
        1,
        {"strength": (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0)},
        ("mend",),
    ),
    "grace": Peer(
        lambda w, s: GRACE(w.lm, _of(GraceConfig, s)),
        1,
        {"layer": (-2, -4, -6), "radius": (1.0, 5.0, 20.0, 80.0)},
    ),
    "serac": Peer(
        lambda w, s: SERAC(w.lm, w.scope_classifier(), w.counterfactual(), s["threshold"]),
        0,
        {"threshold": (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)},
        ("scope", "counterfactual"),
    ),
    "recipe": Peer(
        lambda w, s: RECIPE.load(w.lm, w.encoder, w.recipe(), s["margin"]),
        0,
        {"margin": (-0.3, -0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)},
        ("recipe",),
    ),
}
"""By name; every setting that is not searched for is the paper's or the method's default."""


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
        edits: Numbers of edits.
        methods: Names from ``PEERS``.
        seed: Of edits and probes.
        out: Where the result goes, as JSON; the settings tried are in it.
        answers: Where every single answer goes, as JSON lines.
        progress: Whether to show progress bars.

    Returns:
        The result, as it is written to ``out``; rows as those of ``seprog eval atlas``.

    Raises:
        InputError: If a method is not known.
    """
    require_known(methods, PEERS)
    tuned = {name: _tune(workshop, name, progress) for name in methods}
    results: list[dict[str, Any]] = []
    records: list[Record] = []
    for size in edits:
        what = plan(size, seed)
        for name in methods:
            peer, start = PEERS[name], time.perf_counter()
            method = peer.make(workshop, tuned[name]["chosen"])
            seconds = time.perf_counter() - start + workshop.seconds(peer.parts)
            found, costs = run(method, peer.at_once, what, progress)
            costs |= work(method, peer.at_once, what)
            costs["training_seconds"] = {"value": seconds, "n": 1}
            results += entries(name, size, found, costs)
            records += found
    return written(edits, methods, seed, results, records, out, answers, tuning=tuned)


def _tune(workshop: Workshop, name: str, progress: bool) -> dict[str, Any]:
    """Try a method's settings on a scenario of the calibration split; the best one, and all.

    What was found is kept in the workshop's folder.
    """
    kept = workshop.work / "tuning" / f"{name}.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    peer, what = PEERS[name], plan(TUNING_EDITS, 1, "calibration")
    tried: list[dict[str, Any]] = []
    means: list[float] = []
    for setting in watch(peer.settings(), f"{name}: settings", progress):
        records, _ = run(peer.make(workshop, setting), peer.at_once, what, False)
        metrics = score([r for r in records if r.when == "after_all"])
        values = {m: metrics[m]["value"] for m in TUNED_FOR}
        means.append(statistics.mean(values.values()))
        tried.append({"setting": setting, **values, "mean": means[-1]})
    result = {"chosen": tried[means.index(max(means))]["setting"], "tried": tried}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(result, indent=1) + "\n")
    return result


def run(
    method: EditMethod, at_once: int, what: Plan, progress: bool
) -> tuple[list[Record], dict[str, dict[str, float]]]:
    """Edit with a method and ask; the base model is as before when this returns.

    Returns:
        Every answer, and what edits and queries cost.
    """
    scenario, facts = what.scenario, list(what.scenario.facts.values())
    changes = what.changes
    early = [p for probes in what.early.values() for p in probes]
    far = [p for p in what.probes if p.kind == "far"]
    base = dict(zip(what.probes, _answers(method, what.probes), strict=True))
    early_base = dict(zip(early, _answers(method, early), strict=True))
    change_base = dict(zip(changes.probes, _answers(method, changes.probes), strict=True))
    aside = what.aside([base[p] for p in what.probes])
    logits, before = _logits(method, far), _perplexity(method, aside)
    said: dict[Probe, str] = {}
    step, seconds = at_once or len(facts), 0.0
    for start in watch(range(0, len(facts), step), f"{method.name}: edits", progress):
        part = facts[start : start + step]
        began = time.perf_counter()
        method.apply([request_of(scenario, f) for f in part])
        seconds += time.perf_counter() - began
        asked = [p for f in part for p in what.early.get(f, ())]
        said |= zip(asked, _answers(method, asked), strict=True)
    found = _records(method, what, "right_after", early_base, said, {})
    after = dict(zip(what.probes, _answers(method, what.probes), strict=True))
    same = {p: torch.equal(a, b) for p, a, b in zip(far, logits, _logits(method, far), strict=True)}
    found += _records(method, what, "after_all", base, after, same)
    costs: dict[str, dict[str, float]] = {
        "ms_per_edit": {"value": 1000 * seconds / len(facts), "n": len(facts)},
        "bytes_per_edit": {"value": method.bytes_kept() / len(facts), "n": len(facts)},
        "perplexity_ratio": {"value": _perplexity(method, aside) / before, "n": len(aside)},
    }
    pools = {
        "query_ratio_in_scope": [p for p in what.probes if p.kind not in OUT_OF_SCOPE][:30],
        "query_ratio_out_of_scope": [p for p in what.probes if p.kind in OUT_OF_SCOPE][:30],
    }
    edited = {name: _seconds(method, pool) for name, pool in pools.items()}
    with PeakMemory(method.lm.device) as answering:
        _answers(method, what.probes[:TRIED])
    method.apply([request_of(scenario, new) for new in changes.replaced.values()])
    for fact in changes.taken if method.forgets else ():
        method.forget(request_of(scenario, fact))
    asked = [p for p in changes.probes if method.forgets or p.kind != "forgotten"]
    said = dict(zip(asked, _answers(method, asked), strict=True))
    found += _records(method, what, "after_changes", change_base, said, {})
    method.revert()
    costs["peak_bytes_answering"] = {"value": answering.bytes, "n": TRIED}
    for name, pool in pools.items():
        ratio = edited[name] / _seconds(method, pool)
        costs[name] = {"value": ratio, "n": len(pool)}
    return found, costs


def _records(
    method: EditMethod,
    what: Plan,
    when: str,
    base: Mapping[Probe, str],
    said: Mapping[Probe, str],
    same: Mapping[Probe, bool],
) -> list[Record]:
    scenario = what.scenario
    return [
        Record(
            method.name,
            len(scenario.facts),
            when,
            probe.kind,
            probe.prompt,
            base[probe] if probe.answer is None else probe.answer,
            answer,
            tuple(scenario.statement(f) for f in probe.used),
            bitwise=same.get(probe),
            age=what.age(probe) if when == "after_all" else None,
        )
        for probe, answer in said.items()
    ]


def _answers(method: EditMethod, probes: Sequence[Probe]) -> list[str]:
    found: list[str] = []
    for start in range(0, len(probes), 64):
        found += method.answer([p.prompt for p in probes[start : start + 64]])
    return found


def work(method: EditMethod, at_once: int, what: Plan) -> dict[str, dict[str, float]]:
    """Arithmetic and memory of the first edits; the base model is as before when this returns."""
    first = list(what.scenario.facts.values())[:TRIED]
    requests = [request_of(what.scenario, fact) for fact in first]

    def write() -> None:
        step = at_once or len(requests)
        for start in range(0, len(requests), step):
            method.apply(requests[start : start + step])

    found = editing(write, len(requests), method.lm.device)
    method.revert()
    return found


@torch.no_grad()
def _logits(method: EditMethod, probes: Sequence[Probe]) -> list[Tensor]:
    """Logits of probes, in batches that are always the same."""
    found: list[Tensor] = []
    for start in range(0, len(probes), 32):
        found += method.logits([p.prompt for p in probes[start : start + 32]])
    return found


@torch.no_grad()
def _perplexity(method: EditMethod, said: Sequence[tuple[str, str]]) -> float:
    """Of what is said to prompts, for the model as it is now."""
    return perplexity(method.lm, said, method.logits)


def _seconds(method: EditMethod, probes: Sequence[Probe]) -> float:
    """Median time of one probe by itself."""
    times = []
    for probe in probes:
        began = time.perf_counter()
        method.answer([probe.prompt])
        times.append(time.perf_counter() - began)
    return statistics.median(times)
