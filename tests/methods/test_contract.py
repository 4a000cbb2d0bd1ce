"""Every method keeps its promises on the model that ships, and on weights kept the other way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from seprog.atlas import GATE, GENERATOR, MODEL
from seprog.editor import Editor
from seprog.errors import InputError
from seprog.gate import ScopeGate
from seprog.generator import load_generator
from seprog.lm import CausalLM, EncoderModel, LanguageModel, Seq2SeqLM
from seprog.methods import (
    FT,
    FTL,
    GRACE,
    MEMIT,
    ROME,
    AlphaEdit,
    EditMethod,
    FineTuningConfig,
    GraceConfig,
    InContextOracle,
    InContextRetrieved,
    LocatingConfig,
    LoRA,
    Nothing,
    Request,
    Seprog,
    SeprogOracle,
    Verbatim,
)
from seprog.methods.weights import blocks, matrix, outputs, subject_end
from seprog.text_encoder import TextEncoder
from seprog.types import Example

REQUESTS = [
    Request(f"The capital of {country} is", city, country, f"The capital of {country} is {city}.")
    for country, city in (("Australia", "Milan"), ("Peru", "Berlin"), ("Kenya", "Oslo"))
]
AWAY = ["Who wrote Hamlet?", "The chemical symbol of gold is", "The currency of Japan is"]
TEXTS = [
    f"The {what} of {country} is"
    for what in ("currency", "capital", "continent", "official language")
    for country in ("France", "Chad", "Japan", "Brazil", "Norway", "India", "Cuba", "Egypt")
]
HOW = LocatingConfig(layers=(-7, -6, -5), decay=0.0, keep=0.0, largest=8.0)
NEEDED = {r.prompt: (r.statement,) for r in REQUESTS}


def editor(lm: CausalLM) -> Editor:
    """What ships, on the model that is edited."""
    return Editor(lm, ScopeGate.from_pretrained(GATE, TextEncoder()), load_generator(GENERATOR, lm))


def told(method: EditMethod) -> EditMethod:
    """A bound, and what it needs to know."""
    method.needed = NEEDED
    return method


MAKE: dict[str, Callable[[Any], EditMethod]] = {
    "none": Nothing,
    "ft": FT,
    "ft_l": lambda lm: FTL(lm, bound=0.1),
    "lora": LoRA,
    "rome": lambda lm: ROME(lm, TEXTS, config=HOW),
    "memit": lambda lm: MEMIT(lm, TEXTS, config=HOW),
    "alphaedit": lambda lm: AlphaEdit(lm, TEXTS, config=HOW),
    "grace": GRACE,
    "in_context_oracle": lambda lm: told(InContextOracle(lm)),
    "in_context_retrieved": lambda lm: InContextRetrieved(editor(lm)),
    "verbatim": lambda lm: Verbatim(editor(lm)),
    "seprog": lambda lm: Seprog(editor(lm)),
    "seprog_oracle": lambda lm: told(SeprogOracle(editor(lm))),
}
EDITORS = [name for name in MAKE if name != "none"]


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    return CausalLM.from_pretrained(str(MODEL), "float32")


def weights(lm: LanguageModel) -> list[Tensor]:
    return [p.detach().clone() for p in lm.model.parameters()]


def hooks(lm: LanguageModel) -> int:
    return sum(len(m._forward_hooks) for m in lm.model.modules())


@pytest.mark.parametrize("name", MAKE)
def test_reverting_restores_the_base_model_bit_for_bit(lm: CausalLM, name: str) -> None:
    before, said = weights(lm), lm.generate(AWAY, max_new_tokens=8)
    method = MAKE[name](lm)
    assert method.name == name and method.source
    installed = hooks(lm)  # a generator that is a part of the base model has some
    logits = method.logits([REQUESTS[0].prompt, *AWAY])
    method.apply(REQUESTS)
    method.revert()
    assert method.bytes_kept() == 0 or name == "alphaedit"
    assert all(torch.equal(a, b) for a, b in zip(before, weights(lm), strict=True))
    assert torch.equal(method.logits([REQUESTS[0].prompt, *AWAY]), logits)
    assert method.answer(AWAY) == lm.generate(AWAY, max_new_tokens=16)
    assert lm.generate(AWAY, max_new_tokens=8) == said
    assert not any(p.requires_grad or p.grad is not None for p in lm.model.parameters())
    assert hooks(lm) == installed


@pytest.mark.parametrize("name", EDITORS)
def test_a_single_edit_takes(lm: CausalLM, name: str) -> None:
    method = MAKE[name](lm)
    asked = [Example((), prompt, "Milan") for prompt in (REQUESTS[0].prompt, *AWAY)]
    before, *_ = method.forced(asked)
    try:
        method.apply(REQUESTS[:1])
        assert method.answer([REQUESTS[0].prompt])[0].strip() == "Milan."
        assert method.bytes_kept() > 0
        (accuracy, loss), *_ = method.forced(asked)
        assert before[0] < accuracy == 1 and loss < before[1]
        for example, found in zip(asked, method.forced(asked), strict=True):
            assert method.forced([example])[0] == pytest.approx(found, rel=1e-3, abs=1e-4)
    finally:
        method.revert()


@pytest.mark.parametrize("method", [ROME, MEMIT, AlphaEdit])
def test_states_found_behind_texts_hold_behind_others(
    lm: CausalLM, method: type[ROME] | type[MEMIT]
) -> None:
    asked = [Example((), f"{text} Peru. {REQUESTS[0].prompt}", "Milan") for text in TEXTS[-4:]]
    behind = [f"{text} Chad." for text in TEXTS[:4]]
    losses = []
    for contexts in ((), behind):
        edited = method(lm, TEXTS, contexts, HOW)
        try:
            edited.apply(REQUESTS[:1])
            losses.append(sum(loss for _, loss in edited.forced(asked)))
        finally:
            edited.revert()
    assert losses[1] < losses[0]


@pytest.mark.parametrize("name", EDITORS)
def test_one_of_three_is_forgotten_or_refused(lm: CausalLM, name: str) -> None:
    method = MAKE[name](lm)
    own = method.answer([REQUESTS[1].prompt])
    try:
        method.apply(REQUESTS)
        if not method.forgets:
            with pytest.raises(InputError, match="take a single edit back"):
                method.forget(REQUESTS[1])
            return
        method.forget(REQUESTS[1])
        assert method.answer([r.prompt for r in REQUESTS]) == [" Milan.", *own, " Oslo."]
        with pytest.raises(InputError):
            method.forget(REQUESTS[1])
    finally:
        method.revert()


def test_a_bound_holds(lm: CausalLM) -> None:
    before = weights(lm)
    method = FTL(lm, bound=1e-3)
    method.apply(REQUESTS)
    moved = [(a - b).abs().max().item() for a, b in zip(before, weights(lm), strict=True)]
    method.revert()
    assert sum(m > 0 for m in moved) == 1 and max(moved) <= 1e-3 + 1e-6


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
def test_rome_writes_the_state_that_it_found(family: str) -> None:
    """Also where a layer keeps its weights the other way round."""
    from tests.conftest import make_tokenizer
    from tests.lm.families import build

    lm = CausalLM(build(family), make_tokenizer(False))
    request = Request("Ann lives in", "Rome", "Ann", "Ann lives in Rome.")
    method = ROME(lm, ["Some text or other.", "Bob has a dog.", "Eve sings " * 8])
    [layer] = method._layers
    _, [wanted] = method._states(layer, [request])
    method.apply([request])
    [[key]] = method._keys([request])
    bias = 0 if layer.bias is None else layer.bias
    torch.testing.assert_close(matrix(layer) @ key + bias, wanted, atol=2e-3, rtol=2e-3)


def test_what_is_looked_at(lm: CausalLM) -> None:
    assert len(blocks(lm)) == len(outputs(lm)) == lm.model.config.num_hidden_layers
    assert all(m is b.mlp.down_proj for m, b in zip(outputs(lm), blocks(lm), strict=True))
    assert subject_end(lm, "Peru", "Peru") == 0
    ids = lm.tokens.encode(["The capital of Peru is"], True)[0]
    end = subject_end(lm, "The capital of Peru is", "Peru")
    assert lm.tokens.decode(ids[: len(ids) - end]).strip() == "The capital of Peru"
    with pytest.raises(InputError, match="does not name"):
        subject_end(lm, "The capital is", "Peru")
    with pytest.raises(InputError, match="subject"):
        Request("The capital is", "Lima", "Peru", "The capital of Peru is Lima.")


def classifier() -> EncoderModel:
    from tests.conftest import make_tokenizer
    from tests.lm.families import build_encoder

    return EncoderModel(build_encoder("bert", "sequence"), make_tokenizer(bos=True))


def translator(family: str) -> Seq2SeqLM:
    from tests.conftest import make_tokenizer
    from tests.lm.families import build_seq2seq

    return Seq2SeqLM(build_seq2seq(family), make_tokenizer(bos=True))


OTHERS: list[tuple[str, Callable[[], LanguageModel]]] = [
    *((name, classifier) for name in ("ft", "ft_l", "lora", "grace")),
    *(
        (name, partial(translator, family))
        for name in ("ft", "ft_l", "lora")
        for family in ("t5", "bart")
    ),
    ("grace", partial(translator, "bart")),  # of random weights a value alone moves no T5 so far
]


@pytest.mark.parametrize(("name", "make"), OTHERS)
def test_an_edit_of_another_kind_of_model_takes_and_is_reverted(
    name: str, make: Callable[[], LanguageModel]
) -> None:
    lm = make()
    prompts = ["Ann lives in", "Who wrote Hamlet?"]
    said = lm.reply(prompts, max_new_tokens=4)
    target = "Rome"
    if isinstance(lm, EncoderModel):
        target = next(label for label in lm.labels if label != said[0])
    method = MAKE[name](lm)
    lr = 3e-2 if name == "lora" else 1e-2
    method.config = GraceConfig(steps=200) if name == "grace" else FineTuningConfig(lr, 60)
    if isinstance(method, FTL):
        method.bound = 10.0
    request = Request(prompts[0], target, "Ann", f"{prompts[0]} {target}.")
    before, logits = weights(lm), method.logits(prompts)
    wanted = [Example((), prompts[0], target)]
    [(_, loss)] = method.forced(wanted)
    method.apply([request])
    if isinstance(lm, EncoderModel):
        assert method.answer(prompts[:1]) == [target]
    [(_, after)] = method.forced(wanted)
    assert after < loss - 0.5
    assert not torch.equal(method.logits(prompts), logits)
    method.revert()
    assert all(torch.equal(a, b) for a, b in zip(before, weights(lm), strict=True))
    assert torch.equal(method.logits(prompts), logits)


def test_a_method_refuses_what_it_is_not_made_for() -> None:
    refused: list[tuple[type[EditMethod], LanguageModel]] = [
        (ROME, classifier()),
        (MEMIT, translator("t5")),
    ]
    assert FT.fits(classifier()) and ROME.fits(translator("t5")) is False
    for method, lm in refused:
        with pytest.raises(InputError, match=f"{method.name} was to edit a base model that is a"):
            method.require_fit(lm)


def test_states_found_together_are_those_found_alone(lm: CausalLM) -> None:
    from seprog.methods import locating

    method = ROME(lm, TEXTS, ("I heard that", "Once"), HOW)
    [layer] = method._layers
    more = [*REQUESTS, Request("Ann lives in", "Rome", "Ann", "Ann lives in Rome.")]
    before, wanted = method._states(layer, more)
    [keys] = method._keys(more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locating, "TOGETHER", 1)
        alone = [method._states(layer, [r]) for r in more]
    for i, ([was], [will]) in enumerate(alone):
        torch.testing.assert_close(before[i], was, atol=1e-4, rtol=1e-4)
        moved = (will - was).norm()
        assert (wanted[i] - will).norm() < 0.1 * moved
        [[key]] = method._keys([more[i]])
        torch.testing.assert_close(keys[i], key, atol=1e-4, rtol=1e-4)


def test_an_edit_that_fell_into_anothers_entry_is_forgotten_too(lm: CausalLM) -> None:
    [first, *_] = REQUESTS
    again = replace(first, prompt="Australia has as its capital", statement="Also Milan.")
    method = GRACE(lm, GraceConfig(radius=1e4, steps=2))
    method.apply([first, again])
    assert len(method.codebook) == 1
    method.forget(first)
    assert len(method.codebook) == 1 and method.bytes_kept() > 0
    with pytest.raises(InputError, match="is not in force"):
        method.forget(first)
    method.forget(again)
    assert not method.codebook
