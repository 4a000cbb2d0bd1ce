"""Low-rank additions to the linear layers of a frozen model, active only where they are asked for.

Outside ``with lora.active():`` the hooked model computes exactly what it did before, bit for bit;
activation is per thread (a ``ContextVar``), so one model can serve with and without.
Source: Hu et al. 2021, LoRA, section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.pytorch_utils import Conv1D


class Lora(nn.Module):
    """Rank-r additions to every linear layer inside ``model`` that ``choose`` picks.

    Args:
        model: The frozen model; hooked, otherwise untouched. Not a submodule of this module.
        rank: Rank of each addition (>= 1).
        choose: Given a layer's qualified name, whether it gets an addition.
    """

    def __init__(self, model: nn.Module, rank: int, choose: Callable[[str], bool]) -> None:
        super().__init__()
        self._active: ContextVar[bool] = ContextVar("lora_active", default=False)
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        self._handles: list[RemovableHandle] = []
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Linear | Conv1D) and choose(name):
                fan_in, fan_out = layer.weight.shape
                if isinstance(layer, nn.Linear):
                    fan_in, fan_out = fan_out, fan_in
                key = name.replace(".", "/")
                self.down[key] = nn.Parameter(torch.randn(rank, fan_in) / fan_in**0.5)
                self.up[key] = nn.Parameter(torch.zeros(fan_out, rank))
                self._handles.append(layer.register_forward_hook(self._hook(key)))

    @torch.no_grad()
    def scale(self, share: float) -> None:
        """Make the additions so many times as large."""
        for up in self.up.values():
            up.mul_(share)

    def detach(self) -> None:
        """Take the hooks off the model; the additions never count again."""
        while self._handles:
            self._handles.pop().remove()

    def _hook(self, key: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]:
        def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if not self._active.get():
                return None
            return output + self._delta(key, inputs[0])

        return add

    def _delta(
        self, key: str, x: Float[Tensor, "*batch fan_in"]
    ) -> Float[Tensor, "*batch fan_out"]:
        down, up = self.down[key].to(x.dtype), self.up[key].to(x.dtype)
        return (x @ down.T) @ up.T

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within this block, in this thread, the additions count."""
        token = self._active.set(True)
        try:
            yield
        finally:
            self._active.reset(token)
