"""Of edits that answer the same question in other words one is in force, whoever writes when."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from seprog.editor import Editor
from seprog.errors import MemoryFileError
from seprog.gate import ScopeGate
from seprog.memory import ImportReport, Memory, make_edit

SYDNEY = "The capital of Australia is Sydney."
PERTH = "Of Australia the capital is Perth."
HOBART = "The capital of Australia is Hobart."
Make = Callable[..., Editor]


def rows(*statements: str, **fields: Any) -> list[str]:
    return [json.dumps({"statement": s, **fields}) for s in statements]


def in_force(editor: Editor) -> list[str]:
    return [e.statement for e in editor.memory.list(active=True)]


def test_of_one_call_the_later_takes_the_place_of_the_earlier(tiny_editor: Editor) -> None:
    tiny_editor.edit(SYDNEY)
    told = [PERTH, "The home of Ann is Zed.", HOBART, "The king of Peru is Max."]
    perth, _, hobart, _ = edits = tiny_editor.edit_many([{"statement": s} for s in told])
    assert [e.active for e in edits] == [False, True, True, True]
    assert perth.supersedes is not None and hobart.supersedes == perth.id
    assert in_force(tiny_editor) == told[1:]
    assert tiny_editor.edit_many([]) == []


def test_one_call_leaves_what_calls_in_turn_leave(make_editor: Make) -> None:
    told = [SYDNEY, PERTH, SYDNEY, "The home of Ann is Zed.", HOBART, PERTH, PERTH]
    editor = make_editor()
    for namespace in ("together", "imported", "alone"):
        tagged = [{"statement": s, "namespace": namespace} for s in told]
        if namespace == "together":
            editor.edit_many(tagged)
        elif namespace == "imported":
            editor.import_rows(map(json.dumps, tagged))
        else:
            for row in tagged:
                editor.edit(**row)
    found = [
        [(e.statement, e.active) for e in editor.memory.list(name)]
        for name in editor.memory.namespaces()
    ]
    assert found[0] == found[1] == found[2]


def test_what_is_imported_takes_the_place_of_what_is_in_force(tiny_editor: Editor) -> None:
    old = tiny_editor.edit(SYDNEY)
    seen: list[tuple[int, int]] = []
    told = rows("The king of Peru is Max.", PERTH, HOBART)
    report = tiny_editor.import_rows(told, lambda done, total: seen.append((done, total)))
    assert report == ImportReport(added=3, superseded=2) and seen[-1] == (3, 3)
    assert in_force(tiny_editor) == ["The king of Peru is Max.", HOBART]
    last = tiny_editor.memory.history(old.id)[-1]
    assert last.action == "superseded"
    assert tiny_editor.memory.get(last.other_id or "").statement == PERTH
    assert tiny_editor.import_rows(told[2:]) == ImportReport(duplicates=1)


def test_importing_again_with_a_model_settles_what_was_imported_without(
    tiny_editor: Editor,
) -> None:
    told = rows(SYDNEY, HOBART)
    assert tiny_editor.memory.import_rows(told).superseded == 0
    assert in_force(tiny_editor) == [SYDNEY, HOBART]
    tiny_editor.import_rows(told)
    assert in_force(tiny_editor) == [HOBART]


def test_rows_out_of_force_and_of_other_namespaces_replace_nothing(tiny_editor: Editor) -> None:
    tiny_editor.edit(SYDNEY)
    told = rows(PERTH, active=False) + rows(HOBART, namespace="other")
    assert tiny_editor.import_rows(told) == ImportReport(added=2)
    assert in_force(tiny_editor) == [SYDNEY, HOBART]


# --- several writers --------------------------------------------------------------------------


def meanwhile(
    gate: ScopeGate, monkeypatch: pytest.MonkeyPatch, *actions: Callable[[], object]
) -> list[str]:
    """Have others write while the gate reads, one action a call; the statements it was given."""
    same, left, asked = gate.same_question, list(actions), []

    def read(edit: Any, shelf: Any) -> Any:
        asked.append(edit.statement)
        found = same(edit, shelf)
        if left:
            left.pop(0)()
        return found

    monkeypatch.setattr(gate, "same_question", read)
    return asked


def test_what_others_write_while_rivals_are_looked_for_is_a_rival_too(
    make_editor: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, yours = make_editor(), make_editor()
    meanwhile(mine.gate, monkeypatch, lambda: yours.edit(PERTH))
    edit = mine.edit(HOBART)
    assert in_force(mine) == in_force(yours) == [HOBART]
    assert yours.memory.get(edit.supersedes or "").statement == PERTH


def test_what_is_restored_takes_the_place_of_what_others_write_meanwhile(
    make_editor: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, yours = make_editor(), make_editor()
    old = mine.edit(SYDNEY)
    mine.forget(old.id)
    meanwhile(mine.gate, monkeypatch, lambda: yours.edit(PERTH))
    assert mine.restore(old.id).active
    assert in_force(yours) == [SYDNEY]


def test_only_what_others_wrote_is_read_again(
    make_editor: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = make_editor(), Memory(make_editor().memory.path)
    told = ["The king of Peru is Max.", SYDNEY, "The home of Ann is Zed."]
    asked = meanwhile(
        mine.gate,
        monkeypatch,
        lambda: other.add(make_edit(HOBART)),
        lambda: other.add(make_edit("The home of Bob is Zed.")),
        lambda: None,
        lambda: other.add(make_edit("The language of Zed is Zedish.")),
    )
    assert mine.import_rows(rows(*told)).superseded == 1
    assert asked[:3] == told and sorted(asked[3:]) == sorted(
        [HOBART, "The home of Bob is Zed.", "The language of Zed is Zedish."]
    )
    assert HOBART not in in_force(mine) and mine.memory.count() == 5
    other.close()


def test_a_writer_who_is_never_let_in_says_so_and_writes_nothing(
    make_editor: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, yours = make_editor(), make_editor()
    others = [make_edit(f"The king of x{i} is Bob.") for i in range(99)]
    more = [lambda e=e: yours.memory.add(e) for e in others]
    meanwhile(mine.gate, monkeypatch, *more)
    with pytest.raises(MemoryFileError, match="kept writing"):
        mine.edit(HOBART)
    assert HOBART not in in_force(yours)
