"""Unrelated texts written together: each as if it had been alone."""

from __future__ import annotations

import math
from typing import Any

import pytest

from seprog.errors import InputError
from seprog.lm import CausalLM, RowOptions, Written
from tests.conftest import make_model, make_tokenizer


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    return CausalLM(make_model(), make_tokenizer(bos=True))


TEXTS = ["The capital", "A much longer text than the first one", "x", "The moon"]


def test_a_batch_writes_what_its_rows_write_alone(lm: CausalLM) -> None:
    rows = [
        RowOptions(12),
        RowOptions(5, temperature=0.9, top_p=0.8, seed=3),
        RowOptions(9, temperature=1.5, seed=4),
        RowOptions(1),
    ]
    [prefix] = lm.capture_text(["The capital of Zed is Ann."], bos=False)
    prefixes = [prefix, None, None, prefix]
    together = lm.write(TEXTS, rows, prefixes)
    for i, (text, row) in enumerate(zip(TEXTS, rows, strict=True)):
        [alone] = lm.write([text], [row], [prefixes[i]])
        assert together[i].ids == alone.ids
        assert together[i].text == alone.text
        assert len(alone.ids) == row.max_new_tokens or alone.finish == "stop"


def test_greedy_rows_write_what_generate_does(lm: CausalLM) -> None:
    written = lm.write(TEXTS, [RowOptions(10)] * len(TEXTS))
    assert [w.text for w in written] == lm.generate(TEXTS, max_new_tokens=10)


def test_pieces_joined_are_the_text_and_hold_no_stop_text(lm: CausalLM) -> None:
    [whole] = lm.write(["The capital"], [RowOptions(30, temperature=1.0, seed=1)])
    stop = whole.text[4:6]
    pieces: dict[int, list[str]] = {0: [], 1: []}
    rows = [RowOptions(30, temperature=1.0, seed=1, stop=(stop,)), RowOptions(8)]
    first, second = lm.write(["The capital", "x"], rows, on_piece=lambda i, p: pieces[i].append(p))
    assert first.text == whole.text[: whole.text.index(stop)]
    assert first.finish == "stop"
    assert "".join(pieces[0]) == first.text
    assert "".join(pieces[1]) == second.text


def test_rows_are_given_as_soon_as_they_are_done(lm: CausalLM) -> None:
    ended: list[tuple[int, Written, int]] = []
    pieces: list[str] = []
    written = lm.write(
        ["The capital", "x"],
        [RowOptions(20), RowOptions(2)],
        on_piece=lambda i, piece: pieces.append(piece) if i == 0 else None,
        on_end=lambda i, result: ended.append((i, result, len(pieces))),
    )
    (first, short, early), (last, long, late) = ended
    assert (first, last) == (1, 0)
    assert [long, short] == written
    assert early < late


def test_a_cancelled_row_ends_and_the_others_go_on(lm: CausalLM) -> None:
    seen: list[str] = []
    first, second = lm.write(
        ["The capital", "x"],
        [RowOptions(20), RowOptions(20)],
        on_piece=lambda i, piece: seen.append(piece) if i == 0 else None,
        cancelled=lambda i: i == 0 and len(seen) >= 3,
    )
    assert first.finish == "cancelled"
    assert len(first.ids) < 20
    assert second.finish in ("length", "stop")
    assert second.ids == lm.write(["x"], [RowOptions(20)])[0].ids


def test_logprobs_are_the_model_s_own(lm: CausalLM) -> None:
    text = "The capital"
    [written] = lm.write([text], [RowOptions(6, logprobs=3)])
    assert [t.id for t in written.logprobs] == written.ids
    for token in written.logprobs:
        assert token.alternatives[0] == (token.id, pytest.approx(token.logprob))
        assert sum(math.exp(value) for _, value in token.alternatives) <= 1 + 1e-6
        assert len(token.alternatives) == 3
    total = sum(t.logprob for t in written.logprobs)
    if written.finish == "length" and lm.tokens.encode([written.text], bos=False)[0] == written.ids:
        assert lm.score([text], [written.text]) == [pytest.approx(total, abs=1e-3)]


def test_the_same_seed_writes_the_same_and_another_one_differs(lm: CausalLM) -> None:
    def say(seed: int) -> list[int]:
        [written] = lm.write(["The"], [RowOptions(20, temperature=2.0, seed=seed)])
        return written.ids

    assert say(5) == say(5)
    assert say(5) != say(6)


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_new_tokens", 0), ("temperature", -1.0), ("temperature", math.nan), ("top_p", 0.0)],
)
def test_values_out_of_range_are_refused(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=field):
        RowOptions(**{field: value})
