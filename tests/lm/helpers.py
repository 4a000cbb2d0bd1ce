"""What the tests of ``seprog.lm`` share: models, made once each, and batches of tokens."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from seprog.lm import CausalLM, LanguageModel
from seprog.types import Prefix, PrefixBatch
from tests.conftest import make_tokenizer
from tests.lm.families import FAMILIES, WIDE, build, untouched

CASES = [(name, attention) for name, f in FAMILIES.items() for attention in f.attentions]
QUERIES = ["Who wrote it?", "Hi", "What is the capital?"]
TEXTS = ["The capital is Rome. ", "It is so. "]


@cache
def load(name: str, attention: str = "", window: int = WIDE) -> tuple[CausalLM, Any]:
    """The family's model with prefixes, and an untouched copy. Never change either."""
    model = build(name, attention or FAMILIES[name].attentions[0], window)
    copy = untouched(model)
    return CausalLM(model, make_tokenizer(bos=False)), copy


def ids(lm: CausalLM, text: str) -> Tensor:
    """Token ids of one text, ``(1, time)``."""
    return torch.tensor(lm.tokens.encode([text]))


def batch(lm: LanguageModel, texts: list[str], side: str = "") -> tuple[Tensor, Tensor]:
    """Token ids and mask of several texts, padded as the model wants it or, a decoder's, right."""
    rows, mask = lm.tokens.pad(lm.tokens.encode(texts), lm.device)
    if side != "right":
        return rows, mask
    lengths = mask.sum(dim=1).tolist()
    moved = [(r.roll(n), m.roll(n)) for r, m, n in zip(rows, mask, lengths, strict=True)]
    return torch.stack([r for r, _ in moved]), torch.stack([m for _, m in moved])


def random_prefix(lm: LanguageModel, length: int, seed: int = 0) -> Prefix:
    """A prefix of random numbers."""
    generator = torch.Generator().manual_seed(seed)
    draw = [
        tuple(
            torch.randn(s.kv_heads, length, s.head_dim, generator=generator) for s in lm.spec.sites
        )
        for _ in range(2)
    ]
    return Prefix(draw[0], draw[1])


def mixed(lm: LanguageModel) -> list[Prefix | None]:
    """A prefix, none, and two joined ones, for the three queries."""
    first, second = lm.capture_text(TEXTS)
    return [second, None, Prefix.join([first, second])]


def learnt_prefixes(lm: LanguageModel) -> PrefixBatch:
    """Random prefixes of two lengths for the first and the last query, which take gradients."""
    prefixes = PrefixBatch.stack([random_prefix(lm, 3), None, random_prefix(lm, 5, seed=1)])
    assert prefixes is not None
    for tensor in (*prefixes.keys, *prefixes.values):
        tensor.requires_grad_()
    return prefixes


def positions(mask: Tensor) -> Tensor:
    """Each row's positions as it would have them alone."""
    return (mask.cumsum(dim=1) - 1).clamp_min(0)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    """Whether two tensors are equal up to a part of the largest number in them."""
    a, b = a.detach(), b.detach()
    return bool((a - b).abs().max() <= tolerance * max(1.0, float(b.abs().max())))
