"""GRACE: a codebook at one layer; near a key, its value stands in for what the layer gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from seprog.generator.objective import Asked, Continuation, objective_for
from seprog.lm import CausalLM, EncoderModel, LanguageModel
from seprog.methods.contract import ANY, LONGEST_ANSWER, Chosen, MemoryMethod, Request, missing
from seprog.methods.weights import activations, changed, outputs
from seprog.types import Example


@dataclass
class Entry:
    """One place of the codebook.

    Args:
        key: What goes into the layer at the token that the answer is read from.
        value: What is to come out of it.
        radius: How far around the key it holds.
        requests: The edits that rest on it, the one that it came from first; all have one target.
    """

    key: Float[Tensor, " in"]
    value: Float[Tensor, " out"]
    radius: float
    requests: list[Request]


@dataclass(frozen=True)
class GraceConfig:
    """How values are found.

    Args:
        layer: Which feed-forward output; negative ones count from the last. ``None``: the middle.
        radius: Of a new entry.
        steps: Steps of Adam that find a value, at most.
        lr: Its learning rate, relative to the size of the value's entries.
        enough: Mean loss of the answer at which to stop.
    """

    layer: int | None = None
    radius: float = 1.0
    steps: int = 50
    lr: float = 0.5
    enough: float = 0.01


class GRACE(MemoryMethod[Entry]):
    """The weights stay; what the codebook does not cover is answered as before.

    The value stands in at the prompt's last token and at every token written after it; in a
    decoder that looks at an encoder at all of its tokens; in an encoder alone at its first token,
    from which a label is read.

    Args:
        lm: The base model.
        config: How.
    """

    name: ClassVar[str] = "grace"
    source: ClassVar[str] = "Hartvigsen et al. 2023, Aging with GRACE"
    kinds: ClassVar[tuple[type[LanguageModel], ...]] = ANY

    def __init__(self, lm: LanguageModel, config: GraceConfig | None = None) -> None:
        super().__init__(lm)
        self.config = config or GraceConfig()
        layers, layer = outputs(lm), self.config.layer
        self._layer = layers[len(layers) // 2 if layer is None else layer]
        self._place = 0 if isinstance(lm, EncoderModel) else -1
        self.codebook: list[Entry] = []

    def apply(self, requests: Sequence[Request]) -> None:
        """Add an entry each, or widen or split the one that it falls into (algorithm 1)."""
        for request in requests:
            self._add(request)

    def _add(self, request: Request) -> None:
        [key] = self._keys([request.prompt])
        near = min(self.codebook, key=lambda e: _distance(e, key), default=None)
        radius = self.config.radius
        if near is not None and (gap := _distance(near, key)) < near.radius + radius:
            if near.requests[0].target == request.target:
                near.radius = max(near.radius, gap)
                near.requests.append(request)
                return
            near.radius = radius = gap / 2
        self.codebook.append(Entry(key, self._value(request), radius, [request]))

    def _keys(self, prompts: Sequence[str]) -> Float[Tensor, "prompts in"]:
        return self._states(prompts, "input").float()

    def _states(self, prompts: Sequence[str], of: str) -> Float[Tensor, "prompts width"]:
        """What goes into the layer, or comes out of it, where the answer is read from."""
        lm = self.lm
        ids, mask = lm.tokens.pad(lm.tokens.encode(prompts, True), lm.device)
        [states] = activations(lm, [self._layer], ids, mask, of)
        return states[:, self._place]

    def _value(self, request: Request) -> Float[Tensor, " out"]:
        [before] = self._states([request.prompt], "output")
        value = before.detach().clone().requires_grad_(True)
        size = value.detach().norm().item() / len(value) ** 0.5
        optimizer = torch.optim.Adam([value], lr=self.config.lr * size)
        wanted = [Example((), request.prompt, request.target)]
        put = self._standing_in(value[None], wanted)
        for _ in range(self.config.steps):
            with changed(self._layer, put):
                loss = objective_for(self.lm).ask(None, wanted).losses().mean()
            if loss.item() < self.config.enough:
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return value.detach()

    def revert(self) -> None:
        """Empty the codebook."""
        self.codebook.clear()

    def forget(self, request: Request) -> None:
        """Take the edit's entry out, once no other edit rests on it."""
        entry = next((e for e in self.codebook if request in e.requests), None)
        if entry is None:
            raise missing(request)
        entry.requests.remove(request)
        if not entry.requests:
            self.codebook[:] = [e for e in self.codebook if e is not entry]

    def bytes_kept(self) -> int:
        """Keys, values and radii."""
        return sum(4 * (e.key.numel() + e.value.numel() + 1) for e in self.codebook)

    def chosen(self, prompts: Sequence[str]) -> list[Entry | None]:
        """Per prompt, the entry whose radius its key falls into."""
        found: list[Entry | None] = []
        for key in self._keys(prompts):
            near = min(self.codebook, key=lambda e: _distance(e, key), default=None)
            fits = near is not None and _distance(near, key) <= near.radius
            found.append(near if fits else None)
        return found

    def answer_with(self, prompts: Sequence[str], entries: Sequence[Entry]) -> list[str]:
        """With the entries' values in force."""
        values = torch.stack([e.value for e in entries])

        def put(_: Tensor, out: Tensor) -> Tensor:
            found = out.clone()
            found[:, self._place] = values.to(out.dtype)
            return found

        with changed(self._layer, put):
            return self.lm.reply(prompts, max_new_tokens=LONGEST_ANSWER)

    def ask_with(self, examples: Sequence[Example], entries: Sequence[Entry]) -> Asked:
        """With the entries' values in force."""
        values = torch.stack([e.value for e in entries])
        with changed(self._layer, self._standing_in(values, examples)):
            return objective_for(self.lm).ask(None, examples)

    def _standing_in(
        self, values: Float[Tensor, "rows out"], examples: Sequence[Example]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """What the layer gives for examples with their answers, a value standing in for each."""
        lm, rows = self.lm, values[:, None]
        covered = torch.ones(1, 1, dtype=torch.bool, device=lm.device)
        if isinstance(lm, CausalLM):  # what predicts an answer's token; the last predicts nothing
            answer = Continuation(lm).collate(examples).answer[:, 1:]
            covered = torch.nn.functional.pad(answer, (0, 1), value=True)

        def put(_: Tensor, out: Tensor) -> Tensor:
            if isinstance(lm, EncoderModel):
                return torch.cat([rows.to(out.dtype), out[:, 1:]], dim=1)
            return torch.where(covered[:, :, None], rows.to(out.dtype), out)

        return put

    def statements(self, entry: Entry | None) -> tuple[str, ...]:
        """Those of the edits that the entry was made for."""
        return tuple(r.statement for r in entry.requests) if entry else ()

    @torch.no_grad()
    def logits(self, prompts: Sequence[str], chosen: Chosen = None) -> Float[Tensor, "batch ..."]:
        """Rows near a key with its value, the others untouched."""
        entries = self.chosen(prompts) if chosen is None else chosen

        def put(_: Tensor, out: Tensor) -> Tensor:
            found = out.clone()
            for row, entry in enumerate(entries):
                if entry is not None:
                    found[row, self._place] = entry.value.to(out.dtype)
            return found

        with changed(self._layer, put):
            return super().logits(prompts)


def _distance(entry: Entry, key: Float[Tensor, " in"]) -> float:
    return float((entry.key - key).norm())
