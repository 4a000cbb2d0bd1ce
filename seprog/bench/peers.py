"""Methods that change weights or states, on what seprog is measured on.

Edits come one after another, in the order of their series, or so many at a time as a method takes;
some are asked about right after they were written, all of them after the last.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seprog.bench.atlas import entries, written
from seprog.bench.costs import TRIED, query_costs
from seprog.bench.course import Series
from seprog.bench.forced import Score, forced_scores
from seprog.bench.meters import PeakMemory, editing, perplexity
from seprog.bench.metrics import MEANS, OUT_OF_SCOPE, Record, harmonic_mean, score
from seprog.bench.progress import watch
from seprog.bench.trials import Question
from seprog.bench.workshop import Workshop
from seprog.errors import InputError
from seprog.lm import CausalLM, LanguageModel
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
from seprog.methods.contract import LONGEST_ANSWER, Forced, require_known
from seprog.methods.weights import blocks
from seprog.types import Example

BUDGET = 12
"""Settings that are tried for each method, at most."""
TUNING_EDITS = 100
"""Edits that settings are tried on, in the calibration split's names and phrasings."""
CONTEXTS = 4
"""Texts of the base model's own that ROME, MEMIT and AlphaEdit look for a state behind, too."""
QUERIES = 30
"""Questions in scope, and out of it, whose time is taken."""
TIMED = 10
"""Memories, where there are many, in which queries are timed."""
ASIDE = 100
"""Far questions that perplexity is taken over, at most."""

Setting = Mapping[str, Any]


@dataclass(frozen=True)
class Peer:
    """How a method is made, fed and tuned.

    Args:
        method: What is made.
        make: Given a workshop and a setting.
        at_once: Edits at a time; 0 means all of them.
        search: Per name in a setting, the values to try.
        parts: What the workshop trains for it.
    """

    method: type[EditMethod]
    make: Callable[[Workshop, Setting], EditMethod]
    at_once: int
    search: Mapping[str, Sequence[Any]]
    parts: tuple[str, ...] = ()

    def settings(self, depth: int) -> list[dict[str, Any]]:
        """Every combination, drawn at random where there are more than the budget.

        Args:
            depth: Layers of the base model; what names a layer that it lacks is left out.

        Raises:
            InputError: If nothing is left.
        """
        names = list(self.search)
        whole = [dict(zip(names, v, strict=True)) for v in product(*self.search.values())]
        whole = [s for s in whole if _deepest(s) <= depth]
        if not whole:
            raise InputError(
                f"A base model of {depth} layers came",
                "one with the layers that the method is tried at",
                "Choose a deeper one, or another method",
            )
        return random.Random(0).sample(whole, min(BUDGET, len(whole)))


def _deepest(setting: Setting) -> int:
    """Layers that a model must have for a setting, whose layers count from the last."""
    layers = (setting.get("layer", 0), *setting.get("layers", ()))
    return max(-layer for layer in layers)


def _of(kind: type, setting: Setting) -> Any:
    """A configuration with those parts of a setting that it has."""
    return kind(**{f.name: setting[f.name] for f in fields(kind) if f.name in setting})


def _located(
    method: type[ROME] | type[MEMIT],
) -> Callable[[Workshop, Setting], EditMethod]:
    return lambda w, s: method(w.causal, w.texts, w.texts[:CONTEXTS], _of(LocatingConfig, s))


_LAYERS = [(n - 2, n - 1, n) for n in (-4, -5, -6, -7)]
PEERS = {
    "none": Peer(Nothing, lambda w, s: Nothing(w.lm), 1, {}),
    "ft": Peer(
        FT,
        lambda w, s: FT(w.lm, _of(FineTuningConfig, s)),
        1,
        {"lr": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3), "steps": (5, 15, 40)},
    ),
    "ft_l": Peer(
        FTL,
        lambda w, s: FTL(w.lm, s["layer"], s["bound"], _of(FineTuningConfig, s)),
        1,
        {"layer": (-1, -3, -6), "bound": (1e-2, 3e-2, 1e-1, 3e-1), "lr": (5e-3,), "steps": (40,)},
    ),
    "lora": Peer(
        LoRA,
        lambda w, s: LoRA(w.lm, s["rank"], _of(FineTuningConfig, s)),
        1,
        {"rank": (4, 16), "lr": (3e-4, 1e-3, 3e-3, 1e-2), "steps": (15, 40)},
    ),
    "rome": Peer(
        ROME,
        _located(ROME),
        1,
        {"layers": _LAYERS, "decay": (0.0, 0.5), "largest": (2.0, 4.0, 8.0)},
    ),
    "memit": Peer(
        MEMIT,
        _located(MEMIT),
        0,
        {"layers": _LAYERS, "prior": (0.15, 1.5, 15.0), "largest": (0.75, 2.0, 4.0)},
    ),
    "alphaedit": Peer(
        AlphaEdit,
        _located(AlphaEdit),
        100,
        {"layers": _LAYERS, "null": (2e-2, 2e-1), "ridge": (1e-2, 0.1, 1.0, 10.0)},
    ),
    "mend": Peer(
        MEND,
        lambda w, s: MEND.load(w.causal, w.mend(), s["strength"]),
        1,
        {"strength": (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0)},
        ("mend",),
    ),
    "grace": Peer(
        GRACE,
        lambda w, s: GRACE(w.lm, _of(GraceConfig, s)),
        1,
        {"layer": (-2, -4, -6), "radius": (5.0, 20.0, 80.0, 320.0)},
    ),
    "serac": Peer(
        SERAC,
        lambda w, s: SERAC(w.lm, w.scope_classifier(), w.counterfactual(), s["threshold"]),
        1,
        {"threshold": (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)},
        ("scope", "counterfactual"),
    ),
    "recipe": Peer(
        RECIPE,
        lambda w, s: RECIPE.load(w.causal, w.encoder, w.recipe(), s["margin"]),
        1,
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
        edits: Numbers of edits; none given: all that there are.
        methods: Names from ``PEERS``.
        seed: Of edits and probes.
        out: Where the result goes, as JSON; the settings tried are in it.
        answers: Where every single answer goes, as JSON lines.
        progress: Whether to show progress bars.

    Returns:
        The result, as it is written to ``out``; rows as those of ``seprog eval atlas``.

    Raises:
        InputError: If a method is not known, or not made for the base model.
    """
    require_known(methods, PEERS)
    for name in methods:
        PEERS[name].method.require_fit(workshop.lm)
    tuned = {name: _tune(workshop, name, progress) for name in methods}
    results: list[dict[str, Any]] = []
    records: list[tuple[str, Record]] = []
    course = workshop.course
    edits = edits or course.sizes(seed)
    for size in edits:
        protocols: dict[str, list[Series]] = {}
        for series in course.series(size, seed):
            protocols.setdefault(series.protocol, []).append(series)
        for (protocol, parts), name in product(protocols.items(), methods):
            peer, start = PEERS[name], time.perf_counter()
            method = peer.make(workshop, tuned[name]["chosen"])
            making = time.perf_counter() - start
            found, costs = _each(method, peer.at_once, parts, progress)
            costs |= work(method, peer.at_once, parts[0])
            if (trained := workshop.seconds(peer.parts)) is not None:
                costs["training_seconds"] = {"value": making + trained, "n": 1}
            results += entries(name, size, found, costs, protocol)
            records += [(protocol, record) for record in found]
    by = {"model": workshop.lm.fingerprint}
    return written(
        edits, methods, course.name, seed, results, records, out, answers, by, tuning=tuned
    )


def _each(
    method: EditMethod, at_once: int, series: Sequence[Series], progress: bool
) -> tuple[list[Record], dict[str, dict[str, float]]]:
    """Edit and ask, series by series; costs are the mean over them."""
    queries = QUERIES // min(TIMED, len(series))
    done = [
        run(method, at_once, what, progress, queries if i < TIMED else 0)
        for i, what in enumerate(series)
    ]
    costs = [costs for _, costs in done]
    mean = {}
    for name in dict.fromkeys(name for part in costs for name in part):
        found = [part[name] for part in costs if name in part]
        value = statistics.mean(f["value"] for f in found)
        mean[name] = {"value": value, "n": sum(f["n"] for f in found)}
    return [record for records, _ in done for record in records], mean


def _tune(workshop: Workshop, name: str, progress: bool) -> dict[str, Any]:
    """Try a method's settings on a scenario of the calibration split; the best one, and all.

    What was found is kept in the workshop's folder.
    """
    peer = PEERS[name]
    tried_by = repr((TUNING_EDITS, BUDGET, peer.at_once, peer.search, MEANS))
    stamp = sha256(tried_by.encode()).hexdigest()[:8]
    kept = workshop.work / "tuning" / f"{name}-{stamp}.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    what = workshop.course.tuning(TUNING_EDITS)
    tried: list[dict[str, Any]] = []
    depth = len(blocks(workshop.lm))
    for setting in watch(peer.settings(depth), f"{name}: settings", progress):
        records, _ = run(peer.make(workshop, setting), peer.at_once, what, False, queries=0)
        metrics = score([r for r in records if r.when == "after_all"])
        values = {m: metrics[m]["value"] for m in MEANS if m in metrics}
        mean = harmonic_mean(values)
        tried.append({"setting": setting, **values, "harmonic_mean": mean})
    best = max(tried, key=lambda t: (t["harmonic_mean"], sum(t.get(m, 0.0) for m in MEANS)))
    result = {"chosen": best["setting"], "tried": tried}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(result, indent=1) + "\n")
    return result


def run(
    method: EditMethod, at_once: int, what: Series, progress: bool, queries: int = QUERIES
) -> tuple[list[Record], dict[str, dict[str, float]]]:
    """Edit with a method and ask; the base model is as before when this returns.

    Args:
        method: Without edits.
        at_once: Edits at a time; 0 means all of them.
        what: The edits, and what is asked.
        progress: Whether to show a progress bar.
        queries: Questions in scope, and out of it, whose time is taken, at most; 0 measures no
            queries, nor their memory.

    Returns:
        Every answer, and what edits and queries cost.
    """
    questions, edits = what.questions, what.edits
    early = [q for asked in what.early.values() for q in asked]
    far = [q for q in questions if q.kind == "far"]
    base = _answers(method, questions)
    early_base = dict(zip(early, _answers(method, early), strict=True))
    later_base = dict(zip(what.later, _answers(method, what.later), strict=True))
    aside = [(q.text, a) for q, a in zip(questions, base, strict=True) if q.kind == "far" and a]
    aside = aside[:ASIDE] if isinstance(method.lm, CausalLM) else []
    adapter: Any = type(method.lm)
    plain = adapter(deepcopy(method.lm.model), method.lm.tokenizer) if queries else None
    logits, before = _logits(method, far), _perplexity(method, aside) if aside else 1.0
    said: dict[Question, str] = {}
    step, seconds = at_once or len(edits), 0.0
    for start in watch(range(0, len(edits), step), f"{method.name}: edits", progress):
        part = edits[start : start + step]
        began = time.perf_counter()
        method.apply(part)
        seconds += time.perf_counter() - began
        asked = [q for request in part for q in what.early.get(request, ())]
        said |= zip(asked, _answers(method, asked), strict=True)
    one_by_one = step == 1 or len(edits) == 1
    found = _records(method, what, "right_after", early_base, said, {}) if one_by_one else []
    after = dict(zip(questions, _answers(method, questions), strict=True))
    forced = _forced(method, questions)
    same = {q: torch.equal(a, b) for q, a, b in zip(far, logits, _logits(method, far), strict=True)}
    by_base = dict(zip(questions, base, strict=True))
    found += _records(method, what, "after_all", by_base, after, same, forced, at_once)
    costs: dict[str, dict[str, float]] = {
        "ms_per_edit": {"value": 1000 * seconds / len(edits), "n": len(edits)},
        "bytes_per_edit": {"value": method.bytes_kept() / len(edits), "n": len(edits)},
    }
    if aside:
        after_edits = _perplexity(method, aside)
        costs["perplexity_ratio"] = {"value": after_edits / before, "n": len(aside)}
    if plain is not None:
        costs |= _query_times(method, plain, questions, queries)
        with PeakMemory(method.lm.device) as answering:
            _answers(method, questions[:TRIED])
        costs["peak_bytes_answering"] = {"value": answering.bytes, "n": TRIED}
    if what.replaced:
        method.apply(list(what.replaced.values()))
    for request in what.taken if method.forgets else ():
        method.forget(request)
    asked = [q for q in what.later if method.forgets or q.kind != "forgotten"]
    said = dict(zip(asked, _answers(method, asked), strict=True))
    found += _records(method, what, "after_changes", later_base, said, {})
    method.revert()
    return found, costs


def _records(
    method: EditMethod,
    what: Series,
    when: str,
    base: Mapping[Question, str],
    said: Mapping[Question, str],
    same: Mapping[Question, bool],
    forced: Mapping[Question, Score] | None = None,
    at_once: int = 0,
) -> list[Record]:
    scores = dict.fromkeys(said, (None, None)) | dict(forced or {})
    return [
        Record(
            method.name,
            what.size,
            when,
            question.kind,
            question.text,
            base[question] if question.answer is None else question.answer,
            answer,
            question.needed,
            bitwise=same.get(question),
            age=what.age(question) if when == "after_all" and what.size > at_once > 0 else None,
            teacher_forced=scores[question][0],
            likelier=scores[question][1],
            accepted=question.accepted,
        )
        for question, answer in said.items()
    ]


def _answers(method: EditMethod, questions: Sequence[Question]) -> list[str]:
    found: list[str] = []
    for start in range(0, len(questions), 64):
        found += method.answer([q.text for q in questions[start : start + 64]])
    return found


def _forced(method: EditMethod, questions: Sequence[Question]) -> dict[Question, Score]:
    """Teacher-forced scores of questions, where there are answers to compare."""

    def fare(rows: Sequence[int], answers: Sequence[str]) -> list[Forced]:
        told = [Example((), questions[i].text, a) for i, a in zip(rows, answers, strict=True)]
        return method.forced(told)

    scores = forced_scores([q.compared for q in questions], fare)
    return dict(zip(questions, scores, strict=True))


def work(method: EditMethod, at_once: int, what: Series) -> dict[str, dict[str, float]]:
    """Arithmetic and memory of the first edits; the base model is as before when this returns."""
    requests = what.edits[:TRIED]

    def write() -> None:
        step = at_once or len(requests)
        for start in range(0, len(requests), step):
            method.apply(requests[start : start + step])

    found = editing(write, len(requests), method.lm.device)
    method.revert()
    return found


@torch.no_grad()
def _logits(method: EditMethod, questions: Sequence[Question]) -> list[Tensor]:
    """Logits of questions, in batches that are always the same."""
    found: list[Tensor] = []
    for start in range(0, len(questions), 32):
        found += method.logits([q.text for q in questions[start : start + 32]])
    return found


@torch.no_grad()
def _perplexity(method: EditMethod, said: Sequence[tuple[str, str]]) -> float:
    """Of what is said to prompts, for the model as it is now."""
    return perplexity(method.lm, said, method.logits)


def _query_times(
    method: EditMethod, plain: LanguageModel, questions: Sequence[Question], most: int
) -> dict[str, dict[str, float]]:
    """What questions take one by one, in scope and out of it.

    Args:
        method: With its edits in force.
        plain: An unedited copy of the base model.
        questions: Some of them are asked.
        most: So many of either, at most.
    """

    def base(question: Question) -> list[str]:
        return plain.reply([question.text], max_new_tokens=LONGEST_ANSWER)

    def ask(question: Question) -> list[str]:
        return method.answer([question.text])

    pools = {
        "in_scope": [q for q in questions if q.kind not in OUT_OF_SCOPE][:most],
        "out_of_scope": [q for q in questions if q.kind in OUT_OF_SCOPE][:most],
    }
    return query_costs(pools, base, ask, [plain, *method.models])
