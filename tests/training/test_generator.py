"""Training a self-encoder on a tiny model."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import torch

from seprog.atlas.world import load_world
from seprog.generator import SelfEncoder, SelfEncoderConfig, load_generator
from seprog.generator.objective import Continuation, answer_text, join_prefixes
from seprog.lm import CausalLM
from seprog.training import generator as training
from seprog.training.examples import atlas_examples
from seprog.training.generator import (
    SHARES,
    GeneratorTraining,
    check,
    sources,
    train_generator,
    with_base_answers,
)
from seprog.training.run import Run
from seprog.types import Edit, Example, Prefix, PrefixBatch
from tests.conftest import make_lm

EXAMPLES = [
    Example(("The home of Ann is Zed.", "No."), "The home of Ann is", "Zed"),
    Example(("No.",), "Where is Bob?", None),
    Example(("It is so.", "The king is Max, or so they say.", "No."), "Who is king?", "Max."),
]
TINY = GeneratorTraining(summary=2, rank=2, steps=12, batch=4, lr=0.3, check_every=6)


def make(lm: CausalLM, keep_text: bool = True) -> SelfEncoder:
    torch.manual_seed(0)
    return SelfEncoder(lm, SelfEncoderConfig(3, 2, keep_text))


def answered(lm: CausalLM) -> list[Example]:
    """The examples, with the base model's answer where it is wanted."""
    return list(with_base_answers(Continuation(lm), iter(EXAMPLES)))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {
            "edits": [f"The home of {name} is Zed."],
            "prompt": f"The home of {name} is",
            "answer": None if i % 4 == 3 else "Zed",
        }
        for i, name in enumerate(["Ann", "Bob", "Cy", "Dot", "Eve"] * 4)
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


# --- batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_text", [True, False])
def test_joined_prefixes_are_the_single_ones_side_by_side(
    tiny_lm: CausalLM, keep_text: bool
) -> None:
    """Only the padding may lie elsewhere."""
    generator = make(tiny_lm, keep_text)
    joined = join_prefixes(generator, EXAMPLES)
    single = {e: generator.prefixes([Edit(e)])[0] for example in EXAMPLES for e in example.edits}
    assert joined.rows == (0, 1, 2)
    for i, example in enumerate(EXAMPLES):
        expected = Prefix.join([single[e] for e in example.edits])
        real = joined.mask[i]
        assert int(real.sum()) == len(expected)
        found = [x[i][:, real] for x in (*joined.keys, *joined.values)]
        for a, b in zip(found, (*expected.keys, *expected.values), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("keep_text", [True, False])
def test_a_joined_prefix_acts_as_the_single_ones_do(tiny_lm: CausalLM, keep_text: bool) -> None:
    generator = make(tiny_lm, keep_text)
    ids, mask = tiny_lm.tokens.pad(tiny_lm.tokens.encode(["Who?"] * 3), tiny_lm.device)
    joined = tiny_lm.forward(ids, mask, join_prefixes(generator, EXAMPLES))
    singles = [Prefix.join(generator.prefixes([Edit(e) for e in x.edits])) for x in EXAMPLES]
    expected = tiny_lm.forward(ids, mask, PrefixBatch.stack(singles))
    torch.testing.assert_close(joined, expected, atol=1e-3, rtol=1e-4)


def test_a_batch_holds_prompts_and_answers(tiny_lm: CausalLM) -> None:
    batch = Continuation(tiny_lm).collate(answered(tiny_lm))
    assert batch.keep.tolist() == [False, True, False]
    tokenizer = tiny_lm.tokenizer
    wanted = [" Zed.", None, " Max."]
    for i, example in enumerate(EXAMPLES):
        ids = batch.ids[i][batch.mask[i].bool()]
        answer = tokenizer.decode(batch.ids[i][batch.answer[i]])
        assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True).startswith(example.prompt)
        assert answer.endswith("</s>")
        if wanted[i]:
            assert answer == f"{wanted[i]}</s>"
        assert not bool((batch.answer[i] & ~batch.mask[i].bool()).any())
    assert answer_text(tiny_lm, "Max") == answer_text(tiny_lm, "Max.") == "Max.</s>"


def test_the_answer_to_keep_is_the_base_models_own(tiny_lm: CausalLM) -> None:
    [own] = tiny_lm.generate(["Where is Bob?"], max_new_tokens=16)
    learn, keep, other = answered(tiny_lm)
    assert (learn, other) == (EXAMPLES[0], EXAMPLES[2])
    assert keep == replace(EXAMPLES[1], answer=own.strip() or ".", keep=True)
    many = list(with_base_answers(Continuation(tiny_lm), iter(EXAMPLES * 3), block=2))
    assert many == answered(tiny_lm) * 3


def test_there_is_a_loss_for_each_kind_that_is_there(tiny_lm: CausalLM) -> None:
    generator, examples = make(tiny_lm), answered(tiny_lm)
    losses = Continuation(tiny_lm).losses
    assert losses(generator, examples).keys() == {"learn", "keep"}
    assert losses(generator, examples[:1]).keys() == {"learn"}
    assert losses(generator, examples[1:2]).keys() == {"keep"}
    for loss in losses(generator, examples).values():
        assert loss.isfinite() and loss.requires_grad and loss > 0


def test_the_loss_to_learn_is_what_scoring_says(tiny_lm: CausalLM) -> None:
    generator = make(tiny_lm)
    example = EXAMPLES[0]
    prefix = Prefix.join(generator.prefixes([Edit(e) for e in example.edits]))
    target = " " + answer_text(tiny_lm, "Zed")
    [score] = tiny_lm.score([example.prompt], [target], [prefix])
    tokens = len(tiny_lm.tokens.encode([target], bos=False)[0])
    loss = Continuation(tiny_lm).losses(generator, [example])["learn"]
    assert loss.item() == pytest.approx(-score / tokens, abs=1e-3)


def test_checks_count_per_kind(tiny_lm: CausalLM) -> None:
    generator = make(tiny_lm)
    [own] = tiny_lm.generate(["Who?"], [Prefix.join(generator.prefixes([Edit("No.")]))], 1)
    examples = [*answered(tiny_lm), Example(("No.",), "Where?", "nowhere at all", "far")]
    scores = check(Continuation(tiny_lm), generator, examples)
    assert scores.keys() == {"example", "far", "learn", "stay"}
    assert all(0 <= s <= 1 for s in scores.values()) and scores["far"] == 0.0
    assert isinstance(own, str)


def test_held_out_examples_are_of_another_split(tmp_path: Path) -> None:
    train, held_out = sources(TINY, None, 0)
    again, _ = sources(TINY, None, 0)
    first = list(islice(train, 30))
    assert first == list(islice(again, 30)) and len(held_out) == 512
    assert not {e.prompt for e in first} & {e.prompt for e in held_out}
    resumed, same = sources(TINY, None, 5)
    assert list(islice(resumed, 30)) != first and same == held_out


# --- training ---------------------------------------------------------------------------------


def mean_loss(lm: CausalLM, generator: SelfEncoder, data: Path) -> float:
    _, held_out = sources(TINY, data, 0)
    with torch.no_grad():
        found = Continuation(lm).losses(generator, [e for e in held_out if e.answer][:4])
    return float(found["learn"])


def test_training_lowers_the_loss_and_writes_a_generator(
    tiny_lm: CausalLM, data: Path, tmp_path: Path
) -> None:
    out, run = tmp_path / "out", tmp_path / "run"
    before = {k: v.clone() for k, v in tiny_lm.model.state_dict().items()}
    torch.manual_seed(0)
    untrained = mean_loss(tiny_lm, SelfEncoder(tiny_lm, SelfEncoderConfig(2, 2)), data)
    trained = train_generator(tiny_lm, out, run, TINY, data)
    assert mean_loss(tiny_lm, trained, data) < 0.9 * untrained
    assert trained.config == SelfEncoderConfig(2, 2, refine=TINY.refine)
    assert all(torch.equal(v, before[k]) for k, v in tiny_lm.model.state_dict().items())
    fresh = make_lm()
    loaded = load_generator(out, fresh)
    assert loaded.fingerprint == trained.fingerprint
    assert len(loaded.prefixes([Edit("No.")])[0]) == 1 + 3 + 2  # BOS, text, summary
    rows = [json.loads(line) for line in (run / "log.jsonl").open()]
    assert [r["step"] for r in rows] == [0, 0, 6, 12] + [12] * len(SHARES)
    tried = {r["share"]: r["learn"] for r in rows[-len(SHARES) :]}
    best = max(tried.values())
    most = [share for share, learn in tried.items() if learn == best]
    again = SelfEncoder.from_pretrained(run / "best", tiny_lm)
    share = min(s for s, n in tried.items() if n >= best - (best * (1 - best) / 4) ** 0.5)
    again.lora.scale(share)
    assert share <= min(most)
    for key, up in again.lora.up.items():
        assert torch.allclose(up, trained.lora.up[key], rtol=1e-2, atol=1e-6)
    assert "example" in rows[0] and "learn" in rows[1] and "example" in rows[2]


def test_a_run_shorter_than_the_first_check_still_writes(
    tiny_lm: CausalLM, data: Path, tmp_path: Path
) -> None:
    short = GeneratorTraining(summary=2, rank=2, steps=2, batch=2, check_every=100)
    trained = train_generator(tiny_lm, tmp_path / "out", tmp_path / "run", short, data)
    assert isinstance(trained, SelfEncoder)
    again = train_generator(tiny_lm, tmp_path / "out", tmp_path / "run", short, data)
    assert again.fingerprint == trained.fingerprint  # nothing was left to do


class Killed(BaseException):
    """Stands for a power cut."""


def test_a_killed_run_goes_on_where_it_was(
    tiny_lm: CausalLM, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., dict[str, torch.Tensor]] = Continuation.losses
    calls: list[str] = []

    def counted(*args: object) -> dict[str, torch.Tensor]:
        if len(calls) == 7:
            raise Killed
        calls.append("step")
        return real(*args)

    def eager(folder: Path, title: str, steps: int) -> Run:
        return Run(folder, title, steps, save_every=-1.0)

    monkeypatch.setattr(training, "Run", eager)
    monkeypatch.setattr(Continuation, "losses", counted)
    run = tmp_path / "run"
    with pytest.raises(Killed):
        train_generator(tiny_lm, tmp_path / "out", run, TINY, data)
    state = json.loads((run / "checkpoint" / "state.json").read_text())
    assert state["step"] == 7 and state["best"] >= 0
    calls.clear()
    monkeypatch.setattr(Continuation, "losses", lambda *args: calls.append("step") or real(*args))
    trained = train_generator(make_lm(), tmp_path / "out", run, TINY, data)
    assert len(calls) == 5
    assert isinstance(trained, SelfEncoder)


def test_training_ends_early_once_nothing_gets_better(
    tiny_lm: CausalLM, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([0.5, 0.4, 0.3, *[0.5] * len(SHARES), 0.9])
    monkeypatch.setattr(training, "check", lambda *_: {"learn": next(found)})
    config = GeneratorTraining(summary=2, rank=2, steps=9, batch=1, check_every=1, patience=2)
    kept = train_generator(tiny_lm, tmp_path / "out", tmp_path / "run", config, data)
    assert next(found) == 0.9
    assert not any(up.any() for up in kept.lora.up.values())  # nothing was better than the start


def test_training_on_atlas_examples_runs(
    tiny_lm: CausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(*_: object) -> tuple[Iterator[Example], list[Example]]:
        world, rng = load_world(), random.Random(0)
        held_out = atlas_examples(world, "calibration", rng)
        return atlas_examples(world, "train", rng), list(islice(held_out, 6))

    monkeypatch.setattr(training, "sources", few)
    monkeypatch.setattr(training, "with_base_answers", partial(with_base_answers, block=3))
    short = GeneratorTraining(summary=1, rank=1, steps=1, batch=3, check_every=1)
    assert train_generator(tiny_lm, tmp_path / "out", tmp_path / "run", short)
