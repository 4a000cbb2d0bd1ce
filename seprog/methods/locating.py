"""Locate-then-edit: find the state that makes the model say the new answer, then write it.

All three take the state at the last token of the subject. ROME writes it into one layer, one edit
after another; MEMIT spreads many over several layers at once; AlphaEdit does so where the model's
own texts have nothing to lose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seprog.generator.objective import Batch, divergence
from seprog.lm import CausalLM
from seprog.methods.contract import Request
from seprog.methods.weights import (
    WeightMethod,
    activations,
    blocks,
    changed,
    collate,
    matrix,
    outputs,
    second_moments,
    subject_end,
    target_loss,
)

TOGETHER = 32
"""Requests whose states are found, and read, at a time."""


@dataclass(frozen=True)
class LocatingConfig:
    """How the state is found and written.

    Args:
        layers: Layers that are written to, in order; ROME takes the last of them. Negative ones
            count from the last layer. Empty: the middle one and the two before.
        steps: Steps of Adam that find a state.
        lr: Its learning rate, relative to the size of the state's entries.
        decay: Weight of the state's distance from what it was, relative to its size squared.
        keep: Weight of the divergence on ``"{subject} is a"``.
        largest: How far the state may move, relative to its size.
        prior: Weight of what the layers' own texts have in them (MEMIT's lambda) per edit that is
            written at once; the paper's 15,000, for 10,000 edits, is 1.5.
        ridge: Added to what is inverted, relative to its mean diagonal; for AlphaEdit relative to
            the keys' mean size squared, and what holds the weights where they are.
        null: AlphaEdit: directions of less than this share of the mean variance are free.
    """

    layers: tuple[int, ...] = ()
    steps: int = 25
    lr: float = 0.5
    decay: float = 0.5
    keep: float = 0.0625
    largest: float = 4.0
    prior: float = 1.5
    ridge: float = 1e-4
    null: float = 0.02


class _Locating(WeightMethod):
    """What the three have in common.

    Args:
        lm: The base model.
        texts: What the base model reads; its statistics say what is to stay.
        contexts: Texts that prompts are put behind, so that an edit holds there too.
        config: How.
    """

    lm: CausalLM
    _most: ClassVar[int] = 100
    """Layers that are written to, at most."""

    def __init__(
        self,
        lm: CausalLM,
        texts: Sequence[str],
        contexts: Sequence[str] = (),
        config: LocatingConfig | None = None,
    ) -> None:
        super().__init__(lm)
        self.config = config or LocatingConfig()
        count = len(blocks(lm))
        middle = tuple(max(0, count // 2 - n) for n in (2, 1, 0))
        self._numbers = sorted({n % count for n in self.config.layers or middle})[-self._most :]
        self._layers = [outputs(lm)[n] for n in self._numbers]
        self.contexts = ("", *contexts)
        self._moments = second_moments(lm, self._layers, texts)

    def _placed(self, requests: Sequence[Request]) -> tuple[Batch, Int[Tensor, " rows"]]:
        """Prompts with their answers, each behind every context, and where the subjects end.

        A row per request and context, the contexts of a request one after another.
        """
        batches = [collate(self.lm, [r], context) for r in requests for context in self.contexts]
        time = max(b.ids.shape[1] for b in batches)
        batch = Batch(*(torch.cat([_widened(x, time) for x in part]) for part in _fields(batches)))
        ends = [subject_end(self.lm, r.prompt, r.subject) for r in requests]
        behind = torch.tensor(ends).repeat_interleave(len(self.contexts))
        return batch, time - 1 - behind.to(batch.ids.device) - batch.answer.sum(dim=1)

    def _states(
        self, module: nn.Module, requests: Sequence[Request]
    ) -> tuple[Float[Tensor, "edits width"], Float[Tensor, "edits width"]]:
        """What a module gives at each subject's end, and what it must give for the new answer."""
        parts = [requests[i : i + TOGETHER] for i in range(0, len(requests), TOGETHER)]
        found = [self._some_states(module, part) for part in parts]
        return torch.cat([before for before, _ in found]), torch.cat([after for _, after in found])

    def _some_states(
        self, module: nn.Module, requests: Sequence[Request]
    ) -> tuple[Float[Tensor, "edits width"], Float[Tensor, "edits width"]]:
        """The same, of few requests, each by itself but for being read together."""
        how, lm, contexts = self.config, self.lm, len(self.contexts)
        batch, places = self._placed(requests)
        rows = torch.arange(len(places), device=lm.device)
        owner = rows // contexts
        [found] = activations(lm, [module], batch.ids, batch.mask, "output")
        before = found[rows, places][::contexts].detach().clone()
        texts = [f"{r.subject} is a" for r in requests]
        ids, mask = lm.tokens.pad(lm.tokens.encode(texts, True), lm.device)
        behind = [subject_end(lm, t, r.subject) for t, r in zip(texts, requests, strict=True)]
        ends = ids.shape[1] - 1 - torch.tensor(behind, device=lm.device)
        each = torch.arange(len(requests), device=lm.device)
        with torch.no_grad():
            own = lm.forward(ids, mask)[:, -1]
        size = before.norm(dim=1, keepdim=True)
        unit = size / before.shape[1] ** 0.5
        moves = torch.zeros_like(before, requires_grad=True)  # in units of the state's entries
        optimizer = torch.optim.Adam([moves], lr=how.lr)
        for _ in range(how.steps):
            delta = moves * unit

            def moved(_: Tensor, out: Tensor, delta: Tensor = delta) -> Tensor:
                return out.index_put((rows, places), delta[owner].to(out.dtype), accumulate=True)

            def moved_essence(_: Tensor, out: Tensor, delta: Tensor = delta) -> Tensor:
                return out.index_put((each, ends), delta.to(out.dtype), accumulate=True)

            with changed(module, moved):
                loss = target_loss(lm, batch).sum() / contexts
            with changed(module, moved_essence):
                drift = len(requests) * divergence(own, lm.forward(ids, mask)[:, -1])
            far = (delta.norm(dim=1, keepdim=True) / size**2).sum()
            optimizer.zero_grad()
            (loss + how.keep * drift + how.decay * far).backward()
            optimizer.step()
            with torch.no_grad():
                gone = (moves * unit).norm(dim=1, keepdim=True)
                moves.mul_((how.largest * size / gone.clamp(min=1e-9)).clamp(max=1.0))
        return before, before + moves.detach() * unit

    def _keys(self, requests: Sequence[Request]) -> list[Float[Tensor, "edits in"]]:
        """What goes into each layer at each subject's end, averaged over the contexts."""
        return [
            x.float().unflatten(0, (-1, len(self.contexts))).mean(dim=1)
            for x in self._at_ends(self._layers, requests, "input")
        ]

    def _at_ends(
        self, modules: Sequence[nn.Module], requests: Sequence[Request], of: str
    ) -> list[Float[Tensor, "rows width"]]:
        """What goes into or comes out of modules at the subjects' ends, context by context."""
        found: list[list[Tensor]] = [[] for _ in modules]
        for start in range(0, len(requests), TOGETHER):
            batch, places = self._placed(requests[start : start + TOGETHER])
            rows = torch.arange(len(places), device=places.device)
            for part, states in zip(
                found, activations(self.lm, modules, batch.ids, batch.mask, of), strict=True
            ):
                part.append(states[rows, places])
        return [torch.cat(part) for part in found]

    def _ridged(self, moment: Float[Tensor, "in in"]) -> Float[Tensor, "in in"]:
        eye = torch.eye(len(moment), device=moment.device)
        return moment + self.config.ridge * moment.diagonal().mean() * eye


def _fields(batches: Sequence[Batch]) -> list[list[Tensor]]:
    return [[getattr(b, field.name) for b in batches] for field in fields(Batch)]


def _widened(x: Tensor, time: int) -> Tensor:
    """Padded on the left; the row-wise flags stay."""
    return x if x.ndim == 1 else torch.nn.functional.pad(x, (time - x.shape[1], 0))


class ROME(_Locating):
    """One layer, a change of rank one per edit."""

    name: ClassVar[str] = "rome"
    source: ClassVar[str] = "Meng et al. 2022, Locating and Editing Factual Associations in GPT"

    _most: ClassVar[int] = 1

    def apply(self, requests: Sequence[Request]) -> None:
        """Write one edit after another (section 3.1, equation 2)."""
        [layer], [moment] = self._layers, self._moments
        self.keep([layer.weight])
        for request in requests:
            [before], [wanted] = self._states(layer, [request])
            [[key]] = self._keys([request])
            direction = torch.linalg.solve(self._ridged(moment), key)
            direction = direction / direction.norm()
            [read] = self._at_ends([layer], [request], "input")
            change = (wanted - before).float() / (read[0].float() @ direction)
            with torch.no_grad():
                matrix(layer).add_(torch.outer(change, direction).to(layer.weight.dtype))


class MEMIT(_Locating):
    """Several layers, all edits of a batch at once."""

    name: ClassVar[str] = "memit"
    source: ClassVar[str] = "Meng et al. 2023, Mass-Editing Memory in a Transformer"

    def apply(self, requests: Sequence[Request]) -> None:
        """Spread what is missing at the last layer over the layers (section 4.3, equation 14)."""
        if not requests:
            return
        self.keep(layer.weight for layer in self._layers)
        last = blocks(self.lm)[self._numbers[-1]]
        wanted = self._states(last, requests)[1].float()
        for i, layer in enumerate(self._layers):
            keys = self._keys(requests)[i].T
            missing = (wanted - self._now(last, requests)) / (len(self._layers) - i)
            with torch.no_grad():
                matrix(layer).add_(self._change(i, keys, missing.T).to(layer.weight.dtype))
        self._wrote(requests)

    def _now(self, block: nn.Module, requests: Sequence[Request]) -> Float[Tensor, "edits width"]:
        """What a block gives at the end of each subject."""
        [states] = self._at_ends([block], requests, "output")
        return states[:: len(self.contexts)].float()

    def _change(
        self, i: int, keys: Float[Tensor, "in edits"], missing: Float[Tensor, "width edits"]
    ) -> Float[Tensor, "width in"]:
        known = self.config.prior * keys.shape[1] * self._ridged(self._moments[i])
        return missing @ torch.linalg.solve(known + keys @ keys.T, keys).T

    def _wrote(self, requests: Sequence[Request]) -> None:
        """Called when a batch is in the weights."""


class AlphaEdit(MEMIT):
    """MEMIT in the directions that the model's own texts leave free."""

    name: ClassVar[str] = "alphaedit"
    source: ClassVar[str] = "Fang et al. 2025, AlphaEdit: Null-Space Constrained Editing"

    @cached_property
    def _free(self) -> list[Float[Tensor, "in in"]]:
        return [self._null_space(moment) for moment in self._moments]

    @cached_property
    def _seen(self) -> list[Float[Tensor, "in in"]]:
        """Sums of ``k k^T`` over the keys that were written."""
        return [torch.zeros_like(moment) for moment in self._moments]

    def _null_space(self, moment: Float[Tensor, "in in"]) -> Float[Tensor, "in in"]:
        """Projection onto the directions that hardly vary (section 3.2)."""
        values, vectors = torch.linalg.eigh(moment)
        free = vectors[:, values < self.config.null * values.mean()]
        return free @ free.T

    def _change(
        self, i: int, keys: Float[Tensor, "in edits"], missing: Float[Tensor, "width edits"]
    ) -> Float[Tensor, "width in"]:
        free, eye = self._free[i], torch.eye(len(keys), device=keys.device)
        known = free @ (keys @ keys.T + self._seen[i])
        scale = self.config.ridge * keys.square().sum() / keys.shape[1]
        return torch.linalg.solve(known + scale * eye, free @ keys @ missing.T).T

    def _wrote(self, requests: Sequence[Request]) -> None:
        for seen, keys in zip(self._seen, self._keys(requests), strict=True):
            seen += keys.T @ keys

    def revert(self) -> None:
        """Put the weights back, and forget which keys were written."""
        super().revert()
        for seen in self._seen:
            seen.zero_()

    def bytes_kept(self) -> int:
        """The weights that differ, and what is known of the keys written before."""
        return super().bytes_kept() + sum(s.numel() * s.element_size() for s in self._seen)
