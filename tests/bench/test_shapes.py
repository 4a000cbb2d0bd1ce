"""What editing costs is measured on weights that know nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoConfig

from seprog.bench import measure as runs
from seprog.bench import plan as bench
from seprog.bench import shapes
from seprog.bench.metrics import COSTS
from seprog.bench.shapes import measure, random_base, table
from seprog.errors import InputError, ModelError


@pytest.fixture
def shape(tmp_path: Path) -> str:
    """A folder with the configuration of a model that takes no time."""
    config = AutoConfig.for_model(
        "gpt2",
        n_layer=7,
        n_embd=32,
        n_head=2,
        n_positions=256,
        vocab_size=6144,
        bos_token_id=0,
        eos_token_id=0,
    )
    config.save_pretrained(tmp_path / "shape")
    return str(tmp_path / "shape")


def test_costs_are_measured_and_nothing_else(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "TRIED", 2)
    monkeypatch.setattr(runs, "TRIED", 2)
    real = bench._probes
    monkeypatch.setattr(bench, "_probes", lambda *args: real(*args)[:6] + real(*args)[-4:])
    out = tmp_path / "cost.json"
    methods = ["seprog", "in_context_retrieved", "none", "ft_l", "grace"]
    result = measure(shape, 3, methods, tmp_path, out)
    assert json.loads(out.read_text()) == json.loads(json.dumps(result))
    rows = {row["method"]: row for row in result["results"]}
    assert list(rows) == methods
    assert rows["seprog"]["edits"] == 3 and rows["ft_l"]["edits"] == 2
    measured = set(COSTS) - {"training_seconds"}  # nothing is trained
    assert set(rows["seprog"]["metrics"]) == measured
    for name in ("none", "ft_l", "grace"):
        assert set(rows[name]["metrics"]) == measured - {"ms_per_refined_edit"}
    assert set(rows["in_context_retrieved"]["metrics"]) == measured - {"ms_per_refined_edit"}
    read = {m: rows[m]["metrics"]["query_tokens_in_scope"]["value"] for m in methods[:2]}
    assert read["seprog"] < read["in_context_retrieved"], "a prefix has been read before"
    assert rows["none"]["metrics"]["flops_per_edit"]["value"] == 0
    assert rows["seprog"]["metrics"]["bytes_per_edit"]["value"] > 0
    assert rows["ft_l"]["metrics"]["flops_per_edit"]["value"] > 0
    assert table(result).row_count == 5


def test_a_base_has_its_shape_and_the_same_weights_each_time(shape: str) -> None:
    one, other = random_base(shape), random_base(shape)
    assert one.model.config.n_layer == 7 and one.fingerprint == other.fingerprint


@pytest.mark.parametrize("name", ["magic", "no/such", "t5"])
def test_no_such_shape(name: str) -> None:
    with pytest.raises(InputError, match="causal model"):
        random_base(name)


def test_what_reads_in_both_directions_is_refused() -> None:
    with pytest.raises(ModelError, match="both directions"):
        random_base("bert")
