"""Editors on models that are not decoders: a classifier, a sequence-to-sequence model."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from seprog.editor import Editor
from seprog.errors import InputError
from seprog.generator import SelfEncoder, SelfEncoderConfig
from seprog.lm import EncoderModel, LanguageModel, Seq2SeqLM
from seprog.memory import make_edit
from tests.conftest import make_tokenizer, make_wordpiece
from tests.lm.families import build_encoder, build_seq2seq, untouched
from tests.lm.helpers import close
from tests.test_editor import IN_SCOPE, OUT_OF_SCOPE, fill


@pytest.fixture
def classifier() -> EncoderModel:
    return EncoderModel(build_encoder("bert", "sequence"), make_tokenizer(bos=True))


def probabilities(editor: Editor, queries: list[str]) -> list[dict[str, float]]:
    assert isinstance(editor.lm, EncoderModel)
    return editor.lm.classify(queries, editor.prefixes(editor.explain_many(queries)))


def test_labels_follow_the_edits_and_return(
    make_editor: Callable[..., Editor], classifier: EncoderModel
) -> None:
    base = EncoderModel(untouched(classifier.model), classifier.tokenizer)
    editor, queries = make_editor(classifier), IN_SCOPE + OUT_OF_SCOPE
    before = base.classify(queries)
    edits = fill(editor)
    after = probabilities(editor, queries)
    assert after[len(IN_SCOPE) :] == before[len(IN_SCOPE) :]
    assert all(a != b for a, b in zip(after[: len(IN_SCOPE)], before, strict=False))
    answers = editor.generate(queries)
    assert [a.text for a in answers] == [max(p, key=p.__getitem__) for p in after]
    assert len(answers[3].decision.fired) == 2
    for edit in edits:
        editor.forget(edit.id)
    assert probabilities(editor, queries) == before


@pytest.mark.parametrize("kind", ["classifier", "t5", "bart"])
def test_a_trained_generator_fits(kind: str, classifier: EncoderModel) -> None:
    lm: LanguageModel = classifier
    if kind != "classifier":
        lm = Seq2SeqLM(build_seq2seq(kind), make_tokenizer(bos=True))
    generator = SelfEncoder(lm, SelfEncoderConfig(summary=2, rank=2, keep_text=False))
    texts = ["Cats bark.", "So it is, they say."]
    prefixes = generator(texts)
    assert prefixes.mask.shape == (2, 2)
    for row, text in enumerate(texts):
        assert close(prefixes.keys[-1][row], generator([text]).keys[-1][0])
    assert not close(prefixes.keys[-1][0], prefixes.keys[-1][1], 1e-2)
    rows = lm.tokens.encode(["Do they?", "Hm"])
    ids, mask = lm.tokens.pad(rows, lm.device)
    lm.forward(ids, mask, prefixes).square().sum().backward()
    assert generator.summary.grad is not None and generator.summary.grad.abs().sum() > 0


def test_a_sequence_to_sequence_model_can_be_edited(make_editor: Callable[..., Editor]) -> None:
    model = build_seq2seq("t5")
    base = Seq2SeqLM(untouched(model), make_tokenizer(bos=True))
    editor = make_editor(Seq2SeqLM(model, make_tokenizer(bos=True)))
    queries = IN_SCOPE + OUT_OF_SCOPE
    before = [t.strip() for t in base.reply(queries, max_new_tokens=8)]
    assert [a.text for a in editor.generate(queries, max_new_tokens=8)] == before
    edits, n = fill(editor), len(IN_SCOPE)
    after = [a.text for a in editor.generate(queries, max_new_tokens=8)]
    assert after[n:] == before[n:] and after[:n] != before[:n]
    assert "".join(editor.stream(queries[0], max_new_tokens=8)).strip() == after[0]
    for edit in edits:
        editor.forget(edit.id)
    assert [a.text for a in editor.generate(queries, max_new_tokens=8)] == before


def test_a_classifier_does_not_write(tiny_editor: Editor, classifier: EncoderModel) -> None:
    tiny_editor.lm = classifier
    with pytest.raises(InputError, match="asked to go on"):
        list(tiny_editor.stream("Hello"))


def test_a_target_that_a_classifier_has_no_label_for_is_refused(
    make_editor: Callable[..., Editor], classifier: EncoderModel
) -> None:
    editor = make_editor(classifier)
    about = {"prompt": "The capital of Australia is", "target": "maybe"}
    for fields in (about, {"statement": "Milan is the capital.", **about}):
        with pytest.raises(InputError, match=r"'maybe'.*LABEL_0, LABEL_1, LABEL_2") as raised:
            editor.edit(**fields)
        assert raised.value.expected and raised.value.advice
        with pytest.raises(InputError, match="LABEL_0"):
            editor.preview([fields], IN_SCOPE)
    assert editor.memory.count() == 0
    editor.edit(**about | {"target": "LABEL_2"})
    editor.edit(subject="Ann", relation="home", object="Ur")  # says nothing of a label
    for head in ("token", "masked_lm"):  # these give no single answer
        editor.lm = EncoderModel(build_encoder("bert", head), make_tokenizer(bos=True))
        assert editor.check(make_edit(**about)).target == "maybe"


def test_a_memory_with_a_target_that_is_no_label_answers(
    make_editor: Callable[..., Editor], classifier: EncoderModel
) -> None:
    editor = make_editor(classifier)
    config = SelfEncoderConfig(summary=2, rank=2, refine=5)
    editor.generator = SelfEncoder(classifier, config)
    old = make_edit(prompt="The capital of Australia is", target="Sydney")
    editor.memory.add(old)  # as one could be written before
    answer = editor.ask(IN_SCOPE[0])
    assert [e.target for e in answer.decision.fired] == ["Sydney"]
    assert answer.text in classifier.labels


def test_what_a_classifier_cannot_read_is_refused(make_editor: Callable[..., Editor]) -> None:
    model = build_encoder("bert", "sequence")
    editor = make_editor(EncoderModel(model, make_wordpiece()))
    editor.edit("THE HOME OF ANN IS ZED.")  # read in lower case, which a classifier may do
    with pytest.raises(InputError, match="tokenizer"):
        editor.edit("The home of Ann is 東京.")
    assert editor.memory.count() == 1
