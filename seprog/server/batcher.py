"""Requests that arrive together are decided and written together.

One thread owns the model. It takes what waits, lets the gate decide about all of it at once, and
writes as many answers side by side as fit; each with its own prefix, options and end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from seprog.chat import Query
from seprog.editor import Editor
from seprog.errors import InputError
from seprog.lm import RowOptions, Written
from seprog.types import GateDecision, Prefix

T = TypeVar("T")


class Busy(Exception):
    """So many requests wait that no more are taken."""


class Closed(Exception):
    """The server is going down."""


@dataclass(frozen=True)
class Decided:
    """The gate has decided.

    Args:
        decisions: About each query; none at all if editing is off.
        prompt_tokens: What the model reads, without virtual tokens.
    """

    decisions: tuple[GateDecision, ...]
    prompt_tokens: int


@dataclass(frozen=True)
class Piece:
    """More text of one of a request's answers."""

    index: int
    text: str


@dataclass(frozen=True)
class Finished:
    """All answers of a request."""

    written: tuple[Written, ...]


@dataclass(frozen=True)
class Failed:
    """A request that came to nothing."""

    error: Exception


Event = Decided | Piece | Finished | Failed
"""What happens to a request: ``Decided``, any number of ``Piece``, ``Finished``; or ``Failed``."""


@dataclass(eq=False)
class Job:
    """A request. Its answers are numbered: those to the first query, then those to the next.

    Args:
        queries: What is asked.
        rows: Options of each answer wanted to each query.
        namespace: Whose edits may fire.
        threshold: Probability above which an edit fires; ``None``: as calibrated.
        edits: Whether any may fire.
        stream: Whether pieces are wanted.
        shorten: Whether an answer too long for the context window is made shorter; else refused.
        tell: Called in the batcher's thread with everything that happens.
        cancelled: Set when it is wanted no longer.
    """

    queries: Sequence[Query]
    rows: Sequence[RowOptions]
    namespace: str
    threshold: float | None = None
    edits: bool = True
    stream: bool = False
    shorten: bool = False
    tell: Callable[[Event], None] = lambda event: None
    cancelled: bool = False
    written: dict[int, Written] = field(default_factory=dict)

    @property
    def answers(self) -> int:
        """How many are wanted."""
        return len(self.queries) * len(self.rows)


@dataclass(eq=False)
class _Row:
    """One answer to be written."""

    job: Job
    index: int
    text: str
    options: RowOptions
    prefix: Prefix | None
    bos: bool
    time: int
    """Tokens that the model reads."""
    moved: int
    """Positions that the prefix takes up."""


@dataclass(frozen=True)
class Batch:
    """What became of a batch, for those who measure.

    Args:
        rows: Answers written side by side.
        tokens: Tokens written.
        seconds: How long it took.
    """

    rows: int
    tokens: int
    seconds: float


class Batcher:
    """Runs an editor for many requests at once.

    Args:
        editor: With a model that writes, for ``submit``; any, for ``call``.
        most: Answers written side by side.
        waiting: Requests that may wait.
        window: Seconds that a request waits for company when nothing else goes on.
        on_batch: Told of each batch.
        idle: Something short to do with the model while nothing waits; says whether there is more.
    """

    def __init__(
        self,
        editor: Editor,
        most: int = 32,
        waiting: int = 256,
        window: float = 0.004,
        on_batch: Callable[[Batch], None] = lambda batch: None,
        idle: Callable[[], bool] = lambda: False,
    ) -> None:
        self.editor = editor
        self._most, self._bound, self._window, self._on_batch = most, waiting, window, on_batch
        self._idle, self._more = idle, False
        self._arrived = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._ready: deque[_Row] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests that nothing has been written for yet."""
        return len(self._jobs) + len(self._calls) + len({row.job for row in self._ready})

    def submit(self, job: Job) -> None:
        """Take a request.

        Raises:
            Busy: Too many wait.
            Closed: The batcher was closed.
        """
        with self._arrived:
            self._admit()
            self._jobs.append(job)
            self._arrived.notify()

    def call(self, work: Callable[[], T]) -> Future[T]:
        """Have something else done with the model, between batches.

        Raises:
            Busy: Too many wait.
            Closed: The batcher was closed.
        """
        future: Future[T] = Future()
        with self._arrived:
            self._admit()
            self._calls.append((work, future))
            self._arrived.notify()
        return future

    def wake(self) -> None:
        """There is something to do while nothing waits."""
        with self._arrived:
            self._more = True
            self._arrived.notify()

    def close(self, seconds: float | None = None) -> None:
        """Take nothing more, and wait until what was taken is done."""
        with self._arrived:
            self._closed = True
            self._arrived.notify()
        self._thread.join(seconds)

    def _admit(self) -> None:
        if self._closed:
            raise Closed
        if self.waiting >= self._bound:
            raise Busy

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while self._wait():
            jobs, calls = self._take()
            if not (jobs or calls or self._ready):
                self._more = False  # before: it may be woken meanwhile
                if self._idle():
                    self._more = True
                continue
            for work, future in calls:
                _settle(work, future)
            self._decide([job for job in jobs if not job.cancelled])
            if rows := self._fitting():
                self._write(rows)

    def _wait(self) -> bool:
        """Wait for work; false if none will come."""
        with self._arrived:
            if self._ready:
                return True
            while not (self._jobs or self._calls or self._closed):
                if self._more:
                    return True
                self._arrived.wait()
            if not (self._jobs or self._calls):
                return False
        if self._jobs and not (self._calls or self._closed):
            time.sleep(self._window)
        return True

    def _take(self) -> tuple[list[Job], list[tuple[Callable[[], Any], Future[Any]]]]:
        with self._arrived:
            jobs, calls = list(self._jobs), list(self._calls)
            self._jobs.clear()
            self._calls.clear()
        return jobs, calls

    def _decide(self, jobs: Sequence[Job]) -> None:
        """Let the gate decide, the jobs of a namespace together, and make rows of them."""
        groups: dict[tuple[bool, str, float | None], list[Job]] = {}
        for job in jobs:
            groups.setdefault((job.edits, job.namespace, job.threshold), []).append(job)
        for (edits, namespace, threshold), group in groups.items():
            queries = [query for job in group for query in job.queries]
            try:
                decisions = (
                    self.editor.decide(queries, namespace, threshold)
                    if edits
                    else [GateDecision(query.judged[0], 1.0) for query in queries]
                )
                prefixes = self.editor.prefixes(decisions)
            except Exception as error:
                for job in group:
                    job.tell(Failed(error))
                continue
            found = zip(decisions, prefixes, strict=True)
            for job in group:
                mine = [next(found) for _ in job.queries]
                try:
                    rows = self._rows(job, [prefix for _, prefix in mine])
                except Exception as error:
                    job.tell(Failed(error))
                    continue
                read = sum(row.time for row in rows) // len(job.rows)
                job.tell(Decided(tuple(d for d, _ in mine) if edits else (), read))
                self._ready.extend(rows)

    def _rows(self, job: Job, prefixes: Sequence[Prefix | None]) -> list[_Row]:
        """The answers to be written for a job."""
        lm = self.editor.lm
        found: list[_Row] = []
        replaced = self.editor.bos(prefixes)
        for query, prefix, bos in zip(job.queries, prefixes, replaced, strict=True):
            bos = bos and query.bos
            [ids] = lm.tokens.encode([query.text], bos)
            moved = len(prefix) if prefix is not None and lm.positions == "learned" else 0
            for options in job.rows:
                options = self._fitted(options, len(ids) + moved, job.shorten)
                index = len(found)
                found.append(_Row(job, index, query.text, options, prefix, bos, len(ids), moved))
        return found

    def _fitted(self, options: RowOptions, read: int, shorten: bool) -> RowOptions:
        """Options whose answer fits into the context window behind what was read."""
        limit = self.editor.lm.n_positions
        room = options.max_new_tokens if limit is None else limit - read
        if options.max_new_tokens <= room:
            return options
        if not shorten or room < 1:
            raise InputError(
                f"The prompt takes {read} tokens and the answer up to {options.max_new_tokens}",
                f"at most {limit} together, the model's context length",
                "Shorten the prompt, or ask for fewer tokens",
            )
        return RowOptions(**{**vars(options), "max_new_tokens": room})

    def _fitting(self) -> list[_Row]:
        """The longest waiting rows that fit into one batch; the others keep their places."""
        limit = self.editor.lm.n_positions
        rows: list[_Row] = []
        left: deque[_Row] = deque()
        time = new = moved = 0
        while self._ready and len(rows) < self._most:
            row = self._ready.popleft()
            if row.job.cancelled:
                self._note(row, Written(finish="cancelled"))
                continue
            wide = max(time, row.time), max(new, row.options.max_new_tokens), max(moved, row.moved)
            if limit is not None and rows and sum(wide) > limit:
                left.append(row)
                continue
            (time, new, moved), rows = wide, [*rows, row]
        self._ready.extendleft(reversed(left))
        return rows

    def _write(self, rows: Sequence[_Row]) -> None:
        start = time.perf_counter()

        def on_piece(i: int, text: str) -> None:
            if rows[i].job.stream:
                rows[i].job.tell(Piece(rows[i].index, text))

        try:
            written = self.editor.lm.write(
                [row.text for row in rows],
                [row.options for row in rows],
                [row.prefix for row in rows],
                bos=[row.bos for row in rows],
                on_piece=on_piece if any(row.job.stream for row in rows) else None,
                cancelled=lambda i: rows[i].job.cancelled,
            )
        except Exception as error:
            for job in dict.fromkeys(row.job for row in rows):
                job.cancelled = True
                job.tell(Failed(error))
            return
        tokens = sum(len(w.ids) for w in written)
        self._on_batch(Batch(len(rows), tokens, time.perf_counter() - start))
        for row, result in zip(rows, written, strict=True):
            self._note(row, result)

    @staticmethod
    def _note(row: _Row, result: Written) -> None:
        job = row.job
        job.written[row.index] = result
        if len(job.written) == job.answers:
            job.tell(Finished(tuple(job.written[i] for i in range(job.answers))))


def _settle(work: Callable[[], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
