"""Pairwise scorer: does this edit bear on this query, and is it about the very same question?

A cross-encoder: the frozen sentence encoder with a small LoRA reads query and edit together; two
logits come out. Words that stand in both texts are marked, so that it need not learn to compare
names that it has never seen (after Boualili et al. 2020, MarkedBERT). It sees text only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import BatchEncoding

from seprog.batching import batches
from seprog.lora import Lora
from seprog.text_encoder import TextEncoder

_found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
QUICK = bool(_found.get("avx512_bf16"))
"""Whether this CPU has instructions for bfloat16; without them it is far slower than float32."""
CLEAR = 0.02
"""Probabilities so near to 0 or 1 stay there, however they are rounded."""


def shared_words(tokens: BatchEncoding) -> Float[Tensor, "pairs length"]:
    """1 at the tokens of words that both texts of a pair hold, else 0."""
    length = tokens["attention_mask"].shape[1]
    encodings = tokens.encodings or []
    marks = torch.zeros(len(encodings), length)
    for row, encoding in enumerate(encodings):
        places = list(zip(encoding.sequence_ids, encoding.word_ids, strict=True))
        spelt: dict[tuple[int | None, int | None], tuple[int, ...]] = {}
        for place, piece in zip(places, encoding.ids, strict=True):
            if None not in place:
                spelt[place] = (*spelt.get(place, ()), piece)
        first, second = ({s for (text, _), s in spelt.items() if text == n} for n in (0, 1))
        both = first & second
        marks[row] = torch.tensor([float(spelt.get(place) in both) for place in places])
    return marks


class PairScorer(nn.Module):
    """Texts ``(query, edit)`` to two logits: *in scope*, and *same question*.

    Args:
        encoder: The frozen encoder; shared with the retriever.
        rank: Rank of the LoRA.
    """

    def __init__(self, encoder: TextEncoder, rank: int = 8) -> None:
        super().__init__()
        self._encoder = [encoder]  # in a list: not a submodule, its weights are not ours
        self.shared = nn.Parameter(torch.zeros(encoder.width))
        self.lora = Lora(encoder.model, rank, lambda name: "encoder.layer" in name)
        self.head = nn.Sequential(nn.Linear(2 * encoder.width, 128), nn.GELU(), nn.Linear(128, 2))

    def forward(self, queries: Sequence[str], edits: Sequence[str]) -> Float[Tensor, "pairs 2"]:
        """Logits of pairs; both sequences have the same length."""
        encoder = self._encoder[0]
        tokens = encoder.tokens(queries, edits)
        words = encoder.model.get_input_embeddings()(tokens.pop("input_ids"))
        marks = shared_words(tokens).to(words.device)[:, :, None]
        words = words + marks * self.shared  # (pairs, length, width)
        with self.lora.active():
            states = encoder.model(inputs_embeds=words, **tokens).last_hidden_state
        weights = tokens["attention_mask"][:, :, None].to(states.dtype)
        mean = (states * weights).sum(1) / weights.sum(1)
        return self.head(torch.cat([states[:, 0], mean], dim=-1))

    def probabilities(
        self, queries: Sequence[str], edits: Sequence[str], batch: int = 32
    ) -> Float[Tensor, "pairs 2"]:
        """Probabilities of *in scope* and *same question*, in the order given.

        Where the CPU multiplies bfloat16, all pairs are read in it first, at three times the
        speed; those that are not clear then are read again in float32, so that what is decided
        does not depend on the machine, nor on what else is in the batch.
        """
        if not QUICK or self._encoder[0].device.type != "cpu":
            return self._read(queries, edits, batch)
        with torch.autocast("cpu", torch.bfloat16):
            found = self._read(queries, edits, batch)
        unclear = ((found > CLEAR) & (found < 1 - CLEAR)).any(dim=1).nonzero()[:, 0].tolist()
        if unclear:
            again = [queries[i] for i in unclear], [edits[i] for i in unclear]
            found[unclear] = self._read(*again, batch)
        return found

    @torch.no_grad()
    def _read(
        self, queries: Sequence[str], edits: Sequence[str], batch: int
    ) -> Float[Tensor, "pairs 2"]:
        result = torch.zeros(len(queries), 2)
        sizes = [len(q) + len(e) for q, e in zip(queries, edits, strict=True)]
        for part in batches(sizes, batch):
            logits = self([queries[i] for i in part], [edits[i] for i in part])
            result[part] = torch.sigmoid(logits.float()).cpu()
        return result
