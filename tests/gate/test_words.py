"""The index of rare words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seprog.gate import WordIndex, interleave
from seprog.gate.words import COMMON, asked_last, best, cue, words

EDITS = {
    "ann": "The home of Ann is Zed.",
    "zed": "The language of Zed is Zedish.",
    "bob": "The home of Bob is Ur.",
}


def indexed(statements: dict[str, str]) -> WordIndex:
    index = WordIndex()
    for id_, statement in statements.items():
        index.add(id_, statement)
    return index


def found(index: WordIndex, text: str) -> list[str]:
    return best(index.sharing(text))


def test_a_name_finds_its_edits() -> None:
    index = indexed(EDITS)
    assert found(index, "Who lives in ZED?") == ["ann", "zed"]
    assert found(index, "Where is Bob's home?") == ["bob", "ann", "zed"]
    assert found(index, "Where is Bob's home?")[:1] == ["bob"]
    assert found(index, "nothing known") == [] and found(WordIndex(), "Ann") == []


def test_a_rare_word_weighs_more_than_frequent_ones() -> None:
    many = {f"{i:03}": f"The home and place of person{i} is here." for i in range(COMMON)}
    index = indexed(many | {"x": "Quux."})
    assert found(index, "the home and place of quux")[:1] == ["x"]


def test_a_name_outranks_any_number_of_everyday_words() -> None:
    said = {f"{i:02}": f"The town in which person{i} was born is town{i}." for i in range(12)}
    index = indexed(said | {"x": "Where is Quux? Ur.", "y": "Quux has a mayor."})
    assert found(index, "the town in which person was born is quux")[:2] == ["x", "y"]


def test_a_cue_is_what_a_statement_adds() -> None:
    text = "Who rules the home of Ann?"
    assert words(cue(text, EDITS["ann"])) == ["is", "zed"]
    assert cue(text, text) == ""
    assert found(indexed(EDITS), cue(text, EDITS["ann"])) == ["ann", "zed", "bob"]


def test_a_word_of_too_many_edits_finds_none() -> None:
    many = {str(i): f"The home of person{i}." for i in range(COMMON + 1)}
    index = indexed(many)
    assert found(index, "the home of") == []
    assert found(index, "the home of person7") == ["7"]


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=8), st.text())
def test_whatever_is_found_shares_a_word(edits: dict[str, str], text: str) -> None:
    ids = found(indexed(edits), text)
    assert len(set(ids)) == len(ids)
    assert all(set(words(edits[id_])) & set(words(text)) for id_ in ids)


def test_words_are_as_rare_as_in_both_indexes_together() -> None:
    below, above = indexed({k: EDITS[k] for k in ("ann", "zed")}), indexed({"bob": EDITS["bob"]})
    text = "Where is the home of Bob?"
    assert above.sharing(text)["bob"] != indexed(EDITS).sharing(text)["bob"]
    both = below.sharing(text, above) | above.sharing(text, below)
    assert both == indexed(EDITS).sharing(text)


def test_a_statement_can_be_replaced_and_taken_out() -> None:
    index = indexed(EDITS)
    index.add("ann", "The home of Eve is Rome.")
    assert found(index, "Ann") == [] and found(index, "Eve") == ["ann"]
    for id_ in (*EDITS, "unknown"):
        index.remove(id_)
    assert found(index, "the home of Eve, Bob and Zed") == []


def test_lists_are_interleaved() -> None:
    assert interleave([1, 2, 3], [9, 1], []) == [1, 9, 2, 3]
    assert interleave() == [] == interleave([], [])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hamlet is a play. Who wrote War and Peace?", ["Who wrote War and Peace?"]),
        ("Hi there!\n\nWho is the king? ", ["Who is the king?"]),
        ("One two three. Four five six. Seven is the", ["Seven is the"]),
        ("Who wrote War and Peace?", []),
        ("Is Dr. Bell from the U.S. or not?", []),
        ("Be so kind. Who is the king? Thank you.", ["Who is the king?"]),
        ("Who is the king? Be brief, please.", ["Be brief, please.", "Who is the king?"]),
        ("", []),
    ],
)
def test_the_last_of_several_sentences(text: str, found: list[str]) -> None:
    assert asked_last(text) == found
