"""The playground: an answer with and without edits, and why."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from seprog.chat import LONGEST_QUERY, check_query
from seprog.editor import Editor
from seprog.server.console.door import Asking, ConsoleRoute
from seprog.server.console.pages import page
from seprog.server.replies import firing
from seprog.server.service import Served
from seprog.types import GateDecision

router = APIRouter(route_class=ConsoleRoute)

TOKENS = 64
"""Longest answer, in tokens."""
Question = Annotated[str, Form(max_length=LONGEST_QUERY)]


@router.get("/")
def playground(request: Request, service: Served, caller: Asking, q: str = "") -> Response:
    """Where questions are asked."""
    newest = service.memory.list(caller.namespace, True, 20, newest_first=True)
    ideas = list(dict.fromkeys(e.prompt for e in newest if e.prompt))[:4]
    return page(
        request,
        "playground.html",
        caller,
        here="playground",
        query=q[:LONGEST_QUERY],
        ideas=ideas,
        edits=service.memory.count(caller.namespace),
    )


@router.post("/ask")
async def ask(request: Request, service: Served, caller: Asking, query: Question = "") -> Response:
    """The answers without and with the edits, and what the gate says."""
    check_query(query)
    editor, name, start = service.editor, caller.namespace, time.perf_counter()
    most = min(TOKENS, service.settings.max_tokens)

    def work() -> tuple[GateDecision, list[str]]:
        [decision] = editor.explain_many([query], name)
        return decision, answers(editor, [GateDecision(query), decision], most)

    decision, (before, after) = await service.call(request, work)
    service.judged([decision])
    return page(
        request,
        "parts/answer.html",
        caller,
        query=query,
        before=before,
        after=after,
        told=firing(decision, name),
        ms=round(1000 * (time.perf_counter() - start)),
    )


@router.post("/ask/threshold")
async def what_if(
    request: Request,
    service: Served,
    caller: Asking,
    threshold: Annotated[float, Form(ge=0, le=100)],
    query: Question = "",
) -> Response:
    """What another threshold, in per cent, would change."""
    check_query(query)
    editor, name = service.editor, caller.namespace
    most = min(TOKENS, service.settings.max_tokens)

    def work() -> tuple[list[GateDecision], list[str]]:
        [now] = editor.explain_many([query], name)
        [then] = editor.explain_many([query], name, threshold / 100)
        return [now, then], answers(editor, [now, then], most)

    (now, then), (text, other) = await service.call(request, work)
    known = {e.id for e in now.fired}
    return page(
        request,
        "parts/whatif.html",
        caller,
        told=firing(then, name),
        joining=[e for e in then.fired if e.id not in known],
        leaving=[e for e in now.fired if e.id not in {o.id for o in then.fired}],
        answer=other,
        changed=other != text,
    )


def answers(editor: Editor, decisions: list[GateDecision], most: int) -> list[str]:
    """What the model says by each decision about one query, in so many tokens at most.

    Decisions that agree are asked once.
    """
    asked = {d.fired: d for d in decisions}
    said = editor.answer(list(asked.values()), most)
    texts = dict(zip(asked, (text.strip() for text in said), strict=True))
    return [texts[d.fired] for d in decisions]
