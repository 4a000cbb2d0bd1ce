"""What the routes share: the editor once it is loaded, who asks, and waiting for answers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from seprog.editor import Editor
from seprog.errors import SeprogError
from seprog.memory import Memory
from seprog.memory.keys import NOBODY, Key, KeyRing, Role
from seprog.server.batcher import Batcher, Busy, Closed, Decided, Event, Failed, Finished, Job
from seprog.server.errors import NotFound, Refused
from seprog.server.settings import Settings
from seprog.server.telemetry import Metrics, log
from seprog.types import Edit, GateDecision

T = TypeVar("T")
_PAUSE = 0.2
"""Seconds between two looks at whether the client is still there."""


class Service:
    """One server's state.

    Args:
        settings: As given.
        editor: If it is loaded already; else ``load`` loads it.
    """

    def __init__(self, settings: Settings, editor: Editor | None = None) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.memory = editor.memory if editor else Memory(settings.memory)
        self.keys = KeyRing(self.memory)
        self.started_at = time.time()
        self.failure: Exception | None = None
        self._batcher: Batcher | None = None
        self._unmade: deque[Edit] = deque()
        if editor is not None:
            self._use(editor)

    def load(self) -> None:
        """Load the model; takes seconds. What goes wrong is kept in ``failure``."""
        import torch
        from transformers.utils import logging

        logging.disable_progress_bar()
        told = self.settings
        torch.set_num_threads(told.threads)
        try:
            editor = Editor.from_pretrained(
                told.model, None, told.generator, told.gate, device=told.device
            )
            editor.memory = self.memory
            for namespace in self.memory.namespaces():
                editor.shelf(namespace)
        except Exception as error:  # whatever it was, nobody is to wait for ever
            self.failure = error
            known = isinstance(error, SeprogError)
            log.error("the model cannot be loaded", why=str(error), exc_info=not known)
            return
        self._use(editor)
        log.info("ready", model=told.name, edits=self.memory.count())

    def _use(self, editor: Editor) -> None:
        told = self.settings
        self._batcher = Batcher(
            editor,
            told.batch,
            told.queue,
            told.window_ms / 1000,
            self.metrics.batch,
            self._make_prefixes,
        )

    def written(self, edits: Sequence[Edit]) -> None:
        """Have the prefixes of new edits made as soon as nothing else waits for the model."""
        self._unmade.extend(edits)
        self.batcher.wake()

    def _make_prefixes(self) -> bool:
        """Make a few; true if there are more to make."""
        few = [self._unmade.popleft() for _ in range(min(2, len(self._unmade)))]
        try:
            self.editor.cached_prefixes(few)
        except SeprogError as error:  # they are made when they fire, and fail there if they do
            log.warning("prefixes could not be made", why=str(error))
        return bool(self._unmade)

    @property
    def loaded(self) -> bool:
        """Whether the model is there."""
        return self._batcher is not None

    @property
    def batcher(self) -> Batcher:
        """The batcher.

        Raises:
            Refused: The model is still being loaded, or cannot be.
        """
        if self._batcher is None:
            why = f" ({self.failure})" if self.failure else ""
            raise Refused(
                503,
                "not_ready",
                f"The model is not loaded{why}",
                "a server that is ready",
                "See /readyz, and try again",
                {"Retry-After": "5"},
            )
        return self._batcher

    @property
    def editor(self) -> Editor:
        """The editor; errors as for ``batcher``."""
        return self.batcher.editor

    def close(self) -> None:
        """End what has begun, then let go."""
        if self._batcher is not None:
            self._batcher.close(self.settings.drain)
        self.memory.close()

    # --- asking -------------------------------------------------------------------------------

    async def events(self, request: Request, job: Job) -> AsyncIterator[Event]:
        """What happens to a request, up to its end.

        Cancels it when the client goes away, the time is up, or the reader stops reading.

        Raises:
            Refused: The queue is full, the server closes, the time is up, or the client went away.
            SeprogError: What the request failed with.
        """
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Event]()
        deadline = loop.time() + self.settings.timeout
        job.tell = lambda event: loop.call_soon_threadsafe(queue.put_nowait, event)  # type: ignore[assignment]
        try:
            self._admitted(lambda: self.batcher.submit(job))
            while True:
                if loop.time() > deadline:
                    raise self._late()
                try:
                    event = await asyncio.wait_for(queue.get(), _PAUSE)
                except TimeoutError:
                    await _check_there(request)
                    continue
                if isinstance(event, Failed):
                    raise event.error
                if isinstance(event, Decided):
                    self.judged(event.decisions)
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            job.cancelled = True

    def judged(self, decisions: Sequence[GateDecision]) -> None:
        """Note what the gate said, and write it into the log if that is wanted."""
        for decision in decisions:
            self.metrics.decided(decision)
            if self.settings.log_queries:
                log.info("query", text=decision.query, fired=[e.id for e in decision.fired])

    async def call(self, request: Request, work: Callable[[], T]) -> T:
        """Have something done with the model; errors and cancelling as for ``events``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.timeout
        waiting = asyncio.wrap_future(self._admitted(lambda: self.batcher.call(work)))
        try:
            while not waiting.done():
                if loop.time() > deadline:
                    raise self._late()
                await asyncio.wait({waiting}, timeout=_PAUSE)
                if not waiting.done():
                    await _check_there(request)
            return waiting.result()
        finally:
            waiting.cancel()

    def _late(self) -> Refused:
        return Refused(
            504,
            "timeout",
            f"The answer took longer than {self.settings.timeout:g} seconds",
            "a shorter one, or a server that is less busy",
            "Ask for fewer tokens, or later",
        )

    @staticmethod
    def _admitted(submit: Callable[[], T]) -> T:
        try:
            return submit()
        except Busy:
            raise Refused(
                429,
                "queue_full",
                "Too many requests wait for the model",
                "fewer at a time",
                "Try again in a moment",
                {"Retry-After": "1"},
            ) from None
        except Closed:
            raise Refused(
                503, "closing", "The server is going down", "", "Ask another", {"Retry-After": "5"}
            ) from None


async def _check_there(request: Request) -> None:
    if await request.is_disconnected():
        raise Refused(499, "client_closed_request", "The client left")


# --- who asks ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Caller:
    """Who asks, and for whose edits."""

    key: Key
    namespace: str


def service_of(request: Request) -> Service:
    """The server's state."""
    found: Service = request.app.state.service
    return found


_bearer = HTTPBearer(auto_error=False, description="An API key, from `seprog keys add`.")
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
NamespaceHeader = Annotated[
    str | None,
    Header(
        alias="X-Seprog-Namespace",
        description="Whose edits; without it the first namespace of the key. A name with spaces "
        "or letters beyond ASCII cannot be sent: use a key whose first namespace it is.",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
    ),
]


def key_of(service: Service, token: str | None) -> Key:
    """The key that a token is.

    Raises:
        Refused: It is none (401).
    """
    if not service.settings.auth:
        return NOBODY
    found = service.keys.find(token) if token else None
    if found is None:
        raise Refused(
            401,
            "invalid_api_key",
            "The API key is unknown or was revoked" if token else "No API key came",
            "a key of this server",
            "Send it as: Authorization: Bearer sk-seprog-…",
            {"WWW-Authenticate": "Bearer"},
        )
    return found


def caller_of(key: Key, role: Role, namespace: str | None) -> Caller:
    """Who asks, if the key allows it.

    Raises:
        Refused: It does not (403).
    """
    if not key.may(role):
        raise Refused(
            403,
            "role_too_low",
            f"The key {key.name!r} may {key.role}",
            f"a key that may {role}",
            "Ask an administrator for one",
        )
    name = namespace or key.home
    if not key.sees(name):
        raise Refused(
            403,
            "namespace_forbidden",
            f"The key {key.name!r} was used for the namespace {name!r}",
            f"one of {', '.join(key.namespaces)}",
            "Name one of these in X-Seprog-Namespace",
        )
    return Caller(key, name)


def _needs(role: Role) -> Callable[..., Caller]:
    def check(request: Request, bearer: Bearer, namespace: NamespaceHeader = None) -> Caller:
        key = key_of(service_of(request), bearer.credentials if bearer else None)
        return caller_of(key, role, namespace)

    return check


Served = Annotated[Service, Depends(service_of)]
Asker = Annotated[Caller, Depends(_needs("ask"))]
Writer = Annotated[Caller, Depends(_needs("edit"))]


def visible(service: Service, caller: Caller, id_: str) -> Edit:
    """An edit of the caller's namespace, by its whole id.

    Raises:
        NotFound: There is none, as far as the caller may know.
    """
    try:
        edit = service.memory.get(id_)
    except SeprogError:
        raise NotFound("edit", id_) from None
    if edit.id != id_ or edit.namespace != caller.namespace:
        raise NotFound("edit", id_)
    return edit
