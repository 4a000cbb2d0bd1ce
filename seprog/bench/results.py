"""Results: what they were made with, and how they are kept."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from seprog import __version__
from seprog.bench.metrics import Record, score


def write_json(path: Path, value: Any) -> None:
    """Write a file as a whole, so that a run that is stopped leaves the one before or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1) + "\n", "utf-8")
    part.replace(path)


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
        write_json(out, result)


def entries(
    method: str,
    edits: int,
    records: Sequence[Record],
    costs: dict[str, dict[str, float]],
    protocol: str = "sequential",
) -> list[dict[str, Any]]:
    """A method's rows of a result, by when was asked; what edits cost stands with ``after_all``."""
    found = []
    for when in ("after_all", "right_after", "after_changes"):
        metrics = score([r for r in records if r.when == when])
        metrics |= costs if when == "after_all" else {}
        where = {"protocol": protocol, "method": method, "edits": edits, "when": when}
        if metrics:
            found.append({**where, "metrics": metrics})
    return found


def written(
    edits: Sequence[int],
    methods: Sequence[str],
    dataset: str,
    seed: int,
    results: Sequence[dict[str, Any]],
    records: Sequence[tuple[str, Record]],
    out: Path | None,
    answers: Path | None,
    parts: Mapping[str, str],
    **more: Any,
) -> dict[str, Any]:
    """The result of so many edits by some methods, with more beside it, saved where it is wanted.

    Args:
        edits: Numbers of edits.
        methods: Who was measured.
        dataset: On what.
        seed: Of edits and probes.
        results: As from ``entries``.
        records: Every answer, with the protocol that it belongs to.
        out: Where the result goes.
        answers: Where every single answer goes.
        parts: The fingerprints of what it was made with.
        **more: To be noted, too.
    """
    result = {
        "config": {
            "dataset": dataset,
            "edits": list(edits),
            "methods": list(methods),
            "seed": seed,
        },
        **provenance(**parts),
        **more,
        "results": list(results),
    }
    where = {"dataset": dataset, "seed": seed}
    save(result, out, [where | {"protocol": p} | r.row() for p, r in records], answers)
    return result


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
