"""The tasks' files: wherever they lie in a folder, and whatever lies beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seprog.bench import counterfact, knowedit, mquake, zsre
from seprog.errors import InputError
from tests.data import questions, records, walks, wiki

TASKS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], list[Any]]]] = {
    "counterfact": (records.write, counterfact._cases),
    "knowedit": (wiki.write, knowedit._cases),
    "zsre": (questions.write, zsre._cases),
    "mquake": (walks.write, mquake._cases),
}


@pytest.mark.parametrize("name", TASKS)
def test_files_of_others_change_nothing(name: str, tmp_path: Path) -> None:
    write, cases = TASKS[name]
    expected = cases(write(tmp_path / "alone"))
    folder = tmp_path / "together"
    for other, (write, _) in TASKS.items():
        write(folder / "benchmark" / other)
    (folder / "dataset_infos.json").write_text(json.dumps({"default": {}}, indent=2))
    assert cases(folder) == expected


@pytest.mark.parametrize("name", TASKS)
def test_a_folder_of_others_only_is_refused(name: str, tmp_path: Path) -> None:
    _, cases = TASKS[name]
    for other, (write, _) in TASKS.items():
        if other != name:
            write(tmp_path / other)
    with pytest.raises(InputError) as raised:
        cases(tmp_path)
    assert all((raised.value.came, raised.value.expected, raised.value.advice))


@pytest.mark.parametrize("name", TASKS)
def test_a_wrong_row_is_refused_at_any_depth(name: str, tmp_path: Path) -> None:
    write, cases = TASKS[name]
    folder = write(tmp_path / "benchmark" / name)
    file = next(folder.glob("*.jsonl"))
    number = len(file.read_text().splitlines()) + 1
    file.write_text(file.read_text() + '\n{"case_id": 1}')
    with pytest.raises(InputError, match=f"Row {number} of .*{file.name}"):
        cases(tmp_path)
