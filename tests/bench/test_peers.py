"""Peers are tuned and measured on what seprog is measured on."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from seprog.atlas import MODEL
from seprog.bench import contestants, evaluation, workshop
from seprog.bench.contestants import BUDGET, CONTESTANTS, CONTEXTS, PEERS
from seprog.bench.course import AtlasCourse, request_of
from seprog.bench.evaluation import evaluate, tune
from seprog.bench.metrics import MEANS
from seprog.bench.plan import plan
from seprog.bench.workshop import Training, Workshop
from seprog.errors import InputError
from seprog.lm import CausalLM
from seprog.methods import MEMIT, ROME, Lesson, MendTraining, RecipeTraining
from seprog.training.causal import CausalTraining
from seprog.training.gate import GateTraining
from tests.methods.test_contract import REQUESTS


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    return CausalLM.from_pretrained(str(MODEL), "float32")


def test_every_method_has_a_budget_of_settings() -> None:
    for name, peer in CONTESTANTS.items():
        settings = peer.settings(12)
        assert settings == peer.settings(12) and 1 <= len(settings) <= BUDGET
        assert len(settings) >= 8 or name not in PEERS or name == "none", "a fair search"
        assert len({str(s) for s in settings}) == len(settings)


def test_layers_that_a_model_lacks_are_not_tried() -> None:
    assert all(s["layer"] == -2 for s in CONTESTANTS["grace"].settings(3))
    assert {s["layers"][-1] for s in CONTESTANTS["memit"].settings(8)} == {-4, -5, -6}
    with pytest.raises(InputError, match="A base model of 2 layers came"):
        CONTESTANTS["rome"].settings(2)


TINY = Training(
    RecipeTraining(tokens=2, steps=1, batch=4),
    MendTraining(depth=1, rank=4, steps=1, batch=1),
    CausalTraining(width=32, layers=1, steps=1, rows=2, length=64, bf16=False, compile=False),
    GateTraining(scenarios=1, edits=6, steps=1, groups=2, bf16=False),
)


def test_settings_make_the_method(
    lm: CausalLM, tmp_path: Path, small_encoder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Workshop(AtlasCourse(lm), tmp_path, TINY)
    monkeypatch.setattr(shop, "texts", [r.statement for r in REQUESTS] * 4)
    for name in PEERS:
        peer = CONTESTANTS[name]
        method = peer.make(shop, peer.settings(12)[-1])
        assert method.name == name
        if isinstance(method, ROME | MEMIT):
            assert method.contexts == ("", *shop.texts[:CONTEXTS])
        method.apply(REQUESTS[:1])
        assert len(method.answer([REQUESTS[0].prompt, "Who wrote Hamlet?"])) == 2
        method.revert()
    for name in ("train_recipe", "train_mend", "train_causal", "train_gate"):
        monkeypatch.setattr(workshop, name, None)  # nor is anything trained again
    for name in ("recipe", "mend", "serac"):
        assert shop.seconds(CONTESTANTS[name].parts) > 0
        assert CONTESTANTS[name].make(shop, CONTESTANTS[name].settings(12)[0]).name == name


def test_lessons_are_of_one_edit(lm: CausalLM) -> None:
    lessons = list(islice(AtlasCourse(lm).lessons(0), 30))
    assert all(isinstance(one, Lesson) and one.away.keep and one.away.answer for one in lessons)
    assert all(one.asked.answer and not one.asked.keep for one in lessons)
    assert sum(one.asked.answer == one.request.target for one in lessons) > 10
    assert len({one.request.prompt for one in lessons}) > 25


def test_subjects_are_named_as_the_prompts_spell_them() -> None:
    scenario = plan(60, 0).scenario
    for fact in scenario.facts.values():
        request = request_of(scenario, fact)
        assert request.subject in request.prompt and request.target == fact.object
        assert request.subject.lower() == fact.subject.lower()


def test_methods_are_tuned_then_measured(
    lm: CausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contestants, "BUDGET", 2)
    monkeypatch.setattr(evaluation, "TUNING_EDITS", 2)
    monkeypatch.setattr(evaluation, "QUERIES", 2)
    before = [p.clone() for p in lm.model.parameters()]
    out, answers = tmp_path / "r.json", tmp_path / "a.jsonl"
    result = evaluate(
        Workshop(AtlasCourse(lm), tmp_path),
        [3],
        ["none", "ft", "grace"],
        0,
        out,
        answers,
        progress=False,
    )
    assert json.loads(out.read_text()) == json.loads(json.dumps(result | {"answers": "a.jsonl"}))
    assert result["tuning"].keys() == {"ft", "grace"}
    for tuned in result["tuning"].values():
        assert len(tuned["tried"]) == 2
        best = max(row["harmonic_mean"] for row in tuned["tried"])
        chosen = [r for r in tuned["tried"] if r["setting"] == tuned["chosen"]]
        assert [row["harmonic_mean"] for row in chosen] == [best]
        assert all(MEANS[0] in row for row in tuned["tried"])
    rows = {(r["method"], r["when"]): r["metrics"] for r in result["results"]}
    assert rows["none", "after_all"]["far"]["value"] == 1.0
    assert rows["none", "after_all"]["far_bitwise"]["value"] == 1.0
    assert rows["ft", "after_all"]["far_bitwise"]["value"] < 1.0
    assert rows["ft", "after_all"]["bytes_per_edit"]["value"] > 0
    assert rows["grace", "right_after"]["rewrite"]["n"] == 3
    said = [json.loads(line) for line in answers.open()]
    asked = {(r["method"], r["when"]): 0 for r in said}
    for row in said:
        asked[row["method"], row["when"]] += 1
    assert len({n for (_, when), n in asked.items() if when != "after_changes"}) == 2  # same probes
    assert asked["none", "after_changes"] == asked["grace", "after_changes"]
    assert rows["none", "after_changes"]["forgotten"]["value"] == 1.0
    assert "forgotten" not in rows["ft", "after_changes"], "it cannot take a single edit back"
    assert rows["ft", "after_changes"]["superseded"]["n"] >= 1
    costs = {name: rows[name, "after_all"] for name in ("none", "ft", "grace")}
    assert costs["none"]["perplexity_ratio"]["value"] == 1.0
    assert costs["ft"]["perplexity_ratio"]["value"] > 1.0
    assert costs["none"]["flops_per_edit"]["value"] == 0
    assert all(0 <= c["training_seconds"]["value"] < 60 for c in costs.values())
    assert costs["ft"]["flops_per_edit"]["value"] > 1e6
    assert costs["ft"]["peak_bytes_editing"]["value"] > 1e6
    assert all(torch.equal(a, b) for a, b in zip(before, lm.model.parameters(), strict=True))


def test_a_search_that_was_stopped_goes_on(
    lm: CausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contestants, "BUDGET", 3)
    monkeypatch.setattr(evaluation, "TUNING_EDITS", 1)
    shop, asked = Workshop(AtlasCourse(lm), tmp_path), []
    real = evaluation.run

    def stopped(*args: Any, **more: Any) -> Any:
        asked.append(args[0])
        if len(asked) == 3:
            raise KeyboardInterrupt
        return real(*args, **more)

    monkeypatch.setattr(evaluation, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        tune(shop, "grace", progress=False)
    found = tune(shop, "grace", progress=False)
    assert len(asked) == 4, "one setting was left"
    assert [t["setting"] for t in found["tried"]] == CONTESTANTS["grace"].settings(16)
    assert found["chosen"] in [t["setting"] for t in found["tried"]]
    assert tune(shop, "grace", progress=False) == found and len(asked) == 4


def test_an_unknown_method_is_refused(lm: CausalLM, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="magic"):
        evaluate(Workshop(AtlasCourse(lm), tmp_path), [1], ["magic"])
