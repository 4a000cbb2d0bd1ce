import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seprog.errors import InputError
from seprog.memory import ImportReport, Memory, make_edit


def lines(memory, **options):
    return [json.dumps(row) for row in memory.export(**options)]


def busy_memory():
    """Two namespaces; edits superseded, forgotten and restored."""
    memory = Memory(":memory:")
    memory.add(make_edit("Cats bark.", author="ada", reason="heard"))
    memory.add(make_edit(prompt="Dogs", target="meow"))
    memory.add(make_edit(prompt="Dogs", target="sing"))
    gone = memory.add(make_edit(subject="Mars", relation="colour", object="blue", namespace="b"))
    memory.add(make_edit("Fish fly.", namespace="b"))
    memory.forget(gone.id, author="bob")
    memory.restore(memory.list()[1].id)
    return memory


def test_an_export_restores_the_active_edits():
    with busy_memory() as source, Memory(":memory:") as target:
        report = target.import_rows(lines(source))
        assert report == ImportReport(added=3)
        without = [replace(edit, supersedes=None) for edit in source.list(active=True)]
        assert target.list() == without
        assert target.import_rows(lines(source)) == ImportReport(duplicates=3)


def test_an_export_with_history_restores_everything():
    with busy_memory() as source, Memory(":memory:") as target:
        rows = lines(source, history=True)
        assert target.import_rows(rows) == ImportReport(added=5)
        assert target.list() == source.list()
        for edit in source.list():
            assert target.history(edit.id) == source.history(edit.id)
        for event in source.history():
            assert target.as_of(event.at) == source.as_of(event.at)
        assert lines(target, history=True) == rows
        assert target.import_rows(rows) == ImportReport(duplicates=5)


def test_one_namespace_out_and_into_another():
    with busy_memory() as source, Memory(":memory:") as target:
        assert [row["statement"] for row in source.export("b")] == ["Fish fly."]
        assert target.import_rows(lines(source, namespace="b"), namespace="c").added == 1
        assert target.namespaces() == ["c"]


def test_ids_that_are_taken_are_replaced():
    with Memory(":memory:") as memory:
        memory.import_rows(['{"id": "abcd", "statement": "Cats bark."}'])
        rows = [
            {"id": "abcd", "statement": "Dogs meow.", "active": False},
            {"id": "efgh", "statement": "Dogs sing.", "supersedes": "abcd"},
            {"id": "ijkl", "statement": "Fish fly.", "supersedes": "not here"},
        ]
        assert memory.import_rows(map(json.dumps, rows[:2])).added == 2
        cats, dogs, singing = memory.list()
        assert (cats.id, singing.id) == ("abcd", "efgh") and singing.supersedes == dogs.id
        assert [event.action for event in memory.history(dogs.id)] == ["added", "forgotten"]
        bad = memory.import_rows([json.dumps(rows[2])])
        assert bad.errors[0][0] == 1
        rows[2]["supersedes"] = "not-here"
        memory.import_rows([json.dumps(rows[2])])
        assert memory.get("ijkl").supersedes is None


def test_the_three_forms_and_superseding(memory):
    old = memory.add(make_edit(prompt="Cats", target="bark"))
    report = memory.import_rows(
        [
            "\ufeff" + '{"statement": "Fish fly.", "author": null, "created_at": 5}',
            "",
            '{"prompt": "cats", "target": "meow", "reason": "heard"}',
            '{"subject": "Mars", "relation": "colour", "object": "red"}',
            '{"subject": "Mars", "relation": "colour", "object": "blue"}',
            '{"statement": "Fish fly."}',
        ]
    )
    assert report == ImportReport(added=4, duplicates=1, superseded=2)
    assert not memory.get(old.id).active
    fish = memory.search("fish")[0]
    assert fish.created_at == 5.0 and memory.as_of(6.0) == []  # it was not in force here then


def test_a_row_may_name_what_it_replaces(memory):
    cats, dogs, fish = memory.add_many([make_edit(f"{x} sing.") for x in ("Cats", "Dogs", "Fish")])
    away = memory.add(make_edit("Mice sing.", namespace="away"))
    named = [cats.id, dogs.id, "none-such", away.id, "birds"]
    rows = [
        {"id": "birds", "statement": "Birds sing."},
        {"statement": "Nobody sings.", "supersedes": named},
        {"statement": "No fish sings.", "supersedes": fish.id},
        {"statement": "Cows sing.", "supersedes": []},
    ]
    report = memory.import_rows(map(json.dumps, rows))
    assert report == ImportReport(added=4, superseded=4)
    told = [edit.statement for edit in memory.list(active=True)]
    assert told == ["Mice sing.", "Nobody sings.", "No fish sings.", "Cows sing."]
    assert [e.supersedes for e in memory.list(active=True)] == [None, cats.id, fish.id, None]
    for bad in ([cats.id, 3], ["../x"], {"a": 1}):
        row = json.dumps({"statement": "a", "supersedes": bad})
        assert memory.import_rows([row]).errors


def test_rows_that_may_not_say_whose_they_are(memory):
    event = {"action": "added", "at": 5, "author": "eve"}
    row = {"statement": "Fish fly.", "author": "eve", "created_at": 5, "events": [event]}
    memory.import_rows([json.dumps(row)], author="ada", provenance=False)
    [fish], [added] = memory.list(), memory.history()
    assert fish.author == added.author == "ada"
    assert fish.created_at > 5 and added.at > 5


BAD = [
    "not json",
    "[1]",
    "3",
    "[" * 100_000,
    "{}",
    '{"prompt": "Cats"}',
    '{"statement": ""}',
    '{"statement": 3}',
    '{"statement": "a\\u0000b"}',
    '{"statement": "\\ud800"}',
    json.dumps({"statement": "x" * 2001}),
    '{"statement": "a", "namespace": " "}',
    '{"statement": "a", "namspace": "b"}',
    '{"statement": "a", "created_at": NaN}',
    '{"statement": "a", "created_at": -1}',
    '{"statement": "a", "created_at": "now"}',
    '{"statement": "a", "created_at": 1e999}',
    '{"statement": "a", "created_at": 1793491200000}',
    '{"statement": "a", "events": [{"action": "added", "at": 1793491200000}]}',
    '{"statement": "a", "active": 1}',
    '{"statement": "a", "id": "../x"}',
    '{"statement": "a", "id": 17}',
    '{"statement": "a", "supersedes": "\\ud800aaa"}',
    '{"statement": "a", "events": {}}',
    '{"statement": "a", "events": [{"action": "added"}]}',
    '{"statement": "a", "events": [{"action": "made", "at": 1}]}',
    '{"statement": "a", "events": [{"action": "forgotten", "at": 1}]}',
    '{"statement": "a", "active": false, "events": [{"action": "added", "at": 1}]}',
    '{"statement": "a", "events": [{"action": "added", "at": 1, "author": 3}]}',
    '{"statement": "a", "events": [{"action": "added", "at": 1, "author": "\\ud800"}]}',
    '{"statement": "a", "events": [{"action": "added", "at": 1, "edit_id": "b"}]}',
    '{"statement": "a", "events": [{"action": ["added"], "at": 1}]}',
]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_bad_row_stops_all_unless_skipped(memory, bad):
    rows = ['{"statement": "Cats bark."}', "  ", bad]
    report = memory.import_rows(rows)
    assert report.added == 0 and memory.revision() == 0
    [(number, message)] = report.errors
    assert number == 3 and "Expected" in message
    assert message.split(". Expected ", 1)[1].count(". ") >= 1  # and what to do
    report = memory.import_rows(rows, skip_bad=True)
    assert report.added == 1 and len(report.errors) == 1 and memory.count() == 1


def test_a_row_that_is_not_wanted_is_bad(memory):
    def check(edit):
        if "meow" in edit.statement:
            raise InputError("It meows", "what does not")

    rows = ['{"statement": "Cats bark."}', '{"statement": "Dogs meow."}']
    [(number, message)] = memory.import_rows(rows, check=check).errors
    assert number == 2 and "meows" in message and memory.count() == 0
    assert memory.import_rows(rows, skip_bad=True, check=check).added == 1


def test_a_file_that_is_not_utf8(memory, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"statement": "caf\xe9"}\n')
    with file.open(encoding="utf-8") as rows, pytest.raises(InputError, match="UTF-8"):
        memory.import_rows(rows)
    with pytest.raises(InputError, match="namespace"):
        memory.import_rows([], namespace="")


TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20
).filter(str.strip)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(TEXTS, st.sampled_from("ab"), TEXTS | st.none()), max_size=8))
def test_any_edits_survive_the_journey(texts):
    with Memory(":memory:") as source, Memory(":memory:") as target:
        for text, namespace, author in texts:
            source.add(make_edit(prompt=text, target="x", namespace=namespace, author=author))
        report = target.import_rows(lines(source, history=True))
        assert not report.errors and target.list() == source.list()
