"""The harness asks a model with edits, and gets the base model's very scores out of their scope."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from seprog.editor import Editor

pytest.importorskip("lm_eval")

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from seprog.bench.harness import SeprogLM, main

TASKS = Path(__file__).parents[2] / "benchmarks" / "harness"
EDIT = "The capital of Australia is Milan."


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.from_pretrained()


@pytest.fixture(scope="module")
def base(editor: Editor) -> HFLM:
    lm: Any = editor.lm
    return HFLM(lm.model, tokenizer=lm.tokenizer, device="cpu", batch_size=8, add_bos_token=True)


def scores(model: HFLM, base_task: str) -> list[tuple[float, bool]]:
    result = simple_evaluate(
        model,
        tasks=[base_task],
        limit=12,
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False),
        bootstrap_iters=0,
    )
    assert result is not None
    return [r for s in result["samples"][base_task] for r in s["filtered_resps"]]


def test_out_of_scope_scores_are_the_base_models_exactly(editor: Editor, base: HFLM) -> None:
    edit = editor.edit(EDIT)
    try:
        edited = SeprogLM(editor)
        found = scores(edited, "atlas_facts")
        assert len(found) == 48 and found == scores(base, "atlas_facts")
        rolling = [Instance("loglikelihood_rolling", {}, ("Milan is a city.",), 0)]
        assert edited.loglikelihood_rolling(rolling) == base.loglikelihood_rolling(rolling)
    finally:
        editor.forget(edit.id)


def test_in_scope_the_edit_is_what_is_likely(editor: Editor, base: HFLM) -> None:
    asked = [
        Instance("loglikelihood", {}, (prompt, answer), i)
        for i, (prompt, answer) in enumerate(
            (prompt, answer)
            for prompt in ("The capital of Australia is", "Which city is the capital of Australia?")
            for answer in (" Milan.", " Canberra.")
        )
    ]
    before = base.loglikelihood(asked)
    assert before[1][0] > before[0][0] and before[3][0] > before[2][0]
    edit = editor.edit(EDIT)
    try:
        edited = SeprogLM(editor)
        after = edited.loglikelihood(asked)
        assert after[0][0] > after[1][0] and after[2][0] > after[3][0]
        assert after[0][1] and not after[1][1]
        asks = Instance("generate_until", {}, (asked[0].args[0], {"until": ["."]}), 0)
        away = Instance("generate_until", {}, ("The capital of Peru is", {"until": ["."]}), 1)
        said = edited.generate_until([asks, away])
        assert [s.strip() for s in said] == ["Milan", "Lima"]
    finally:
        editor.forget(edit.id)
    assert SeprogLM(editor).loglikelihood(asked) == before


def test_scores_in_scope_are_those_of_the_model_with_the_prefix(editor: Editor) -> None:
    edit = editor.edit(EDIT)
    try:
        prompt, answer = "The capital of Australia is", " Milan."
        [decision] = editor.explain_many([prompt])
        prefixes = editor.prefixes([decision])
        bos = not editor.generator.replaces_bos
        lm: Any = editor.lm
        [expected] = lm.score([prompt], [answer], prefixes, bos=bos)
        [(found, _)] = SeprogLM(editor).loglikelihood(
            [Instance("loglikelihood", {}, (prompt, answer), 0)]
        )
        assert found == pytest.approx(expected, abs=1e-4)
    finally:
        editor.forget(edit.id)


def test_the_command_line_knows_the_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    arguments = ["--tasks", "atlas_facts", "--include_path", str(TASKS), "--limit", "4"]
    main(["--model", "seprog", *arguments])
    assert "|atlas_facts|" in capsys.readouterr().out.replace(" ", "")
