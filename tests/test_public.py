"""The public door: what it offers, and that it costs nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import seprog

ROOT = Path(__file__).parents[1]
NAMES = [
    "Answer",
    "Candidate",
    "CausalLM",
    "Edit",
    "Editor",
    "GateDecision",
    "Memory",
    "Prefix",
    "ScopeGate",
    "SelfEncoder",
    "SeprogError",
    "VerbatimGenerator",
]


def test_the_public_names_are_these() -> None:
    assert seprog.__all__ == NAMES == sorted(NAMES)
    for name in NAMES:
        assert getattr(seprog, name).__name__ == name
        assert getattr(seprog, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'Edits'"):
        _ = seprog.Edits


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "numpy", "sqlite3", "rich", "typer"]
    code = f"import sys, seprog; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_the_packages() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == seprog.__version__


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "seprog").rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert silent == []
