"""Checkpoints that a killed run resumes from: tensors in safetensors, the rest in JSON.

A checkpoint is written beside the old one and renamed over it, so there is always a whole one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from seprog.errors import InputError


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write a checkpoint atomically.

    Args:
        folder: Where; replaced if it is there.
        tensors: Everything numeric.
        state: Everything else, as JSON can hold it.
    """
    fresh = folder.with_name(folder.name + ".new")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_file(
        {k: v.detach().contiguous().clone() for k, v in tensors.items()}, fresh / "t.safetensors"
    )
    (fresh / "state.json").write_text(json.dumps(state))
    if folder.exists():  # if not, the old one is the only whole one
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read a checkpoint back; ``None`` if there is none."""
    for candidate in (folder, folder.with_name(folder.name + ".old")):
        if (candidate / "state.json").exists():
            state = json.loads((candidate / "state.json").read_text())
            return load_file(candidate / "t.safetensors"), state
    return None


def require_same(folder: Path, state: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to go on with a run of another shape.

    Args:
        folder: The checkpoint; only for the message.
        state: What was saved.
        wanted: The sizes asked for now, by name.

    Raises:
        InputError: If one of them differs.
    """
    for name, value in wanted.items():
        if state.get(name, value) != value:
            raise InputError(
                f"The run in {folder.parent} was begun with {name} {state[name]}, not {value}",
                "the same sizes throughout a run",
                f"Give --{name.replace('_', '-')} {state[name]}, or another folder with --run",
            )
