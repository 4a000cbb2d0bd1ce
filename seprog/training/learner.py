"""What a training loop moves, a module by its optimizers, and how it goes on after a stop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seprog.training.checkpoint import load_checkpoint, require_same, save_checkpoint

LARGEST_GRADIENT = 1.0
"""Norm that gradients are clipped to."""


class Resumed(NamedTuple):
    """Where a run goes on.

    Args:
        step: Steps taken before; 0 at the beginning.
        tensors: What was saved beside the module and its optimizers, by name.
        state: What was saved beside the tensors, by name.
    """

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Learner:
    """A module, its optimizers, and their checkpoint.

    Args:
        module: What is trained; put into training mode by who needs that.
        checkpoint: Folder of the checkpoint.
        **optimizers: Of the module's parameters, by name; a parameter belongs to one of them.
    """

    def __init__(
        self, module: nn.Module, checkpoint: Path, **optimizers: torch.optim.Optimizer
    ) -> None:
        self.module, self.checkpoint, self.optimizers = module, checkpoint, optimizers

    def resume(self, same: Mapping[str, Any]) -> Resumed:
        """Take over what a stopped run saved, if there is one.

        Args:
            same: What must not have changed since, by the name it was saved under.

        Raises:
            InputError: If it has.
        """
        saved = load_checkpoint(self.checkpoint)
        if saved is None:
            return Resumed(0, {}, {})
        tensors, state = saved
        require_same(self.checkpoint, state, same)
        self.module.load_state_dict(under("model/", tensors))
        for name, optimizer in self.optimizers.items():
            restore_optimizer(name, optimizer, tensors)
        return Resumed(int(state["step"]), tensors, state)

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Write a checkpoint, with more tensors and more state beside the learner's own."""
        whole = {f"model/{k}": v for k, v in self.module.state_dict().items()} | dict(tensors)
        for name, optimizer in self.optimizers.items():
            whole |= optimizer_tensors(name, optimizer)
        save_checkpoint(self.checkpoint, whole, {**state, "step": step})

    def step(self, loss: Tensor, lr: float) -> None:
        """One step of every optimizer down the gradient of a loss, at a learning rate."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), LARGEST_GRADIENT)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad()


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def optimizer_tensors(name: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as named tensors."""
    found = {}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            found[f"{name}/{index}/{key}"] = torch.as_tensor(value)
    return found


def restore_optimizer(
    name: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """The reverse of ``optimizer_tensors``."""
    whole = optimizer.state_dict()
    whole["state"] = {}
    for key, value in under(f"{name}/", tensors).items():
        index, _, field = key.partition("/")
        whole["state"].setdefault(int(index), {})[field] = value
    optimizer.load_state_dict(whole)
