"""What holds for every sequence-to-sequence family and attention implementation."""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from transformers.modeling_outputs import BaseModelOutput

from seprog.errors import InputError, ModelError
from seprog.lm import LanguageModel, Seq2SeqLM, load_lm
from seprog.types import PrefixBatch
from tests.conftest import make_tokenizer, make_wordpiece
from tests.lm.families import SEQ2SEQ, VOCAB, build_seq2seq, untouched
from tests.lm.helpers import QUERIES, TEXTS, batch, close, learnt_prefixes, mixed

CASES = list(product(SEQ2SEQ, ("sdpa", "eager")))
contract = pytest.mark.parametrize(("name", "attention"), CASES)
OPTIONS = [
    {},
    {"num_beams": 3, "num_return_sequences": 2},
    {"do_sample": True, "temperature": 1.5, "num_return_sequences": 2},
]
WRITTEN = torch.tensor([[1, 50, 60, 70]] * 3)


@cache
def load(name: str, attention: str = "sdpa") -> tuple[Seq2SeqLM, Any]:
    """The model with prefixes, and an untouched copy. Never change either."""
    model = build_seq2seq(name, attention)
    copy = untouched(model).requires_grad_(False)
    return Seq2SeqLM(model, make_tokenizer(bos=True)), copy


@contract
def test_reads_the_shape(name: str, attention: str) -> None:
    lm, _ = load(name, attention)
    assert isinstance(lm, LanguageModel) and lm.generates
    assert [(s.kv_heads, s.head_dim) for s in lm.spec.sites] == [(4, 8)] * 6
    kinds = ["encoder self-attention", "decoder self-attention", "cross-attention"]
    assert [(part, len(spec.sites)) for part, spec in lm.parts.items()] == [(k, 2) for k in kinds]
    assert sum(s.bytes_per_token(4) for s in lm.parts.values()) == lm.spec.bytes_per_token(4)
    assert lm.positions == "unmoved"
    assert lm.n_positions == (None if "t5" in name else 128)


@contract
def test_rows_without_a_prefix_are_bitwise_the_models(name: str, attention: str) -> None:
    lm, base = load(name, attention)
    ids, mask = batch(lm, QUERIES)
    expected = base(input_ids=ids, attention_mask=mask, decoder_input_ids=WRITTEN).logits
    assert torch.equal(lm(ids, mask, decoder_input_ids=WRITTEN), expected)
    logits = lm(ids, mask, PrefixBatch.stack(mixed(lm)), decoder_input_ids=WRITTEN)
    assert torch.equal(logits[1], expected[1])
    assert not any(close(logits[i], expected[i], 1e-2) for i in (0, 2))


@contract
@pytest.mark.parametrize("options", OPTIONS, ids=["greedy", "beam", "sampling"])
def test_rows_without_a_prefix_write_what_the_model_does(
    name: str, attention: str, options: dict[str, Any]
) -> None:
    lm, base = load(name, attention)
    ids, mask = batch(lm, QUERIES)
    options = {"max_new_tokens": 6, "do_sample": False} | options
    torch.manual_seed(7)
    expected = base.generate(ids, attention_mask=mask, pad_token_id=0, **options)
    torch.manual_seed(7)
    assert torch.equal(lm.generate_ids(ids, mask, None, **options), expected)
    torch.manual_seed(7)
    edited = lm.generate_ids(ids, mask, PrefixBatch.stack(mixed(lm)), **options)
    copies, width = len(edited) // 3, min(edited.shape[1], expected.shape[1])
    rows = slice(copies, 2 * copies)
    assert torch.equal(edited[rows, :width], expected[rows, :width])


@contract
def test_a_mixed_batch_equals_each_row_alone(name: str, attention: str) -> None:
    lm, _ = load(name, attention)
    ids, mask = batch(lm, QUERIES)
    prefixes, answers = mixed(lm), [" Rome", " no", " maybe so"]
    together = lm(ids, mask, PrefixBatch.stack(prefixes), decoder_input_ids=WRITTEN)
    scores = lm.score(QUERIES, answers, prefixes)
    replies = lm.reply(QUERIES, prefixes, max_new_tokens=6)
    for row, prefix in enumerate(prefixes):
        own, real = batch(lm, QUERIES[row : row + 1])
        stacked = PrefixBatch.stack([prefix])
        alone = lm(own, real, stacked, decoder_input_ids=WRITTEN[:1])
        assert close(together[row], alone[0])
        [score] = lm.score([QUERIES[row]], [answers[row]], [prefix])
        assert score == pytest.approx(scores[row], abs=1e-4)
        assert "".join(lm.stream(QUERIES[row], prefix, 6)) == replies[row]


@contract
def test_decoding_step_by_step_equals_one_pass(name: str, attention: str) -> None:
    lm, _ = load(name, attention)
    ids, mask = batch(lm, QUERIES)
    prefixes = PrefixBatch.stack(mixed(lm))
    written = lm.generate_ids(ids, mask, prefixes, max_new_tokens=6)
    first = len(lm._opening)
    logits = lm(ids, mask, prefixes, decoder_input_ids=written[:, :-1])[:, first - 1 :]
    going = torch.cat([written[:, :1] * 0, written[:, first:-1]], dim=1) != 2
    going = going.cumprod(dim=1).bool()
    assert torch.equal(logits.argmax(-1)[going], written[:, first:][going])
    assert torch.equal(lm.answer_logits(ids, mask, written[:, first:], prefixes), logits)


@pytest.mark.parametrize(("name", "attention"), list(product(("t5", "mt5"), ("sdpa", "eager"))))
def test_an_injected_text_is_a_context_that_does_not_see_the_query(
    name: str, attention: str
) -> None:
    lm, base = load(name, attention)
    low = torch.finfo(torch.float32).min
    for text in TEXTS:
        told, asked = (batch(lm, [t])[0] for t in (text, QUERIES[0]))
        n, whole = told.shape[1], torch.cat([told, asked], dim=1)
        written = torch.cat([told, WRITTEN[:1]], dim=1)
        both = torch.zeros(1, 1, whole.shape[1], whole.shape[1])
        across = torch.zeros(1, 1, written.shape[1], whole.shape[1])
        for hidden in (both, across):
            hidden[..., :n, n:] = low
        ahead = torch.full((1, 1, written.shape[1], written.shape[1]), low).triu(1)
        read = base.encoder(input_ids=whole, attention_mask=both)[0]
        expected = base(
            encoder_outputs=BaseModelOutput(last_hidden_state=read),
            attention_mask=across,
            decoder_input_ids=written,
            decoder_attention_mask=ahead,
        ).logits[:, n:]
        prefixes = PrefixBatch.stack(lm.capture_text([text]))
        assert close(lm(asked, None, prefixes, decoder_input_ids=WRITTEN[:1]), expected)
        assert not close(lm(asked, decoder_input_ids=WRITTEN[:1]), expected, 1e-2)


@contract
def test_a_scored_answer_is_as_likely_as_when_it_is_written(name: str, attention: str) -> None:
    lm, base = load(name, attention)
    ids, mask = batch(lm, QUERIES)
    [answer], forced = lm.tokens.encode(["Rome"], bos=False), SEQ2SEQ[name].forced
    told = answer if forced is None else [forced, *answer]
    written = base.generate(
        ids,
        attention_mask=mask,
        pad_token_id=0,
        max_new_tokens=len(told),
        prefix_allowed_tokens_fn=lambda _, read: [told[len(read) - 1]],
        output_logits=True,
        return_dict_in_generate=True,
    )
    steps = torch.stack(written.logits[-len(answer) :], dim=1).log_softmax(-1)
    expected = steps[:, torch.arange(len(answer)), torch.tensor(answer)].sum(dim=1)
    assert lm.score(QUERIES, ["Rome"] * 3) == pytest.approx(expected.tolist(), abs=1e-4)


@contract
def test_gradients_reach_every_prefix_tensor(name: str, attention: str) -> None:
    lm, _ = load(name, attention)
    prefixes = learnt_prefixes(lm)
    ids, mask = batch(lm, QUERIES)
    lm(ids, mask, prefixes, decoder_input_ids=WRITTEN).square().sum().backward()
    for tensor in (*prefixes.keys, *prefixes.values):
        assert torch.equal(tensor.grad.abs().sum(dim=(1, 3)) > 0, prefixes.mask)


def test_a_decoder_of_another_depth_has_its_own_number_of_sites() -> None:
    model = tf.T5ForConditionalGeneration(
        tf.T5Config(
            vocab_size=VOCAB,
            **SEQ2SEQ["t5"].options,
            num_decoder_layers=1,
            decoder_start_token_id=0,
        )
    )
    lm = Seq2SeqLM(model, make_tokenizer(bos=True))
    assert [len(spec.sites) for spec in lm.parts.values()] == [2, 1, 1]


def test_special_tokens_close_a_query_and_not_a_scored_answer() -> None:
    lm = Seq2SeqLM(build_seq2seq("t5"), make_wordpiece())
    end = lm.tokens.trailing
    assert lm.tokens.encode(["home"], bos=False)[0][-1:] == end and len(end) == 1
    ids, mask = batch(lm, ["who"])
    word = lm.tokens.encode(["king"], bos=False)[0][:-1]
    logits = lm(ids, mask, decoder_input_ids=torch.tensor([[1, *word]]))[0, :-1]
    expected = logits.log_softmax(-1).gather(1, torch.tensor(word)[:, None]).sum().item()
    assert lm.score(["who"], ["king"]) == [pytest.approx(expected, abs=1e-4)]


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_saved_models_load(name: str, tmp_path: Path) -> None:
    lm, base = load(name)
    base.save_pretrained(tmp_path)
    make_tokenizer(bos=True).save_pretrained(tmp_path)
    loaded = load_lm(str(tmp_path))
    assert isinstance(loaded, Seq2SeqLM)
    assert (loaded.fingerprint, loaded.spec) == (lm.fingerprint, lm.spec)
    assert loaded.reply(QUERIES, max_new_tokens=4) == lm.reply(QUERIES, max_new_tokens=4)


def test_what_is_refused() -> None:
    model = build_seq2seq("t5")
    model.config.decoder_start_token_id = None
    model.generation_config.decoder_start_token_id = None
    with pytest.raises(ModelError, match="decoder_start_token_id"):
        Seq2SeqLM(model, make_tokenizer(bos=True))
    lm, _ = load("bart")
    with pytest.raises(InputError, match="128"):
        lm.reply(["long " * 60])
    with pytest.raises(InputError, match="one each"):
        lm.score(QUERIES, ["a"])
