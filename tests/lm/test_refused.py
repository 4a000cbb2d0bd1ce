"""Models without a place for a prefix are refused in so many words, and left as they were."""

from __future__ import annotations

import pytest
import torch
import transformers as tf

from seprog.errors import ModelError
from seprog.lm import CausalLM
from tests.conftest import make_tokenizer
from tests.lm.families import VOCAB, build, randomize

_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
REFUSED = {
    "bloom": tf.BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4),
    "gpt_neo": tf.GPTNeoConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
    ),
    "gptj": tf.GPTJConfig(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, rotary_dim=4),
    "falcon": tf.FalconConfig(vocab_size=VOCAB, **_SMALL),
    "mamba": tf.MambaConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2),
}


@pytest.mark.parametrize("name", REFUSED)
def test_families_without_the_interface(name: str) -> None:
    model = tf.AutoModelForCausalLM.from_config(REFUSED[name]).eval()
    ids = torch.tensor([[5, 6, 7]])
    before, implementation = model(ids).logits, model.config._attn_implementation
    with pytest.raises(ModelError, match=r"0 of 2 layers .*\. Expected .*\. Choose another"):
        CausalLM(model, make_tokenizer(bos=False))
    assert model.config._attn_implementation == implementation
    assert torch.equal(model(ids).logits, before)
    assert all(p.requires_grad for p in model.parameters())


def test_a_model_that_reads_in_both_directions() -> None:
    config = tf.BertConfig(vocab_size=VOCAB, intermediate_size=48, **_SMALL)
    model = randomize(tf.AutoModelForCausalLM.from_config(config))
    with pytest.raises(ModelError, match="both directions"):
        CausalLM(model, make_tokenizer(bos=False))


def test_a_model_that_mixes_attention_with_something_else() -> None:
    config = tf.JambaConfig(
        vocab_size=VOCAB,
        intermediate_size=48,
        num_key_value_heads=2,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        num_experts=2,
        use_mamba_kernels=False,
        **_SMALL,
    )
    with pytest.raises(ModelError, match="1 of 2 layers"):
        CausalLM(tf.AutoModelForCausalLM.from_config(config).eval(), make_tokenizer(bos=False))


def test_an_attention_implementation_without_a_place() -> None:
    model = build("llama")
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(ModelError, match=r"flex_attention.*one of sdpa, eager"):
        CausalLM(model, make_tokenizer(bos=False))
