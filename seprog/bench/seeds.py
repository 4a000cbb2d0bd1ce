"""A data set that has to be taught, seed by seed: what is missing is trained, then measured.

Generators and gates are trained per seed, on the task's training part, and scored on its test part,
whose subjects occur nowhere else.
"""

from __future__ import annotations

import json
import random
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from rich.table import Table

from seprog.bench.contestants import CONTESTANTS
from seprog.bench.course import TrialCourse
from seprog.bench.evaluation import measured
from seprog.bench.metrics import IN_SCOPE, OUT_OF_SCOPE
from seprog.bench.results import entries, provenance, save, write_json
from seprog.bench.trials import Task, Trial, chosen, statements
from seprog.bench.workshop import Workshop
from seprog.editor import Editor
from seprog.gate import ScopeGate, require_enough
from seprog.generator import SelfEncoder
from seprog.lm import CausalLM, LanguageModel
from seprog.methods.contract import require_known
from seprog.text_encoder import TextEncoder
from seprog.training.calibration import Judged, calibrate
from seprog.training.gate import GateTraining, train_gate
from seprog.training.generator import GeneratorTraining, train_generator
from seprog.types import Edit, Example

METHODS = (
    "none",
    "reader_oracle",
    "in_context_oracle",
    "in_context_retrieved",
    "verbatim",
    "seprog",
    "seprog_oracle",
)
"""No edit; a twin of the base model that was fine-tuned to read the right edits in its context,
where the task has one; the base model itself with them in its context; the same with those that our
gate lets fire; cached text behind our gate; the trained generator behind our gate; the trained
generator with the right edits."""
RATE = 0.01
"""False fires that a gate's threshold promises, at most."""
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Student's t, two-sided 95 %, by the number of seeds."""
COLUMNS = (*IN_SCOPE, "composed", *OUT_OF_SCOPE, "false_fire", "fired_rightly")


@dataclass(frozen=True)
class TrialBench:
    """How a task is run.

    Args:
        seeds: Of generators, gates and draws.
        methods: Which; names from ``METHODS``.
        edits: Trials of so many edits at a time only; empty means all.
        generator: How generators are trained; on causal bases without summary tokens.
        gate: How gates are trained.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    methods: tuple[str, ...] = METHODS
    edits: tuple[int, ...] = ()
    generator: GeneratorTraining = field(
        default_factory=lambda: GeneratorTraining(
            summary=8, steps=600, batch=64, lr=1e-3, keep=1.0, check_every=100, patience=3
        )
    )
    gate: GateTraining = field(
        default_factory=lambda: GateTraining(scenarios=3, steps=1500, negatives=4)
    )


def evaluate(
    task: Task,
    dataset: str,
    work: Path,
    config: TrialBench,
    out: Path | None = None,
    answers: Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Train what is missing, then measure every method.

    Args:
        task: What is taught, edited and asked.
        dataset: Its name, for the result.
        work: Folder for base model, reader, generators, gates, and what each method came to with
            each seed; what is there is not made again.
        config: How.
        out: Where the result goes, as JSON.
        answers: Where every single answer goes, as JSON lines.
        progress: Whether to show progress bars.

    Returns:
        The result, as it is written to ``out``; ``made`` says with what it was measured.

    Raises:
        InputError: If a method is not known, or there is no trial of so many edits.
    """
    require_known(config.methods, METHODS)
    models = task.models(work)
    course = TrialCourse(dataset, task, models)
    methods = [m for m in config.methods if models.reader or not CONTESTANTS[m].twin]
    results: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    made: list[dict[str, Any]] = []
    for seed in config.seeds:
        editor = trained_editor(task, models.base, work, config, seed)
        one = _Seed(seed, course, editor, work, config.edits, progress)
        found = [one.came(name) for name in methods]
        results += one.in_order([row for part in found for row in part["results"]])
        rows += [row for part in found for row in part["answers"]]
        made += one.made(methods, found)
    asked = {"seeds": list(config.seeds), "methods": list(config.methods)}
    result = {
        "config": {"dataset": dataset, **asked, "edits": list(config.edits)},
        **provenance(),
        "made": made,
        "base": models.accuracy,
        "results": results,
        "summary": summary(results),
    }
    save(result, out, rows, answers)
    return result


def trained_editor(
    task: Task, base: LanguageModel, work: Path, config: TrialBench, seed: int
) -> Editor:
    """A base model with a seed's gate and generator; trained, if they are not in the folder."""
    return Editor(
        base,
        _gate(task, work, replace(config.gate, seed=seed)),
        _generator(task, base, work, replace(config.generator, seed=seed)),
    )


class _Seed:
    """One seed's generator and gate, and what every method comes to beside them."""

    def __init__(
        self,
        seed: int,
        course: TrialCourse,
        editor: Editor,
        work: Path,
        edits: Sequence[int],
        progress: bool,
    ) -> None:
        self.seed, self.course, self.editor, self.progress = seed, course, editor, progress
        self.shop = Workshop(course, work / "peers", editor=lambda: editor)
        self.trials = chosen(course.trials(seed), edits)
        self.work, self.sizes = work, list(dict.fromkeys(t.edits for t in self.trials))

    def stamps(self, method: str) -> dict[str, str]:
        """Fingerprints of what a method is made from; what others are made from may change."""
        how, found = CONTESTANTS[method], {"model": self.course.lm.fingerprint}
        if how.gated:
            gate, generator = self.editor.gate.fingerprint, self.editor.generator.fingerprint
            found |= {"generator": generator, "gate": gate}
        if how.twin and self.course.reader is not None:
            found["reader"] = self.course.reader.fingerprint
        return found

    def came(self, method: str) -> dict[str, Any]:
        """Scores and answers of a method; kept, so that a stopped run goes on behind it."""
        asked = [(t.protocol, t.edits, t.memory, t.questions) for t in self.trials]
        stamps, gated = self.stamps(method), CONTESTANTS[method].gated
        how = self.editor.gate.calibration if gated else None
        by = [self.course.name, self.seed, method, stamps, how, asked]
        path = self.work / f"trials-{sha256(repr(by).encode()).hexdigest()[:12]}.json"
        if not path.exists():
            results: list[dict[str, Any]] = []
            answers: list[dict[str, Any]] = []
            for size in self.sizes:
                for protocol, records, costs in measured(
                    self.shop, method, {}, size, self.seed, self.progress
                ):
                    rows = entries(method, size, records, costs, protocol)
                    results += [{**row, "seed": self.seed} for row in rows]
                    told = {"dataset": self.course.name, "protocol": protocol, "seed": self.seed}
                    answers += [told | r.row() for r in records]
            whole = {**provenance(**stamps), "results": results, "answers": answers}
            write_json(path, whole)
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found

    def in_order(self, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows by protocol and size, in the order of the trials."""
        places = {(t.protocol, t.edits): i for i, t in reversed(list(enumerate(self.trials)))}
        return sorted(results, key=lambda row: places[row["protocol"], row["edits"]])

    def made(self, methods: Sequence[str], found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """With what it was measured; methods that were measured with the same together."""
        groups: dict[str, dict[str, Any]] = {}
        for name, part in zip(methods, found, strict=True):
            how = {k: part[k] for k in ("versions", "commit", "fingerprints")}
            how["seed"] = self.seed
            if CONTESTANTS[name].gated:
                how["threshold"] = self.editor.gate.calibration.threshold
            groups.setdefault(json.dumps(how), {"methods": [], **how})["methods"].append(name)
        return list(groups.values())


def _generator(task: Task, base: LanguageModel, work: Path, how: GeneratorTraining) -> SelfEncoder:
    def data(number: int) -> tuple[Iterator[Example], list[Example]]:
        held = task.examples("calibration", random.Random(0))
        return task.examples("train", random.Random(number)), list(islice(held, 512))

    name = f"generator-{how.seed}"
    if (work / name / "generator.json").exists():
        return SelfEncoder.from_pretrained(work / name, base)
    if isinstance(base, CausalLM):  # its cached text does by itself; they would stand in the way
        how = replace(how, summary=0)
    return train_generator(base, work / name, work / f"{name}.run", how, data)


def _gate(task: Task, work: Path, how: GateTraining) -> ScopeGate:
    folder = work / f"gate-{how.seed}"
    if not (folder / "gate.json").exists():
        rng, trial = random.Random(how.seed), task.calibration(random.Random(how.seed + 1))
        require_enough(sum(not q.needed for q in trial.questions), RATE)  # not after training
        train_gate(
            folder,
            work / f"gate-{how.seed}.run",
            how,
            asked=[task.scopes(how.edits, rng) for _ in range(how.scenarios)],
            calibrate=lambda gate: _calibrate(gate, trial),
        )
    return ScopeGate.from_pretrained(folder, TextEncoder(device=how.device))


def _calibrate(gate: ScopeGate, trial: Trial) -> dict[str, float]:
    edits = [Edit(s, id=s) for s in statements(trial.memory)]
    outside = [q.text for q in trial.questions if not q.needed]
    inside = [(q.text, set(q.needed)) for q in trial.questions if q.needed]
    return calibrate(gate, [Judged(gate.shelf(edits), outside, inside)], RATE)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean over several seeds, and half the width of its 95 % interval (Student's t)."""
    half = T_95[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values), half


def summary(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over the seeds with its 95 % interval (Student's t), for each method wherever it was.

    What one seed came to keeps its own interval, over its probes: seeds say nothing of it.
    """
    groups: dict[tuple[str, int, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in results:
        groups[row["protocol"], row["edits"], row["method"], row["when"]].append(row["metrics"])
    found = []
    for where, parts in groups.items():
        metrics = {}
        for name in dict.fromkeys(name for part in parts for name in part):
            metrics[name] = _over([part[name] for part in parts if name in part])
        told = zip(("protocol", "edits", "method", "when"), where, strict=True)
        found.append({**dict(told), "metrics": metrics})
    return found


def _over(seeds: Sequence[dict[str, float]]) -> dict[str, float]:
    """A metric over its seeds."""
    if len(seeds) == 1:
        return {k: v for k, v in seeds[0].items() if k in ("value", "low", "high", "n")}
    mean, half = interval([m["value"] for m in seeds])
    return {"value": mean, "half": half, "n": sum(m["n"] for m in seeds)}


def table(result: dict[str, Any], title: str) -> Table:
    """The summary as people read it, in per cent; what was not asked has no column."""
    view = Table("protocol", "edits", "method", title=f"{title}, mean over seeds")
    shown = [c for c in COLUMNS if any(c in row["metrics"] for row in result["summary"])]
    for name in shown:
        view.add_column(name.replace("_", " "), justify="right")
    for row in (r for r in result["summary"] if r["when"] == "after_all"):
        cells = [_cell(row["metrics"].get(name)) for name in shown]
        view.add_row(row["protocol"], str(row["edits"]), row["method"].replace("_", " "), *cells)
    return view


def _cell(metric: dict[str, float] | None) -> str:
    if metric is None:
        return ""
    value = f"{100 * metric['value']:.1f}"
    if "half" in metric:
        return f"{value} ± {100 * metric['half']:.1f}"
    if "low" not in metric:
        return value
    return f"{value} ({100 * metric['low']:.1f} to {100 * metric['high']:.1f})"
