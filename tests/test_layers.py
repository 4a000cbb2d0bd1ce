"""Imports go one way: each room sees only those in the columns to its left."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COLUMNS = (
    ("types", "errors", "batching", "fingerprint", "lora", "atlas", "atlas.world"),
    ("lm", "memory", "text_encoder", "chat", "data", "atlas.fiction", "atlas.wording"),
    ("atlas.strange",),
    ("generator", "gate", "atlas.exam", "atlas.corpus"),
    ("editor", "atlas.tokens", "atlas.scenario"),
    ("training",),
    ("methods",),
    ("atlas.build",),
    ("bench",),
    ("server",),
    ("cli",),
    ("__main__",),
)
"""From left to right. A room is a module or a whole package; rooms of one column ignore each other.

``seprog`` itself (the public names, loaded on demand) may be imported from anywhere, and imports
nothing when it is loaded. ``atlas`` alone is its ``__init__``, which says where the weights lie.
"""
COLUMN = {room: i for i, rooms in enumerate(COLUMNS) for room in rooms}
MODULES = sorted(p for p in (ROOT / "seprog").rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "seprog").with_suffix("").parts
    return ".".join(parts).removesuffix("__init__").removesuffix(".")


def room_of(module: str) -> str:
    """The longest room that the module is or lies in; atlas' modules are rooms of their own."""
    if module == "atlas" or module.startswith("atlas."):
        return module
    return module.split(".")[0]


def imports(path: Path) -> set[str]:
    """Modules of seprog that a file imports, without ``seprog.`` in front."""
    found: set[str] = set()
    modules = {module_of(p) for p in MODULES}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            inner = [f"{node.module}.{a.name}" for a in node.names]
            names = [n if n.removeprefix("seprog.") in modules else str(node.module) for n in inner]
        else:
            continue
        found |= {
            n.removeprefix("seprog").removeprefix(".") for n in names if n.split(".")[0] == "seprog"
        }
    return found - {""}


def test_every_module_has_a_column() -> None:
    rooms = {room_of(module_of(p)) for p in MODULES} - {""}
    assert rooms == set(COLUMN)


@pytest.mark.parametrize("path", MODULES, ids=[module_of(p) or "seprog" for p in MODULES])
def test_imports_go_from_right_to_left(path: Path) -> None:
    module = module_of(path)
    if not module:
        return
    for other in imports(path):
        mine, theirs = room_of(module), room_of(other)
        assert mine == theirs or COLUMN[theirs] < COLUMN[mine], f"{module} imports {other}"


def test_the_world_knows_nothing_of_models() -> None:
    """Facts and scenarios need the standard library only."""
    plain = ["atlas.world", "atlas.fiction", "atlas.wording", "atlas.corpus", "atlas.exam"]
    for module in [*plain, "atlas.scenario", "errors"]:
        tree = ast.parse((ROOT / "seprog" / f"{module.replace('.', '/')}.py").read_text())
        heavy = {
            name.split(".")[0]
            for node in ast.walk(tree)
            for name in (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [str(node.module)]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert not heavy & {"torch", "transformers", "numpy", "tokenizers"}, module
