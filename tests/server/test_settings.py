"""What the server is told: by flag, environment, file, in this order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seprog.errors import InputError
from seprog.server.settings import Settings


def test_flags_go_before_environment_before_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "server.toml"
    file.write_text('host = "::1"\nport = 1\nbatch = 2\ncors_origins = ["https://a.b"]\n')
    monkeypatch.setenv("SEPROG_PORT", "3")
    monkeypatch.setenv("SEPROG_BATCH", "4")
    found = Settings.load(file, batch=5, host=None)
    assert (found.host, found.port, found.batch) == ("::1", 3, 5)
    assert found.cors_origins == ("https://a.b",)
    assert Settings.load().port == 3


def test_lists_in_the_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPROG_CORS_ORIGINS", '["https://a.b"]')
    assert Settings.load().cors_origins == ("https://a.b",)
    monkeypatch.setenv("SEPROG_CORS_ORIGINS", "https://a.b")
    with pytest.raises(InputError, match=r"cors_origins.*JSON"):
        Settings.load()


def test_a_model_is_called_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine" / "inner"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    names = {model: Settings.load(model=model).name for model in (".", "..", "org/theirs", "./a/")}
    assert names == {".": "inner", "..": "mine", "org/theirs": "theirs", "./a/": "a"}
    assert Settings.load().name == "atlas"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"port": 70_000}, "port"),
        ({"batch": 0}, "batch"),
        ({"colour": "red"}, "colour"),
        ({"log_level": "loud"}, "log_level"),
        ({"auth": False, "host": "0.0.0.0"}, "other machines"),
        ({"auth": False, "host": "example.org"}, "other machines"),
    ],
)
def test_what_does_not_fit_is_refused(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Settings.load(**flags)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        Settings.load(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("port = = 3")
    with pytest.raises(InputError, match="TOML"):
        Settings.load(bad)
    bad.write_text("colour = 3")
    with pytest.raises(InputError, match="colour"):
        Settings.load(bad)


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_a_misspelt_setting_is_told_the_right_one(tmp_path: Path, name: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(f"{name[:1] + name[2:]}x = 5")
    with pytest.raises(InputError, match=rf"Expected {name}, .*--print-config"):
        Settings.load(file)
