"""``seprog eval atlas``: the whole system on Atlas, with names and phrasings never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seprog.atlas.world import Wording
from seprog.bench.course import AtlasCourse
from seprog.bench.evaluation import evaluate as evaluate_methods
from seprog.bench.workshop import Workshop
from seprog.editor import Editor
from seprog.lm import CausalLM
from seprog.methods.contract import require_known

METHODS = ("none", "verbatim", "seprog", "in_context_oracle", "in_context_retrieved")


def evaluate(
    editor: Editor,
    edits: Sequence[int] = (1, 10, 100, 1000),
    methods: Sequence[str] = METHODS,
    seed: int = 0,
    out: Path | None = None,
    answers: Path | None = None,
    progress: bool = True,
    wording: Wording = "test",
) -> dict[str, Any]:
    """Evaluate methods behind the same gate, at several numbers of edits.

    Args:
        editor: Base model, gate and trained generator; its memory is not touched.
        edits: Sizes of memory.
        methods: Names from ``METHODS``.
        seed: Of edits and probes.
        out: Where the result goes, as JSON.
        answers: Where every single answer goes, as JSON lines.
        progress: Whether to show progress bars.
        wording: As for ``plan``.

    Returns:
        The result, as it is written to ``out``.

    Raises:
        InputError: If a method is not known.
    """
    require_known(methods, METHODS)
    assert isinstance(editor.lm, CausalLM)
    shop = Workshop(AtlasCourse(editor.lm, wording), Path(), editor=lambda: editor)
    return evaluate_methods(shop, edits, methods, seed, out, answers, progress)
