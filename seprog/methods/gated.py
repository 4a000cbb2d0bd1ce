"""Edits in seprog's memory, behind its gate: as prefixes or, to compare, as text.

One editor's parts serve all of them, so that they differ in nothing but how an edit is applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from seprog.editor import Editor
from seprog.generator import VerbatimGenerator
from seprog.generator.objective import Asked, objective_for
from seprog.lm import LanguageModel
from seprog.methods.contract import ANY, LONGEST_ANSWER, Chosen, MemoryMethod, Request, missing
from seprog.methods.reading import Reading
from seprog.types import Candidate, Edit, Example, GateDecision, PrefixBatch


class Gated(MemoryMethod[GateDecision]):
    """Base of the methods behind the scope gate.

    Args:
        editor: Base model, gate and generator; its own memory is not touched.
    """

    kinds: ClassVar[tuple[type[LanguageModel], ...]] = ANY
    reads: ClassVar[bool] = True

    def __init__(self, editor: Editor) -> None:
        super().__init__(editor.lm)
        self.editor = Editor(editor.lm, editor.gate, editor.generator)
        self._edits: dict[Request, Edit] = {}

    def apply(self, requests: Sequence[Request]) -> None:
        """Write the edits into the memory; each takes the place of what it contradicts."""
        made = self.editor.edit_many([r.row() for r in requests]) if requests else []
        self._edits |= zip(requests, made, strict=True)

    def revert(self) -> None:
        """Begin a new memory."""
        self._edits.clear()
        self.editor.memory.close()
        self.editor = Editor(self.lm, self.editor.gate, self.editor.generator)

    def forget(self, request: Request) -> None:
        """Take one edit back; one whose place another took is gone already."""
        edit = self._edits.pop(request, None)
        if edit is None:
            raise missing(request)
        if self.editor.memory.get(edit.id).active:
            self.editor.forget(edit.id)

    def bytes_kept(self) -> int:
        """The texts."""
        return sum(len(edit.statement.encode()) for edit in self._edits.values())

    def chosen(self, prompts: Sequence[str]) -> list[GateDecision | None]:
        """Per prompt, what the gate decided, if an edit fires."""
        return [d if d.fired else None for d in self.editor.explain_many(prompts)]

    def statements(self, entry: GateDecision | None) -> tuple[str, ...] | None:
        """Those of the edits that fired."""
        return tuple(edit.statement for edit in entry.fired) if entry else ()


class InContextRetrieved(Gated, Reading[GateDecision]):
    """The text of the edits that the gate lets fire, in the prompt: the strongest rival."""

    name: ClassVar[str] = "in_context_retrieved"
    source: ClassVar[str] = "Zhong et al. 2023, MQuAKE (section 5: retrieved edits in the prompt)"


class Seprog(Gated):
    """Prefixes that the trained generator makes of the edits, behind the gate."""

    name: ClassVar[str] = "seprog"
    source: ClassVar[str] = "Semi-parametric Prompt-Generation for Model Editing"

    def apply(self, requests: Sequence[Request]) -> None:
        """Write the edits, and make their prefixes."""
        super().apply(requests)
        self.editor.cached_prefixes([self._edits[r] for r in requests])

    def bytes_kept(self) -> int:
        """The prefixes."""
        return self.editor.memory.prefix_bytes(self.editor.generator.fingerprint)

    def answer_with(self, prompts: Sequence[str], entries: Sequence[GateDecision]) -> list[str]:
        """Behind the prefixes of the edits that fired."""
        return self.editor.answer(entries, LONGEST_ANSWER)

    def ask_with(self, examples: Sequence[Example], entries: Sequence[GateDecision]) -> Asked:
        """Behind the prefixes of the edits that fired."""
        prefixes = self.editor.prefixes(entries)
        batch, bos = PrefixBatch.stack(prefixes), self.editor.bos(prefixes)
        return objective_for(self.lm).ask(batch, examples, bos)

    @torch.no_grad()
    def logits(self, prompts: Sequence[str], chosen: Chosen = None) -> Float[Tensor, "batch ..."]:
        """Of one batch that holds rows with prefixes and rows without."""
        found = self.chosen(prompts) if chosen is None else chosen
        prefixes = self.editor.prefixes([d or GateDecision("") for d in found])
        ids, mask = self.lm.tokens.batch(prompts, self.editor.bos(prefixes), self.lm.device)
        return self.lm.forward(ids, mask, PrefixBatch.stack(prefixes))


class Verbatim(Seprog):
    """Prefixes that are the cached keys and values of the edits' text, behind the gate."""

    name: ClassVar[str] = "verbatim"
    source: ClassVar[str] = "docs/decisions: the generator that needs no training"

    def __init__(self, editor: Editor) -> None:
        super().__init__(Editor(editor.lm, editor.gate, VerbatimGenerator(editor.lm)))


class SeprogOracle(Seprog):
    """The trained generator's prefixes of the right edits: what a gate that never errs would do."""

    name: ClassVar[str] = "seprog_oracle"

    def chosen(self, prompts: Sequence[str]) -> list[GateDecision | None]:
        """What is needed, as if the gate had said so."""
        of = {edit.statement: edit for edit in self._edits.values()}
        found: list[GateDecision | None] = []
        for prompt in prompts:
            right = [of[s] for s in self.needed.get(prompt, ()) if s in of]
            fired = tuple(Candidate(edit, 1.0, True) for edit in right)
            found.append(GateDecision(prompt, candidates=fired) if fired else None)
        return found

    def statements(self, entry: GateDecision | None) -> None:
        """No gate decided."""
        return None
