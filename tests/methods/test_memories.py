"""Methods that keep edits beside the model: RECIPE and SERAC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seprog.errors import InputError
from seprog.gate import ScopeGate
from seprog.generator.objective import answer_text, objective_for
from seprog.lm import CausalLM
from seprog.methods import RECIPE, SERAC, EditCorpus, RecipeTraining, Request, train_recipe
from seprog.methods.contract import forced
from seprog.methods.recipe import RecipeNet, embedded, recipe_losses
from seprog.methods.serac import single_stages
from seprog.text_encoder import TextEncoder
from seprog.training.learner import Learner, Resumed
from seprog.training.scopes import Scopes, Stage
from seprog.types import Edit, Example
from tests.conftest import make_lm

REQUESTS = [
    Request(f"The capital of {c} is", "X", c, f"The capital of {c} is X.") for c in ("Peru", "Chad")
]
AWAY = "Who wrote Hamlet?"


def test_soft_tokens_stand_right_before_the_text(tiny_lm: CausalLM) -> None:
    lm = tiny_lm
    ids, mask = lm.tokens.pad([[5, 6, 7, 8], [9, 10]], lm.device)
    front = torch.tensor([[20, 21], [22, 23]])
    soft = lm.model.get_input_embeddings()(front)
    whole, longer = embedded(lm, soft, ids, mask)
    assert longer.tolist() == [[1] * 6, [0, 0, 1, 1, 1, 1]]
    rows = lm.tokens.pad([[20, 21, 5, 6, 7, 8], [22, 23, 9, 10]], lm.device)
    wanted, found = lm.forward(*rows), lm.forward(None, longer, inputs_embeds=whole)
    torch.testing.assert_close(found[longer.bool()], wanted[longer.bool()])


def make_recipe(lm: CausalLM, encoder: TextEncoder, margin: float) -> RECIPE:
    torch.manual_seed(0)
    return RECIPE(lm, encoder, RecipeNet(encoder.width, 32, 2), margin)


def test_recipe_applies_what_is_nearer_than_the_sentinel(
    tiny_lm: CausalLM, tiny_encoder: TextEncoder
) -> None:
    prompts = [r.prompt for r in REQUESTS] + [AWAY]
    never, always = (make_recipe(tiny_lm, tiny_encoder, m) for m in (3.0, -3.0))
    plain = never.logits(prompts)
    for method in (never, always):
        method.apply(REQUESTS)
    assert never.chosen(prompts) == [None] * 3
    assert torch.equal(never.logits(prompts), plain)
    assert never.answer(prompts) == tiny_lm.generate(prompts, max_new_tokens=16)
    assert None not in always.chosen(prompts)
    assert not torch.equal(always.logits(prompts), plain)
    for prompt, said in zip(prompts, always.answer(prompts), strict=True):
        assert always.answer([prompt]) == [said]
    asked = [Example((), prompt, "X") for prompt in prompts]
    lm = tiny_lm
    assert never.forced(asked) == forced(objective_for(lm).ask(None, asked))
    for example, found in zip(asked, always.forced(asked), strict=True):
        assert always.forced([example])[0] == pytest.approx(found, rel=1e-4)
        target = lm.tokens.encode([f" {answer_text(lm, 'X')}"], False)[0]
        ids = torch.tensor([lm.tokens.encode([example.prompt], True)[0] + target])
        [place] = always.chosen([example.prompt])
        soft = always.net.prompts(torch.from_numpy(always._vectors[[place]]))
        whole, mask = embedded(lm, soft, ids, torch.ones_like(ids))
        logits = lm.forward(None, mask, inputs_embeds=whole)[0, -len(target) - 1 : -1]
        own = len(lm.tokens.encode([" X"], False)[0])
        loss = torch.nn.functional.cross_entropy(logits[:own], torch.tensor(target[:own]))
        assert found[1] == pytest.approx(loss.item(), rel=1e-4)
    always.forget(REQUESTS[0])
    assert always.chosen(prompts) == [0] * 3 and always.bytes_kept() == 4 * tiny_encoder.width
    with pytest.raises(InputError, match="not in force"):
        always.forget(REQUESTS[0])
    always.revert()
    assert torch.equal(always.logits(prompts), plain) and always.bytes_kept() == 0


def examples(seed: int = 0) -> Iterator[Example]:
    while True:
        yield Example(("The capital of Peru is X.",), "The capital of Peru is", "X")
        yield Example(("The capital of Peru is X.",), "The king of Chad is", "a", keep=True)


def test_recipe_learns_and_comes_back(
    tiny_lm: CausalLM, tiny_encoder: TextEncoder, tmp_path: Path
) -> None:
    how = RecipeTraining(tokens=2, steps=80, batch=4, lr=3e-3)
    net = train_recipe(tiny_lm, tiny_encoder, examples, tmp_path, how)
    again = RECIPE.load(tiny_lm, tiny_encoder, tmp_path)
    for name, value in net.state_dict().items():
        assert torch.equal(again.net.state_dict()[name], value)
    again.apply(REQUESTS[:1])
    assert again.chosen(["The capital of Peru is", "The king of Chad is"]) == [0, None]
    part = [e for e, _ in zip(examples(), range(2), strict=False)]
    losses = recipe_losses(tiny_lm, tiny_encoder, net, part)
    assert losses.keys() == {"learn", "keep", "near"} and losses["near"] < 0.1


def test_a_run_that_goes_on_learns_from_other_examples(
    tiny_lm: CausalLM, tiny_encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    def drawn(seed: int) -> Iterator[Example]:
        seeds.append(seed)
        return examples(seed)

    how = RecipeTraining(tokens=2, steps=3, batch=2, seed=10)
    monkeypatch.setattr(Learner, "resume", lambda self, same: Resumed(2, {}, {}))
    train_recipe(tiny_lm, tiny_encoder, drawn, tmp_path, how)
    assert seeds == [12]


def test_serac_answers_in_scope_with_another_model(
    tiny_lm: CausalLM, words_gate: ScopeGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_lm(seed=5)
    method = SERAC(tiny_lm, words_gate, other, threshold=0.5)
    plain = method.logits([AWAY])
    method.apply(REQUESTS)
    prompts = [REQUESTS[1].prompt, AWAY]
    monkeypatch.setattr(words_gate, "keys", None)  # edits are encoded when they are written
    assert method.chosen(prompts) == [REQUESTS[1].statement, None]
    told = f"{REQUESTS[1].statement} {prompts[0]}"
    assert method.answer(prompts) == [
        *other.generate([told], max_new_tokens=16),
        *tiny_lm.generate([AWAY], max_new_tokens=16),
    ]
    assert torch.equal(method.logits([AWAY]), plain)
    asked = [Example((), prompt, "X") for prompt in prompts]
    assert method.forced(asked) == [
        *forced(objective_for(other).ask(None, [Example((), told, "X")])),
        *forced(objective_for(tiny_lm).ask(None, asked[1:])),
    ]
    last = other.forward(other.tokens.pad(other.tokens.encode([told], True), other.device)[0])
    assert torch.equal(method.logits([prompts[0]])[0, -1], last[0, -1])
    method.forget(REQUESTS[1])
    assert method.chosen(prompts) == [None, None]
    with pytest.raises(InputError, match="not in force"):
        method.forget(REQUESTS[1])
    assert method.bytes_kept() == len(REQUESTS[0].statement)
    method.revert()
    assert method.bytes_kept() == 0 and method.chosen(prompts) == [None, None]


def test_serac_learns_from_single_edits_only() -> None:
    one, two = Edit("A is B.", id="1"), Edit("B is C.", id="2")
    chain = [
        Stage("What is A to C?", "", (one,)),
        Stage("What is A to C? A is B.", "", (two,), told=(one,)),
        Stage("What is A to C? A is B. B is C.", "", told=(one, two)),
    ]
    single = [Stage("What is A?", "", (one,)), Stage("Who?", "")]
    last = Stage("What is A? A is B.", "", told=(one,))
    assert single_stages(Scopes([one, two], [*chain, *single, last])).stages == single
    corpus = EditCorpus(examples())
    document = next(iter(corpus))
    assert document.pieces == [
        ("The capital of Peru is X.", False),
        ("The capital of Peru is", False),
        ("X.", True),
    ]
