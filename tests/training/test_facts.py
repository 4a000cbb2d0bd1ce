"""What is learnt from lists of facts."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from seprog.training.facts import (
    STRANGE,
    Fact,
    FactCorpus,
    answers_by_group,
    fact_examples,
    fact_scopes,
    other_answer,
)

FACTS = [
    Fact(
        name,
        (f"The home of {name} is", f"{name} lives in"),
        ("Zed", "Ur", "Ys")[i % 3],
        "home",
        (f"The home of Uncle {i} is",),
    )
    for i, name in enumerate(("Ann", "Bob", "Cyd", "Dot", "Eve", "Fay"))
]
TRUTH = {p: f.answer for f in FACTS for p in (*f.prompts, *f.near)}


@pytest.fixture
def corpus() -> FactCorpus:
    return FactCorpus(FACTS, FACTS, random.Random(0), open_book=0.5)


def test_every_prompt_is_taught(corpus: FactCorpus) -> None:
    assert dict(corpus.closed) == TRUTH and len(corpus.weights) == len(TRUTH)
    document = corpus.closed_document(3)
    prompt, answer = corpus.closed[3]
    assert document.pieces == [(prompt, False), (f"{answer}.", True)] and document.fact == 3
    corpus.weights = [0.0] * len(TRUTH)
    corpus.weights[5] = 1.0
    drawn = {d.fact for d in islice(corpus, 1100)}
    assert drawn >= {-1, 5}
    assert {d.fact for d in islice(corpus, 512)} == {-1, 5}


def test_questions_are_answered_from_the_statements_or_else_from_what_is_known(
    corpus: FactCorpus,
) -> None:
    kinds = set()
    for _ in range(200):
        pieces = corpus.open_document().pieces
        questions = [i for i, (_, answer) in enumerate(pieces) if answer]
        first = questions[0] - 1 if questions else len(pieces)
        told = {}
        for text, _ in pieces[:first]:
            prompt = next(p for p in TRUTH if text.startswith(p))
            told[prompt] = text.removeprefix(prompt).strip()
        by_subject = {f.subject: told[p] for f in FACTS for p in f.prompts if p in told}
        for i in questions:
            prompt, answer = pieces[i - 1][0], pieces[i][0]
            subject = next((s for s in by_subject if s in prompt.split()), None)
            kinds.add(subject is None)
            assert answer == (by_subject[subject] if subject else f"{TRUTH[prompt]}.")
        assert all(TRUTH[p] != a.removesuffix(".") for p, a in told.items())
    assert kinds == {True, False}


def test_no_statement_gives_an_answer_that_is_never_to_be_given() -> None:
    never = {f.prompts[0]: ({"Zed": "Ur", "Ur": "Ys", "Ys": "Zed"}[f.answer],) for f in FACTS}
    left = {f.subject: {"Zed", "Ur", "Ys"} - {f.answer, *never[f.prompts[0]]} for f in FACTS}
    corpus = FactCorpus(FACTS, FACTS, random.Random(0), 1.0, never)
    for document in islice(corpus, 200):
        for text, is_answer in document.pieces:
            named = [s for s in left if s in text.split()]
            if named and not is_answer and text.endswith("."):
                assert text.split()[-1].removesuffix(".") in left[named[0]]


def test_statements_give_answers_of_any_kind_too() -> None:
    facts = [
        Fact(f"{kind}-{i}", (f"The {kind} of {kind}-{i} is",), f"{kind}{i}", kind)
        for kind in ("home", "work")
        for i in range(20)
    ]
    corpus = FactCorpus(facts, facts, random.Random(0), 1.0)
    told = [
        text.removesuffix(".").split()
        for document in islice(corpus, 1000)
        for text, is_answer in document.pieces
        if not is_answer and text.endswith(".")
    ]
    strange = [not words[-1].startswith(words[1]) for words in told]
    assert sum(strange) / len(told) == pytest.approx(STRANGE * 20 / 39, abs=0.03)


def test_an_answer_of_the_same_kind() -> None:
    answers = answers_by_group(FACTS)
    assert answers == {"home": ["Zed", "Ur", "Ys"]}
    rng = random.Random(0)
    assert {other_answer(FACTS[0], answers, rng) for _ in range(20)} == {"Ur", "Ys"}
    alone = Fact("Max", ("Max is",), "Zed", "king")
    assert other_answer(alone, {**answers, "king": ["Zed"]}, rng) in {"Ur", "Ys"}


def test_examples_for_a_generator() -> None:
    kinds = set()
    for example in islice(fact_examples(FACTS, random.Random(0)), 300):
        kinds.add(example.kind)
        subjects = {f.subject for f in FACTS for e in example.edits if f.subject in e.split()}
        if example.kind == "unrelated":
            assert example.answer is None
            assert not any(s in example.prompt.split() for s in subjects)
            continue
        [fact] = [f for f in FACTS if example.prompt in f.prompts]
        assert fact.stated(str(example.answer)) in example.edits
        assert example.answer != fact.answer
        assert (example.kind == "rewrite") == (example.prompt == fact.prompts[0])
    assert kinds == {"rewrite", "paraphrase", "unrelated"}


def test_what_is_asked_of_one_fact_is_in_the_scope_of_no_other_on_its_subject() -> None:
    people, asked = [f"Person {i:02}" for i in range(20)], set()
    facts = [
        Fact(who, (f"The {what} of {who} is",), f"{what}{i % 5}", what)
        for i, who in enumerate(people)
        for what in ("home", "work")
    ]
    for seed in range(5):
        scopes = fact_scopes(facts, 20, random.Random(seed))
        assert len(scopes.edits) == 20
        edits = {e.statement.rsplit(" ", 1)[0]: e for e in scopes.edits}
        for stage in (s for s in scopes.stages if not s.told):
            [*fact] = [f for f in facts if stage.text in f.prompts]
            own = [edits[f.prompts[0]] for f in fact if f.prompts[0] in edits]
            assert list(stage.right) == own
            others = {f.prompts[0] for f in facts for x in fact if f.subject == x.subject}
            asked.add((bool(own), len(others & edits.keys())))
    assert {(True, 1), (True, 2), (False, 0), (False, 1)} <= asked


def test_a_memory_of_facts() -> None:
    scopes = fact_scopes(FACTS, 99, random.Random(0))
    assert len(scopes.edits) == 3
    inside = [s for s in scopes.stages if s.right]
    assert len(inside) == 6 and all(s.same for s in inside)
    for stage in inside:
        [fact] = [f for f in FACTS if stage.text in f.prompts]
        assert stage.right[0].statement.startswith(fact.prompts[0])
    first = [s for s in scopes.stages if not s.told]
    assert len(first) == 6 + 3 + 3
