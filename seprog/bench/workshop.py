"""What methods are made from: what some of them need trained is trained once and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from seprog.bench.course import Course
from seprog.editor import Editor
from seprog.errors import InputError
from seprog.gate import ScopeGate
from seprog.generator.objective import Continuation
from seprog.lm import CausalLM, LanguageModel, Seq2SeqLM
from seprog.methods import (
    EditCorpus,
    MendTraining,
    RecipeTraining,
    single_stages,
    train_mend,
    train_recipe,
)
from seprog.text_encoder import TextEncoder, packaged_folder
from seprog.training.causal import CausalTraining, train_causal
from seprog.training.compute import Compute
from seprog.training.gate import GateTraining, train_gate
from seprog.training.generator import with_base_answers
from seprog.training.seq2seq import Seq2SeqTraining, train_seq2seq

Config = TypeVar("Config", bound=Compute)


@dataclass(frozen=True)
class Training:
    """How the parts of methods that are trained once are trained.

    Args:
        recipe: RECIPE's encoder of edits.
        mend: MEND's network.
        counterfactual: SERAC's counterfactual model.
        gate: SERAC's scope classifier.
        translator: Its counterfactual model where the base is a sequence-to-sequence one.
    """

    recipe: RecipeTraining = field(default_factory=RecipeTraining)
    mend: MendTraining = field(default_factory=MendTraining)
    counterfactual: CausalTraining = field(
        default_factory=lambda: CausalTraining(layers=4, steps=4000, again=0)
    )
    gate: GateTraining = field(default_factory=lambda: GateTraining(steps=1500))
    translator: Seq2SeqTraining = field(default_factory=lambda: Seq2SeqTraining(steps=2000))


class Workshop:
    """What methods are made from; what has to be trained is trained once and kept.

    Args:
        course: The base model, what there is to learn from, and what is asked.
        work: Folder for what is trained.
        training: How.
        editor: Makes what methods behind our gate share; ``None``: there are none.
    """

    def __init__(
        self,
        course: Course,
        work: Path,
        training: Training | None = None,
        editor: Callable[[], Editor] | None = None,
    ) -> None:
        self.lm, self.course, self.work = course.lm, course, work
        self.training, self._editor = training or Training(), editor

    @cached_property
    def editor(self) -> Editor:
        """Base model, gate and generator.

        Raises:
            InputError: If there are none.
        """
        if self._editor is None:
            raise InputError(
                "A method behind our gate was to be measured, without a gate",
                "a gate and a generator for the base model",
                "Give the workshop an editor",
            )
        return self._editor()

    @cached_property
    def texts(self) -> list[str]:
        """What the base model was taught, for statistics of its states."""
        return self.course.taught()

    @cached_property
    def encoder(self) -> TextEncoder:
        """The frozen sentence encoder."""
        return TextEncoder(device=self.lm.device)

    @property
    def causal(self) -> CausalLM:
        """The base model, for what is made for causal ones."""
        assert isinstance(self.lm, CausalLM)
        return self.lm

    def _here(self, how: Config) -> Config:
        """A training, on the base model's device."""
        return replace(how, device=str(self.lm.device))

    def seconds(self, parts: Sequence[str]) -> float | None:
        """How long parts took to be trained, in all; ``None`` if one came with the data set."""
        notes = [self.work / f"{name}.seconds" for name in parts]
        known = [float(note.read_text()) for note in notes if note.exists()]
        return sum(known) if len(known) == len(notes) else None

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
                train_mend(self.lm, self.course.lessons, folder, self.training.mend)
        return folder

    def recipe(self) -> Path:
        """Folder of a trained RECIPE."""
        folder = self.work / "recipe"
        if not (folder / "recipe.safetensors").exists():
            how, asked = self.training.recipe, Continuation(self.causal)
            with self._timed("recipe"):
                train_recipe(
                    self.causal,
                    self.encoder,
                    lambda seed: with_base_answers(asked, self.course.examples(seed)),
                    folder,
                    how,
                )
        return folder

    def counterfactual(self) -> LanguageModel:
        """SERAC's model that answers in scope: the data set's own that reads edits, if any."""
        if self.course.reader is not None:
            return self.course.reader
        folder = self.work / "counterfactual"
        if not (folder / "training.json").exists():
            with self._timed("counterfactual"):
                self._teach_counterfactual(folder)
        kind: Any = type(self.lm)
        found: LanguageModel = kind.from_pretrained(str(folder), "float32", self.lm.device)
        return found

    def _teach_counterfactual(self, folder: Path) -> None:
        """A model of the base model's kind that reads edits."""
        run = self.work / "counterfactual.run"

        def corpus(seed: int) -> EditCorpus:
            return EditCorpus(self.course.examples(seed))

        if isinstance(self.lm, Seq2SeqLM):
            train_seq2seq(
                packaged_folder(), folder, run, self._here(self.training.translator), corpus
            )
            return
        tokenizer: Any = self.lm.tokenizer
        how = replace(self._here(self.training.counterfactual), vocabulary=len(tokenizer))
        train_causal(folder, run, how, corpus, tokenizer)

    def scope_classifier(self) -> ScopeGate:
        """SERAC's cross-encoder."""
        folder = self.work / "scope"
        if not (folder / "gate.json").exists():
            how = self._here(self.training.gate)
            asked = [single_stages(scopes) for scopes in self.course.scopes(how)]
            with self._timed("scope"):
                train_gate(folder, self.work / "scope.run", how, None, asked, lambda gate: {})
        gate = ScopeGate.from_pretrained(folder, self.encoder)
        gate.config = replace(gate.config, hops=1)
        return gate
