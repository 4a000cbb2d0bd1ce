"""An edit that is being written, and what it would do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Form, Request
from pydantic import ValidationError

from seprog.chat import check_query
from seprog.editor import Editor
from seprog.errors import InputError
from seprog.memory import make_edit
from seprog.server.schemas import EditIn
from seprog.server.service import Caller, Service
from seprog.types import Answer, Edit

_MOST = 12
"""Questions that are tried."""
_NEIGHBOURS = 3
_TOKENS = 32

Text = Annotated[str, Form(max_length=20_000)]


@dataclass(frozen=True)
class Draft:
    """What stands in the form.

    Args:
        kind: Whether it is a sentence, or a question with its answer.
        statement: The sentence.
        prompt: The question.
        target: Its answer.
        reason: Why.
        changes: Questions that it must change, one a line.
        keeps: Questions that it must not change, one a line.
        replaces: Id of the edit whose place it takes, or an empty text.
    """

    kind: Literal["sentence", "question"] = "sentence"
    statement: str = ""
    prompt: str = ""
    target: str = ""
    reason: str = ""
    changes: str = ""
    keeps: str = ""
    replaces: str = ""

    @property
    def given(self) -> dict[str, str]:
        """The fields of the kind that was chosen."""
        if self.kind == "sentence":
            return {"statement": self.statement}
        return {"prompt": self.prompt, "target": self.target}

    @property
    def complete(self) -> bool:
        """Whether there is enough of it to be an edit."""
        return all(self.given.values())

    def body(self) -> EditIn:
        """As the API takes it.

        Raises:
            InputError: Something is missing, or too long.
        """
        if not self.complete:
            wanted = "a sentence" if self.kind == "sentence" else "a question and its answer"
            raise InputError("The edit is empty or lacks a part", wanted, "Fill in the form")
        replaced = [self.replaces] if self.replaces else []
        try:
            return EditIn(**self.given, reason=self.reason or None, supersedes=replaced)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"The {first['loc'][0]} does not fit ({first['msg']})", "less text", "Shorten it"
            ) from error


def draft(
    kind: Annotated[Literal["sentence", "question"], Form()] = "sentence",
    statement: Text = "",
    prompt: Text = "",
    target: Text = "",
    reason: Text = "",
    changes: Text = "",
    keeps: Text = "",
    replaces: Annotated[str, Form(max_length=64)] = "",
) -> Draft:
    """What was sent."""
    texts = (statement, prompt, target, reason, changes, keeps, replaces)
    return Draft(kind, *(text.strip() for text in texts))


Drafted = Annotated[Draft, Depends(draft)]


@dataclass(frozen=True)
class Probe:
    """A question asked before and after.

    Args:
        query: The question.
        before: The answer as things are.
        after: The answer as it would be.
        fires: Whether the new edit would fire.
        score: How likely the gate holds it that it bears on the question; ``None``: not near.
        kind: Whether the answer must change, or stay; or a neighbour's, which should stay.
    """

    query: str
    before: str
    after: str
    fires: bool
    score: float | None
    kind: Literal["change", "keep", "neighbour"]

    @property
    def fine(self) -> bool:
        """Whether it is as it must be."""
        if self.kind == "change":
            return self.fires
        return not self.fires and self.before == self.after


@dataclass(frozen=True)
class Trial:
    """What came of trying a draft.

    Args:
        statement: As the edit would be kept.
        replaced: Edits in force that it would put out of force.
        probes: The questions.
    """

    statement: str
    replaced: tuple[Edit, ...]
    probes: tuple[Probe, ...]

    @property
    def amiss(self) -> int:
        """How many questions are not as they must be."""
        return sum(not probe.fine for probe in self.probes)


async def tried(request: Request, service: Service, caller: Caller, draft: Draft) -> Trial:
    """Try a draft; nothing is stored.

    Raises:
        InputError: It is no edit, or a question cannot be asked.
        Refused: The model is busy or not there.
    """
    row = draft.body().row(caller)
    edit = make_edit(**{k: v for k, v in row.items() if k != "supersedes"})
    editor, name = service.editor, caller.namespace
    most = min(_TOKENS, service.settings.max_tokens)
    asked: dict[str, Literal["change", "keep", "neighbour"]] = {}
    if draft.kind == "question":
        asked[draft.prompt] = "change"
    asked |= dict.fromkeys(_lines(draft.changes), "change")
    asked |= dict.fromkeys(_lines(draft.keeps), "keep")
    asked = dict(list(asked.items())[:_MOST])
    for query in asked:
        check_query(query)

    def work() -> Trial:
        shelf = editor.shelf(name)
        named = [shelf.edits[i] for i in row["supersedes"] if i in shelf.edits]
        taken = dict.fromkeys([*named, *editor.rivals(edit)])
        gone = [e for e in taken if e.statement != edit.statement]
        out = {e.id for e in gone}
        for query in _neighbours(editor, edit, out):
            asked.setdefault(query, "neighbour")
        queries = list(asked)
        pairs = editor.preview([row], queries, most, name) if queries else []
        found = [_probe(asked[after.query], before, after) for before, after in pairs]
        return Trial(edit.statement, tuple(gone), tuple(found))

    return await service.call(request, work)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _probe(kind: Literal["change", "keep", "neighbour"], before: Answer, after: Answer) -> Probe:
    own = [c for c in after.decision.candidates if c.edit.id == "new-1"]
    fires = any(c.fired for c in own)
    score = own[0].probability if own else None
    return Probe(after.query, before.text, after.text, fires, score, kind)


def _neighbours(editor: Editor, edit: Edit, out: set[str]) -> list[str]:
    """Questions of the edits nearest to a new one, whose answers should stay."""
    shelf = editor.shelf(edit.namespace)
    if not len(shelf):
        return []
    text = edit.statement
    [near] = editor.gate.near([text], [text], shelf, [out])
    asked = [s.edit.prompt for s in near if s.edit.prompt and s.edit.statement != text]
    return list(dict.fromkeys(asked))[:_NEIGHBOURS]
