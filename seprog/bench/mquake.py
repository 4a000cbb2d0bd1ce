"""MQuAKE-CF on a causal base model that knows its facts: questions of several hops, case by case.

The base model is trained from nothing on the hops of all cases, and on the training cases'
questions about other subjects. Edits of different cases contradict each other (MQuAKE-Remastered),
so each test case has a memory to itself.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from seprog.bench.facts import CausalFactEditing, FactParts, shared_out
from seprog.bench.trials import BaseSays, EditTexts, Part, Question, Trial
from seprog.data.cases import Asked, Case, Hop, load_folder
from seprog.data.mquake import FULL
from seprog.errors import InputError
from seprog.training.causal import CausalTraining
from seprog.training.facts import Fact
from seprog.training.hops import HopCorpus, Hops, Walk, hop_examples, hop_scopes
from seprog.training.scopes import Scopes
from seprog.types import Example

PARTS = ("test", "dev", "train")
"""In the order in which they are filled."""


@dataclass(frozen=True)
class MQuAKEBench:
    """How large a share of MQuAKE is edited, and how its base model is trained.

    Args:
        test: Cases that are edited, at most but for those that share a subject with them.
        dev: Cases that thresholds are fitted on, the same way.
        train: Cases that generators and gates learn from.
        far: Of each case, how many others' questions are asked.
        open_book: Share of the base model's documents that are to be read.
        noise: Share of scrambled prompts in these.
        model: How the base model is trained.
    """

    test: int = 140
    dev: int = 50
    train: int = 3000
    far: int = 2
    open_book: float = 0.7
    noise: float = 0.35
    model: CausalTraining = field(
        default_factory=lambda: CausalTraining(vocabulary=4096, layers=8, steps=4000)
    )


class MQuAKE(CausalFactEditing):
    """The task.

    Args:
        folder: With MQuAKE-CF's complete records.
        config: How much of them.

    Raises:
        InputError: If no complete record of MQuAKE is there, or a row is wrong.
    """

    def __init__(self, folder: Path, config: MQuAKEBench | None = None) -> None:
        self.config = config = config or MQuAKEBench()
        self.model = config.model
        groups = _apart(_cases(folder))
        random.Random(0).shuffle(groups)
        group_of = {case: i for i, group in enumerate(groups) for case in group}
        sizes = {name: getattr(config, name) for name in PARTS}
        self.cases = shared_out((c for g in groups for c in g), sizes, group_of.__getitem__)
        every = [case for name in PARTS for case in self.cases[name]]
        self.facts = _facts(every)
        edited = {name: self._edited(self.cases[name]) for name in PARTS}
        apart = {s for name in ("test", "dev") for c in self.cases[name] for s in _subjects(c)}
        free = [f for f in self.facts.values() if f.subject not in apart]
        targets: dict[str, list[str]] = defaultdict(list)
        for case in every[: len(self.cases["test"]) + len(self.cases["dev"])]:
            for edit in case.edits:
                targets[edit.prompt].append(edit.target)
        self.never = dict(targets)
        parts = FactParts(
            free, edited["dev"], edited["test"], (), {p: t[0] for p, t in targets.items()}
        )
        once = {f: replace(f, prompts=f.prompts[:1]) for f in (*parts.test, *parts.dev)}
        known = [once.get(f, f) for f in self.facts.values()]
        super().__init__(parts, known, (1,), 0, config.open_book)

    def _edited(self, cases: Iterable[Case]) -> list[Fact]:
        """What some cases edit, each once."""
        changed = [key for case in cases for key in _changed(case)]
        return [self.facts[key] for key in dict.fromkeys(changed)]

    def _hops(self, part: Part) -> Hops:
        """Walks in the words of a part's cases; what is edited on the way is of that part, too.

        Training makes longer ones of them.
        """
        cases, facts = self.cases["train"], self.parts.train
        if part == "calibration":
            cases = self.cases["dev"]
            own = {subject for case in cases for subject in _subjects(case)}
            facts = [f for f in self.known if f.subject in own]
        walks = [
            Walk(asked.prompt.replace(case.before[0].subject, "{}"), _relations(case.before))
            for case in cases
            for asked in _questions(case)
            if case.before[0].subject in asked.prompt
        ]
        walks = list(dict.fromkeys(walks))
        return Hops(self.known, walks, facts, self.never, longer=part == "train")

    def corpus(self, seed: int) -> HopCorpus:
        """What the base model reads; nothing that it reads gives a fact the answer of its edit."""
        return HopCorpus(
            self.known,
            self.known,
            self._hops("train"),
            self._true("train"),
            random.Random(seed),
            self.open_book,
            self.never,
            self.config.noise,
        )

    def spelt(self) -> list[str]:
        """Facts and training questions, and all new answers."""
        texts = [*super().spelt(), *(f"{p} {a}." for p, a in self._true("train"))]
        return texts + [f"{p} {a}." for p, answers in self.never.items() for a in answers]

    def _true(self, part: str) -> list[tuple[str, str]]:
        """Questions of several hops, answered as things are."""
        cases = self.cases[part]
        return [(a.prompt, c.before[-1].answer) for c in cases for a in _questions(c)]

    def examples(self, part: Part, rng: random.Random) -> Iterator[Example]:
        """Of the part's own facts, and in the words of its own cases."""
        facts = self.parts.train if part == "train" else self.parts.dev
        return hop_examples(self._hops(part), facts, rng)

    def scopes(self, edits: int, rng: random.Random) -> Scopes:
        """Of the training facts."""
        return hop_scopes(self._hops("train"), self.parts.train, edits, rng)

    def calibration(self, rng: random.Random) -> Trial:
        """Two thirds of the calibration cases, as far as they agree; the others are far.

        Of those all is asked, for a threshold takes a hundred questions out of scope.
        """
        settled: dict[tuple[str, str], str] = {}
        order = rng.sample(self.cases["dev"], len(self.cases["dev"]))
        chosen: list[Case] = []
        for case in order[: 2 * len(order) // 3]:
            world = _world(case)
            if all(settled.get(key, answer) == answer for key, answer in world.items()):
                chosen.append(case)
                settled |= world
        far = [c for c in order if not _world(c).keys() & settled.keys()]
        asked = [self._trial(case, (), rng) for case in chosen]
        near: dict[EditTexts, list[Question]] = defaultdict(list)
        for trial in asked:
            for edit in trial.memory:
                near[edit] += (q for q in trial.questions if q.kind == "near_miss")
        away = [Question("far", prompt) for case in far for prompt in _prompts(case)]
        questions = dict.fromkeys([*(q for trial in asked for q in trial.questions), *away])
        return Trial("calibration", len(near), list(near), list(questions), near)

    def trials(self, seed: int, base_says: BaseSays) -> Iterator[Trial]:
        """Each test case by itself."""
        rng = random.Random(seed)
        for case in self.cases["test"]:
            yield self._trial(case, self.cases["test"], rng)

    def _trial(self, case: Case, others: Sequence[Case], rng: random.Random) -> Trial:
        changed = _changed(case)
        told = {key: self.facts[key].stated(target) for key, target in changed.items()}
        questions = []
        for key, target in changed.items():
            rewrite, *rephrased = self.facts[key].prompts
            was, own = self.facts[key].answer, (told[key],)
            questions.append(Question("rewrite", rewrite, target, own, (target, was)))
            questions += [Question("paraphrase", p, target, own, (target, was)) for p in rephrased]
        passed = [(h.subject, h.relation) for h in case.after]
        needed = tuple(told[key] for key in dict.fromkeys(passed) if key in told)
        questions += [
            Question("composed", a.prompt, a.answers[0], needed, accepted=a.answers[1:])
            for a in _questions(case)
            if needed
        ]
        stay = {(h.subject, h.relation): h.prompts[0] for h in (*case.before, *case.after)}
        questions += [Question("near_miss", p) for key, p in stay.items() if key not in changed]
        here = _world(case).keys()
        away = [c for c in others if not _world(c).keys() & here]
        for other in rng.sample(away, min(self.config.far, len(away))):
            first, *_ = _questions(other)
            questions += [
                Question("far", first.prompt),
                Question("far", other.before[0].prompts[0]),
            ]
        return Trial("case by case", 1, [(s,) for s in told.values()], questions)

    def exam(self) -> dict[str, list[tuple[str, str]]]:
        """The hops of the test cases, and their questions as things are."""
        test = self.cases["test"]
        hops = {h.prompts[0]: h.answer for case in test for h in case.before}
        return {
            "hops": list(hops.items()),
            "questions": self._true("test"),
        }


def _cases(folder: Path) -> list[Case]:
    """Those whose hops are known and whose edits are on them."""
    loaded = [case for cases in load_folder(folder, [FULL]) for case in cases]
    found = [c for c in loaded if c.before and c.after and _changed(c)]
    if not found:
        raise InputError(
            f"{folder} holds no complete record of MQuAKE",
            "MQuAKE-CF's files as published, with the triples of each case",
            "Give such a folder with --data",
        )
    return found


def _apart(cases: Sequence[Case]) -> list[list[Case]]:
    """Groups of cases; no two groups share a subject that is edited or that a question names."""
    groups: list[tuple[set[str], list[Case]]] = []
    for case in cases:
        names = _subjects(case)
        joined = [g for g in groups if g[0] & names]
        groups = [g for g in groups if not g[0] & names]
        members = [c for _, of in joined for c in of]
        groups.append((names.union(*(n for n, _ in joined)), [*members, case]))
    return [members for _, members in groups]


def _subjects(case: Case) -> set[str]:
    """What its questions name, and what it edits."""
    return {case.before[0].subject, *(subject for subject, _ in _changed(case))}


def _changed(case: Case) -> dict[tuple[str, str], str]:
    """Edited hops by subject and relation, with their new answers; none if one is on no hop."""
    at = {h.prompts[0]: (h.subject, h.relation) for h in (*case.before, *case.after)}
    if any(edit.prompt not in at for edit in case.edits):
        return {}
    return {at[edit.prompt]: edit.target for edit in case.edits}


def _world(case: Case) -> dict[tuple[str, str], str]:
    """What its hops lead to once its edits hold; those that they leave aside, too."""
    stays = {(h.subject, h.relation): h.answer for h in (*case.after, *case.before)}
    return stays | _changed(case)


def _relations(hops: Sequence[Hop]) -> tuple[str, ...]:
    return tuple(h.relation for h in hops)


def _questions(case: Case) -> list[Asked]:
    """Those of several hops."""
    return [a for a in case.asked if a.kind == "composed"]


def _prompts(case: Case) -> list[str]:
    """All that may be asked about it."""
    hops = [p for h in (*case.before, *case.after) for p in h.prompts]
    return [*(a.prompt for a in _questions(case)), *hops]


def _facts(cases: Sequence[Case]) -> dict[tuple[str, str], Fact]:
    """What is true of every hop, by subject and relation."""
    found: dict[tuple[str, str], Fact] = {}
    for case in cases:
        truth = {edit.prompt: edit.truth[0] for edit in case.edits}
        for hop in (*case.before, *case.after):
            answer = truth.get(hop.prompts[0], hop.answer)
            fact = Fact(hop.subject, hop.prompts, answer, hop.relation)
            found.setdefault((hop.subject, hop.relation), fact)
    return found
