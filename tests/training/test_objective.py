"""What a generator is trained for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seprog.errors import InputError
from seprog.generator import SelfEncoder, SelfEncoderConfig, load_generator
from seprog.generator.objective import (
    Classification,
    Continuation,
    Translation,
    objective_for,
)
from seprog.generator.refine import refined
from seprog.lm import CausalLM, EncoderModel, Seq2SeqLM
from seprog.training.generator import GeneratorTraining, check, train_generator, with_base_answers
from seprog.types import Edit, Example, Prefix, PrefixBatch
from tests.conftest import make_tokenizer, make_wordpiece
from tests.lm.families import build_encoder, build_seq2seq

EXAMPLES = [
    Example(("No.",), "The home of Ann is", "LABEL_0"),
    Example(("No.", "It is so."), "Where is Bob?", None),
    Example(("It is so.",), "Who is king?", "LABEL_2"),
]
TINY = GeneratorTraining(summary=2, rank=4, steps=12, batch=8, lr=0.05, keep=0.1, check_every=6)


def classifier(head: str = "sequence") -> EncoderModel:
    return EncoderModel(build_encoder("bert", head, "sdpa"), make_tokenizer(bos=True))


def writer(name: str) -> Seq2SeqLM:
    return Seq2SeqLM(build_seq2seq(name), make_tokenizer(bos=False))


@pytest.fixture(scope="module")
def lm() -> EncoderModel:
    return classifier()


@pytest.fixture
def generator(lm: EncoderModel) -> SelfEncoder:
    torch.manual_seed(0)
    return SelfEncoder(lm, SelfEncoderConfig(2, 4))


def test_each_kind_of_model_has_its_objective(lm: EncoderModel, tiny_lm: CausalLM) -> None:
    assert isinstance(objective_for(lm), Classification)
    assert isinstance(objective_for(tiny_lm), Continuation)
    with pytest.raises(InputError, match="masked_lm"):
        objective_for(classifier("masked_lm"))
    assert isinstance(objective_for(writer("t5")), Translation)


def test_losses_of_labels(lm: EncoderModel, generator: SelfEncoder) -> None:
    objective = Classification(lm)
    learn, keep, other = with_base_answers(objective, iter(EXAMPLES))
    assert [keep.answer] == lm.reply(["Where is Bob?"]) and keep.keep
    found = objective.losses(generator, [learn, keep, other])
    assert found.keys() == {"learn", "keep"} and found["keep"] > 0
    prefixes = [Prefix.join(generator.prefixes([Edit(t) for t in e.edits])) for e in (learn, other)]
    rows = lm.classify([learn.prompt, other.prompt], prefixes)
    right = torch.tensor([rows[0]["LABEL_0"], rows[1]["LABEL_2"]])
    assert found["learn"].item() == pytest.approx(-right.log().mean().item(), abs=1e-4)
    assert objective.losses(generator, [keep]).keys() == {"keep"}
    said = [max(row, key=row.__getitem__) for row in rows]
    asked = objective.ask(PrefixBatch.stack(prefixes), [learn, other])
    assert asked.hits() == [said[0] == "LABEL_0", said[1] == "LABEL_2"]
    assert asked.token_accuracy() == [float(hit) for hit in asked.hits()]


def test_an_answer_that_is_no_label_is_refused(lm: EncoderModel, generator: SelfEncoder) -> None:
    with pytest.raises(InputError, match="LABEL_0, LABEL_1, LABEL_2"):
        Classification(lm).losses(generator, [replace(EXAMPLES[0], answer="maybe")])


def test_a_classifiers_generator_is_trained_and_loads(tmp_path: Path) -> None:
    lm = classifier()
    names = ("Ann", "Bob", "Cy", "Dot", "Eve")
    said = set(lm.reply([f"The home of {name} is" for name in names]))
    label = next(x for x in lm.labels if x not in said)
    rows = [
        {"edits": [f"The home of {name} is Zed."], "prompt": prompt, "answer": answer}
        for name in names
        for prompt, answer in 3 * [(f"The home of {name} is", label)] + [("Who is king?", None)]
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    before = {k: v.clone() for k, v in lm.model.state_dict().items()}
    trained = train_generator(lm, tmp_path / "out", tmp_path / "run", TINY, data)
    wanted = [Example(tuple(r["edits"]), r["prompt"], r["answer"]) for r in rows[::4]]
    assert check(Classification(lm), trained, wanted)["learn"] == 1.0
    assert all(torch.equal(v, before[k]) for k, v in lm.model.state_dict().items())
    assert load_generator(tmp_path / "out", lm).fingerprint == trained.fingerprint


# --- sequence-to-sequence models --------------------------------------------------------------


@pytest.mark.parametrize("name", ["t5", "bart", "bart_forced"])
def test_losses_of_written_answers(name: str) -> None:
    lm = writer(name)
    torch.manual_seed(0)
    generator = SelfEncoder(lm, SelfEncoderConfig(2, 4))
    objective = objective_for(lm)
    [own] = lm.generate(["Where is Bob?"], max_new_tokens=16)
    rows = [replace(e, answer=e.answer and "Zed") for e in EXAMPLES]
    learn, keep, other = with_base_answers(objective, iter(rows))
    assert keep.answer == (own.strip() or ".") and keep.keep
    found = objective.losses(generator, [learn, keep, other])
    assert found.keys() == {"learn", "keep"} and all(x.requires_grad for x in found.values())
    alone = objective.losses(generator, [learn])["learn"].item()
    prefix = Prefix.join(generator.prefixes([Edit(t) for t in learn.edits]))
    end = lm.tokenizer.eos_token
    [score] = lm.score([learn.prompt], [f"Zed{end}"], [prefix])
    tokens = len(lm.tokens.encode(["Zed"], bos=False)[0])
    closed = lm.tokens.encode(["Zed"], bos=False)[0][-1] == lm.tokenizer.eos_token_id
    assert alone == pytest.approx(-score / (tokens + (not closed)), abs=1e-3)
    assert objective.losses(generator, [keep]).keys() == {"keep"}
    asked = objective.ask(PrefixBatch.stack([prefix]), [learn])
    assert asked.losses().item() == pytest.approx(alone, abs=1e-3) and len(asked.hits()) == 1
    [share] = asked.token_accuracy()
    assert 0 <= share <= 1 and (share == 1) == asked.hits()[0]


def test_a_prefix_that_hits_makes_the_model_write_the_answer() -> None:
    lm = writer("bart_forced")
    edit = Edit("R it is.", prompt="Is it?", target="R")
    [start] = lm.capture_text([edit.statement])
    [found] = refined(lm, [edit], [start], 60)
    asked = Translation(lm).ask(PrefixBatch.stack([found]), [Example((), "Is it?", "R")])
    assert asked.hits() == [True]
    assert lm.generate(["Is it?"], [found], 8) == ["R"]


def test_an_answer_is_closed_by_its_end_alone() -> None:
    tokenizer = make_wordpiece()
    tokenizer.eos_token = "[SEP]"
    lm = Seq2SeqLM(build_seq2seq("mbart"), tokenizer)
    lm.tokens.trailing = [3, 9]  # as mBART's: its end, then a token of the language
    examples = [Example((), "who", answer) for answer in ("king", "a king")]
    asked = Translation(lm).ask(None, examples)
    rows = [row[real].tolist() for row, real in zip(asked.wanted, asked.real, strict=True)]
    words = [tokenizer(a, add_special_tokens=False).input_ids for a in ("king", "a king")]
    assert rows == [[*word, 3] for word in words]


def test_a_writers_generator_is_trained(tmp_path: Path) -> None:
    lm = writer("t5")
    rows = [
        {"edits": [f"The home of {name} is Zed."], "prompt": f"The home of {name} is", "answer": a}
        for name in ("Ann", "Bob", "Cy", "Dot", "Eve")
        for a in ("Zed", "Zed")
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    torch.manual_seed(0)
    wanted = [Example(tuple(r["edits"]), r["prompt"], r["answer"]) for r in rows[::2]]
    fresh = SelfEncoder(lm, SelfEncoderConfig(TINY.summary, TINY.rank))
    before = Translation(lm).losses(fresh, wanted)["learn"].item()
    how = replace(TINY, steps=30, check_every=10)
    trained = train_generator(lm, tmp_path / "out", tmp_path / "run", how, data)
    assert Translation(lm).losses(trained, wanted)["learn"].item() < 0.9 * before
