"""OpenAI's routes: models, completions, chat completions; and classifications beside them.

Every answer carries the field ``seprog`` (which edits it was given by, and at what threshold) and
the headers ``X-Seprog-Fired`` and ``X-Seprog-Threshold``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field, model_validator

from seprog.chat import Query, check_query
from seprog.errors import InputError
from seprog.lm import EncoderModel, RowOptions
from seprog.server.batcher import Decided, Finished, Job
from seprog.server.errors import COMMON, NotFound
from seprog.server.replies import Reply, firing, headers_of, stream, usage
from seprog.server.service import Asker, Caller, Served, Service
from seprog.types import GateDecision

router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=COMMON)

Text = Annotated[str, Field(max_length=100_000)]
Unsupported = Annotated[None, Field(description="Not supported.")]
NoList = Annotated[list[Any], Field(max_length=0, description="Not supported beyond none.")] | None
NoChoice = Annotated[Literal["none"], Field(description="Not supported beyond none.")] | None
STOPS = 8
"""Most stop texts of an answer."""


# --- what comes -------------------------------------------------------------------------------


def _nullable(schema: dict[str, Any]) -> None:
    """In JSON schema: whatever need not be given may be null."""
    fields = schema["properties"]
    for name in fields.keys() - set(schema.get("required", ())):
        fields[name] = {"anyOf": [fields[name], {"type": "null"}]}


class Body(BaseModel):
    """What comes as OpenAI's clients send it: null stands for what is not given."""

    model_config = {"json_schema_extra": _nullable}

    @model_validator(mode="before")
    @classmethod
    def _given(cls, came: Any) -> Any:
        if not isinstance(came, dict):
            return came
        return {name: value for name, value in came.items() if value is not None}


class EditingOptions(Body):
    """How edits take part in a request (``extra_body={"seprog": …}`` in OpenAI's client)."""

    model_config = {"extra": "forbid"}

    enabled: bool = Field(True, description="Whether edits may fire.")
    threshold: float | None = Field(
        None, ge=0, le=1, description="Probability above which an edit fires; none: as calibrated."
    )


class StreamOptions(Body):
    """What a stream has at its end."""

    include_usage: bool = Field(False, description="Whether the last piece counts the tokens.")


class Sampling(Body):
    """What completions and chat completions have in common."""

    model: str = Field(description="As listed by /v1/models.")
    n: int = Field(1, ge=1, le=16, description="Answers wanted.")
    temperature: float = Field(0.0, ge=0, le=2, description="Of sampling; 0 is greedy.")
    top_p: float = Field(1.0, gt=0, le=1, description="Share of probability sampled from.")
    seed: int | None = Field(None, ge=-(2**63), lt=2**63, description="Of sampling.")
    stop: Text | list[Text] | None = Field(
        None, description=f"Up to {STOPS} texts that end an answer."
    )
    stream: bool = Field(False, description="Whether the answer comes in pieces (SSE).")
    stream_options: StreamOptions | None = None
    presence_penalty: Literal[0] = Field(0, description="Not supported beyond 0.")
    frequency_penalty: Literal[0] = Field(0, description="Not supported beyond 0.")
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = Field(
        None, description="Not supported beyond none."
    )
    seprog: EditingOptions = EditingOptions(enabled=True, threshold=None)

    def stops(self) -> tuple[str, ...]:
        """The stop texts.

        Raises:
            InputError: There are too many.
        """
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(given) > STOPS:
            raise InputError(
                f"{len(given)} stop texts came", f"at most {STOPS}", "Leave some of them out"
            )
        return tuple(text for text in given if text)

    def rows(self, most: int, logprobs: int | None) -> list[RowOptions]:
        """Options of each answer wanted, each with a seed of its own."""
        seeds = [None if self.seed is None else self.seed + i for i in range(self.n)]
        return [
            RowOptions(most, self.temperature, self.top_p, seed, self.stops(), logprobs)
            for seed in seeds
        ]


class CompletionRequest(Sampling):
    """Texts to go on with."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=64)] = Field(
        description="A text, or several."
    )
    max_tokens: int = Field(16, ge=1, description="Longest answer.")
    logprobs: int | None = Field(None, ge=0, le=20, description="Alternatives per token.")
    echo: Literal[False] = Field(False, description="Not supported.")
    best_of: Literal[1] = Field(1, description="Not supported beyond 1.")
    suffix: Unsupported = None


class ContentPart(BaseModel):
    """A part of a turn."""

    type: Literal["text"]
    text: Text


class Turn(BaseModel):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[ContentPart]

    def plain(self) -> dict[str, str]:
        """As seprog knows it."""
        parts = self.content
        text = parts if isinstance(parts, str) else "\n".join(p.text for p in parts)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class ResponseFormat(BaseModel):
    """The form of an answer."""

    type: Literal["text"] = Field(description="Not supported beyond text.")


class ChatRequest(Sampling):
    """A conversation to be answered."""

    messages: list[Turn] = Field(min_length=1, max_length=200)
    max_tokens: int | None = Field(None, ge=1, description="Longest answer.")
    max_completion_tokens: int | None = Field(None, ge=1, description="The same.")
    logprobs: bool | None = Field(None, description="Whether each token's probability is wanted.")
    top_logprobs: int | None = Field(None, ge=0, le=20, description="Alternatives per token.")
    response_format: ResponseFormat | None = None
    tools: NoList = None
    tool_choice: NoChoice = None
    functions: NoList = None
    function_call: NoChoice = None
    audio: Unsupported = None
    web_search_options: Unsupported = None


class ClassificationRequest(Body):
    """Texts to be labelled, by a classifier."""

    model: str = Field(description="As listed by /v1/models.")
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=256)]
    seprog: EditingOptions = EditingOptions(enabled=True, threshold=None)


# --- routes -----------------------------------------------------------------------------------


def _check_model(service: Service, name: str) -> None:
    if name != service.settings.name:
        raise NotFound("model", name)


@router.get("/models")
def models(service: Served, caller: Asker) -> dict[str, Any]:
    """The one model that is served."""
    return {"object": "list", "data": [_model(service)]}


@router.get("/models/{model}")
def model(service: Served, caller: Asker, model: str) -> dict[str, Any]:
    """The model by its name."""
    _check_model(service, model)
    return _model(service)


def _model(service: Service) -> dict[str, Any]:
    return {
        "id": service.settings.name,
        "object": "model",
        "created": int(service.started_at),
        "owned_by": "seprog",
    }


@router.post("/completions")
async def completions(
    request: Request, service: Served, caller: Asker, body: CompletionRequest
) -> Any:
    """Go on with texts, as the edits correct them."""
    texts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    queries = [Query.plain(text) for text in texts]
    rows = body.rows(_longest(service, body.max_tokens), body.logprobs)
    reply = Reply(service, chat=False)
    _check_model(service, body.model)
    return await _answer(request, reply, caller, body, queries, rows, shorten=False)


@router.post("/chat/completions")
async def chat_completions(
    request: Request, service: Served, caller: Asker, body: ChatRequest
) -> Any:
    """Answer a conversation, as the edits correct it.

    A model without a chat template is asked with the user's turn as it stands, if it is one.
    """
    _check_model(service, body.model)
    turns = [turn.plain() for turn in body.messages]
    query = _asked(service, turns)
    asked = body.max_completion_tokens or body.max_tokens
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    rows = body.rows(_longest(service, asked), logprobs)
    reply = Reply(service, chat=True)
    return await _answer(request, reply, caller, body, [query], rows, shorten=asked is None)


def _asked(service: Service, turns: list[dict[str, str]]) -> Query:
    """A conversation as it is put to the model."""
    tokenizer = service.editor.lm.tokenizer
    if tokenizer.chat_template:
        return Query.conversation(tokenizer, turns)
    if len(turns) == 1 and turns[0]["role"] == "user":
        return Query.plain(turns[0]["content"])
    roles = ", ".join(turn["role"] for turn in turns[:4]) + (", …" if len(turns) > 4 else "")
    raise InputError(
        f"{service.settings.name} has no chat template, and turns came by {roles}",
        "a single turn, the user's",
        "Send the question alone, or the whole text to /v1/completions",
    )


@router.post("/classifications")
async def classifications(
    request: Request, service: Served, caller: Asker, body: ClassificationRequest
) -> JSONResponse:
    """Label texts, as the edits correct them; of models for sequence classification."""
    _check_model(service, body.model)
    lm, editor = service.editor.lm, service.editor
    if not isinstance(lm, EncoderModel) or lm.head != "sequence":
        raise InputError(
            f"{service.settings.name} was asked to classify",
            "a model for sequence classification",
            "Ask it by /v1/completions",
        )
    texts = [body.input] if isinstance(body.input, str) else body.input
    queries = [Query.plain(text) for text in texts]
    told = body.seprog

    def work() -> tuple[list[GateDecision], list[dict[str, float]]]:
        if not told.enabled:
            return [], lm.classify(texts)
        decisions = editor.decide(queries, caller.namespace, told.threshold)
        return decisions, lm.classify(texts, editor.prefixes(decisions))

    decisions, found = await service.call(request, work)
    service.judged(decisions)
    data = []
    for i, (decision, probs) in enumerate(zip_longest(decisions, found)):
        label = max(probs, key=probs.__getitem__)
        fired = firing(decision, caller.namespace)
        data.append({"index": i, "label": label, "probs": probs, "seprog": fired})
    answer = {"object": "list", "model": service.settings.name, "data": data}
    return JSONResponse(answer, headers=headers_of(decisions))


def _longest(service: Service, asked: int | None) -> int:
    """Tokens that an answer may have; the limit where nothing was asked for."""
    most = service.settings.max_tokens
    if asked is not None and asked > most:
        raise InputError(
            f"{asked} tokens were asked for", f"at most {most}", "Ask for fewer tokens"
        )
    return asked or most


async def _answer(
    request: Request,
    reply: Reply,
    caller: Caller,
    body: Sampling,
    queries: Sequence[Query],
    rows: Sequence[RowOptions],
    shorten: bool,
) -> Any:
    service, told = reply.service, body.seprog
    if not service.editor.lm.generates:
        raise InputError(
            f"{service.settings.name} is a classifier and was asked to write",
            "a model that writes",
            "Ask it by /v1/classifications",
        )
    if body.stream and rows[0].logprobs is not None:
        raise InputError("logprobs came with stream", "one of the two", "Leave one out")
    for query in queries:
        check_query(query.judged[0])
    job = Job(
        queries,
        rows,
        caller.namespace,
        threshold=told.threshold,
        edits=told.enabled,
        stream=body.stream,
        shorten=shorten,
    )
    events = service.events(request, job)
    decided = await anext(events)  # the first thing that happens
    assert isinstance(decided, Decided)
    headers = headers_of(decided.decisions)
    fired = [firing(d, caller.namespace) for d in decided.decisions or [None]]
    extension = fired[0] if len(fired) == 1 else {**fired[0], "prompts": fired}
    if body.stream:
        counted = body.stream_options is not None and body.stream_options.include_usage
        pieces = stream(events, reply, job, decided, extension, counted)
        return StreamingResponse(pieces, headers=headers, media_type="text/event-stream")
    async for event in events:
        if isinstance(event, Finished):
            answer = {
                **reply.head,
                "choices": [reply.choice(i, w) for i, w in enumerate(event.written)],
                "usage": usage(decided.prompt_tokens, event.written),
                "seprog": extension,
            }
    return JSONResponse(answer, headers=headers)
