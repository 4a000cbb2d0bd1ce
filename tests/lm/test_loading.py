"""From a folder: what loads, what is refused, and how a model is recognised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

from seprog.errors import ModelError
from seprog.lm import CausalLM, EncoderModel, Seq2SeqLM, load_lm
from tests.conftest import make_tokenizer
from tests.lm.families import FAMILIES, VOCAB, build
from tests.lm.helpers import ids, load

_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_BERT = _SIZES | {"max_position_embeddings": 64}


def save(model: object, folder: Path) -> str:
    model.save_pretrained(folder)  # type: ignore[attr-defined]
    make_tokenizer(bos=True).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("name", FAMILIES)
def test_saved_models_load_and_keep_their_fingerprint(name: str, tmp_path: Path) -> None:
    lm, base = load(name)
    path = save(base, tmp_path)
    loaded = load_lm(path)
    assert isinstance(loaded, CausalLM)
    assert (loaded.fingerprint, loaded.spec) == (lm.fingerprint, lm.spec)
    assert torch.equal(loaded(ids(lm, "hello")), lm(ids(lm, "hello")))
    half = load_lm(path, dtype="bfloat16", attn_implementation="eager")
    assert (half.dtype, half.fingerprint) == (torch.bfloat16, lm.fingerprint)


def test_fingerprints_differ_between_models_and_after_training() -> None:
    prints = {load(name)[0].fingerprint for name in FAMILIES}
    assert len(prints) == len(FAMILIES)
    model = build("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.add_(0.01)
    changed = CausalLM(model, make_tokenizer(bos=False))
    assert changed.fingerprint not in prints and len(changed.fingerprint) == 64


def test_tied_weights_are_not_missing(tmp_path: Path) -> None:
    config = tf.GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=1, n_head=4, n_positions=64)
    path = save(tf.GPT2LMHeadModel(config), tmp_path)
    assert CausalLM.from_pretrained(path).n_positions == 64


@pytest.mark.parametrize("loader", [load_lm, CausalLM.from_pretrained])
def test_nothing_there(loader: object, tmp_path: Path) -> None:
    cases = {
        str(tmp_path / "missing"): "is not a folder",
        "./missing": "is not a folder",
        str(tmp_path): "no config.json",
    }
    for path, message in cases.items():
        with pytest.raises(ModelError, match=message) as error:
            loader(path)  # type: ignore[operator]
        assert error.value.expected and error.value.advice


def test_a_broken_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-thing"}')
    with pytest.raises(ModelError, match="No model could be read"):
        load_lm(str(tmp_path))


def test_other_kinds_of_models(tmp_path: Path) -> None:
    tf.ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"another kind.*a causal .*an encoder.* or a seq"):
        load_lm(str(tmp_path))
    for loader in (CausalLM.from_pretrained, EncoderModel.from_pretrained):
        with pytest.raises(ModelError, match=r"type 'vit'.*Expected an? (causal|encoder)"):
            loader(str(tmp_path))
    tf.DistilBertConfig(vocab_size=VOCAB).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"type 'distilbert'.*Expected a sequence-to-sequence"):
        Seq2SeqLM.from_pretrained(str(tmp_path))


@pytest.mark.parametrize("saved", [tf.BertModel, tf.BertForQuestionAnswering])
def test_an_encoder_without_a_head_is_no_causal_model(saved: Any, tmp_path: Path) -> None:
    path = save(saved(tf.BertConfig(vocab_size=VOCAB, **_BERT)), tmp_path)
    with pytest.raises(
        ModelError, match=rf"saved as {saved.__name__}\. Expected an encoder .* with one of these"
    ):
        load_lm(path)
    with pytest.raises(ModelError, match=r"type 'bert'.*Expected a causal language model"):
        CausalLM.from_pretrained(path)


def test_what_a_checkpoint_was_saved_as_says_what_it_is(tmp_path: Path) -> None:
    bert = tf.BertConfig(vocab_size=VOCAB, is_decoder=True, **_BERT)
    llama = tf.LlamaConfig(vocab_size=VOCAB, num_labels=2, pad_token_id=0, **_SIZES)
    for i, (model, adapter) in enumerate(
        [
            (tf.BertLMHeadModel(bert), CausalLM),
            (tf.BertForMaskedLM(tf.BertConfig(vocab_size=VOCAB, **_BERT)), EncoderModel),
            (tf.LlamaForCausalLM(llama), CausalLM),
            (tf.LlamaForSequenceClassification(llama), EncoderModel),
            (
                tf.GPT2Model(tf.GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=1, n_head=4)),
                CausalLM,
            ),
        ]
    ):
        assert isinstance(load_lm(save(model, tmp_path / str(i))), adapter)


def test_weights_outside_safetensors_and_missing_weights(tmp_path: Path) -> None:
    model = build("llama")
    path = save(model.model, tmp_path)  # no language model head
    with pytest.raises(ModelError, match=r"lacks 1 weights.*lm_head"):
        load_lm(path)
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no \*\.safetensors file"):
        load_lm(path)


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    build("llama").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_lm(str(tmp_path))
