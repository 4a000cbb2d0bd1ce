"""RECIPE: a sentence encoder turns the nearest edit into soft tokens in front of the query.

Whether any edit is near enough is decided by a learned sentinel: an edit applies if the query is
nearer to it than to the sentinel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seprog.generator.objective import Asked, Continuation, divergence
from seprog.lm import CausalLM
from seprog.methods.contract import LONGEST_ANSWER, Chosen, MemoryMethod, Request, missing
from seprog.text_encoder import TextEncoder
from seprog.training.learner import Learner
from seprog.training.run import Run, trapezoid
from seprog.types import Example

TEMPERATURE = 0.05


@dataclass(frozen=True)
class RecipeTraining:
    """How it is trained.

    Args:
        tokens: Soft tokens per edit.
        steps: Optimizer steps.
        batch: Examples per step.
        lr: Peak learning rate.
        seed: Of the initial weights.
    """

    tokens: int = 3
    steps: int = 1000
    batch: int = 32
    lr: float = 1e-3
    seed: int = 0


class RecipeNet(nn.Module):
    """What is learnt (section 3.2 and 3.3 of the paper).

    Args:
        width: Of the sentence encoder's vectors.
        hidden: Of the base model's embeddings.
        tokens: Soft tokens per edit.
    """

    def __init__(self, width: int, hidden: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens

        def two_layers(out: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, out))

        self.edit_key, self.query_key = two_layers(width), two_layers(width)
        self.soft = two_layers(tokens * hidden)
        self.sentinel = nn.Parameter(torch.randn(width) / width**0.5)

    def prompts(self, edits: Float[Tensor, "n width"]) -> Float[Tensor, "n tokens hidden"]:
        """Soft tokens."""
        return self.soft(edits).unflatten(1, (self.tokens, -1))

    def nearness(
        self, queries: Float[Tensor, "q width"], edits: Float[Tensor, "e width"]
    ) -> Float[Tensor, "q candidates"]:
        """Cosine of each query to each edit and, last, to the sentinel."""
        keys = torch.cat([self.edit_key(edits), self.sentinel[None]])
        normal = torch.nn.functional.normalize
        return normal(self.query_key(queries), dim=-1) @ normal(keys, dim=-1).T


def embedded(
    lm: CausalLM, soft: Float[Tensor, "n tokens hidden"], ids: Tensor, mask: Tensor
) -> tuple[Float[Tensor, "n time hidden"], Tensor]:
    """Soft tokens right before each row's text, padded on the left, and the mask."""
    words = lm.model.get_input_embeddings()(ids)
    count = soft.shape[1]
    whole = torch.cat([torch.zeros_like(soft), words], dim=1)
    longer = torch.cat([torch.zeros_like(mask[:, :1]).expand(-1, count), mask], dim=1)
    first = longer.shape[1] - mask.sum(dim=1) - count
    places = first[:, None] + torch.arange(count, device=ids.device)
    rows = torch.arange(len(ids), device=ids.device)[:, None]
    whole = whole.index_put((rows, places), soft.to(whole.dtype))
    longer = longer.index_put((rows, places), torch.ones_like(places, dtype=mask.dtype))
    return whole, longer


def train_recipe(
    lm: CausalLM,
    encoder: TextEncoder,
    examples: Callable[[int], Iterator[Example]],
    folder: Path,
    config: RecipeTraining,
) -> RecipeNet:
    """Train, or go on with a run that was stopped.

    Args:
        lm: The base model.
        encoder: The frozen sentence encoder.
        examples: A seed to examples with one edit each and an answer, without end; ``keep`` where
            it must stay.
        folder: For the result, its checkpoint and its log.
        config: How.
    """
    torch.manual_seed(config.seed)
    net = RecipeNet(encoder.width, lm.model.config.hidden_size, config.tokens).to(lm.device)
    run = Run(folder, "recipe", config.steps)
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr)
    learner = Learner(net, run.checkpoint, adamw=optimizer)
    start = learner.resume({"tokens": config.tokens}).step
    drawn = examples(config.seed + start)
    for step in run.each_step(start, lambda n: learner.save(n, {}, asdict(config))):
        part = list(islice(drawn, config.batch))
        losses = recipe_losses(lm, encoder, net, part)
        lr = config.lr * trapezoid(step, config.steps, 50, 0.5)
        learner.step(torch.stack(list(losses.values())).sum(), lr)
        if step % 25 == 0:
            run.report(step, **{k: v.item() for k, v in losses.items()})
    save_file(net.state_dict(), folder / "recipe.safetensors")
    return net


def recipe_losses(
    lm: CausalLM, encoder: TextEncoder, net: RecipeNet, part: Sequence[Example]
) -> dict[str, Tensor]:
    """Answers to learn, answers to keep, and which edit or sentinel each query is nearest to."""
    texts = list(dict.fromkeys(e.edits[0] for e in part))
    own = torch.tensor([texts.index(e.edits[0]) for e in part])
    edits = torch.from_numpy(encoder.encode(texts)).to(lm.device)
    queries = torch.from_numpy(encoder.encode([e.prompt for e in part])).to(lm.device)
    batch = Continuation(lm).collate(part)
    count = net.tokens
    whole, mask = embedded(lm, net.prompts(edits)[own], batch.ids, batch.mask)
    logits = lm.forward(None, mask, inputs_embeds=whole)[:, count:-1].float()
    answer, wanted = batch.answer[:, 1:], batch.ids[:, 1:]
    learn, keep = answer & ~batch.keep[:, None], answer & batch.keep[:, None]
    found: dict[str, Tensor] = {}
    if learn.any():
        found["learn"] = torch.nn.functional.cross_entropy(logits[learn], wanted[learn])
    if keep.any():
        with torch.no_grad():
            base = lm.forward(batch.ids, batch.mask)[:, :-1]
        found["keep"] = divergence(base[keep], logits[keep])
    target = torch.where(batch.keep.cpu(), len(texts), own).to(lm.device)
    near = net.nearness(queries, edits) / TEMPERATURE
    found["near"] = torch.nn.functional.cross_entropy(near, target)
    return found


class RECIPE(MemoryMethod[int]):
    """Edits as soft tokens.

    Args:
        lm: The base model.
        encoder: The frozen sentence encoder.
        net: Trained for both.
        margin: How much nearer than the sentinel an edit must be (-2 to 2).
    """

    lm: CausalLM
    name: ClassVar[str] = "recipe"
    source: ClassVar[str] = (
        "Chen et al. 2024, Lifelong Knowledge Editing for LLMs with Retrieval-Augmented "
        "Continuous Prompt Learning"
    )

    def __init__(
        self, lm: CausalLM, encoder: TextEncoder, net: RecipeNet, margin: float = 0.0
    ) -> None:
        super().__init__(lm)
        self.encoder, self.net, self.margin = encoder, net.requires_grad_(False), margin
        self._requests: list[Request] = []
        self._vectors = np.zeros((0, encoder.width), np.float32)

    @classmethod
    def load(cls, lm: CausalLM, encoder: TextEncoder, folder: Path, margin: float = 0.0) -> RECIPE:
        """With what ``train_recipe`` left in a folder."""
        state = load_file(folder / "recipe.safetensors")
        hidden = lm.model.config.hidden_size
        tokens = len(state["soft.2.bias"]) // hidden
        net = RecipeNet(encoder.width, hidden, tokens)
        net.load_state_dict(state)
        return cls(lm, encoder, net, margin)

    def apply(self, requests: Sequence[Request]) -> None:
        """Encode the edits."""
        if requests:
            fresh = self.encoder.encode([r.statement for r in requests])
            self._vectors = np.concatenate([self._vectors, fresh])
            self._requests += requests

    def revert(self) -> None:
        """Drop the edits."""
        self._requests.clear()
        self._vectors = self._vectors[:0]

    def forget(self, request: Request) -> None:
        """Drop one edit."""
        if request not in self._requests:
            raise missing(request)
        place = self._requests.index(request)
        del self._requests[place]
        self._vectors = np.delete(self._vectors, place, axis=0)

    def bytes_kept(self) -> int:
        """A vector per edit: keys and soft tokens are made from it."""
        return self._vectors.nbytes

    def chosen(self, prompts: Sequence[str]) -> list[int | None]:
        """Per prompt, the edit that applies."""
        if not self._requests:
            return [None] * len(prompts)
        queries = torch.from_numpy(self.encoder.encode(prompts)).to(self.lm.device)
        near = self.net.nearness(queries, torch.from_numpy(self._vectors).to(self.lm.device))
        best, place = near[:, :-1].max(dim=1)
        fits = best > near[:, -1] + self.margin
        return [p if f else None for p, f in zip(place.tolist(), fits.tolist(), strict=True)]

    @torch.no_grad()
    def answer_with(self, prompts: Sequence[str], entries: Sequence[int]) -> list[str]:
        """Behind the soft tokens of the edits."""
        whole, mask = self._read(prompts, entries)
        out = self.lm.model.generate(
            inputs_embeds=whole,
            attention_mask=mask,
            max_new_tokens=LONGEST_ANSWER,
            do_sample=False,
            pad_token_id=self.lm.tokens.pad_id,
        )
        return [self.lm.tokens.decode(ids) for ids in out.tolist()]

    def ask_with(self, examples: Sequence[Example], entries: Sequence[int]) -> Asked:
        """Behind the soft tokens of the edits."""
        batch = Continuation(self.lm).collate(examples)
        whole, mask = embedded(self.lm, self._soft(entries), batch.ids, batch.mask)
        return Asked(
            self.lm.forward(None, mask, inputs_embeds=whole)[:, self.net.tokens : -1],
            batch.ids[:, 1:],
            batch.answer[:, 1:],
            batch.own[:, 1:],
            lambda rows: self.lm.forward(batch.ids[rows], batch.mask[rows])[:, :-1],
        )

    def _read(self, prompts: Sequence[str], entries: Sequence[int]) -> tuple[Tensor, Tensor]:
        ids, mask = self.lm.tokens.pad(self.lm.tokens.encode(prompts, True), self.lm.device)
        return embedded(self.lm, self._soft(entries), ids, mask)

    def _soft(self, entries: Sequence[int]) -> Float[Tensor, "rows tokens width"]:
        vectors = torch.from_numpy(self._vectors[list(entries)])
        return self.net.prompts(vectors.to(self.lm.device))

    def statements(self, entry: int | None) -> tuple[str, ...]:
        """That of the edit that applies."""
        return () if entry is None else (self._requests[entry].statement,)

    @torch.no_grad()
    def logits(
        self, prompts: Sequence[str], chosen: Chosen = None
    ) -> Float[Tensor, "batch time vocab"]:
        """Rows that an edit applies to behind its soft tokens, the others untouched."""
        found = super().logits(prompts)
        for i, c in enumerate(self.chosen(prompts) if chosen is None else chosen):
            if c is not None:
                whole, mask = self._read([prompts[i]], [c])
                own = self.lm.forward(None, mask, inputs_embeds=whole)[0, self.net.tokens :]
                found[i, found.shape[1] - len(own) :] = own
        return found
