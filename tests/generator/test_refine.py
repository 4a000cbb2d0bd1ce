"""A prefix with which the model does not give the edit's answer is moved until it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seprog.generator import SelfEncoder, SelfEncoderConfig, load_generator
from seprog.generator.objective import objective_for
from seprog.generator.refine import refined
from seprog.lm import CausalLM, EncoderModel, LanguageModel, Seq2SeqLM
from seprog.types import Edit, Example, Prefix, PrefixBatch
from tests.conftest import make_tokenizer
from tests.lm.families import build_encoder, build_seq2seq

EDIT = Edit("The home of Ann is Zed.", prompt="The home of Ann is", target="Zed")


def hits(lm: LanguageModel, edit: Edit, prefix: Prefix) -> bool:
    assert edit.prompt
    example = Example((), edit.prompt, edit.target)
    return objective_for(lm).ask(PrefixBatch.stack([prefix]), [example]).hits()[0]


def same(a: Prefix, b: Prefix) -> bool:
    pairs = zip((*a.keys, *a.values), (*b.keys, *b.values), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_what_fails_is_moved_until_it_takes(tiny_lm: CausalLM) -> None:
    before = {k: v.clone() for k, v in tiny_lm.model.state_dict().items()}
    [start] = tiny_lm.capture_text([EDIT.statement])
    assert not hits(tiny_lm, EDIT, start)
    [found] = refined(tiny_lm, [EDIT], [start], 300)
    assert hits(tiny_lm, EDIT, found) and len(found) == len(start)
    assert tiny_lm.generate([EDIT.prompt or ""], [found], 8)[0].strip() == "Zed."
    assert refined(tiny_lm, [EDIT], [found], 300)[0] is found  # what takes stays
    assert all(torch.equal(v, before[k]) for k, v in tiny_lm.model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in tiny_lm.model.parameters())


def test_what_cannot_be_tried_or_helped_stays(tiny_lm: CausalLM) -> None:
    [start] = tiny_lm.capture_text([EDIT.statement])
    assert refined(tiny_lm, [Edit(EDIT.statement)], [start], 300) == [start]
    assert refined(tiny_lm, [EDIT], [start], 1) == [start]


def test_each_is_moved_by_itself(tiny_lm: CausalLM) -> None:
    edits = [EDIT, Edit("No."), replace(EDIT, target="Max")]
    starts = tiny_lm.capture_text([e.statement for e in edits])
    found = refined(tiny_lm, edits, starts, 300)
    assert found[1] is starts[1]
    for i in (0, 2):
        [alone] = refined(tiny_lm, [edits[i]], [starts[i]], 300)
        assert same(alone, found[i]) and hits(tiny_lm, edits[i], found[i])


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_labels_and_written_answers_too(name: str) -> None:
    lm: LanguageModel
    if name == "bert":
        lm = EncoderModel(build_encoder(name, "sequence", "sdpa"), make_tokenizer(bos=True))
        said = lm.reply([EDIT.prompt or ""])
        edit = replace(EDIT, target=next(x for x in lm.labels if x not in said))
    else:
        lm, edit = Seq2SeqLM(build_seq2seq(name), make_tokenizer(bos=False)), EDIT
    [start] = lm.capture_text([edit.statement])
    [found] = refined(lm, [edit], [start], 300)
    assert hits(lm, edit, found) and not hits(lm, edit, start)


def test_other_heads_are_left_alone() -> None:
    lm = EncoderModel(build_encoder("bert", "masked_lm", "sdpa"), make_tokenizer(bos=True))
    [start] = lm.capture_text([EDIT.statement])
    assert refined(lm, [EDIT], [start], 5) == [start]


def test_a_generator_refines_as_it_is_configured(tiny_lm: CausalLM, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = SelfEncoder(tiny_lm, SelfEncoderConfig(2, 2))
    careful = SelfEncoder(tiny_lm, SelfEncoderConfig(2, 2, refine=300))
    careful.load_state_dict(plain.state_dict())
    assert careful.fingerprint != plain.fingerprint
    careful.save_pretrained(tmp_path)
    loaded = load_generator(tmp_path, tiny_lm)
    assert isinstance(loaded, SelfEncoder) and loaded.config.refine == 300
    assert not hits(tiny_lm, EDIT, plain.prefixes([EDIT])[0])
    assert hits(tiny_lm, EDIT, careful.prefixes([EDIT])[0])
