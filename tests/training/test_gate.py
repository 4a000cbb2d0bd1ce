"""Training a gate on a tiny encoder."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from seprog.atlas.scenario import Probe, make_scenario
from seprog.atlas.world import load_world
from seprog.gate import ScopeGate, cue
from seprog.text_encoder import TextEncoder
from seprog.training import gate as training
from seprog.training.calibration import calibrate_on_scenarios
from seprog.training.gate import (
    GateTraining,
    Group,
    learn_to_find,
    mine,
    scenarios,
    scorer_loss,
    train_gate,
    train_retriever,
    unsure,
)
from seprog.training.scopes import Scopes, Stage, as_edits, atlas_scopes, followed, stages
from seprog.types import Edit
from tests.conftest import DEVICES, make_gate

TINY = GateTraining(scenarios=1, edits=24, steps=3, groups=2)


def test_a_probe_is_asked_once_more_than_it_has_edits() -> None:
    scenario = make_scenario(load_world(), "train", 20, random.Random(0))
    known = as_edits(scenario)
    one, two = islice(known, 2)
    first, second, last = stages(Probe("composed", "Who?", "x", (one, two)), known)
    assert first == Stage("Who?", "Who?", (known[one],))
    told = known[one].statement
    text = f"Who? {told}"
    assert second == Stage(text, cue("Who?", told), (known[two],), told=(known[one],))
    assert last.text == f"{text} {known[two].statement}" and last.right == ()
    assert last.cue == cue(text, known[two].statement) and last.told == (known[one], known[two])
    assert stages(Probe("paraphrase", "Who?", "x", (one,)), known)[0].same
    assert stages(Probe("far", "Who?", None), known) == [Stage("Who?", "Who?")]


def test_texts_to_train_on_are_in_and_out_of_scope() -> None:
    scenario = make_scenario(load_world(), "train", 40, random.Random(0))
    scopes = atlas_scopes(scenario, random.Random(1))
    classes = {e.id for f, e in as_edits(scenario).items() if f.relation == "kind"}
    own = [s for s in scopes.stages if not s.told and {e.id for e in s.right} & classes]
    follows = sum(not s.same for s in own)
    assert follows > len(classes)  # asked more than once each, on average
    assert {e for s in scopes.stages for e in s.right} == set(scopes.edits)
    assert sum(not s.right for s in scopes.stages) > 40
    contradictions = [s.text for s in scopes.stages if s.same and s.text.endswith(".")]
    assert len(contradictions) >= 8


def test_the_retriever_learns_to_find(tiny_encoder: TextEncoder) -> None:
    gate = ScopeGate(tiny_encoder)
    rng = np.random.default_rng(0)
    edits = rng.standard_normal((60, 32)).astype(np.float32)
    mixed = edits @ rng.standard_normal((32, 32)).astype(np.float32)

    def found() -> float:
        with torch.no_grad():
            q = gate.retriever.project_queries(torch.from_numpy(mixed))
            k = gate.retriever.project_edits(torch.from_numpy(edits))
        return float(((q @ k.T).argmax(1) == torch.arange(60)).float().mean())

    before = found()
    assert train_retriever(gate, mixed, edits, range(60), seed=0) < 4
    assert found() > before + 0.2
    assert not any(p.requires_grad for p in gate.retriever.parameters())


def test_negatives_are_drawn_from_the_memory(tiny_encoder: TextEncoder) -> None:
    gate, rng = make_gate(tiny_encoder), random.Random(0)
    asked = [atlas_scopes(scenario, rng) for scenario in scenarios(TINY)]
    before = gate.retriever.query.weight.clone()
    assert learn_to_find(gate, asked, seed=0) < 10
    assert not torch.equal(gate.retriever.query.weight, before)
    groups, found = mine(gate, asked, TINY, rng)
    assert 0 < found <= 1 and len(groups) == sum(len(scopes.stages) for scopes in asked)
    assert {len(g.edits) for g in groups} <= {3, 4}
    for group in groups:
        assert len(group.edits) == len(group.scope) == len(group.same)
        assert sum(group.scope) <= 1 and not any(group.scope[1:])
        assert not any(s and not inside for s, inside in zip(group.same, group.scope, strict=True))
        wrong = [e for e, s in zip(group.edits, group.scope, strict=True) if not s]
        assert not any(e in group.text for e in wrong)


def test_what_is_unclear_is_not_learnt_and_all_that_is_right_is(tiny_gate: ScopeGate) -> None:
    edits = [Edit(f"A {word} has a xylem.", id=word) for word in ("music", "tree", "bird", "plum")]
    stage = Stage("A polka has a xylem.", "polka", tuple(edits[:2]), unclear=frozenset({"bird"}))
    [group], found = mine(tiny_gate, [Scopes(edits, [stage])], TINY, random.Random(0))
    assert found == 1.0
    assert group.edits == tuple(edits[i].statement for i in (0, 1, 3))
    assert group.scope == (True, True, False) and group.same == (False,) * 3


def test_the_loss_prefers_right_decisions(
    tiny_gate: ScopeGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group("Who?", ("a", "b"), (True, False), (True, False))
    for sign in (1, -1):
        logits = sign * torch.tensor([[3.0, 3.0], [-3.0, -3.0]])
        monkeypatch.setattr(tiny_gate.scorer, "forward", lambda *_, x=logits: x)
        right = torch.nn.functional.softplus(torch.tensor(-3.0 * sign))
        assert scorer_loss(tiny_gate, [group]).item() == pytest.approx(1.25 * right.item())


def test_what_the_gate_is_unsure_of_is_chosen(
    tiny_gate: ScopeGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probabilities(texts: list[str], edits: list[str]) -> torch.Tensor:
        right = torch.tensor([[float(text != "hard" or edit != "b")] * 2 for text, edit in pairs])
        assert pairs == list(zip(texts, edits, strict=True))
        return right * 0.98 + 0.01

    groups = [Group("hard", ("a", "b"), (True, True), (True, False))]
    groups += [Group(str(i), ("a",), (True,), (True,)) for i in range(5)]
    pairs = [(g.text, e) for g in groups for e in g.edits]
    monkeypatch.setattr(tiny_gate.scorer, "probabilities", probabilities)
    chosen = unsure(tiny_gate, groups, random.Random(0))
    assert len(chosen) == 2 and groups[0] in chosen
    assert not unsure(tiny_gate, groups, random.Random(0), sure=0.999)


def test_a_share_of_the_memories_is_in_more_writers_phrasings() -> None:
    found = scenarios(replace(TINY, scenarios=4, others=0.75))
    assert [s.wording for s in found] == ["many", "many", "many", "train"]
    assert {s.split for s in found} == {"train"}


@pytest.mark.parametrize("device", DEVICES)
def test_a_gate_is_trained_calibrated_and_written(
    device: str, tmp_path: Path, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = replace(TINY, device=device)
    monkeypatch.setattr(training, "TextEncoder", lambda device: TextEncoder(encoder_folder, device))
    monkeypatch.setattr(
        training,
        "calibrate_on_scenarios",
        lambda gate, edits, rate, seed, many: calibrate_on_scenarios(
            gate, 12, 0.1, seed, memories=2, many=many
        ),
    )
    gate = train_gate(tmp_path / "out", tmp_path / "run", how)
    assert gate.calibration.gate == gate.fingerprint
    assert gate.calibration.rate == 0.1 and gate.calibration.observed <= 0.1
    assert not any(p.requires_grad for p in gate.parameters())
    assert any(up.abs().max() > 0 for up in gate.scorer.lora.up.values())
    loaded = ScopeGate.from_pretrained(tmp_path / "out", TextEncoder(encoder_folder, device))
    assert loaded.fingerprint == gate.fingerprint and loaded.calibration == gate.calibration
    onward = train_gate(tmp_path / "onward", tmp_path / "run2", how, start_from=tmp_path / "out")
    hooks = [layer._forward_hooks for layer in onward.encoder.model.modules()]
    assert max(map(len, hooks)) == 1  # the encoder carries one gate's LoRA, not two
    assert onward.config.rank == gate.config.rank and onward.fingerprint != gate.fingerprint
    end = train_gate(
        tmp_path / "end", tmp_path / "run3", replace(how, share=1.0), start_from=tmp_path / "out"
    )
    for a, b, c in zip(*(g.scorer.parameters() for g in (gate, onward, end)), strict=True):
        torch.testing.assert_close(b, (a + c) / 2)  # half of the way
    again = train_gate(tmp_path / "again", tmp_path / "run", how)  # nothing is left to do
    for a, b in zip(again.scorer.parameters(), gate.scorer.parameters(), strict=True):
        assert torch.equal(a, b)


def test_once_an_edit_has_fired_only_the_other_right_ones_are_left() -> None:
    a, b = Edit("A polka is a music.", id="a"), Edit("A music has a sound.", id="b")
    text, unclear = "A polka has a sound.", frozenset({"c"})
    both = Stage(text, text, (a, b), unclear=unclear)
    one, none = Stage("A polka?", "A polka?", (a,), True), Stage("A tree?", "A tree?")
    found = followed([both, one, none])
    assert [s for s in found if not s.told] == [both, one, none]
    after_a, after_b, after_one = (s for s in found if s.told)
    assert (after_a.told, after_a.right, after_a.unclear) == ((a,), (b,), unclear)
    assert (after_b.told, after_b.right) == ((b,), (a,))
    assert (after_one.told, after_one.right, after_one.same) == ((a,), (), False)
    assert after_a.text == f"{text} {a.statement}"
    assert after_a.cue == "is music"
