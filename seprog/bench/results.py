"""Results: what they were made with, and how they are kept."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from seprog import __version__


def save(
    result: Mapping[str, Any],
    out: Path | None,
    rows: Iterable[Mapping[str, Any]],
    answers: Path | None,
) -> None:
    """Write a result and the answers behind it, where they are wanted.

    Args:
        result: The figures; the name of the answers' file is put beside them.
        out: Where they go, as JSON; ``None``: nowhere.
        rows: Every single answer.
        answers: Where they go, as JSON lines; ``None``: nowhere.
    """
    if answers is not None:  # first: a result is there only once its answers are
        answers.parent.mkdir(parents=True, exist_ok=True)
        with answers.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        result = {**result, "answers": answers.name}
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        written = out.with_name(out.name + ".part")
        written.write_text(json.dumps(result, indent=1) + "\n")
        written.replace(out)


def provenance(**parts: str) -> dict[str, Any]:
    """Versions and commit that a result was made with.

    Args:
        **parts: What else, by name: the fingerprints of models, gate and generator.
    """
    versions = {
        "seprog": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
    found = {"versions": versions, "commit": _commit()}
    return found | ({"fingerprints": parts} if parts else {})


def _commit() -> str:
    """The commit, with a word behind it if files that belong to it were changed."""

    def git(*args: str) -> str:
        done = subprocess.run(
            ["git", *args], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", ".")
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
