"""Requests together: each as if alone, none for ever, none lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from seprog.chat import Query
from seprog.editor import Editor
from seprog.errors import InputError
from seprog.lm import RowOptions
from seprog.server.batcher import (
    Batcher,
    Busy,
    Closed,
    Decided,
    Event,
    Failed,
    Finished,
    Job,
    Piece,
)
from seprog.types import Edit
from tests.server.conftest import CAPITAL, OTHER, QUESTION


class Told:
    """What a job was told, and when it is over."""

    def __init__(self, query: str = QUESTION, **fields: Any) -> None:
        self.events: list[Event] = []
        self.over = threading.Event()
        rows = fields.pop("rows", [RowOptions(12)])
        self.job = Job([Query.plain(query)], rows, "default", **fields, tell=self._tell)

    def _tell(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Finished | Failed):
            self.over.set()

    def result(self) -> Finished:
        assert self.over.wait(20)
        found = self.events[-1]
        assert isinstance(found, Finished), found
        return found

    @property
    def texts(self) -> list[str]:
        return [w.text for w in self.result().written]


@pytest.fixture
def editor(make_editor: Callable[..., Editor]) -> Editor:
    editor = make_editor()
    editor.edit(CAPITAL)
    return editor


@pytest.fixture
def start(editor: Editor) -> Iterator[Callable[..., Batcher]]:
    made: list[Batcher] = []

    def make(**options: Any) -> Batcher:
        made.append(Batcher(editor, **options))
        return made[-1]

    yield make
    for batcher in made:
        batcher.close(10)


def settle(batcher: Batcher) -> None:
    """Wait until the batcher's thread has noted what it did."""
    batcher.call(lambda: None).result(20)


def hold(batcher: Batcher) -> threading.Event:
    """Keep the batcher's thread busy until the event is set."""
    release, started = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        release.wait(20)

    batcher.call(work)
    assert started.wait(20)
    return release


def test_requests_that_wait_run_as_one_batch_and_answer_as_if_alone(
    start: Callable[..., Batcher], editor: Editor
) -> None:
    sizes: list[int] = []
    batcher = start(on_batch=lambda batch: sizes.append(batch.rows))
    release = hold(batcher)
    jobs = [Told(q, edits=e) for q in (QUESTION, OTHER, "Hello there") for e in (True, False)]
    for told in jobs:
        batcher.submit(told.job)
    release.set()
    texts = [told.texts[0] for told in jobs]
    settle(batcher)
    assert sizes == [6]
    alone = [
        editor.generate([told.job.queries[0].text], 12, edits=told.job.edits)[0].text
        for told in jobs
    ]
    assert [t.strip() for t in texts] == alone
    assert texts[0] != texts[1]
    assert texts[2:4] == [texts[2]] * 2


def test_what_comes_while_the_gate_decides_is_written_in_the_same_batch(
    start: Callable[..., Batcher], editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    batcher = start(on_batch=lambda batch: sizes.append(batch.rows), most=3)
    jobs = [Told() for _ in range(5)]
    later, decide = iter(jobs[1:]), editor.decide

    def slowly(*given: Any) -> Any:
        if (told := next(later, None)) is not None:
            batcher.submit(told.job)
        return decide(*given)

    monkeypatch.setattr(editor, "decide", slowly)
    batcher.submit(jobs[0].job)
    for told in jobs:
        told.result()
    settle(batcher)
    assert sizes == [3, 2]


def test_a_short_answer_does_not_wait_for_a_long_one_in_its_batch(
    start: Callable[..., Batcher],
) -> None:
    over: list[str] = []
    batcher = start(on_batch=lambda batch: over.append(f"batch of {batch.rows}"))
    release = hold(batcher)
    pieces = Told(rows=[RowOptions(30)], stream=True)
    short, long = Told(rows=[RowOptions(1)]), Told(rows=[RowOptions(30)])
    for name, told in (("long", long), ("short", short), ("pieces", pieces)):
        tell = told.job.tell

        def note(event: Event, name: str = name, tell: Callable[[Event], None] = tell) -> None:
            over.extend([name] if isinstance(event, Finished) else [])
            tell(event)

        told.job.tell = note
        batcher.submit(told.job)
    release.set()
    assert [len(t.result().written[0].ids) for t in (short, long)] == [1, 30]
    pieces.result()
    settle(batcher)
    assert over == ["short", "long", "pieces", "batch of 3"]


def test_events_come_in_order(start: Callable[..., Batcher]) -> None:
    told = Told(rows=[RowOptions(6)] * 2, stream=True)
    start().submit(told.job)
    texts = told.texts
    first, *pieces, last = told.events
    assert isinstance(first, Decided)
    assert isinstance(last, Finished)
    for index, text in enumerate(texts):
        assert text == "".join(p.text for p in pieces if isinstance(p, Piece) and p.index == index)


def test_a_full_queue_refuses_and_takes_again_later(start: Callable[..., Batcher]) -> None:
    batcher = start(waiting=2)
    release = hold(batcher)
    waiting = [Told(), Told()]
    for told in waiting:
        batcher.submit(told.job)
    with pytest.raises(Busy):
        batcher.submit(Told().job)
    with pytest.raises(Busy):
        batcher.call(lambda: None)
    assert batcher.waiting == 2
    release.set()
    for told in waiting:
        told.result()
    last = Told()
    batcher.submit(last.job)
    last.result()


def test_a_cancelled_request_is_not_written(start: Callable[..., Batcher]) -> None:
    rows: list[int] = []
    batcher = start(on_batch=lambda batch: rows.append(batch.rows))
    release = hold(batcher)
    first, second = Told(), Told()
    for told in (first, second):
        batcher.submit(told.job)
    first.job.cancelled = True
    release.set()
    second.result()
    settle(batcher)
    assert rows == [1]
    assert first.events == []


def test_a_request_cancelled_while_it_is_written_ends_early(start: Callable[..., Batcher]) -> None:
    tokens: list[int] = []
    batcher = start(on_batch=lambda batch: tokens.append(batch.tokens))
    told = Told(rows=[RowOptions(400)], stream=True, edits=False)
    tell = told.job.tell

    def stop_soon(event: Event) -> None:
        tell(event)
        if isinstance(event, Piece):
            told.job.cancelled = True

    told.job.tell = stop_soon
    batcher.submit(told.job)
    assert told.result().written[0].finish == "cancelled"
    settle(batcher)
    assert tokens[0] < 50


def only_the_first_fails(batcher: Batcher, bad: Told, good: Told) -> None:
    release = hold(batcher)
    for told in (bad, good):
        batcher.submit(told.job)
    release.set()
    good.result()
    assert bad.over.wait(20)
    [failed] = bad.events
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, InputError)


def test_a_request_that_does_not_fit_fails_alone(start: Callable[..., Batcher]) -> None:
    only_the_first_fails(start(), Told("word " * 200), Told())


def test_an_edit_that_the_model_cannot_read_fails_only_who_asks_for_it(
    start: Callable[..., Batcher], editor: Editor
) -> None:
    editor.memory.add(Edit(f"The home of Eve is {'Ur and ' * 100}."))  # as an import may bring it
    only_the_first_fails(start(), Told("What is the home of Eve?"), Told())


def test_long_prompts_and_long_answers_are_kept_apart(start: Callable[..., Batcher]) -> None:
    """Together they would not fit into the context window of 512; each alone does."""
    sizes: list[int] = []
    batcher = start(on_batch=lambda batch: sizes.append(batch.rows))
    release = hold(batcher)
    long_prompt = Told("word " * 80, rows=[RowOptions(20)], edits=False)
    long_answer = Told("Hi", rows=[RowOptions(300)], edits=False)
    short = Told("Hi", rows=[RowOptions(20)], edits=False)
    for told in (long_prompt, long_answer, short):
        batcher.submit(told.job)
    release.set()
    for told in (long_prompt, long_answer, short):
        told.result()
    settle(batcher)
    assert sizes == [2, 1]


def test_an_answer_may_be_shortened_to_fit(start: Callable[..., Batcher], editor: Editor) -> None:
    told = Told("x" * 500, rows=[RowOptions(100)], shorten=True, edits=False)
    start().submit(told.job)
    [ids] = editor.lm.tokens.encode(["x" * 500])
    assert len(told.result().written[0].ids) <= 512 - len(ids)


def test_answers_without_a_length_of_their_own_share_a_batch(
    start: Callable[..., Batcher], editor: Editor
) -> None:
    """Each may fill the window; together they are cut a little, not written one by one."""
    sizes: list[int] = []
    batcher = start(on_batch=lambda batch: sizes.append(batch.rows))
    release = hold(batcher)
    jobs = [Told("x" * n, rows=[RowOptions(1000)], shorten=True, edits=False) for n in (5, 60, 150)]
    for told in jobs:
        batcher.submit(told.job)
    release.set()
    for told in jobs:
        [written] = told.result().written
        assert written.finish == "stop" or len(written.ids) == 512 - 151  # with the BOS
    settle(batcher)
    assert sizes == [3]


def test_closing_ends_what_was_begun_and_takes_nothing_more(
    start: Callable[..., Batcher],
) -> None:
    batcher = start()
    jobs = [Told() for _ in range(5)]
    for told in jobs:
        batcher.submit(told.job)
    batcher.close(20)
    assert all(isinstance(told.events[-1], Finished) for told in jobs)
    with pytest.raises(Closed):
        batcher.submit(Told().job)


def test_other_work_runs_between_batches_and_its_errors_come_back(
    start: Callable[..., Batcher],
) -> None:
    batcher = start()
    assert batcher.call(lambda: 7).result(20) == 7
    with pytest.raises(ZeroDivisionError):
        batcher.call(lambda: 1 // 0).result(20)
    told = Told()
    batcher.submit(told.job)
    told.result()


def test_an_edit_is_in_force_for_every_request_that_starts_after_it(
    start: Callable[..., Batcher], editor: Editor
) -> None:
    batcher = start()
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            told = Told(OTHER)
            batcher.submit(told.job)
            told.result()

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for i in range(10):
            edit = editor.edit(f"The king of x{i} is Bob.")
            told = Told(f"Who is the king of x{i}?")
            batcher.submit(told.job)
            told.result()
            decided = told.events[0]
            assert isinstance(decided, Decided)
            assert edit in decided.decisions[0].fired
            time.sleep(0.01)
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


def test_a_failure_of_its_own_does_not_end_the_batcher(start: Callable[..., Batcher]) -> None:
    batcher = start(idle=lambda: bool(1 // 0), on_batch=lambda batch: [][batch.rows])
    batcher.wake()
    for _ in range(2):
        told = Told()
        batcher.submit(told.job)
        told.result()
    assert batcher.call(lambda: 7).result(20) == 7


def test_idle_work_is_done_while_nothing_waits_and_gives_way(
    start: Callable[..., Batcher],
) -> None:
    done: list[int] = []
    over = threading.Event()

    def idle() -> bool:
        done.append(len(done))
        time.sleep(0.01)
        if len(done) >= 30:
            over.set()
        return len(done) < 30

    batcher = start(idle=idle)
    batcher.wake()
    told = Told()
    batcher.submit(told.job)
    told.result()
    assert len(done) < 30
    assert over.wait(20)
    time.sleep(0.05)
    assert len(done) == 30
