"""Tiny random models, one row per family; a new family is one more row.

All weights are drawn anew with a standard deviation that makes attention matter: the usual
initialisation gives models that hardly look at their context.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers as tf

VOCAB = 259
WIDE = 128  # a sliding window wider than the tests' texts

_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
_OLD = _LLAMA | {"num_key_value_heads": None}


@dataclass(frozen=True)
class Family:
    """How to build one family's model.

    Args:
        config: Configuration class.
        options: Its arguments.
        positions: What seprog should read.
        heads: Key/value heads it should read.
        windowed: Whether some layers have a sliding window.
        attentions: The attention implementations that transformers offers for it.
        apart: Whether the rows of a batch are computed apart from one another. The experts of a
            mixture take the tokens of all rows together: what one row sends them decides how
            the others' sums are rounded.
        forced: The token that its decoder is made to write first, if there is one.
    """

    config: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    positions: str = "rotary"
    heads: int = 2
    windowed: bool = False
    attentions: tuple[str, ...] = ("sdpa", "eager")
    apart: bool = True
    forced: int | None = None


_EXPERTS = {"num_experts_per_tok": 2}
_HEADS = {"head_dim": 8}
_SLIDING = ["sliding_attention", "full_attention"]
_NO_KV = {k: v for k, v in _LLAMA.items() if k != "num_key_value_heads"}

FAMILIES: dict[str, Family] = {
    "gpt2": Family(
        tf.GPT2Config,
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
        positions="learned",
        heads=4,
    ),
    "gpt_bigcode": Family(
        tf.GPTBigCodeConfig,
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
        positions="learned",
        heads=1,
    ),
    "opt": Family(
        tf.OPTConfig,
        {
            "hidden_size": 32,
            "word_embed_proj_dim": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 128,
        },
        positions="learned",
        heads=4,
    ),
    "gpt_neox": Family(tf.GPTNeoXConfig, _NO_KV, heads=4),
    "llama": Family(tf.LlamaConfig, _LLAMA),
    "mistral": Family(tf.MistralConfig, _LLAMA, windowed=True),
    "qwen2": Family(tf.Qwen2Config, _LLAMA),
    "qwen3": Family(tf.Qwen3Config, _LLAMA | _HEADS),
    "qwen3_moe": Family(
        tf.Qwen3MoeConfig,
        _LLAMA | _HEADS | _EXPERTS | {"moe_intermediate_size": 16, "num_experts": 4},
        apart=False,
    ),
    "phi": Family(tf.PhiConfig, _LLAMA),
    "phi3": Family(tf.Phi3Config, _LLAMA),
    "olmo2": Family(tf.Olmo2Config, _LLAMA),
    "smollm3": Family(tf.SmolLM3Config, _LLAMA | _HEADS),
    "gemma": Family(tf.GemmaConfig, _LLAMA | _HEADS),
    "gemma2": Family(
        tf.Gemma2Config,
        _LLAMA | _HEADS | {"layer_types": _SLIDING, "query_pre_attn_scalar": 8},
        windowed=True,
        attentions=("eager",),
    ),
    "gemma3": Family(
        tf.Gemma3TextConfig,
        _LLAMA | _HEADS | {"layer_types": _SLIDING, "query_pre_attn_scalar": 8},
        windowed=True,
    ),
    "gpt_oss": Family(
        tf.GptOssConfig,
        _LLAMA | _HEADS | _EXPERTS | {"layer_types": _SLIDING, "num_local_experts": 4},
        windowed=True,
        attentions=("eager",),
        apart=False,
    ),
}


_BERT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 130,
}
_SMALL = {"embedding_size": 32}

ENCODERS: dict[str, Family] = {
    "bert": Family(tf.BertConfig, _BERT, "learned", 4),
    "roberta": Family(tf.RobertaConfig, _BERT, "learned", 4),
    "xlm_roberta": Family(tf.XLMRobertaConfig, _BERT, "learned", 4),
    "electra": Family(tf.ElectraConfig, _BERT | _SMALL, "learned", 4),
    "albert": Family(tf.AlbertConfig, _BERT | _SMALL, "learned", 4),
    "distilbert": Family(
        tf.DistilBertConfig,
        {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 130},
        "learned",
        4,
    ),
    "modernbert": Family(
        tf.ModernBertConfig,
        _BERT | {"global_attn_every_n_layers": 2, "local_attention": 2 * WIDE},
        "rotary",
        4,
    ),
}

_BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
    "forced_eos_token_id": None,
}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}

SEQ2SEQ: dict[str, Family] = {
    "t5": Family(tf.T5Config, _T5, "unmoved", 4),
    "mt5": Family(tf.MT5Config, _T5, "unmoved", 4),
    "bart": Family(tf.BartConfig, _BART, "unmoved", 4),
    "bart_forced": Family(tf.BartConfig, _BART, "unmoved", 4, forced=1),
    "mbart": Family(tf.MBartConfig, _BART, "unmoved", 4),
    "pegasus": Family(tf.PegasusConfig, _BART, "unmoved", 4),
    "marian": Family(tf.MarianConfig, _BART, "unmoved", 4),
}


def build_seq2seq(name: str, attention: str = "sdpa") -> Any:
    """A sequence-to-sequence model of the family with random weights, in evaluation mode."""
    family = SEQ2SEQ[name]
    start = 1 if family.forced is None else 2  # as BART's: its end, then a BOS that is forced
    special = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": start}
    config = family.config(vocab_size=VOCAB, **special, **family.options)
    config._attn_implementation = attention
    model = randomize(tf.AutoModelForSeq2SeqLM.from_config(config))
    model.generation_config.forced_bos_token_id = family.forced
    return model


HEADS: dict[str, Any] = {
    "sequence": tf.AutoModelForSequenceClassification,
    "token": tf.AutoModelForTokenClassification,
    "masked_lm": tf.AutoModelForMaskedLM,
}


def build_encoder(name: str, head: str, attention: str = "sdpa", **options: Any) -> Any:
    """An encoder of the family with a head and random weights, in evaluation mode."""
    family = ENCODERS[name]
    config = family.config(
        vocab_size=VOCAB, **{"pad_token_id": 0, "num_labels": 3} | family.options | options
    )
    config._attn_implementation = attention
    return randomize(HEADS[head].from_config(config))


def build(name: str, attention: str = "sdpa", window: int = WIDE, seed: int = 0) -> Any:
    """A model of the family with random weights, in evaluation mode."""
    family = FAMILIES[name]
    # untied: with random weights a tied model does little but repeat its last token
    options = {"tie_word_embeddings": False} | family.options
    if family.windowed:
        options["sliding_window"] = window
    config = family.config(
        vocab_size=VOCAB, pad_token_id=0, bos_token_id=1, eos_token_id=2, **options
    )
    config._attn_implementation = attention
    return randomize(tf.AutoModelForCausalLM.from_config(config), seed)


def randomize(model: Any, seed: int = 0) -> Any:
    """Draw all trained weight matrices anew, each scaled by its width."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2 and parameter.requires_grad:
                scale = 1.2 / min(parameter.shape) ** 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model.eval()


def untouched(model: Any) -> Any:
    """A copy of a model, made before seprog gets it."""
    return copy.deepcopy(model)
