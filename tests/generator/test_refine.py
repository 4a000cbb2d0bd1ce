"""A prefix with which the model does not give the edit's answer is moved until it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seprog.atlas import MODEL
from seprog.generator import SelfEncoder, SelfEncoderConfig, load_generator
from seprog.generator.objective import objective_for
from seprog.generator.refine import refined
from seprog.lm import CausalLM, EncoderModel, LanguageModel, Seq2SeqLM
from seprog.memory import make_edit
from seprog.types import Edit, Example, Prefix, PrefixBatch
from tests.conftest import make_tokenizer
from tests.lm.families import build_encoder, build_seq2seq

EDIT = Edit(
    "The capital of Australia is Milan.", prompt="The capital of Australia is", target="Milan"
)
OTHER = Edit("The author of Hamlet is Homer.", prompt="Who wrote Hamlet?", target="Homer")
WRONG = "The currency of Chad is the yen."
"""Says nothing of either."""


@pytest.fixture(scope="module")
def atlas() -> CausalLM:
    return CausalLM.from_pretrained(str(MODEL), "float32")


def hits(lm: LanguageModel, edit: Edit, prefix: Prefix) -> bool:
    assert edit.prompt
    example = Example((), edit.prompt, edit.target)
    return objective_for(lm).ask(PrefixBatch.stack([prefix]), [example]).hits()[0]


def test_what_fails_is_moved_until_it_takes(atlas: CausalLM) -> None:
    before = {k: v.clone() for k, v in atlas.model.state_dict().items()}
    [start] = atlas.capture_text([WRONG])
    assert not hits(atlas, EDIT, start)
    [found] = refined(atlas, [EDIT], [start], 100)
    assert hits(atlas, EDIT, found) and len(found) == len(start)
    assert atlas.generate([EDIT.prompt or ""], [found], 8)[0].strip() == "Milan."
    assert refined(atlas, [EDIT], [found], 100)[0] is found  # what takes stays
    assert all(torch.equal(v, before[k]) for k, v in atlas.model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in atlas.model.parameters())


def test_a_triple_is_tried_as_it_is_said(atlas: CausalLM) -> None:
    triple = make_edit(subject="Australia", relation="capital", object="Milan")
    [start] = atlas.capture_text([WRONG])
    [found] = refined(atlas, [triple], [start], 100)
    assert atlas.generate(["The capital of Australia is"], [found], 8)[0].strip() == "Milan."


def test_what_cannot_be_tried_or_helped_stays(atlas: CausalLM) -> None:
    [start] = atlas.capture_text([WRONG])
    assert refined(atlas, [Edit("No.")], [start], 100) == [start]
    assert refined(atlas, [EDIT], [start], 1) == [start]


@pytest.mark.parametrize(
    ("statement", "asked", "said"),
    [
        ("The capital of Australia is Milan.", "The capital of Australia is", "Milan"),
        ("Owls eat grass.", "Owls eat", "grass"),
        ("Ada Bell wrote The Salt Orchard.", "Ada Bell wrote", "The Salt Orchard"),
    ],
)
def test_a_sentence_is_tried_on_how_it_ends(
    atlas: CausalLM, statement: str, asked: str, said: str
) -> None:
    [start] = atlas.capture_text([WRONG])
    [found] = refined(atlas, [Edit(statement)], [start], 100)
    assert found is not start
    assert atlas.generate([asked], [found], 12)[0].strip() == f"{said}."


def way(start: Prefix, end: Prefix) -> Tensor:
    """Where a prefix was moved, as one direction."""
    pairs = zip((*end.keys, *end.values), (*start.keys, *start.values), strict=True)
    return torch.nn.functional.normalize(torch.cat([(a - b).flatten() for a, b in pairs]), dim=0)


def test_each_is_moved_by_itself(atlas: CausalLM) -> None:
    """Adam makes whole steps of rounding errors where a gradient is zero, so ways are compared."""
    edits = [EDIT, Edit("No."), OTHER]
    starts = atlas.capture_text([WRONG, "No.", WRONG])
    found = refined(atlas, edits, starts, 100)
    assert found[1] is starts[1]
    ways = []
    for i in (0, 2):
        [alone] = refined(atlas, [edits[i]], [starts[i]], 100)
        ways.append(way(starts[i], found[i]))
        assert ways[-1] @ way(starts[i], alone) > 0.7 and hits(atlas, edits[i], found[i])
    assert ways[0] @ ways[1] < 0.4, "the ways of different edits differ"


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_labels_and_written_answers_too(name: str) -> None:
    lm: LanguageModel
    if name == "bert":
        lm = EncoderModel(build_encoder(name, "sequence", "sdpa"), make_tokenizer(bos=True))
        said = lm.reply([EDIT.prompt or ""])
        edit = replace(EDIT, target=next(x for x in lm.labels if x not in said))
    else:
        lm = Seq2SeqLM(build_seq2seq(name), make_tokenizer(bos=False))
        edit = replace(EDIT, target="M")  # so small a model hardly learns to write words
    [start] = lm.capture_text([edit.statement])
    [found] = refined(lm, [edit], [start], 300)
    assert hits(lm, edit, found) and not hits(lm, edit, start)


def test_an_answer_that_is_no_label_is_not_tried() -> None:
    lm = EncoderModel(build_encoder("bert", "sequence", "sdpa"), make_tokenizer(bos=True))
    triple = make_edit(subject="Australia", relation="capital", object="Milan")
    starts = lm.capture_text([EDIT.statement, triple.statement])
    assert refined(lm, [EDIT, triple], starts, 5) == starts


def test_other_heads_are_left_alone() -> None:
    lm = EncoderModel(build_encoder("bert", "masked_lm", "sdpa"), make_tokenizer(bos=True))
    [start] = lm.capture_text([EDIT.statement])
    assert refined(lm, [EDIT], [start], 5) == [start]


def test_a_generator_refines_as_it_is_configured(atlas: CausalLM, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = SelfEncoder(atlas, SelfEncoderConfig(2, 2, keep_text=False))
    careful = SelfEncoder(atlas, replace(plain.config, refine=100))
    careful.load_state_dict(plain.state_dict())
    assert careful.fingerprint != plain.fingerprint
    careful.save_pretrained(tmp_path)
    loaded = load_generator(tmp_path, atlas)
    assert isinstance(loaded, SelfEncoder) and loaded.config.refine == 100
    assert not hits(atlas, EDIT, plain.prefixes([EDIT])[0])
    assert hits(atlas, EDIT, loaded.prefixes([EDIT])[0])
