"""Retriever and scorer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from seprog.gate import ScopeGate
from seprog.gate.retriever import Retriever
from seprog.gate.scorer import PairScorer, shared_words
from seprog.text_encoder import TextEncoder

QUERIES = ["What is the capital of Peru?", "Ann", "The painter of the Mona Lisa is", "Hi", "king"]
EDITS = [
    "The capital of Peru is Oslo.",
    "The language of Zed is Zedish, which nobody else in the whole wide world speaks.",
    "Ann is the king.",
    "The painter of the Mona Lisa is Bob.",
    "No.",
]


def test_an_untrained_retriever_is_the_encoder(tiny_encoder: TextEncoder) -> None:
    retriever, vectors = Retriever(tiny_encoder), tiny_encoder.encode(QUERIES)
    np.testing.assert_allclose(retriever.query_keys(QUERIES), vectors, atol=1e-6)
    np.testing.assert_allclose(retriever.edit_keys(QUERIES), vectors, atol=1e-6)


def test_keys_are_unit_vectors_whatever_the_batch(tiny_gate: ScopeGate) -> None:
    keys = tiny_gate.retriever.query_keys(QUERIES)
    np.testing.assert_allclose(np.linalg.norm(keys, axis=1), 1, atol=1e-5)
    alone = np.concatenate([tiny_gate.retriever.query_keys([q]) for q in QUERIES])
    np.testing.assert_allclose(keys, alone, atol=1e-5)
    assert tiny_gate.encoder.encode([]).shape == (0, 32)


def test_probabilities_do_not_depend_on_the_batch(tiny_gate: ScopeGate) -> None:
    scorer = tiny_gate.scorer
    found = scorer.probabilities(QUERIES, EDITS, batch=3)
    alone = torch.cat([scorer.probabilities([q], [e]) for q, e in zip(QUERIES, EDITS, strict=True)])
    torch.testing.assert_close(found, alone, atol=1e-5, rtol=0)
    backwards = scorer.probabilities(QUERIES[::-1], EDITS[::-1], batch=2)
    torch.testing.assert_close(found, backwards.flip(0), atol=1e-5, rtol=0)
    assert found.std() > 1e-3  # or the test would say nothing
    assert ((found >= 0) & (found <= 1)).all()
    assert scorer.probabilities([], []).shape == (0, 2)


def test_the_encoder_is_untouched_outside_the_scorer(encoder_folder: Path) -> None:
    plain = TextEncoder(encoder_folder).encode(QUERIES)
    encoder = TextEncoder(encoder_folder)
    scorer = PairScorer(encoder, rank=2)
    torch.nn.init.normal_(next(iter(scorer.lora.up.values())))
    assert np.array_equal(encoder.encode(QUERIES), plain)
    before = scorer.probabilities(QUERIES, EDITS)
    assert np.array_equal(encoder.encode(QUERIES), plain)
    assert torch.equal(scorer.probabilities(QUERIES, EDITS), before)
    with scorer.lora.active():
        assert not np.array_equal(encoder.encode(QUERIES), plain)


def test_only_the_scorers_own_weights_are_its_parameters(tiny_gate: ScopeGate) -> None:
    names = {name.split(".")[0] for name, _ in tiny_gate.scorer.named_parameters()}
    assert names == {"lora", "head", "shared"}
    own = {id(p) for p in tiny_gate.parameters()}
    assert not own & {id(p) for p in tiny_gate.encoder.model.parameters()}
    assert len(tiny_gate.scorer.lora.down) == 2 * 6  # query, key, value, three more, per layer


def test_gradients_reach_every_weight_of_the_scorer(tiny_gate: ScopeGate) -> None:
    scorer = tiny_gate.scorer.requires_grad_(True)
    scorer(QUERIES, EDITS).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in scorer.parameters())
    assert all(p.grad is None for p in tiny_gate.encoder.model.parameters())


def test_words_in_both_texts_are_marked(tiny_encoder: TextEncoder) -> None:
    tokens = tiny_encoder.tokens(["Is Zed there?", "Zedish Zed"], ["Zed is here.", "Zedish"])
    marks = shared_words(tokens)
    for row, marked in enumerate(({"is", "zed"}, {"zedish"})):
        encoding = tokens.encodings[row]
        spelt: dict[tuple[int, int], str] = {}
        for place, (text, word) in enumerate(
            zip(encoding.sequence_ids, encoding.word_ids, strict=True)
        ):
            if text is None:
                assert marks[row, place] == 0
            else:
                piece = encoding.tokens[place].removeprefix("##")
                spelt[text, word] = spelt.get((text, word), "") + piece
        for place, (text, word) in enumerate(
            zip(encoding.sequence_ids, encoding.word_ids, strict=True)
        ):
            if text is not None:
                assert bool(marks[row, place]) == (spelt[text, word] in marked)


def test_an_unused_mark_changes_nothing(tiny_encoder: TextEncoder) -> None:
    scorer = PairScorer(tiny_encoder, rank=2)
    tokens = tiny_encoder.tokens(QUERIES, EDITS)
    weights = tokens["attention_mask"][:, :, None].float()
    states = tiny_encoder.model(**tokens).last_hidden_state
    mean = (states * weights).sum(1) / weights.sum(1)
    plain = scorer.head(torch.cat([states[:, 0], mean], dim=-1))
    torch.testing.assert_close(scorer(QUERIES, EDITS), plain)
    torch.nn.init.normal_(scorer.shared)
    assert not torch.allclose(scorer(QUERIES, EDITS), plain)


def test_of_a_long_text_the_end_is_read(tiny_encoder: TextEncoder) -> None:
    long, edit = "the king of " * 200 + "home", "the capital of country is language"
    ids = tiny_encoder.tokens([long])["input_ids"][0]
    [word] = tiny_encoder.tokenizer("home", add_special_tokens=False).input_ids
    assert ids[-2] == word and ids[0] == tiny_encoder.tokenizer.cls_token_id
    pair = tiny_encoder.tokenizer.decode(tiny_encoder.tokens([long], [edit])["input_ids"][0])
    assert "home" in pair and edit in pair


def test_long_texts_are_cut(tiny_gate: ScopeGate) -> None:
    long = "the language of " * 100
    assert tiny_gate.encoder.encode([long]).shape == (1, 32)
    assert tiny_gate.scorer.probabilities([long], [long]).shape == (1, 2)
