"""Trials: memories of edits and what is asked of them, the same way for several data sets.

A task brings the base model, what generators and gates learn from, and the trials. Generators and
gates are trained per seed, on the task's training part, and scored on its test part, whose subjects
occur nowhere else.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch

from seprog.bench.forced import Score, forced_scores
from seprog.bench.metrics import Record, score
from seprog.bench.progress import watch
from seprog.bench.results import provenance, save
from seprog.bench.seeds import summary
from seprog.editor import Editor
from seprog.errors import InputError
from seprog.gate import ScopeGate, require_enough
from seprog.generator import SelfEncoder, VerbatimGenerator
from seprog.generator.objective import objective_for
from seprog.lm import CausalLM, LanguageModel
from seprog.memory import Memory
from seprog.methods.contract import LONGEST_ANSWER, Forced, forced, require_known
from seprog.text_encoder import TextEncoder
from seprog.training.calibration import Judged, calibrate
from seprog.training.gate import GateTraining, train_gate
from seprog.training.generator import GeneratorTraining, train_generator
from seprog.training.scopes import Scopes
from seprog.types import Edit, Example, Prefix, PrefixBatch

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
GATED = ("in_context_retrieved", "verbatim", "seprog")
RATE = 0.01
"""False fires that a gate's threshold promises, at most."""

EditTexts = tuple[str, ...]
"""One edit, or several that are written together."""
Part = Literal["train", "calibration"]


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


@dataclass(frozen=True)
class Question:
    """What is asked.

    Args:
        kind: A kind of probe; see ``seprog.bench.metrics``.
        text: The query.
        answer: The right answer; ``None`` out of scope, where the base model's own is right.
        needed: Statements of the edits that the answer rests on.
        compared: Two answers, of which the first is to be the likelier one: the new and the old
            one, or, out of scope, what is true and what an edit says of another subject; ``None``
            where that, and teacher-forced scores, mean nothing.
        accepted: Other names for the right answer; ``None`` where the data set does not say.
    """

    kind: str
    text: str
    answer: str | None = None
    needed: EditTexts = ()
    compared: tuple[str, str] | None = field(default=None, compare=False)
    accepted: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Trial:
    """A memory, and what is asked of it.

    Args:
        protocol: What is tried.
        edits: Number of edits at a time, as reported.
        memory: The edits in force.
        questions: In and out of scope.
        near: Per edit, those of the questions that are near it.
    """

    protocol: str
    edits: int
    memory: Sequence[EditTexts]
    questions: Sequence[Question]
    near: Mapping[EditTexts, Sequence[Question]] = field(default_factory=dict)


BaseSays = Callable[[Sequence[str]], list[str]]
"""Queries to the unedited base model's answers."""


@dataclass(frozen=True)
class Models:
    """What is edited.

    Args:
        base: The base model.
        reader: Its twin that was fine-tuned to read edits in its context, if there is one.
        accuracy: What is known about them: shares of right answers (0 to 1), by name.
    """

    base: LanguageModel
    reader: LanguageModel | None
    accuracy: dict[str, float]


@runtime_checkable
class Task(Protocol):
    """A data set, as this bench needs it."""

    def models(self, work: Path) -> Models:
        """The base model; trained, if it is not in the folder."""
        ...

    def examples(self, part: Part, rng: random.Random) -> Iterator[Example]:
        """What generators learn from, or are checked on; without end."""
        ...

    def scopes(self, edits: int, rng: random.Random) -> Scopes:
        """A memory of so many edits that gates learn from."""
        ...

    def calibration(self, rng: random.Random) -> Trial:
        """What thresholds are fitted on."""
        ...

    def trials(self, seed: int, base_says: BaseSays) -> Iterator[Trial]:
        """What is reported."""
        ...


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
        work: Folder for base model, reader, generators, gates, and what each seed came to; what is
            there is not made again.
        config: How.
        out: Where the result goes, as JSON.
        answers: Where every single answer goes, as JSON lines.
        progress: Whether to show progress bars.

    Returns:
        The result, as it is written to ``out``; ``made`` says with what each seed was measured.

    Raises:
        InputError: If a method is not known, or there is no trial of so many edits.
    """
    require_known(config.methods, METHODS)
    models = task.models(work)
    base = models.base
    said: dict[str, str] = {}

    def base_says(texts: Sequence[str]) -> list[str]:
        fresh = [t for t in dict.fromkeys(texts) if t not in said]
        said.update(zip(fresh, replies(base, fresh), strict=True))
        return [said[t] for t in texts]

    results: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    made: list[dict[str, Any]] = []
    for seed in config.seeds:
        generator = _generator(task, base, work, replace(config.generator, seed=seed))
        gate = _gate(task, work, replace(config.gate, seed=seed))
        trials = chosen(list(task.trials(seed, base_says)), config.edits)
        made_by = [dataset, seed, config.methods, generator.fingerprint, gate.fingerprint]
        made_by += [
            models.reader.fingerprint if models.reader is not None else None,
            gate.calibration,
            [(t.protocol, t.edits, t.memory, t.questions) for t in trials],
        ]
        kept = work / f"trials-{sha256(repr(made_by).encode()).hexdigest()[:12]}.json"
        if not kept.exists():
            found: dict[tuple[str, int, str], list[Record]] = defaultdict(list)
            for trial in watch(trials, f"seed {seed}", progress):
                own = base_says([q.text for q in trial.questions])
                for record in _answers(trial, own, models, gate, generator, config.methods):
                    found[trial.protocol, trial.edits, record.method].append(record)
            parts = {"model": base, "reader": models.reader, "generator": generator, "gate": gate}
            stamps = {name: part.fingerprint for name, part in parts.items() if part is not None}
            _keep(kept, dataset, seed, found, stamps)
        came = json.loads(kept.read_text("utf-8"))
        results += came["results"]
        rows += came["answers"]
        by = {"fingerprints": came["fingerprints"], "threshold": gate.calibration.threshold}
        made.append({"seed": seed, "versions": came["versions"], "commit": came["commit"], **by})
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


def chosen(trials: Sequence[Trial], edits: Sequence[int]) -> list[Trial]:
    """The trials of so many edits at a time; all if none are named."""
    sizes = sorted({t.edits for t in trials})
    if unknown := sorted(set(edits) - set(sizes)):
        raise InputError(
            f"Trials of {', '.join(map(str, unknown))} edits at a time came",
            f"some of {', '.join(map(str, sizes))}",
            "Give one of these with --edits, or leave it out for all",
        )
    return [t for t in trials if not edits or t.edits in edits]


def _keep(
    path: Path,
    dataset: str,
    seed: int,
    found: Mapping[tuple[str, int, str], list[Record]],
    fingerprints: Mapping[str, str],
) -> None:
    """Write scores and answers of one seed, so that a stopped run goes on behind it."""
    scored: list[dict[str, Any]] = []
    answered: list[dict[str, Any]] = []
    for (protocol, edits, method), records in found.items():
        where = {"protocol": protocol, "edits": edits, "method": method, "seed": seed}
        scored.append({**where, "metrics": score(records)})
        told = {"dataset": dataset, "protocol": protocol, "seed": seed}
        answered += [told | r.row() for r in records]
    part = path.with_suffix(".part")
    whole = {**provenance(**fingerprints), "results": scored, "answers": answered}
    part.write_text(json.dumps(whole), "utf-8")
    part.replace(path)


def replies(
    lm: LanguageModel, texts: Sequence[str], prefixes: Sequence[Prefix | None] | None = None
) -> list[str]:
    """What a model says to texts, a prefix in front of each if there are any."""
    found: list[str] = []
    for start in range(0, len(texts), 64):
        part = None if prefixes is None else prefixes[start : start + 64]
        found += lm.reply(texts[start : start + 64], part, max_new_tokens=LONGEST_ANSWER)
    return found


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
    return ScopeGate.from_pretrained(folder, TextEncoder())


def _statements(memory: Sequence[EditTexts]) -> list[str]:
    """What a memory says, each statement once."""
    return list(dict.fromkeys(s for edit in memory for s in edit))


def written(trial: Trial) -> list[dict[str, str]]:
    """The edits as they are given to the memory: with the prompt that asks for them, if any."""
    asked = {
        q.needed[0]: {"prompt": q.text, "target": q.answer}
        for q in trial.questions
        if q.kind == "rewrite" and q.answer is not None and len(q.needed) == 1
    }
    return [{"statement": s, **asked.get(s, {})} for s in _statements(trial.memory)]


def _calibrate(gate: ScopeGate, trial: Trial) -> dict[str, float]:
    edits = [Edit(s, id=s) for s in _statements(trial.memory)]
    outside = [q.text for q in trial.questions if not q.needed]
    inside = [(q.text, set(q.needed)) for q in trial.questions if q.needed]
    return calibrate(gate, [Judged(gate.shelf(edits), outside, inside)], RATE)


def _answers(
    trial: Trial,
    own: Sequence[str],
    models: Models,
    gate: ScopeGate,
    generator: SelfEncoder,
    methods: Sequence[str],
) -> Iterator[Record]:
    """Every question of a trial, answered by every method that there is a model for."""
    questions, base = trial.questions, models.base
    texts = [q.text for q in questions]
    context = [" ".join([*q.needed, q.text]) for q in questions]
    editor = Editor(base, gate, generator, Memory(":memory:"))
    edits = [editor.edit(**row) for row in written(trial)]  # one may take another's place
    decisions = editor.explain_many(texts)
    fired = [tuple(e.statement for e in d.fired) for d in decisions]
    retrieved = [" ".join([*f, text]) for f, text in zip(fired, texts, strict=True)]

    def right_prefixes() -> list[Prefix | None]:
        made = editor.cached_prefixes(edits)
        single = {e.statement: made[e.id] for e in edits}
        return [Prefix.join([single[s] for s in q.needed]) if q.needed else None for q in questions]

    def behind_gate(editor: Editor) -> _Read:
        prefixes = editor.prefixes(decisions)
        return _Read(base, texts, prefixes, editor.bos(prefixes))

    cached = Editor(base, gate, VerbatimGenerator(base), editor.memory)
    gated = {"verbatim": cached, "seprog": editor}
    ways: dict[str, Callable[[], _Read]] = {
        "none": lambda: _Read(base, texts),
        "in_context_oracle": lambda: _Read(base, context),
        "in_context_retrieved": lambda: _Read(base, retrieved),
        "verbatim": lambda: behind_gate(cached),
        "seprog": lambda: behind_gate(editor),
        "seprog_oracle": lambda: _Read(base, texts, right_prefixes()),
    }
    if (reader := models.reader) is not None:
        ways["reader_oracle"] = lambda: _Read(reader, context)
    inside = [i for i, q in enumerate(questions) if q.needed]
    touched = {"none": [], "in_context_retrieved": [i for i, f in enumerate(fired) if f]}
    for name in (m for m in methods if m in ways):
        read = cache(ways[name])
        if name in gated:
            said = gated[name].answer(decisions, LONGEST_ANSWER)
        else:
            said = _said(own, read(), touched.get(name, inside))
        scores = _forced(read, questions)
        for i, (q, (accuracy, likelier)) in enumerate(zip(questions, scores, strict=True)):
            yield Record(
                name,
                trial.edits,
                "after_all",
                q.kind,
                q.text,
                own[i] if q.answer is None else q.answer,
                said[i],
                q.needed,
                fired[i] if name in GATED else None,
                teacher_forced=accuracy,
                likelier=likelier,
                accepted=q.accepted,
            )


@dataclass(frozen=True)
class _Read:
    """What a method puts to a model, per question."""

    lm: LanguageModel
    texts: Sequence[str]
    prefixes: Sequence[Prefix | None] | None = None
    bos: Sequence[bool] | bool = True


def _said(own: Sequence[str], read: _Read, rows: Sequence[int]) -> list[str]:
    """Answers to some questions; the base model's own to those that nothing is put before."""
    found = list(own)
    prefixes = None if read.prefixes is None else [read.prefixes[i] for i in rows]
    answered = replies(read.lm, [read.texts[i] for i in rows], prefixes)
    for i, reply in zip(rows, answered, strict=True):
        found[i] = reply
    return found


@torch.no_grad()
def _forced(reading: Callable[[], _Read], questions: Sequence[Question]) -> list[Score]:
    """Per question, its teacher-forced accuracy, and whether the right answer is the likelier one.

    What is put to the model is made only if a question has answers to compare.
    """

    def fare(rows: Sequence[int], answers: Sequence[str]) -> list[Forced]:
        read, prefixes = reading(), None
        if read.prefixes is not None:
            prefixes = PrefixBatch.stack([read.prefixes[i] for i in rows])
        bos = read.bos if isinstance(read.bos, bool) else [read.bos[i] for i in rows]
        told = [Example((), read.texts[i], a) for i, a in zip(rows, answers, strict=True)]
        return forced(objective_for(read.lm).ask(prefixes, told, bos))

    return forced_scores([q.compared for q in questions], fare)


def spread(
    protocol: str,
    size: int,
    about: Mapping[EditTexts, Sequence[Question]],
    near: Mapping[EditTexts, Sequence[Question]],
    far: Sequence[Question],
    rng: random.Random,
) -> Iterator[Trial]:
    """Trials of so many edits each, until every edit has been asked about in one.

    The last memory is filled up with edits that were asked about before.

    Args:
        protocol: What is tried.
        size: Edits at a time; 0 means all of them, and counts what they say, each statement once.
            There are no trials of more than there are.
        about: Per edit, the questions in its scope; one that several have is asked once.
        near: Per edit, questions near it that no edit bears on. Each is asked once, where one of
            the edits that it is near to is in force.
        far: Questions that are near no edit, shared out evenly.
        rng: Source of the order.
    """
    edits = rng.sample(list(about), len(about))
    beside, whole = _once(near), _statements(edits)
    step = size or len(edits)
    asked = [edits[i : i + step] for i in range(0, len(edits), max(1, step))]
    for i, part in enumerate(asked if step <= len(edits) else ()):
        memory = [*part, *edits[: step - len(part)]]
        questions = [question for edit in part for question in about[edit]]
        own = {edit: beside[edit] for edit in part if edit in beside}
        questions += [question for near_it in own.values() for question in near_it]
        questions += far[i :: len(asked)]
        yield Trial(protocol, size or len(whole), memory, list(dict.fromkeys(questions)), own)


def _once(near: Mapping[EditTexts, Sequence[Question]]) -> dict[EditTexts, list[Question]]:
    """Each question with one edit only, of those that it stands with the one that has fewest."""
    homes: dict[Question, list[EditTexts]] = defaultdict(list)
    for edit, questions in near.items():
        for question in questions:
            homes[question].append(edit)
    found: dict[EditTexts, list[Question]] = {edit: [] for edit in near}
    for question, edits in homes.items():
        found[min(edits, key=lambda edit: len(found[edit]))].append(question)
    return found
