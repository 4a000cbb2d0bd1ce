"""Requests that arrive together are decided and written together.

One thread owns the model. It takes what waits, lets the gate decide about all of it at once, and
about what came meanwhile, and writes as many answers side by side as fit; each with its own prefix,
options and end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import structlog

from seprog.chat import Query
from seprog.editor import Editor
from seprog.errors import InputError
from seprog.lm import CausalLM, RowOptions, Written
from seprog.types import GateDecision, Prefix

T = TypeVar("T")
log: Any = structlog.get_logger()


WINDOWS = 4
"""How long a request waits for company at most, in times that it waits for the first."""


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

    @property
    def least(self) -> int:
        """Tokens that it must have room for: all that were asked for, or half of a mere limit."""
        wanted = self.options.max_new_tokens
        return wanted // 2 if self.job.shorten else wanted

    def shortened(self, most: int) -> _Row:
        """The same with an answer of so many tokens at most."""
        if self.options.max_new_tokens <= most:
            return self
        return replace(self, options=replace(self.options, max_new_tokens=most))


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
        window: Seconds that a request waits for company when nothing else goes on; again, up to
            ``WINDOWS`` times, while some comes.
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
            try:
                self._turn()
            except Exception:  # whatever it was, others still wait
                log.exception("a turn of the batcher failed")

    def _turn(self) -> None:
        jobs, calls = _taken(self._arrived, self._jobs), _taken(self._arrived, self._calls)
        if not (jobs or calls or self._ready):
            self._more = False  # before: it may be woken meanwhile
            if self._idle():
                self._more = True
            return
        for work, future in calls:
            _settle(work, future)
        while jobs:
            self._decide([job for job in jobs if not job.cancelled])
            full = len(self._ready) >= self._most
            jobs = [] if full else _taken(self._arrived, self._jobs)  # what came meanwhile
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
            self._gather()
        return True

    def _gather(self) -> None:
        """Wait for company, and on while more comes: those whose answers ended together."""
        for _ in range(WINDOWS):
            before = len(self._jobs)
            time.sleep(self._window)
            if not before < len(self._jobs) < self._most:
                return

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
                    else [GateDecision(query.judged[0]) for query in queries]
                )
                prefixes = self.editor.prefixes(decisions)
            except Exception as error:
                if len(group) == 1:
                    group[0].tell(Failed(error))
                else:  # it is the fault of some of them: each by itself
                    for job in group:
                        self._decide([job])
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
                row = _Row(job, len(found), query.text, options, prefix, bos, len(ids), moved)
                found.append(self._checked(row))
        return found

    def _room(self, rows: Sequence[_Row]) -> int | None:
        """Tokens that can be written behind rows that are padded to one length; ``None``: any."""
        limit = self.editor.lm.n_positions
        if limit is None or not isinstance(self.editor.lm, CausalLM):
            return limit  # what reads and what writes have a window each
        return limit - max(row.time for row in rows) - max(row.moved for row in rows)

    def _checked(self, row: _Row) -> _Row:
        """A row that fits into the context window by itself, its answer shortened if it may be."""
        room, wanted = self._room([row]), row.options.max_new_tokens
        if room is None or wanted <= room:
            return row
        if not row.job.shorten or room < 1:
            raise InputError(
                f"The prompt takes {row.time + row.moved} tokens and the answer up to {wanted}",
                f"at most {self.editor.lm.n_positions} together, the model's context length",
                "Shorten the prompt, or ask for fewer tokens",
            )
        return row.shortened(room)

    def _fitting(self) -> list[_Row]:
        """The longest waiting rows that fit into one batch; the others keep their places."""
        rows: list[_Row] = []
        left: deque[_Row] = deque()
        while self._ready and len(rows) < self._most:
            row = self._ready.popleft()
            room = self._room([*rows, row])
            if row.job.cancelled:
                self._note(row, Written(finish="cancelled"))
            elif room is None or not rows or max(r.least for r in [*rows, row]) <= room:
                rows.append(row)
            else:
                left.append(row)
        self._ready.extendleft(reversed(left))
        room = self._room(rows) if rows else None
        return rows if room is None else [row.shortened(room) for row in rows]

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
                on_end=lambda i, result: self._note(rows[i], result),
            )
        except Exception as error:
            for job in dict.fromkeys(row.job for row in rows):
                if len(job.written) < job.answers:
                    job.cancelled = True
                    job.tell(Failed(error))
            return
        seconds, tokens = time.perf_counter() - start, sum(len(w.ids) for w in written)
        self._on_batch(Batch(len(rows), tokens, seconds))

    @staticmethod
    def _note(row: _Row, result: Written) -> None:
        job = row.job
        job.written[row.index] = result
        if len(job.written) == job.answers:
            job.tell(Finished(tuple(job.written[i] for i in range(job.answers))))


def _taken(lock: threading.Condition, queue: deque[T]) -> list[T]:
    """Everything in a queue, which is empty then."""
    with lock:
        found = list(queue)
        queue.clear()
    return found


def _settle(work: Callable[[], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
