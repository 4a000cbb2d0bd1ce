"""What a generator and a gate learn from FEVER: edits that say of a claim whether it holds.

Whether they say the truth is drawn by lot: the base model knows the truth of many a claim.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal

from seprog.data.fever import Claim, Fever, Pair
from seprog.training.classifier import label
from seprog.training.scopes import Scopes, Stage, followed
from seprog.types import Edit, Example

Kind = Literal["rewrite", "entailed", "unrelated"]
MIX: dict[Kind, float] = {"rewrite": 0.4, "entailed": 0.3, "unrelated": 0.3}
"""Share of each kind of example: the claim itself; a claim that it excludes; another claim, half of
the time from the same page."""


def claim_examples(fever: Fever, rng: random.Random) -> Iterator[Example]:
    """Examples for a generator, in the proportions of ``MIX``, without end."""
    by_page: dict[str, list[Claim]] = defaultdict(list)
    for claim in fever.claims:
        by_page[claim.page].append(claim)
    kinds = [k for k in MIX if k != "entailed" or fever.pairs]
    while True:
        for kind in rng.choices(kinds, [MIX[k] for k in kinds], k=64):
            claim, holds = rng.choice(fever.claims), rng.random() < 0.5
            told, prompt, answer = claim.stated(holds), claim.text, label(holds)
            about = {claim}
            if kind == "entailed":
                told, prompt = rng.choice(excluded(rng.choice(fever.pairs)))
                answer, about = label(False), set()
            elif kind == "unrelated":
                pool = by_page[claim.page] if rng.random() < 0.5 else fever.claims
                other = rng.choice(pool)
                if not apart(claim, other):
                    continue
                prompt, about = other.text, {claim, other}
            edits = [told]
            for _ in range(rng.choices((0, 1, 2), (0.6, 0.25, 0.15))[0]):
                more = rng.choice(fever.claims)
                if all(more.page != c.page for c in about):
                    edits.append(more.stated(rng.random() < 0.5))
            rng.shuffle(edits)
            wanted = None if kind == "unrelated" else answer
            yield Example(tuple(edits), prompt, wanted, kind)


def excluded(pair: Pair) -> list[tuple[str, str]]:
    """Each claim of a pair as an edit, with the claim that does not hold then."""
    return [(pair.wrong, pair.right), (pair.right, pair.wrong)]


def apart(a: Claim, b: Claim) -> bool:
    """Whether it is safe to say that two claims have nothing to do with each other.

    FEVER's claims were made by changing others, so those on one sentence often bear on each other.
    """
    return (a.page, a.line) != (b.page, b.line)


def claim_scopes(fever: Fever, edits: int, rng: random.Random) -> Scopes:
    """A memory of claims, and statements in and out of their scope.

    Args:
        fever: One part.
        edits: Claims in the memory, at most; those of pairs come on top.
        rng: Source of chance.
    """
    claims = rng.sample(fever.claims, len(fever.claims))
    chosen, others = claims[:edits], claims[edits : 2 * edits]
    known = {c: Edit(c.stated(rng.random() < 0.5), id=str(i)) for i, c in enumerate(chosen)}
    near: dict[tuple[str, int], set[str]] = defaultdict(set)
    for claim, edit in known.items():
        near[claim.page, claim.line].add(edit.id)
    excluding: list[tuple[Pair, str, Edit]] = []
    for i, pair in enumerate(fever.pairs):
        statement, prompt = rng.choice(excluded(pair))
        excluding.append((pair, prompt, Edit(statement, id=f"pair {i}")))
        near[pair.page, pair.line].add(f"pair {i}")

    def stage(claim: Claim, right: tuple[Edit, ...]) -> Stage:
        unclear = near[claim.page, claim.line] - {e.id for e in right}
        return Stage(claim.text, claim.text, right, bool(right), unclear=frozenset(unclear))

    stages = [stage(c, (e,)) for c, e in known.items()] + [stage(c, ()) for c in others]
    told = list(known.values())
    for pair, prompt, edit in excluding:
        told.append(edit)
        unclear = frozenset(near[pair.page, pair.line] - {edit.id})
        stages.append(Stage(prompt, prompt, (edit,), unclear=unclear))
        stages.append(Stage(edit.statement, edit.statement, (edit,), True, unclear=unclear))
    stages = followed(stages)
    rng.shuffle(stages)
    return Scopes(told, stages)


def texts(claims: Sequence[Claim]) -> list[tuple[str, str]]:
    """Claims and their labels."""
    return [(c.text, label(c.holds)) for c in claims]
