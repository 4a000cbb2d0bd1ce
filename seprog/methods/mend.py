"""MEND: a trained network turns the gradient of an edit into a change of a few layers' weights.

A linear layer's gradient is a sum of outer products, one per token, of what goes into the layer and
of the gradient of what comes out. The network maps each such pair to another pair, and the change
is the sum of their outer products (section 3 of the paper).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from seprog.generator.objective import divergence, objective_for
from seprog.lm import CausalLM, LanguageModel, Seq2SeqLM
from seprog.methods.contract import Request
from seprog.methods.weights import (
    Linear,
    WeightMethod,
    answer_losses,
    blocks,
    changed,
    matrix,
    outputs,
    trainable,
)
from seprog.training.learner import Learner
from seprog.training.run import Run, trapezoid
from seprog.types import Example


@dataclass(frozen=True)
class MendTraining:
    """How the network is trained.

    Args:
        depth: Blocks that are edited, counted from the last.
        rank: Of the network's matrices.
        steps: Optimizer steps.
        batch: Edits per step, each applied by itself.
        lr: Peak learning rate.
        edit: Weight of the loss on the edit's answers, relative to the loss on those that stay.
        rate: Step size of an edit before training.
        seed: Of the initial weights.
    """

    depth: int = 3
    rank: int = 128
    steps: int = 1500
    batch: int = 8
    lr: float = 1e-3
    edit: float = 0.1
    rate: float = 1e-3
    seed: int = 0


class Lesson(NamedTuple):
    """What one edit should and should not change.

    Args:
        request: The edit.
        asked: A prompt that the edit bears on, with its answer.
        away: A prompt that it does not bear on, with the base model's own answer.
    """

    request: Request
    asked: Example
    away: Example


class LowRank(nn.Module):
    """One residual layer of the network; the identity before training (equation 3).

    Args:
        width: Of both sides.
        rank: Of the matrix between them.
        layers: Of the base model that share it, each with a scale and an offset of its own.
    """

    def __init__(self, width: int, rank: int, layers: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.scale = nn.Parameter(torch.ones(layers, width))
        self.offset = nn.Parameter(torch.zeros(layers, width))

    def forward(
        self, pairs: Float[Tensor, "tokens width"], layer: int
    ) -> Float[Tensor, "tokens width"]:
        """The pairs, moved; ``clamp``, unlike ReLU, has a gradient where training begins."""
        moved = self.scale[layer] * self.up(self.down(pairs)) + self.offset[layer]
        return pairs + moved.clamp(min=0.0)


class MendNet(nn.Module):
    """Pairs of input and gradient to changes of weights.

    Args:
        shapes: Of the weights edited, ``(out, in)`` each; those of one shape share a network.
        rank: Of its matrices.
        rate: Step size of an edit before training.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], rank: int, rate: float) -> None:
        super().__init__()
        self.shapes = list(shapes)
        self.kinds = list(dict.fromkeys(self.shapes))
        self.networks = nn.ModuleList(
            nn.ModuleList(LowRank(sum(s), rank, self.shapes.count(s)) for _ in range(2))
            for s in self.kinds
        )
        self.log_rate = nn.Parameter(torch.full((len(shapes),), rate).log())
        for i, shape in enumerate(self.shapes):
            self.register_buffer(f"count_{i}", torch.zeros(()))
            self.register_buffer(f"mean_{i}", torch.zeros(sum(shape)))
            self.register_buffer(f"square_{i}", torch.zeros(sum(shape)))

    def note(self, layer: int, pairs: Float[Tensor, "tokens width"]) -> None:
        """Take pairs into the running mean and square that all are normalised by."""
        count, mean, square = self._moments(layer)
        count += len(pairs)
        mean += (pairs - mean).sum(dim=0) / count
        square += (pairs.square() - square).sum(dim=0) / count

    def _moments(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        names = ("count", "mean", "square")
        count, mean, square = (self.get_buffer(f"{name}_{layer}") for name in names)
        return count, mean, square

    def forward(self, layer: int, pairs: Float[Tensor, "tokens width"]) -> Float[Tensor, "out in"]:
        """The change of a layer's weights for an edit's pairs, input first."""
        _, mean, square = self._moments(layer)
        pairs = (pairs - mean) / ((square - mean.square()).clamp(min=0.0).sqrt() + 1e-7)
        shape = self.shapes[layer]
        network = self.networks[self.kinds.index(shape)]
        place = self.shapes[:layer].count(shape)
        for part in network:  # type: ignore[attr-defined]
            pairs = part(pairs, place)
        went_in, wanted = pairs.split([shape[1], shape[0]], dim=1)
        return -self.log_rate[layer].exp() * wanted.T @ went_in


def feed_forward(lm: LanguageModel) -> list[Linear]:
    """The linear layers of every block's feed-forward part, in order."""
    found: list[Linear] = []
    for block, last in zip(blocks(lm), outputs(lm), strict=True):
        around = next(m for m in block.modules() if any(c is last for c in m.children()))
        found += [c for c in around.children() if isinstance(c, nn.Linear | Conv1D)]
    return found


def pairs_of(
    lm: LanguageModel, layers: Sequence[Linear], requests: Sequence[Request]
) -> list[Float[Tensor, "tokens width"]]:
    """Per layer and token, what goes in and the loss' gradient of what comes out, joined.

    Tokens on which the loss does not depend there are left out, as in the authors' code.
    """
    came: dict[int, tuple[Tensor, Tensor]] = {}

    def hook(place: int) -> Any:
        def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            came[place] = (inputs[0].detach(), output)

        return note

    handles = [m.register_forward_hook(hook(i)) for i, m in enumerate(layers)]
    try:
        with torch.enable_grad(), trainable([m.weight for m in layers]):
            loss = answer_losses(lm, requests).sum()
            wanted = torch.autograd.grad(loss, [came[i][1] for i in range(len(layers))])
    finally:
        for handle in handles:
            handle.remove()
    found = []
    for i, gradient in enumerate(wanted):
        own = gradient.flatten(end_dim=-2)  # some layers see their tokens in one row
        bearing = own.ne(0).any(dim=1)
        went_in = came[i][0].flatten(end_dim=-2)
        found.append(torch.cat([went_in[bearing], own[bearing]], dim=1).float())
    return found


def lesson_losses(
    lm: LanguageModel, layers: Sequence[Linear], net: MendNet, lesson: Lesson
) -> dict[str, Tensor]:
    """Loss on the edit's answer, and divergence where the answer must stay, once it is applied."""
    form = objective_for(lm)
    with torch.no_grad():
        base = form.ask(None, [lesson.away])
    with ExitStack() as stack:
        for i, pairs in enumerate(pairs_of(lm, layers, [lesson.request])):
            net.note(i, pairs)
            stack.enter_context(changed(layers[i], _adding(net(i, pairs))))
        away, asked = (form.ask(None, [e]) for e in (lesson.away, lesson.asked))
        keep = divergence(base.logits[base.real], away.logits[away.real])
        return {"edit": asked.losses().mean(), "keep": keep}


def _adding(delta: Float[Tensor, "out in"]) -> Callable[[Tensor, Tensor], Tensor]:
    """What a layer gives out once its weights are changed."""
    return lambda went_in, output: output + went_in @ delta.T


def shapes_of(layers: Sequence[Linear]) -> list[tuple[int, int]]:
    """Of layers' weights, ``(out, in)`` each."""
    return [(m.shape[0], m.shape[1]) for m in map(matrix, layers)]


def train_mend(
    lm: LanguageModel,
    lessons: Callable[[int], Iterator[Lesson]],
    folder: Path,
    config: MendTraining,
) -> MendNet:
    """Train the network, or go on with a run that was stopped.

    Args:
        lm: The base model.
        lessons: A seed to lessons without end.
        folder: For the result, its checkpoint and its log.
        config: How.
    """
    torch.manual_seed(config.seed)
    parts = feed_forward(lm)
    layers = parts[-config.depth * len(parts) // len(blocks(lm)) :]
    net = MendNet(shapes_of(layers), config.rank, config.rate).to(lm.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=config.lr)
    run = Run(folder, "mend", config.steps)
    learner = Learner(net, run.checkpoint, adam=optimizer)
    start = learner.resume({k: getattr(config, k) for k in ("depth", "rank")}).step
    drawn = lessons(config.seed + start)
    for step in run.each_step(start, lambda n: learner.save(n, {}, asdict(config))):
        losses = [lesson_losses(lm, layers, net, next(drawn)) for _ in range(config.batch)]
        mean = {k: torch.stack([found[k] for found in losses]).mean() for k in losses[0]}
        lr = config.lr * trapezoid(step, config.steps, 50, 0.5)
        learner.step(config.edit * mean["edit"] + mean["keep"], lr)
        if step % 25 == 0:
            run.report(step, **{k: v.item() for k, v in mean.items()})
    save_file(net.state_dict(), folder / "mend.safetensors")
    return net


class MEND(WeightMethod):
    """Gradients of edits, made better by a trained network.

    Args:
        lm: The base model.
        net: Trained for it.
        strength: Factor of every change.
    """

    name: ClassVar[str] = "mend"
    source: ClassVar[str] = "Mitchell et al. 2021, Fast Model Editing at Scale"
    kinds: ClassVar[tuple[type[LanguageModel], ...]] = (CausalLM, Seq2SeqLM)

    def __init__(self, lm: LanguageModel, net: MendNet, strength: float = 1.0) -> None:
        super().__init__(lm)
        self.net, self.strength = net.requires_grad_(False), strength
        self._layers = feed_forward(lm)[-len(net.shapes) :]

    @classmethod
    def load(cls, lm: LanguageModel, folder: Path, strength: float = 1.0) -> MEND:
        """With what ``train_mend`` left in a folder."""
        state = load_file(folder / "mend.safetensors")
        layers = feed_forward(lm)[-len(state["log_rate"]) :]
        net = MendNet(shapes_of(layers), len(state["networks.0.0.down.weight"]), 1.0)
        net.load_state_dict(state)
        return cls(lm, net.to(lm.device), strength)

    def apply(self, requests: Sequence[Request]) -> None:
        """Change the weights by each edit's own gradient, one after another."""
        self.keep(m.weight for m in self._layers)
        for request in requests:
            found = pairs_of(self.lm, self._layers, [request])
            for i, pairs in enumerate(found):
                with torch.no_grad():
                    delta = self.strength * self.net(i, pairs)
                    matrix(self._layers[i]).add_(delta.to(self._layers[i].weight.dtype))
