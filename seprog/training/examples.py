"""What a prompt generator learns from: edits in force, a prompt, and the answer it should get.

Either endless examples from Atlas' tables and invented names, or a user's own file: JSON lines with
``{"edits": ["…", …], "prompt": "…", "answer": "…"}``; an answer of ``null`` means that none of the
edits bears on the prompt, so the model must answer as it would without them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from seprog.atlas.scenario import Kind, Probe, Scenario, make_scenario
from seprog.atlas.strange import lexicon, strange_pieces
from seprog.atlas.wording import for_training
from seprog.atlas.world import Split, World
from seprog.data.rows import read_rows
from seprog.errors import InputError
from seprog.types import Example

MIX: dict[Kind, float] = {
    "rewrite": 0.10,
    "paraphrase": 0.22,
    "entailed": 0.28,
    "composed": 0.22,
    "near_miss": 0.11,
    "far": 0.07,
}
"""Share of each kind of prompt among the training examples."""

STRANGE = 0.25
"""Share of examples in words that mean nothing, lest prefixes be made for known phrasings only."""
NOISE = 0.35
"""Share of scrambled phrasings among the training prompts, lest the few there are be learnt."""


def atlas_examples(
    world: World,
    split: Split,
    rng: random.Random,
    words: Sequence[str] = (),
    others: float = 0.0,
) -> Iterator[Example]:
    """Examples of one split, in the proportions of ``MIX``, without end.

    Args:
        world: The tables.
        split: Whose names and phrasings; the training split's phrasings are scrambled at times.
        rng: Source of chance.
        words: Words of which most of the invented names are made; empty leaves them as they are.
        others: Share of the training examples in more writers' phrasings (0 to 1).
    """
    noise = NOISE if split == "train" else 0.0
    while True:
        wording = for_training(others, rng) if split == "train" else split
        scenario = make_scenario(world, split, 24, rng, 0.5, noise, words, wording)
        facts = list(scenario.facts.values())
        probes = list(scenario.in_scope(rng)) + list(scenario.near_misses(rng, facts))
        probes += list(scenario.composed(rng)) + list(scenario.composed(rng))
        probes += list(scenario.far(rng, 6))
        by_kind: dict[Kind, list[Probe]] = {}
        for probe in probes:
            by_kind.setdefault(probe.kind, []).append(probe)
        kinds = [k for k in MIX if k in by_kind]
        for kind in rng.choices(kinds, [MIX[k] for k in kinds], k=24):
            if split == "train" and rng.random() < STRANGE:
                yield _strange(scenario, lexicon(world, words, rng), rng)
            else:
                yield _example(scenario, rng.choice(by_kind[kind]), rng)


def _example(scenario: Scenario, probe: Probe, rng: random.Random) -> Example:
    facts = list(scenario.facts.values())
    distractors = rng.choices((0, 1, 2, 3), (0.75, 0.15, 0.06, 0.04))[0]
    if not probe.used:
        distractors = max(1, distractors)
        near = [f for f in facts if f.subject in probe.prompt]
        chosen = rng.sample(near, min(1, len(near)))
    else:
        chosen = list(probe.used)
    chosen += rng.sample([f for f in facts if f not in chosen], distractors)
    rng.shuffle(chosen)
    statements = tuple(scenario.statement(f) for f in dict.fromkeys(chosen))
    return Example(statements, probe.prompt, probe.answer, probe.kind)


def _strange(scenario: Scenario, words: Sequence[str], rng: random.Random) -> Example:
    """One to three edits in words that mean nothing, and a query about one of them."""
    facts = rng.sample(list(scenario.facts.values()), rng.choice((1, 1, 1, 2, 3)))
    *told, (prompt, _), (answer, _) = strange_pieces(facts, words, 1, rng)
    return Example(tuple(t for t, _ in told), prompt, answer.removesuffix("."), "strange")


def file_examples(path: Path, rng: random.Random, held_out: bool) -> Iterator[Example]:
    """Examples from a user's file, without end; one in ten is held out.

    Args:
        path: JSON lines.
        rng: Source of the order.
        held_out: Whether to give the held-out tenth or the rest.

    Raises:
        InputError: If a row is not an example; the message names it.
    """
    form = 'an object like {"edits": ["…"], "prompt": "…", "answer": "…"}'
    rows = read_rows(path, _parse, form)
    rows = [row for i, row in enumerate(rows) if (i % 10 == 9) == held_out]
    if not rows:
        raise InputError(
            f"{path} has too few examples", "at least 10 examples", "Add more examples"
        )
    while True:
        rng.shuffle(rows)
        yield from rows


def _parse(row: dict[str, Any]) -> Example:
    edits, prompt, answer = row["edits"], row["prompt"], row["answer"]
    if not isinstance(edits, list) or not edits:
        raise ValueError("no list of edits")
    if not all(isinstance(t, str) and t.strip() for t in [*edits, prompt, answer or "-"]):
        raise ValueError("a text is empty or not a text")
    return Example(tuple(edits), prompt, answer)
