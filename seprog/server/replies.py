"""The forms of answers: whole, in pieces, and with what fired."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from seprog.errors import SeprogError
from seprog.lm import Written
from seprog.server.batcher import Decided, Event, Finished, Job, Piece
from seprog.server.errors import body_of
from seprog.server.service import Service
from seprog.types import GateDecision


def firing(decision: GateDecision | None, namespace: str) -> dict[str, Any]:
    """The field ``seprog`` of an answer: what fired and what nearly did."""
    if decision is None:
        return {
            "enabled": False,
            "namespace": namespace,
            "threshold": None,
            "fired": [],
            "near": [],
        }
    listed = [
        {
            "id": c.edit.id,
            "statement": c.edit.statement,
            "probability": c.probability,
            "same": c.same,
            "hop": c.hop,
            "fired": c.fired,
        }
        for c in sorted(decision.candidates, key=lambda c: (not c.fired, c.hop, -c.probability))
    ]
    return {
        "enabled": True,
        "namespace": namespace,
        "threshold": decision.threshold,
        "fired": [c for c in listed if c["fired"]],
        "near": [c for c in listed if not c["fired"]][:5],
    }


def headers_of(decisions: Sequence[GateDecision]) -> dict[str, str]:
    """The same in headers."""
    if not decisions:
        return {"X-Seprog-Fired": ""}
    ids = dict.fromkeys(e.id for d in decisions for e in d.fired)
    return {
        "X-Seprog-Fired": ",".join(ids),
        "X-Seprog-Threshold": f"{decisions[0].threshold:.6f}",
    }


class Reply:
    """An answer in the making: its head, and the forms of its parts.

    Args:
        service: The server's state.
        chat: Whether it is a chat completion.
    """

    def __init__(self, service: Service, chat: bool) -> None:
        self.service, self.chat = service, chat
        self.head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}",
            "object": "chat.completion" if chat else "text_completion",
            "created": int(time.time()),
            "model": service.settings.name,
            "system_fingerprint": service.editor.lm.fingerprint,
        }

    def choice(self, index: int, written: Written) -> dict[str, Any]:
        """An answer."""
        text = written.text.lstrip() if self.chat else written.text
        if self.chat:
            said: dict[str, Any] = {
                "message": {"role": "assistant", "content": text, "refusal": None}
            }
        else:
            said = {"text": text}
        logprobs = self._logprobs(written) if written.logprobs else None
        return {"index": index, **said, "logprobs": logprobs, "finish_reason": written.finish}

    def _logprobs(self, written: Written) -> dict[str, Any]:
        tokens = self.service.editor.lm.tokens

        def text(id_: int) -> str:
            return str(tokens.tokenizer.decode([id_]))

        if not self.chat:
            words = [text(t.id) for t in written.logprobs]
            starts = [sum(map(len, words[:i])) for i in range(len(words))]
            return {
                "tokens": words,
                "token_logprobs": [t.logprob for t in written.logprobs],
                "top_logprobs": [{text(i): v for i, v in t.alternatives} for t in written.logprobs],
                "text_offset": starts,
            }

        def entry(id_: int, value: float) -> dict[str, Any]:
            word = text(id_)
            return {"token": word, "logprob": value, "bytes": list(word.encode())}

        content = [
            entry(t.id, t.logprob) | {"top_logprobs": [entry(i, v) for i, v in t.alternatives]}
            for t in written.logprobs
        ]
        return {"content": content, "refusal": None}

    def first(self, index: int) -> dict[str, Any]:
        """The first of a stream's choices."""
        choice = self.piece(index, "")
        if self.chat:
            choice["delta"]["role"] = "assistant"
        return choice

    def piece(self, index: int, text: str) -> dict[str, Any]:
        """A choice of a stream, with more text."""
        said: dict[str, Any] = {"delta": {"content": text}} if self.chat else {"text": text}
        return {"index": index, **said, "logprobs": None, "finish_reason": None}

    def last(self, index: int, finish: str) -> dict[str, Any]:
        """The last of a stream's choices."""
        said: dict[str, Any] = {"delta": {}} if self.chat else {"text": ""}
        return {"index": index, **said, "logprobs": None, "finish_reason": finish}


def usage(read: int, written: Sequence[Written]) -> dict[str, int]:
    """Tokens read and written, as OpenAI counts them."""
    made = sum(len(w.ids) for w in written)
    return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}


async def stream(
    events: AsyncIterator[Event],
    reply: Reply,
    job: Job,
    decided: Decided,
    extension: dict[str, Any],
    counted: bool,
) -> AsyncIterator[str]:
    """Server-sent events: a first one with what fired, then pieces, then ``[DONE]``.

    Args:
        events: What happens to the request from now on.
        reply: What it becomes.
        job: The request.
        decided: What the gate said.
        extension: The same as the field ``seprog``.
        counted: Whether the last piece counts the tokens.
    """
    head = dict(reply.head)
    if reply.chat:
        head["object"] = "chat.completion.chunk"

    def data(choices: list[dict[str, Any]], **more: Any) -> str:
        return f"data: {json.dumps(head | {'choices': choices} | more)}\n\n"

    yield data([reply.first(i) for i in range(job.answers)], seprog=extension)
    started: set[int] = set()
    try:
        async for event in events:
            if isinstance(event, Piece):
                begins = reply.chat and event.index not in started
                if text := event.text.lstrip() if begins else event.text:
                    started.add(event.index)
                    yield data([reply.piece(event.index, text)])
            elif isinstance(event, Finished):
                yield data([reply.last(i, w.finish) for i, w in enumerate(event.written)])
                if counted:
                    yield data([], usage=usage(decided.prompt_tokens, event.written))
    except SeprogError as error:  # the status is sent already
        yield f"data: {json.dumps(body_of(error)[1])}\n\n"
    yield "data: [DONE]\n\n"
