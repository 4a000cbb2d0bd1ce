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
    """

    config: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    positions: str = "rotary"
    heads: int = 2
    windowed: bool = False


_SLIDING = ["sliding_attention", "full_attention"]
_NO_KV = {k: v for k, v in _LLAMA.items() if k != "num_key_value_heads"}

FAMILIES: dict[str, Family] = {
    "gpt2": Family(
        tf.GPT2Config,
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
        positions="learned",
        heads=4,
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
    "qwen3": Family(tf.Qwen3Config, _LLAMA | {"head_dim": 8}),
    "gemma3": Family(
        tf.Gemma3TextConfig,
        _LLAMA | {"head_dim": 8, "layer_types": _SLIDING, "query_pre_attn_scalar": 8},
        windowed=True,
    ),
}


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
    """Draw all weight matrices anew, each scaled by its width."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                scale = 1.2 / min(parameter.shape) ** 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model.eval()


def untouched(model: Any) -> Any:
    """A copy of a model, made before seprog gets it."""
    return copy.deepcopy(model)
