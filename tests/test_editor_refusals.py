"""What an editor refuses: three beats, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.decoders import ByteLevel
from transformers import PreTrainedTokenizerFast

from seprog.chat import LONGEST_QUERY
from seprog.editor import Editor
from seprog.errors import InputError
from seprog.lm import CausalLM
from seprog.types import GateDecision
from tests.conftest import SPECIAL, make_model
from tests.test_editor import CAPITAL, HOME, IN_SCOPE, Make, fill


def three_beats(error: InputError) -> bool:
    return bool(error.came and error.expected and error.advice)


@pytest.mark.parametrize("query", ["", "  \n", "x" * (LONGEST_QUERY + 1), "half \ud83d of it"])
def test_unusable_queries_are_refused(tiny_editor: Editor, query: str) -> None:
    fill(tiny_editor)
    calls: list[Callable[[], object]] = [
        lambda: tiny_editor.ask(query),
        lambda: tiny_editor.ask(query, edits=False),
        lambda: tiny_editor.explain(query),
        lambda: tiny_editor.stream(query),
        lambda: tiny_editor.stream(GateDecision(query)),
        lambda: tiny_editor.generate(["fine", query]),
    ]
    for call in calls:
        with pytest.raises(InputError) as raised:
            call()
        assert three_beats(raised.value)


def test_a_single_text_is_no_list_of_texts(tiny_editor: Editor) -> None:
    fill(tiny_editor)
    for call in (tiny_editor.generate, tiny_editor.explain_many, tiny_editor.calibrate):
        with pytest.raises(InputError, match="a list of texts") as raised:
            call("Who wrote Hamlet?")  # type: ignore[operator]
        assert three_beats(raised.value)


def test_an_edit_that_leaves_no_room_for_a_question_is_refused(tiny_editor: Editor) -> None:
    edits = fill(tiny_editor)
    for text in ("The home of Eve is " + "Ur and " * 50, "x" * 300):
        with pytest.raises(InputError, match="512 tokens") as raised:
            tiny_editor.edit(text)
        assert three_beats(raised.value)
    assert tiny_editor.memory.list() == edits
    assert tiny_editor.edit("x" * 200).active


def test_ids_to_replace_come_in_a_list(tiny_editor: Editor) -> None:
    [old, *_] = fill(tiny_editor)
    with pytest.raises(InputError, match="list of ids"):
        tiny_editor.edit("Nobody knows.", supersedes=old.id)


def test_a_query_that_does_not_fit_the_model_is_refused(tiny_editor: Editor) -> None:
    with pytest.raises(InputError, match="512"):
        tiny_editor.ask("word " * 200)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"statement": ""},
        {"statement": " \t"},
        {"statement": "x" * 2001},
        {"statement": "half \ud83d of it"},
        {"statement": "nul \x00"},
        {"statement": CAPITAL, "target": "Sydney"},
        {"prompt": "The capital of Australia is"},
        {"prompt": "The capital of Australia is", "target": " "},
        {"subject": "Australia", "object": "Sydney"},
        {"statement": CAPITAL, "namespace": ""},
        {"statement": CAPITAL, "author": "x" * 2001},
    ],
)
def test_unusable_edits_are_refused_and_not_stored(
    tiny_editor: Editor, fields: dict[str, str]
) -> None:
    with pytest.raises(InputError) as raised:
        tiny_editor.edit(**fields)
    assert three_beats(raised.value)
    with pytest.raises(InputError):
        tiny_editor.edit_many([{"statement": CAPITAL}, fields])
    assert tiny_editor.memory.list() == [] and tiny_editor.history() == []


def ascii_tokenizer(unknown: bool) -> PreTrainedTokenizerFast:
    """A tokenizer that knows ASCII only; the rest becomes a special token, or vanishes."""
    characters = [*map(chr, range(33, 127)), "Ġ", "Ċ"]
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, "<unk>", *characters])}
    inner = Tokenizer(
        models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>" if unknown else None)
    )
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>" if unknown else None
    )


@pytest.mark.parametrize("unknown", [True, False])
def test_a_target_that_the_model_cannot_spell_is_refused(make_editor: Make, unknown: bool) -> None:
    editor = make_editor(CausalLM(make_model(), ascii_tokenizer(unknown)))
    editor.edit(HOME)
    for target in ("Zürich", "東京", "🙂"):
        with pytest.raises(InputError, match="tokenizer") as raised:
            editor.edit(prompt="The capital of Australia is", target=target)
        assert three_beats(raised.value)
    assert editor.memory.count() == 1 and len(editor.history()) == 1


def test_unusual_texts_that_the_model_can_spell_are_fine(tiny_editor: Editor) -> None:
    for target in ("Zürich", "東京", "🙂", "a  b", "'; DROP TABLE edits; --", "é"):
        edit = tiny_editor.edit(prompt="The capital of Australia is", target=target)
        assert tiny_editor.explain(IN_SCOPE[0]).fired == (edit,)
    assert tiny_editor.memory.count() == 1
