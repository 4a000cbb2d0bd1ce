"""What Atlas reads: only the train split, and every answer right; and how it becomes tokens."""

from __future__ import annotations

import random
import re
from functools import cache
from itertools import islice, pairwise

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from seprog.atlas.corpus import Corpus
from seprog.atlas.fiction import real_names
from seprog.atlas.scenario import make_scenario
from seprog.atlas.tokens import spellings, train_tokenizer
from seprog.atlas.wording import for_training, held_out, normal, say_fact
from seprog.atlas.world import Query, load_world, split_of
from seprog.data.byte_pairs import END
from seprog.data.documents import Document
from seprog.training.packing import Rows, pack

WORLD = load_world()


@cache
def held_out_prompts(relation: str) -> frozenset[str]:
    """Prompts in held-out phrasings, ``normal``, with ``{s}`` where they name something."""
    forms = held_out(WORLD.relations[relation])
    return frozenset(re.sub(r" \{\w\}$", "", f).replace("{o}", "{s}") for f in forms)


def bare(prompt: str, name: str) -> str:
    """A prompt, ``normal``, without the name in it."""
    return normal(prompt.casefold().replace(name.casefold(), "{s}"))


def held_out_pattern() -> re.Pattern[str]:
    """Matches a prompt in a phrasing that a split keeps out, whatever it asks about."""
    tables = (t for r in WORLD.relations.values() for t in (r.phrasings, r.nouns, r.inverses))
    forms = {normal(p) for t in tables for s in ("calibration", "test") for p in t[s]}
    prompts = (re.split(r"\{\w\}", re.sub(r" \{\w\}$", "", form)) for form in forms)
    some = "|".join(".+".join(map(re.escape, parts)) for parts in prompts)
    return re.compile(some)


def some(corpus: Corpus, count: int) -> list[Document]:
    """Closed-book and open-book documents in turn."""
    indices = corpus.rng.sample(range(len(corpus.closed)), count)
    return [d for i in indices for d in (corpus.closed_document(i), corpus.open_document())]


def test_no_held_out_phrasing_is_read() -> None:
    pattern = held_out_pattern()
    assert pattern.fullmatch(normal("As its capital, Peru has"))
    plain = Corpus(WORLD, random.Random(0), noise=0.0)  # of scrambled ones the wording's tests tell
    texts = [text for d in some(plain, 400) for text, _ in d.pieces]
    asked = [t for t in texts if not t.endswith(".")]
    assert len(asked) > 1000
    assert not [t for t in asked if pattern.fullmatch(normal(t))]
    assert not any("{" in t for t in texts)
    corpus, told = Corpus(WORLD, random.Random(1), noise=0.0), 0
    for fact in (f for _ in range(600) for f in corpus._statements()):
        statement = say_fact(WORLD, fact, "train", corpus.rng, asked=0.25, noise=0.175)
        prompt = statement.removesuffix(f" {fact.object}.")
        assert prompt != statement and not pattern.fullmatch(normal(prompt)), statement
        told += 1
    assert told > 900


@pytest.mark.parametrize("others", [0.0, 1.0])
def test_no_phrasing_of_others_is_read(others: float) -> None:
    assert bare("As its capital, Peru has", "Peru") in held_out_prompts("capital")
    corpus, told = Corpus(WORLD, random.Random(0), noise=0.0, others=others), 0
    for index in corpus.rng.sample(range(len(corpus.closed)), 1500):
        (prompt, _), _ = corpus.closed_document(index).pieces
        query = corpus.closed[index]
        asked = bare(prompt, query.start)
        assert asked not in held_out_prompts(query.path[-1]) and "{" not in prompt
        told += "{s}" in asked
    for fact in (f for _ in range(600) for f in corpus._statements()):
        statement = say_fact(
            WORLD, fact, for_training(others, corpus.rng), corpus.rng, asked=0.25, noise=0.175
        )
        prompt = statement.removesuffix(f" {fact.object}.")
        asked = bare(prompt, fact.subject)
        assert prompt != statement and asked not in held_out_prompts(fact.relation), statement
        told += "{s}" in asked
    assert told > 2000


def test_a_share_of_the_documents_is_in_more_writers_phrasings() -> None:
    def forms(others: float) -> list[str]:
        corpus = Corpus(WORLD, random.Random(0), noise=0.0, others=others)
        capitals = [i for i, q in enumerate(corpus.closed) if q.path == ("capital",)]
        documents = [corpus.closed_document(i) for i in capitals for _ in range(10)]
        starts = [corpus.closed[d.fact].start for d in documents]
        return [bare(d.pieces[0][0], s) for d, s in zip(documents, starts, strict=True)]

    own, half, all_ = forms(0.0), forms(0.5), forms(1.0)
    new = set(all_) - set(own)
    assert len(new) > 60
    share = [sum(f in new for f in found) / len(found) for found in (half, all_)]
    assert share[1] > 0.3 and share[0] == pytest.approx(share[1] / 2, abs=0.05)


def test_counterfactual_subjects_are_of_the_train_split() -> None:
    corpus = Corpus(WORLD, random.Random(0))
    subjects = {f.subject for _ in range(400) for f in corpus._statements()}
    assert len(subjects) > 300
    assert {split_of(s) for s in subjects} == {"train"}


def test_closed_documents_teach_the_true_world() -> None:
    corpus = Corpus(WORLD, random.Random(0), open_book=0.0)
    for document in islice(corpus, 300):
        (prompt, asked), (answer, told) = document.pieces
        assert not asked and told and prompt
        query = corpus.closed[document.fact]
        outcome = WORLD.answer(query)
        assert outcome is not None and answer == f"{outcome.answer}."


def test_open_documents_ask_after_they_tell() -> None:
    corpus = Corpus(WORLD, random.Random(0), open_book=1.0)
    stated_and_asked = 0
    for document in (corpus.open_document() for _ in range(200)):
        assert document.fact == -1
        flags = [is_answer for _, is_answer in document.pieces]
        first = flags.index(True) - 1 if True in flags else len(flags)
        assert flags[first:] == [False, True] * ((len(flags) - first) // 2)
        assert len(flags) - first <= 16
        told = " ".join(text for text, _ in document.pieces[:first])
        answers = [text for text, is_answer in document.pieces if is_answer]
        assert all(a.endswith(".") and not a.endswith("..") for a in answers)
        stated_and_asked += any(a in told for a in answers)
    assert stated_and_asked > 130


def test_weights_choose_what_is_read() -> None:
    corpus = Corpus(WORLD, random.Random(0), open_book=0.0)
    corpus.weights = [0.0] * len(corpus.closed)
    corpus.weights[7] = 1.0
    assert {d.fact for d in islice(corpus, 50)} == {7}


def test_the_share_of_open_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Corpus, "open_document", lambda _: Document([]))
    monkeypatch.setattr(Corpus, "closed_document", lambda _, i: Document([], i))
    documents = list(islice(Corpus(WORLD, random.Random(0), open_book=0.25), 2048))
    assert sum(d.fact < 0 for d in documents) / 2048 == pytest.approx(0.25, abs=0.04)
    assert len({d.fact for d in documents}) > 1000


# --- tokens -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(Corpus(WORLD, random.Random(0)), 400, 100)


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return some(Corpus(WORLD, random.Random(1)), 60)


@pytest.fixture(scope="module")
def rows(tokenizer: PreTrainedTokenizerFast, documents: list[Document]) -> Rows:
    return next(pack(iter(documents), tokenizer, 3, 128))


def test_a_text_has_the_same_tokens_wherever_it_stands(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) == 400 and tokenizer.eos_token == END == tokenizer.pad_token
    one, two = "The capital of Peru is", "Zürich. 東京"
    ids = [tokenizer(t).input_ids for t in (one, two, f"{one} {two}")]
    assert ids[0] + ids[1] == ids[2]
    assert tokenizer.decode(ids[2]).strip() == f"{one} {two}"


def test_rows_hold_whole_documents(tokenizer: PreTrainedTokenizerFast, rows: Rows) -> None:
    assert rows.ids.shape == (3, 128)
    columns = (rows.ids, rows.owner, rows.positions, rows.branch, rows.learn)
    for ids, owner, positions, branch, learn in zip(*columns, strict=True):
        assert bool((ids[owner < 0] == tokenizer.eos_token_id).all())
        for document in range(int(owner.max()) + 1):
            mine = owner == document
            told = int((branch[mine] == 0).sum())
            assert branch[mine].tolist() == sorted(branch[mine].tolist())
            for part in range(int(branch[mine].max()) + 1):
                start, size = (told if part else 0), int((branch[mine] == part).sum())
                place = positions[mine][branch[mine] == part].tolist()
                assert place == list(range(start, start + size))
            if bool(learn[mine].any()):  # then it ends in an answer
                assert ids[mine][-1] == tokenizer.eos_token_id
            assert bool((mine.nonzero().diff(dim=0) == 1).all())


def test_only_answers_are_learnt(tokenizer: PreTrainedTokenizerFast, rows: Rows) -> None:
    assert bool((rows.facts >= 0).any()) and not bool((~rows.learn & (rows.facts >= 0)).any())
    assert 0 < rows.learn.sum() < (rows.owner >= 0).sum()
    assert not bool(rows.learn[(rows.positions == 0) | (rows.owner < 0)].any())
    corpus = Corpus(WORLD, random.Random(1))
    for fact in rows.facts[rows.facts >= 0].unique().tolist():
        row = (rows.facts == fact).nonzero()
        text = tokenizer.decode(
            [int(rows.ids[r, c]) for r, c in row.tolist()], skip_special_tokens=True
        )
        assert f"{corpus.answers[fact]}." in text


def test_names_are_spelled_from_tokens_of_every_kind(tokenizer: PreTrainedTokenizerFast) -> None:
    made = spellings(tokenizer, random.Random(0))
    assert all(2 <= len(tokenizer(w).input_ids) <= 3 and w.isalpha() for w in made)
    letters = [t for i in range(len(tokenizer)) if (t := tokenizer.decode([i])).strip().isalpha()]
    used = {i for w in made for i in tokenizer(w).input_ids}
    assert len(used) > 0.7 * len(letters)
    corpus = Corpus(WORLD, random.Random(1), words=made)
    facts = [f for _ in range(300) for f in corpus._statements()]
    invented = {n for f in facts for n in (f.subject, f.object)} - real_names(WORLD)
    spelled = {n for n in invented if set(n.split()) <= set(made)}
    assert 0.6 < len(spelled) / len(invented) < 0.9
    assert all(split_of(n) == "train" for n in spelled)


def test_a_scenario_can_be_spelled_from_them_too(tokenizer: PreTrainedTokenizerFast) -> None:
    made = spellings(tokenizer, random.Random(0))
    scenario = make_scenario(WORLD, "train", 200, random.Random(0), 0.5, words=made)
    assert len(scenario.facts) == 200 == len(scenario.prompts)
    names = {n for f in scenario.facts.values() for n in (f.subject, f.object)}
    invented = names - real_names(WORLD)
    spelled = {n for n in invented if set(n.split()) <= set(made)}
    assert 0.6 < len(spelled) / len(invented) < 0.9
    assert scenario.chains
    for chain in scenario.chains:
        assert all(f in scenario.facts.values() for f in chain)
        assert all(a.object == b.subject for a, b in pairwise(chain))
    assert all(f.subject.lower() in p.lower() for f, p in scenario.prompts.items())


def test_no_document_sees_another(rows: Rows) -> None:
    mask = rows.mask()
    assert mask.shape == (3, 1, 128, 128)
    for row in range(3):
        q, k = mask[row, 0].nonzero().T
        assert bool((k <= q).all())
        assert torch.equal(rows.owner[row][q], rows.owner[row][k])
        branch = rows.branch[row]
        assert bool(((branch[k] == 0) | (branch[k] == branch[q])).all())
        assert bool(mask[row, 0].diagonal().all())


def test_the_oracle_answers_inverse_queries_of_the_corpus() -> None:
    corpus = Corpus(WORLD, random.Random(0))
    inverse = [q for q in corpus.closed if q.inverse]
    assert len(inverse) > 300
    assert Query("Lima", ("capital",), True) in inverse
