"""What the routes share: loading, and waiting for answers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from seprog.editor import Editor
from seprog.server.app import create_app
from seprog.server.batcher import Job, Piece
from seprog.server.errors import Refused
from seprog.server.service import Service
from seprog.server.settings import Settings
from tests.server.conftest import QUESTION, Serve


class Client:
    """As much of a request as the service asks for."""

    def __init__(self, there: bool) -> None:
        self._there = there

    async def is_disconnected(self) -> bool:
        return not self._there


def client(there: bool = True) -> Request:
    return cast(Request, Client(there))


@contextmanager
def held(service: Service) -> Iterator[None]:
    """Keep the model busy."""
    release = threading.Event()
    service.batcher.call(lambda: release.wait(20))
    try:
        yield
    finally:
        release.set()


@pytest.fixture
def made(make_editor: Callable[..., Editor]) -> Iterator[Callable[..., Service]]:
    opened: list[Service] = []

    def make(**settings: Any) -> Service:
        opened.append(Service(Settings.load(**settings), make_editor()))
        return opened[-1]

    yield make
    for service in opened:
        service.close()


def test_whatever_a_model_cannot_be_loaded_for_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **options: object) -> Editor:
        raise RuntimeError("the weights are cut off")

    monkeypatch.setattr(Editor, "from_pretrained", broken)
    app = create_app(Settings.load(auth=False, memory=tmp_path / "edits.db"))
    app.state.service.load()
    client = TestClient(app, "http://localhost")  # without the start, which would load again
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert "the weights are cut off" in ready.json()["error"]["message"]
    assert "cannot be loaded" in client.get("/loading").text
    app.state.service.close()


def test_a_request_that_goes_on_and_on_ends_in_time(
    made: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = made(timeout=0.3)
    ended = threading.Event()

    def talk(job: Job) -> None:
        while not job.cancelled and not ended.wait(0.01):
            job.tell(Piece(0, "on "))

    def submit(job: Job) -> None:
        threading.Thread(target=talk, args=(job,)).start()

    async def listen(events: AsyncIterator[object]) -> None:
        async for _ in events:
            pass

    monkeypatch.setattr(service.batcher, "submit", submit)
    job = Job([], [], "default")
    try:
        with pytest.raises(Refused, match="took longer than"):
            asyncio.run(asyncio.wait_for(listen(service.events(client(), job)), 5))
    finally:
        ended.set()
    assert job.cancelled


@pytest.mark.parametrize(("there", "status"), [(True, 504), (False, 499)])
def test_work_that_nobody_waits_for_is_not_begun(
    made: Callable[..., Service], there: bool, status: int
) -> None:
    service = made(timeout=0.5)
    done: list[int] = []
    with held(service):
        start = time.perf_counter()
        with pytest.raises(Refused) as caught:
            asyncio.run(service.call(client(there), lambda: done.append(1)))
        assert caught.value.status == status
        assert time.perf_counter() - start < 5
    service.batcher.call(lambda: None).result(20)
    assert not done


def test_the_limit_of_tokens_binds_previews_and_the_console_too(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = serve(max_tokens=2)
    body = {"edits": [{"statement": "The king of Peru is Max."}], "queries": [QUESTION]}
    [told] = found.post("/v1/edits/preview", json=body).json()["data"]
    short = {"model": "atlas", "prompt": QUESTION, "max_tokens": 2}
    said = found.post("/v1/completions", json=short).json()["choices"][0]["text"]
    assert told["before"] == said.strip()
    app: Any = found.app
    editor, limits = app.state.service.editor, []
    answer = editor.answer
    monkeypatch.setattr(editor, "answer", lambda d, n: limits.append(n) or answer(d, n))
    for path in ("/ask", "/ask/threshold"):
        data = {"query": QUESTION, "threshold": "50"}
        assert found.post(path, data=data, headers={"HX-Request": "true"}).status_code == 200
    assert limits == [2, 2]
