"""What a gate reads and where its threshold lies, from memories that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from seprog.gate import Glance, ScopeGate
from seprog.training.calibration import Judged, glance_of
from seprog.types import Edit


def test_a_glance_is_learnt_from_what_fires(
    tiny_gate: ScopeGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"Quux{i:03}" for i in range(120)]
    edits = [Edit(f"The home of {name} is Ur.", id=name) for name in names]
    shelf, queries = tiny_gate.shelf(edits), [f"Where does {name} live?" for name in names]

    asked = [(query, {name}) for query, name in zip(queries, names, strict=True)]

    def score(texts: Sequence[str], statements: Sequence[str], batch: int = 32) -> torch.Tensor:
        named = [s.split()[3] in t and s not in t for t, s in zip(texts, statements, strict=True)]
        return torch.tensor([[float(n), 0.0] for n in named]).reshape(-1, 2)

    monkeypatch.setattr(tiny_gate.scorer, "probabilities", score)
    before = tiny_gate.decide(queries, shelf, 0.5)
    tiny_gate.glance = glance_of(tiny_gate, [Judged(shelf, [], asked)])
    after = tiny_gate.decide(queries, shelf, 0.5)
    assert tiny_gate.glance.first and not tiny_gate.glance.later  # nothing fires later
    assert [d.fired for d in after] == [d.fired for d in before]
    read = [sum(c.hop == 0 for d in found for c in d.candidates) for found in (before, after)]
    assert read[1] < 0.5 * read[0]
    later = tiny_gate.shelf(edits[60:])
    few = [tiny_gate.shelf(edits[i : i + 3]) for i in range(0, 120, 3)]
    alone = [tiny_gate.decide(queries[3 * i : 3 * i + 3], s, 0.5) for i, s in enumerate(few)]
    assert [d.fired for some in alone for d in some] == [d.fired for d in before]
    halves = [Judged(shelf, [], asked[:60]), Judged(later, [], asked[60:])]
    assert glance_of(tiny_gate, halves).first
    assert glance_of(tiny_gate, halves[:1]) == Glance()  # too few to learn from
    assert glance_of(tiny_gate, [Judged(tiny_gate.shelf([]), [], asked)]) == Glance()
