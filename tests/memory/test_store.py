import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from seprog.errors import InputError, MemoryFileError, UnknownEdit
from seprog.memory import Event, Memory, make_edit, records
from seprog.types import Edit

CANBERRA = make_edit(subject="Australia", relation="capital", object="Canberra")
SYDNEY = make_edit(subject="australia", relation=" Capital", object="Sydney", author="ada")
PERTH = make_edit(subject="Australia", relation="capital", object="Perth")


def ids(edits):
    return [edit.id for edit in edits]


def actions(memory, id=None):
    return [event.action for event in memory.history(id)]


def test_add_gives_id_and_time(memory):
    edit = memory.add(make_edit("Cats bark.", author="ada", reason="heard it"))
    assert len(edit.id) == 12 and edit.created_at > 1.7e9 and edit.active
    assert memory.get(edit.id) == edit
    assert memory.history() == [Event(edit.id, "added", edit.created_at, "ada", "heard it")]


def test_all_fields_come_back(memory):
    edit = Edit("s", "p", "t", "su", "r", "o", "n", "a", "w")
    stored = memory.add(edit)
    assert replace(stored, id="", created_at=0.0) == edit


def test_ids_are_unique_and_sorted(memory):
    edits = memory.add_many([make_edit(f"Fact {i}.") for i in range(500)])
    assert len(set(ids(edits))) == 500 and ids(edits) == sorted(ids(edits))
    assert memory.list() == edits


def test_an_active_duplicate_is_not_added_again(memory):
    first = memory.add(make_edit("Cats bark."))
    before = memory.revision()
    assert memory.add(make_edit(" Cats bark. ")) == first
    assert memory.revision() == before and memory.count() == 1
    assert memory.add(make_edit("Cats bark.", namespace="other")).id != first.id
    memory.forget(first.id)
    assert memory.add(make_edit("Cats bark.")).id != first.id


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (CANBERRA, SYDNEY),
        (
            make_edit(prompt="Who leads  France?", target="A"),
            make_edit(prompt="who leads france? ", target="B"),
        ),
    ],
)
def test_the_same_question_supersedes(memory, old, new):
    old, new = memory.add(old), memory.add(new)
    assert new.supersedes == old.id
    assert not memory.get(old.id).active and memory.list(active=True) == [new]
    last = memory.history(old.id)[-1]
    assert (last.action, last.other_id, last.author) == ("superseded", new.id, new.author)


def test_namespaces_do_not_supersede_each_other(memory):
    memory.add(CANBERRA)
    memory.add(replace(SYDNEY, namespace="b"))
    assert memory.count() == 2 and memory.count("b") == 1
    assert memory.namespaces() == ["b", "default"]


def test_supersedes_named_by_the_caller(memory):
    a, b = memory.add_many([make_edit("A."), make_edit("B.")])
    new = memory.add(make_edit("C."), supersedes=[b.id, a.id])
    assert new.supersedes == b.id and memory.list(active=True) == [new]
    late = memory.add(make_edit("D."), supersedes=[a.id])  # inactive by now: passed over
    assert late.supersedes == a.id and actions(memory, a.id) == ["added", "superseded"]


def test_bad_supersedes_change_nothing(memory):
    other = memory.add(make_edit("A.", namespace="other"))
    for bad in ([other.id], ["nothing here"], other.id):
        with pytest.raises(InputError):
            memory.add(make_edit("B."), supersedes=bad)
    with pytest.raises(InputError, match="2 edits came"):
        memory.add_many([make_edit("B."), make_edit("C.")], [[]])
    assert memory.list() == [other]


def test_a_duplicate_still_supersedes(memory):
    first, other = memory.add(make_edit("Cats bark.")), memory.add(make_edit("Cats sing."))
    same = memory.add(make_edit("Cats bark."), supersedes=[other.id])
    assert same == first and not memory.get(other.id).active


STATEMENT = "The capital of Australia is Sydney."
FORMS = [
    make_edit(STATEMENT),
    make_edit(STATEMENT, "What is Australia's capital?", "Sydney"),
    make_edit(STATEMENT, "What is Australia's capital?", "Sydney, NSW"),
    make_edit(STATEMENT, "Which town is the capital?", "Sydney"),
    make_edit(subject="Australia", relation="capital", object="Sydney"),
]


@pytest.mark.parametrize("new", FORMS)
@pytest.mark.parametrize("old", FORMS)
def test_the_same_sentence_takes_over_if_it_brings_what_the_other_lacks(memory, old, new):
    first = memory.add(replace(old, author="ada"))
    second = memory.add(replace(new, author="bob", reason="heard"))
    [active] = memory.list(active=True)
    if new in (FORMS[0], old):  # nothing but an author and a reason: all stays as it was
        assert second == first == active and actions(memory) == ["added"]
    else:
        assert second == active and (active.author, active.supersedes) == ("bob", first.id)
        assert (active.prompt, active.target, active.object) == (new.prompt, new.target, new.object)
        assert actions(memory, first.id) == ["added", "superseded"]
        assert memory.restore(first.id) == memory.list(active=True)[0]


def test_within_one_batch_the_later_wins(memory):
    first, twin, last = memory.add_many([CANBERRA, CANBERRA, SYDNEY])
    assert first == twin and not first.active and last.active


def test_a_bad_edit_in_a_batch_stops_all(memory):
    with pytest.raises(InputError):
        memory.add_many([make_edit("Fine."), Edit("  ")])
    assert memory.list() == [] and memory.revision() == 0


def test_get_by_the_start_of_an_id(memory):
    for id in ("abcd1111", "abcd2222"):
        memory.import_rows([f'{{"id": "{id}", "statement": "{id}"}}'])
    assert memory.get("abcd1").id == "abcd1111"
    with pytest.raises(InputError, match="abcd1111, abcd2222"):
        memory.get("abcd")
    for unknown in ("abc", "", "abcd3", "%%%%", "a'; --", "\udc80abc"):
        with pytest.raises(InputError):
            memory.get(unknown)
    with pytest.raises(UnknownEdit, match="Did you mean abcd1111"):
        memory.get("abcd1112")
    with pytest.raises(UnknownEdit, match="List the edits"):
        memory.get("zzzz")


def test_forget_and_restore(memory):
    edit = memory.add(make_edit("Cats bark."))
    gone = memory.forget(edit.id[:11] + edit.id[11:], author="bob", reason="they do not")
    assert gone == replace(edit, active=False) == memory.get(edit.id)
    with pytest.raises(InputError, match="forgotten"):
        memory.forget(edit.id)
    assert memory.restore(edit.id) == edit
    with pytest.raises(InputError, match="in force"):
        memory.restore(edit.id)
    assert actions(memory) == ["added", "forgotten", "restored"]
    assert memory.history()[1].author == "bob"


def test_forgetting_does_not_bring_back_the_superseded(memory):
    old, new = memory.add_many([CANBERRA, SYDNEY])
    memory.forget(new.id)
    assert memory.count() == 0
    with pytest.raises(InputError, match=f"superseded by {new.id}"):
        memory.forget(old.id)


def test_restoring_supersedes_who_took_over(memory):
    old, new = memory.add_many([CANBERRA, SYDNEY])
    memory.restore(old.id)
    assert ids(memory.list(active=True)) == [old.id]
    restored, superseded = memory.history()[-2:]
    assert (restored.action, restored.edit_id, restored.other_id) == ("restored", old.id, new.id)
    assert (superseded.edit_id, superseded.other_id) == (new.id, old.id)


def test_restoring_beside_the_same_statement(memory):
    old = memory.add(make_edit("Cats bark."))
    memory.forget(old.id)
    new = memory.add(make_edit("Cats bark."))
    memory.restore(old.id)
    assert ids(memory.list(active=True)) == [old.id] and not memory.get(new.id).active


def test_list_pages_and_filters(memory):
    edits = memory.add_many([make_edit(f"Fact {i}.", namespace=f"n{i % 2}") for i in range(10)])
    memory.forget(edits[0].id)
    assert ids(memory.list(limit=3, offset=2)) == ids(edits)[2:5]
    assert ids(memory.list(limit=3, offset=2, newest_first=True)) == ids(edits)[::-1][2:5]
    assert len(memory.list("n0", active=True)) == 4 and len(memory.list("n0", active=False)) == 1
    assert memory.list(limit=0) == [] and memory.list("nowhere") == []
    for bad in ({"limit": -1}, {"offset": -1}, {"limit": 2**70}):
        with pytest.raises(InputError):
            memory.list(**bad)


def test_history_is_limited_to_the_latest(memory):
    edits = memory.add_many([make_edit(f"Fact {i}.", namespace=f"n{i % 2}") for i in range(4)])
    assert [event.edit_id for event in memory.history(limit=2)] == ids(edits)[2:]
    assert [event.edit_id for event in memory.history(namespace="n1")] == ids(edits)[1::2]
    with pytest.raises(UnknownEdit):
        memory.history("nothing")


def test_as_of(memory, monkeypatch):
    clock = iter(range(1000, 2000))
    monkeypatch.setattr("seprog.memory.store.time.time", lambda: float(next(clock)))
    states = [(999.0, [])]
    for step in (
        lambda: memory.add(CANBERRA),
        lambda: memory.add(SYDNEY),
        lambda: memory.restore(memory.list()[0].id),
        lambda: memory.forget(memory.list()[0].id),
        lambda: memory.add(replace(PERTH, namespace="b")),
    ):
        step()
        states.append((memory.history()[-1].at, ids(memory.list(active=True))))
    for at, expected in states:
        edits = memory.as_of(at)
        assert ids(edits) == expected and all(edit.active for edit in edits)
    assert memory.as_of(5000.0, "default") == [] and len(memory.as_of(5000.0, "b")) == 1


def test_as_of_goes_by_time_where_events_were_written_in_another_order(memory):
    edit = memory.add(make_edit("Cats bark."))
    memory.forget(edit.id)
    at = memory.history(edit.id)[-1].at
    with memory._database.writing() as connection:  # as an import of a history does
        records.record(connection, Event(edit.id, "restored", at - 5.0, None, None, None))
    assert memory.history(edit.id)[-1].action == "forgotten"
    assert memory.as_of(at + 1) == []


def test_changes_are_the_edits_that_something_happened_to(memory):
    old, other = memory.add(make_edit(prompt="Cats", target="bark")), memory.add(make_edit("Hm."))
    before = memory.revision()
    assert memory.changes(before) == (before, [])
    new = memory.add(make_edit(prompt="Cats", target="meow"))
    away = memory.add(make_edit("Hm.", namespace="b"))
    memory.forget(other.id)
    changed = [memory.get(e.id) for e in (old, other, new)]
    assert [e.active for e in changed] == [False, False, True]
    assert memory.changes(before, "default") == (memory.revision(), changed)
    assert memory.changes(before)[1] == [*changed, away]
    assert memory.changes(0)[1] == memory.list()


def test_revision_grows_with_every_change(memory):
    seen = [memory.revision()]
    edit = memory.add(make_edit("Cats bark."))
    for change in (lambda: None, lambda: memory.forget(edit.id), lambda: memory.restore(edit.id)):
        change()
        seen.append(memory.revision())
    assert seen == sorted(set(seen))


def test_search_finds_words_and_their_starts(memory):
    edit = memory.add(make_edit(prompt="The café of Zürich", target="Odeon"))
    memory.add(make_edit("The café of Zürich is Odeon.", namespace="b"))
    memory.add(make_edit("Dogs bark."))
    for text in ("cafe", "zurich odeon", "ODE", "café -odeon", '"odeon', "odeon*", "(zürich"):
        assert ids(memory.search(text, "default")) == [edit.id], text
    assert memory.search("odeon dogs") == [] and len(memory.search("odeon")) == 2
    assert len(memory.search("odeon", limit=1)) == 1
    memory.forget(edit.id)
    assert memory.search("odeon", "default") == []
    assert ids(memory.search("odeon", "default", active=None)) == [edit.id]


def test_search_goes_on_where_it_stopped(memory):
    for i in range(5):
        memory.add(make_edit(f"The king of place {i} is Bob."))
    whole = ids(memory.search("Bob"))
    assert len(whole) == 5
    pages = [ids(memory.search("Bob", limit=2, offset=n)) for n in (0, 2, 4, 6)]
    assert [id for page in pages for id in page] == whole
    pages = [ids(memory.search("ing of plac", limit=2, offset=n)) for n in (0, 2, 4, 6)]
    assert sorted(id for page in pages for id in page) == sorted(whole)


def test_search_without_spaces_between_words(memory):
    edit = memory.add(make_edit("澳大利亚的首都是悉尼。"))
    assert ids(memory.search("首都")) == [edit.id]
    assert memory.search("首都%") == [] and memory.search("柏林") == []


@settings(deadline=None, max_examples=200)
@given(
    st.one_of(st.text(max_size=30), st.text(alphabet='"*()^:-+{} ANDORNEAT_%\\\x00', max_size=30))
)
def test_no_text_breaks_search(text):
    with Memory(":memory:") as memory:
        memory.add(make_edit("AND OR NEAT cats."))
        try:
            found = memory.search(text)
        except InputError:
            assert any("\ud800" <= character <= "\udfff" for character in text)
        else:
            assert len(found) <= 1


def test_what_was_added_is_found_by_its_own_text(memory):
    edits = memory.add_many([make_edit(f"Town {i} has {i * 7} cats.") for i in range(30)])
    for edit in edits:
        assert memory.search(edit.statement)[0] == edit


def test_ids_are_never_given_twice(memory, monkeypatch):
    monkeypatch.setattr("seprog.memory.store.time.time", lambda: 1e9)
    edits = memory.add_many([make_edit(f"Fact {i}.") for i in range(20)])
    assert len(set(ids(edits))) == 20


def test_a_closed_memory_says_so():
    memory = Memory(":memory:")
    memory.close()
    memory.close()
    with pytest.raises(MemoryFileError, match="closed"):
        memory.count()


def test_threads_share_a_memory(path):
    with Memory(path) as memory:

        def work(number):
            for i in range(10):
                memory.add(make_edit(f"Thread {number} says {i}."))
                memory.list()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert memory.count() == 40


class MemoryMachine(RuleBasedStateMachine):
    """Random changes; the memory agrees with a dict that follows the rules in words."""

    @initialize()
    def open(self):
        self.memory = Memory(":memory:")
        self.active = {}  # id -> (subject, object)

    @rule(subject=st.sampled_from("abc"), object=st.sampled_from("xyz"))
    def add(self, subject, object):
        edit = self.memory.add(make_edit(subject=subject, relation="r", object=object))
        if edit.id not in self.active:
            self.active = {i: so for i, so in self.active.items() if so[0] != subject}
            self.active[edit.id] = (subject, object)
        assert self.active[edit.id] == (subject, object)

    @rule(data=st.data())
    def change(self, data):
        edits = self.memory.list()
        if not edits:
            return
        edit = data.draw(st.sampled_from(edits))
        if edit.active:
            self.memory.forget(edit.id)
            del self.active[edit.id]
        else:
            self.memory.restore(edit.id)
            self.active = {i: so for i, so in self.active.items() if so[0] != edit.subject}
            self.active[edit.id] = (edit.subject, edit.object)

    @invariant()
    def agrees(self):
        active = self.memory.list(active=True)
        assert {edit.id: (edit.subject, edit.object) for edit in active} == self.active
        assert ids(self.memory.as_of(1e12)) == ids(active)
        assert self.memory.count() == len(active)

    def teardown(self):
        self.memory.close()


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


def test_event_actions_are_those_documented():
    assert "superseded" in (Event.__doc__ or "") and records.Event is Event


def test_restoring_takes_the_question_back_from_whoever_took_it_over() -> None:
    with Memory(":memory:") as memory:
        first = memory.add(Edit("Canberra is the capital."))
        second = memory.add(Edit("The capital is Lyon."), supersedes=[first.id])
        third = memory.add(Edit("Sydney it is now."), supersedes=[second.id])
        memory.restore(first.id)
        assert [e.id for e in memory.list(active=True)] == [first.id]
        assert memory.get(third.id).active is False
