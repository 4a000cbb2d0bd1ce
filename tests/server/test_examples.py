"""The examples run, as they are, against a server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seprog.editor import Editor
from seprog.server.app import create_app
from seprog.server.settings import Settings
from tests.server.conftest import listening

FOLDER = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(
    make_editor: Callable[..., Editor], tmp_path: Path
) -> Callable[[str], subprocess.CompletedProcess[str]]:
    def start(name: str, *args: str) -> subprocess.CompletedProcess[str]:
        app = create_app(Settings.load(max_tokens=32), make_editor())
        key = app.state.service.keys.add("example", "edit")
        shell = [sys.executable] if name.endswith(".py") else ["bash"]
        with listening(app) as address:
            env = {**os.environ, "SEPROG_SERVER": address, "SEPROG_KEY": key}
            command = [*shell, str(FOLDER / name), *args]
            return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)

    return start


@pytest.mark.parametrize("name", ["ask_openai.py", "langchain_style.py"])
def test_programs(run: Callable[..., subprocess.CompletedProcess[str]], name: str) -> None:
    done = run(name)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run("curl.sh")
    assert done.returncode == 0, done.stderr
    before, edit, after, again = done.stdout.strip().splitlines()
    assert '"fired":[]' in before
    assert '"target":"Milan"' in edit
    assert "Milan" in after
    assert '"fired":[]' in again


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_nightly_import(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    file = tmp_path / "corrections.jsonl"
    file.write_text('{"statement": "The CEO of Acme is Jane Doe."}\n')
    done = run("nightly_import.sh", str(file))
    assert done.returncode == 0, done.stderr
    assert '"added":1' in done.stdout
    again = run("nightly_import.sh", str(file))
    assert '"duplicates":1' in again.stdout
    file.write_text("nonsense\n")
    bad = run("nightly_import.sh", str(file))
    assert bad.returncode == 1
    assert "line 1" in bad.stderr
