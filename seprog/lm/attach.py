"""Getting a loaded model ready for prefixes, and reading its shape by running it.

Nothing here goes by a model's name. Three runs over four tokens say which modules attend, in
which order, with how many heads of what width, whether the model reads left to right, and how it
knows positions. A model that has no place for a prefix is refused, and left as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seprog.errors import ModelError
from seprog.lm.injection import BASES, PREFIX, AttentionSites, record, register
from seprog.types import PrefixSpec, SiteSpec

Positions = Literal["rotary", "learned", "none"]
"""How a model knows where a token stands.

- ``rotary``: queries and keys are turned by position inside the attention; only distances count.
- ``learned``: something that depends on the absolute position is added to the embeddings.
- ``none``: the position ids change neither.
"""

_EXPECTED = (
    "a decoder that computes every layer's attention through transformers' attention interface "
    "(GPT-2, OPT, GPT-NeoX, Llama, Mistral, Qwen, Gemma and most newer ones do)"
)
_ADVICE = "Choose another base model"
_NOISE = 1e-3


@dataclass(frozen=True, slots=True)
class Attached:
    """What ``attach`` found out about a model."""

    sites: AttentionSites
    positions: Positions


@dataclass(frozen=True, slots=True)
class _Run:
    """One run over the probe text: logits ``(1, time, vocab)`` and each attention call."""

    logits: Float[Tensor, "1 time vocab"]
    calls: list[tuple[nn.Module, Tensor, Tensor]]


def attach(model: Any) -> Attached:
    """Switch a causal language model to the attention function that takes prefixes.

    Args:
        model: A transformers model in evaluation mode.

    Returns:
        Its attention sites and how it knows positions.

    Raises:
        ModelError: The model has no place for a prefix. It is left as it was.
    """
    original = model.config.get_text_config()._attn_implementation
    base = str(original).removeprefix(PREFIX)
    if base not in BASES:
        raise ModelError(
            f"The model is loaded with the attention implementation {base!r}",
            f"one of {', '.join(BASES)}",
            "Load it with attn_implementation='sdpa'",
        )
    ids = torch.arange(4, device=model.device)[None] % model.config.get_text_config().vocab_size
    before = _run(model, ids)
    model.set_attn_implementation(register(base))
    try:
        return _probe(model, ids, before)
    except Exception:
        model.set_attn_implementation(original)
        raise


def _probe(model: Any, ids: Int[Tensor, "1 time"], before: _Run) -> Attached:
    """Find the attention sites and refuse what cannot work."""
    after = _run(model, ids)
    sites = _read_sites(model, after)
    if not torch.equal(before.logits, after.logits):
        raise ModelError(
            "The model computes something else when its attention function is exchanged",
            _EXPECTED,
            "Load it with another attn_implementation ('sdpa' or 'eager')",
        )
    changed = ids.clone()
    changed[:, -1] = (ids[:, -1] + 1) % model.config.get_text_config().vocab_size
    difference = (_run(model, changed).logits - after.logits).abs()
    if difference[:, 0].max() > _NOISE * difference[:, -1].max():
        raise ModelError(
            "The model reads text in both directions", "a causal language model", _ADVICE
        )
    return Attached(sites, _read_positions(model, ids))


def _read_sites(model: Any, run: _Run) -> AttentionSites:
    """The attention modules in the order in which they ran, and their shapes."""
    modules = tuple(dict.fromkeys(module for module, _, _ in run.calls))
    layers = model.config.get_text_config().num_hidden_layers
    if len(modules) < layers or len(modules) != len(run.calls):
        shared = len(modules) != len(run.calls)
        raise ModelError(
            f"In {type(model).__name__} {len(modules)} of {layers} layers have a place for a "
            "prefix" + (" of their own" if shared else ""),
            _EXPECTED,
            _ADVICE,
        )
    if any(key.shape != value.shape for _, key, value in run.calls):
        raise ModelError(
            f"In {type(model).__name__} keys and values differ in shape",
            "keys and values of one shape at each attention site",
            _ADVICE,
        )
    shapes = [key.shape for _, key, _ in run.calls]  # (1, kv_heads, time, head_dim)
    spec = PrefixSpec(tuple(SiteSpec(kv_heads=s[1], head_dim=s[3]) for s in shapes))
    return AttentionSites(modules, spec)


def _read_positions(model: Any, ids: Int[Tensor, "1 time"]) -> Positions:
    """Move the text by one position and look at what changes at the first attention site.

    Values are not turned by position, so they change only if the position was added to the
    embeddings. The comparison is exact: the same numbers go through the same operations.
    """
    here = torch.arange(ids.shape[1], device=ids.device)[None]
    (_, key, value), (_, moved_key, moved_value) = (
        _run(model, ids, position_ids=p).calls[0] for p in (here, here + 1)
    )
    if not torch.equal(value, moved_value):
        return "learned"
    return "none" if torch.equal(key, moved_key) else "rotary"


@torch.no_grad()
def _run(model: Any, ids: Int[Tensor, "1 time"], **kwargs: Any) -> _Run:
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    with record(lambda module, key, value: calls.append((module, key, value))):
        whole = torch.ones_like(ids)
        logits = model(input_ids=ids, attention_mask=whole, use_cache=False, **kwargs).logits
    return _Run(logits, calls)
