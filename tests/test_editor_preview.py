"""What edits would change, before they are written."""

from __future__ import annotations

import pytest

from seprog.errors import InputError
from tests.test_editor import IN_SCOPE, OUT_OF_SCOPE, Make, fill, texts


def test_a_preview_is_what_comes_of_writing_and_leaves_everything_as_it_was(
    make_editor: Make,
) -> None:
    editor = make_editor()
    fill(editor)
    rows = [
        {"statement": "The capital of Australia is Perth."},
        {"prompt": "The home of Bob is", "target": "Zed"},
    ]
    queries = [*IN_SCOPE, "What is the home of Bob?", *OUT_OF_SCOPE]
    before, revision = editor.generate(queries, 16), editor.memory.revision()
    shown = editor.preview(rows, queries, 16)
    assert editor.memory.revision() == revision
    assert [a.text for a, _ in shown] == [a.text for a in before]
    editor.edit_many(rows)
    assert [b.text for _, b in shown] == texts(editor, queries)
    assert texts(editor, OUT_OF_SCOPE) == [b.text for _, b in shown[-3:]]


def test_a_preview_takes_the_start_of_an_id(make_editor: Make) -> None:
    editor = make_editor()
    [old, *_] = fill(editor)
    row = {"statement": "Nobody knows.", "supersedes": [old.id[:11]]}
    [shown] = editor.preview([row], IN_SCOPE[:1])
    assert shown[0].decision.fired and shown[1].decision.fired == ()
    with pytest.raises(InputError):
        editor.preview([{"statement": "Nobody knows.", "supersedes": ["none-such"]}], IN_SCOPE[:1])


def test_a_row_may_name_what_it_supersedes(make_editor: Make) -> None:
    editor = make_editor()
    [old, *_] = fill(editor)
    [shown] = editor.preview([{"statement": "Nobody knows.", "supersedes": [old.id]}], IN_SCOPE[:1])
    assert shown[1].decision.fired == ()
    new = editor.edit("Nobody knows.", supersedes=[old.id])
    assert new.supersedes == old.id
    assert not editor.memory.get(old.id).active
