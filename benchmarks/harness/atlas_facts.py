"""The questions of the task ``atlas_facts``."""

from __future__ import annotations

import random
from typing import Any

from datasets import Dataset

from seprog.atlas.exam import closed_book
from seprog.atlas.world import load_world


def questions(**_: Any) -> dict[str, Dataset]:
    """Three hundred facts in phrasings of the test split, each with three wrong answers."""
    world, rng, rows = load_world(), random.Random(0), []
    for prompt, answer in closed_book(world, "test", rng, 300):
        kinds = {world.relations[r].object for (r, _), v in world.facts.items() if v == answer}
        pool = [o for kind in sorted(kinds) for o in world.objects(kind) if o != answer]
        choices = [answer, *rng.sample(sorted(set(pool)), 3)]
        rng.shuffle(choices)
        rows.append({"question": prompt, "choices": choices, "label": choices.index(answer)})
    return {"test": Dataset.from_list(rows)}
