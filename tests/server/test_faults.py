"""What is said of requests that are none: what came, what was expected, what to do."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.server.conftest import QUESTION

PART = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
TURNS = [{"role": "user", "content": [PART]}]


@pytest.mark.parametrize(
    ("url", "fields", "param", "came", "expected"),
    [
        ("completions", {"prompt": [5, 6]}, "prompt.0", "is 5", "a text"),
        ("completions", {"prompt": [[5]]}, "prompt.0", "is [5]", "a text"),
        ("completions", {"prompt": 5}, "prompt", "is 5", "a text or a list"),
        ("completions", {"prompt": None}, "prompt", "is missing", "it"),
        ("completions", {"prompt": "x" * 100_001}, "prompt", "...", "at most 100000 characters"),
        ("completions", {"temperature": 9}, "temperature", "is 9", "2 or less"),
        ("completions", {"n": "many"}, "n", "is 'many'", "a whole number"),
        ("completions", {"suffix": "."}, "suffix", "is '.'", "nothing: it is not supported"),
        ("completions", {"seprog": {"enable": 0}}, "seprog.enable", "is unknown", "known"),
        ("completions", {"seprog": 3}, "seprog", "is 3", "an object"),
        (
            "chat/completions",
            {"messages": TURNS},
            "messages.0.content.0.type",
            "is 'image_url'",
            "'text'",
        ),
        ("chat/completions", {"messages": []}, "messages", "is []", "at least 1 in it"),
        ("chat/completions", {"messages": [{}]}, "messages.0.role", "is missing", "it"),
        ("chat/completions", {"tools": [{}]}, "tools", "is [{}]", "empty one: it is not supp"),
        ("chat/completions", {"tool_choice": "auto"}, "tool_choice", "is 'auto'", "'none'"),
    ],
)
def test_a_fault_is_told_by_its_field(
    client: TestClient, url: str, fields: dict[str, Any], param: str, came: str, expected: str
) -> None:
    body = {"model": "atlas", "prompt": QUESTION, "messages": [{"role": "user", "content": "x"}]}
    refused = client.post(f"/v1/{url}", json=body | fields)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["param"], error["code"]) == (param, "invalid_value")
    first, rest = error["message"].split(". Expected ")
    assert first.startswith(f"The field {param} ") and came in first and len(first) < 200
    assert expected in rest.partition(". ")[0] and ("/docs" in rest or "Leave" in rest)


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"{not json", "application/json", "The body is no JSON ("),
        (b'{"model": "\xff"}', "application/json", "The body cannot be read. Expected JSON"),
        (b"[]", "application/json", "The body is []. Expected an object. Correct it"),
        (b"{}", "text/plain", "Send it with the header Content-Type: application/json."),
        (b"", "application/json", "The body is missing. Expected"),
    ],
)
def test_a_body_that_is_none(client: TestClient, content: bytes, kind: str, words: str) -> None:
    sent = {"Content-Type": kind}
    refused = client.post("/v1/completions", content=content, headers=sent)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (400, None, "invalid_value")
    assert words in error["message"] and ". Expected " in error["message"]


def test_no_unicode_is_shown_as_it_came(client: TestClient) -> None:
    sent, body = {"Content-Type": "application/json"}, b'{"model": "a", "prompt": ["\\ud800"]}'
    refused = client.post("/v1/completions", content=body, headers=sent)
    assert refused.status_code == 400 and "prompt.0 is" in refused.json()["error"]["message"]


def test_faults_beside_the_body(client: TestClient) -> None:
    far = client.get("/v1/edits", params={"limit": 0}).json()["error"]
    assert far["message"].startswith("The query parameter limit is '0'. Expected 1 or more. ")
    name = client.get("/v1/edits", headers={"X-Seprog-Namespace": "a b"}).json()["error"]
    assert name["message"].startswith("The header X-Seprog-Namespace is 'a b'. Expected a text")
    for method, url, code in (("get", "/v1/x", "unknown_url"), ("put", "/v1/edits", "method_not")):
        error = client.request(method, url).json()["error"]
        assert error["code"].startswith(code) and url in error["message"]
        assert ". Expected " in error["message"]
