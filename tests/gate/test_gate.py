"""Query to decision: hops, thresholds, shelves, and gates at rest."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from seprog.errors import FingerprintMismatch, InputError
from seprog.gate import Calibration, GateConfig, Glance, Overlay, ScopeGate
from seprog.text_encoder import TextEncoder
from seprog.types import Edit, GateDecision
from tests.conftest import make_gate, make_wordpiece, words_rule
from tests.lm.families import randomize

CHAIN = [
    Edit("The home of Ann is Zed.", id="home"),
    Edit("The language of Zed is Zedish.", id="language"),
    Edit("The author of Zedish is Bob.", id="author"),
    Edit("The king of Peru is Max.", id="king"),
]
QUERIES = ["What is the home of Ann?", "Who is the king?", "the author", "Zed", "in Peru"]


def ids(decision: GateDecision) -> list[str]:
    return [e.id for e in decision.fired]


# --- decide -----------------------------------------------------------------------------------


def test_nothing_fires_on_an_empty_shelf(tiny_gate: ScopeGate) -> None:
    decisions = tiny_gate.decide(QUERIES, tiny_gate.shelf([]), 0.0)
    assert [d.query for d in decisions] == QUERIES
    assert all(d.candidates == () and d.fired == () for d in decisions)
    assert tiny_gate.decide([], tiny_gate.shelf(CHAIN)) == []
    assert tiny_gate.highest(QUERIES, tiny_gate.shelf([])) == [0.0] * len(QUERIES)


def test_of_several_sentences_the_last_is_read_by_itself_too(tiny_gate: ScopeGate) -> None:
    shelf, limit = tiny_gate.shelf(CHAIN), 0.5
    asked = "What is the home of Ann?"
    long = f"Once there was a king in Peru. {asked}"
    alone, whole = (
        tiny_gate.decide([asked], shelf, limit)[0],
        tiny_gate.decide([long], shelf, limit),
    )
    assert whole[0].query == long
    for candidate in alone.candidates:
        [same] = [c for c in whole[0].candidates if c.edit == candidate.edit]
        assert (same.fired, same.probability) >= (candidate.fired, candidate.probability - 1e-5)
    hidden = tiny_gate.decide([long, asked], shelf, limit, [{"home"}, ()])
    assert "home" not in {c.edit.id for c in hidden[0].candidates}
    assert ids(hidden[1]) == ids(alone)


def test_nothing_fires_above_one_and_below_zero_one_edit_a_hop(
    tiny_gate: ScopeGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seprog.gate.gate.OUTRIGHT", math.inf)
    shelf = tiny_gate.shelf(CHAIN)
    for decision in tiny_gate.decide(QUERIES, shelf, 1.0):
        assert decision.fired == () and decision.threshold == 1.0
        assert {c.edit.id for c in decision.candidates} == {e.id for e in CHAIN}
    for decision in tiny_gate.decide(QUERIES, shelf, -1.0):
        assert sorted(c.hop for c in decision.candidates if c.fired) == [0, 1, 2, 3]
        assert len(decision.fired) == len(CHAIN)


def test_the_gates_own_threshold_is_the_default(tiny_gate: ScopeGate) -> None:
    shelf = tiny_gate.shelf(CHAIN)
    tiny_gate.calibration = Calibration(0.123, 0.01, 100, 1, 0.0)
    assert tiny_gate.decide(QUERIES, shelf) == tiny_gate.decide(QUERIES, shelf, 0.123)
    assert tiny_gate.decide(QUERIES, shelf)[0].threshold == 0.123


def test_a_decision_does_not_depend_on_the_batch(tiny_gate: ScopeGate) -> None:
    shelf = tiny_gate.shelf(CHAIN)
    together = tiny_gate.decide(QUERIES, shelf)
    assert len({tuple(ids(d)) for d in together}) > 1  # or the test would say nothing
    for query, decision in zip(QUERIES, together, strict=True):
        [alone] = tiny_gate.decide([query], shelf)
        assert ids(alone) == ids(decision)
        for a, b in zip(alone.candidates, decision.candidates, strict=True):
            assert (a.edit, a.fired, a.hop) == (b.edit, b.fired, b.hop)
            assert a.probability == pytest.approx(b.probability, abs=1e-5)


def test_a_chain_is_followed_hop_by_hop(words_gate: ScopeGate) -> None:
    query = "Who is the author of the language of the home of Ann?"
    [decision] = words_gate.decide([query], words_gate.shelf(CHAIN))
    assert ids(decision) == ["home", "language", "author"]
    hops = {c.edit.id: c.hop for c in decision.candidates if c.fired}
    assert hops == {"home": 0, "language": 1, "author": 2}
    [king] = [c for c in decision.candidates if c.edit.id == "king"]
    assert not king.fired and king.hop == 0 and king.probability == pytest.approx(0.1)


def test_the_statements_that_fired_lead_on_not_the_ones_that_did_not(
    words_gate: ScopeGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def note(queries: Sequence[str], edits: Sequence[str], batch: int = 32) -> torch.Tensor:
        read.extend(queries)
        return words_rule(queries, edits)

    monkeypatch.setattr(words_gate.scorer, "probabilities", note)
    query = "What is the language of the home of Ann?"
    words_gate.decide([query], words_gate.shelf(CHAIN))
    texts = list(dict.fromkeys(read))
    assert texts == [
        query,
        f"{query} The home of Ann is Zed.",
        f"{query} The home of Ann is Zed. The language of Zed is Zedish.",
    ]


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_chains_end_after_so_many_hops(
    words_gate: ScopeGate, monkeypatch: pytest.MonkeyPatch, hops: int
) -> None:
    words_gate.config = dataclasses.replace(words_gate.config, hops=hops)
    query = "Who is the author of the language of the home of Ann?"
    [decision] = words_gate.decide([query], words_gate.shelf(CHAIN))
    assert ids(decision) == ["home", "language", "author"][:hops]


@pytest.mark.parametrize("split", [0, 1, 2, 4])
def test_an_overlay_is_like_the_shelf_that_it_stands_for(words_gate: ScopeGate, split: int) -> None:
    queries = ["Who is the author of the language of the home of Ann?", *QUERIES]
    old = Edit("The king of Peru is Al.", id="old")
    whole = words_gate.decide(queries, words_gate.shelf(CHAIN))
    below = words_gate.shelf([*CHAIN[:split], old])
    laid = Overlay(below, words_gate.shelf(CHAIN[split:]), ["old"])
    found = words_gate.decide(queries, laid)
    assert [ids(d) for d in found] == [ids(d) for d in whole]
    assert "old" in below.edits


def test_the_likeliest_fires_and_the_others_are_read_again_behind_it(
    words_gate: ScopeGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = {"home": 0.9, "language": 0.95, "author": 0.8, "king": 0.4}
    same = dict.fromkeys(scope, 0.5)
    ids_of = {e.statement: e.id for e in CHAIN}
    behind = {"home": 0.3, "language": 0.95, "author": 0.7, "king": 0.4}

    def score(queries: Sequence[str], edits: Sequence[str], batch: int = 32) -> torch.Tensor:
        now = [behind if "." in q else scope for q in queries]
        return torch.tensor(
            [[n[ids_of[e]], same[ids_of[e]]] for n, e in zip(now, edits, strict=True)]
        )

    monkeypatch.setattr(words_gate.scorer, "probabilities", score)
    shelf = words_gate.shelf(CHAIN)
    [decision] = words_gate.decide(["Who?"], shelf, 0.5)
    assert ids(decision) == ["language", "author"]
    found = {c.edit.id: (pytest.approx(c.probability), c.hop) for c in decision.candidates}
    assert found == {"language": (0.95, 0), "home": (0.9, 0), "author": (0.7, 1), "king": (0.4, 0)}
    same["language"] = 0.9  # nine tenths of 0.95 and more
    [decision] = words_gate.decide(["Who?"], shelf, 0.5)
    assert ids(decision) == ["language"]
    over = {c.edit.id for c in decision.candidates if c.probability > 0.5 and not c.fired}
    assert over == {"home", "author"}


def test_every_edit_fires_at_most_once_even_in_a_circle(words_gate: ScopeGate) -> None:
    circle = [
        Edit("The home of Ann is Zed.", id="1"),
        Edit("The home of Zed is Ann.", id="2"),
        Edit("Ann of Zed is the home.", id="3"),
    ]
    [decision] = words_gate.decide(["The home of Ann is"], words_gate.shelf(circle))
    assert sorted(ids(decision)) == ["1", "2", "3"]
    assert ids(decision)[0] == "1"
    assert len(decision.candidates) == 3


def test_what_fired_is_in_the_order_of_the_hops_then_of_likelihood(
    words_gate: ScopeGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    sure = {"language": 0.99, "home": 0.7, "king": 0.6, "author": 0.9}
    by_statement = {e.statement: sure[e.id] for e in CHAIN}

    def score(queries: Sequence[str], edits: Sequence[str], batch: int = 32) -> torch.Tensor:
        scope = words_rule(queries, edits)[:, 0] > 0.5
        rows = [
            [by_statement[e] if s else 0.0, 0.0] for e, s in zip(edits, scope.tolist(), strict=True)
        ]
        return torch.tensor(rows)

    monkeypatch.setattr(words_gate.scorer, "probabilities", score)
    query = "the king of Peru, the language of the home of Ann and its author"
    [decision] = words_gate.decide([query], words_gate.shelf(CHAIN), 0.5)
    assert ids(decision) == ["home", "language", "author", "king"]
    assert [c.edit.id for c in decision.candidates] == ["language", "author", "home", "king"]


def test_raising_the_threshold_never_makes_more_edits_fire_at_once(tiny_gate: ScopeGate) -> None:
    tiny_gate.config = dataclasses.replace(tiny_gate.config, hops=1)
    shelf = tiny_gate.shelf(CHAIN)
    for seed in range(3):
        with torch.no_grad():
            tiny_gate.scorer.head[0].weight.copy_(
                torch.randn(128, 64, generator=torch.Generator().manual_seed(seed))
            )
        fired = [
            [set(ids(d)) for d in tiny_gate.decide(QUERIES, shelf, t / 20)] for t in range(0, 21, 2)
        ]
        for lower, higher in pairwise(fired):
            assert all(b <= a for a, b in zip(lower, higher, strict=True))


def test_only_so_many_of_the_nearest_are_scored(tiny_gate: ScopeGate) -> None:
    tiny_gate.config = dataclasses.replace(tiny_gate.config, nearest=2, shared=0, hops=1)
    shelf = tiny_gate.shelf(CHAIN)
    keys = tiny_gate.retriever.query_keys(QUERIES)
    for decision, near in zip(
        tiny_gate.decide(QUERIES, shelf, 1.0), shelf.index.search(keys, 2), strict=True
    ):
        assert {c.edit.id for c in decision.candidates} == {id_ for id_, _ in near}


NOTHING, ALL = (0.0,) * 6 + (-1.0,), (0.0,) * 6 + (1.0,)


@pytest.mark.parametrize("first", [NOTHING, ALL, ()])
@pytest.mark.parametrize("later", [NOTHING, ALL, ()])
def test_what_is_not_worth_a_look_is_not_scored(
    tiny_gate: ScopeGate, first: tuple[float, ...], later: tuple[float, ...]
) -> None:
    tiny_gate.config = dataclasses.replace(tiny_gate.config, nearest=2, shared=1, hops=2)
    shelf = tiny_gate.shelf(CHAIN)
    [everything] = tiny_gate.decide([CHAIN[0].statement], shelf, 0.0)
    tiny_gate.glance = Glance(first, later)
    [decision] = tiny_gate.decide([CHAIN[0].statement], shelf, 0.0)
    hops = {c.hop for c in decision.candidates}
    assert hops == (set() if first == NOTHING else {0} if later == NOTHING else {0, 1})
    if NOTHING not in (first, later):
        assert decision == everything


def test_a_gate_with_a_glance_comes_back_as_it_was(tiny_gate: ScopeGate, tmp_path: Path) -> None:
    tiny_gate.glance = Glance(ALL)
    tiny_gate.save_pretrained(tmp_path)
    state = json.loads((tmp_path / "gate.json").read_text())
    assert ScopeGate.from_pretrained(tmp_path, tiny_gate.encoder).glance == Glance(ALL)
    del state["glance"]
    state["config"]["floor"] = 0.1  # as version 2 wrote it
    (tmp_path / "gate.json").write_text(json.dumps(state))
    assert ScopeGate.from_pretrained(tmp_path, tiny_gate.encoder).glance == Glance()


# --- shelves ----------------------------------------------------------------------------------


def test_a_hidden_edit_is_as_good_as_not_there(tiny_gate: ScopeGate) -> None:
    tiny_gate.config = dataclasses.replace(tiny_gate.config, nearest=3)
    shelf = tiny_gate.shelf(CHAIN)
    for edit in CHAIN:
        rest = tiny_gate.shelf([e for e in CHAIN if e is not edit])
        hidden = tiny_gate.decide(QUERIES, shelf, 0.5, [{edit.id}] * len(QUERIES))
        assert hidden == tiny_gate.decide(QUERIES, rest, 0.5)
    mixed = tiny_gate.decide(QUERIES, shelf, 0.5, [{CHAIN[0].id}, *[set()] * (len(QUERIES) - 1)])
    assert mixed[1:] == tiny_gate.decide(QUERIES, shelf, 0.5)[1:]


@pytest.mark.parametrize("seed", range(5))
def test_a_shelf_that_was_changed_is_like_a_new_one(tiny_gate: ScopeGate, seed: int) -> None:
    rng, shelf, known = random.Random(seed), tiny_gate.shelf([]), {}
    for _ in range(30):
        if known and rng.random() < 0.4:
            shelf.remove([known.pop(rng.choice(sorted(known))).id, "unknown"])
        else:
            edit = rng.choice(CHAIN)
            edit = dataclasses.replace(edit, statement=f"{edit.statement} {rng.randrange(9)}")
            known[edit.id] = edit
            shelf.add([edit], tiny_gate.keys([edit]))
    fresh = tiny_gate.shelf(list(known.values()))
    assert len(shelf) == len(fresh) == len(shelf.index) and shelf.edits == known
    assert tiny_gate.decide(QUERIES, shelf, 0.5) == tiny_gate.decide(QUERIES, fresh, 0.5)


def test_a_shelf_may_change_while_it_is_searched(tiny_gate: ScopeGate) -> None:
    shelf, keys = tiny_gate.shelf(CHAIN), tiny_gate.keys(CHAIN)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            shelf.remove([e.id for e in CHAIN[1:]])
            shelf.add(CHAIN[1:], keys[1:])

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            [found] = shelf.search(keys[:1], [CHAIN[0].statement], [()], 9, 9)
            assert {s.edit.id for s in found} in ({CHAIN[0].id}, {e.id for e in CHAIN})
    finally:
        stop.set()
        thread.join()


def test_highest_is_the_likeliest_of_the_first_hop(tiny_gate: ScopeGate) -> None:
    shelf = tiny_gate.shelf(CHAIN)
    best = [
        max(tiny_gate.scorer.probabilities([q] * 4, [e.statement for e in CHAIN])[:, 0].tolist())
        for q in QUERIES
    ]
    assert tiny_gate.highest(QUERIES, shelf) == pytest.approx(best, abs=1e-5)


def test_the_same_question_is_found_by_both_probabilities(
    words_gate: ScopeGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = words_gate.shelf(CHAIN)
    rival = Edit("The home of Ann is Rome.", id="new")
    assert [e.id for e, _ in words_gate.same_question(rival, shelf)] == ["home"]
    assert words_gate.same_question(CHAIN[0], shelf) == []  # not its own rival
    assert words_gate.same_question(rival, words_gate.shelf([])) == []
    words_gate.glance = Glance(ALL)
    assert [e.id for e, _ in words_gate.same_question(rival, shelf)] == ["home"]
    words_gate.glance = Glance(NOTHING)
    assert words_gate.same_question(rival, shelf) == []  # none is worth a look
    words_gate.glance = Glance()

    def not_in_scope(queries: Sequence[str], edits: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[0.1, 0.9]] * len(queries))

    monkeypatch.setattr(words_gate.scorer, "probabilities", not_in_scope)
    assert words_gate.same_question(rival, shelf) == []


@pytest.mark.parametrize(
    ("forth", "back", "same"),
    [((0.9, 0.1), 0.8, True), ((0.9, 0.1), 0.2, False), ((0.1, 0.1), 0.8, False)],
)
def test_what_bears_on_an_edit_is_read_the_other_way_round_too(
    words_gate: ScopeGate,
    monkeypatch: pytest.MonkeyPatch,
    forth: tuple[float, float],
    back: float,
    same: bool,
) -> None:
    rival, shelf = Edit("The home of Ann is Rome.", id="new"), words_gate.shelf(CHAIN[:1])

    def scored(queries: Sequence[str], edits: Sequence[str]) -> torch.Tensor:
        return torch.tensor([forth if q == rival.statement else (0.9, back) for q in queries])

    monkeypatch.setattr(words_gate.scorer, "probabilities", scored)
    found = words_gate.same_question(rival, shelf)
    assert [(e.id, pytest.approx(p)) for e, p in found] == ([("home", 0.8)] if same else [])


# --- at rest ----------------------------------------------------------------------------------


def test_a_saved_gate_decides_the_same(
    tiny_gate: ScopeGate, tmp_path: Path, encoder_folder: Path
) -> None:
    tiny_gate.calibration = Calibration(0.4, 0.02, 300, 20, 0.01, tiny_gate.fingerprint)
    tiny_gate.config = dataclasses.replace(tiny_gate.config, nearest=3)
    tiny_gate.save_pretrained(tmp_path / "a" / "gate")
    loaded = ScopeGate.from_pretrained(tmp_path / "a" / "gate", TextEncoder(encoder_folder))
    assert loaded.config == tiny_gate.config
    assert loaded.calibration == tiny_gate.calibration
    assert loaded.fingerprint == tiny_gate.fingerprint
    assert loaded.decide(QUERIES, loaded.shelf(CHAIN)) == tiny_gate.decide(
        QUERIES, tiny_gate.shelf(CHAIN)
    )
    assert not any(p.requires_grad for p in loaded.parameters())


def test_the_fingerprint_follows_the_weights(tiny_encoder: TextEncoder) -> None:
    one, two, three = (make_gate(tiny_encoder, seed) for seed in (0, 0, 1))
    assert one.fingerprint == two.fingerprint != three.fingerprint


def test_the_encoders_fingerprint_is_of_its_weights_not_of_a_library(encoder_folder: Path) -> None:
    first, second = TextEncoder(encoder_folder), TextEncoder(encoder_folder)
    second.model.config.transformers_version = "0.0"
    assert first.fingerprint == second.fingerprint
    third = TextEncoder(encoder_folder)
    third.model.get_input_embeddings().weight.data.add_(1)
    assert third.fingerprint != first.fingerprint


def test_a_gate_for_another_encoder_is_refused(tiny_gate: ScopeGate, tmp_path: Path) -> None:
    from transformers import BertModel

    tiny_gate.save_pretrained(tmp_path / "gate")
    make_wordpiece().save_pretrained(tmp_path / "other")
    config = tiny_gate.encoder.model.config
    randomize(BertModel(config), seed=9).save_pretrained(tmp_path / "other")
    with pytest.raises(FingerprintMismatch, match="seprog train gate"):
        ScopeGate.from_pretrained(tmp_path / "gate", TextEncoder(tmp_path / "other"))


@pytest.mark.parametrize("missing", ["gate.json", "gate.safetensors"])
def test_a_folder_without_a_gate_is_refused(
    tiny_gate: ScopeGate, tmp_path: Path, missing: str
) -> None:
    tiny_gate.save_pretrained(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match="holds no gate"):
        ScopeGate.from_pretrained(tmp_path, tiny_gate.encoder)


@pytest.mark.parametrize("state", ["", "{", "[]", '{"config": {"version": 4, "size": 3}}'])
def test_a_folder_with_half_a_gate_is_refused(
    tiny_gate: ScopeGate, tmp_path: Path, state: str
) -> None:
    tiny_gate.save_pretrained(tmp_path)
    (tmp_path / "gate.json").write_text(state)
    with pytest.raises(InputError, match="holds no gate"):
        ScopeGate.from_pretrained(tmp_path, tiny_gate.encoder)


def test_a_gate_of_a_newer_format_is_refused_and_an_older_one_saved_as_this(
    tiny_gate: ScopeGate, tmp_path: Path
) -> None:
    tiny_gate.save_pretrained(tmp_path)
    state = json.loads((tmp_path / "gate.json").read_text())
    for version in (GateConfig.version + 1, GateConfig.version - 1):
        state["config"]["version"] = version
        (tmp_path / "gate.json").write_text(json.dumps(state))
        if version > GateConfig.version:
            with pytest.raises(InputError, match="newer format"):
                ScopeGate.from_pretrained(tmp_path, tiny_gate.encoder)
    assert ScopeGate.from_pretrained(tmp_path, tiny_gate.encoder).config == tiny_gate.config


def test_what_is_on_disk_is_readable(tiny_gate: ScopeGate, tmp_path: Path) -> None:
    tiny_gate.save_pretrained(tmp_path)
    state = json.loads((tmp_path / "gate.json").read_text())
    assert GateConfig(**state["config"]) == tiny_gate.config
    assert state["encoder"] == tiny_gate.encoder.fingerprint
    assert np.isclose(state["calibration"]["threshold"], 0.5)
