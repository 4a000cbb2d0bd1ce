"""``seprog atlas exam``: what a base model knows of Atlas' tables, and how well it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seprog.atlas.exam import examine
from seprog.atlas.world import Split, load_world
from seprog.batching import batches
from seprog.bench.metrics import normalise
from seprog.bench.results import provenance
from seprog.gate import wilson
from seprog.lm import LanguageModel
from seprog.methods.contract import LONGEST_ANSWER


def examine_model(
    lm: LanguageModel, limit: int = 500, seed: int = 0, split: Split = "test"
) -> dict[str, Any]:
    """Ask the base model, without any edit.

    Args:
        lm: The model.
        limit: Items per part, at most.
        seed: Of the choice of items.
        split: As for ``examine``.

    Returns:
        Per part the share of right answers, its 95 % interval and the number of items.
    """

    def ask(prompts: Sequence[str]) -> list[str]:
        answers = [""] * len(prompts)
        for rows in batches([len(p) for p in prompts], 64):
            found = lm.generate([prompts[i] for i in rows], max_new_tokens=LONGEST_ANSWER)
            for i, text in zip(rows, found, strict=True):
                answers[i] = normalise(text)
        return answers

    parts = {}
    for name, (value, n) in examine(load_world(), ask, limit, seed, split).items():
        low, high = wilson(value * n, n)
        parts[name] = {"value": value, "low": low, "high": high, "n": n}
    return {
        "config": {"limit": limit, "seed": seed, "split": split},
        **provenance(),
        "results": parts,
    }
