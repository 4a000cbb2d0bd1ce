from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from scripts.cli_docs import PAGE, commands, page
from seprog import __version__
from seprog.atlas.build import AtlasConfig
from seprog.cli.main import app
from seprog.training.classifier import ClassifierTraining
from seprog.training.gate import GateTraining
from seprog.training.generator import GeneratorTraining
from tests.cli.conftest import Run


def leaves() -> Iterator[tuple[str, Any]]:
    root: Any = get_command(app)
    context = root.make_context("seprog", [], resilient_parsing=True)
    for command, inner in commands(root, context):
        yield inner.command_path.removeprefix("seprog "), command


LEAVES = dict(leaves())
READABLE = "edit ask explain list show history forget restore import calibrate doctor".split()


def test_all_commands_are_there() -> None:
    assert set(LEAVES) == {*READABLE, "demo", "export"} | {
        "train gate",
        "train generator",
        "train classifier",
        "eval atlas",
        "eval leapofthought",
        "eval fever",
        "eval counterfact",
        "eval knowedit",
        "eval mquake",
        "eval zsre",
        "eval peers",
        "bench run",
        "bench report",
        "bench harness",
        "bench cost",
        "bench load",
        "atlas build",
        "atlas exam",
        "serve",
        "keys add",
        "keys list",
        "keys revoke",
    }


@pytest.mark.parametrize("name", LEAVES)
def test_help_ends_with_an_example(name: str, bare: Run) -> None:
    text = bare(*name.split(), "--help", env={"COLUMNS": "200"}).stdout
    assert f"seprog {name}" in text.split("Example:")[1]
    assert LEAVES[name].help


@pytest.mark.parametrize("name", LEAVES)
def test_common_options(name: str) -> None:
    options = {p.name: p for p in LEAVES[name].params}
    measures = name.startswith("eval") or name in ("atlas exam", "bench cost", "bench load")
    readable = name in READABLE or name in ("keys add", "keys list")
    assert ("json" in options) == (readable or measures)
    if "memory" in options:
        assert options["memory"].envvar == "SEPROG_MEMORY"
        for_all = name in ("serve", "keys list", "keys revoke")  # whatever the namespace
        assert ("namespace" in options) != for_all
    if "model" in options and name != "doctor":
        assert options["model"].envvar == "SEPROG_MODEL"


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("train gate", GateTraining()),
        ("train generator", GeneratorTraining()),
        ("train classifier", ClassifierTraining()),
        ("atlas build", AtlasConfig()),
    ],
)
def test_training_options_are_the_fields_with_their_defaults(name: str, config: Any) -> None:
    found = {p.name: p.default for p in LEAVES[name].params}
    extra = {"out", "run", "model", "data", "start_from", "base", "help"}
    assert {k: v for k, v in found.items() if k not in extra} == dataclasses.asdict(config)


def test_version(bare: Run) -> None:
    assert bare("--version").stdout == f"seprog {__version__}\n"


def test_without_a_command_it_helps(bare: Run) -> None:
    assert "Usage: seprog" in bare().stdout


def test_usage_errors_are_one_line(bare: Run) -> None:
    groups = (["train"], ["keys"])
    for args in (["nope"], ["edit", "--foo"], ["show"], *groups, ["list", "--limit", "x"]):
        result = bare(*args, code=2)
        assert len(result.stderr.splitlines()) == 1
        assert "Try: seprog" in result.stderr
        assert "Error: ." not in result.stderr


def test_help_loads_no_heavy_package() -> None:
    code = (
        "import sys, seprog.cli.main as m; m.app(['edit', '--help'], standalone_mode=False); "
        "print([n for n in ('torch', 'transformers', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("package", ["typer", "rich", "seprog.cli.ask", "typer._adapters"])
def test_an_interrupt_while_it_loads_is_quiet(package: str) -> None:
    code = f"""
import sys
class Interrupted:
    def find_spec(self, name, *rest):
        if name == {package!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
sys.argv[1:] = ["list"]
from seprog.cli.main import run
run()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_docs_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SEPROG_MEMORY", "SEPROG_MODEL"):
        monkeypatch.delenv(name, raising=False)
    assert page() == PAGE.read_text("utf-8"), "run: python scripts/cli_docs.py"


def test_files_are_short() -> None:
    folder = Path(sys.modules["seprog.cli.main"].__file__ or "").parent
    assert all(len(f.read_text().splitlines()) <= 200 for f in folder.glob("*.py"))
