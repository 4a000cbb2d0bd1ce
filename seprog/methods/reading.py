"""Edits as text in the context: read by the base model, or by another model in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from seprog.generator.objective import Asked, objective_for
from seprog.lm import LanguageModel
from seprog.methods.contract import ANY, LONGEST_ANSWER, Chosen, MemoryMethod, Request, missing
from seprog.types import Example

Entry = TypeVar("Entry")


class Reading(MemoryMethod[Entry]):
    """Base of the methods that put the edits that apply before the prompt.

    Args:
        lm: The base model; it answers where no edit applies.
        reader: Answers where one does; ``None`` means the base model.
    """

    def __init__(self, lm: LanguageModel, reader: LanguageModel | None = None) -> None:
        super().__init__(lm)
        self.reader = reader or lm

    @property
    def models(self) -> list[LanguageModel]:
        """The base model, and the reader if it is another."""
        return [self.lm] if self.reader is self.lm else [self.lm, self.reader]

    def context(self, entry: Entry) -> Sequence[str]:
        """The statements that an entry puts before the prompt: those of the edits in it."""
        return self.statements(entry) or ()

    def texts(self, prompts: Sequence[str], chosen: Chosen = None) -> list[str]:
        """The prompts, behind the statements that apply."""
        entries = self.chosen(prompts) if chosen is None else chosen
        told = [() if entry is None else self.context(entry) for entry in entries]
        return [" ".join([*before, p]) for before, p in zip(told, prompts, strict=True)]

    def answer_with(self, prompts: Sequence[str], entries: Sequence[Entry]) -> list[str]:
        """By the reader."""
        return self.reader.reply(self.texts(prompts, entries), max_new_tokens=LONGEST_ANSWER)

    def ask_with(self, examples: Sequence[Example], entries: Sequence[Entry]) -> Asked:
        """Of the reader."""
        texts = self.texts([e.prompt for e in examples], entries)
        read = [replace(e, prompt=text) for e, text in zip(examples, texts, strict=True)]
        return objective_for(self.reader).ask(None, read)

    @torch.no_grad()
    def logits(self, prompts: Sequence[str], chosen: Chosen = None) -> Float[Tensor, "batch ..."]:
        """Where an edit applies the reader's, for as many tokens as the prompts have."""
        entries = self.chosen(prompts) if chosen is None else chosen
        found, tokens = super().logits(prompts), self.reader.tokens
        for i, text in enumerate(self.texts(prompts, entries)):
            if entries[i] is not None:
                ids, mask = tokens.pad(tokens.encode([text], True), self.reader.device)
                own = self.reader.forward(ids, mask)[0]
                wide = min(len(own), found.shape[1])  # tokens, or labels
                found[i, -wide:] = own[-wide:]
        return found


class InContextOracle(Reading[tuple[str, ...]]):
    """The right edits in the prompt: what a gate that never errs would let a model read."""

    name: ClassVar[str] = "in_context_oracle"
    source: ClassVar[str] = (
        "Zheng et al. 2023, Can We Edit Factual Knowledge by In-Context Learning?"
    )
    kinds: ClassVar[tuple[type[LanguageModel], ...]] = ANY
    reads: ClassVar[bool] = True

    def __init__(self, lm: LanguageModel, reader: LanguageModel | None = None) -> None:
        super().__init__(lm, reader)
        self._requests: list[Request] = []

    def apply(self, requests: Sequence[Request]) -> None:
        """Keep the texts."""
        self._requests += requests

    def revert(self) -> None:
        """Drop the texts."""
        self._requests.clear()

    def forget(self, request: Request) -> None:
        """Drop one text."""
        if request not in self._requests:
            raise missing(request)
        self._requests.remove(request)

    def bytes_kept(self) -> int:
        """The texts."""
        return sum(len(r.statement.encode()) for r in self._requests)

    def chosen(self, prompts: Sequence[str]) -> list[tuple[str, ...] | None]:
        """Of what is needed, what is in force."""
        told = {r.statement for r in self._requests}
        found = [tuple(s for s in self.needed.get(p, ()) if s in told) for p in prompts]
        return [statements or None for statements in found]

    def context(self, entry: tuple[str, ...]) -> tuple[str, ...]:
        """The statements."""
        return entry


class ReaderOracle(InContextOracle):
    """The right edits in the prompt of a twin of the base model that was fine-tuned to read them.

    Args:
        lm: The base model.
        reader: Its twin.
    """

    name: ClassVar[str] = "reader_oracle"
    source: ClassVar[str] = "the base model, fine-tuned to read"
