"""What holds for every encoder family, head and attention implementation."""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from torch import Tensor

from seprog.errors import FingerprintMismatch, InputError, ModelError
from seprog.lm import EncoderModel, LanguageModel, load_lm
from seprog.lm.tokens import Tokens
from seprog.types import Prefix, PrefixBatch
from tests.conftest import make_tokenizer, make_wordpiece
from tests.lm.families import (
    ENCODERS,
    FAMILIES,
    HEADS,
    VOCAB,
    build_encoder,
    randomize,
    untouched,
)
from tests.lm.helpers import QUERIES, TEXTS, batch, close, learnt_prefixes, mixed, random_prefix

CASES = list(product(ENCODERS, HEADS, ("sdpa", "eager")))
contract = pytest.mark.parametrize(("name", "head", "attention"), CASES)


@cache
def load(name: str, head: str, attention: str = "sdpa") -> tuple[EncoderModel, Any]:
    """The model with prefixes, and an untouched copy. Never change either."""
    model = build_encoder(name, head, attention)
    copy = untouched(model)
    return EncoderModel(model, make_tokenizer(bos=True)), copy


def rows(lm: EncoderModel, logits: Tensor, mask: Tensor) -> list[Tensor]:
    """Each row's logits where its tokens are real."""
    if lm.head == "sequence":
        return list(logits)
    return [row[real] for row, real in zip(logits, mask.bool(), strict=True)]


@contract
def test_reads_the_shape(name: str, head: str, attention: str) -> None:
    lm, _ = load(name, head, attention)
    family = ENCODERS[name]
    assert isinstance(lm, LanguageModel) and lm.head == head
    assert [(s.kv_heads, s.head_dim) for s in lm.spec.sites] == [(family.heads, 8)] * 2
    assert lm.positions == family.positions
    assert lm.n_positions == (129 if "roberta" in name else 130)
    assert lm.labels == (() if head == "masked_lm" else ("LABEL_0", "LABEL_1", "LABEL_2"))
    assert not any(p.requires_grad for p in lm.model.parameters())


@contract
def test_rows_without_a_prefix_are_bitwise_the_models(name: str, head: str, attention: str) -> None:
    lm, base = load(name, head, attention)
    ids, mask = batch(lm, QUERIES)
    plain = rows(lm, base(ids, attention_mask=mask).logits, mask)
    for ours, theirs in zip(rows(lm, lm(ids, mask), mask), plain, strict=True):
        assert torch.equal(ours, theirs)
    logits = lm(ids, mask, PrefixBatch.stack(mixed(lm)))
    edited = rows(lm, logits, mask)
    assert torch.equal(edited[1], plain[1]) and torch.equal(logits[1], lm(ids, mask)[1])
    assert not any(close(edited[i], plain[i], 1e-2) for i in (0, 2))
    assert torch.equal(lm(ids[:1]), base(ids[:1]).logits)


@contract
def test_a_mixed_batch_equals_each_row_alone(name: str, head: str, attention: str) -> None:
    lm, _ = load(name, head, attention)
    ids, mask = batch(lm, QUERIES)
    together = rows(lm, lm(ids, mask, PrefixBatch.stack(mixed(lm))), mask)
    replies = lm.reply([f"{q}" for q in QUERIES], mixed(lm)) if head != "masked_lm" else []
    for row, prefix in enumerate(mixed(lm)):
        own, real = batch(lm, QUERIES[row : row + 1])
        [alone] = rows(lm, lm(own, real, PrefixBatch.stack([prefix])), real)
        assert close(together[row], alone)
        if replies:
            assert lm.reply(QUERIES[row : row + 1], [prefix]) == replies[row : row + 1]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ENCODERS)
def test_an_injected_text_is_a_context_that_does_not_see_the_query(
    name: str, attention: str
) -> None:
    lm, base = load(name, "token", attention)
    for text in TEXTS:
        told, asked = (batch(lm, [t])[0] for t in (text, QUERIES[0]))
        n, whole = told.shape[1], torch.cat([told, asked], dim=1)
        sees = torch.ones(1, 1, whole.shape[1], whole.shape[1])
        sees[..., :n, n:] = 0
        hidden = (1 - sees) * torch.finfo(torch.float32).min
        places = torch.arange(whole.shape[1])[None] + lm._first
        masks: Any = (
            hidden
            if name != "modernbert"
            else dict.fromkeys(("full_attention", "sliding_attention"), hidden)
        )
        expected = base(whole, attention_mask=masks, position_ids=places).logits[:, n:]
        prefixes = PrefixBatch.stack(lm.capture_text([text]))
        assert close(lm(asked, None, prefixes), expected)
        assert not close(lm(asked), expected, 1e-2)


@contract
def test_gradients_reach_every_prefix_tensor(name: str, head: str, attention: str) -> None:
    lm, _ = load(name, head, attention)
    prefixes = learnt_prefixes(lm)
    ids, mask = batch(lm, QUERIES)
    lm(ids, mask, prefixes)[:, 0].square().sum().backward()
    for tensor in (*prefixes.keys, *prefixes.values):
        assert torch.equal(tensor.grad.abs().sum(dim=(1, 3)) > 0, prefixes.mask)


def test_a_module_that_serves_several_layers_has_a_prefix_for_each() -> None:
    lm, _ = load("albert", "sequence")
    assert len(set(lm._sites.modules)) == 1
    [prefix] = lm.capture_text(TEXTS[:1])
    ids, mask = batch(lm, QUERIES[:1])
    plain = lm(ids, mask, PrefixBatch.stack([prefix]))
    for site in (0, 1):
        keys = list(prefix.keys)
        keys[site] = -keys[site]
        changed = lm(ids, mask, PrefixBatch.stack([Prefix(tuple(keys), prefix.values)]))
        assert not close(changed, plain, 1e-3)
    assert not torch.equal(prefix.keys[0], prefix.keys[1])


def test_whole_texts_are_closed_and_padded_on_the_right() -> None:
    tokenizer = make_wordpiece()
    tokens = Tokens(tokenizer, whole=True)
    texts = ["the home of ann", "zed"]
    rows_ = tokens.encode(texts)
    assert rows_ == [list(tokenizer(t).input_ids) for t in texts]
    assert len(tokens.leading) == len(tokens.trailing) == 1
    ids, mask = tokens.pad(rows_, torch.device("cpu"))
    expected = tokenizer(texts, padding=True, return_tensors="pt")
    assert torch.equal(ids, expected.input_ids) and torch.equal(mask, expected.attention_mask)
    assert tokens.encode(texts, bos=False) == [r[1:] for r in rows_]


def test_labels_probabilities_and_filled_masks() -> None:
    lm, _ = load("bert", "sequence")
    scores = lm.classify(QUERIES, mixed(lm))
    assert all(sum(s.values()) == pytest.approx(1) for s in scores)
    assert lm.reply(QUERIES, mixed(lm)) == [max(s, key=s.__getitem__) for s in scores]
    tagger, _ = load("bert", "token")
    counts = [len(QUERIES[0].encode()), len(QUERIES[1].encode())]
    assert [len(r.split()) for r in tagger.reply(QUERIES[:2])] == counts
    model, tokenizer = build_encoder("bert", "masked_lm"), make_tokenizer(bos=True)
    tokenizer.add_special_tokens({"mask_token": "</s>"})
    filler = EncoderModel(model, tokenizer)
    ids = filler.tokens.pad(filler.tokens.encode(["It is </s>."]), filler.device)[0]
    best = filler(ids).argmax(-1)[0][ids[0] == tokenizer.mask_token_id]
    assert filler.reply(["It is </s>."]) == [filler.tokens.decode(best.tolist()).strip()]
    with pytest.raises(InputError, match="has no mask"):
        filler.reply(["It is so."])


def test_what_an_encoder_refuses() -> None:
    lm, _ = load("bert", "sequence")
    for call in (lm.generate, lm.stream, lm.score, lm.generate_ids):
        with pytest.raises(InputError, match="asked to go on") as error:
            call(QUERIES)
        assert error.value.expected and error.value.advice
    with pytest.raises(InputError, match="sequence classification"):
        load("bert", "token")[0].classify(QUERIES)
    with pytest.raises(InputError, match="130"):
        lm.reply(["long " * 60])
    with pytest.raises(InputError, match="one per text"):
        lm.reply(QUERIES, [None])
    other = random_prefix(load("albert", "sequence")[0], 2)
    thin = Prefix(tuple(k[:2] for k in other.keys), tuple(v[:2] for v in other.values))
    with pytest.raises(FingerprintMismatch):
        lm.reply(QUERIES[:1], [thin])


@pytest.mark.parametrize(("name", "head"), list(product(ENCODERS, HEADS)))
def test_saved_models_load_with_their_head(name: str, head: str, tmp_path: Path) -> None:
    lm, base = load(name, head)
    base.save_pretrained(tmp_path)
    make_tokenizer(bos=True).save_pretrained(tmp_path)
    loaded = load_lm(str(tmp_path))
    assert isinstance(loaded, EncoderModel) and loaded.head == head
    assert (loaded.fingerprint, loaded.spec) == (lm.fingerprint, lm.spec)
    ids, mask = batch(lm, QUERIES)
    assert torch.equal(loaded(ids, mask), lm(ids, mask))


DECODERS: dict[str, Any] = {
    "gpt2": tf.GPT2Config,
    "llama": tf.LlamaConfig,
}


def decoder(name: str, padding: int | None) -> Any:
    """A decoder with a head that classifies texts."""
    options = FAMILIES[name].options | {"num_labels": 3, "pad_token_id": padding}
    config = DECODERS[name](vocab_size=VOCAB, bos_token_id=1, eos_token_id=2, **options)
    return randomize(tf.AutoModelForSequenceClassification.from_config(config))


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_that_classify_texts(name: str) -> None:
    model = decoder(name, 0)
    base = untouched(model)
    lm = EncoderModel(model, make_tokenizer(bos=True))
    ids, mask = batch(lm, QUERIES)
    plain = base(ids, attention_mask=mask).logits
    logits = lm(ids, mask, PrefixBatch.stack(mixed(lm)))
    assert torch.equal(lm(ids, mask), plain) and torch.equal(logits[1], plain[1])
    for row, prefix in enumerate(mixed(lm)):
        own, real = batch(lm, QUERIES[row : row + 1])
        assert close(lm(own, real, PrefixBatch.stack([prefix]))[0], logits[row])
    [told], [asked] = lm.tokens.encode(TEXTS[:1]), lm.tokens.encode(QUERIES[:1], bos=False)
    prefixes = PrefixBatch.stack(lm.capture_text(TEXTS[:1]))
    context = base(torch.tensor([told + asked])).logits
    assert close(lm(torch.tensor([asked]), None, prefixes), context)


@pytest.mark.parametrize(("name", "padding"), list(product(DECODERS, (None, 5))))
def test_a_classifier_that_does_not_know_its_padding_is_refused(
    name: str, padding: int | None
) -> None:
    model = decoder(name, padding)
    attention = model.config._attn_implementation
    with pytest.raises(
        ModelError, match=r"padding .* is (None|5), .* 0\). .*Set pad_token_id to 0"
    ):
        EncoderModel(model, make_tokenizer(bos=True))
    assert model.config._attn_implementation == attention
    assert all(p.requires_grad for p in model.parameters())


def test_encoders_without_a_known_head(tmp_path: Path) -> None:
    build_encoder("bert", "sequence").base_model.save_pretrained(tmp_path)
    make_tokenizer(bos=True).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="saved as BertModel"):
        EncoderModel.from_pretrained(str(tmp_path))
    with pytest.raises(ModelError, match="no encoder with a known head"):
        EncoderModel(build_encoder("bert", "sequence").base_model, make_tokenizer(bos=True))
