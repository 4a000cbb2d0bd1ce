"""``seprog eval atlas``: the whole system on Atlas, with names and phrasings never trained on."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from seprog.atlas.scenario import Probe, Scenario, make_scenario
from seprog.atlas.world import Fact, Split, Wording, load_world
from seprog.bench.changes import Changes, draw_changes
from seprog.bench.costs import TRIED, query_costs, spread, work
from seprog.bench.meters import perplexity
from seprog.bench.metrics import COSTS, OUT_OF_SCOPE, SHARES, Record, score
from seprog.bench.progress import watch
from seprog.bench.results import provenance, save
from seprog.editor import Editor
from seprog.generator import VerbatimGenerator
from seprog.memory import Memory
from seprog.methods.contract import LONGEST_ANSWER, require_known
from seprog.types import Edit, GateDecision, PrefixBatch

METHODS = ("none", "verbatim", "seprog", "in_context_oracle", "in_context_retrieved")
PREFIXED = ("verbatim", "seprog")
GATED = (*PREFIXED, "in_context_retrieved")
RIGHT_AFTER = 60
"""Edits, spread over the sequence, whose probes are also scored right after the edit."""


def evaluate(
    editor: Editor,
    edits: Sequence[int] = (1, 10, 100, 1000),
    methods: Sequence[str] = METHODS,
    seed: int = 0,
    out: Path | None = None,
    answers: Path | None = None,
    progress: bool = True,
    per_kind: int | None = None,
    wording: Wording = "test",
) -> dict[str, Any]:
    """Evaluate methods behind the same gate, at several numbers of edits.

    Args:
        editor: Base model, gate and trained generator; its memory is not touched.
        edits: Sizes of memory.
        methods: Names from ``METHODS``.
        seed: Of edits and probes.
        out: Where the result goes, as JSON.
        answers: Where every single answer goes, as JSON lines.
        progress: Whether to show progress bars.
        per_kind: As for ``plan``.
        wording: As for ``plan``.

    Returns:
        The result, as it is written to ``out``.

    Raises:
        InputError: If a method is not known.
    """
    require_known(methods, METHODS)
    results: list[dict[str, Any]] = []
    records: list[tuple[str, Record]] = []
    for size in edits:
        bench = _Bench(editor, plan(size, seed, per_kind=per_kind, wording=wording), progress)
        found = {name: bench.records(name, "after_all") for name in methods}
        costs = {name: bench.costs(name) for name in methods}
        bench.change()
        for name in methods:
            for when in ("right_after", "after_changes"):
                found[name] += bench.records(name, when)
            results += entries(name, size, found[name], costs[name])
            records += [("sequential", r) for r in found[name]]
    dataset = "atlas" if wording == "test" else f"atlas_{wording}"
    parts = {
        "model": editor.lm.fingerprint,
        "generator": editor.generator.fingerprint,
        "gate": editor.gate.fingerprint,
    }
    threshold = editor.gate.calibration.threshold
    return written(
        edits, methods, dataset, seed, results, records, out, answers, parts, threshold=threshold
    )


def entries(
    method: str,
    edits: int,
    records: Sequence[Record],
    costs: dict[str, dict[str, float]],
    protocol: str = "sequential",
) -> list[dict[str, Any]]:
    """A method's rows of a result, by when was asked; what edits cost stands with ``after_all``."""
    found = []
    for when in ("after_all", "right_after", "after_changes"):
        metrics = score([r for r in records if r.when == when])
        metrics |= costs if when == "after_all" else {}
        where = {"protocol": protocol, "method": method, "edits": edits, "when": when}
        if metrics:
            found.append({**where, "metrics": metrics})
    return found


def written(
    edits: Sequence[int],
    methods: Sequence[str],
    dataset: str,
    seed: int,
    results: Sequence[dict[str, Any]],
    records: Sequence[tuple[str, Record]],
    out: Path | None,
    answers: Path | None,
    parts: Mapping[str, str],
    **more: Any,
) -> dict[str, Any]:
    """The result of so many edits by some methods, with more beside it, saved where it is wanted.

    Args:
        edits: Numbers of edits.
        methods: Who was measured.
        dataset: On what.
        seed: Of edits and probes.
        results: As from ``entries``.
        records: Every answer, with the protocol that it belongs to.
        out: Where the result goes.
        answers: Where every single answer goes.
        parts: The fingerprints of what it was made with.
        **more: To be noted, too.
    """
    result = {
        "config": {
            "dataset": dataset,
            "edits": list(edits),
            "methods": list(methods),
            "seed": seed,
        },
        **provenance(**parts),
        **more,
        "results": list(results),
    }
    where = {"dataset": dataset, "seed": seed}
    save(result, out, [where | {"protocol": p} | r.row() for p, r in records], answers)
    return result


@dataclass(frozen=True)
class Plan:
    """What is edited and asked: the same for every method.

    Args:
        scenario: The edits.
        early: Some of them, in order, each with probes to ask right after it.
        probes: To ask after all edits.
        changes: What becomes of some edits then.
    """

    scenario: Scenario
    early: dict[Fact, list[Probe]]
    probes: list[Probe]
    changes: Changes

    @cached_property
    def _places(self) -> dict[Fact, int]:
        return {fact: i for i, fact in enumerate(self.scenario.facts.values())}

    def age(self, probe: Probe) -> int | None:
        """Edits written after the newest one that a probe asked after all edits rests on."""
        if not probe.used:
            return None
        return len(self._places) - 1 - max(self._places[fact] for fact in probe.used)

    def aside(self, said: Sequence[str]) -> list[tuple[str, str]]:
        """Text that no edit bears on: far probes, and what the base model says to them.

        Args:
            said: The base model's answers to ``probes``.
        """
        far = [
            (p.prompt, a) for p, a in zip(self.probes, said, strict=True) if p.kind == "far" and a
        ]
        return far[:100]


def plan(
    size: int,
    seed: int,
    split: Split = "test",
    per_kind: int | None = None,
    wording: Wording | None = None,
) -> Plan:
    """So many edits in a split's names, and their probes.

    Args:
        size: Number of edits.
        seed: Of edits and probes.
        split: Whose names.
        per_kind: Probes of each kind to ask after all edits, and none at other times: for those who
            measure costs; ``None`` asks all.
        wording: Whose phrasings; ``None`` means the split's.
    """
    rng = random.Random(seed * 1_000_003 + size)
    scenario = make_scenario(load_world(), split, size, rng, wording=wording)
    facts = list(scenario.facts.values())
    chosen = set(rng.sample(facts, min(RIGHT_AFTER, size)))
    early = {
        f: [*scenario.in_scope(rng, [f]), *scenario.near_misses(rng, [f])]
        for f in facts
        if f in chosen
    }
    probes = _probes(scenario, rng)
    changes = draw_changes(scenario, random.Random(f"changes {seed} {size}"))
    if per_kind is not None:
        kinds: dict[str, list[Probe]] = {}
        for probe in probes:
            kinds.setdefault(probe.kind, []).append(probe)
        early, probes = {}, [p for of_kind in kinds.values() for p in of_kind[:per_kind]]
        changes = replace(changes, probes=[])
    return Plan(scenario, early, probes, changes)


@dataclass(frozen=True)
class _Asked:
    """Probes, what the gate decides about them, and what the base model says."""

    probes: Sequence[Probe]
    decisions: Sequence[GateDecision]
    base: list[str]


class _Bench:
    """One memory of edits, its probes, and what the gate decides about them."""

    def __init__(self, editor: Editor, what: Plan, progress: bool) -> None:
        self.plan, self.progress = what, progress
        self.scenario, self.size = what.scenario, len(what.scenario.facts)
        self.editor = Editor(editor.lm, editor.gate, editor.generator, Memory(":memory:"))
        self.verbatim = Editor(
            editor.lm, editor.gate, VerbatimGenerator(editor.lm), self.editor.memory
        )
        self.stored: dict[Fact, Edit] = {}
        self.edit_ms: list[float] = []
        self.asked: dict[str, _Asked] = {}
        self._ask("right_after", *self._write())
        self._ask("after_all", self.plan.probes)

    def _write(self) -> tuple[list[Probe], list[GateDecision]]:
        """Store the edits one after another; after some of them, ask about the last."""
        early: list[Probe] = []
        decisions: list[GateDecision] = []
        for fact in watch(list(self.scenario.facts.values()), f"{self.size} edits", self.progress):
            start = time.perf_counter()
            edit = self.editor.edit(prompt=self.scenario.prompts[fact], target=fact.object)
            self.editor.cached_prefixes([edit])
            self.edit_ms.append(1000 * (time.perf_counter() - start))
            self.stored[fact] = edit
            if probes := self.plan.early.get(fact, []):
                early += probes
                decisions += self.editor.explain_many([p.prompt for p in probes])
        return early, decisions

    def change(self) -> None:
        """Replace some edits and take others back."""
        changes = self.plan.changes
        for new in changes.replaced.values():
            self.editor.edit(prompt=self.scenario.prompts[new], target=new.object)
        for fact in changes.taken:
            if self.editor.memory.get(self.stored[fact].id).active:
                self.editor.forget(self.stored[fact].id)
        self._ask("after_changes", changes.probes)

    def _ask(
        self, when: str, probes: Sequence[Probe], decisions: Sequence[GateDecision] | None = None
    ) -> None:
        decided = self._decide(probes) if decisions is None else decisions
        self.asked[when] = _Asked(probes, decided, self._base([p.prompt for p in probes]))

    def _decide(self, probes: Sequence[Probe]) -> list[GateDecision]:
        found: list[GateDecision] = []
        title = f"{len(probes)} probes through the gate"
        for start in watch(range(0, len(probes), 64), title, self.progress):
            prompts = [p.prompt for p in probes[start : start + 64]]
            found += self.editor.explain_many(prompts)
        return found

    def _base(self, prompts: Sequence[str]) -> list[str]:
        nothing = [GateDecision(p) for p in prompts]
        return self.editor.answer(nothing, LONGEST_ANSWER)

    def records(self, method: str, when: str) -> list[Record]:
        """Every probe that is asked then, answered by a method."""
        asked, last = self.asked[when], when == "after_all"
        answers = self._answers(method, asked)
        same = self._bitwise(method, asked.probes, asked.decisions) if last else {}
        return [
            Record(
                method,
                self.size,
                when,
                probe.kind,
                probe.prompt,
                asked.base[i] if probe.answer is None else probe.answer,
                answers[i],
                tuple(self.scenario.statement(f) for f in probe.used),
                tuple(e.statement for e in decision.fired) if method in GATED else None,
                same.get(i),
                self.plan.age(probe) if last else None,
            )
            for i, (probe, decision) in enumerate(zip(asked.probes, asked.decisions, strict=True))
        ]

    def _answers(self, method: str, asked: _Asked) -> list[str]:
        if method == "none":
            return asked.base
        if method in PREFIXED:
            return self._editor(method).answer(asked.decisions, LONGEST_ANSWER)
        return self._base(self._read(method, asked))

    def _read(self, method: str, asked: _Asked) -> list[str]:
        """What the base model reads: the probes, behind the edits that are in their context."""
        told: list[list[str]] = [[] for _ in asked.probes]
        if method == "in_context_oracle":
            told = [[self.scenario.statement(f) for f in p.used] for p in asked.probes]
        elif method == "in_context_retrieved":
            told = [[e.statement for e in d.fired] for d in asked.decisions]
        return [" ".join([*texts, p.prompt]) for texts, p in zip(told, asked.probes, strict=True)]

    def _editor(self, method: str) -> Editor:
        return self.verbatim if method == "verbatim" else self.editor

    def _bitwise(
        self, method: str, probes: Sequence[Probe], decisions: Sequence[GateDecision]
    ) -> dict[int, bool]:
        """Per far probe, whether its logits are the base model's while others are edited."""
        if method not in PREFIXED:
            return {}
        lm, far = self.editor.lm, [i for i, p in enumerate(probes) if p.kind == "far"]
        companion = next((i for i, d in enumerate(decisions) if d.fired), None)
        same = {}
        for start in range(0, len(far), 31):
            rows = far[start : start + 31] + ([] if companion is None else [companion])
            prefixes = self._editor(method).prefixes([decisions[i] for i in rows])
            ids, mask = lm.tokens.pad(
                lm.tokens.encode([probes[i].prompt for i in rows], True), lm.device
            )
            with torch.no_grad():
                base = lm.forward(ids, mask)
                edited = lm.forward(ids, mask, PrefixBatch.stack(prefixes))
            for place, i in enumerate(far[start : start + 31]):
                same[i] = torch.equal(base[place], edited[place])
        return same

    def costs(self, method: str) -> dict[str, dict[str, float]]:
        """What edits and queries cost, and how well text at large is still expected."""
        if method not in GATED:
            return {}
        kept = self._bytes_kept(method)  # makes prefixes, which no query has to wait for then
        found = {"bytes_per_edit": {"value": kept / self.size, "n": self.size}}
        found |= self._query_costs(method)
        if method not in PREFIXED:
            return found
        editor = self._editor(method)
        if method == "seprog":
            found["ms_per_edit"] = spread(self.edit_ms, mean=True)
        found["perplexity_ratio"] = self._perplexity_ratio(editor)
        first = list(self.stored)[:TRIED]
        edits = [{"prompt": self.scenario.prompts[f], "target": f.object} for f in first]
        return found | work(editor, edits, [p.prompt for p in self.plan.probes[:TRIED]])

    def _bytes_kept(self, method: str) -> int:
        """All edits' prefixes, or their texts."""
        stored, editor = list(self.stored.values()), self._editor(method)
        if method not in PREFIXED:
            return sum(len(e.statement.encode()) for e in stored)
        editor.cached_prefixes(stored)
        return self.editor.memory.prefix_bytes(editor.generator.fingerprint)

    def _query_costs(self, method: str) -> dict[str, dict[str, float]]:
        """Time of queries in scope and out of it, and what the base model reads of the former."""
        lm = self.editor.lm

        def base(probe: Probe) -> list[str]:
            return lm.generate([probe.prompt], max_new_tokens=LONGEST_ANSWER)

        def ask(probe: Probe) -> list[str]:
            decisions = self.editor.explain_many([probe.prompt])
            return self._answers(method, _Asked([probe], decisions, []))

        pools = {}
        for name, inside in (("in_scope", True), ("out_of_scope", False)):
            pool = [p for p in self.plan.probes if (p.kind not in OUT_OF_SCOPE) == inside]
            pools[name] = pool[:: max(1, len(pool) // 30)][:30]
        found = query_costs(pools, base, ask, [lm])
        asked = self.asked["after_all"]
        read = lm.tokens.encode(self._read(method, asked), True)
        sizes = [len(t) for t, p in zip(read, asked.probes, strict=True) if p.used]
        found["query_tokens_in_scope"] = {"value": sum(sizes) / len(sizes), "n": len(sizes)}
        return found

    @torch.no_grad()
    def _perplexity_ratio(self, editor: Editor) -> dict[str, float]:
        """Of text that no edit bears on, relative to the base model's."""
        lm, said = editor.lm, self.plan.aside(self.asked["after_all"].base)

        def read(texts: Sequence[str], prefixes: PrefixBatch | None = None) -> Tensor:
            return lm.forward(*lm.tokens.pad(lm.tokens.encode(texts, True), lm.device), prefixes)

        def edited(texts: Sequence[str]) -> Tensor:
            return read(texts, PrefixBatch.stack(editor.prefixes(editor.explain_many(texts))))

        ratio = perplexity(lm, said, edited) / perplexity(lm, said, read)
        return {"value": ratio, "n": len(said)}


def _probes(scenario: Scenario, rng: random.Random) -> list[Probe]:
    facts = list(scenario.facts.values())
    probes = list(scenario.in_scope(rng)) + list(scenario.near_misses(rng, facts))
    rounds = max(1, min(4, 300 // max(1, len(scenario.chains))))
    for _ in range(rounds):
        probes += scenario.composed(rng)
    return list(dict.fromkeys(probes + list(scenario.far(rng, max(100, len(facts) // 2)))))


def table(result: dict[str, Any]) -> Table:
    """The result as people read it: a row per measure, a column per method; shares in per cent."""
    methods = result["config"]["methods"]
    view = Table(
        "protocol",
        "edits",
        "measure",
        title=f"{result['config']['dataset']}, scored after all edits",
    )
    for name in methods:
        view.add_column(name.replace("_", " "), justify="right")
    places: dict[tuple[str, int], dict[str, Any]] = {}
    for row in result["results"]:
        if row["when"] == "after_all":
            where = (row["protocol"], row["edits"])
            places.setdefault(where, {})[row["method"]] = row["metrics"]
    for (protocol, size), rows in places.items():
        for metric in (*SHARES, *COSTS):
            cells = [shown(metric, rows[name].get(metric)) for name in methods]
            if any(cells):
                view.add_row(protocol, f"{size:,}", metric.replace("_", " "), *cells)
        view.add_section()
    return view


def shown(name: str, metric: dict[str, float] | None) -> str:
    """One figure; empty if there is none."""
    if metric is None:
        return ""
    if name in COSTS:
        return f"{metric['value']:,.2f}" if "ratio" in name else f"{metric['value']:,.0f}"
    return f"{100 * metric['value']:.1f}"
