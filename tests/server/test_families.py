"""Servers of models that are no decoders."""

from __future__ import annotations

from collections.abc import Callable

from seprog.editor import Editor
from seprog.lm import EncoderModel, Seq2SeqLM
from tests.conftest import make_tokenizer
from tests.lm.families import build_encoder, build_seq2seq
from tests.server.conftest import CAPITAL, OTHER, QUESTION, Serve, text, write

Make = Callable[..., Editor]


def test_a_classifier_is_served(serve: Serve, make_editor: Make) -> None:
    lm = EncoderModel(build_encoder("bert", "sequence"), make_tokenizer(bos=True))
    editor = make_editor(lm)
    client = serve(editor)
    body = {"model": "atlas", "input": [QUESTION, OTHER]}
    bare = client.post("/v1/classifications", json=body).json()["data"]
    edit = write(client, CAPITAL)
    answer = client.post("/v1/classifications", json=body)
    first, second = answer.json()["data"]
    assert answer.headers["X-Seprog-Fired"] == edit["id"]
    assert first["probs"] != bare[0]["probs"]
    assert second["probs"] == bare[1]["probs"]
    [answered] = editor.generate([QUESTION])
    assert first["label"] == answered.text == max(first["probs"], key=first["probs"].get)
    assert [f["id"] for f in first["seprog"]["fired"]] == [edit["id"]]
    off = client.post("/v1/classifications", json=body | {"seprog": {"enabled": False}})
    assert [d["probs"] for d in off.json()["data"]] == [d["probs"] for d in bare]
    refused = client.post("/v1/completions", json={"model": "atlas", "prompt": QUESTION})
    assert refused.status_code == 400
    assert "/v1/classifications" in refused.json()["error"]["message"]


def test_a_sequence_to_sequence_model_is_served(serve: Serve, make_editor: Make) -> None:
    lm = Seq2SeqLM(build_seq2seq("t5"), make_tokenizer(bos=True))
    editor = make_editor(lm)
    client = serve(editor)
    bare = [text(client, prompt) for prompt in (QUESTION, OTHER)]
    write(client, CAPITAL)
    said = [text(client, prompt) for prompt in (QUESTION, OTHER)]
    assert said[0] != bare[0]
    assert said[1] == bare[1]
    assert [s.strip() for s in said] == [a.text for a in editor.generate([QUESTION, OTHER], 12)]
