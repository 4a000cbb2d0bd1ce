"""Which adapter fits a model: read from its configuration's capabilities, never from its name.

Another kind of model is one more file with the members of ``LanguageModel`` and one more row in
``_ADAPTERS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PreTrainedConfig

from seprog.errors import ModelError
from seprog.lm.base import LanguageModel
from seprog.lm.causal import CausalLM
from seprog.lm.checkpoints import is_causal, is_encoder, is_seq2seq, read_config
from seprog.lm.encoder import EncoderModel
from seprog.lm.seq2seq import Seq2SeqLM


@dataclass(frozen=True, slots=True)
class _Adapter:
    """One kind of model: how it is recognised and what wraps it."""

    kind: str
    fits: Callable[[PreTrainedConfig], bool]
    load: Callable[[str, str | torch.dtype, str | torch.device, str | None], LanguageModel]


_ADAPTERS = (
    _Adapter("a causal language model", is_causal, CausalLM.from_pretrained),
    _Adapter("an encoder with a head", is_encoder, EncoderModel.from_pretrained),
    _Adapter("a sequence-to-sequence language model", is_seq2seq, Seq2SeqLM.from_pretrained),
)


def load_lm(
    path: str,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "cpu",
    attn_implementation: str | None = None,
) -> LanguageModel:
    """Load a base model with the adapter that fits it.

    Args:
        path: A folder (nothing is downloaded then) or the id of a model on the Hub.
        dtype: Type of the weights; ``"auto"`` keeps the type they were saved in.
        device: Where the model runs.
        attn_implementation: ``"sdpa"`` or ``"eager"``. ``None``: what transformers prefers.

    Raises:
        ModelError: Nothing is there, or no adapter fits.
    """
    config = read_config(path)
    for adapter in _ADAPTERS:
        if adapter.fits(config):
            return adapter.load(path, dtype, device, attn_implementation)
    raise ModelError(
        f"{path} is another kind of model (type {config.model_type!r})",
        " or ".join(adapter.kind for adapter in _ADAPTERS),
        "Choose another base model",
    )
