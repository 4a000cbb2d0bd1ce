"""One line that says which model this is: a base model, or the encoder of a gate."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

_SHAPE = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "max_position_embeddings",
    "sliding_window",
)
_SAMPLES = 64


@torch.no_grad()
def fingerprint(model: Any) -> str:
    """SHA-256 over the model's shape, its parameters' names and shapes, and samples of them.

    The same for the same checkpoint in every process, on every device, and whether it is loaded
    as float32 or bfloat16. Changes when weights are trained or edited.
    """
    config = model.config.get_text_config()
    digest = hashlib.sha256()
    digest.update(json.dumps({k: getattr(config, k, None) for k in _SHAPE}, default=str).encode())
    for name, parameter in sorted(model.named_parameters()):
        flat = parameter.detach().flatten()
        sample = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES].cpu().to(torch.bfloat16)
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(sample.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()
