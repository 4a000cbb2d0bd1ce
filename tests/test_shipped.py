"""The model, generator and gate that ship: small samples of what the results promise."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from seprog.atlas import WEIGHTS
from seprog.bench.atlas import evaluate
from seprog.bench.exam import examine_model
from seprog.editor import Editor

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.from_pretrained()


def test_weights_are_small_and_safe() -> None:
    files = [p for p in WEIGHTS.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 25e6
    assert {p.suffix for p in files} <= {".json", ".safetensors"}
    assert len([p for p in files if p.suffix == ".safetensors"]) == 3


def test_atlas_knows_and_reads(editor: Editor) -> None:
    bars = {
        "closed_book_trained_phrasings": 0.97,
        "closed_book_held_out_phrasings": 0.96,
        "open_book_one_hop": 0.9,
        "open_book_then_recall": 0.87,
    }
    results = examine_model(editor.lm, limit=150)["results"]
    assert {k: results[k]["value"] for k, bar in bars.items() if results[k]["value"] < bar} == {}


def test_the_system_edits(editor: Editor, tmp_path: Path) -> None:
    out, answers = tmp_path / "result.json", tmp_path / "answers.jsonl"
    evaluate(editor, [40], ["none", "seprog"], 7, out, answers, progress=False)
    rows = json.loads(out.read_text())["results"]
    after = {r["method"]: r["metrics"] for r in rows if r["when"] == "after_all"}
    ours = {name: metric["value"] for name, metric in after["seprog"].items()}
    assert ours["rewrite"] >= 0.97 and ours["paraphrase"] >= 0.89
    assert ours["fired_rightly"] >= 0.93
    assert ours["far_bitwise"] >= 0.97 and ours["false_change"] <= 0.05
    assert after["none"]["rewrite"]["value"] <= 0.1
    assert len(answers.read_text().splitlines()) > 2 * 40


def test_python_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, *_ = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    exec(compile(code, "README.md", "exec"), {})
    before, edited, after = capsys.readouterr().out.strip().splitlines()
    assert before == after == "Canberra."
    assert edited.startswith("Milan. ") and "The capital of Australia is Milan." in edited
