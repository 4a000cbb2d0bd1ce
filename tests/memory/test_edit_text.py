import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seprog.errors import InputError
from seprog.memory import Memory, make_edit
from seprog.memory.edit_text import MAX_CHARACTERS, is_unicode

TEXT = st.text(max_size=60)


@pytest.mark.parametrize(
    ("fields", "statement"),
    [
        ({"statement": "  Cats bark. "}, "Cats bark."),
        ({"prompt": "Cats ", "target": " bark"}, "Cats bark."),
        ({"prompt": "What do cats do?", "target": "They bark!"}, "What do cats do? They bark!"),
        ({"prompt": "He said", "target": '"no."'}, 'He said "no."'),
        ({"prompt": "猫会", "target": "叫。"}, "猫会 叫。"),
        (
            {"statement": "Cats bark.", "prompt": "What do cats do?", "target": "They bark."},
            "Cats bark.",
        ),
        (
            {"subject": "Australia", "relation": "capital", "object": "Sydney"},
            "The capital of Australia is Sydney.",
        ),
        (
            {"subject": "Mars\n", "relation": "  largest  moon ", "object": "Phobos."},
            "The largest moon of Mars is Phobos.",
        ),
    ],
)
def test_the_forms(fields, statement):
    edit = make_edit(**fields, namespace="n", author="a", reason="r")
    assert edit.statement == statement
    assert (edit.namespace, edit.author, edit.reason, edit.id) == ("n", "a", "r", "")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt": "Cats"},
        {"target": "bark"},
        {"subject": "Australia", "relation": "capital"},
        {"statement": "Cats bark.", "prompt": "Cats"},
        {"statement": "Cats bark.", "subject": "cats", "relation": "sound", "object": "bark"},
        {"prompt": "a", "target": "b", "subject": "c", "relation": "d", "object": "e"},
    ],
)
def test_not_one_form_names_what_came(fields):
    with pytest.raises(InputError) as caught:
        make_edit(**fields)
    assert all(name in caught.value.came for name in fields)
    assert caught.value.expected and caught.value.advice


@pytest.mark.parametrize(
    "text", ["", " \n", "a\x00b", "x" * (MAX_CHARACTERS + 1), os.fsdecode(b"caf\xe9")]
)
@pytest.mark.parametrize("field", ["statement", "namespace"])
def test_unusable_text_is_refused(text, field):
    fields = {"statement": "Cats bark.", field: text}
    with pytest.raises(InputError, match=field):
        make_edit(**fields)


def test_a_composed_statement_may_not_be_too_long_either():
    with pytest.raises(InputError, match="2002 characters"):
        make_edit(prompt="x" * 1000, target="y" * 1000)


def test_an_empty_author_is_fine_but_a_broken_one_is_not():
    assert make_edit("Cats bark.", author="").author == ""
    with pytest.raises(InputError, match="author"):
        make_edit("Cats bark.", author="\udc80")


@given(TEXT, TEXT)
def test_any_text_is_either_refused_or_kept(prompt, target):
    try:
        edit = make_edit(prompt=prompt, target=target)
    except InputError as error:
        assert error.came and error.expected
        return
    assert is_unicode(edit.statement) and edit.statement.strip() == edit.statement
    with Memory(":memory:") as memory:
        assert memory.get(memory.add(edit).id).statement == edit.statement
