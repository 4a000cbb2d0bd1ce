"""What is learnt from FEVER."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from seprog.data.fever import Fever, load_fever
from seprog.training.claims import MIX, claim_examples, claim_scopes
from seprog.training.classifier import label
from tests.data.claims import write


@pytest.fixture
def fever(tmp_path: Path) -> Fever:
    return load_fever(write(tmp_path))["train"]


def test_answers_follow_from_the_edits(fever: Fever) -> None:
    stated = {c.stated(h): (c, h) for c in fever.claims for h in (True, False)}
    by_text = {c.text: c for c in fever.claims}
    rivals = {p.wrong: p.right for p in fever.pairs} | {p.right: p.wrong for p in fever.pairs}
    counts: Counter[str] = Counter()
    for example in islice(claim_examples(fever, random.Random(0)), 1500):
        counts[example.kind] += 1
        told = [stated[e] for e in example.edits if e in stated]
        if example.kind == "entailed":
            assert rivals[example.prompt] in example.edits and example.answer == "false"
            continue
        asked = by_text[example.prompt]
        own = [holds for claim, holds in told if claim == asked]
        if example.kind == "rewrite":
            assert len(own) == 1 and example.answer == label(own[0])
        else:
            assert not own and example.answer is None
            assert all((c.page, c.line) != (asked.page, asked.line) for c, _ in told)
    for kind, share in MIX.items():
        assert counts[kind] / 1500 == pytest.approx(share, abs=0.06)


def test_without_pairs_nothing_is_entailed(fever: Fever) -> None:
    kinds = {e.kind for e in islice(claim_examples(Fever(fever.claims, []), random.Random(0)), 300)}
    assert kinds == {"rewrite", "unrelated"}


def test_a_memory_of_claims(fever: Fever) -> None:
    scopes = claim_scopes(fever, 40, random.Random(0))
    assert len(scopes.edits) == 40 + len(fever.pairs)
    by_text = {c.text: c for c in fever.claims}
    first = [s for s in scopes.stages if not s.told]
    inside = [s for s in first if s.right]
    assert sum(not s.right for s in first) == 40
    assert len(inside) == 40 + 2 * len(fever.pairs)
    for stage in first:
        claim = by_text.get(stage.text)
        if claim is None:
            continue
        near = {
            e.id
            for e in scopes.edits
            for c in fever.claims
            if e.statement in (c.stated(True), c.stated(False))
            and (c.page, c.line) == (claim.page, claim.line)
        }
        on_it = [p for p in fever.pairs if (p.page, p.line) == (claim.page, claim.line)]
        near |= {e.id for e in scopes.edits for p in on_it if e.statement in (p.wrong, p.right)}
        assert stage.unclear == near - {e.id for e in stage.right}
