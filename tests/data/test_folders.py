"""Data sets lie in a folder, or on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from seprog.data.folders import FILES, ROWS, TABLES, files_of, folder_of
from seprog.errors import InputError


def test_a_folder_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder_of(tmp_path) == tmp_path
    (tmp_path / "own" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert folder_of(Path("own/name")) == Path("own/name")


def test_a_name_is_fetched_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, dict[str, Any]]] = []

    def fetch(name: str, **options: Any) -> str:
        asked.append((name, options))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert folder_of(Path("zjunlp/KnowEdit")) == tmp_path
    [(name, options)] = asked
    assert name == "zjunlp/KnowEdit" and options["repo_type"] == "dataset"


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("offline"), OSError("no network")])
def test_what_cannot_be_fetched_is_refused(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(InputError, match="could not be fetched"):
        folder_of(Path("zjunlp/KnowEdit"))


@pytest.mark.parametrize("path", ["nowhere", "/no/where", "a/b/c", "./a", "../a"])
def test_what_is_no_name_is_a_missing_folder(path: str) -> None:
    with pytest.raises(InputError, match="no folder"):
        folder_of(Path(path))


def test_files_are_found_at_any_depth_in_an_order_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "snapshot"
    names = ["a.jsonl", "b/x/c.json.gz", "b/a.json", "c.jsonl.gz"]
    others = ["t.tsv", "b/a.json.metadata", ".git/a.json", "b/.cache/a.jsonl", "c.jsonl.bak"]
    for name in [*reversed(names), *others]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    (folder / "folder.json").mkdir()
    found = [path.relative_to(folder).as_posix() for path in files_of(folder)]
    assert found == ["a.jsonl", "b/a.json", "b/x/c.json.gz", "c.jsonl.gz"]
    assert files_of(folder, TABLES) == [folder / "t.tsv"]


def test_what_is_looked_for_is_fetched() -> None:
    assert {f"*{ending}" for ending in (*ROWS, *TABLES)} <= set(FILES)
