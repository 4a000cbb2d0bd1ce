"""Methods that change weights: keeping what was there, and what they look at in the model.

Nothing goes by a model's name: a run says which linear layer of each block writes last into the
residual stream. That is the output of its feed-forward part, where facts are said to be kept
(Geva et al. 2021, "Transformer Feed-Forward Layers Are Key-Value Memories").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from seprog.errors import InputError, ModelError
from seprog.generator.objective import Batch, Continuation, objective_for
from seprog.lm import CausalLM, LanguageModel, Seq2SeqLM
from seprog.methods.contract import EditMethod, Request
from seprog.types import Example

Linear = nn.Linear | Conv1D
Ids = Int[Tensor, "batch time"]


class WeightMethod(EditMethod):
    """Base of the methods that change weights; takes them back from a copy."""

    def __init__(self, lm: LanguageModel) -> None:
        super().__init__(lm)
        self._before: dict[Tensor, Tensor] = {}

    def keep(self, parameters: Iterable[Tensor]) -> None:
        """Remember weights before they are changed for the first time."""
        for parameter in parameters:
            if parameter not in self._before:
                self._before[parameter] = parameter.detach().clone()

    @torch.no_grad()
    def revert(self) -> None:
        """Put the weights back."""
        for parameter, value in self._before.items():
            parameter.copy_(value)
        self._before.clear()

    def bytes_kept(self) -> int:
        """The weights that differ from the base model's."""
        return sum(p.numel() * p.element_size() for p in self._before)


def blocks(lm: LanguageModel) -> list[nn.Module]:
    """The layers of the model, or of its decoder, in order.

    Raises:
        ModelError: If it has no list of as many modules as its configuration says layers.
    """
    config, root = lm.model.config.get_text_config(), lm.model
    count = config.num_hidden_layers
    if isinstance(lm, Seq2SeqLM):
        root = lm.model.get_decoder()
        count = getattr(config, "decoder_layers", getattr(config, "num_decoder_layers", count))
    for module in root.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return list(module)
    raise ModelError(
        f"{type(lm.model).__name__} has no list of {count} layers",
        "a stack of layers",
        "Choose another base model",
    )


@torch.no_grad()
def outputs(lm: LanguageModel) -> list[Linear]:
    """Per layer, the linear layer that runs last in it: the output of the feed-forward part."""
    found: list[Linear] = []
    for block in blocks(lm):
        last: list[Linear] = []
        hooks = [
            module.register_forward_hook(lambda m, *_, last=last: last.append(m))
            for module in block.modules()
            if isinstance(module, nn.Linear | Conv1D)
        ]
        try:
            lm.forward(torch.ones(1, 2, dtype=torch.long, device=lm.device))
        finally:
            for hook in hooks:
                hook.remove()
        found.append(last[-1])
    return found


def matrix(layer: Linear) -> Float[Tensor, "out in"]:
    """A linear layer's weights, whichever way round it keeps them."""
    return layer.weight if isinstance(layer, nn.Linear) else layer.weight.T


@contextmanager
def trainable(parameters: Sequence[Tensor]) -> Iterator[None]:
    """While open, gradients reach these parameters of the frozen model."""
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None


def answer_losses(lm: LanguageModel, requests: Sequence[Request]) -> Float[Tensor, " batch"]:
    """Cross-entropy of each request's new answer, averaged over its tokens; that of a label."""
    rows = [Example((), r.prompt, r.target) for r in requests]
    return objective_for(lm).ask(None, rows).losses()


def target_loss(lm: CausalLM, batch: Batch) -> Float[Tensor, " batch"]:
    """Cross-entropy of each row's answer, averaged over its tokens."""
    logits = lm.forward(batch.ids, batch.mask)[:, :-1].float()
    wanted, answer = batch.ids[:, 1:], batch.answer[:, 1:]
    losses = torch.nn.functional.cross_entropy(logits.mT, wanted, reduction="none")
    return (losses * answer).sum(dim=1) / answer.sum(dim=1)


def collate(lm: CausalLM, requests: Sequence[Request], before: str = "") -> Batch:
    """Prompts and their new answers, each behind a text if one is given."""
    rows = [Example((r.statement,), f"{before} {r.prompt}".strip(), r.target) for r in requests]
    return Continuation(lm).collate(rows)


def subject_end(lm: CausalLM, text: str, subject: str) -> int:
    """Which token of a text, counted from its last, the subject's last mention ends in (0: last).

    Raises:
        InputError: If the text does not name the subject.
    """
    start = text.rfind(subject)
    if start < 0 or not subject:
        raise InputError(
            f"{text!r} does not name {subject!r}", "a text with the subject", "Correct one of them"
        )
    end = start + len(subject)
    encoded = lm.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets: list[tuple[int, int]] = encoded["offset_mapping"]
    last = max(i for i, (begin, _) in enumerate(offsets) if begin < end)
    return len(offsets) - 1 - last


@contextmanager
def changed(module: nn.Module, change: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """While open, a module's output is ``change(input, output)``; tuples by their first part."""

    def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (change(inputs[0], output[0]), *output[1:])
        return change(inputs[0], output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def activations(
    lm: LanguageModel, modules: Sequence[nn.Module], ids: Ids, mask: Ids, of: str
) -> list[Float[Tensor, "batch places width"]]:
    """What goes into or comes out of modules, of a decoder at its start token alone.

    Args:
        lm: The model, as it is now.
        modules: Where to look.
        ids: What is read, ``(batch, time)``.
        mask: Where a token is real, ``(batch, time)``.
        of: ``"input"`` or ``"output"``.
    """
    found: dict[int, Tensor] = {}

    def hook(place: int) -> Callable[..., None]:
        def note(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            whole = inputs[0] if of == "input" else output
            found[place] = whole[0] if isinstance(whole, tuple) else whole

        return note

    handles = [m.register_forward_hook(hook(i)) for i, m in enumerate(modules)]
    try:
        lm.forward(ids, mask)
    finally:
        for handle in handles:
            handle.remove()
    return [found[i] for i in range(len(modules))]


@torch.no_grad()
def second_moments(
    lm: CausalLM, layers: Sequence[Linear], texts: Sequence[str]
) -> list[Float[Tensor, "in in"]]:
    """Mean of ``k k^T`` over the tokens of texts, ``k`` being what goes into each layer."""
    totals: list[Tensor] = []
    count = 0
    for start in range(0, len(texts), 64):
        ids, mask = lm.tokens.pad(lm.tokens.encode(texts[start : start + 64], True), lm.device)
        for i, states in enumerate(activations(lm, layers, ids, mask, "input")):
            keys = states[mask.bool()].float()
            if i == len(totals):
                totals.append(torch.zeros(keys.shape[1], keys.shape[1], device=keys.device))
            totals[i] += keys.T @ keys
        count += int(mask.sum())
    return [total / count for total in totals]
