"""Pairwise scorer: does this edit bear on this query, and is it about the very same question?

A cross-encoder: the frozen sentence encoder with a small LoRA reads query and edit together; two
logits come out. It sees text only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seprog.lora import Lora
from seprog.text_encoder import TextEncoder


class PairScorer(nn.Module):
    """Texts ``(query, edit)`` to two logits: *in scope*, and *same question*.

    Args:
        encoder: The frozen encoder; shared with the retriever.
        rank: Rank of the LoRA.
    """

    def __init__(self, encoder: TextEncoder, rank: int = 8) -> None:
        super().__init__()
        self._encoder = [encoder]  # in a list: not a submodule, its weights are not ours
        self.lora = Lora(encoder.model, rank, lambda name: "encoder.layer" in name)
        self.head = nn.Sequential(nn.Linear(2 * encoder.width, 128), nn.GELU(), nn.Linear(128, 2))

    def forward(self, queries: Sequence[str], edits: Sequence[str]) -> Float[Tensor, "pairs 2"]:
        """Logits of pairs; both sequences have the same length."""
        encoder = self._encoder[0]
        tokens = encoder.tokens(queries, edits)
        with self.lora.active():
            states = encoder.model(**tokens).last_hidden_state  # (pairs, length, width)
        weights = tokens["attention_mask"][:, :, None].to(states.dtype)
        mean = (states * weights).sum(1) / weights.sum(1)
        return self.head(torch.cat([states[:, 0], mean], dim=-1))

    @torch.no_grad()
    def probabilities(
        self, queries: Sequence[str], edits: Sequence[str], batch: int = 32
    ) -> Float[Tensor, "pairs 2"]:
        """Probabilities of *in scope* and *same question*, in the order given."""
        result = torch.zeros(len(queries), 2)
        order = sorted(range(len(queries)), key=lambda i: len(queries[i]) + len(edits[i]))
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            logits = self([queries[i] for i in part], [edits[i] for i in part])
            result[part] = torch.sigmoid(logits.float())
        return result
