"""Files that are not fine, and files that several processes use."""

import multiprocessing
import os
import random
import signal
import sqlite3
import time

import pytest

from seprog.errors import MemoryFileError
from seprog.memory import Memory, database, make_edit
from seprog.memory.migrations import MIGRATIONS, m001_edits_and_events, m002_full_text

FORK = multiprocessing.get_context("fork")  # the child need not import torch again


def refused(path, match, **options):
    with pytest.raises(MemoryFileError, match=match) as caught:
        Memory(path, **options)
    assert caught.value.came and caught.value.expected and caught.value.advice


def intact(path):
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        connection.close()


def test_reopening_keeps_everything(path):
    with Memory(path) as memory:
        edit = memory.add(make_edit("Cats bark."))
        memory.set_meta("key", [1, {"a": None}])
    with Memory(str(path)) as memory:
        assert memory.list() == [edit] and memory.get_meta("key") == [1, {"a": None}]
        assert memory.path == str(path) and not memory.read_only


@pytest.mark.parametrize("name", ["a b?mode=ro#%20&.db", "ä'\".db", os.fsdecode(b"\xff.db")])
def test_any_file_name_will_do(tmp_path, name):
    with Memory(tmp_path / name) as memory:
        memory.add(make_edit("Cats bark."))
    assert (tmp_path / name).exists()


def test_paths_that_hold_no_memory(tmp_path):
    refused(tmp_path, "is a folder")
    refused("", "is a folder")
    refused(tmp_path / "missing" / "memory.db", "does not exist")
    refused(tmp_path / "missing.db", "no memory", read_only=True)
    refused("/dev/null", "regular")
    refused("a\x00b", "NUL")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"hello", b"\x00" * 5000, b"SQLite format 3", os.urandom(99)])
def test_files_that_are_not_sqlite_stay_as_they_are(path, content):
    path.write_bytes(content)
    refused(path, "not a seprog memory")
    assert path.read_bytes() == content


def test_an_empty_file_becomes_a_memory(path):
    path.touch()
    refused(path, "read-only", read_only=True)
    with Memory(path) as memory:
        assert memory.count() == 0


def test_another_program_s_file_stays_as_it_is(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE edits (id)")
    connection.close()
    before = path.read_bytes()
    refused(path, "another program")
    assert path.read_bytes() == before


def test_a_newer_version_is_refused(path):
    Memory(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    refused(path, "newer seprog")


def test_damaged_files(path):
    with Memory(path) as memory:
        memory.add_many([make_edit(f"Fact {i}.") for i in range(300)])
    whole = path.read_bytes()
    for cut in (50, 3000, len(whole) // 2):
        path.write_bytes(whole[:cut])
        with pytest.raises(MemoryFileError), Memory(path) as memory:
            memory.list()
            memory.search("fact")
            memory.add(make_edit("More."))
    path.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    with pytest.raises(MemoryFileError, match=r"damaged|not a seprog"), Memory(path) as memory:
        memory.list()


def test_read_only_reads_and_refuses_to_write(path):
    with Memory(path) as memory:
        edit = memory.add(make_edit("Cats bark."))
    with Memory(path, read_only=True) as memory:
        assert memory.list() == [edit] and memory.search("cats") == [edit] and memory.read_only
        for change in (
            lambda: memory.add(make_edit("Dogs meow.")),
            lambda: memory.forget(edit.id),
            lambda: memory.restore(edit.id),
            lambda: memory.import_rows(['{"statement": "Dogs meow."}']),
            lambda: memory.set_meta("key", 1),
        ):
            with pytest.raises(MemoryFileError, match="cannot be written"):
                change()
        memory.drop_caches()
    with Memory(path, read_only=True) as reader, Memory(path) as writer:
        writer.add(make_edit("Dogs meow."))
        assert reader.count() == 2


def in_child(function, *arguments):
    """Run in a forked process; its exit code is 0 if nothing was raised."""
    child = FORK.Process(target=function, args=arguments)
    child.start()
    child.join(30)
    return child.exitcode


def _read_as_nobody(path, expected):
    os.setuid(65534)
    with Memory(path) as memory:
        assert memory.read_only and memory.count() == expected
        with pytest.raises(MemoryFileError):
            memory.add(make_edit("Dogs meow."))


@pytest.mark.skipif(os.getuid() != 0, reason="needs to become another user")
def test_another_user_reads_a_file_in_a_folder_closed_to_writing(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    for parent in (folder, *folder.parents[:3]):
        parent.chmod(0o755)
    with Memory(folder / "memory.db") as memory:
        memory.add(make_edit("Cats bark."))
    assert in_child(_read_as_nobody, folder / "memory.db", 1) == 0


def test_a_file_without_write_permission_is_opened_for_reading(path, monkeypatch):
    Memory(path).close()
    monkeypatch.setattr(database.os, "access", lambda file, mode: mode != os.W_OK)
    with Memory(path) as memory:
        assert memory.read_only and memory.count() == 0
    monkeypatch.setattr(database.os, "access", lambda file, mode: False)
    refused(path, "cannot be read")


def test_a_full_disk_loses_nothing(path):
    with Memory(path) as memory:
        kept = memory.add_many([make_edit(f"Fact {i}.") for i in range(20)])
        connection = memory._database.connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(MemoryFileError, match="no space left"):
            memory.add_many([make_edit(f"Long {i} {'x' * 1500}.") for i in range(50)])
        assert memory.list() == kept
        connection.execute("PRAGMA max_page_count = 1000000")
        memory.add(make_edit("One more."))
    with Memory(path) as memory:
        assert memory.count() == 21
    assert intact(path)


def test_failures_of_the_disk_are_told(path, monkeypatch):
    with Memory(path) as memory:

        class Broken(sqlite3.Connection):
            def execute(self, *_):
                raise sqlite3.OperationalError("disk I/O error")

        real = memory._database.connection
        monkeypatch.setattr(memory._database, "connection", Broken(":memory:"))
        with pytest.raises(MemoryFileError, match="disk I/O error"):
            memory.add(make_edit("Cats bark."))
        monkeypatch.setattr(memory._database, "connection", real)
        assert memory.count() == 0


def test_a_locked_file_is_waited_for_and_then_reported(path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    with Memory(path) as one, Memory(path) as two, one._database.writing():
        with pytest.raises(MemoryFileError, match="another process"):
            two.add(make_edit("Cats bark."))
        assert two.count() == 0  # reading goes on


# Layouts of earlier versions


@pytest.mark.parametrize(
    "steps", [[m001_edits_and_events], [m001_edits_and_events, m002_full_text]]
)
def test_older_files_are_brought_up_to_date(path, steps):
    connection = sqlite3.connect(path, isolation_level=None)
    for step in steps:
        step(connection)
    connection.execute(f"PRAGMA user_version = {len(steps)}")
    connection.execute(
        "INSERT INTO edits (id, namespace, statement, created_at, active) "
        "VALUES ('abcd', 'default', 'Cats bark.', 1.5, 1)"
    )
    connection.execute("INSERT INTO events (edit_id, action, at) VALUES ('abcd', 'added', 1.5)")
    connection.close()
    refused(path, "older version", read_only=True)
    with Memory(path) as memory:
        assert memory.search("bark") == [memory.get("abcd")] == memory.as_of(2.0)
        assert memory.changes(0) == (1, [memory.get("abcd")])
        assert memory.get_keys("encoder", ["abcd"])[0] == []
        memory.forget("abcd")
    assert intact(path)


def test_a_failing_step_leaves_the_version_before(path, monkeypatch):
    def m004_fails(connection):
        connection.execute("CREATE TABLE half (done)")
        raise sqlite3.OperationalError("interrupted")

    Memory(path).close()
    with monkeypatch.context() as patch:
        for module in ("migrations", "database"):
            patch.setattr(f"seprog.memory.{module}.MIGRATIONS", (*MIGRATIONS, m004_fails))
        refused(path, "interrupted")
    with Memory(path) as memory:
        assert memory.count() == 0
    connection = sqlite3.connect(path)
    assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'half'").fetchall()
    connection.close()


# Several processes


def _write(path, name, count):
    with Memory(path) as memory:
        for i in range(count):
            memory.add(make_edit(f"{name} says {i}."))
            memory.add(make_edit(prompt="Who was last?", target=f"{name} {i}"))


def test_processes_write_to_one_file(path):
    children = [FORK.Process(target=_write, args=(path, f"P{n}", 25)) for n in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    with Memory(path) as memory:
        assert memory.count() == 3 * 25 + 1  # one of the answers is in force
        assert len(memory.list()) == 2 * 3 * 25
    assert intact(path)


def test_changes_of_another_process_are_seen(path):
    with Memory(path) as memory:
        before = memory.revision()
        assert in_child(_write, path, "P", 1) == 0
        assert memory.revision() > before and memory.count() == 2


def _write_until_killed(path, pipe, round_number):
    with Memory(path) as memory:
        for i in range(1_000_000):
            edit = memory.add(make_edit(f"Round {round_number} says {i}."))
            os.write(pipe, f"{edit.id}\n".encode())
            if i % 3 == 2:
                memory.forget(edit.id)


def _killed_round(path, round_number, seconds):
    """Ids that a writer had back from ``add`` before it was killed."""
    reading, writing = os.pipe()
    child = FORK.Process(target=_write_until_killed, args=(path, writing, round_number))
    child.start()
    os.close(writing)
    time.sleep(seconds)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    return told[: told.rfind(b"\n") + 1].decode().split()


def test_kill_9_loses_no_acknowledged_edit(path):
    chance = random.Random(0)
    acknowledged = []
    for round_number in range(12):
        seconds = chance.uniform(0.0, 0.03 if round_number < 4 else 0.3)  # also while it is made
        acknowledged += _killed_round(path, round_number, seconds)
        with Memory(path) as memory:
            kept = {edit.id for edit in memory.list()}
            assert kept >= set(acknowledged)
            assert {event.edit_id for event in memory.history()} == kept
            assert len(memory.search("says", limit=10**6, active=None)) == len(kept)
        assert intact(path)
    assert len(acknowledged) > 50
