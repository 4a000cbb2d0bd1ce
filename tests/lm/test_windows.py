"""A prefix stays visible where a sliding window has moved past everything else."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from seprog.types import PrefixBatch
from tests.lm.families import FAMILIES
from tests.lm.helpers import CASES, close, ids, load, random_prefix

LONG = "a question longer than the window"
WINDOWED = [(name, attention) for name, attention in CASES if FAMILIES[name].windowed]
pytestmark = [
    pytest.mark.parametrize(("name", "attention"), WINDOWED),
    pytest.mark.parametrize("window", [4]),
]


def test_every_position_sees_the_prefix_at_every_site(
    name: str, attention: str, window: int
) -> None:
    lm, base = load(name, attention, window)
    prefixes = PrefixBatch.stack([random_prefix(lm, 3)])
    assert prefixes is not None
    query = ids(lm, LONG)
    for values in prefixes.values:
        values.requires_grad_()
    logits = lm(query, None, prefixes)
    plain = base(query).logits
    assert (logits - plain).abs().amax(dim=2).min() > 1e-2
    gradients = torch.autograd.grad(logits[:, -1].square().sum(), prefixes.values)
    assert all((g.abs().sum(dim=(0, 1, 3)) > 0).all() for g in gradients)


def test_window_still_hides_far_tokens(name: str, attention: str, window: int) -> None:
    lm, _ = load(name, attention, window)
    prefixes = PrefixBatch.stack([random_prefix(lm, 3)])
    query = ids(lm, LONG)
    embeds = lm.model.get_input_embeddings()(query).detach().requires_grad_()
    with torch.enable_grad():
        out = lm(inputs_embeds=embeds, prefixes=prefixes)
        gradient = torch.autograd.grad(out[0, -1].square().sum(), embeds)[0]
    if "full_attention" not in (getattr(lm.model.config, "layer_types", None) or []):
        # two layers with window 4 reach 6 tokens back
        assert not gradient[0, :-7].any()
    assert gradient[0, -7:].abs().sum(dim=1).gt(0).all()


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_decoding_step_by_step(name: str, attention: str, window: int, cache: str) -> None:
    lm, _ = load(name, attention, window)
    prefixes = PrefixBatch.stack([random_prefix(lm, 3), None])
    query = ids(lm, LONG).expand(2, -1)
    options = {"cache_implementation": "static"} if cache == "static" else {}
    continued = lm.generate_ids(query, None, prefixes, max_new_tokens=6, **options)
    logits = lm(continued, None, prefixes)[:, query.shape[1] - 1 : -1]
    assert torch.equal(logits.argmax(dim=2), continued[:, query.shape[1] :])
    kept = DynamicCache(config=lm.model.config)
    parts = [
        lm(query[:, t : t + 1], None, prefixes, past_key_values=kept, use_cache=True)
        for t in range(query.shape[1])
    ]
    assert close(torch.cat(parts, dim=1), lm(query, None, prefixes))
