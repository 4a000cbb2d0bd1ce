"""The exam of a base model, and an evaluation in small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seprog.bench import measure
from seprog.bench import plan as bench
from seprog.bench.atlas import METHODS, evaluate
from seprog.bench.costs import percentiles
from seprog.bench.exam import examine_model
from seprog.bench.metrics import Record, score
from seprog.bench.tables import table
from seprog.editor import Editor
from seprog.errors import InputError
from seprog.lm import CausalLM


def test_a_random_model_knows_nothing(tiny_lm: CausalLM) -> None:
    result = examine_model(tiny_lm, limit=3, seed=1)
    assert len(result["results"]) == 7
    for part in result["results"].values():
        assert part["value"] == 0.0 and part["n"] == 3 and part["low"] <= 0 < part["high"]
    assert json.loads(json.dumps(result)) == result


def test_an_unknown_method_is_refused(tiny_editor: Editor) -> None:
    with pytest.raises(InputError, match="in_context_oracle"):
        evaluate(tiny_editor, [1], ["magic"], progress=False)


def test_an_evaluation_is_saved_answer_by_answer(
    tiny_editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bench._probes
    monkeypatch.setattr(bench, "_probes", lambda *args: real(*args)[:6] + real(*args)[-4:])
    monkeypatch.setattr(
        measure, "query_costs", lambda *_: {"query_ratio_in_scope": percentiles([1.0])}
    )
    out, answers = tmp_path / "a" / "result.json", tmp_path / "b" / "answers.jsonl"
    result = evaluate(tiny_editor, [3], METHODS, 0, out, answers, progress=False)
    assert json.loads(out.read_text()) == {**result, "answers": "answers.jsonl"}
    assert tiny_editor.memory.list() == []  # its own memory is not touched
    rows = [json.loads(line) for line in answers.open()]
    records = [Record.of(r) for r in rows]
    for entry in result["results"]:
        mine = [
            r
            for r in records
            if (r.method, r.edits, r.when) == (entry["method"], entry["edits"], entry["when"])
        ]
        again = score(mine)  # scores are made from the answers
        assert again.items() <= entry["metrics"].items()
    untouched = [r for r in records if r.method == "none" and r.expected == r.answer]
    assert {r.kind for r in untouched} >= {"far"}
    assert all(r.bitwise for r in records if r.method == "verbatim" and r.kind == "far")
    early = [r.prompt for r in records if (r.method, r.when) == ("none", "right_after")]
    assert early and len(early) == len(set(early)), "each is asked once"
    view = table(result)
    assert len(view.columns) == 3 + len(METHODS)
    assert set(view.columns[2].cells) >= {"rewrite", "far bitwise", "bytes per edit"}
