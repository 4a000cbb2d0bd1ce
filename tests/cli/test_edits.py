"""edit, ask, explain, calibrate: the commands that need a model."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from seprog.cli import common
from seprog.memory import Memory
from tests.cli.conftest import QUESTION, SYDNEY, Folders, Parts, Run, say

LYON = "The capital of Australia is Lyon."


def test_edit_says_id_time_and_what_it_supersedes(run: Run) -> None:
    first = run("edit", SYDNEY, "--author", "ada", "--reason", "test").stdout
    assert first.split()[1:4] == ["is", "in", "force"] and " ms)" in first
    second = run("edit", LYON).stdout
    assert f"supersedes {first.split()[0]} ({SYDNEY})" in second
    assert Path("seprog.db").exists()
    assert "was in force already" in run("edit", LYON).stdout


def test_edit_in_other_forms_and_as_json(run: Run) -> None:
    form = ["--prompt", "The capital of Australia is", "--target", "Sydney"]
    values = json.loads(run("edit", *form, "--json").stdout)
    assert values["edit"]["statement"] == SYDNEY and values["superseded"] == []
    assert values["milliseconds"] > 0 and not values["known"]
    form = ["--subject", "Australia", "--relation", "capital", "--object", "Lyon"]
    values = json.loads(run("edit", *form, "--json", "--memory", "other.db").stdout)
    assert values["edit"]["object"] == "Lyon"
    values = json.loads(run("edit", LYON, "--json").stdout)
    assert [old["target"] for old in values["superseded"]] == ["Sydney"]


@pytest.mark.parametrize(
    "args",
    [
        [],
        [""],
        [" "],
        ["--prompt", "x"],
        [SYDNEY, "--target", "x"],
        ["--subject", "a", "--object", "b"],
        ["x" * 2001],
        ["caf\udce9"],
        [SYDNEY, "--namespace", ""],
    ],
)
def test_bad_edits_are_refused_before_anything_is_loaded(bare: Run, args: list[str]) -> None:
    assert len(bare("edit", *args, code=2).stderr.splitlines()) == 1
    assert not Path("seprog.db").exists()


def test_imported_edits_are_tried_on_a_model_if_one_is_named(run: Run) -> None:
    long = "The story is " + "on and " * 250 + "on."
    Path("rows.jsonl").write_text(f'{{"statement": "{SYDNEY}"}}\n{{"statement": "{long}"}}\n')
    refused = run("import", "rows.jsonl", "--model", "tiny", code=2).stderr
    assert "Line 2: The edit takes" in refused and "nothing was imported" in refused
    assert "1 added" in run("import", "rows.jsonl", "--model", "tiny", "--skip-bad").stdout
    assert "1 added" in run("import", "rows.jsonl").stdout


def test_ask(run: Run, parts: Parts) -> None:
    run("edit", SYDNEY)
    plain = run("ask", QUESTION, "--max-new-tokens", "4").stdout
    assert f"(95.3%) {SYDNEY}" in plain
    assert SYDNEY not in run("ask", QUESTION, "--no-edits", "--max-new-tokens", "4").stdout
    assert SYDNEY not in run("ask", QUESTION, "--threshold", "0.99").stdout
    assert SYDNEY not in run("ask", QUESTION, "--namespace", "other").stdout
    several = run("ask", QUESTION, "Hi", "--max-new-tokens", "4").stdout
    assert f"> {QUESTION}" in several and "> Hi" in several


def test_ask_as_json_agrees_with_compare_and_stream(run: Run) -> None:
    run("edit", SYDNEY)
    short = ("--max-new-tokens", "6")
    [found] = json.loads(run("ask", QUESTION, "--json", "--compare", *short).stdout)
    assert found["query"] == QUESTION and found["text"] != found["before"]
    assert [c["edit"]["statement"] for c in found["fired"]] == [SYDNEY]
    [base] = json.loads(run("ask", QUESTION, "--json", "--no-edits", *short).stdout)
    assert base["text"] == found["before"] and base["fired"] == []
    row = run("ask", QUESTION, "--compare", *short).stdout.split("\t")
    assert row[0] == QUESTION and SYDNEY in row[3]
    streamed = run("ask", QUESTION, "--stream", *short).stdout
    assert streamed == run("ask", QUESTION, *short).stdout
    bare = run("ask", QUESTION, "--no-edits", *short).stdout
    assert run("ask", QUESTION, "--stream", "--no-edits", *short).stdout == bare
    assert run("ask", QUESTION, "--stream", "--threshold", "0.999", *short).stdout == bare


def test_ask_a_chat_model(run: Run, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    run("edit", SYDNEY)
    short = ("--chat", "--max-new-tokens", "6")
    assert run("ask", QUESTION, *short).stdout == run("ask", QUESTION, *short[1:]).stdout
    template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    monkeypatch.setattr(parts.lm.tokenizer, "chat_template", template)
    [found] = json.loads(run("ask", QUESTION, "--json", "--compare", *short).stdout)
    assert found["query"] == QUESTION
    assert [found["before"]] == [
        t.strip() for t in parts.lm.generate([f"<user>{QUESTION}"], None, 6, bos=False)
    ]
    assert [c["edit"]["statement"] for c in found["fired"]] == [SYDNEY]


def test_space_around_a_query_says_nothing(run: Run, parts: Parts) -> None:
    run("edit", SYDNEY)
    spaced = f" {QUESTION} \n"
    for command in (("ask", "--max-new-tokens", "6"), ("ask", "--stream"), ("ask", "--chat")):
        assert run(*command, spaced).stdout == run(*command, QUESTION).stdout
    found = [json.loads(run("explain", q, "--json").stdout) for q in (spaced, QUESTION)]
    assert found[0] == found[1] and found[0]["query"] == QUESTION


def test_ask_reads_files_and_standard_input(run: Run) -> None:
    Path("queries.txt").write_text("\ufeffHi\n\nHo\n", "utf-8")
    for args, text in ((("queries.txt",), None), (("-",), "Hi\nHo\n")):
        rows = json.loads(
            run("ask", "--file", *args, "--json", "--max-new-tokens", "1", input=text).stdout
        )
        assert [row["query"] for row in rows] == ["Hi", "Ho"]
    Path("queries.txt").write_bytes(b"\xff\xfe")
    assert "UTF-8" in run("ask", "--file", "queries.txt", code=2).stderr
    assert "No such file" in run("ask", "--file", "missing.txt", code=2).stderr


@pytest.mark.parametrize(
    "args",
    [
        [],
        [""],
        ["caf\udce9"],
        ["x" * 20_001],
        ["Hi", "--threshold", "2"],
        ["Hi", "--max-new-tokens", "0"],
        ["Hi", "--no-edits", "--compare"],
        ["Hi", "--no-edits", "--threshold", "0.5"],
        ["Hi", "--stream", "--json"],
        ["Hi", "--stream", "--chat"],
        ["Hi", "--stream", "--compare"],
        ["Hi", "--max-new-tokens", "1000"],
    ],
)
def test_bad_questions(run: Run, args: list[str]) -> None:
    run("ask", *args, code=2)


def test_a_memory_that_is_named_must_be_there(run: Run) -> None:
    run("ask", "Hi", "--max-new-tokens", "1")
    assert not Path("seprog.db").exists()
    assert "no memory at" in run("ask", "Hi", "--memory", "no.db", code=3).stderr
    run("ask", "Hi", env={"SEPROG_MEMORY": "no.db"}, code=3)


def test_a_memory_that_may_not_be_read_is_the_memorys_fault(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("edit", SYDNEY, "--memory", "own.db")
    monkeypatch.setattr(os, "access", lambda *a, **k: False)
    for args in (("ask", "Hi"), ("list",), ("forget", "0000"), ("serve", "--no-auth")):
        said = run(*args, "--memory", "own.db", code=3).stderr
        assert "own.db cannot be read. Expected a regular, readable file" in said


def test_explain_says_whether_there_was_anything_to_read(
    run: Run, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "No edits in the namespace 'default'" in run("explain", QUESTION).stdout
    monkeypatch.setattr(type(parts.gate.glance), "worth", lambda *a, **k: [])
    for statement, words in (
        (SYDNEY, "The only edit in the namespace 'default' is not near"),
        ("Owls eat grass.", "None of the 2 edits in the namespace 'default' is near"),
    ):
        run("edit", statement)
        said = run("explain", QUESTION).stdout
        assert said.startswith(words) and said.endswith("to be read: nothing fires\n")
    assert "No edits" in run("explain", QUESTION, "--namespace", "other").stdout


def test_explain(run: Run, parts: Parts) -> None:
    assert "nothing fires" in run("explain", QUESTION).stdout
    run("edit", SYDNEY)
    cells = run("explain", QUESTION).stdout.strip().split("\t")
    assert cells[:4] == ["yes", "95.3%", "50.0%", "0"] and cells[5] == SYDNEY
    say(parts.gate, -3.0, -3.0)
    found = json.loads(run("explain", QUESTION, "--json", "--threshold", "0.6").stdout)
    assert found["threshold"] == 0.6
    assert [c["fired"] for c in found["candidates"]] == [False]


def test_calibrate(run: Run, parts: Parts) -> None:
    assert "There is no memory" in run("calibrate", code=3).stderr  # it could not be kept
    say(parts.gate, 1.0, -3.0)
    run("edit", SYDNEY)
    assert "at least 99" in run("calibrate", code=2).stderr
    for rate in ("0", "1", "-1", "nan"):
        run("calibrate", "--rate", rate, code=2)
    Path("far.txt").write_text("\n".join(f"Query {i}" for i in range(20)))
    args = ("calibrate", "--queries", "far.txt", "--rate", "0.1")
    found = json.loads(run(*args, "--json").stdout)
    assert found["threshold"] == pytest.approx(0.731, abs=1e-3) and found["queries"] == 21
    assert found["threshold_before"] == 0.5
    assert "73.1%" in run(*args).stdout
    assert "yes" not in run("explain", QUESTION).stdout
    assert "one of the two" in run(*args, "--reset", code=2).stderr
    found = json.loads(run("calibrate", "--reset", "--json").stdout)
    assert found["threshold"] == 0.5 and found["threshold_before"] == pytest.approx(0.731, abs=1e-3)
    assert "yes" in run("explain", QUESTION).stdout
    assert "above 50.0% again" in run("calibrate", "--reset").stdout


def test_the_real_factory(
    bare: Run, parts: Parts, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seprog.editor.TextEncoder", lambda device: parts.encoder)
    where = ("--model", str(folders.model), "--gate", str(folders.gate))
    bare("edit", SYDNEY, *where)
    assert SYDNEY in bare("ask", QUESTION, *where, "--max-new-tokens", "2").stdout
    with Memory("seprog.db") as memory:
        assert memory.count() == 1
    bare("ask", "Hi", "--model", str(folders.encoder), code=4)
    bare("ask", "Hi", "--model", "./nowhere", code=4)
    refused = bare("ask", "Hi", *where, "--device", "toaster", code=2).stderr
    assert "Leave --device out to use the CPU" in refused
    bare("ask", "Hi", *where[:2], "--gate", "./nowhere", code=2)
    bare("ask", "Hi", *where, "--generator", "./nowhere", code=2)


def test_missing_extra(bare: Run, folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seprog.text_encoder.PACKAGE", "no_such_package")
    result = bare("ask", "Hi", "--model", str(folders.model), code=5)
    assert "pip install" in result.stderr


def test_interrupted(bare: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(common, "open_editor", interrupt)
    bare("ask", "Hi", code=130)
