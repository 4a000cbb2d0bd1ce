"""What the edits API takes and gives."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from seprog.memory.edit_text import FORM_FIELDS, MAX_CHARACTERS
from seprog.server.service import Caller

Line = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]


def _seconds(came: Any) -> Any:
    """A time in words as seconds since 1970, UTC's where it names no zone; a number as it is."""
    text = str(came).strip()
    try:
        float(text)
        return came
    except ValueError:
        pass
    if "T" in text:  # a "+" in an address, sent as it is, arrives as a space
        text = text.replace(" ", "+")
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        expected = "a time: seconds since 1970, or as in 2026-01-31T12:00:00Z"
        raise PydanticCustomError("moment", expected) from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


Moment = Annotated[
    float,
    Field(ge=0, le=1e11),
    BeforeValidator(_seconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1e11},
                {"type": "string", "format": "date-time"},
            ]
        }
    ),
]
"""A time, as seconds since 1970 or as ISO 8601 has it."""


def _forms() -> Any:
    """In JSON schema: the fields of one form are texts, those of the others are not there."""
    names = list(dict.fromkeys(name for form in FORM_FIELDS for name in form))
    return [
        {
            "required": list(form),
            "properties": {n: {"type": "string" if n in form else "null"} for n in names},
        }
        for form in FORM_FIELDS
    ]


class EditIn(BaseModel):
    """A correction: a statement, or a prompt and its target, or all three, or a triple."""

    model_config = {"extra": "forbid", "json_schema_extra": {"oneOf": _forms()}}

    statement: Line | None = Field(None, examples=["The CEO of Acme is Jane Doe."])
    prompt: Line | None = None
    target: Line | None = None
    subject: Line | None = None
    relation: Line | None = None
    object: Line | None = None
    reason: Line | None = Field(None, description="Why; kept in the history.")
    supersedes: list[Annotated[str, Field(max_length=64)]] = Field(
        [], max_length=50, description="Ids of edits that it replaces, beside those it is seen to."
    )

    def row(self, caller: Caller) -> dict[str, Any]:
        """As the editor takes it."""
        given = self.model_dump(exclude_none=True)
        return {**given, "namespace": caller.namespace, "author": caller.key.name}


class BatchIn(BaseModel):
    """Several corrections, written together or not at all."""

    edits: list[EditIn] = Field(min_length=1, max_length=1000)


class Why(BaseModel):
    """Why something is done."""

    reason: Line | None = Field(None, description="Kept in the history.")


class EditOut(BaseModel):
    """An edit as it is now."""

    id: str
    statement: str
    prompt: str | None
    target: str | None
    subject: str | None
    relation: str | None
    object: str | None
    namespace: str
    author: str | None
    reason: str | None
    created_at: float = Field(description="Seconds since 1970 (UTC).")
    supersedes: str | None
    active: bool = Field(description="Whether it is in force.")


class EditList(BaseModel):
    """Some edits."""

    object: str = "list"
    data: list[EditOut]
    has_more: bool = Field(description="Whether there are more behind these.")


class EventOut(BaseModel):
    """Something that happened to an edit."""

    edit_id: str
    action: str = Field(description="added, superseded, forgotten or restored.")
    at: float = Field(description="Seconds since 1970 (UTC).")
    author: str | None
    reason: str | None
    other_id: str | None = Field(description="The edit that took over, or that was taken over.")


class EventList(BaseModel):
    """What happened, oldest first."""

    object: str = "list"
    data: list[EventOut]


class PreviewIn(BaseModel):
    """Edits to try, and what to ask."""

    edits: list[EditIn] = Field(min_length=1, max_length=50)
    queries: list[Annotated[str, Field(max_length=20_000)]] = Field(min_length=1, max_length=50)
    max_tokens: int = Field(32, ge=1, le=256)
    threshold: float | None = Field(None, ge=0, le=1)


class ScopeIn(BaseModel):
    """Texts to be judged."""

    queries: list[Annotated[str, Field(max_length=20_000)]] = Field(min_length=1, max_length=100)
    threshold: float | None = Field(None, ge=0, le=1)


class BadLine(BaseModel):
    """A line that is no edit."""

    line: int = Field(description="Its number, from 1.")
    fault: str


class ImportReport(BaseModel):
    """What came of an import."""

    added: int
    duplicates: int
    superseded: int
    errors: list[BadLine]
