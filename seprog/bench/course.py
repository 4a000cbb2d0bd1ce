"""What methods learn from, are tuned on and are asked, whatever the data set."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, Protocol, runtime_checkable

from seprog.atlas.corpus import Corpus
from seprog.atlas.scenario import Probe, Scenario, make_scenario
from seprog.atlas.tokens import spellings
from seprog.atlas.world import Fact, Wording, load_world
from seprog.bench.facts import FactEditing
from seprog.bench.metrics import MEANS
from seprog.bench.plan import RIGHT_AFTER, Plan, plan
from seprog.bench.suite import EDITS
from seprog.bench.trials import (
    BaseSays,
    Models,
    Question,
    Task,
    Trial,
    chosen,
    remembering,
    written,
)
from seprog.errors import InputError
from seprog.generator.objective import objective_for
from seprog.lm import CausalLM, LanguageModel
from seprog.methods import Lesson, Request
from seprog.training.examples import NOISE, atlas_examples
from seprog.training.facts import FactCorpus, mentions
from seprog.training.gate import GateTraining, scenarios
from seprog.training.generator import with_base_answers
from seprog.training.scopes import Scopes, atlas_scopes
from seprog.types import Example

TAUGHT = 2000
"""Documents of what the base model was taught that statistics of its states are taken over."""


@dataclass(frozen=True)
class Series:
    """Edits that are written one after another, and what is asked when.

    Args:
        size: Number of edits at a time, as reported.
        edits: In the order of writing.
        questions: To ask after all edits.
        early: Some of the edits, each with what is asked right after it.
        replaced: Edits with those that take their place afterwards, one after another.
        taken: Edits that are taken back afterwards.
        later: To ask after that: ``superseded``, ``superseded_twice`` and ``forgotten``.
        protocol: What is tried.
    """

    size: int
    edits: Sequence[Request]
    questions: Sequence[Question]
    early: Mapping[Request, Sequence[Question]] = field(default_factory=dict)
    replaced: Mapping[Request, Sequence[Request]] = field(default_factory=dict)
    taken: Sequence[Request] = ()
    later: Sequence[Question] = ()
    protocol: str = "sequential"

    @property
    def asks(self) -> bool:
        """Whether every edit is a prompt with its answer, not a sentence alone."""
        return all(request.prompt for request in self.edits)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {request.statement: i for i, request in enumerate(self.edits)}

    def age(self, question: Question) -> int | None:
        """Edits written after the newest one that a question rests on; ``None`` out of scope."""
        if not question.needed:
            return None
        return len(self._places) - 1 - max(self._places[s] for s in question.needed)


@runtime_checkable
class Course(Protocol):
    """A data set, as methods need it."""

    name: str
    """In results."""
    lm: LanguageModel
    """The base model."""
    reader: LanguageModel | None
    """Its twin that reads edits in its context, if the data set brings one."""
    base_says: BaseSays
    """What the base model says, while nothing is edited."""

    def taught(self) -> list[str]:
        """Some of what the base model was taught, for statistics of its states."""
        ...

    def examples(self, seed: int) -> Iterator[Example]:
        """Single edits, each with a prompt and its answer, or ``None`` where it must stay."""
        ...

    def lessons(self, seed: int) -> Iterator[Lesson]:
        """Single edits, each with a prompt that it bears on and one that it does not."""
        ...

    def scopes(self, how: GateTraining) -> list[Scopes]:
        """The memories that scope classifiers learn from."""
        ...

    def sizes(self, seed: int) -> list[int]:
        """Numbers of edits that there are series of."""
        ...

    def series(self, edits: int, seed: int) -> list[Series]:
        """What is reported: memories of so many edits, one after another."""
        ...

    def tuning(self, edits: int) -> Series:
        """What settings are tried on, of the calibration part."""
        ...


class AtlasCourse:
    """Atlas: the very edits and probes of ``seprog eval atlas``.

    Args:
        lm: The base model.
        wording: As for ``plan``.
    """

    reader: LanguageModel | None = None

    def __init__(self, lm: CausalLM, wording: Wording = "test") -> None:
        self.lm: LanguageModel = lm
        self.base_says, self.wording = remembering(lm), wording
        self.name = "atlas" if wording == "test" else f"atlas_{wording}"

    def taught(self) -> list[str]:
        """Facts in words."""
        return _texts(Corpus(load_world(), random.Random(0)))

    def _words(self, rng: random.Random) -> Sequence[str]:
        tokenizer: Any = self.lm.tokenizer
        return spellings(tokenizer, rng)

    def examples(self, seed: int) -> Iterator[Example]:
        """What generators learn from, as far as it rests on one edit."""
        rng = random.Random(seed)
        return single(atlas_examples(load_world(), "train", rng, self._words(rng)))

    def lessons(self, seed: int) -> Iterator[Lesson]:
        """In the training split's names and phrasings."""
        rng, world = random.Random(seed), load_world()
        words = self._words(rng)
        while True:
            scenario = make_scenario(world, "train", 24, rng, 0.0, NOISE, words)
            facts = list(scenario.facts.values())
            asked: dict[Fact, list[Probe]] = {}
            for probe in scenario.in_scope(rng):
                asked.setdefault(probe.used[0], []).append(probe)
            others = [*scenario.near_misses(rng, facts), *scenario.far(rng, len(facts))]
            rng.shuffle(others)
            away = with_base_answers(
                objective_for(self.lm), (Example((), p.prompt, None) for p in others)
            )
            for fact, other in zip(facts, away, strict=False):
                request, probe = request_of(scenario, fact), rng.choice(asked[fact])
                yield Lesson(request, Example((), probe.prompt, probe.answer), other)

    def scopes(self, how: GateTraining) -> list[Scopes]:
        """In the training split's names and phrasings."""
        rng = random.Random(0)
        return [atlas_scopes(scenario, rng) for scenario in scenarios(how)]

    def sizes(self, seed: int) -> list[int]:
        """Any will do; these are the ones that are reported."""
        return list(EDITS)

    def series(self, edits: int, seed: int) -> list[Series]:
        """One memory, in the test split's names and phrasings."""
        return [series_of(plan(edits, seed, wording=self.wording))]

    def tuning(self, edits: int) -> Series:
        """In the calibration split's names and phrasings."""
        return series_of(plan(edits, 1, "calibration"))


def series_of(what: Plan) -> Series:
    """A scenario of Atlas, as any method can read it."""
    scenario, changes = what.scenario, what.changes

    def questions(probes: Sequence[Probe]) -> list[Question]:
        return [
            Question(p.kind, p.prompt, p.answer, tuple(scenario.statement(f) for f in p.used))
            for p in probes
        ]

    def request(fact: Fact) -> Request:
        return request_of(scenario, fact)

    return Series(
        len(scenario.facts),
        [request(f) for f in scenario.facts.values()],
        questions(what.probes),
        {request(f): questions(probes) for f, probes in what.early.items()},
        {request(old): [request(f) for f in newer] for old, newer in changes.replaced.items()},
        [request(f) for f in changes.taken],
        questions(changes.probes),
    )


def request_of(scenario: Scenario, fact: Fact) -> Request:
    """A scenario's edit, with the subject as the prompt spells it.

    Raises:
        InputError: If the prompt does not name the subject.
    """
    prompt = scenario.prompts[fact]
    start = max(0, prompt.lower().find(fact.subject.lower()))
    subject = prompt[start : start + len(fact.subject)]
    if subject.lower() != fact.subject.lower():
        raise InputError(f"{prompt!r} does not name {fact.subject!r}", "a prompt with the subject")
    return Request(prompt, fact.object, subject, scenario.statement(fact))


class TrialCourse:
    """A data set with trials: the very edits and questions of ``seprog eval`` with its name.

    Args:
        name: In results.
        task: The data set.
        models: Its base model, and the twin that reads edits, if there is one.
    """

    def __init__(self, name: str, task: Task, models: Models) -> None:
        self.name, self.task, self.lm, self.reader = name, task, models.base, models.reader
        self._subjects: dict[str, str] = {}
        if isinstance(task, FactEditing):
            parts = (*task.parts.test, *task.parts.dev, *task.parts.train)
            self._subjects = {f.prompts[0]: f.subject for f in parts}
        self.base_says = remembering(models.base)
        self.trials = cache(self._drawn)

    def taught(self) -> list[str]:
        """Facts in words.

        Raises:
            InputError: If the data set has none.
        """
        if not isinstance(self.task, FactEditing):
            raise InputError(
                f"Statistics of what a base model reads were asked of {self.name}",
                "a data set of facts",
                "Choose another method",
            )
        return _texts(self.task.corpus(0))

    def examples(self, seed: int) -> Iterator[Example]:
        """What generators learn from, as far as it rests on one edit."""
        return single(self.task.examples("train", random.Random(seed)))

    def lessons(self, seed: int) -> Iterator[Lesson]:
        """Of the training facts."""
        rng = random.Random(seed)
        fresh = (e for e in single(self.task.examples("train", rng)) if e.answer is None)
        away = with_base_answers(objective_for(self.lm), fresh)
        for asked in single(self.task.examples("train", rng)):
            if asked.answer is None:
                continue
            [statement] = asked.edits
            prompt = statement.removesuffix(f" {asked.answer}.")
            if prompt == statement:  # its answer only follows from the edit
                continue
            subject = self._subjects[prompt]
            request = Request(prompt, asked.answer, subject, statement)
            other = next(e for e in away if not mentions(e.prompt, [subject]))
            yield Lesson(request, replace(asked, edits=()), replace(other, edits=()))

    def scopes(self, how: GateTraining) -> list[Scopes]:
        """Of the training part."""
        rng = random.Random(how.seed)
        return [self.task.scopes(how.edits, rng) for _ in range(how.scenarios)]

    def _drawn(self, seed: int) -> list[Trial]:
        return list(self.task.trials(seed, self.base_says))

    def sizes(self, seed: int) -> list[int]:
        """Those that there are trials of."""
        return list(dict.fromkeys(t.edits for t in self.trials(seed)))

    def series(self, edits: int, seed: int) -> list[Series]:
        """The trials of so many edits at a time.

        Raises:
            InputError: If the data set has none.
        """
        return [self._series(t, RIGHT_AFTER) for t in chosen(self.trials(seed), [edits])]

    def tuning(self, edits: int) -> Series:
        """Some edits of the calibration part, what is near them, and as many or more far questions.

        Raises:
            InputError: If these edits have no questions of a kind that settings are tuned for.
        """
        whole = self.task.calibration(random.Random(1))
        askable = {(row["statement"],) for row in written(whole) if "prompt" in row}
        memory = [edit for edit in whole.memory if edit in askable][:edits]
        told = {statement for edit in memory for statement in edit}
        inside = [q for q in whole.questions if q.needed and set(q.needed) <= told]
        near = list(dict.fromkeys(q for edit in memory for q in whole.near.get(edit, ())))
        far = [q for q in whole.questions if q.kind == "far"]
        away = random.Random(0).sample(far, min(max(len(near), len(memory)), len(far)))
        questions = [*inside, *near, *away]
        kinds = {q.kind for q in whole.questions} - {q.kind for q in questions}
        if missing := kinds.intersection(MEANS):
            raise InputError(
                f"{len(memory)} edits to tune on came without questions of {', '.join(missing)}",
                f"edits of {self.name} with some of each kind that it has",
                "Raise TUNING_EDITS",
            )
        return self._series(replace(whole, memory=memory, questions=questions), 0)

    def _series(self, trial: Trial, early: int) -> Series:
        """A trial's edits; what is in the scope of some is also asked right after them."""
        requests = []
        for row in written(trial):
            prompt = row.get("prompt", "")
            subject = self._subjects.get(prompt, "")
            requests.append(Request(prompt, row.get("target", ""), subject, row["statement"]))
        own: dict[str, list[Question]] = {}
        for question in trial.questions:
            for statement in question.needed:
                own.setdefault(statement, []).append(question)
        soon = random.Random(0).sample(requests, min(early, len(requests)))
        return Series(
            trial.edits,
            requests,
            trial.questions,
            {r: own[r.statement] for r in soon if r.statement in own},
            protocol=trial.protocol,
        )


def single(examples: Iterator[Example]) -> Iterator[Example]:
    """Those that rest on one edit; of those that rest on none, one edit is left."""
    for example in examples:
        if example.answer is None:
            yield replace(example, edits=example.edits[:1])
        elif len(example.edits) == 1:
            yield example


def _texts(corpus: Corpus | FactCorpus) -> list[str]:
    """Some of the facts that a corpus teaches, in words."""
    picks = corpus.rng.choices(range(len(corpus.closed)), k=TAUGHT)
    return [" ".join(text for text, _ in corpus.closed_document(i).pieces) for i in picks]
