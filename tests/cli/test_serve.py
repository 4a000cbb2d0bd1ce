"""``seprog serve`` and ``seprog keys``: a real process, told to stop, and killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from seprog.bench.load import wait_until_ready
from tests.cli.conftest import Run


def test_the_command_prints_its_settings(bare: Run) -> None:
    out = bare("serve", "--print-config", "--port", "81", env={"SEPROG_BATCH": "7"})
    assert '"port": 81' in out.stdout
    assert '"batch": 7' in out.stdout


def test_the_command_refuses_a_memory_without_keys(bare: Run, tmp_path: Path) -> None:
    out = bare("serve", "--memory", str(tmp_path / "edits.db"), code=2)
    assert "seprog keys add" in out.stderr


def test_the_command_refuses_a_device_that_is_not_there(bare: Run, tmp_path: Path) -> None:
    where = ["--memory", str(tmp_path / "edits.db")]
    out = bare("serve", "--no-auth", "--device", "nowhere", *where, code=2)
    assert "The device 'nowhere' cannot be used" in out.stderr


def test_the_command_refuses_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        opened.listen()
        with process(tmp_path / "edits.db", opened.getsockname()[1]) as server:
            assert server.wait(300) == 2
    last = (tmp_path / "log.jsonl").read_text().splitlines()[-1]
    assert last.startswith("Error: ") and "cannot be listened on" in last


def test_keys_are_made_listed_and_revoked(bare: Run, tmp_path: Path) -> None:
    where = ["--memory", str(tmp_path / "edits.db")]
    made = bare("keys", "add", "ada", "--role", "admin", "--namespace", "news", *where)
    assert made.stdout.startswith("sk-seprog-")
    listed = bare("keys", "list", *where)
    id_, name, role, _, namespaces = listed.stdout.strip().split("\t")
    assert (name, role, namespaces) == ("ada", "admin", "news")
    assert made.stdout.strip() not in listed.stdout
    bare("keys", "revoke", id_, *where)
    assert bare("keys", "list", *where).stdout == ""
    bare("keys", "revoke", id_, *where, code=2)
    bare("keys", "add", "ada", "--role", "king", *where, code=2)


@contextmanager
def process(memory: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server of the shipped model, killed in the end if it still runs."""
    command = [sys.executable, "-m", "seprog", "serve", "--no-auth", "--memory", str(memory)]
    with (memory.parent / "log.jsonl").open("ab") as log:
        server = subprocess.Popen([*command, "--port", str(port)], stderr=log, stdout=log)
    try:
        yield server
    finally:
        server.kill()
        server.wait()


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def test_no_acknowledged_edit_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    port = free_port()
    address, acknowledged = f"http://127.0.0.1:{port}", set[str]()
    for round_ in range(3):
        with process(tmp_path / "edits.db", port) as server:
            wait_until_ready(address)
            found = httpx2.get(f"{address}/v1/edits", params={"limit": 1000}).json()["data"]
            assert acknowledged <= {e["statement"] for e in found}

            def write(worker: int, round_: int = round_) -> None:
                for i in range(10_000):
                    told = f"The code of item {round_}-{worker}-{i} is {i}."
                    try:
                        made = httpx2.post(f"{address}/v1/edits", json={"statement": told})
                    except httpx2.TransportError:
                        return
                    assert made.status_code == 201, made.text
                    acknowledged.add(told)

            threads = [threading.Thread(target=write, args=(i,)) for i in range(3)]
            before = len(acknowledged)
            for thread in threads:
                thread.start()
            while len(acknowledged) < before + 20:
                time.sleep(0.01)
            os.kill(server.pid, signal.SIGKILL)
            for thread in threads:
                thread.join()
    assert len(acknowledged) >= 60


def test_a_server_told_to_stop_ends_what_it_has_begun(tmp_path: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    body = {"model": "atlas", "prompt": "Once", "max_tokens": 200, "temperature": 1.5, "n": 8}
    statuses: list[int] = []
    with process(tmp_path / "edits.db", port) as server:
        wait_until_ready(address)

        def ask() -> None:
            found = httpx2.post(f"{address}/v1/completions", json=body, timeout=60)
            statuses.append(found.status_code)

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.3)
        server.terminate()
        thread.join()
        assert server.wait(30) in (0, -signal.SIGTERM)
    assert statuses == [200]
    with pytest.raises(httpx2.TransportError):
        httpx2.get(f"{address}/healthz")
