"""Texts in and out: BOS, stop texts, streams, scores, positions, limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from seprog.errors import InputError
from seprog.lm import CausalLM, LanguageModel
from seprog.lm.positions import from_zero, shifts, up_to_minus_one
from seprog.lm.tokens import TextStream, Tokens, cut
from seprog.types import Prefix, PrefixBatch
from tests.lm.families import build
from tests.lm.helpers import QUERIES, TEXTS, batch, close, ids, load, random_prefix


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_verbatim_prefix_equals_the_text_with_and_without_bos(name: str, tokenizer: Any) -> None:
    lm = CausalLM(build(name), tokenizer)
    prefixes = lm.capture_text(TEXTS)
    extra = len(lm.tokens.leading)
    assert [len(p) for p in prefixes] == [len(t) + extra for t in TEXTS]
    texts, edits = [*QUERIES[:2], QUERIES[2]], [*prefixes, None]
    bos = [False, False, True]
    contexts = [a + b for a, b in zip([*TEXTS, ""], texts, strict=True)]
    assert lm.generate(texts, edits, 8, bos=bos) == lm.generate(contexts, None, 8)
    told, read = lm.score(texts, ["yes"] * 3, edits, bos=bos), lm.score(contexts, ["yes"] * 3)
    assert told == pytest.approx(read, abs=1e-4)
    pieces = lm.stream(texts[0], prefixes[0], 8, bos=False)
    assert "".join(pieces) == lm.generate(contexts[:1], None, 8)[0]


def test_it_is_a_language_model() -> None:
    assert isinstance(load("llama")[0], LanguageModel)


def test_scores_are_sums_of_log_probabilities() -> None:
    lm, base = load("llama")
    [score] = lm.score(["hello"], [" you"])
    logits = base(ids(lm, "hello you")).logits[0].detach().log_softmax(dim=1)
    target = ids(lm, " you")[0]
    expected = sum(float(logits[4 + i, t]) for i, t in enumerate(target))
    assert score == pytest.approx(expected, abs=1e-4)


def test_generation_ends_at_a_stop_text() -> None:
    lm, _ = load("llama")
    [prefix] = lm.capture_text(TEXTS[:1])
    [text] = lm.generate(["hello"], [prefix], 12)
    stop = text[5:7]
    wanted = text[: text.index(stop)]
    assert lm.generate(["hello"], [prefix], 12, stop=[stop, "never"]) == [wanted]
    assert "".join(lm.stream("hello", prefix, 12, stop=["never", stop])) == wanted
    assert lm.generate(["hello", "bye"], None, 12, stop=[stop])[1:] == [
        cut(lm.generate(["bye"], None, 12)[0], [stop])
    ]


def test_closing_a_stream_ends_the_work() -> None:
    lm, _ = load("llama")
    pieces = lm.stream("hello", None, 100)
    assert isinstance(pieces, Iterator)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]  # joins the thread


def test_an_error_in_a_stream_reaches_the_reader() -> None:
    lm, _ = load("llama")
    with pytest.raises(InputError, match="context window"):
        list(lm.stream("hello", None, 1000))
    with pytest.raises(InputError, match="no tokens"):
        lm.stream("")


def test_lists_that_do_not_fit() -> None:
    lm, _ = load("llama")
    with pytest.raises(InputError, match="at least one text"):
        lm.generate([])
    with pytest.raises(InputError, match="1 continuations came for 2 texts"):
        lm.score(["a", "b"], ["c"])


def test_pieces_hold_back_what_may_still_change() -> None:
    letters = {1: "a", 2: "b", 3: "\ufffd", 4: "\n"}
    stream = TextStream(lambda ids: "".join(letters[i] for i in ids), stop=["b\nb"])
    stream.put(torch.tensor([[1, 1]]))  # the prompt
    sent = []
    for token in (1, 3, 2, 4, 2, 1):
        stream.put(torch.tensor([token]))
        sent.append(stream._pieces.sent)
    assert sent == ["a", "a", "a\ufffd", "a\ufffd", "a\ufffd", "a\ufffd"]
    stream.end()
    assert "".join(stream) == "a\ufffd"


def test_tokens_without_a_padding_token(tokenizer: Any) -> None:
    tokens = Tokens(tokenizer)
    assert tokens.encode(["ab"])[0][-2:] == tokens.encode(["ab"], bos=False)[0]
    with pytest.raises(InputError, match="one per text"):
        tokens.encode(["ab"], bos=[True, False])
    with pytest.raises(InputError, match="list of at least one text"):
        tokens.encode("ab")
    tokenizer.pad_token = None
    assert Tokens(tokenizer).pad_id == tokenizer.eos_token_id
    tokenizer.eos_token = None
    assert Tokens(tokenizer).pad_id == 0


def test_positions_of_padded_rows() -> None:
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]])
    assert from_zero(4, mask, "cpu").tolist() == [[0, 0, 0, 1], [0, 1, 2, 3], [0, 1, 2, 3]]
    ends = up_to_minus_one(4, mask, "cpu").tolist()
    assert ends == [[-4, -3, -2, -1], [-3, -2, -1, 0], [-4, -3, -2, -1]]
    assert up_to_minus_one(2, None, "cpu").tolist() == [[-2, -1]]


def test_rows_with_a_prefix_move_up_by_its_length_or_as_told() -> None:
    lm, base = load("gpt2")
    prefixes = PrefixBatch.stack([None, random_prefix(lm, 3), random_prefix(lm, 5)])
    assert prefixes is not None
    assert shifts(3, prefixes, None).tolist() == [0, 3, 5]
    assert shifts(3, prefixes, 2).tolist() == [0, 2, 2]
    assert shifts(3, prefixes, torch.tensor([4, 1])).tolist() == [0, 4, 1]
    query = ids(lm, "hello").expand(3, -1)
    moved, fixed = lm(query, None, prefixes), lm(query, None, prefixes, shift=0)
    assert torch.equal(moved[0], fixed[0]) and not close(moved[1], fixed[1], 1e-3)
    given = lm(query, None, prefixes, shift=torch.tensor([3, 5]))
    assert torch.equal(given, moved)
    placed = torch.arange(5)[None] + torch.tensor([[0], [3], [5]])
    assert close(lm(query, None, prefixes, shift=0, position_ids=placed), moved)
    assert torch.equal(moved[0], base(query).logits[0])


def test_generate_moves_positions_in_every_step() -> None:
    lm, _ = load("gpt2")
    prefixes = PrefixBatch.stack([None, random_prefix(lm, 3)])
    query = ids(lm, "hello").expand(2, -1)
    for shift in (None, 0, 7):
        out = lm.generate_ids(query, None, prefixes, shift=shift, max_new_tokens=6)
        again = lm(out, None, prefixes, shift=shift)[:, 4:-1].argmax(dim=2)
        assert torch.equal(out[:, 5:], again)


def test_rotary_models_do_not_move() -> None:
    lm, _ = load("llama")
    query, prefixes = ids(lm, "hello"), PrefixBatch.stack([random_prefix(lm, 3)])
    assert torch.equal(lm(query, None, prefixes), lm(query, None, prefixes, shift=9))


def test_text_that_is_too_long() -> None:
    for name in ("llama", "gpt2"):
        lm, _ = load(name)
        with pytest.raises(InputError, match=r"takes 129 tokens.*at most 128"):
            lm.generate(["a" * 129], max_new_tokens=1)
        with pytest.raises(InputError, match="context window"):
            lm.generate(["a" * 120], max_new_tokens=9)
        with pytest.raises(InputError, match="context window"):
            lm(torch.ones(1, 129, dtype=torch.long))
        with pytest.raises(InputError, match="context window"):
            lm.capture_text(["a" * 129])
        lm(torch.ones(1, 128, dtype=torch.long))
    with pytest.raises(InputError, match="context window"):  # the prefix takes positions too
        lm(torch.ones(1, 126, dtype=torch.long), None, PrefixBatch.stack([random_prefix(lm, 3)]))


@pytest.mark.parametrize("side", ["", "right"])
def test_a_long_text_may_stand_beside_a_short_one_with_a_long_prefix(side: str) -> None:
    lm, _ = load("gpt2")
    prefix = random_prefix(lm, 100)
    rows, mask = batch(lm, ["x" * 120, "ab"], side)
    both = lm(rows, mask, PrefixBatch.stack([None, prefix]))
    alone = lm(ids(lm, "ab"), None, PrefixBatch.stack([prefix]))
    assert close(both[1][mask[1].bool()], alone[0])
    assert lm.generate(["x" * 120, "ab"], [None, prefix], max_new_tokens=4)


def test_nothing_to_read() -> None:
    lm, _ = load("llama")
    for call in (lm.capture, lm.forward):
        with pytest.raises(InputError, match="Neither"):
            call()


def test_prefix_of_one_text_is_its_own_memory() -> None:
    lm, _ = load("llama")
    first, second = lm.capture_text(TEXTS)
    assert isinstance(first, Prefix) and len(second) == len(TEXTS[1])
    assert all(x.untyped_storage().nbytes() == x.numel() * 4 for x in (*first.keys, *second.values))
