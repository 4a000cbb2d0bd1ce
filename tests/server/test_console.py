"""The console as a browser sees it: pages, parts of pages, and what they refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from seprog.editor import Editor
from seprog.server.app import create_app
from seprog.server.console.charts import histogram, nice, quantile, steps
from seprog.server.console.pages import ago, percent
from seprog.server.settings import Settings

HTMX = {"HX-Request": "true"}


@pytest.fixture
def app(tiny_editor: Editor) -> FastAPI:
    return create_app(Settings.load(auth=True), tiny_editor)


@pytest.fixture
def open_app(tiny_editor: Editor) -> FastAPI:
    return create_app(Settings.load(auth=False), tiny_editor)


@pytest.fixture
def console(open_app: FastAPI) -> Iterator[TestClient]:
    """Without keys."""
    with TestClient(open_app, "http://localhost", headers=HTMX) as client:
        yield client


@pytest.fixture
def visit(app: FastAPI) -> Callable[..., TestClient]:
    """A browser of somebody who logged in with a new key."""

    def made(name: str, role: str = "edit", *namespaces: str) -> TestClient:
        token = app.state.service.keys.add(name, role, namespaces or ("default",))
        client = TestClient(app, headers=HTMX, follow_redirects=False)
        answer = client.post("/login", data={"key": token})
        assert answer.headers["HX-Redirect"] == "/"
        return client

    return made


def page(client: TestClient, path: str, **options: Any) -> str:
    """A whole page, as the address bar asks for it."""
    headers = dict(client.headers)
    client.headers.pop("HX-Request", None)
    try:
        answer = client.get(path, **options)
    finally:
        client.headers.update({"HX-Request": headers.get("hx-request", "true")})
    assert answer.status_code == 200, answer.text
    assert answer.text.startswith("<!doctype html>")
    return answer.text


def write(client: TestClient, **fields: str) -> str:
    """Write an edit; its id."""
    kind = "question" if "prompt" in fields else "sentence"
    answer = client.post("/edits", data={"kind": kind, **fields})
    assert answer.status_code == 200, answer.text
    found = re.fullmatch(r"/edits/(\w+)\?done=written", answer.headers["HX-Redirect"])
    assert found
    return found[1]


def notice(answer: httpx2.Response, status: int) -> str:
    """The text of an error; it goes to where notices stand."""
    assert answer.status_code == status
    assert answer.headers["HX-Retarget"] == "#notice"
    assert "Traceback" not in answer.text
    return answer.text


# --- who may come in --------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/edits", "/edits/new", "/history", "/import", "/health"])
def test_who_is_not_logged_in_is_sent_to_the_door(app: FastAPI, path: str) -> None:
    client = TestClient(app, follow_redirects=False)
    answer = client.get(path)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/login?back={path}")
    assert client.post("/ask", data={"query": "a"}, headers=HTMX).headers["HX-Redirect"]


def test_logging_in_and_out(app: FastAPI) -> None:
    token = app.state.service.keys.add("ada", "edit")
    client = TestClient(app, headers=HTMX, follow_redirects=False)
    answer = client.post("/login", data={"key": f" {token} ", "back": "/edits"})
    assert answer.headers["HX-Redirect"] == "/edits"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Secure" not in cookie
    assert "ada" in page(client, "/")
    assert client.post("/logout").headers["HX-Redirect"] == "/login"
    assert client.get("/edits").headers["HX-Redirect"].startswith("/login")


def test_the_cookie_is_secure_over_https(app: FastAPI) -> None:
    token = app.state.service.keys.add("ada", "edit")
    client = TestClient(app, "https://testserver", headers=HTMX)
    assert "Secure" in client.post("/login", data={"key": token}).headers["set-cookie"]


@pytest.mark.parametrize("back", ["https://evil.example", "//evil.example", "/\\evil.example"])
def test_the_door_leads_nowhere_else(app: FastAPI, back: str) -> None:
    token = app.state.service.keys.add("ada", "edit")
    client = TestClient(app, headers=HTMX)
    answer = client.post("/login", data={"key": token, "back": back})
    assert answer.headers["HX-Redirect"] == "/"


@pytest.mark.parametrize("key", ["", "wrong", "sk-seprog-123456-nonsense", "sk-seprog-\u00e9-x"])
def test_a_wrong_key_is_refused(app: FastAPI, key: str) -> None:
    answer = TestClient(app, headers=HTMX).post("/login", data={"key": key})
    assert answer.status_code == 401
    assert "API key" in answer.text and "set-cookie" not in answer.headers


def test_a_revoked_key_is_worth_nothing(app: FastAPI, visit: Callable[..., TestClient]) -> None:
    client = visit("ada")
    [key] = app.state.service.keys.all()
    app.state.service.keys.revoke(key.id)
    assert client.get("/edits").headers["HX-Redirect"] == "/login?back=/edits"


def test_who_may_only_ask_cannot_change(visit: Callable[..., TestClient]) -> None:
    client = visit("eve", "ask")
    assert client.post("/ask", data={"query": "home"}).status_code == 200
    assert "may ask" in notice(client.post("/edits", data={"statement": "Home is a land."}), 403)
    assert "New edit" not in page(client, "/edits")
    assert "may only ask" in page(client, "/import")


def test_changes_need_the_header(open_app: FastAPI) -> None:
    client = TestClient(open_app, "http://localhost")
    for path in ("/edits", "/import", "/ask", "/login", "/logout", "/edits/abcd/forget"):
        answer = client.post(path, data={"statement": "The king is a painter."})
        assert answer.status_code == 403 and "HX-Request" in answer.text
    assert client.get("/v1/edits").json()["data"] == []


def test_headers_of_every_page(console: TestClient) -> None:
    for path in ("/", "/edits", "/edits/none", "/health", "/loading"):
        headers = console.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


def test_pages_load_nothing_from_elsewhere_and_have_no_inline_code(console: TestClient) -> None:
    id_ = write(console, statement="The king is a painter.")
    for path in ("/", "/edits", "/edits/new", f"/edits/{id_}", "/history", "/import", "/health"):
        text = page(console, path)
        assert not re.findall(r"(?:src|href|action)=\"(?:https?:)?//", text)
        assert not re.findall(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", text)
        for file in re.findall(r"\"(/static/[^\"]+)\"", text):
            assert console.get(file).status_code == 200


def test_the_console_is_not_in_the_api_s_document(console: TestClient) -> None:
    paths = console.get("/openapi.json").json()["paths"]
    assert not {"/", "/edits", "/ask", "/login"} & set(paths)


# --- journeys ---------------------------------------------------------------------------------


def test_asking_before_and_after_an_edit(console: TestClient) -> None:
    query = "the capital of home"
    answer = console.post("/ask", data={"query": query})
    assert "bit for bit" in answer.text and "No edit comes near" in answer.text
    id_ = write(console, statement="The capital of home is a land.")
    write(console, statement="The language of home is a king.")
    answer = console.post("/ask", data={"query": query})
    assert "1 edit fired" in answer.text
    assert answer.text.index(f"/edits/{id_}") < answer.text.index("did not fire")
    assert "90.0%" in answer.text and "10.0%" in answer.text


def test_the_slider_says_what_would_change(console: TestClient) -> None:
    query = "say the capital of home"
    write(console, statement="The capital of home is a land.")
    write(console, statement="The language of home is a king.")

    def at(threshold: str) -> str:
        return console.post("/ask/threshold", data={"query": query, "threshold": threshold}).text

    assert "nothing would change" in at("50")
    assert "1 more would fire" in at("5")
    assert "1 would no longer fire" in at("95")
    wrong = console.post("/ask/threshold", data={"query": query, "threshold": "101"})
    assert "threshold" in notice(wrong, 400)


def test_a_preview_stores_nothing(console: TestClient) -> None:
    data = {
        "kind": "question",
        "prompt": "the capital of home is",
        "target": "a land",
        "changes": "say the capital of home\nthe king",
        "keeps": "the language of home\n",
    }
    text = console.post("/edits/preview", data=data).text
    assert text.count('class="fine"') == 3 and text.count('class="amiss"') == 1
    assert "1 of 4 questions are not as wanted" in text
    assert console.get("/v1/edits").json()["data"] == []


def test_a_preview_names_what_would_go_and_asks_the_neighbours(console: TestClient) -> None:
    write(console, prompt="the capital of home is", target="a land")
    write(console, prompt="the language of home is", target="a king")
    data = {"kind": "question", "prompt": "the capital  of Home is", "target": "a king"}
    text = console.post("/edits/preview", data=data).text
    assert "Would go out of force" in text and "the capital of home is a land" in text
    assert "Nearest other edits" in text and "the language of home" in text


@pytest.mark.parametrize(
    "data",
    [{"statement": ""}, {"kind": "question", "prompt": "the king"}, {"statement": "x" * 2001}],
)
def test_what_is_no_edit_is_not_written(console: TestClient, data: dict[str, str]) -> None:
    notice(console.post("/edits", data=data), 400)
    assert console.post("/edits/preview", data=data).status_code == 200
    assert console.get("/v1/edits").json()["data"] == []


def test_add_supersede_forget_undo_and_history(visit: Callable[..., TestClient]) -> None:
    client = visit("ada")
    first = write(
        client, prompt="the capital of home is", target="a land", reason="as the law says"
    )
    second = write(client, prompt="the capital of home is", target="a king", replaces=first)
    late = {"kind": "sentence", "statement": "The capital of home is a painter."}
    answer = client.post("/edits", data={**late, "replaces": first})
    assert "out of force already" in notice(answer, 409)
    text = page(client, f"/edits/{first}")
    assert "out of force" in text and "with" in text and second in text
    rows = client.get("/edits", params={"state": "out"}).text
    assert f"row-{first}" in rows and f"row-{second}" not in rows and "Replaced" in rows

    data = {"reason": "a mistake"}
    row = client.post(f"/edits/{second}/forget", data=data, headers={"HX-Target": f"row-{second}"})
    assert f'id="row-{second}"' in row.text and f'hx-post="/edits/{second}/restore"' in row.text
    assert "Undo" in row.text
    again = client.post(f"/edits/{second}/forget", data=data)
    assert "out of force already" in notice(again, 409)

    back = client.post(f"/edits/{second}/restore", data={"reason": "undone"})
    assert 'id="edit"' in back.text and "In force again" in back.text and "Undo" not in back.text
    text = page(client, f"/edits/{second}")
    for words in ("a mistake", "undone", "Taken back", "Restored", "Written", "ada"):
        assert words in text
    assert "as the law says" in page(client, "/history")
    assert "/history?limit=102" in page(client, "/history?limit=2")


def test_what_was_in_force_at_another_time(console: TestClient, tiny_editor: Editor) -> None:
    first = tiny_editor.edit("The home of Ann is Zed.")
    tiny_editor.edit("The king of Peru is Max.")
    tiny_editor.forget(first.id)
    times = iter((86400.0 * 10, 86400.0 * 20, 86400.0 * 30))
    with tiny_editor.memory._database.writing() as connection:
        for (event,) in connection.execute("SELECT seq FROM events ORDER BY seq").fetchall():
            connection.execute("UPDATE events SET at = ? WHERE seq = ?", (next(times), event))
    seen = {d: page(console, f"/edits?at=1970-01-{d}T12:00") for d in ("05", "15", "25")}
    assert "Nothing was in force then" in seen["05"] and "Back to now" in seen["05"]
    assert "home of Ann" in seen["15"] and "king of Peru" not in seen["15"]
    assert "home of Ann" in seen["25"] and "king of Peru" in seen["25"]
    assert "25 Jan 1970, 12:00 UTC" in seen["25"]
    assert "out of force" in seen["25"]  # since then; it may be restored, not taken back
    assert f"/edits/{first.id}/restore" in seen["25"]
    assert "Back to now" not in page(console, "/edits")
    for wrong in ("soon", "1969-01-01T00:00"):
        assert console.get(f"/edits?at={wrong}").status_code == 400


def test_searching_and_paging(console: TestClient) -> None:
    for i in range(31):
        write(console, statement=f"The number {i} is a painter.")
    first = console.get("/edits").text
    assert first.count('class="row-edit') == 30 and "offset=30" in first
    assert not first.startswith("<!doctype")
    assert console.get("/edits?offset=30").text.count('class="row-edit') == 1
    found = console.get("/edits", params={"q": "number 7"}).text
    assert found.count('class="row-edit') == 1
    assert "Nothing has these words" in console.get("/edits", params={"q": "zzz"}).text


def test_importing_with_a_bad_row(console: TestClient) -> None:
    lines = [
        json.dumps({"statement": "The king is a painter."}),
        "no json",
        json.dumps({"prompt": "the capital of home"}),
        json.dumps(
            {"prompt": "the language of home is", "target": "a\u2028land"}, ensure_ascii=False
        ),
    ]
    data = {"text": "\n".join(lines)}
    checked = console.post("/import", data={**data, "do": "check"}).text
    assert "2 good, 2 bad. Nothing was imported." in checked
    refused = console.post("/import", data={**data, "do": "import"}).text
    assert "Nothing was imported: 2 lines are bad." in refused
    assert '<th scope="row">2</th>' in refused and '<th scope="row">3</th>' in refused
    assert console.get("/v1/edits").json()["data"] == []
    files = {"file": ("edits.jsonl", data["text"].encode())}
    done = console.post("/import", data={"do": "import", "skip": "yes"}, files=files).text
    assert "2 imported, 0 there already, 0 replaced, 2 left out" in done
    assert len(console.get("/v1/edits").json()["data"]) == 2


def test_what_is_exported_can_be_imported_and_says_who_did(console: TestClient) -> None:
    told = json.dumps({"statement": "The king of Peru is Max."})
    console.post("/import", data={"text": told, "do": "import"})
    file = console.get("/export")
    assert "attachment" in file.headers["Content-Disposition"]
    [row] = [json.loads(line) for line in file.text.splitlines() if "Max" in line]
    assert row["author"] == "anonymous"
    again = console.post("/import", data={"text": file.text, "do": "import"}).text
    assert "0 imported" in again


def test_importing_nothing_or_no_text(console: TestClient) -> None:
    notice(console.post("/import", data={"text": " \n"}), 400)
    notice(console.post("/import", files={"file": ("a.jsonl", b"\xff\xfe")}), 400)


def test_health(console: TestClient) -> None:
    assert "Nothing was written yet" in page(console, "/health")
    assert "no edits to ask" in console.post("/health/check").text
    for subject in ("king", "home", "land"):
        write(console, prompt=f"the capital of {subject} is", target="a painter")
    console.post("/ask", data={"query": "the capital of home"})
    console.post("/ask", data={"query": "who"})
    text = page(console, "/health")
    assert "50.0%" in text and "1 of 2 questions" in text and "Median" in text
    assert 'class="line"' in text
    text = console.post("/health/check").text
    assert "3 of 3 fire" in text and "next best edit: 0 fire" in text


def test_what_concerns_all_namespaces_is_for_administrators(
    visit: Callable[..., TestClient],
) -> None:
    assert "Latency" not in page(visit("ada"), "/health")
    assert "Latency" in page(visit("root", "admin", "*"), "/health")


# --- tenants ----------------------------------------------------------------------------------


def test_another_tenant_s_edits_never_show(visit: Callable[..., TestClient]) -> None:
    acme, beta = visit("ada", "edit", "acme"), visit("bob", "edit", "beta")
    secret = write(acme, statement="The capital of home is a secret.")
    for path in ("/edits", "/edits?q=secret&state=all", "/history", "/health", "/"):
        assert "secret" not in beta.get(path).text.replace("q=secret", "").replace("=secret", "")
    for path in (f"/edits/{secret}", f"/edits/{secret}/supersede"):
        assert beta.get(path).status_code == 404
    for action in ("forget", "restore"):
        assert "secret" not in notice(beta.post(f"/edits/{secret}/{action}"), 404)
    stolen = {"statement": "The capital of home is a king.", "replaces": secret}
    notice(beta.post("/edits", data=stolen), 404)
    assert "There is no edit" in beta.post("/edits/preview", data=stolen).text
    asked = beta.post("/ask", data={"query": "the capital of home"}).text
    assert "No edit comes near" in asked
    assert "secret" in acme.get("/edits").text


def test_switching_namespaces(visit: Callable[..., TestClient]) -> None:
    client = visit("ada", "edit", "acme", "beta x\u00e9".replace(" ", "-"))
    write(client, statement="The capital of home is a land.")
    assert "acme" in page(client, "/edits") and "land" in page(client, "/edits")
    text = page(client, "/", params={"namespace": "beta-x\u00e9"})
    assert 'hx-headers=\'{"X-Console-Namespace": "beta-x%C3%A9"}\'' in text
    assert "land" not in page(client, "/edits")  # the cookie remembers
    kept = client.get("/edits", headers={"X-Console-Namespace": "acme"})
    assert "land" in kept.text  # an older page stays with its own
    assert client.get("/edits?namespace=gamma").status_code == 403


# --- hostile texts and broken things ----------------------------------------------------------


def test_texts_are_escaped_everywhere(console: TestClient) -> None:
    evil = "<script>alert(1)</script> \"'><img src=x onerror=alert(2)>"
    id_ = write(console, prompt=f"{evil} of home", target=f"{evil} land", reason=evil)
    write(console, prompt=f"{evil} of home", target=f"{evil} king", reason=evil, replaces=id_)
    texts = [console.get(f"/edits?state=all&q={evil[8:13]}").text]
    texts += [page(console, p) for p in (f"/edits/{id_}", "/edits?state=all", "/history", "/")]
    texts += [page(console, "/", params={"q": evil}), page(console, f"/edits/{id_}/supersede")]
    texts += [console.post("/ask", data={"query": evil}).text]
    texts += [console.post("/edits/preview", data={"statement": evil, "changes": evil}).text]
    texts += [console.post("/import", data={"text": evil}).text]
    texts += [page(console, "/", params={"namespace": evil})]
    for text in texts:
        assert "<script>alert" not in text and "<img" not in text
        assert "alert" in text


def test_errors_are_pages(console: TestClient) -> None:
    console.headers.pop("HX-Request")
    answer = console.get("/edits/0123456789ab")
    assert answer.status_code == 404 and "Not found" in answer.text and "<nav" in answer.text
    assert console.get("/edits?offset=-1").status_code == 400


def test_an_empty_question_is_refused(console: TestClient) -> None:
    assert "The query is empty" in notice(console.post("/ask", data={"query": "  "}), 400)


def test_while_the_model_is_loading(open_app: FastAPI) -> None:
    open_app.state.service._batcher.close()
    open_app.state.service._batcher = None
    # without the start, which would load it
    client = TestClient(open_app, "http://localhost", headers=HTMX)
    assert "being loaded" in page(client, "/")
    assert page(client, "/edits") and page(client, "/health")
    assert "being loaded" in client.get("/loading").text
    assert "not loaded" in notice(client.post("/ask", data={"query": "home"}), 503)


# --- figures ----------------------------------------------------------------------------------


def test_shares_are_never_rounded_to_all_or_nothing() -> None:
    assert [percent(p) for p in (0.0, 1.0, 0.0001, 0.9999, 0.709, 0.999)] == [
        "0%",
        "100%",
        "< 0.1%",
        "> 99.9%",
        "70.9%",
        "99.9%",
    ]


def test_times_that_no_calendar_has() -> None:
    assert ago(1e18) == ago(-1e18) == "1 Jan 1970"


def test_charts() -> None:
    assert steps([], 1.0) is None
    line = steps([(0.0, 1), (5.0, 2)], 10.0)
    assert line and line.path == "M0.0 82.0H300.0V4.0H600.0" and line.top == 2
    assert [nice(n) for n in (0, 1, 3, 12, 500, 501)] == [1, 1, 5, 20, 500, 1000]
    assert histogram([0.0, 0.5, 1.0], 2) == [1, 2]
    counted = {0.1: 5.0, 1.0: 10.0, float("inf"): 10.0}
    assert quantile(counted, 0.5) == pytest.approx(0.1)
    assert quantile(counted, 0.75) == pytest.approx(0.55)
    assert quantile({}, 0.5) is None
