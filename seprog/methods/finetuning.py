"""Fine-tuning on the edits: all layers, or one with its weights held near where they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from seprog.lm import CausalLM
from seprog.methods.contract import Request
from seprog.methods.weights import WeightMethod, collate, outputs, target_loss, trainable


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


class _Tuned(WeightMethod):
    """What both have in common."""

    def __init__(self, lm: CausalLM, config: FineTuningConfig | None = None) -> None:
        super().__init__(lm)
        self.config = config or FineTuningConfig()

    def _parameters(self) -> list[nn.Parameter]:
        raise NotImplementedError

    def _hold(self) -> None:
        """Called after every step."""

    def apply(self, requests: Sequence[Request]) -> None:
        """Fine-tune on the edits, batch by batch."""
        how, parameters = self.config, self._parameters()
        self.keep(parameters)
        with trainable(parameters):
            for start in range(0, len(requests), how.batch):
                batch = collate(self.lm, requests[start : start + how.batch])
                optimizer = torch.optim.Adam(parameters, lr=how.lr)
                for _ in range(how.steps):
                    loss = target_loss(self.lm, batch).mean()
                    if loss.item() < how.enough:
                        break
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    self._hold()


class FT(_Tuned):
    """All weights of the model."""

    name: ClassVar[str] = "ft"
    source: ClassVar[str] = "plain fine-tuning"

    def _parameters(self) -> list[nn.Parameter]:
        return list(self.lm.model.parameters())


class FTL(_Tuned):
    """One feed-forward output, no weight of which moves further than a bound.

    Args:
        lm: The base model.
        layer: Which layer; negative ones count from the last.
        bound: How far a weight may move from where it was before all edits.
        config: How.
    """

    name: ClassVar[str] = "ft_l"
    source: ClassVar[str] = "Zhu et al. 2020, Modifying Memories in Transformer Models"

    def __init__(
        self,
        lm: CausalLM,
        layer: int = -1,
        bound: float = 0.05,
        config: FineTuningConfig | None = None,
    ) -> None:
        super().__init__(lm, config or FineTuningConfig(lr=5e-3, steps=50))
        self.bound, self._layer = bound, outputs(lm)[layer]

    def _parameters(self) -> list[nn.Parameter]:
        return [self._layer.weight]

    @torch.no_grad()
    def _hold(self) -> None:
        weight, before = self._layer.weight, self._before[self._layer.weight]
        weight.clamp_(before - self.bound, before + self.bound)
