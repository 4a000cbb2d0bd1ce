"""``seprog eval leapofthought``: entailed edits of a classifier (LeapOfThought; SLAG's protocol).

The base model is the sentence encoder, fine-tuned to tell true statements from false ones. It is
edited with properties of classes, with rules ("A polka is a music."), or with both, and asked about
the statements that follow. Classes, rules and properties of the test never occur in training or
calibration. SLAG (Hase et al. 2021, arXiv 2111.13654, section 3): edits correct rules that the base
model believes to be wrong; success on the rule, consistency on what follows, and what is retained.
"""

from __future__ import annotations

import json
import random
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import track
from rich.table import Table

from seprog.bench.metrics import Record, score
from seprog.bench.provenance import provenance
from seprog.data.leapofthought import SPLITS, Leap, Property, calibration_and_test, load_leaps
from seprog.editor import Editor
from seprog.gate import ScopeGate, fit_threshold, wilson
from seprog.generator import PromptGenerator, SelfEncoder, VerbatimGenerator
from seprog.lm import EncoderModel
from seprog.memory import Memory
from seprog.text_encoder import TextEncoder, packaged_folder
from seprog.training.classifier import ClassifierTraining, Labelled, train_classifier
from seprog.training.examples import Example
from seprog.training.gate import GateTraining, train_gate
from seprog.training.generator import GeneratorTraining, train_generator
from seprog.training.leaps import bears, label, leap_examples, leap_scopes
from seprog.types import Edit, Prefix

METHODS = ("none", "reader_oracle", "in_context_oracle", "verbatim", "seprog", "seprog_oracle")
"""No edit; a twin of the base model that was fine-tuned to read the right edits in its context; the
base model itself with them in its context; cached text behind our gate; the trained generator
behind our gate; the trained generator with the right edits."""
GATED = ("verbatim", "seprog")
Protocol = Literal["property", "rule", "both", "slag"]
PROTOCOLS: tuple[Protocol, ...] = ("property", "rule", "both", "slag")
RATE = 0.01
"""False fires that a gate's threshold promises, at most."""
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Student's t, two-sided 95 %, by the number of seeds."""


@dataclass(frozen=True)
class LeapBench:
    """How LeapOfThought is run.

    Args:
        seeds: Of generators, gates and draws.
        sizes: Edits in the memory at a time; 0 means all there are.
        far: Unrelated statements asked per memory, in all.
        classifier: How base model and reader are fine-tuned.
        generator: How generators are trained.
        gate: How gates are trained.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    sizes: tuple[int, ...] = (1, 10, 100, 0)
    far: int = 300
    classifier: ClassifierTraining = field(default_factory=ClassifierTraining)
    generator: GeneratorTraining = field(
        default_factory=lambda: GeneratorTraining(
            summary=8, steps=600, batch=64, lr=1e-3, keep=1.0, check_every=100
        )
    )
    gate: GateTraining = field(
        default_factory=lambda: GateTraining(scenarios=2, steps=500, negatives=4)
    )


@dataclass(frozen=True)
class Question:
    """A statement asked about.

    Args:
        kind: ``rewrite``, ``entailed``, ``near_miss`` or ``far``.
        text: The statement.
        answer: Its right label; ``None`` out of scope, where the base model's own is right.
        needed: What the answer rests on.
    """

    kind: str
    text: str
    answer: str | None
    needed: tuple[Property, ...] = ()


class Material:
    """The data, split once and for all.

    Args:
        folder: With LeapOfThought in it.
    """

    def __init__(self, folder: Path) -> None:
        self.train, dev, test = (load_leaps(folder, split) for split in SPLITS)
        self.calibration, self.test = calibration_and_test(dev, test, self.train)
        bare = list(dict.fromkeys(x.phrase for x in self.train if x.premise is None))
        self.calibration_far, self.far = bare[::2], bare[1::2]

    def labelled(self, leaps: Sequence[Leap]) -> list[Labelled]:
        """Statements and their labels."""
        return [(leap.phrase, label(leap.answer)) for leap in leaps]


def evaluate(
    data: Path,
    work: Path,
    config: LeapBench,
    out: Path | None = None,
    answers: Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Train what is missing, then measure every method.

    Args:
        data: Folder with LeapOfThought.
        work: Folder for base model, reader, generators and gates; what is there is not made again.
        config: How.
        out: Where the result goes, as JSON.
        answers: Where every single answer goes, as JSON lines.
        progress: Whether to show progress bars.

    Returns:
        The result, as it is written to ``out``.

    Raises:
        InputError: If the data are not there, or are something else.
    """
    material = Material(data)
    knows, reads = _bases(material, work, config)
    base = EncoderModel.from_pretrained(str(work / "base"), "float32")
    reader = EncoderModel.from_pretrained(str(work / "reader"), "float32")
    results: list[dict[str, Any]] = []
    records: list[tuple[str, int, Record]] = []
    for seed in config.seeds:
        generator = _generator(material, base, work, config, seed)
        gate = _gate(material, work, config, seed)
        run = _Run(material, base, reader, generator, gate, config, seed, progress)
        for protocol in PROTOCOLS:
            for size in config.sizes if protocol in ("property", "slag") else (0,):
                found = run.records(protocol, size)
                records += [(protocol, seed, r) for part in found.values() for r in part]
                for method, part in found.items():
                    metrics = score(part, method in GATED)
                    row = {"method": method, "edits": size, "seed": seed, "metrics": metrics}
                    results.append({"protocol": protocol, **row})
    result = {
        "config": {"seeds": list(config.seeds), "sizes": list(config.sizes), "far": config.far},
        **provenance(),
        "base": {"held_out": knows, "reader_held_out": reads},
        "results": results,
        "summary": summary(results),
    }
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n")
    if answers is not None:
        answers.parent.mkdir(parents=True, exist_ok=True)
        with answers.open("w") as file:
            for told, seed, record in records:
                row = {"protocol": told, "seed": seed, **record.row()}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return result


def _bases(material: Material, work: Path, config: LeapBench) -> tuple[float, float]:
    """The base model and its reading twin; returns their accuracy on the test statements."""
    found = []
    rng = random.Random(0)
    known = material.labelled(material.train)
    reading = [_read(e) for e in _in_scope(material.train, rng, len(known))]
    held = [_read(e) for e in _in_scope(material.calibration, rng, 500)]
    for name, start, train, held_out in (
        ("base", packaged_folder(), known, material.labelled(material.test)),
        ("reader", work / "base", reading, held),
    ):
        note = work / f"{name}.json"
        if not note.exists():
            run = work / f"{name}.run"
            right = train_classifier(start, train, held_out, work / name, run, config.classifier)
            note.write_text(json.dumps({"held_out": right}))
        found.append(float(json.loads(note.read_text())["held_out"]))
    return found[0], found[1]


def _in_scope(leaps: Sequence[Leap], rng: random.Random, count: int) -> Iterator[Example]:
    return islice((e for e in leap_examples(leaps, rng) if e.answer is not None), count)


def _read(example: Example) -> Labelled:
    """An example as the reader sees it."""
    return " ".join([*example.edits, example.prompt]), str(example.answer)


def _generator(
    material: Material, base: EncoderModel, work: Path, config: LeapBench, seed: int
) -> SelfEncoder:
    def data(number: int) -> tuple[Iterator[Example], list[Example]]:
        held = leap_examples(material.calibration, random.Random(0))
        return leap_examples(material.train, random.Random(number)), list(islice(held, 512))

    folder, run = work / f"generator-{seed}", work / f"generator-{seed}.run"
    how = replace(config.generator, seed=seed)
    return train_generator(base, folder, run, how, data)


def _gate(material: Material, work: Path, config: LeapBench, seed: int) -> ScopeGate:
    folder = work / f"gate-{seed}"
    if not (folder / "gate.json").exists():
        how, rng = replace(config.gate, seed=seed), random.Random(seed)
        asked = [leap_scopes(material.train, how.edits, rng) for _ in range(how.scenarios)]
        train_gate(
            folder,
            work / f"gate-{seed}.run",
            how,
            asked=asked,
            calibrate=lambda gate: _calibrate(gate, material, seed),
        )
    return ScopeGate.from_pretrained(folder, TextEncoder())


def _calibrate(gate: ScopeGate, material: Material, seed: int) -> dict[str, float]:
    """Fit the threshold on classes that are neither trained on nor reported."""
    rng = random.Random(seed + 1)
    premises = _premises(material.calibration)
    chosen = set(rng.sample(premises, len(premises) // 2))
    rules = _rules(material.calibration)
    edits = [Edit(p.statement, id=p.statement) for p in [*chosen, *rules[: len(rules) // 2]]]
    shelf = gate.shelf(edits)
    told = set(rules[: len(rules) // 2])
    outside = [
        x.phrase
        for x in material.calibration
        if x.rule not in told and all(bears(p, x) is False for p in chosen)
    ]
    outside += rng.sample(material.calibration_far, min(400, len(material.calibration_far)))
    highest = gate.highest(outside, shelf)
    gate.calibration = fit_threshold(highest, RATE, len(edits), gate.fingerprint)
    inside = [x for x in material.calibration if x.premise in chosen]
    decisions = gate.decide([x.phrase for x in inside], shelf)
    hits = [
        x.premise is not None and x.premise.statement in {e.id for e in d.fired}
        for x, d in zip(inside, decisions, strict=True)
    ]
    observed = gate.calibration.observed
    return {
        "threshold": gate.calibration.threshold,
        "false_fire": observed,
        "false_fire_high": wilson(observed * len(outside), len(outside))[1],
        "fired_rightly": sum(hits) / len(hits),
    }


def _premises(leaps: Sequence[Leap]) -> list[Property]:
    return list(dict.fromkeys(x.premise for x in leaps if x.premise is not None))


def _rules(leaps: Sequence[Leap]) -> list[Property]:
    return list(dict.fromkeys(x.rule for x in leaps if x.rule is not None))


class _Run:
    """Every method with the generator and the gate of one seed."""

    def __init__(
        self,
        material: Material,
        base: EncoderModel,
        reader: EncoderModel,
        generator: SelfEncoder,
        gate: ScopeGate,
        config: LeapBench,
        seed: int,
        progress: bool,
    ) -> None:
        self.material, self.base, self.reader, self.gate = material, base, reader, gate
        self.generators: dict[str, PromptGenerator] = {
            "verbatim": VerbatimGenerator(base),
            "seprog": generator,
        }
        self.config, self.seed, self.progress = config, seed, progress
        self.said: dict[str, str] = {}

    def say(self, lm: EncoderModel, texts: Sequence[str], prefixes: Any = None) -> list[str]:
        """Labels of texts, in batches."""
        found: list[str] = []
        for start in range(0, len(texts), 64):
            part = None if prefixes is None else prefixes[start : start + 64]
            found += lm.reply(texts[start : start + 64], part)
        return found

    def own(self, texts: Sequence[str]) -> list[str]:
        """The unedited base model's labels."""
        fresh = [t for t in dict.fromkeys(texts) if t not in self.said]
        self.said |= zip(fresh, self.say(self.base, fresh), strict=True)
        return [self.said[t] for t in texts]

    def records(self, protocol: Protocol, size: int) -> dict[str, list[Record]]:
        """Every method's answers, over as many memories of ``size`` edits as there are."""
        rng = random.Random(self.seed)
        edits, about = self._edits(protocol, rng)
        size = size or len(edits)
        memories = [edits[i : i + size] for i in range(0, len(edits), size)]
        far = rng.sample(self.material.far, min(self.config.far, len(self.material.far)))
        near = self._near(edits) if protocol in ("property", "both") else []
        found: dict[str, list[Record]] = {name: [] for name in METHODS}
        title = f"{protocol}, {size} edits, seed {self.seed}"
        console = Console(stderr=True)
        watched = track(
            enumerate(memories), title, len(memories), console=console, disable=not self.progress
        )
        for i, memory in watched:
            questions = [q for thing in memory for q in about[thing]]
            others = [*near, *(Question("far", text, None) for text in far)]
            questions += others[i :: len(memories)]
            for name, part in self._memory(memory, questions, len(edits), protocol).items():
                found[name] += part
        return found

    def _edits(
        self, protocol: Protocol, rng: random.Random
    ) -> tuple[list[tuple[Property, ...]], dict[tuple[Property, ...], list[Question]]]:
        """Edits, each of one statement or two, and what is asked about each."""
        test = self.material.test
        about: dict[tuple[Property, ...], list[Question]] = defaultdict(list)
        premises = _premises(test)
        chosen = set(rng.sample(premises, len(premises) // 2))
        for leap in test:
            if leap.premise is None or leap.rule is None:
                continue
            key = {
                "property": (leap.premise,),
                "both": (leap.premise, leap.rule),
            }.get(protocol, (leap.rule,))
            if protocol in ("property", "both") and leap.premise not in chosen:
                continue
            about[key].append(Question("entailed", leap.phrase, label(leap.answer), key))
        if protocol == "slag":  # rules that the base model believes to be wrong
            believed = self.own([key[0].claim for key in about])
            about = {
                k: v for (k, v), b in zip(about.items(), believed, strict=True) if b == "false"
            }
        for key, questions in about.items():
            questions.append(Question("rewrite", key[0].claim, label(key[0].holds), key[:1]))
        edits = list(about)
        rng.shuffle(edits)
        return edits, about

    def _near(self, edits: Sequence[tuple[Property, ...]]) -> list[Question]:
        """Test statements on which no edit bears, about the same classes."""
        told = {thing for edit in edits for thing in edit}
        return [
            Question("near_miss", x.phrase, None)
            for x in self.material.test
            if x.rule not in told and all(bears(p, x) is False for p in told)
        ]

    def _memory(
        self,
        memory: Sequence[tuple[Property, ...]],
        questions: Sequence[Question],
        size: int,
        protocol: Protocol,
    ) -> dict[str, list[Record]]:
        texts = [q.text for q in questions]
        own = self.own(texts)
        told = [" ".join(p.statement for p in q.needed) for q in questions]
        context = [f"{t} {q.text}".strip() for t, q in zip(told, questions, strict=True)]
        said = {
            "none": own,
            "in_context_oracle": self.say(self.base, context),
            "reader_oracle": [
                r if q.needed else o
                for q, r, o in zip(questions, self.say(self.reader, context), own, strict=True)
            ],
        }
        statements = dict.fromkeys(p.statement for edit in memory for p in edit)
        fired: dict[str, list[tuple[str, ...]]] = {}
        for name, generator in self.generators.items():
            editor = Editor(self.base, self.gate, generator, Memory(":memory:"))
            editor.edit_many([{"statement": s} for s in statements])
            decisions = editor.explain_many(texts)
            said[name] = editor.answer(decisions)
            fired[name] = [tuple(e.statement for e in d.fired) for d in decisions]
        trained = self.generators["seprog"]
        single = dict(zip(statements, trained.prefixes([Edit(s) for s in statements]), strict=True))
        forced: list[Prefix | None] = [
            Prefix.join([single[p.statement] for p in q.needed]) if q.needed else None
            for q in questions
        ]
        said["seprog_oracle"] = self.say(self.base, texts, forced)
        nothing: list[tuple[str, ...]] = [()] * len(questions)
        return {
            name: [
                Record(
                    name,
                    size,
                    protocol,
                    q.kind,
                    q.text,
                    own[i] if q.answer is None else q.answer,
                    said[name][i],
                    tuple(p.statement for p in q.needed),
                    fired.get(name, nothing)[i],
                )
                for i, q in enumerate(questions)
            ]
            for name in METHODS
        }


def summary(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over the seeds with its 95 % interval (Student's t), per protocol, size and method."""
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in results:
        groups[row["protocol"], row["edits"], row["method"]].append(row["metrics"])
    found = []
    for (protocol, edits, method), parts in groups.items():
        metrics = {}
        for name in parts[0]:
            values = [p[name]["value"] for p in parts]
            half = 0.0
            if len(values) > 1:
                half = T_95[len(values)] * statistics.stdev(values) / len(values) ** 0.5
            n = sum(p[name]["n"] for p in parts)
            metrics[name] = {"value": statistics.mean(values), "half": half, "n": n}
        found.append({"protocol": protocol, "edits": edits, "method": method, "metrics": metrics})
    return found


COLUMNS = ("rewrite", "entailed", "near_miss", "far", "false_fire", "fired_rightly")


def table(result: dict[str, Any]) -> Table:
    """The summary as people read it, in per cent."""
    view = Table("protocol", "edits", "method", title="LeapOfThought, mean over seeds")
    for name in COLUMNS:
        view.add_column(name.replace("_", " "), justify="right")
    for row in result["summary"]:
        cells = [_cell(row["metrics"].get(name)) for name in COLUMNS]
        size = str(row["edits"] or "all")
        view.add_row(row["protocol"], size, row["method"].replace("_", " "), *cells)
    return view


def _cell(metric: dict[str, float] | None) -> str:
    if metric is None:
        return ""
    return f"{100 * metric['value']:.1f} ± {100 * metric['half']:.1f}"
