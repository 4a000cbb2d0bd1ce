"""SERAC: a scope classifier picks one edit, and a small model of its own answers with it.

The classifier is a cross-encoder of query and edit, as in the paper; it is our gate's scorer,
trained on single edits and asked once, without chains. The counterfactual model reads the edit
and the query.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from seprog.data.documents import Document
from seprog.gate import ScopeGate, Shelf
from seprog.lm import LanguageModel
from seprog.methods.contract import ANY, Request, missing
from seprog.methods.reading import Reading
from seprog.training.scopes import Scopes
from seprog.types import Edit, Example


class EditCorpus:
    """What the counterfactual model learns from: an edit, a question about it, the answer.

    Args:
        examples: With one edit each, without end; those whose answer must stay are left out.
    """

    def __init__(self, examples: Iterator[Example]) -> None:
        self.examples, self.weights = examples, [1.0]

    def __iter__(self) -> Iterator[Document]:
        """Documents, without end."""
        for e in self.examples:
            if e.answer is not None and not e.keep:
                pieces = [(e.edits[0], False), (e.prompt, False), (f"{e.answer}.", True)]
                yield Document(pieces)


def single_stages(scopes: Scopes) -> Scopes:
    """What is asked of a memory, without queries that need more than one edit."""
    chained = {
        stage.text.removesuffix(" ".join(["", *(e.statement for e in stage.told)]))
        for stage in scopes.stages
        if stage.told and stage.right
    }
    single = [s for s in scopes.stages if not s.told and s.text not in chained]
    return Scopes(scopes.edits, single)


class SERAC(Reading[str]):
    """Weights stay; queries in scope are answered by another model.

    Args:
        lm: The base model.
        gate: The scope classifier; only its first hop is used.
        counterfactual: The model that answers in scope.
        threshold: Probability from which an edit applies (0 to 1).
    """

    name: ClassVar[str] = "serac"
    source: ClassVar[str] = "Mitchell et al. 2022, Memory-Based Model Editing at Scale"
    kinds: ClassVar[tuple[type[LanguageModel], ...]] = ANY

    def __init__(
        self,
        lm: LanguageModel,
        gate: ScopeGate,
        counterfactual: LanguageModel,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(lm, counterfactual)
        self.gate, self.threshold = gate, threshold
        self._requests: dict[str, Request] = {}
        self._written, self._shelf = 0, Shelf()

    def apply(self, requests: Sequence[Request]) -> None:
        """Put the edits into the memory, with the keys that they are found by."""
        edits = [Edit(r.statement, id=str(self._written + i)) for i, r in enumerate(requests)]
        if edits:
            self._shelf.add(edits, self.gate.keys(edits))
        self._requests |= zip((e.id for e in edits), requests, strict=True)
        self._written += len(edits)

    def revert(self) -> None:
        """Empty the memory."""
        self._requests.clear()
        self._shelf = Shelf()

    def forget(self, request: Request) -> None:
        """Take one edit out of the memory."""
        place = next((i for i, r in self._requests.items() if r == request), None)
        if place is None:
            raise missing(request)
        del self._requests[place]
        self._shelf.remove([place])

    def bytes_kept(self) -> int:
        """The texts."""
        return sum(len(r.statement.encode()) for r in self._requests.values())

    def chosen(self, prompts: Sequence[str]) -> list[str | None]:
        """Per prompt, the statement of the edit that applies."""
        found: list[str | None] = []
        for decision in self.gate.decide(prompts, self._shelf, self.threshold):
            best = max(decision.candidates, key=lambda c: c.probability, default=None)
            fits = best is not None and best.probability > self.threshold
            found.append(best.edit.statement if best is not None and fits else None)
        return found

    def statements(self, entry: str | None) -> tuple[str, ...]:
        """That of the edit that applies."""
        return (entry,) if entry else ()
