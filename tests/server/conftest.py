"""A server on a random model, whose gate decides by the words of a text."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from seprog.editor import Editor
from seprog.server.app import create_app
from seprog.server.settings import Settings

CAPITAL = "The capital of Australia is Sydney."
QUESTION = "What is the capital of Australia?"
OTHER = "Who is the king of Peru?"
Serve = Callable[..., TestClient]


@pytest.fixture
def serve(make_editor: Callable[..., Editor]) -> Iterator[Serve]:
    """Clients of servers in this process; settings as keywords."""
    opened: list[TestClient] = []

    def start(editor: Editor | None = None, **settings: Any) -> TestClient:
        told = Settings.load(**{"auth": False, "max_tokens": 64, **settings})
        app = create_app(told, editor or make_editor())
        client = TestClient(app, base_url="http://localhost")
        client.__enter__()
        opened.append(client)
        return client

    yield start
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve: Serve) -> TestClient:
    """A server that asks for no keys."""
    return serve()


def say(client: TestClient, prompt: str, **fields: Any) -> dict[str, Any]:
    """A greedy completion."""
    body = {"model": "atlas", "prompt": prompt, "max_tokens": 12, **fields}
    response = client.post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def text(client: TestClient, prompt: str, **fields: Any) -> str:
    """What it says."""
    return str(say(client, prompt, **fields)["choices"][0]["text"])


def write(client: TestClient, statement: str, **headers: str) -> dict[str, Any]:
    """Write an edit."""
    response = client.post("/v1/edits", json={"statement": statement}, headers=headers)
    assert response.status_code == 201, response.text
    return dict(response.json())


def key(client: TestClient, role: str = "admin", *namespaces: str) -> dict[str, str]:
    """The header of a new key."""
    app: Any = client.app
    token = app.state.service.keys.add("ada", role, namespaces or ("default",))
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """A real server on a free port; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    for _ in range(500):
        if server.started:
            break
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
