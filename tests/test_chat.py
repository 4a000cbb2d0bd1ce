"""Conversations: a chat template with a system turn, and what the gate reads of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from seprog.chat import LEANING, chat_text, judged, leans, merged
from seprog.editor import Editor
from seprog.errors import InputError
from seprog.lm import CausalLM
from seprog.types import Candidate, Edit, GateDecision
from tests.conftest import make_model, make_tokenizer
from tests.test_editor import CAPITAL, IN_SCOPE, OUT_OF_SCOPE

CHATML = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
STRICT = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
SYSTEM = {"role": "system", "content": "Be brief."}
Make = Callable[..., Editor]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.fixture
def editor(make_editor: Make) -> Editor:
    """An editor on a chat model."""
    tokenizer = make_tokenizer(bos=True)
    tokenizer.chat_template = CHATML
    return make_editor(CausalLM(make_model(), tokenizer))


def test_the_template_is_used_and_the_prefix_stands_before_it(editor: Editor) -> None:
    edit = editor.edit(CAPITAL)
    text = f"<system>Be brief.\n<user>{IN_SCOPE[0]}\n<assistant>"
    answer = editor.chat([SYSTEM, user(IN_SCOPE[0])], max_new_tokens=8)
    assert answer.query == IN_SCOPE[0] and answer.decision.fired == (edit,)
    prefixes = editor.prefixes([answer.decision])
    expected = editor.lm.generate([text], prefixes, 8, bos=False)
    assert [answer.text] == [t.strip() for t in expected]
    plain = editor.lm.generate([text], None, 8, bos=False)
    assert editor.chat([SYSTEM, user(IN_SCOPE[0])], 8, edits=False).text == plain[0].strip()


def test_out_of_scope_conversations_are_the_models(editor: Editor) -> None:
    editor.edit(CAPITAL)
    for query in OUT_OF_SCOPE:
        answer = editor.chat([SYSTEM, user(query)], max_new_tokens=8)
        assert answer.decision.fired == ()
        assert answer.text == editor.chat([SYSTEM, user(query)], 8, edits=False).text


def test_a_follow_up_is_read_with_the_turn_before(editor: Editor) -> None:
    edit = editor.edit(CAPITAL)
    before = [user("Let us talk about Australia."), assistant("Fine.")]
    question = user("What is the capital?")
    assert editor.chat([*before, question], 4).decision.fired == (edit,)
    assert editor.chat([question], 4).decision.fired == ()
    assert judged([SYSTEM, *before, question]) == [
        "What is the capital?",
        "Let us talk about Australia. What is the capital?",
    ]
    why = "Why is that?"
    assert judged([user("a"), user("b"), user(why)]) == [why, f"b {why}"]
    assert judged([user("x" * LEANING), user(why)]) == [why]


@pytest.mark.parametrize(
    ("text", "leaning"),
    [
        ("And how many people live there?", True),
        ("What is its currency?", True),
        ("What is the capital?", True),
        ("And the currency?", True),
        ("Why?", True),
        ("What about France?", True),
        ("Who wrote Hamlet?", False),
        ("What is the currency of Australia?", False),
        ("In which country is Lyon?", False),
        ("What is the boiling point of water?", False),
        ("What is photosynthesis?", False),
        ("Thanks.", False),
        ("OK, thank you!", False),
        ("?!", False),
    ],
)
def test_only_a_turn_that_leans_on_the_one_before_is_read_with_it(text: str, leaning: bool) -> None:
    assert leans(text) == leaning
    assert len(judged([user(IN_SCOPE[0]), user(text)])) == 1 + leaning


def test_after_an_edit_has_fired_other_questions_are_as_before(editor: Editor) -> None:
    edit = editor.edit(CAPITAL)
    before = [user(IN_SCOPE[0]), assistant("Sydney.")]
    assert editor.chat(before[:1], 4).decision.fired == (edit,)
    for query in OUT_OF_SCOPE:
        answer = editor.chat([*before, user(query)], 8)
        assert answer.decision.fired == ()
        assert answer.text == editor.chat([*before, user(query)], 8, edits=False).text


def test_decisions_are_merged_by_edit() -> None:
    one, two = Edit("One.", id="1"), Edit("Two.", id="2")
    alone = GateDecision("b", 0.5, (Candidate(two, 0.4, False, 0), Candidate(one, 0.3, False, 0)))
    both = GateDecision("a b", 0.5, (Candidate(one, 0.9, True, 0), Candidate(two, 0.1, False, 0)))
    found = merged([alone, both])
    assert (found.query, found.threshold, found.fired) == ("b", 0.5, (one,))
    assert [(c.edit.id, c.probability) for c in found.candidates] == [("1", 0.9), ("2", 0.4)]
    assert merged([alone]) == alone


def test_a_bos_is_never_said_twice(editor: Editor) -> None:
    tokenizer = editor.lm.tokenizer
    assert chat_text(tokenizer, [user("Hi")]) == ("<user>Hi\n<assistant>", False)
    tokenizer.chat_template = "{{ bos_token }}" + CHATML
    assert chat_text(tokenizer, [user("Hi")]) == ("<user>Hi\n<assistant>", True)
    plain = make_tokenizer(bos=False)
    plain.chat_template = tokenizer.chat_template
    assert chat_text(plain, [user("Hi")]) == ("<s><user>Hi\n<assistant>", False)
    editor.edit(CAPITAL)
    query = f"<user>{IN_SCOPE[0]}\n<assistant>"
    context = editor.lm.generate([f"{CAPITAL}{query}"], None, 8)
    assert editor.chat([user(IN_SCOPE[0])], 8).text == context[0].strip()


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [SYSTEM],
        [user("Hi"), assistant("Hello")],
        [user("")],
        [{"role": "user"}],
        [{"role": "tool", "content": "x"}, user("Hi")],
    ],
)
def test_what_is_no_conversation_is_refused(editor: Editor, messages: list[dict[str, str]]) -> None:
    with pytest.raises(InputError) as error:
        editor.chat(messages)
    assert error.value.came and error.value.expected and error.value.advice


def test_models_and_templates_that_cannot(tiny_editor: Editor, editor: Editor) -> None:
    with pytest.raises(InputError, match="no chat template"):
        tiny_editor.chat([user("Hi")])
    editor.lm.tokenizer.chat_template = STRICT
    with pytest.raises(InputError, match="no system"):
        editor.chat([SYSTEM, user("Hi")])
