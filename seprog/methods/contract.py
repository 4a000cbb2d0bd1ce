"""What every way of editing can do, so that all of them are measured alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from seprog.errors import InputError
from seprog.generator.objective import Asked, objective_for
from seprog.lm import CausalLM, EncoderModel, LanguageModel, Seq2SeqLM
from seprog.types import Edit, Example

LONGEST_ANSWER = 16
"""Tokens of an answer, at most."""
ANY = (CausalLM, EncoderModel, Seq2SeqLM)
"""All kinds of base models."""
Forced = tuple[float, float]
"""How an answer fares where its right tokens are given one by one: the share of them that are
likeliest (0 to 1), and their mean cross-entropy; what closes it does not count."""
Chosen = Sequence[Any] | None
"""Per prompt, what a method chose to apply to it, or ``None``; or ``None`` for it to choose now."""


def forced(asked: Asked) -> list[Forced]:
    """Per row of what was asked."""
    return list(zip(asked.token_accuracy(), asked.losses(closed=False).tolist(), strict=True))


def require_known(names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse names of methods that are not among those known.

    Raises:
        InputError: If one is not.
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise InputError(
                f"There is no method {name!r}", f"some of {', '.join(known)}", "Check its name"
            )


def missing(request: Request) -> InputError:
    """What to raise where an edit is to be taken back that is not in force."""
    return InputError(
        f"{request.statement!r} was to be taken back, and is not in force",
        "an edit in force",
        "Apply it first",
    )


@dataclass(frozen=True)
class Request:
    """An edit as all methods can read it.

    Args:
        prompt: What is asked; empty for a sentence alone.
        target: The new answer; empty for a sentence alone.
        subject: What the prompt is about; a part of it, empty where nobody says.
        statement: The edit as one sentence.
    """

    prompt: str
    target: str
    subject: str
    statement: str

    def __post_init__(self) -> None:
        if self.subject not in self.prompt:
            raise InputError(
                f"The prompt {self.prompt!r} came with the subject {self.subject!r}",
                "a subject that stands in the prompt, letter for letter",
                "Correct one of them",
            )

    def edit(self) -> Edit:
        """As seprog keeps it."""
        return Edit(self.statement, prompt=self.prompt, target=self.target, subject=self.subject)

    def row(self) -> dict[str, str]:
        """The fields that ``Editor.edit`` takes."""
        asked = {"prompt": self.prompt, "target": self.target} if self.prompt else {}
        return {"statement": self.statement, **asked}


class EditMethod(ABC):
    """A way to correct a language model.

    Args:
        lm: The base model; whatever a method changes in it, ``revert`` takes back.

    Raises:
        InputError: If the method is not made for such a base model.
    """

    name: ClassVar[str]
    """In results."""
    source: ClassVar[str]
    """The paper that it comes from."""
    kinds: ClassVar[tuple[type[LanguageModel], ...]] = (CausalLM,)
    """Kinds of base models that it is made for."""
    forgets: ClassVar[bool] = False
    """Whether a single edit can be taken back while others stay."""
    reads: ClassVar[bool] = False
    """Whether an edit may be a sentence alone, without a prompt that it answers."""
    lm: LanguageModel
    needed: Mapping[str, tuple[str, ...]]
    """By prompt, the statements of the edits that it rests on, as far as who asks says so; only
    what shows a bound looks there."""

    def __init__(self, lm: LanguageModel) -> None:
        self.require_fit(lm)
        self.lm, self.needed = lm, {}

    @classmethod
    def fits(cls, lm: LanguageModel) -> bool:
        """Whether the method is made for a base model."""
        return isinstance(lm, cls.kinds)

    @classmethod
    def require_fit(cls, lm: LanguageModel) -> None:
        """Refuse a base model that the method is not made for.

        Raises:
            InputError: If it is not.
        """
        if not cls.fits(lm):
            raise InputError(
                f"{cls.name} was to edit a base model that is a {type(lm).__name__}",
                " or ".join(kind.__name__ for kind in cls.kinds),
                "Choose another method, or another base model",
            )

    @property
    def models(self) -> list[LanguageModel]:
        """All that answer."""
        return [self.lm]

    @abstractmethod
    def apply(self, requests: Sequence[Request]) -> None:
        """Edit; requests that came before stay in force."""

    @abstractmethod
    def revert(self) -> None:
        """Take all edits back; the base model is what it was, bit for bit."""

    @abstractmethod
    def bytes_kept(self) -> int:
        """What has to be kept for the edits in force, beside the base model."""

    def forget(self, request: Request) -> None:
        """Take one edit back.

        Raises:
            InputError: If the method cannot do that, or the edit is not in force.
        """
        raise InputError(
            f"{self.name} was to take a single edit back",
            f"a method that can (not {self.name})",
            "Revert all edits, and apply the others again",
        )

    def chosen(self, prompts: Sequence[str]) -> Sequence[Any]:
        """Per prompt, what applies to it; changed weights apply to all, and choose nothing."""
        return [None] * len(prompts)

    def statements(self, entry: Any) -> tuple[str, ...] | None:
        """The statements of the edits in what was chosen; ``None`` where edits are not chosen."""
        return None

    def texts(self, prompts: Sequence[str], chosen: Chosen = None) -> list[str]:
        """What is read for prompts: they themselves, behind what is put before them."""
        return list(prompts)

    def answer(self, prompts: Sequence[str], chosen: Chosen = None) -> list[str]:
        """What the edited model says, greedily."""
        return self.lm.reply(prompts, max_new_tokens=LONGEST_ANSWER)

    @torch.no_grad()
    def forced(self, examples: Sequence[Example], chosen: Chosen = None) -> list[Forced]:
        """How answers fare with the edited model, teacher-forced.

        Args:
            examples: Prompts with answers; their edits are passed over.
            chosen: What applies to the prompts.
        """
        return forced(objective_for(self.lm).ask(None, examples))

    @torch.no_grad()
    def logits(self, prompts: Sequence[str], chosen: Chosen = None) -> Float[Tensor, "batch ..."]:
        """The edited model's logits for prompts, as one batch.

        Per token, per label or, where another part of the model answers, for the first token.
        """
        ids, mask = self.lm.tokens.pad(self.lm.tokens.encode(prompts, True), self.lm.device)
        return self.lm.forward(ids, mask)


Entry = TypeVar("Entry")
Row = TypeVar("Row")
Found = TypeVar("Found")


class MemoryMethod(EditMethod, Generic[Entry]):
    """Base of the methods that leave the model alone where none of their entries applies."""

    forgets: ClassVar[bool] = True

    @abstractmethod
    def chosen(self, prompts: Sequence[str]) -> Sequence[Entry | None]:
        """Per prompt, the entry that applies."""

    @abstractmethod
    def answer_with(self, prompts: Sequence[str], entries: Sequence[Entry]) -> list[str]:
        """What is said to prompts, an entry applying to each."""

    @abstractmethod
    def ask_with(self, examples: Sequence[Example], entries: Sequence[Entry]) -> Asked:
        """Answers that are given to prompts, an entry applying to each."""

    def answer(self, prompts: Sequence[str], chosen: Chosen = None) -> list[str]:
        """By the entries where one applies, else by the untouched model."""
        entries = self.chosen(prompts) if chosen is None else chosen
        return self._either(entries, prompts, super().answer, self.answer_with)

    @torch.no_grad()
    def forced(self, examples: Sequence[Example], chosen: Chosen = None) -> list[Forced]:
        """With the entries where one applies, else with the untouched model."""

        def covered(part: Sequence[Example], entries: Sequence[Entry]) -> list[Forced]:
            return forced(self.ask_with(part, entries))

        entries = self.chosen([e.prompt for e in examples]) if chosen is None else chosen
        return self._either(entries, examples, super().forced, covered)

    def _either(
        self,
        entries: Sequence[Entry | None],
        rows: Sequence[Row],
        plain: Callable[[Sequence[Row]], Sequence[Found]],
        covered: Callable[[Sequence[Row], Sequence[Entry]], Sequence[Found]],
    ) -> list[Found]:
        """Rows that no entry applies to by one way, the others by another."""
        away = [i for i, e in enumerate(entries) if e is None]
        near = [(i, e) for i, e in enumerate(entries) if e is not None]
        found: dict[int, Found] = {}
        if away:
            found |= zip(away, plain([rows[i] for i in away]), strict=True)
        if near:
            made = covered([rows[i] for i, _ in near], [e for _, e in near])
            found |= zip((i for i, _ in near), made, strict=True)
        return [found[i] for i in range(len(rows))]
