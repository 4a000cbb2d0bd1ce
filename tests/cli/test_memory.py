"""list, show, history, forget, restore, import, export: the commands that need no model."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from seprog.memory import Memory, make_edit
from seprog.types import Edit
from tests.cli.conftest import SYDNEY, Parts, Run, say


@pytest.fixture
def edits(bare: Run) -> list[Edit]:
    """Three in force, one superseded, one in another namespace."""
    with Memory("seprog.db") as memory:
        old = memory.add(make_edit(prompt="The capital of Australia is", target="Lyon"))
        rest = [
            make_edit(prompt="The capital of Australia is", target="Sydney", author="ada"),
            make_edit("Paris is \x1b[31mred\x1b[0m."),
            make_edit("[bold]Rome[/bold] is old."),
            make_edit("Oslo is north.", namespace="other"),
        ]
        return [old, *memory.add_many(rest)]


def test_list(bare: Run, edits: list[Edit]) -> None:
    lines = [line.split("\t") for line in bare("list").stdout.splitlines()]
    assert [line[0] for line in lines] == [e.id for e in edits[1:4]]
    assert lines[1][3] == "Paris is  [31mred [0m." and lines[2][3] == "[bold]Rome[/bold] is old."
    assert len(bare("list", "--all").stdout.splitlines()) == 4
    assert "Oslo" in bare("list", "--namespace", "other").stdout
    found = json.loads(bare("list", "--json", "--limit", "1", "--offset", "1").stdout)
    assert [row["id"] for row in found] == [edits[2].id]
    assert "--offset 2" in bare("list", "--limit", "2").stderr


def test_list_search(bare: Run, edits: list[Edit]) -> None:
    assert SYDNEY in bare("list", "--search", "capital").stdout
    assert len(json.loads(bare("list", "--search", "capital", "--all", "--json").stdout)) == 2
    assert "No edits found" in bare("list", "--search", "zebra").stderr
    bare("list", "--search", "caf\udce9", code=2)
    bare("list", "--namespace", "caf\udce9", code=2)


def test_no_memory_yet(bare: Run) -> None:
    assert bare("list", "--json").stdout == "[]\n"
    assert bare("export").stdout == ""
    bare("show", "abcd", code=2)
    assert not Path("seprog.db").exists()


def test_show_and_history(bare: Run, edits: list[Edit]) -> None:
    text = bare("show", edits[1].id).stdout
    assert SYDNEY in text and "ada" in text and f"in place of {edits[0].id}" in text
    found = json.loads(bare("show", edits[0].id, "--json").stdout)
    assert [e["action"] for e in found["events"]] == ["added", "superseded"]
    assert not found["active"]
    assert len(bare("history").stdout.splitlines()) == 5
    assert len(bare("history", "--limit", "2").stdout.splitlines()) == 2
    rows = json.loads(bare("history", edits[0].id, "--json").stdout)
    assert rows[1]["other_id"] == edits[1].id


def test_forget_and_restore(bare: Run, edits: list[Edit]) -> None:
    new, old = edits[1].id, edits[0].id
    assert SYDNEY in bare("forget", new, "--author", "bob", "--reason", "wrong").stdout
    assert "wrong" in bare("history", new).stdout
    bare("forget", new, code=2)
    bare("restore", new)
    found = json.loads(bare("restore", old, "--json").stdout)
    assert found["edit"]["active"] and [e["id"] for e in found["superseded"]] == [new]
    assert json.loads(bare("forget", old, "--json").stdout)["edit"]["active"] is False


def test_what_is_restored_takes_the_place_of_what_says_the_same(run: Run, parts: Parts) -> None:
    say(parts.gate, 1.0, -3.0)
    rows = [{"statement": SYDNEY}, {"statement": "Australia is governed from Perth."}]
    for row in rows:
        run("import", "-", input=json.dumps(row))
    old, new = (row["id"] for row in json.loads(run("list", "--json").stdout))
    say(parts.gate, 1.0, 3.0)  # every edit answers every other's question
    run("forget", old)
    found = json.loads(run("restore", old, "--json").stdout)
    assert found["superseded"] == [], "the same prompt or triple only"
    run("forget", old)
    found = json.loads(run("restore", old, "--model", "atlas", "--json").stdout)
    assert [e["id"] for e in found["superseded"]] == [new]


def test_starts_of_ids(bare: Run) -> None:
    rows = [json.dumps({"statement": f"{i} is it.", "id": f"abcd{i}efg"}) for i in range(2)]
    bare("import", "-", input="\n".join(rows))
    assert "1 is it." in bare("show", "abcd1").stdout
    assert "Several ids" in bare("show", "abcd", code=2).stderr
    assert "Did you mean abcd1efg" in bare("show", "abcd1efh", code=2).stderr


def test_namespaces_are_kept_apart(bare: Run, edits: list[Edit]) -> None:
    for command in ("show", "forget", "restore"):
        result = bare(command, edits[4].id, "--namespace", "default", code=2)
        assert "belongs to the namespace 'other'" in result.stderr
    bare("forget", edits[4].id, "--namespace", "other")


def test_export_and_import(bare: Run, edits: list[Edit]) -> None:
    rows = [json.loads(line) for line in bare("export").stdout.splitlines()]
    assert [row["id"] for row in rows] == [e.id for e in edits[1:]]
    assert len(bare("export", "--namespace", "other").stdout.splitlines()) == 1
    assert "5 edits" in bare("export", "--history", "--output", "all.jsonl").stdout
    other = ("--memory", "copy.db")
    counts = json.loads(bare("import", "all.jsonl", *other, "--json").stdout)
    assert counts == {"added": 5, "duplicates": 0, "superseded": 0, "errors": []}
    assert bare("export", "--history", *other).stdout == bare("export", "--history").stdout
    assert "0 added, 5 known already" in bare("import", "all.jsonl", *other).stdout


def test_import_with_bad_rows(bare: Run) -> None:
    Path("rows.jsonl").write_text(
        '{"statement": "A is B."}\n{"statement": ""}\n\nnot json\n{"prompt": "x"}\n'
    )
    result = bare("import", "rows.jsonl", code=2)
    assert [line[:7] for line in result.stderr.splitlines()[:3]] == [
        "Line 2:",
        "Line 4:",
        "Line 5:",
    ]
    assert "nothing was imported" in result.stderr and bare("list", "--json").stdout == "[]\n"
    found = json.loads(bare("import", "rows.jsonl", "--skip-bad", "--json").stdout)
    assert found["added"] == 1 and [e["line"] for e in found["errors"]] == [2, 4, 5]
    assert "3 bad rows" in bare("import", "rows.jsonl", "--skip-bad").stdout
    bare("import", "rows.jsonl", "--skip-bad", "--namespace", "n", "--memory", "n.db")
    assert "A is B." in bare("list", "--namespace", "n", "--memory", "n.db").stdout
    Path("rows.jsonl").write_bytes(b'{"statement": "\xff"}')
    bare("import", "rows.jsonl", code=2)
    bare("import", "missing.jsonl", code=2)
    bare("import", "missing\udce9.jsonl", code=2)


def test_import_counts_bad_rows_in_english(bare: Run) -> None:
    for lines, said in (("nonsense\n", "has 1 bad row,"), ("1\n[]\n", "has 2 bad rows,")):
        assert said in bare("import", "-", input=lines, code=2).stderr
    passed = bare("import", "-", "--skip-bad", input='{"statement": "A is B."}\n3').stdout
    assert "1 added" in passed and "1 bad row passed over" in passed


def test_import_with_a_model_replaces_what_answers_the_same(run: Run) -> None:
    rows = [
        json.dumps({"statement": f"The capital of Australia is {x}."}) for x in ("Sydney", "Lyon")
    ]
    found = json.loads(run("import", "-", "--json", input="\n".join(rows)).stdout)
    assert found["superseded"] == 0 and len(run("list").stdout.splitlines()) == 2
    other = ("--memory", "other.db")
    run("edit", "The capital of Australia is Perth.", *other)
    told = run("import", "-", "--model", "atlas", *other, input="\n".join(rows)).stdout
    assert "2 added, 0 known already, 2 superseded" in told
    assert (
        "Lyon" in run("list", *other).stdout and len(run("list", *other).stdout.splitlines()) == 1
    )


def test_export_leaves_links_modes_and_devices_as_they_are(bare: Run, edits: list[Edit]) -> None:
    lines = bare("export").stdout
    Path("folder").mkdir()
    target, link, dangling = Path("folder/old.jsonl"), Path("link"), Path("dangling")
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to(target)
    dangling.symlink_to("folder/new.jsonl")
    for path in (link, dangling):
        assert "4 edits written" in bare("export", "--output", str(path)).stdout
        assert path.is_symlink() and path.read_text() == lines
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in Path("folder").iterdir()) == ["new.jsonl", "old.jsonl"]
    os.mkfifo("pipe")
    with subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        assert bare("export", "--output", "pipe").stdout == ""
        assert reader.communicate(timeout=20)[0] == lines
    assert Path("pipe").is_fifo()
    assert bare("export", "--output", "/dev/null").stdout == ""
    assert Path("/dev/null").is_char_device()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_is_said_in_words(bare: Run, edits: list[Edit]) -> None:
    for command in ("export --output /dev/full", "export > /dev/full"):
        done = subprocess.run(
            f"{sys.executable} -m seprog {command}",
            shell=True,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert done.returncode == 2
        assert "no space left" in done.stderr and "Free some space" in done.stderr


def test_export_never_harms_a_file(bare: Run, edits: list[Edit]) -> None:
    assert "memory itself" in bare("export", "--output", "seprog.db", code=2).stderr
    bare("export", "--output", "no/such/folder", code=2)
    assert "folder" in bare("export", "--output", ".", code=2).stderr
    assert sorted(p.name for p in Path().iterdir() if "part" in p.name) == []
    assert len(bare("list").stdout.splitlines()) == 3


def test_files_that_are_no_memories(bare: Run, tmp_path: Path) -> None:
    Path("text.db").write_text("Hello, this is not a database at all.")
    assert "not a seprog memory" in bare("list", "--memory", "text.db", code=3).stderr
    with sqlite3.connect("foreign.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    assert "another program" in bare("list", "--memory", "foreign.db", code=3).stderr
    with Memory("newer.db"):
        pass
    with sqlite3.connect("newer.db") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    assert "Upgrade" in bare("list", "--memory", "newer.db", code=3).stderr
    bare("list", "--memory", str(tmp_path), code=3)
    bare("import", "-", "--memory", "no/such/folder.db", code=3, input="")
    bare("list", env={"SEPROG_MEMORY": "text.db"}, code=3)


def test_a_closed_pipe_is_quiet(bare: Run) -> None:
    with Memory("seprog.db") as memory:
        memory.add_many([make_edit(f"Thing {i} is {'long ' * 300}.") for i in range(200)])
    command = f"{sys.executable} -m seprog export | head -n 1"
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, env={"PYTHONPATH": root}
    )
    assert done.stderr == "" and done.stdout.startswith("{")
