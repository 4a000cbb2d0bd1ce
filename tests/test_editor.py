"""What holds for the whole: memory, gate, generator and base model together."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from seprog.editor import Editor
from seprog.errors import FingerprintMismatch, InputError, MemoryFileError, ModelError
from seprog.gate import Calibration, ScopeGate
from seprog.generator import SelfEncoder, SelfEncoderConfig, VerbatimGenerator
from seprog.lm import CausalLM
from seprog.memory import Memory
from seprog.text_encoder import TextEncoder
from seprog.types import Edit, Prefix, PrefixBatch
from tests.conftest import make_lm, make_model, make_tokenizer
from tests.lm.families import untouched

Make = Callable[..., Editor]

CAPITAL = "The capital of Australia is Sydney."
HOME = "The home of Ann is Zed."
LANGUAGE = "The language of Zed is Zedish."
IN_SCOPE = [
    "What is the capital of Australia?",
    "Australia has this capital:",
    "What is the home of Ann?",
    "What is the language of the home of Ann?",
]
OUT_OF_SCOPE = ["What is the capital of Peru?", "Who is the king of Australia?", "Hello"]


def fill(editor: Editor) -> list[Edit]:
    return [editor.edit(text) for text in (CAPITAL, HOME, LANGUAGE)]


def base_answers(queries: list[str], seed: int = 0) -> list[str]:
    """What a model says that seprog never touched."""
    model, tokenizer = make_model(seed), make_tokenizer(bos=True)
    found = []
    for query in queries:
        ids = tokenizer(query, return_tensors="pt").input_ids
        out = model.generate(ids, max_new_tokens=16, do_sample=False, pad_token_id=0)
        found.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return found


def texts(editor: Editor, queries: list[str], **options: object) -> list[str]:
    return [a.text for a in editor.generate(queries, max_new_tokens=16, **options)]


# --- the promise ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["verbatim", "self_encoder"])
def test_without_an_edit_in_scope_the_answers_are_the_base_models(
    make_editor: Make, kind: str
) -> None:
    lm = make_lm()
    generator = SelfEncoder(lm, SelfEncoderConfig(3, 2)) if kind == "self_encoder" else None
    editor = make_editor(lm, generator=generator)
    before = texts(editor, OUT_OF_SCOPE)
    fill(editor)
    answers = editor.generate([*OUT_OF_SCOPE, *IN_SCOPE], max_new_tokens=16)
    assert all(not a.decision.fired for a in answers[:3])
    assert all(a.decision.fired for a in answers[3:])
    assert [a.text for a in answers[:3]] == before == base_answers(OUT_OF_SCOPE)
    assert [a.text for a in answers[3:]] != base_answers(IN_SCOPE)


def test_without_an_edit_in_scope_the_logits_are_the_base_models_bit_for_bit(
    make_editor: Make,
) -> None:
    model = make_model()
    plain = untouched(model)
    editor = make_editor(CausalLM(model, make_tokenizer(bos=True)))
    fill(editor)
    queries = [*OUT_OF_SCOPE, *IN_SCOPE]
    ids, mask = editor.lm.tokens.pad(editor.lm.tokens.encode(queries), editor.lm.device)
    prefixes = editor.prefixes(editor.explain_many(queries))
    assert [p is None for p in prefixes] == [True] * 3 + [False] * 4
    with torch.no_grad():
        positions = (mask.cumsum(1) - 1).clamp_min(0)
        base = plain(ids, attention_mask=mask, position_ids=positions).logits
        edited = editor.lm.forward(ids, mask, PrefixBatch.stack(prefixes))
        nothing = editor.lm.forward(ids, mask, PrefixBatch.stack([None] * 7))
    assert torch.equal(edited[:3], base[:3])
    assert torch.equal(nothing, base)
    assert all(not torch.equal(edited[i], base[i]) for i in range(3, 7))


def test_forgetting_restores_the_base_models_answer(tiny_editor: Editor) -> None:
    before = texts(tiny_editor, IN_SCOPE)
    edits = fill(tiny_editor)
    edited = texts(tiny_editor, IN_SCOPE)
    assert edited != before
    for edit in edits:
        assert not tiny_editor.forget(edit.id, author="ada", reason="wrong").active
    assert texts(tiny_editor, IN_SCOPE) == before == base_answers(IN_SCOPE)
    for edit in edits:
        tiny_editor.restore(edit.id)
    assert texts(tiny_editor, IN_SCOPE) == edited
    assert [e.action for e in tiny_editor.history(edits[0].id)][-2:] == ["forgotten", "restored"]
    assert len(tiny_editor.history()) == 9


def test_a_verbatim_edit_is_its_text_in_the_context(tiny_editor: Editor) -> None:
    tiny_editor.edit(CAPITAL)
    query = " What is the capital of Australia?"
    [answer] = tiny_editor.lm.generate([CAPITAL + query], max_new_tokens=16)
    assert tiny_editor.ask(query, max_new_tokens=16).text == answer.strip()


def test_a_mixed_batch_equals_its_single_rows(tiny_editor: Editor) -> None:
    fill(tiny_editor)
    queries = [q for pair in zip(IN_SCOPE, [*OUT_OF_SCOPE, "x"], strict=True) for q in pair]
    together = tiny_editor.generate(queries, max_new_tokens=16)
    in_threes = tiny_editor.generate(queries, max_new_tokens=16, batch=3)
    alone = [tiny_editor.ask(q, max_new_tokens=16) for q in queries]
    assert [a.query for a in together] == queries
    assert [len(a.decision.fired) for a in together] == [1, 0, 1, 0, 1, 0, 2, 0]
    for other in (in_threes, alone):
        assert [a.text for a in other] == [a.text for a in together]
        assert [a.decision.fired for a in other] == [a.decision.fired for a in together]
    assert tiny_editor.generate([]) == []


def test_streaming_gives_the_answer_in_pieces(tiny_editor: Editor) -> None:
    fill(tiny_editor)
    for query in [IN_SCOPE[0], IN_SCOPE[3], OUT_OF_SCOPE[0]]:
        pieces = list(tiny_editor.stream(query, max_new_tokens=16))
        assert len(pieces) > 1
        assert "".join(pieces).strip() == tiny_editor.ask(query, max_new_tokens=16).text
    without = tiny_editor.ask(IN_SCOPE[0], edits=False).text
    assert without != tiny_editor.ask(IN_SCOPE[0]).text
    for options in ({"edits": False}, {"threshold": 1.0}):
        assert "".join(tiny_editor.stream(IN_SCOPE[0], **options)).strip() == without


def test_options_reach_the_model(tiny_editor: Editor) -> None:
    fill(tiny_editor)
    query = IN_SCOPE[0]
    assert len(tiny_editor.ask(query, max_new_tokens=3).text) <= 3
    torch.manual_seed(0)
    one = tiny_editor.ask(query, do_sample=True, temperature=3.0).text
    assert one != tiny_editor.ask(query).text
    assert tiny_editor.ask(query, num_beams=2, max_new_tokens=8).text


def test_editing_can_be_turned_off_or_made_rarer(tiny_editor: Editor) -> None:
    fill(tiny_editor)
    assert texts(tiny_editor, IN_SCOPE, edits=False) == base_answers(IN_SCOPE)
    off = tiny_editor.ask(IN_SCOPE[0], edits=False).decision
    assert off.fired == () and off.candidates == ()
    assert texts(tiny_editor, IN_SCOPE, threshold=0.95) == base_answers(IN_SCOPE)
    low = tiny_editor.ask(OUT_OF_SCOPE[0], threshold=0.05).decision
    assert low.fired and low.threshold == 0.05
    assert tiny_editor.explain(IN_SCOPE[0]).threshold == 0.5


# --- supersede --------------------------------------------------------------------------------


def test_the_same_prompt_supersedes(tiny_editor: Editor) -> None:
    first = tiny_editor.edit(prompt="The capital of Australia is", target="Sydney")
    second = tiny_editor.edit(prompt="the capital of  Australia is", target="Perth")
    assert second.supersedes == first.id
    assert tiny_editor.explain(IN_SCOPE[0]).fired == (second,)
    assert not tiny_editor.memory.get(first.id).active


def test_the_gate_finds_the_same_question_in_other_words(tiny_editor: Editor) -> None:
    first, home, _ = fill(tiny_editor)
    second = tiny_editor.edit("Of Australia the capital is Perth.")
    assert second.supersedes == first.id
    assert tiny_editor.explain(IN_SCOPE[0]).fired == (second,)
    third = tiny_editor.edit(subject="Ann", relation="home", object="Rome")
    assert third.supersedes == home.id
    back = tiny_editor.restore(first.id)
    assert back.active and tiny_editor.explain("capital of Australia").fired


def test_saying_it_twice_changes_nothing(tiny_editor: Editor) -> None:
    first = tiny_editor.edit(CAPITAL)
    assert tiny_editor.edit(CAPITAL) == first
    assert tiny_editor.memory.count() == 1 and first.supersedes is None


def test_edits_of_one_call_supersede_each_other_by_the_gate(tiny_editor: Editor) -> None:
    rows = [{"statement": CAPITAL}, {"statement": "Of Australia the capital is Perth."}]
    first, second = tiny_editor.edit_many(rows)
    assert second.active and second.supersedes == first.id and not first.active
    assert tiny_editor.edit_many([]) == []


# --- namespaces -------------------------------------------------------------------------------


def test_restoring_takes_the_place_of_whoever_answers_the_question_by_now(
    make_editor: Make,
) -> None:
    editor = make_editor()
    [old, *_] = fill(editor)
    editor.forget(old.id)
    new = editor.edit("The capital of Australia is Perth.")
    editor.restore(old.id[:11])
    assert editor.memory.get(old.id).active and not editor.memory.get(new.id).active
    assert editor.memory.history(new.id)[-1].other_id == old.id


def test_namespaces_never_see_each_other(tiny_editor: Editor) -> None:
    rng, names = random.Random(0), ["default", "a", "b"]
    people = ["Ann", "Bob", "Cy", "Dot", "Eve"]
    where: dict[tuple[str, str], str] = {}
    for _ in range(12):
        name, person, town = rng.choice(names), rng.choice(people), f"Town{rng.randrange(99)}"
        tiny_editor.edit(f"The home of {person} is {town}.", namespace=name)
        where[name, person] = town
    assert tiny_editor.memory.count() == len(where)
    for name in names:
        for person in people:
            decision = tiny_editor.explain(f"What is the home of {person}?", namespace=name)
            expected = [where[name, person]] if (name, person) in where else []
            assert [e.statement.split()[-1][:-1] for e in decision.fired] == expected
            assert all(c.edit.namespace == name for c in decision.candidates)


def test_an_editor_writes_to_and_asks_its_own_namespace(make_editor: Make) -> None:
    mine, yours = make_editor(namespace="mine"), make_editor(namespace="yours")
    assert mine.edit(CAPITAL).namespace == "mine"
    assert yours.ask(IN_SCOPE[0]).text == base_answers_for(yours)
    assert mine.ask(IN_SCOPE[0]).decision.fired
    assert yours.ask(IN_SCOPE[0], namespace="mine").text == mine.ask(IN_SCOPE[0]).text
    assert [e.action for e in mine.history()] == ["added"] and yours.history() == []


def base_answers_for(editor: Editor) -> str:
    return editor.ask(IN_SCOPE[0], edits=False).text


# --- the memory under it ----------------------------------------------------------------------


def test_the_index_rebuilt_from_the_memory_finds_the_same(make_editor: Make) -> None:
    rng, editor = random.Random(1), make_editor()
    for _ in range(40):
        namespace = rng.choice(["default", "other"])
        edits = editor.memory.list(namespace)
        if edits and rng.random() < 0.5:
            edit = rng.choice(edits)
            (editor.forget if edit.active else editor.restore)(edit.id)
        else:
            editor.edit(f"The home of P{rng.randrange(99)} is Zed.", namespace=namespace)
        editor.shelf(rng.choice(["default", "other"]))
    queries = editor.gate.retriever.query_keys(IN_SCOPE)
    for name in ("default", "other"):
        known, fresh = editor.shelf(name), make_editor().shelf(name)
        assert known.edits == fresh.edits and len(known.edits) > 2
        assert len(known.index) == len(fresh.index) == len(known.edits)
        assert known.index.search(queries, 9) == fresh.index.search(queries, 9)


def test_only_what_changed_in_the_memory_is_read_again(
    tiny_editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tiny_editor)
    assert len(tiny_editor.shelf()) == 3
    asked: list[tuple[str, ...]] = []
    get_keys = tiny_editor.memory.get_keys
    monkeypatch.setattr(
        tiny_editor.memory, "get_keys", lambda s, ids: asked.append(tuple(ids)) or get_keys(s, ids)
    )
    tiny_editor.ask(IN_SCOPE[0])
    assert asked == []
    edit = tiny_editor.edit("The king of Peru is Max.")
    assert len(tiny_editor.shelf()) == 4 and asked == [(edit.id,)]
    tiny_editor.forget(edit.id)
    assert len(tiny_editor.shelf()) == 3 and asked == [(edit.id,)]


def test_what_another_process_does_is_seen(make_editor: Make) -> None:
    here, there = make_editor(), make_editor()
    assert not here.ask(IN_SCOPE[0]).decision.fired
    edit = there.edit(CAPITAL)
    assert here.explain(IN_SCOPE[0]).fired == (edit,)
    assert here.ask(IN_SCOPE[0]).text == there.ask(IN_SCOPE[0]).text
    there.forget(edit.id)
    assert not here.ask(IN_SCOPE[0]).decision.fired


def test_a_read_only_memory_can_be_asked(make_editor: Make) -> None:
    writer = make_editor()
    fill(writer)  # neither keys of the last edit nor prefixes are in the file yet
    reader = make_editor(read_only=True)
    expected = [a.decision.fired for a in reader.generate(IN_SCOPE)]
    assert [len(f) for f in expected] == [1, 1, 1, 2]
    assert texts(reader, IN_SCOPE) == texts(writer, IN_SCOPE)
    writer.edit("The king of Peru is Max.")
    assert reader.explain("Who is king of Peru?").fired
    with pytest.raises(MemoryFileError):
        reader.edit("The author of It is Bob.")


def test_prefixes_are_made_once_and_kept(
    make_editor: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = make_editor()
    edits = fill(editor)
    made = editor.cached_prefixes(edits)

    def refuse(_: object, edits: object) -> list[Prefix]:
        raise AssertionError("a prefix was made again")

    monkeypatch.setattr(VerbatimGenerator, "prefixes", refuse)
    again = make_editor().cached_prefixes(edits)
    for id_, prefix in made.items():
        pairs = zip(
            (*prefix.keys, *prefix.values), (*again[id_].keys, *again[id_].values), strict=True
        )
        assert all(torch.equal(a, b) for a, b in pairs)


# --- calibration ------------------------------------------------------------------------------


def test_a_calibration_is_kept_in_the_memory(make_editor: Make) -> None:
    editor = make_editor()
    fill(editor)
    fitted = editor.calibrate(["Hello", "Who is it?", "Peru"], rate=0.2)
    assert (fitted.queries, fitted.edits, fitted.rate) == (6, 3, 0.2)
    assert fitted.threshold == 0.5 and fitted.observed == 0.0
    assert fitted.gate == editor.gate.fingerprint
    again = make_editor()
    assert again.calibration() == fitted != again.gate.calibration
    assert again.calibration("other") == again.gate.calibration


def test_the_calibrated_threshold_is_the_one_that_decides(make_editor: Make) -> None:
    editor = make_editor()
    fill(editor)
    outside = ["The capital of Australia is what?"] * 9  # said to be out of scope
    fitted = editor.calibrate(outside, rate=0.1)
    assert fitted.threshold == pytest.approx(0.9) and fitted.queries == 12
    decision = editor.explain(IN_SCOPE[0])
    assert decision.fired == () and decision.threshold == fitted.threshold
    assert editor.explain(IN_SCOPE[0], namespace="other").threshold == 0.5
    assert editor.explain_many([IN_SCOPE[0]], threshold=0.5)[0].fired


def test_a_calibration_of_another_gate_does_not_count(make_editor: Make) -> None:
    editor = make_editor()
    fill(editor)
    editor.calibrate(["Hello"] * 9, rate=0.1)
    with torch.no_grad():
        editor.gate.retriever.query.weight.mul_(2)
    del editor.gate.fingerprint
    assert editor.calibration() == editor.gate.calibration


def test_an_edit_is_asked_of_the_others_only(tiny_editor: Editor) -> None:
    fill(tiny_editor)
    fitted = tiny_editor.calibrate(rate=0.5)
    assert fitted.queries == 3 and fitted.threshold == 0.5
    assert tiny_editor.calibrate(rate=0.5, most=1).queries == 1


@pytest.mark.parametrize("rate", [0.01, 0.0, 1.5])
def test_too_little_for_the_promise_is_refused(tiny_editor: Editor, rate: float) -> None:
    fill(tiny_editor)
    with pytest.raises(InputError):
        tiny_editor.calibrate(["Hello"], rate=rate)
    assert tiny_editor.calibration() == tiny_editor.gate.calibration


# --- at rest ----------------------------------------------------------------------------------


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A base model on disk."""
    folder = tmp_path / "model"
    make_model().save_pretrained(folder)
    make_tokenizer(bos=True).save_pretrained(folder)
    return folder


@pytest.fixture
def little_encoder(encoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The random sentence encoder in place of the packaged one."""
    monkeypatch.setattr("seprog.editor.TextEncoder", lambda device: TextEncoder(encoder_folder))


@pytest.mark.parametrize("kind", ["verbatim", "self_encoder"])
@pytest.mark.usefixtures("little_encoder")
def test_a_saved_editor_answers_the_same(
    model_folder: Path, tiny_gate: ScopeGate, tmp_path: Path, kind: str
) -> None:
    lm = CausalLM.from_pretrained(str(model_folder), dtype="float32")
    if kind == "self_encoder":  # as it comes back from disk: rounded
        SelfEncoder(lm, SelfEncoderConfig(3, 2)).save_pretrained(tmp_path / "g")
        generator = SelfEncoder.from_pretrained(tmp_path / "g", lm)
    else:
        generator = VerbatimGenerator(lm)
    tiny_gate.calibration = Calibration(0.3, 0.01, 100, 0, 0.0)
    with Memory(tmp_path / "edits.db") as memory:
        editor = Editor(lm, tiny_gate, generator, memory)
        fill(editor)
        editor.save_pretrained(tmp_path / "editor")
        answers = editor.generate([*IN_SCOPE, *OUT_OF_SCOPE], max_new_tokens=16)
    assert any(a.decision.fired for a in answers)
    loaded = Editor.from_pretrained(tmp_path / "editor", memory=tmp_path / "edits.db")
    assert loaded.generate([*IN_SCOPE, *OUT_OF_SCOPE], max_new_tokens=16) == answers
    assert loaded.generator.fingerprint == generator.fingerprint
    assert loaded.gate.fingerprint == tiny_gate.fingerprint
    loaded.save_pretrained(tmp_path / "again")
    for name in ("editor.json", "generator/generator.json", "gate/gate.json"):
        assert (tmp_path / "again" / name).read_text() == (tmp_path / "editor" / name).read_text()
    loaded.memory.close()


@pytest.mark.usefixtures("little_encoder")
def test_a_saved_editor_finds_its_model_from_anywhere(
    model_folder: Path, tiny_gate: ScopeGate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model_folder.parent)
    lm = CausalLM.from_pretrained(model_folder.name, dtype="float32")
    Editor(lm, tiny_gate).save_pretrained(tmp_path / "editor")
    monkeypatch.chdir(tmp_path)
    assert Editor.from_pretrained(tmp_path / "editor").lm.fingerprint == lm.fingerprint


@pytest.mark.usefixtures("little_encoder")
def test_the_parts_can_be_named_one_by_one(
    model_folder: Path, tiny_gate: ScopeGate, tmp_path: Path
) -> None:
    lm = make_lm()
    SelfEncoder(lm, SelfEncoderConfig(3, 2)).save_pretrained(tmp_path / "generator")
    SelfEncoder(make_lm(seed=1), SelfEncoderConfig(3, 2)).save_pretrained(tmp_path / "other")
    tiny_gate.save_pretrained(tmp_path / "gate")
    gate = tmp_path / "gate"
    plain = Editor.from_pretrained(str(model_folder), gate=str(gate))
    assert isinstance(plain.generator, VerbatimGenerator)
    assert plain.memory.path == ":memory:" and plain.lm.dtype == torch.float32
    trained = Editor.from_pretrained(
        model_folder, generator=tmp_path / "generator", gate=gate, namespace="mine"
    )
    assert isinstance(trained.generator, SelfEncoder) and trained.namespace == "mine"
    with pytest.raises(FingerprintMismatch):
        Editor.from_pretrained(model_folder, generator=tmp_path / "other", gate=gate)
    with pytest.raises(InputError, match="no gate"):
        Editor.from_pretrained(model_folder, gate=tmp_path)
    with pytest.raises(ModelError):
        Editor.from_pretrained(tmp_path / "nowhere", gate=gate)
    with pytest.raises(MemoryFileError):
        Editor.from_pretrained(model_folder, memory=tmp_path / "no" / "edits.db", gate=gate)


def test_the_memory_is_closed_if_the_rest_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    monkeypatch.setattr(Memory, "close", lambda memory: closed.append(memory.path))
    with pytest.raises(ModelError):
        Editor.from_pretrained(tmp_path / "nowhere", memory=tmp_path / "edits.db")
    assert closed == [str(tmp_path / "edits.db")]


def test_an_editor_whose_model_has_no_place_is_not_saved(
    tiny_editor: Editor, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="made in this process"):
        tiny_editor.save_pretrained(tmp_path / "editor")
    assert not (tmp_path / "editor").exists()


def test_keys_in_the_memory_are_the_gates(tiny_editor: Editor) -> None:
    edits = fill(tiny_editor)
    tiny_editor.ask(IN_SCOPE[0])
    stamp, wanted = tiny_editor.gate.fingerprint, [e.id for e in edits]
    ids, keys = tiny_editor.memory.get_keys(stamp, wanted)
    assert ids == wanted
    np.testing.assert_allclose(keys, tiny_editor.gate.keys(edits), atol=1e-3)
