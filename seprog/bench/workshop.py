"""What peers are made from: what some of them need trained is trained once and kept."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from seprog.atlas.corpus import Corpus
from seprog.atlas.scenario import Probe, Scenario, make_scenario
from seprog.atlas.tokens import spellings
from seprog.atlas.world import Fact, load_world
from seprog.errors import InputError
from seprog.gate import ScopeGate
from seprog.generator.objective import Continuation
from seprog.lm import CausalLM
from seprog.methods import (
    EditCorpus,
    Lesson,
    MendTraining,
    RecipeTraining,
    Request,
    single_stages,
    train_mend,
    train_recipe,
)
from seprog.text_encoder import TextEncoder
from seprog.training.causal import CausalTraining, train_causal
from seprog.training.examples import NOISE, atlas_examples
from seprog.training.gate import GateTraining, scenarios, train_gate
from seprog.training.generator import with_base_answers
from seprog.training.scopes import atlas_scopes
from seprog.types import Example


@dataclass(frozen=True)
class Training:
    """How the parts of methods that are trained once are trained.

    Args:
        recipe: RECIPE's encoder of edits.
        mend: MEND's network.
        counterfactual: SERAC's counterfactual model.
        gate: SERAC's scope classifier.
    """

    recipe: RecipeTraining = field(default_factory=RecipeTraining)
    mend: MendTraining = field(default_factory=MendTraining)
    counterfactual: CausalTraining = field(
        default_factory=lambda: CausalTraining(layers=4, steps=4000, again=0)
    )
    gate: GateTraining = field(default_factory=lambda: GateTraining(steps=1500))


class Workshop:
    """What methods are made from; what has to be trained is trained once and kept.

    Args:
        lm: The base model.
        work: Folder for what is trained.
        training: How.
    """

    def __init__(self, lm: CausalLM, work: Path, training: Training | None = None) -> None:
        self.lm, self.work, self.training = lm, work, training or Training()

    @cached_property
    def texts(self) -> list[str]:
        """What the base model was taught: facts in words, for statistics of its states."""
        corpus = Corpus(load_world(), random.Random(0))
        picks = corpus.rng.choices(range(len(corpus.closed)), k=2000)
        return [" ".join(t for t, _ in corpus.closed_document(i).pieces) for i in picks]

    @cached_property
    def encoder(self) -> TextEncoder:
        """The frozen sentence encoder."""
        return TextEncoder()

    def examples(self, seed: int) -> Iterator[Example]:
        """What generators learn from, as far as it rests on one edit."""
        rng = random.Random(seed)
        tokenizer: Any = self.lm.tokenizer
        words = spellings(tokenizer, rng)
        for example in atlas_examples(load_world(), "train", rng, words):
            if example.answer is None:
                yield replace(example, edits=example.edits[:1])
            elif len(example.edits) == 1:
                yield example

    def lessons(self, seed: int) -> Iterator[Lesson]:
        """Single edits, each with a prompt that it bears on and one that it does not."""
        rng, world, form = random.Random(seed), load_world(), Continuation(self.lm)
        tokenizer: Any = self.lm.tokenizer
        words = spellings(tokenizer, rng)
        while True:
            scenario = make_scenario(world, "train", 24, rng, 0.0, NOISE, words)
            facts = list(scenario.facts.values())
            asked: dict[Fact, list[Probe]] = {}
            for probe in scenario.in_scope(rng):
                asked.setdefault(probe.used[0], []).append(probe)
            others = [*scenario.near_misses(rng, facts), *scenario.far(rng, len(facts))]
            rng.shuffle(others)
            away = with_base_answers(form, (Example((), p.prompt, None) for p in others))
            for fact, other in zip(facts, away, strict=False):
                request, probe = request_of(scenario, fact), rng.choice(asked[fact])
                yield Lesson(request, Example((), probe.prompt, probe.answer), other)

    def seconds(self, parts: Sequence[str]) -> float:
        """How long parts took to be trained, in all."""
        return sum(float((self.work / f"{name}.seconds").read_text()) for name in parts)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        """Note how long a part takes to be trained; a run that was stopped counts its last leg."""
        start = time.perf_counter()
        yield
        (self.work / f"{name}.seconds").write_text(f"{time.perf_counter() - start:.3f}\n")

    def mend(self) -> Path:
        """Folder of a trained MEND."""
        folder = self.work / "mend"
        if not (folder / "mend.safetensors").exists():
            with self._timed("mend"):
                train_mend(self.lm, self.lessons(0), folder, self.training.mend)
        return folder

    def recipe(self) -> Path:
        """Folder of a trained RECIPE."""
        folder = self.work / "recipe"
        if not (folder / "recipe.safetensors").exists():
            examples = with_base_answers(Continuation(self.lm), self.examples(0))
            with self._timed("recipe"):
                train_recipe(self.lm, self.encoder, examples, folder, self.training.recipe)
        return folder

    def counterfactual(self) -> CausalLM:
        """SERAC's model that answers in scope."""
        folder = self.work / "counterfactual"
        if not (folder / "training.json").exists():
            run, how = self.work / "counterfactual.run", self.training.counterfactual
            tokenizer: Any = self.lm.tokenizer
            how = replace(how, vocabulary=len(tokenizer))
            with self._timed("counterfactual"):
                train_causal(folder, run, how, lambda n: EditCorpus(self.examples(n)), tokenizer)
        return CausalLM.from_pretrained(str(folder), "float32")

    def scope_classifier(self) -> ScopeGate:
        """SERAC's cross-encoder."""
        folder, rng = self.work / "scope", random.Random(0)
        if not (folder / "gate.json").exists():
            how = self.training.gate
            asked = [single_stages(atlas_scopes(s, rng)) for s in scenarios(how)]
            with self._timed("scope"):
                train_gate(folder, self.work / "scope.run", how, None, asked, lambda gate: {})
        gate = ScopeGate.from_pretrained(folder, self.encoder)
        gate.config = replace(gate.config, hops=1)
        return gate


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
