"""``seprog bench load`` against a server on a random model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seprog.bench.load import Load, measure
from seprog.editor import Editor
from seprog.errors import InputError
from seprog.server.app import create_app
from seprog.server.settings import Settings
from tests.server.conftest import listening

HOW = Load(edits=12, clients=(1, 3), seconds=0.6, turns=1, max_tokens=4)


def test_a_server_is_measured_with_and_without_editing(
    make_editor: Callable[..., Editor], tmp_path: Path
) -> None:
    app = create_app(Settings.load(), make_editor())
    key = app.state.service.keys.add("load", "edit", ("load",))
    with listening(app) as address:
        with pytest.raises(InputError, match="401"):
            measure(address, None, "load", HOW)
        result = measure(address, key, "load", HOW, tmp_path / "load.json")
        measure(address, key, "load", HOW)
        assert app.state.service.memory.count("load") == 12
    assert (tmp_path / "load.json").exists()
    rows = {(r["clients"], r["edits"]): r for r in result["results"]}
    assert set(rows) == {(1, False), (1, True), (3, False), (3, True)}
    for (_, edits), row in rows.items():
        assert row["n"] > 0
        assert 0 < row["p50"] <= row["p99"] < 10
        assert row["tokens_per_second"] > 0
        assert (row["fired"] > 0) == edits
        if not edits:
            assert row["ratio"] == 1


def test_no_server_is_no_traceback() -> None:
    with pytest.raises(InputError, match="seprog serve"):
        measure("http://127.0.0.1:9", None, "load", HOW)
