"""Fine-tuning on the edits: all weights, one layer within bounds, or low-rank additions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from seprog.lm import LanguageModel
from seprog.lora import Lora
from seprog.methods.contract import ANY, Chosen, EditMethod, Forced, Request
from seprog.methods.weights import (
    WeightMethod,
    answer_losses,
    blocks,
    outputs,
    trainable,
)
from seprog.types import Example


@dataclass(frozen=True)
class FineTuningConfig:
    """How an edit is fine-tuned on.

    Args:
        lr: Learning rate of Adam.
        steps: Steps per batch of edits, at most.
        batch: Edits at a time.
        enough: Mean loss of a batch at which to stop.
    """

    lr: float = 5e-4
    steps: int = 25
    batch: int = 32
    enough: float = 0.01


def tune(
    lm: LanguageModel,
    parameters: Sequence[Tensor],
    requests: Sequence[Request],
    how: FineTuningConfig,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Fine-tune parameters on edits, batch by batch.

    Args:
        lm: The model that is asked.
        parameters: What is moved.
        requests: The edits.
        how: How.
        after: Called after every step.
    """
    with trainable(parameters):
        for start in range(0, len(requests), how.batch):
            part = requests[start : start + how.batch]
            optimizer = torch.optim.Adam(parameters, lr=how.lr)
            for _ in range(how.steps):
                loss = answer_losses(lm, part).mean()
                if loss.item() < how.enough:
                    break
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                after()


class FT(WeightMethod):
    """All weights of the model.

    Args:
        lm: The base model.
        config: How.
    """

    name: ClassVar[str] = "ft"
    source: ClassVar[str] = "plain fine-tuning"
    kinds: ClassVar[tuple[type[LanguageModel], ...]] = ANY

    def __init__(self, lm: LanguageModel, config: FineTuningConfig | None = None) -> None:
        super().__init__(lm)
        self.config = config or FineTuningConfig()

    def apply(self, requests: Sequence[Request]) -> None:
        """Fine-tune on the edits, batch by batch."""
        parameters = list(self.lm.model.parameters())
        self.keep(parameters)
        tune(self.lm, parameters, requests, self.config)


class FTL(WeightMethod):
    """One feed-forward output, no weight of which moves further than a bound.

    Args:
        lm: The base model.
        layer: Which layer; negative ones count from the last.
        bound: How far a weight may move from where it was before all edits.
        config: How.
    """

    name: ClassVar[str] = "ft_l"
    source: ClassVar[str] = "Zhu et al. 2020, Modifying Memories in Transformer Models"
    kinds: ClassVar[tuple[type[LanguageModel], ...]] = ANY

    def __init__(
        self,
        lm: LanguageModel,
        layer: int = -1,
        bound: float = 0.05,
        config: FineTuningConfig | None = None,
    ) -> None:
        super().__init__(lm)
        self.config = config or FineTuningConfig(lr=5e-3, steps=50)
        self.bound, self._layer = bound, outputs(lm)[layer]

    def apply(self, requests: Sequence[Request]) -> None:
        """Fine-tune the layer on the edits, batch by batch."""
        self.keep([self._layer.weight])
        tune(self.lm, [self._layer.weight], requests, self.config, self._hold)

    @torch.no_grad()
    def _hold(self) -> None:
        weight, before = self._layer.weight, self._before[self._layer.weight]
        weight.clamp_(before - self.bound, before + self.bound)


class LoRA(EditMethod):
    """Low-rank additions to every linear layer inside the layers.

    Args:
        lm: The base model.
        rank: Of each addition.
        config: How.
    """

    name: ClassVar[str] = "lora"
    source: ClassVar[str] = "Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models"
    kinds: ClassVar[tuple[type[LanguageModel], ...]] = ANY

    def __init__(
        self, lm: LanguageModel, rank: int = 8, config: FineTuningConfig | None = None
    ) -> None:
        super().__init__(lm)
        self.rank, self.config = rank, config or FineTuningConfig(lr=5e-3)
        self._lora: Lora | None = None

    def apply(self, requests: Sequence[Request]) -> None:
        """Fine-tune the additions on the edits, batch by batch."""
        if self._lora is None:
            inside = {id(m) for block in blocks(self.lm) for m in block.modules()}
            names = {n for n, m in self.lm.model.named_modules() if id(m) in inside}
            torch.manual_seed(0)
            self._lora = Lora(self.lm.model, self.rank, names.__contains__).to(self.lm.device)
        with self._lora.active():
            tune(self.lm, list(self._lora.parameters()), requests, self.config)

    def revert(self) -> None:
        """Take the additions off."""
        if self._lora is not None:
            self._lora.detach()
            self._lora = None

    def bytes_kept(self) -> int:
        """The additions."""
        parameters = [] if self._lora is None else self._lora.parameters()
        return sum(p.numel() * p.element_size() for p in parameters)

    def _active(self) -> AbstractContextManager[object]:
        return self._lora.active() if self._lora else nullcontext()

    def answer(self, prompts: Sequence[str], chosen: Chosen = None) -> list[str]:
        """With the additions."""
        with self._active():
            return super().answer(prompts, chosen)

    def forced(self, examples: Sequence[Example], chosen: Chosen = None) -> list[Forced]:
        """With the additions."""
        with self._active():
            return super().forced(examples, chosen)

    def logits(self, prompts: Sequence[str], chosen: Chosen = None) -> Float[Tensor, "batch ..."]:
        """With the additions."""
        with self._active():
            return super().logits(prompts, chosen)
