"""The generator that needs no training: the edit's text, as if it stood in the context."""

from __future__ import annotations

from pathlib import Path

import pytest

from seprog.generator import PromptGenerator, VerbatimGenerator, load_generator
from seprog.lm import EncoderModel
from seprog.types import Edit, Prefix
from tests.conftest import make_lm, make_tokenizer

EDITS = [
    Edit("The capital of Australia is Sydney.", id="a"),
    Edit("No.", id="b"),
    Edit("The home of Ann is Zed, a town by the sea.", id="c"),
]
QUERY = " What is the capital?"


@pytest.mark.parametrize("bos", [True, False])
def test_the_prefix_of_an_edit_is_its_text_in_the_context(bos: bool) -> None:
    lm = make_lm(bos=bos)
    generator = VerbatimGenerator(lm)
    assert generator.replaces_bos
    prefixes = generator.prefixes(EDITS)
    assert [len(p) for p in prefixes] == [len(e.statement) + bos for e in EDITS]
    contexts = [e.statement + QUERY for e in EDITS]
    queries = [QUERY] * len(EDITS)
    assert lm.generate(queries, prefixes, 12, bos=False) == lm.generate(contexts, None, 12)
    told = lm.score(queries, [" yes"] * 3, prefixes, bos=False)
    assert told == pytest.approx(lm.score(contexts, [" yes"] * 3), abs=1e-4)
    assert told != pytest.approx(lm.score(queries, [" yes"] * 3), abs=1e-2)


def test_a_row_beside_a_longer_edited_one_is_the_base_models() -> None:
    """Its prefix holds the BOS of the longest row, which is then one token shorter than it was."""
    lm = make_lm(bos=True)
    [prefix] = VerbatimGenerator(lm).prefixes(EDITS[:1])
    texts = [QUERY * 3, "Who wrote Hamlet?"]
    for ends in ([" yes", " no"], [" a", " the whole of it"]):
        _, before = lm.score(texts, ends)
        _, after = lm.score(texts, ends, [prefix, None], bos=[False, True])
        assert after == before
    ids, _ = lm.tokens.batch(texts, True, lm.device)
    assert lm.tokens.batch(texts, [False, True], lm.device)[0].shape == ids.shape
    assert lm.tokens.batch(texts, False, lm.device)[0].shape[1] == ids.shape[1] - 1


def test_an_encoder_reads_its_own_leading_tokens_behind_a_prefix() -> None:
    from tests.lm.families import build_encoder

    lm = EncoderModel(build_encoder("bert", "sequence"), make_tokenizer(bos=True))
    assert not VerbatimGenerator(lm).replaces_bos


def test_the_order_of_joined_edits_makes_no_difference() -> None:
    lm = make_lm()
    a, b, _ = VerbatimGenerator(lm).prefixes(EDITS)
    one, other = lm.score(
        [QUERY] * 2, [" yes"] * 2, [Prefix.join([a, b]), Prefix.join([b, a])], bos=False
    )
    assert one == pytest.approx(other, abs=1e-4)


def test_no_edits_no_prefixes() -> None:
    assert VerbatimGenerator(make_lm()).prefixes([]) == []


def test_it_is_saved_and_found_again(tmp_path: Path) -> None:
    lm, other = make_lm(), make_lm(seed=1)
    generator: PromptGenerator = VerbatimGenerator(lm)
    generator.save_pretrained(tmp_path / "generator")
    for folder in (tmp_path / "generator", None):
        loaded = load_generator(folder, lm)
        assert isinstance(loaded, VerbatimGenerator)
        assert loaded.fingerprint == generator.fingerprint
        assert load_generator(folder, other).fingerprint != generator.fingerprint
