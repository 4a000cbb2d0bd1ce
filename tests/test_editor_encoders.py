"""An editor on a classifier: its labels follow the edits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from seprog.editor import Editor
from seprog.errors import InputError
from seprog.generator import SelfEncoder, SelfEncoderConfig
from seprog.lm import EncoderModel
from tests.conftest import make_tokenizer, make_wordpiece
from tests.lm.families import build_encoder, untouched
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


def test_a_trained_generator_fits_a_classifier(classifier: EncoderModel) -> None:
    generator = SelfEncoder(classifier, SelfEncoderConfig(summary=2, rank=2, keep_text=False))
    texts = ["Cats bark.", "So it is, they say."]
    prefixes = generator(texts)
    assert prefixes.mask.shape == (2, 2)
    for row, text in enumerate(texts):
        assert close(prefixes.keys[1][row], generator([text]).keys[1][0])
    assert not close(prefixes.keys[1][0], prefixes.keys[1][1], 1e-2)
    rows = classifier.tokens.encode(["Do they?", "Hm"])
    ids, mask = classifier.tokens.pad(rows, classifier.device)
    classifier(ids, mask, prefixes).square().sum().backward()
    assert generator.summary.grad is not None and generator.summary.grad.abs().sum() > 0


def test_a_classifier_does_not_write(tiny_editor: Editor, classifier: EncoderModel) -> None:
    tiny_editor.lm = classifier
    with pytest.raises(InputError, match="asked to go on"):
        list(tiny_editor.stream("Hello"))


def test_what_a_classifier_cannot_read_is_refused(make_editor: Callable[..., Editor]) -> None:
    model = build_encoder("bert", "sequence")
    editor = make_editor(EncoderModel(model, make_wordpiece()))
    editor.edit("THE HOME OF ANN IS ZED.")  # read in lower case, which a classifier may do
    with pytest.raises(InputError, match="tokenizer"):
        editor.edit("The home of Ann is 東京.")
    assert editor.memory.count() == 1
