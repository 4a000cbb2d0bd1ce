"""Building a very small Atlas, end to end."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seprog.atlas import build as building
from seprog.atlas.build import (
    AtlasConfig,
    FactMeter,
    build,
    grown,
    new_model,
    optimizers,
    token_losses,
)
from seprog.atlas.corpus import Corpus
from seprog.atlas.tokens import Rows, train_tokenizer
from seprog.atlas.world import load_world
from seprog.errors import InputError
from seprog.lm import CausalLM
from seprog.training.checkpoint import load_checkpoint
from seprog.training.run import Run

TINY = AtlasConfig(vocabulary=320, width=32, layers=1, steps=4, rows=2, length=96, threads=1)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    corpus = Corpus(load_world(), random.Random(0))
    train_tokenizer(corpus, TINY.vocabulary, 40).save_pretrained(folder)
    return folder


@pytest.fixture
def run_folder(tmp_path: Path, tokenizer_folder: Path) -> Path:
    """A run whose tokenizer is there already; a new one reads twenty thousand documents."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tokenizer").symlink_to(tokenizer_folder)
    return tmp_path / "run"


def test_atlas_is_built_and_can_be_loaded(tmp_path: Path, run_folder: Path) -> None:
    assert build(tmp_path / "out", run_folder, TINY) == tmp_path / "out"
    lm = CausalLM.from_pretrained(str(tmp_path / "out"), dtype="float32")
    assert lm.positions == "rotary" and lm.n_positions == 512
    assert lm.tokens.leading == [] and lm.tokenizer.eos_token == "<end>"
    assert len(lm.generate(["The capital of Peru is"], max_new_tokens=4)) == 1
    assert lm.model.config.tie_word_embeddings and lm.model.config.eos_token_id == 0
    assert json.loads((tmp_path / "out" / "atlas.json").read_text())["vocabulary"] == 320
    rows = [json.loads(line) for line in (run_folder / "log.jsonl").open()]
    assert rows[0]["step"] == 0 and {"facts", "known", "lr"} <= rows[0].keys()
    again = CausalLM.from_pretrained(str(build(tmp_path / "again", run_folder, TINY)), "float32")
    assert again.fingerprint == lm.fingerprint  # nothing was left to do


class Killed(BaseException):
    """Stands for a power cut."""


def test_a_killed_build_goes_on_where_it_was(
    tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., None] = building._step
    steps: list[int] = []

    def counted(*args: object) -> None:
        if args[-1] == 2 and not steps.count(-1):
            steps.append(-1)
            raise Killed
        steps.append(args[-1])  # type: ignore[arg-type]
        real(*args)

    def eager(folder: Path, title: str, count: int) -> Run:
        return Run(folder, title, count, save_every=-1.0)

    monkeypatch.setattr(building, "Run", eager)
    monkeypatch.setattr(building, "_step", counted)
    with pytest.raises(Killed):
        build(tmp_path / "out", run_folder, TINY)
    assert not (tmp_path / "out").exists()
    saved = load_checkpoint(run_folder / "checkpoint")
    assert saved is not None and saved[1]["step"] == 2
    build(tmp_path / "out", run_folder, TINY)
    assert steps == [0, 1, -1, 2, 3]
    done = load_checkpoint(run_folder / "checkpoint")
    assert done is not None and done[1]["step"] == 4
    assert not torch.equal(done[0]["meter"], saved[0]["meter"])
    lm = CausalLM.from_pretrained(str(tmp_path / "out"), dtype="float32")
    embeddings = lm.model.get_input_embeddings().weight
    torch.testing.assert_close(embeddings, done[0]["model/lm_head.weight"].bfloat16().float())


def test_a_packed_document_is_learnt_as_if_it_were_alone() -> None:
    """Also a question among others: as if it stood right behind what was told."""
    model = new_model(TINY, end=0)
    ids = torch.randint(1, 320, (1, 16), generator=torch.Generator().manual_seed(0))
    owner = torch.tensor([[0] * 5 + [1] * 11])
    branch = torch.tensor([[1] * 5 + [0] * 4 + [1] * 4 + [2] * 3])
    positions = torch.tensor([[*range(5), *range(8), 4, 5, 6]])
    learn = torch.ones(1, 16, dtype=torch.bool)
    learn[0, [0, 5, 9, 13]] = False
    facts = torch.where(owner == 0, 3, -1)
    together, of = token_losses(model, Rows(ids, positions, owner, branch, learn, facts))
    assert of.tolist() == [3] * 4 + [-1] * 8
    told = list(range(5, 9))
    texts = [list(range(5)), told, [*told, *range(9, 13)], [*told, *range(13, 16)]]
    for text, new in zip(texts, (4, 3, 3, 2), strict=True):
        logits = model(ids[:, text]).logits[0, :-1]
        alone = torch.nn.functional.cross_entropy(logits, ids[0, text][1:], reduction="none")
        torch.testing.assert_close(together[:new], alone[-new:], atol=1e-4, rtol=1e-4)
        together = together[new:]


def test_a_grown_model_computes_the_same(tmp_path: Path) -> None:
    small = new_model(dataclasses.replace(TINY, layers=2), end=0)
    small.save_pretrained(tmp_path)
    large = grown(new_model(dataclasses.replace(TINY, layers=5, seed=1), end=0), tmp_path)
    ids = torch.arange(1, 9)[None]
    torch.testing.assert_close(large(ids).logits, small(ids).logits)
    for wrong in (dataclasses.replace(TINY, layers=1), dataclasses.replace(TINY, width=64)):
        with pytest.raises(InputError, match="came as the start"):
            grown(new_model(wrong, end=0), tmp_path)


def test_a_build_goes_on_from_another(tmp_path: Path, run_folder: Path) -> None:
    first = build(tmp_path / "first", run_folder, TINY)
    none = dataclasses.replace(TINY, layers=2, steps=1, lr=0.0)
    second = build(tmp_path / "second", tmp_path / "run2", none, start_from=first)
    one, two = (CausalLM.from_pretrained(str(p), "float32") for p in (first, second))
    ids = torch.arange(1, 9)[None]
    torch.testing.assert_close(one.model(ids).logits, two.model(ids).logits)
    assert one.tokenizer.get_vocab() == two.tokenizer.get_vocab()


def test_each_weight_has_one_optimizer() -> None:
    model = new_model(TINY, end=0)
    groups = {
        name: {id(p) for group in o.param_groups for p in group["params"]}
        for name, o in optimizers(model, 0.01).items()
    }
    assert not groups["muon"] & groups["adamw"]
    assert groups["muon"] | groups["adamw"] == {id(p) for p in model.parameters()}
    assert id(model.get_input_embeddings().weight) in groups["adamw"]
    assert len(groups["muon"]) == 7


def test_the_meter_follows_each_facts_own_loss() -> None:
    meter = FactMeter(torch.full((4,), 2.0))
    meter.update(torch.tensor([1, 1, -1, 3]), torch.tensor([1.0, 3.0, 9.0, 0.0]))
    assert meter.loss.tolist() == [2.0, 2.0, 2.0, 1.0]
    assert meter.weights() == pytest.approx([2.1, 2.1, 2.1, 1.1])
    meter.update(torch.tensor([-1]), torch.tensor([5.0]))
    assert meter.loss.tolist() == [2.0, 2.0, 2.0, 1.0]
