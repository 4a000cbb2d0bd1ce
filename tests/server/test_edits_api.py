"""Edits over HTTP: in force when acknowledged, and tried before they are stored."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.server.conftest import CAPITAL, OTHER, QUESTION, text, write

OFF = {"seprog": {"enabled": False}}


def test_an_edit_is_in_force_when_it_is_acknowledged_and_gone_when_taken_back(
    client: TestClient,
) -> None:
    before = text(client, QUESTION)
    edit = write(client, CAPITAL)
    assert text(client, QUESTION) != before
    gone = client.delete(f"/v1/edits/{edit['id']}", params={"reason": "it is Canberra"})
    assert gone.json()["active"] is False
    assert text(client, QUESTION) == before
    back = client.post(f"/v1/edits/{edit['id']}/restore")
    assert back.json()["active"] is True
    assert text(client, QUESTION) != before
    events = client.get(f"/v1/edits/{edit['id']}/history").json()["data"]
    assert [e["action"] for e in events] == ["added", "forgotten", "restored"]
    assert events[1]["reason"] == "it is Canberra"
    assert client.get("/v1/history").json()["data"] == events


def test_what_is_restored_takes_the_place_of_its_rival(client: TestClient) -> None:
    old = write(client, CAPITAL)
    client.delete(f"/v1/edits/{old['id']}")
    new = write(client, "The capital of Australia is Perth.")
    assert client.post(f"/v1/edits/{old['id']}/restore").json()["active"] is True
    assert client.get(f"/v1/edits/{new['id']}").json()["active"] is False


def test_the_three_forms_and_what_is_none(client: TestClient) -> None:
    for body in (
        {"statement": CAPITAL},
        {"prompt": "The home of Ann is", "target": "Zed", "reason": "she moved"},
        {"subject": "Zed", "relation": "language", "object": "Zedish"},
    ):
        edit = client.post("/v1/edits", json=body).json()
        assert {k: edit[k] for k in body} == body
        assert client.get(f"/v1/edits/{edit['id']}").json() == edit
    for bad in ({}, {"prompt": "x"}, {"statement": "x", "target": "y"}, {"statement": " "}):
        response = client.post("/v1/edits", json=bad)
        assert response.status_code == 400, bad
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert client.post("/v1/edits", json={"statment": "x"}).status_code == 400


def test_a_newer_edit_supersedes_by_itself_or_by_name(client: TestClient) -> None:
    first = write(client, CAPITAL)
    second = write(client, "The capital of Australia is Perth.")
    assert second["supersedes"] == first["id"]
    assert client.get(f"/v1/edits/{first['id']}").json()["active"] is False
    third = client.post(
        f"/v1/edits/{second['id']}/supersede", json={"statement": "Nobody knows it."}
    ).json()
    assert third["supersedes"] == second["id"]
    [active] = client.get("/v1/edits", params={"active": True}).json()["data"]
    assert active["id"] == third["id"]


def test_a_batch_is_written_as_a_whole_or_not_at_all(client: TestClient) -> None:
    good = [{"statement": f"The king of x{i} is Bob."} for i in range(5)]
    bad = client.post("/v1/edits/batch", json={"edits": [*good, {"prompt": "x"}]})
    assert bad.status_code == 400
    assert client.get("/v1/edits").json()["data"] == []
    made = client.post("/v1/edits/batch", json={"edits": good})
    assert [e["statement"] for e in made.json()["data"]] == [g["statement"] for g in good]


def test_lines_and_batches_take_the_place_of_what_answers_the_same(client: TestClient) -> None:
    write(client, CAPITAL)
    told = [{"statement": f"The capital of Australia is {town}."} for town in ("Perth", "Hobart")]
    [perth, hobart] = client.post("/v1/edits/batch", json={"edits": told}).json()["data"]
    assert (perth["active"], hobart["active"]) == (False, True)
    assert hobart["supersedes"] == perth["id"]
    lines = "\n".join(json.dumps(row) for row in [*told, {"statement": CAPITAL}])
    report = client.post("/v1/edits/import", content=lines).json()
    assert (report["added"], report["duplicates"], report["superseded"]) == (3, 0, 3)
    [active] = client.get("/v1/edits", params={"active": True}).json()["data"]
    assert active["statement"] == CAPITAL


def test_one_bad_line_is_one_line(client: TestClient) -> None:
    bad = client.post("/v1/edits/import", content="nonsense").json()
    assert bad["error"]["message"].startswith("1 line is bad; line 1: ")


def test_pages_search_and_the_past(client: TestClient) -> None:
    made = [write(client, f"The king of x{i} is {'Bob' if i % 2 else 'Al'}.") for i in range(7)]
    ids = [e["id"] for e in made]
    first = client.get("/v1/edits", params={"limit": 4}).json()
    rest = client.get("/v1/edits", params={"limit": 4, "offset": 4}).json()
    assert [e["id"] for e in first["data"] + rest["data"]] == ids
    assert (first["has_more"], rest["has_more"]) == (True, False)
    newest = client.get("/v1/edits", params={"newest_first": True, "limit": 2}).json()["data"]
    assert [e["id"] for e in newest] == ids[::-1][:2]
    found: list[str] = []
    while True:
        page = client.get("/v1/edits", params={"q": "Bob", "limit": 2, "offset": len(found)})
        found += [e["id"] for e in page.json()["data"]]
        if not page.json()["has_more"]:
            break
    assert sorted(found) == sorted(ids[1::2])
    then = time.time()
    client.delete(f"/v1/edits/{ids[0]}")
    now = client.get("/v1/edits", params={"active": True}).json()["data"]
    past = client.get("/v1/edits", params={"as_of": then}).json()["data"]
    assert len(now) == 6
    assert [e["id"] for e in past] == ids
    assert client.get("/v1/edits", params={"as_of": then, "q": "x"}).status_code == 400


def test_etags_guard_against_changes_by_others(client: TestClient) -> None:
    response = client.post("/v1/edits", json={"statement": CAPITAL})
    url, tag = response.headers["Location"], response.headers["ETag"]
    assert client.get(url).headers["ETag"] == tag
    assert client.get(url, headers={"If-None-Match": tag}).status_code == 304
    assert client.delete(url, headers={"If-Match": '"other"'}).status_code == 412
    gone = client.delete(url, headers={"If-Match": tag})
    assert gone.status_code == 200
    assert gone.headers["ETag"] != tag
    assert client.post(f"{url}/restore", headers={"If-Match": tag}).status_code == 412
    assert client.delete(url).status_code == 409


def test_a_request_that_comes_again_writes_nothing_anew(client: TestClient) -> None:
    headers = {"Idempotency-Key": "one"}
    first = client.post("/v1/edits", json={"statement": CAPITAL}, headers=headers).json()
    client.delete(f"/v1/edits/{first['id']}")
    again = client.post("/v1/edits", json={"statement": CAPITAL}, headers=headers)
    assert again.status_code == 201
    assert again.json()["id"] == first["id"]
    assert again.json()["active"] is False
    assert len(client.get("/v1/edits").json()["data"]) == 1
    other = client.post("/v1/edits", json={"statement": "Something else."}, headers=headers)
    assert other.status_code == 422


def test_only_what_is_in_force_is_superseded_and_only_once(client: TestClient) -> None:
    made = client.post("/v1/edits", json={"statement": CAPITAL})
    url, tag = f"{made.headers['Location']}/supersede", made.headers["ETag"]
    body = {"statement": "Nobody knows it."}
    changed = client.post(url, json=body, headers={"If-Match": '"other"'})
    assert changed.status_code == 412
    headers = {"If-Match": tag, "Idempotency-Key": "one"}
    first = client.post(url, json=body, headers=headers)
    again = client.post(url, json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    late = client.post(url, json={"statement": "Somebody knows it."})
    assert late.status_code == 409
    assert late.json()["error"]["code"] == "edit_state"
    assert len(client.get("/v1/edits").json()["data"]) == 2


def test_a_preview_says_what_would_come_and_stores_nothing(client: TestClient) -> None:
    write(client, CAPITAL)
    told = "The capital of Australia is Perth."
    body = {"edits": [{"statement": told}], "queries": [QUESTION, OTHER], "max_tokens": 12}
    before = client.get("/v1/history").json()
    first, second = client.post("/v1/edits/preview", json=body).json()["data"]
    assert client.get("/v1/history").json() == before
    assert first["before"] == text(client, QUESTION).strip()
    assert [f["statement"] for f in first["seprog"]["fired"]] == [told]
    assert second["changed"] is False
    assert second["seprog"]["fired"] == []
    write(client, told)
    assert first["after"] == text(client, QUESTION).strip()


def test_scope_says_what_would_fire(client: TestClient) -> None:
    edit = write(client, CAPITAL)
    first, second = client.post("/v1/scope", json={"queries": [QUESTION, OTHER]}).json()["data"]
    assert [f["id"] for f in first["seprog"]["fired"]] == [edit["id"]]
    assert second["seprog"]["fired"] == []
    assert [f["id"] for f in second["seprog"]["near"]] == [edit["id"]]


def test_what_is_exported_can_be_imported(client: TestClient) -> None:
    for i in range(3):
        write(client, f"The king of x{i} is Bob.")
    lines = client.get("/v1/edits/export").text
    assert len(lines.splitlines()) == 3
    into = {"X-Seprog-Namespace": "copy"}
    moved = "\n".join(
        json.dumps({"statement": json.loads(line)["statement"]}) for line in lines.splitlines()
    )
    report = client.post("/v1/edits/import", content=moved, headers=into).json()
    assert report == {"added": 3, "duplicates": 0, "superseded": 0, "errors": []}
    copied = client.get("/v1/edits", headers=into).json()["data"]
    assert [e["author"] for e in copied] == ["anonymous"] * 3


def test_an_export_can_be_imported_whatever_letters_it_has(client: TestClient) -> None:
    write(client, "The king of Peru is\u2028Bob.")
    lines = client.get("/v1/edits/export").content
    report = client.post("/v1/edits/import", content=lines).json()
    assert (report["errors"], report["duplicates"]) == ([], 1)


def test_an_import_names_its_bad_lines(client: TestClient) -> None:
    lines = '{"statement": "A is B."}\nnonsense\n{"statment": "C"}\n'
    bad = client.post("/v1/edits/import", content=lines)
    assert bad.status_code == 422
    assert [e["line"] for e in bad.json()["errors"]] == [2, 3]
    assert client.get("/v1/edits").json()["data"] == []
    good = client.post("/v1/edits/import", content=lines, params={"skip_bad": True})
    assert (good.status_code, good.json()["added"]) == (200, 1)
    assert client.post("/v1/edits/import", content=b"\xff").status_code == 400


def test_what_the_model_cannot_store_is_a_bad_line(client: TestClient) -> None:
    long = json.dumps({"statement": "The king of x is " + "Bob " * 400})
    bad = client.post("/v1/edits/import", content=f'{{"statement": "A is B."}}\n{long}\n')
    assert bad.status_code == 422 and client.get("/v1/edits").json()["data"] == []
    [error] = bad.json()["errors"]
    assert error["line"] == 2 and "tokens that the model can read" in error["fault"]


def test_on_a_full_disk_nothing_is_lost_and_questions_are_answered(client: TestClient) -> None:
    app: Any = client.app
    edit = write(client, CAPITAL)
    connection = app.state.service.memory._database.connection
    used = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {used}")
    statuses = []
    for i in range(200):
        body = {"statement": f"The king of place {i} is {'Bob ' * 50}."}
        refused = client.post("/v1/edits", json=body)
        statuses.append(refused.status_code)
        if refused.status_code != 201:
            break
    assert statuses[-1] == 507, statuses
    assert refused.json()["error"]["code"] == "disk_full"
    listed = client.get("/v1/edits", params={"limit": 1000}).json()["data"]
    assert len(listed) == len(statuses)  # the first one, and all that were acknowledged
    assert listed[0] == edit
    assert text(client, QUESTION) != text(client, QUESTION, **OFF)
    connection.execute("PRAGMA max_page_count = 1000000")
    assert write(client, "The king of Peru is Al.")


def test_the_prefix_of_a_new_edit_is_made_before_it_is_asked_for(client: TestClient) -> None:
    app: Any = client.app
    editor = app.state.service.editor
    write(client, CAPITAL)
    for _ in range(200):
        if editor.memory.prefix_bytes(editor.generator.fingerprint):
            return
        time.sleep(0.02)
    raise AssertionError("no prefix was made")


@pytest.mark.parametrize("method", ["get", "delete"])
def test_an_edit_that_is_not_there(client: TestClient, method: str) -> None:
    edit = write(client, CAPITAL)
    for id_ in ("0000", edit["id"][:6]):  # abbreviations are for people
        response = getattr(client, method)(f"/v1/edits/{id_}")
        assert response.status_code == 404
        assert edit["id"] not in response.text


def test_a_read_only_memory_still_answers(serve: Any, make_editor: Any) -> None:
    make_editor().edit(CAPITAL)
    client = serve(make_editor(read_only=True))
    bare = text(client, QUESTION, **OFF)
    assert text(client, QUESTION) != bare
    refused = client.post("/v1/edits", json={"statement": "The king of Peru is Bob."})
    assert refused.status_code == 503
    assert "cannot be written" in refused.json()["error"]["message"]
    assert text(client, OTHER) == text(client, OTHER, **OFF)
