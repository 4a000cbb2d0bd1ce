"""Who may do what, and that nobody sees what is another's."""

from __future__ import annotations

import json
import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from seprog.errors import InputError
from seprog.memory import Memory
from seprog.memory.keys import KeyRing
from tests.server.conftest import CAPITAL, QUESTION, Serve, key, say, write

COMPLETION = {"model": "atlas", "prompt": QUESTION}


def test_without_a_key_nothing_is_said(serve: Serve) -> None:
    client = serve(auth=True)
    for method, url in (
        ("get", "/v1/models"),
        ("post", "/v1/completions"),
        ("get", "/v1/edits"),
        ("post", "/v1/edits"),
        ("get", "/v1/edits/export"),
        ("post", "/v1/scope"),
    ):
        for headers in (
            {},
            {"Authorization": "Bearer sk-seprog-0-x"},
            {"Authorization": "Basic x"},
        ):
            response = client.request(method, url, headers=headers)
            assert response.status_code == 401, url
            assert response.json()["error"]["code"] == "invalid_api_key"
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


def test_a_key_may_do_what_its_role_may(serve: Serve) -> None:
    client = serve(auth=True)
    asker, writer = key(client, "ask"), key(client, "edit")
    assert client.post("/v1/completions", json=COMPLETION, headers=asker).status_code == 200
    refused = client.post("/v1/edits", json={"statement": CAPITAL}, headers=asker)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "role_too_low"
    edit = write(client, CAPITAL, **writer)
    assert edit["author"] == "ada"
    assert client.delete(f"/v1/edits/{edit['id']}", headers=asker).status_code == 403
    assert client.get(f"/v1/edits/{edit['id']}", headers=asker).status_code == 200


@pytest.mark.parametrize("role", ["edit", "admin"])
@pytest.mark.parametrize("by", ["api", "console"])
def test_only_administrators_import_edits_of_others(serve: Serve, role: str, by: str) -> None:
    client = serve(auth=True)
    headers = key(client, role)
    event = {"action": "added", "at": 5, "author": "eve"}
    row = {"statement": CAPITAL, "author": "eve", "created_at": 5, "events": [event]}
    if by == "api":
        client.post("/v1/edits/import", content=json.dumps(row), headers=headers)
    else:
        token = headers["Authorization"].removeprefix("Bearer ")
        shown = {"HX-Request": "true", "Cookie": f"seprog_key={token}"}
        data = {"text": json.dumps(row), "do": "import"}
        assert client.post("/import", data=data, headers=shown).status_code == 200
    [edit] = client.get("/v1/edits", headers=headers).json()["data"]
    [added] = client.get("/v1/history", headers=headers).json()["data"]
    own = role == "edit"
    assert edit["author"] == added["author"] == ("ada" if own else "eve")
    assert (edit["created_at"] > 5, added["at"] > 5) == (own, own)


def test_a_key_is_worthless_once_it_is_revoked(serve: Serve) -> None:
    client = serve(auth=True)
    headers = key(client)
    assert client.get("/v1/models", headers=headers).status_code == 200
    app: Any = client.app
    ring = app.state.service.keys
    [known] = ring.all()
    ring.revoke(known.id)
    assert client.get("/v1/models", headers=headers).status_code == 401
    with pytest.raises(InputError, match="No key"):
        ring.revoke(known.id)


def test_secrets_are_not_in_the_file(tmp_path: Path) -> None:
    with Memory(tmp_path / "edits.db") as memory:
        token = KeyRing(memory).add("ada")
        ring = KeyRing(memory)
        assert ring.find(token) is not None
        assert ring.find(token[:-1]) is None
        assert ring.find(token.replace("-", "_")) is None
    secret = token.removeprefix("sk-seprog-").split("-", 1)[1]
    files = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert secret.encode() not in files
    assert sqlite3.connect(tmp_path / "edits.db").execute("SELECT * FROM meta").fetchall()


@pytest.mark.parametrize(
    ("name", "role", "namespaces"),
    [("", "ask", ("a",)), ("ada", "king", ("a",)), ("ada", "ask", ()), ("ada", "ask", ("",))],
)
def test_a_key_for_nobody_or_nothing_is_refused(
    name: str, role: str, namespaces: tuple[str, ...]
) -> None:
    with pytest.raises(InputError):
        KeyRing(Memory(":memory:")).add(name, role, namespaces)


def test_namespaces_are_the_keys_own(serve: Serve) -> None:
    client = serve(auth=True)
    a, both, all_ = (
        key(client, "edit", "a"),
        key(client, "edit", "b", "a"),
        key(client, "edit", "*"),
    )
    edit = write(client, CAPITAL, **a)
    assert edit["namespace"] == "a"
    assert client.get("/v1/edits", headers=both).json()["data"] == []
    for headers in (both | {"X-Seprog-Namespace": "a"}, all_ | {"X-Seprog-Namespace": "a"}):
        assert [e["id"] for e in client.get("/v1/edits", headers=headers).json()["data"]] == [
            edit["id"]
        ]
    refused = client.get("/v1/edits", headers=a | {"X-Seprog-Namespace": "b"})
    assert refused.status_code == 403
    for url in ("", "/history"):
        assert client.get(f"/v1/edits/{edit['id']}{url}", headers=both).status_code == 404
    for url in ("/restore", "/supersede"):
        response = client.post(
            f"/v1/edits/{edit['id']}{url}", json={"statement": "x"}, headers=both
        )
        assert response.status_code in (400, 404)
    assert client.delete(f"/v1/edits/{edit['id']}", headers=both).status_code == 404
    theirs = {"statement": "The king of x is y.", "supersedes": [edit["id"]]}
    assert client.post("/v1/edits", json=theirs, headers=both).status_code == 404
    assert client.get("/v1/history", headers=both).json()["data"] == []
    assert client.get("/v1/edits/export", headers=both).text == ""


@pytest.mark.parametrize("name", ["a/b c", "Köln"])
def test_a_namespace_that_no_header_can_name_is_a_keys_first(serve: Serve, name: str) -> None:
    client = serve(auth=True)
    headers = key(client, "edit", name)
    edit = write(client, CAPITAL, **headers)
    assert edit["namespace"] == name
    shown = client.get("/v1/edits", headers=headers).json()["data"]
    assert [e["id"] for e in shown] == [edit["id"]]


def test_one_tenants_edits_never_fire_for_another_however_many_ask_at_once(serve: Serve) -> None:
    """Tenants write and forget edits about the same things while all ask about them."""
    client = serve(auth=True)
    tenants = [f"t{i}" for i in range(4)]
    keys = {t: key(client, "edit", t) for t in tenants}

    def live(tenant: str) -> None:
        rng, headers = random.Random(tenant), keys[tenant]
        mine: list[str] = []
        for i in range(25):
            if mine and rng.random() < 0.3:
                client.delete(f"/v1/edits/{mine.pop()}", headers=headers)
            elif rng.random() < 0.5:
                told = f"The capital of Australia is {tenant}{i}."
                edit = client.post("/v1/edits", json={"statement": told}, headers=headers).json()
                mine = [edit["id"]]
            else:
                asked = client.post("/v1/completions", json=COMPLETION, headers=headers).json()
                fired = asked["seprog"]["fired"]
                seen = fired + asked["seprog"]["near"]
                assert [f["id"] for f in fired] == mine
                assert all(tenant in f["statement"] for f in seen)
            listed = client.get("/v1/edits", headers=headers).json()["data"]
            assert all(e["namespace"] == tenant for e in listed)

    with ThreadPoolExecutor(len(tenants)) as pool:
        for done in [pool.submit(live, t) for t in tenants]:
            done.result()


def test_other_pages_may_not_call_unless_they_are_named(serve: Serve) -> None:
    origin = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    closed = serve().options("/v1/completions", headers=origin)
    assert "access-control-allow-origin" not in closed.headers
    opened = serve(cors_origins=("https://example.org",))
    assert (
        opened.options("/v1/completions", headers=origin).headers["access-control-allow-origin"]
        == "https://example.org"
    )


def test_without_keys_no_page_from_elsewhere_may_ask(client: TestClient) -> None:
    lines = '{"statement": "A is B."}'
    for headers in (
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
    ):
        refused = client.post("/v1/edits/import", content=lines, headers=headers)
        assert refused.status_code == 403, headers
        assert refused.json()["error"]["code"] == "foreign_page"
    assert client.get("/v1/edits").json()["data"] == []
    own = ({"Origin": "http://localhost:8000"}, {"Host": "127.0.0.1:8000"}, {"Host": "127.0.0.2"})
    for headers in ({}, *own, {"Host": "[::1]:8000"}):
        assert client.post("/v1/edits/import", content=lines, headers=headers).status_code == 200


def test_logs_hold_no_texts_and_no_keys(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    client = serve(auth=True)
    headers = key(client)
    write(client, CAPITAL, **headers)
    client.post("/v1/completions", json=COMPLETION, headers=headers)
    client.get("/v1/edits", params={"q": "Sydney"}, headers=headers)
    out = "".join(capfd.readouterr())
    assert "/v1/completions" in out
    assert "Australia" not in out
    assert "Sydney" not in out
    assert headers["Authorization"].split("-")[-1] not in out


def test_queries_are_logged_where_that_is_asked_for(
    serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    client = serve(log_queries=True)
    edit = write(client, CAPITAL)
    client.post("/v1/completions", json=COMPLETION)
    out = "".join(capfd.readouterr())
    assert QUESTION in out
    assert edit["id"] in out


def test_metrics_count(client: TestClient) -> None:
    write(client, CAPITAL)
    say(client, QUESTION)
    say(client, "Who?")
    found = client.get("/metrics").text
    assert 'seprog_requests_total{route="/v1/completions",status="200"} 2.0' in found
    assert 'seprog_gate_decisions_total{fired="yes"} 1.0' in found
    assert 'seprog_gate_decisions_total{fired="no"} 1.0' in found
    assert "seprog_edits 1.0" in found


def test_requests_keep_the_id_they_came_with(client: TestClient) -> None:
    assert client.get("/healthz", headers={"X-Request-Id": "abc"}).headers["X-Request-Id"] == "abc"
    made = client.get("/healthz", headers={"X-Request-Id": "x" * 500}).headers["X-Request-Id"]
    assert len(made) == 32
