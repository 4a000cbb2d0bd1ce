"""Getting a loaded model ready for prefixes, and reading its shape by running it.

Nothing here goes by a model's name. A few runs over four tokens say which modules attend, in
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

Positions = Literal["rotary", "learned", "none", "unmoved"]
"""How a model knows where a token stands.

- ``rotary``: queries and keys are turned by position inside the attention; only distances count.
- ``learned``: something that depends on the absolute position is added to the embeddings.
- ``none``: the position ids change neither.
- ``unmoved``: it takes no position ids, so no text can be moved (encoder-decoder models).
"""

Reading = Literal["left to right", "both ways", "encoder to decoder"]
"""How a model reads: a decoder, an encoder, or one behind the other."""

Part = Literal["encoder self-attention", "decoder self-attention", "cross-attention"]
"""Where a site of an encoder with a decoder stands."""

_EXPECTED = (
    "a model that computes every layer's attention through transformers' attention interface "
    "(GPT-2, OPT, GPT-NeoX, Llama, Mistral, Qwen, Gemma, BERT and most newer ones do)"
)
_ADVICE = "Choose another base model"
_NOISE = 1e-3


@dataclass(frozen=True, slots=True)
class Attached:
    """What ``attach`` found out about a model.

    Args:
        sites: Where it attends.
        positions: How it knows positions.
        first: The position of a text's first token.
        parts: Where each site stands; empty unless a decoder stands behind an encoder.
    """

    sites: AttentionSites
    positions: Positions
    first: int
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of the model below its head over the probe text, and each attention call."""

    states: Float[Tensor, "1 time width"]
    calls: list[tuple[nn.Module, Tensor, Tensor]]


def attach(model: Any, reading: Reading = "left to right") -> Attached:
    """Switch a model to the attention function that takes prefixes.

    Args:
        model: A transformers model in evaluation mode.
        reading: How it must read.

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
    # the last ids are hardly ever those of special tokens such as padding
    ids = model.config.get_text_config().vocab_size - torch.arange(1, 5, device=model.device)[None]
    before = _run(model, ids, reading)
    model.set_attn_implementation(register(base))
    try:
        return _probe(model, ids, before, reading)
    except Exception:
        model.set_attn_implementation(original)
        raise


def _probe(model: Any, ids: Int[Tensor, "1 time"], before: _Run, reading: Reading) -> Attached:
    """Find the attention sites and refuse what cannot work."""
    after = _run(model, ids, reading)
    sites = _read_sites(model, after)
    if not torch.equal(before.states, after.states):
        raise ModelError(
            "The model computes something else when its attention function is exchanged",
            _EXPECTED,
            "Load it with another attn_implementation ('sdpa' or 'eager')",
        )
    if reading == "encoder to decoder":
        return Attached(sites, "unmoved", 0, _parts(after))
    changed = torch.cat([ids[:, :-1], ids[:, -1:] - 1], dim=1)
    difference = (_run(model, changed).states - after.states).abs()
    if reading == "left to right" and difference[:, 0].max() > _NOISE * difference[:, -1].max():
        raise ModelError(
            "The model reads text in both directions", "a causal language model", _ADVICE
        )
    return Attached(sites, _read_positions(model, ids), _first_position(model, ids, after))


def _read_sites(model: Any, run: _Run) -> AttentionSites:
    """The attention modules in the order in which they ran, and their shapes."""
    modules = tuple(module for module, _, _ in run.calls)
    layers = model.config.get_text_config().num_hidden_layers
    if len(modules) < layers:
        raise ModelError(
            f"In {type(model).__name__} {len(modules)} of {layers} layers have a place for a "
            "prefix",
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
    return AttentionSites(modules, spec, _bias_sources(run))


def _bias_sources(run: _Run) -> tuple[Any, ...]:
    """Per site, the module whose bias the model uses there: the last before it that makes one.

    A decoder that looks at its encoder knows no distances.
    """
    source, found = None, []
    for (module, _, _), part in zip(run.calls, _parts(run), strict=True):
        across = part == "cross-attention"
        if not across and getattr(module, "has_relative_attention_bias", False):
            source = module
        found.append(None if across else source)
    return tuple(found)


def _parts(run: _Run) -> tuple[Part, ...]:
    """Where each site stands, told by its keys: a decoder is run over a shorter text.

    Where it looks at its encoder there are as many keys as the encoder's, behind its own.
    """
    text, in_decoder = run.calls[0][1].shape[2], False
    found: list[Part] = []
    for _, key, _ in run.calls:
        own = key.shape[2] < text
        in_decoder = in_decoder or own
        behind: Part = "decoder self-attention" if own else "cross-attention"
        found.append(behind if in_decoder else "encoder self-attention")
    return tuple(found)


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


def _first_position(model: Any, ids: Int[Tensor, "1 time"], run: _Run) -> int:
    """0, or where RoBERTa and its like begin to count: after the padding token's id."""
    padding = model.config.get_text_config().pad_token_id
    here = torch.arange(ids.shape[1], device=ids.device)[None]
    for first in (0, 0 if padding is None else padding + 1):
        if torch.equal(_run(model, ids, position_ids=here + first).states, run.states):
            return first
    raise ModelError(
        f"{type(model).__name__} numbers positions in a way of its own",
        "positions from 0, or from behind the padding token's id",
        _ADVICE,
    )


@torch.no_grad()
def _run(
    model: Any, ids: Int[Tensor, "1 time"], reading: Reading = "left to right", **kwargs: Any
) -> _Run:
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    if reading == "encoder to decoder":
        kwargs["decoder_input_ids"] = ids[:, :-1]
    with record(lambda module, key, value: calls.append((module, key, value))):
        states = model.base_model(input_ids=ids, attention_mask=torch.ones_like(ids), **kwargs)[0]
    return _Run(states, calls)
