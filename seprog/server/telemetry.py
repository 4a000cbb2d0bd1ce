"""What operators see: Prometheus metrics, and one line of JSON in the log per request."""

from __future__ import annotations

import logging
import sys
import time
import uuid
from typing import Any

import structlog
from fastapi import HTTPException
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seprog.server.batcher import Batch, Batcher
from seprog.types import GateDecision

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        make: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("seprog_requests", "Requests answered", ["route", "status"], **make)
        self.seconds = Histogram(
            "seprog_request_seconds", "Time until the answer", ["route"], buckets=_SECONDS, **make
        )
        self.decisions = Counter(
            "seprog_gate_decisions", "Queries judged, by whether an edit fired", ["fired"], **make
        )
        self.rate = Gauge(
            "seprog_false_fire_rate", "Out-of-scope queries that fire, as calibrated", **make
        )
        self.edits = Gauge("seprog_edits", "Edits in force, in all namespaces", **make)
        self.kept = Gauge("seprog_prefix_bytes", "Prefixes kept with the edits", **make)
        self.waiting = Gauge("seprog_queue", "Requests that wait for the model", **make)
        self.rows = Histogram(
            "seprog_batch_rows", "Answers side by side", buckets=(1, 2, 4, 8, 16, 32, 64), **make
        )
        self.tokens = Counter("seprog_tokens", "Tokens written", **make)
        self.busy = Counter("seprog_model_seconds", "Time in which the model wrote", **make)

    def batch(self, batch: Batch) -> None:
        """Note a batch."""
        self.rows.observe(batch.rows)
        self.tokens.inc(batch.tokens)
        self.busy.inc(batch.seconds)

    def decided(self, decision: GateDecision) -> None:
        """Note what the gate said."""
        self.decisions.labels("yes" if decision.fired else "no").inc()

    def look(self, batcher: Batcher | None) -> None:
        """Bring up to date what is not counted but looked up."""
        if batcher is not None:
            self.waiting.set(batcher.waiting)
            editor = batcher.editor
            self.edits.set(editor.memory.count())
            self.kept.set(editor.memory.prefix_bytes(editor.generator.fingerprint))
            self.rate.set(editor.calibration().rate)


def log_to_stderr(level: str) -> None:
    """One JSON object per line."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


log: Any = structlog.get_logger()


class Observed:
    """Middleware: an id for each request, its metrics, its line in the log; no texts, no keys.

    Args:
        app: What answers.
        metrics: Where it is counted.
        max_body: Largest request body, in bytes; a larger one is refused (413).
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body: int) -> None:
        self._app, self._metrics, self._max_body = app, metrics, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        id_ = given if given.isascii() and given.isprintable() and 0 < len(given) <= 64 else ""
        id_ = id_ or uuid.uuid4().hex
        start, status, read = time.perf_counter(), 500, 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._max_body:
                raise HTTPException(413, f"A body of more than {self._max_body} bytes came")
            return message

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", id_.encode())]
            await send(message)

        with structlog.contextvars.bound_contextvars(request=id_):
            try:
                await self._app(scope, counted, noted)
            finally:
                self._note(scope, status, time.perf_counter() - start)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        level = "warning" if status >= 500 else "info"
        getattr(log, level)(
            "request",
            method=scope["method"],
            route=route,
            status=status,
            ms=round(1000 * seconds, 1),
        )
