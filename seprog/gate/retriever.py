"""Which edits are worth a closer look: nearest keys in the space of a sentence encoder.

A small trained projection on top of the frozen encoder draws a query towards the edits that bear
on it; it starts as the identity, so an untrained retriever is the encoder itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from seprog.text_encoder import TextEncoder


class Retriever(nn.Module):
    """Texts to unit keys.

    Args:
        encoder: The frozen encoder.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self._encoder = [encoder]
        self.query = nn.Linear(encoder.width, encoder.width, bias=False)
        self.edit = nn.Linear(encoder.width, encoder.width, bias=False)
        for layer in (self.query, self.edit):
            nn.init.eye_(layer.weight)

    @staticmethod
    def _unit(x: Tensor) -> Tensor:
        return torch.nn.functional.normalize(x, dim=-1)

    def project_queries(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        """From the encoder's vectors to query keys."""
        return self._unit(self.query(x))

    def project_edits(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        """From the encoder's vectors to edit keys."""
        return self._unit(self.edit(x))

    @torch.no_grad()
    def query_keys(self, texts: Sequence[str]) -> Float[np.ndarray, "n width"]:
        """Keys to search with."""
        return self.project_queries(self._encoded(texts)).cpu().numpy()

    @torch.no_grad()
    def edit_keys(self, statements: Sequence[str]) -> Float[np.ndarray, "n width"]:
        """Keys to be found by."""
        return self.project_edits(self._encoded(statements)).cpu().numpy()

    def _encoded(self, texts: Sequence[str]) -> Float[Tensor, "n width"]:
        encoder = self._encoder[0]
        return torch.from_numpy(encoder.encode(texts)).to(encoder.device)
