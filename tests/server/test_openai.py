"""OpenAI's API, asked by OpenAI's own client."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import openai
import pytest
from fastapi.testclient import TestClient
from openai import OpenAI

from seprog.editor import Editor
from seprog.server.app import create_app
from seprog.server.settings import Settings
from tests.server.conftest import CAPITAL, OTHER, QUESTION, Serve, listening, text, write

OFF = {"seprog": {"enabled": False}}
TURN = [{"role": "user", "content": QUESTION}]
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def editor(make_editor: Callable[..., Editor]) -> Editor:
    editor = make_editor()
    editor.edit(CAPITAL)
    return editor


@pytest.fixture
def ai(editor: Editor) -> Iterator[OpenAI]:
    app = create_app(Settings.load(auth=False, max_tokens=64), editor)
    with listening(app) as address:
        yield OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def test_the_model_is_listed(ai: OpenAI) -> None:
    [model] = ai.models.list().data
    assert model.id == "atlas"
    assert ai.models.retrieve("atlas").id == "atlas"


def test_answers_are_the_editors(ai: OpenAI, editor: Editor) -> None:
    for query in (QUESTION, OTHER):
        said = ai.completions.create(model="atlas", prompt=query, max_tokens=16).choices[0].text
        assert said.strip() == editor.ask(query, max_new_tokens=16).text
        bare = ai.completions.create(model="atlas", prompt=query, max_tokens=16, extra_body=OFF)
        assert (
            bare.choices[0].text.strip() == editor.ask(query, max_new_tokens=16, edits=False).text
        )


def test_an_answer_names_the_edits_that_fired(ai: OpenAI, editor: Editor) -> None:
    [edit] = editor.memory.list()
    raw = ai.chat.completions.with_raw_response.create(model="atlas", messages=TURN)  # type: ignore[call-overload]
    assert raw.headers["X-Seprog-Fired"] == edit.id
    threshold = editor.calibration().threshold
    assert float(raw.headers["X-Seprog-Threshold"]) == pytest.approx(threshold, abs=1e-6)
    extension = raw.parse().model_extra["seprog"]
    assert [f["id"] for f in extension["fired"]] == [edit.id]
    assert extension["fired"][0]["probability"] > extension["threshold"]
    said = ai.completions.create(model="atlas", prompt=OTHER)
    assert said.model_extra is not None
    assert said.model_extra["seprog"]["fired"] == []


def test_several_prompts_and_answers_come_in_order(ai: OpenAI) -> None:
    sampled = {"temperature": 1.5, "seed": 7, "max_tokens": 8, "n": 3}
    both = ai.completions.create(model="atlas", prompt=[QUESTION, OTHER], **sampled)  # type: ignore[call-overload]
    alone = [
        c.text
        for prompt in (QUESTION, OTHER)
        for c in ai.completions.create(model="atlas", prompt=prompt, **sampled).choices  # type: ignore[call-overload]
    ]
    assert [c.text for c in both.choices] == alone
    assert [c.index for c in both.choices] == list(range(6))
    assert len({c.text for c in both.choices[:3]}) > 1
    assert [f["fired"] != [] for f in both.model_extra["seprog"]["prompts"]] == [True, False]


def test_a_stream_is_the_answer_in_pieces(ai: OpenAI) -> None:
    whole = ai.chat.completions.create(model="atlas", messages=TURN, max_tokens=20)  # type: ignore[call-overload]
    stream = ai.chat.completions.create(  # type: ignore[call-overload]
        model="atlas",
        messages=TURN,
        max_tokens=20,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len([p for p in pieces if p]) > 3
    finish = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert finish[-1] == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage
    assert chunks[0].model_extra["seprog"] == whole.model_extra["seprog"]


def test_completions_stream_too(ai: OpenAI) -> None:
    whole = ai.completions.create(model="atlas", prompt=[QUESTION, OTHER], max_tokens=9)
    found = ["", ""]
    for chunk in ai.completions.create(
        model="atlas", prompt=[QUESTION, OTHER], max_tokens=9, stream=True
    ):
        for choice in chunk.choices:
            found[choice.index] += choice.text
    assert found == [c.text for c in whole.choices]


def test_stop_texts_end_an_answer(ai: OpenAI) -> None:
    whole = ai.completions.create(model="atlas", prompt=QUESTION, max_tokens=30).choices[0].text
    stop = whole[5:7]
    said = ai.completions.create(model="atlas", prompt=QUESTION, max_tokens=30, stop=[stop, "€€"])
    assert said.choices[0].text == whole[: whole.index(stop)]
    assert said.choices[0].finish_reason == "stop"


def test_logprobs(ai: OpenAI) -> None:
    said = ai.chat.completions.create(  # type: ignore[call-overload]
        model="atlas", messages=TURN, max_tokens=5, logprobs=True, top_logprobs=2
    )
    content = said.choices[0].logprobs.content
    assert len(content) == said.usage.completion_tokens
    assert all(t.logprob == pytest.approx(t.top_logprobs[0].logprob) for t in content)
    old = ai.completions.create(model="atlas", prompt=QUESTION, max_tokens=5, logprobs=2)
    found = old.choices[0].logprobs
    assert found is not None
    assert found.token_logprobs == pytest.approx([t.logprob for t in content])


def test_usage_counts_tokens(ai: OpenAI, editor: Editor) -> None:
    said = ai.completions.create(model="atlas", prompt=OTHER, max_tokens=7, n=2)
    [ids] = editor.lm.tokens.encode([OTHER])
    assert said.usage is not None
    assert said.usage.prompt_tokens == len(ids)
    assert said.usage.completion_tokens <= 14
    assert said.usage.total_tokens == said.usage.prompt_tokens + said.usage.completion_tokens


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"model": "gpt-9"}, openai.NotFoundError, "gpt-9"),
        ({"prompt": ""}, openai.BadRequestError, "empty"),
        ({"max_tokens": 1000}, openai.BadRequestError, "at most 64"),
        ({"prompt": "word " * 200}, openai.BadRequestError, "context length"),
        ({"temperature": 9}, openai.BadRequestError, "temperature"),
        ({"logprobs": 2, "stream": True}, openai.BadRequestError, "stream"),
        ({"echo": True}, openai.BadRequestError, "echo"),
        ({"suffix": "."}, openai.BadRequestError, "suffix"),
        ({"best_of": 2}, openai.BadRequestError, "best_of"),
        ({"logit_bias": {"5": 100}}, openai.BadRequestError, "logit_bias"),
        ({"stop": ["€"] * 9}, openai.BadRequestError, "at most 8"),
        ({"extra_body": {"seprog": {"threshold": 2}}}, openai.BadRequestError, "threshold"),
        ({"extra_body": {"seprog": {"enable": False}}}, openai.BadRequestError, "seprog.enable"),
    ],
)
def test_errors_are_the_clients_own(
    ai: OpenAI, fields: dict[str, object], kind: type[openai.APIStatusError], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        ai.completions.create(**{"model": "atlas", "prompt": QUESTION, **fields})  # type: ignore[call-overload]
    assert isinstance(caught.value.body, dict)
    assert set(caught.value.body) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": {"name": "look"}}]},
        {"tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "look"}}},
        {"function_call": "auto"},
        {"functions": [{"name": "look"}]},
        {"response_format": {"type": "json_object"}},
        {"logit_bias": {"5": 100}},
    ],
)
def test_what_is_not_supported_is_refused(client: TestClient, fields: dict[str, object]) -> None:
    body = {"model": "atlas", "messages": TURN, **fields}
    refused = client.post("/v1/chat/completions", json=body)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"].split(".")[0] in fields
    assert refused.json()["error"]["type"] == "invalid_request_error"


def test_what_asks_for_nothing_is_taken(client: TestClient) -> None:
    body = {"model": "atlas", "messages": TURN}
    empty = {"tools": [], "functions": [], "logit_bias": {}}
    none = {"tool_choice": "none", "function_call": "none"}
    plain = client.post("/v1/chat/completions", json=body)
    said = client.post("/v1/chat/completions", json={**body, **empty, **none})
    assert (plain.status_code, said.status_code) == (200, 200)
    assert said.json()["choices"] == plain.json()["choices"]
    assert text(client, QUESTION, logit_bias={}) == text(client, QUESTION)


def test_null_stands_for_what_is_not_given(client: TestClient) -> None:
    spoken = ("n", "temperature", "top_p", "stream", "max_tokens", "stop", "tools", "seprog")
    body = {"model": "atlas", "messages": TURN, "response_format": {"type": "text"}}
    nulls = {**dict.fromkeys(spoken), "presence_penalty": None, "stream_options": None}
    plain = client.post("/v1/chat/completions", json=body)
    said = client.post("/v1/chat/completions", json={**body, **nulls})
    assert (plain.status_code, said.status_code) == (200, 200)
    assert said.json()["choices"] == plain.json()["choices"]
    assert text(client, QUESTION, echo=None, best_of=None, logprobs=None) == text(client, QUESTION)
    assert client.post("/v1/completions", json={"model": None}).status_code == 400


def test_a_chat_model_is_asked_in_its_template(make_editor: Callable[..., Editor]) -> None:
    editor = make_editor()
    editor.edit(CAPITAL)
    editor.lm.tokenizer.chat_template = TEMPLATE
    turns = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
    ]
    app = create_app(Settings.load(auth=False), editor)
    with listening(app) as address:
        ai = OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        said = ai.chat.completions.create(model="atlas", messages=turns, max_tokens=12)  # type: ignore[call-overload]
        plain = [turns[0], {"role": "user", "content": QUESTION}]
        assert said.choices[0].message.content.strip() == editor.chat(plain, 12).text
        with pytest.raises(openai.BadRequestError, match="last turn"):
            ai.chat.completions.create(model="atlas", messages=turns[:1])  # type: ignore[call-overload]


def test_a_model_without_a_template_takes_one_turn_only(client: TestClient) -> None:
    turns = [{"role": "user", "content": t} for t in (QUESTION, OTHER)]
    response = client.post("/v1/chat/completions", json={"model": "atlas", "messages": turns})
    assert response.status_code == 400
    message = response.json()["error"]["message"]
    assert "chat template" in message and "user, user" in message and "/v1/completions" in message
    system = {"role": "system", "content": "Be short."}
    refused = client.post("/v1/chat/completions", json={"model": "atlas", "messages": [system]})
    assert refused.status_code == 400


def test_a_threshold_of_one_lets_nothing_fire(client: TestClient) -> None:
    write(client, CAPITAL)
    bare = text(client, QUESTION, seprog={"enabled": False})
    assert text(client, QUESTION) != bare
    assert text(client, QUESTION, seprog={"threshold": 1.0}) == bare


def test_a_model_that_writes_does_not_classify(client: TestClient) -> None:
    response = client.post("/v1/classifications", json={"model": "atlas", "input": "x"})
    assert response.status_code == 400
    assert "classif" in response.json()["error"]["message"]


def test_too_large_a_body_is_refused(serve: Serve) -> None:
    client = serve(max_body=1000)
    response = client.post("/v1/completions", json={"model": "atlas", "prompt": "x" * 2000})
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"
    assert response.headers["X-Request-Id"]
