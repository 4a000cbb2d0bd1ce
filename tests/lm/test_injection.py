"""The mechanism by itself: state, nesting, threads, masks, and what does not fit."""

from __future__ import annotations

from contextvars import copy_context
from dataclasses import replace
from threading import Thread

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache

from seprog.errors import FingerprintMismatch, InputError
from seprog.lm import CausalLM
from seprog.lm.injection import _Room, capture, inject
from seprog.lm.masks import extend_mask
from seprog.types import Prefix, PrefixBatch
from tests.lm.families import build, untouched
from tests.lm.helpers import batch, close, ids, load, random_prefix


def logits(lm: CausalLM, query: Tensor) -> Tensor:
    with torch.no_grad():
        return lm.model(query).logits


def test_functions_and_masks_are_registered_together() -> None:
    load("llama"), load("llama", "eager")
    for base in ("sdpa", "eager"):
        assert f"seprog_{base}" in AttentionInterface().valid_keys()
        masks = AttentionMaskInterface()
        assert masks[f"seprog_{base}"] is masks[base]


def test_state_ends_with_the_context_even_after_an_error() -> None:
    lm, base = load("llama")
    query = ids(lm, "hello")
    prefixes = PrefixBatch.stack([random_prefix(lm, 2)])
    with pytest.raises(RuntimeError, match="stop"), inject(lm._sites, prefixes, 1):
        assert not close(logits(lm, query), base(query).logits)
        raise RuntimeError("stop")
    assert torch.equal(logits(lm, query), base(query).logits)


def test_injections_nest() -> None:
    lm, base = load("llama")
    query = ids(lm, "hello")
    one, two = (PrefixBatch.stack([random_prefix(lm, 2, seed=s)]) for s in (1, 2))
    with inject(lm._sites, one, 1):
        outer = logits(lm, query)
        with inject(lm._sites, two, 1):
            assert not torch.equal(logits(lm, query), outer)
        with inject(lm._sites, None, 1):
            assert torch.equal(logits(lm, query), base(query).logits)
        assert torch.equal(logits(lm, query), outer)


def test_capture_while_injecting_collects_the_text_under_the_prefix() -> None:
    lm, _ = load("llama")
    query = ids(lm, "hello")
    prefixes = PrefixBatch.stack([random_prefix(lm, 2)])
    keep = torch.ones(query.shape, dtype=torch.bool)
    with inject(lm._sites, prefixes, 1), capture(lm._sites, keep) as edited:
        logits(lm, query)
    with capture(lm._sites, keep) as plain:
        logits(lm, query)
    told, untold = edited.prefixes(), plain.prefixes()
    assert told.keys[0].shape == (1, 2, query.shape[1], 8)
    assert torch.equal(told.keys[0], untold.keys[0])  # the first site is before any change
    assert not torch.equal(told.keys[1], untold.keys[1])


def test_another_model_is_not_reached() -> None:
    lm, _ = load("llama")
    other, base = load("qwen2")
    query = ids(lm, "hello")
    prefixes = PrefixBatch.stack([random_prefix(lm, 2)])
    keep = torch.ones(query.shape, dtype=torch.bool)
    with inject(lm._sites, prefixes, 1), capture(lm._sites, keep) as captured:
        assert torch.equal(logits(other, query), base(query).logits)
    assert not captured.found


def test_a_thread_sees_the_prefix_only_with_the_context() -> None:
    lm, base = load("llama")
    query = ids(lm, "hello")
    found = []
    with inject(lm._sites, PrefixBatch.stack([random_prefix(lm, 2)]), 1):
        here = logits(lm, query)
        for target in (lambda f: f(), copy_context().run):
            thread = Thread(target=target, args=(lambda: found.append(logits(lm, query)),))
            thread.start()
            thread.join()
    assert torch.equal(found[0], base(query).logits)
    assert torch.equal(found[1], here)


def test_wrapping_a_model_twice_gives_the_same_model() -> None:
    lm, _ = load("llama")
    again = CausalLM(lm.model, lm.tokenizer)
    assert (again.spec, again.fingerprint) == (lm.spec, lm.fingerprint)
    query = ids(lm, "hello")
    prefixes = PrefixBatch.stack([random_prefix(lm, 2)])
    assert torch.equal(again(query, None, prefixes), lm(query, None, prefixes))


def test_prefixes_that_do_not_fit() -> None:
    lm, _ = load("llama")
    query = ids(lm, "hello")
    prefix = random_prefix(lm, 2)
    prefixes = PrefixBatch.stack([prefix])
    assert prefixes is not None
    short = PrefixBatch.stack([Prefix(prefix.keys[:1], prefix.values[:1])])
    narrow = PrefixBatch.stack([random_prefix(load("gpt2")[0], 2)])
    for wrong in (short, narrow):
        with pytest.raises(FingerprintMismatch, match="Expected 2 sites"):
            lm(query, None, wrong)
    for rows in ((1,), (-1,), (0, 0)):
        with pytest.raises(InputError, match="strictly increasing"):
            lm(query, None, replace(prefixes, rows=rows))
    with (
        pytest.raises(InputError, match=r"runs on 3 rows .* declared for 2"),
        inject(lm._sites, prefixes, 2),
    ):
        logits(lm, query.expand(3, -1))
    with pytest.raises(InputError, match="2 prefixes came for 1 texts"):
        lm.generate(["hello"], [prefix, prefix])


def test_an_empty_prefix_changes_nothing() -> None:
    lm, base = load("llama")
    query = ids(lm, "hello")
    empty = PrefixBatch.stack([random_prefix(lm, 0)])
    assert close(lm(query, None, empty), base(query).logits)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_the_order_of_joined_prefixes_makes_no_difference_to_rotary_models(name: str) -> None:
    lm, _ = load(name)
    a, b = lm.capture_text(["One. ", "And two. "])
    query = ids(lm, "hello")
    one, two = (lm(query, None, PrefixBatch.stack([Prefix.join(p)])) for p in ([a, b], [b, a]))
    assert close(one, two)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_the_mask_is_extended_in_front(dtype: torch.dtype) -> None:
    prefix = torch.tensor([[False, True], [True, True]])
    visible = torch.rand(1, 1, 3, 5) > 0.5
    hidden = torch.finfo(torch.float32).min
    mask = visible if dtype == torch.bool else torch.zeros(1, 1, 3, 5).masked_fill(~visible, hidden)
    extended = extend_mask(mask, prefix, 3, 5, None, True)
    assert extended.dtype == dtype and extended.shape == (2, 1, 3, 7)
    seen = extended if dtype == torch.bool else extended == 0
    assert torch.equal(seen[..., 2:], visible.expand(2, -1, -1, -1))
    assert torch.equal(seen[..., :2], prefix[:, None, None, :].expand(-1, 1, 3, -1))


def test_a_missing_mask_is_built() -> None:
    def built(time: int, kv_time: int, window: int | None, causal: bool) -> list[list[int]]:
        one = torch.ones(1, 1, dtype=torch.bool)
        return extend_mask(None, one, time, kv_time, window, causal)[0, 0].int().tolist()

    assert built(3, 3, None, True) == [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert built(3, 3, 2, True) == [[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 1]]
    assert built(2, 3, None, True) == [[1, 1, 0, 0], [1, 1, 1, 0]]  # static cache, first run
    assert built(1, 3, 2, True) == [[1, 1, 1, 1]]
    assert built(2, 2, None, False) == [[1, 1, 1], [1, 1, 1]]


def test_bfloat16_with_float32_prefixes() -> None:
    model = build("llama").to(torch.bfloat16)
    base = untouched(model)
    lm = CausalLM(model, load("llama")[0].tokenizer)
    rows, mask = batch(lm, ["hello", "you"])
    prefixes = PrefixBatch.stack([random_prefix(lm, 2), None])
    out = lm(rows, mask, prefixes)
    assert lm.dtype == out.dtype == torch.bfloat16
    assert torch.equal(lm(rows), base(rows).logits)
    assert not torch.equal(out[0], lm(rows, mask)[0])


def token_by_token(lm: CausalLM, rows: Tensor, cache: DynamicCache) -> list[Tensor]:
    """Logits of each run: the first four positions together, then one at a time."""
    with torch.no_grad():
        parts = [rows[:, :4], *rows[:, 4:].split(1, dim=1)]
        return [lm.model(x, past_key_values=cache, use_cache=True).logits for x in parts]


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "gemma3"])
def test_what_is_kept_from_token_to_token_changes_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, _ = load(name)
    rows = torch.randint(3, 50, (3, 60), generator=torch.Generator().manual_seed(0))
    prefixes = PrefixBatch.stack([random_prefix(lm, 2), None, random_prefix(lm, 3, seed=1)])
    for given, count in ((prefixes, 3), (PrefixBatch.stack([random_prefix(lm, 2)]), 1)):
        with inject(lm._sites, given, count):
            kept = token_by_token(lm, rows[:count], DynamicCache(config=lm.model.config))
        with monkeypatch.context() as patch, inject(lm._sites, given, count):
            patch.setattr(_Room, "follows", lambda *_: False)
            copied = token_by_token(lm, rows[:count], DynamicCache(config=lm.model.config))
        assert all(map(torch.equal, kept, copied))


def test_what_is_kept_of_one_text_is_not_taken_for_another() -> None:
    lm, _ = load("llama")
    one, two = torch.randint(3, 50, (2, 1, 9), generator=torch.Generator().manual_seed(0))
    prefixes = PrefixBatch.stack([random_prefix(lm, 2)])
    caches = DynamicCache(), DynamicCache()

    def run(text: Tensor, cache: DynamicCache) -> Tensor:
        return lm.model(text, past_key_values=cache, use_cache=True).logits

    with torch.no_grad(), inject(lm._sites, prefixes, 1):
        run(two[:, :8], caches[1])
        run(one[:, :6], caches[0])
        run(one[:, 6:7], caches[0])
        run(one[:, 7:8], caches[0])  # as many positions as the other text has
        mixed = run(two[:, 8:9], caches[1])
    assert close(mixed, lm(two, None, prefixes)[:, -1:])
