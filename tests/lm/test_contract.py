"""What holds for every family and attention implementation. Add a family in families.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from seprog.lm import CausalLM
from seprog.types import PrefixBatch
from tests.lm.families import FAMILIES
from tests.lm.helpers import (
    CASES,
    QUERIES,
    TEXTS,
    batch,
    close,
    ids,
    learnt_prefixes,
    load,
    mixed,
    positions,
)

pytestmark = pytest.mark.parametrize(("name", "attention"), CASES)

SAMPLING = {"do_sample": True, "temperature": 1.5, "num_return_sequences": 2}
GENERATION = [{}, {"num_beams": 3, "num_return_sequences": 2}, SAMPLING]
NAMES = ["greedy", "beam", "sampling"]


def reply(lm: CausalLM, prefixes: PrefixBatch | None, **options: object) -> Tensor:
    torch.manual_seed(7)
    rows, mask = batch(lm, QUERIES)
    return lm.generate_ids(rows, mask, prefixes, max_new_tokens=6, **options)


def test_reads_the_shape(name: str, attention: str) -> None:
    lm, _ = load(name, attention)
    family = FAMILIES[name]
    assert [(s.kv_heads, s.head_dim) for s in lm.spec.sites] == [(family.heads, 8)] * 2
    assert (lm.positions, lm.n_positions) == (family.positions, 128)
    assert not any(p.requires_grad for p in lm.model.parameters())


def test_without_prefixes_logits_are_the_models(name: str, attention: str) -> None:
    lm, base = load(name, attention)
    rows, mask = batch(lm, QUERIES)
    expected = base(rows, attention_mask=mask, position_ids=positions(mask)).logits
    assert torch.equal(lm(rows, mask), expected)
    right, right_mask = batch(lm, QUERIES, side="right")
    expected, real = base(right, attention_mask=right_mask).logits, right_mask.bool()
    assert torch.equal(lm(right, right_mask)[real], expected[real])
    assert torch.equal(lm(rows[:1]), base(rows[:1]).logits)


@pytest.mark.parametrize("options", GENERATION, ids=NAMES)
def test_out_of_scope_rows_generate_what_the_model_does(
    name: str, attention: str, options: dict[str, object]
) -> None:
    lm, base = load(name, attention)
    rows, mask = batch(lm, QUERIES)
    torch.manual_seed(7)
    options = {"do_sample": False} | options
    expected = base.generate(rows, attention_mask=mask, max_new_tokens=6, pad_token_id=0, **options)
    assert torch.equal(reply(lm, None, **options), expected)
    edited = reply(lm, PrefixBatch.stack(mixed(lm)), **options)
    copies = len(edited) // 3
    width = min(edited.shape[1], expected.shape[1])
    untouched = slice(copies, 2 * copies)
    assert torch.equal(edited[untouched, :width], expected[untouched, :width])
    assert not torch.equal(edited[:copies, :width], expected[:copies, :width])


def test_out_of_scope_logits_are_bitwise_the_models(name: str, attention: str) -> None:
    lm, base = load(name, attention)
    rows, mask = batch(lm, QUERIES)
    expected = base(rows, attention_mask=mask, position_ids=positions(mask)).logits
    same = torch.equal if FAMILIES[name].apart else close
    logits = lm(rows, mask, PrefixBatch.stack(mixed(lm)))
    assert same(logits[1], expected[1])
    assert not close(logits[0, -1], expected[0, -1], 1e-2)
    same_length = rows[:1].expand(3, -1)
    logits = lm(same_length, None, PrefixBatch.stack(mixed(lm)))
    assert same(logits[1], base(same_length).logits[1])


def test_injected_text_equals_text_in_the_context(name: str, attention: str) -> None:
    lm, base = load(name, attention)
    prefixes = lm.capture_text(TEXTS)  # of different length: one was padded
    for text, prefix in zip(TEXTS, prefixes, strict=True):
        query = ids(lm, QUERIES[0])
        context = base(ids(lm, text + QUERIES[0])).logits[:, -query.shape[1] :]
        assert close(lm(query, None, PrefixBatch.stack([prefix])), context)
    rows, mask = batch(lm, QUERIES)
    logits = lm(rows, mask, PrefixBatch.stack([prefixes[1], None, prefixes[0]]))
    for row, text in enumerate([TEXTS[1], "", TEXTS[0]]):
        real = int(mask[row].sum())
        context = base(ids(lm, text + QUERIES[row])).logits[0, -real:]
        assert close(logits[row, -real:], context)


@pytest.mark.parametrize("options", GENERATION[:2], ids=NAMES[:2])
def test_injected_text_is_continued_like_text_in_the_context(
    name: str, attention: str, options: dict[str, object]
) -> None:
    lm, _ = load(name, attention)
    first, second = lm.capture_text(TEXTS)
    told = lm.generate(QUERIES, [first, second, None], 8, **options)
    read = lm.generate(
        [TEXTS[0] + QUERIES[0], TEXTS[1] + QUERIES[1], QUERIES[2]], None, 8, **options
    )
    assert told == read != lm.generate(QUERIES, None, 8, **options)


def test_capture_does_not_depend_on_padding_or_on_the_kind_of_input(
    name: str, attention: str
) -> None:
    lm, _ = load(name, attention)
    left, right = (
        lm.capture(r, attention_mask=m)
        for r, m in (batch(lm, TEXTS, side) for side in ("left", "right"))
    )
    rows, mask = batch(lm, TEXTS)
    embedded = lm.capture(inputs_embeds=lm.model.get_input_embeddings()(rows), attention_mask=mask)
    for other in (right, embedded):
        assert torch.equal(left.mask, other.mask)
        assert all(close(a, b) for a, b in zip(left.keys, other.keys, strict=True))
        assert all(close(a, b) for a, b in zip(left.values, other.values, strict=True))


def test_kept_positions_are_the_last_ones_asked_for(name: str, attention: str) -> None:
    lm, _ = load(name, attention)
    rows, mask = batch(lm, TEXTS)
    keep = mask.bool() & (torch.arange(rows.shape[1]) >= rows.shape[1] - 4)
    keep[1, -2:] = False
    whole, part = (
        lm.capture(rows, attention_mask=mask),
        lm.capture(rows, attention_mask=mask, keep=keep),
    )
    assert part.mask.tolist() == [[True] * 4, [False, False, True, True]]
    assert torch.equal(part.keys[1][0], whole.keys[1][0, :, -4:])
    assert torch.equal(part.values[0][1, :, 2:], whole.values[0][1, :, -4:-2])
    assert not part.values[0][1, :, :2].any()


def test_padding_side_changes_no_score(name: str, attention: str) -> None:
    lm, _ = load(name, attention)
    prefixes = PrefixBatch.stack(mixed(lm))
    (left, left_mask), (right, right_mask) = (
        batch(lm, QUERIES, side) for side in ("left", "right")
    )
    a, b = lm(left, left_mask, prefixes), lm(right, right_mask, prefixes)
    for row in range(3):
        assert close(a[row][left_mask[row].bool()], b[row][right_mask[row].bool()])


def test_a_mixed_batch_equals_each_row_alone(name: str, attention: str) -> None:
    lm, _ = load(name, attention)
    rows, mask = batch(lm, QUERIES)
    together = lm(rows, mask, PrefixBatch.stack(mixed(lm)))
    scores = lm.score(QUERIES, [" Rome", " no", " maybe so"], mixed(lm))
    for row, prefix in enumerate(mixed(lm)):
        alone = lm(ids(lm, QUERIES[row]), None, PrefixBatch.stack([prefix]))[0]
        assert close(together[row][mask[row].bool()], alone)
        [score] = lm.score([QUERIES[row]], [[" Rome", " no", " maybe so"][row]], [prefix])
        assert score == pytest.approx(scores[row], abs=1e-4)


def test_decoding_step_by_step_equals_one_pass(name: str, attention: str) -> None:
    lm, _ = load(name, attention)
    rows, mask = batch(lm, QUERIES)
    prefixes = PrefixBatch.stack(mixed(lm))
    cache = DynamicCache(config=lm.model.config)
    steps = [slice(0, 12), *(slice(t, t + 1) for t in range(12, rows.shape[1]))]
    parts = [
        lm(rows[:, s], mask[:, : s.stop], prefixes, past_key_values=cache, use_cache=True)
        for s in steps
    ]
    whole = lm(rows, mask, prefixes)
    assert close(torch.cat(parts, dim=1)[mask.bool()], whole[mask.bool()])


def test_sampling_is_reproducible_and_copies_have_their_rows_prefix(
    name: str, attention: str
) -> None:
    lm, _ = load(name, attention)
    prefixes = PrefixBatch.stack(mixed(lm))
    once, again = (reply(lm, prefixes, **SAMPLING) for _ in range(2))
    assert torch.equal(once, again)
    same = reply(lm, prefixes, do_sample=True, top_k=1, num_return_sequences=3)
    greedy = reply(lm, prefixes)
    assert torch.equal(same, greedy.repeat_interleave(3, dim=0))


def test_streaming_equals_generating(name: str, attention: str) -> None:
    lm, _ = load(name, attention)
    [prefix, _] = lm.capture_text(TEXTS)
    for given in (prefix, None):
        [text] = lm.generate(QUERIES[:1], [given], 8)
        assert "".join(lm.stream(QUERIES[0], given, 8)) == text


def test_gradients_reach_every_prefix_tensor(name: str, attention: str) -> None:
    lm, _ = load(name, attention)
    prefixes = learnt_prefixes(lm)
    rows, mask = batch(lm, QUERIES)
    lm(rows, mask, prefixes)[:, -1].square().sum().backward()
    for tensor in (*prefixes.keys, *prefixes.values):
        reached = tensor.grad.abs().sum(dim=(1, 3)) > 0  # (R, P)
        assert torch.equal(reached, prefixes.mask)


def test_gradients_reach_embeddings_through_capture(name: str, attention: str) -> None:
    lm, _ = load(name, attention)
    embeds = torch.randn(2, 6, 32).requires_grad_()
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]])
    keep = torch.tensor([[False] * 4 + [True] * 2] * 2)
    prefixes = lm.capture(inputs_embeds=embeds, attention_mask=mask, keep=keep)
    query = ids(lm, QUERIES[1]).expand(2, -1)
    lm(query, None, prefixes)[:, -1].square().sum().backward()
    assert torch.equal(embeds.grad.abs().sum(dim=2) > 0, mask.bool())
    assert all(p.grad is None for p in lm.model.parameters())


def test_static_cache(name: str, attention: str) -> None:
    lm, _ = load(name, attention)
    prefixes = PrefixBatch.stack(mixed(lm))
    static = reply(lm, prefixes, cache_implementation="static", disable_compile=True)
    assert torch.equal(static, reply(lm, prefixes))
    row = ids(lm, QUERIES[0])  # no padding: the model leaves the mask out
    prefixes = PrefixBatch.stack(mixed(lm)[:1])
    static = lm.generate_ids(row, None, prefixes, max_new_tokens=6, cache_implementation="static")
    assert torch.equal(static, lm.generate_ids(row, None, prefixes, max_new_tokens=6))
