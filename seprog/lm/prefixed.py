"""What every base model has in common: attention sites, positions, and capturing prefixes.

Where a prefix stands: the text that a prefix was captured from stands right before the query,
whose own positions start where they always do.

- Rotary models: the captured text ends at position -1, so several edits share the same slots and
  their order makes no difference.
- Models that add an absolute position to the embeddings have no position -1: text is captured
  from the first position on, and the positions of the rows that have a prefix, of those alone,
  are moved up by its length (``shift``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from seprog.errors import InputError
from seprog.fingerprint import fingerprint
from seprog.lm.attach import Positions, Reading, attach
from seprog.lm.injection import capture, inject
from seprog.lm.positions import from_zero, shifts, up_to_minus_one
from seprog.lm.tokens import Tokens
from seprog.types import Prefix, PrefixBatch, PrefixSpec

Ids = Int[Tensor, "batch time"]
Adapter = TypeVar("Adapter", bound="Prefixed")


class Prefixed:
    """Base of the adapters; not used by itself.

    The model is put into evaluation mode, its parameters stop requiring gradients, and its
    attention function is exchanged for one that does the same until a prefix is injected.

    Args:
        model: A transformers model of the adapter's kind, loaded with sdpa or eager attention.
        tokenizer: Its tokenizer; never changed.

    Raises:
        ModelError: The model has no place for a prefix. It is left as it was.
    """

    reading: Reading
    """How models of this kind read."""

    _load: Callable[[str, str | torch.dtype, str | None], tuple[Any, Any]]

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        model.eval()
        attached = attach(model, self.reading)
        model.requires_grad_(False)
        self.model, self.tokenizer = model, tokenizer
        self.tokens = Tokens(tokenizer, whole=self.reading != "left to right")
        self.positions: Positions = attached.positions
        self._sites, self._first, self._parts = attached.sites, attached.first, attached.parts
        self._fingerprint: str | None = None

    @classmethod
    def from_pretrained(
        cls: type[Adapter],
        path: str,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device = "cpu",
        attn_implementation: str | None = None,
    ) -> Adapter:
        """Load a model and its tokenizer from a folder or from the Hugging Face Hub.

        Args:
            path: A folder (nothing is downloaded then) or the id of a model on the Hub.
            dtype: Type of the weights; ``"auto"`` keeps the type they were saved in.
            device: Where the model runs.
            attn_implementation: ``"sdpa"`` or ``"eager"``. ``None``: what transformers prefers.

        Raises:
            ModelError: Nothing is there, it is not of the adapter's kind, its weights are not in
                safetensors files, or it has no place for a prefix.
        """
        model, tokenizer = cls._load(path, dtype, attn_implementation)
        return cls(model.to(device), tokenizer)

    @property
    def spec(self) -> PrefixSpec:
        """What a prefix for this model looks like."""
        return self._sites.spec

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.model.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.model.get_input_embeddings().weight.dtype

    @property
    def n_positions(self) -> int | None:
        """Longest text in tokens, or ``None`` if the model sets no limit."""
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return None if limit is None else limit - self._first

    @property
    def fingerprint(self) -> str:
        """Says whether two models are the same: hash of shape and (sampled) weights."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.model)
        return self._fingerprint

    # --- capture ----------------------------------------------------------------------------

    def capture(
        self,
        input_ids: Ids | None = None,
        inputs_embeds: Float[Tensor, "batch time hidden"] | None = None,
        attention_mask: Shaped[Tensor, "batch time"] | None = None,
        keep: Bool[Tensor, "batch time"] | None = None,
    ) -> PrefixBatch:
        """Keys and values of a text's tokens at every attention site, as prefixes.

        Injecting them in front of a query does what the text in front of the query does, if all
        its tokens are kept (and, where the model reads in both directions, do not see the query).
        Differentiable, unless gradients are switched off.

        Args:
            input_ids: ``(batch, time)``; this or ``inputs_embeds``.
            inputs_embeds: ``(batch, time, hidden)``.
            attention_mask: ``(batch, time)``, true where a token is real; padded on the left or
                on the right. ``None``: all are.
            keep: ``(batch, time)``, the positions to keep. ``None``: all real ones.

        Returns:
            Prefixes for all rows; rows with fewer kept positions are padded on the left.
        """
        given = self._given(input_ids, inputs_embeds)
        shape = given.shape[:2]
        self._check_length(shape[1])
        if keep is None:
            every = torch.ones(shape, dtype=torch.bool, device=self.device)
            keep = every if attention_mask is None else attention_mask.bool()
        name = "inputs_embeds" if input_ids is None else "input_ids"
        inputs: dict[str, Any] = {name: given}
        inputs |= self._reading_inputs(inputs, attention_mask)
        with inject(self._sites, None, shape[0]), capture(self._sites, keep) as captured:
            self.model.base_model(attention_mask=attention_mask, **inputs)
        return captured.prefixes()

    @torch.no_grad()
    def capture_text(self, texts: Sequence[str], bos: bool = True) -> list[Prefix]:
        """The verbatim prefix of each text: its tokens as the model itself reads them.

        A BOS that the tokenizer gives a text is captured with it. A query for which such a
        prefix is injected continues that text, so pass ``bos=False`` for it (``generate``,
        ``stream``, ``score``); then text and query make up one context with a single BOS.
        """
        ids, mask = self.tokens.pad(self.tokens.encode(texts, bos), self.device)
        batch = self.capture(ids, attention_mask=mask)
        return [
            Prefix(
                tuple(x[row, :, x.shape[2] - n :].clone() for x in batch.keys),
                tuple(x[row, :, x.shape[2] - n :].clone() for x in batch.values),
            )
            for row, n in enumerate(mask.sum(dim=1).tolist())
        ]

    def _reading_inputs(
        self, inputs: dict[str, Any], mask: Shaped[Tensor, "batch time"] | None
    ) -> dict[str, Any]:
        """What the model is given beside a text that it only reads."""
        time = next(iter(inputs.values())).shape[1]
        learned = self.positions == "learned"
        places = self._places(time, mask) if learned else up_to_minus_one(time, mask, self.device)
        return {"position_ids": places}

    # --- positions and checks -----------------------------------------------------------------

    def _places(
        self, time: int, mask: Shaped[Tensor, "batch time"] | None
    ) -> Int[Tensor, "rows time"]:
        """Position ids of texts; ``rows`` is 1 without a mask."""
        return from_zero(time, mask, self.device) + self._first

    def _shift(
        self, batch: int, prefixes: PrefixBatch | None, shift: int | Tensor | None
    ) -> Int[Tensor, " batch"] | None:
        """How far the positions of each row move up; ``None``: no row's do."""
        if prefixes is None or self.positions != "learned":
            return None
        return shifts(batch, prefixes, shift).to(self.device)

    @staticmethod
    def _given(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """Token ids or, without them, embeddings; one of the two must be there."""
        given = inputs_embeds if input_ids is None else input_ids
        if given is None:
            raise InputError("Neither token ids nor embeddings came", "one of the two")
        return given

    def _stack(self, prefixes: Sequence[Prefix | None] | None, batch: int) -> PrefixBatch | None:
        if prefixes is not None and len(prefixes) != batch:
            raise InputError(f"{len(prefixes)} prefixes came for {batch} texts", "one per text")
        return None if prefixes is None else PrefixBatch.stack(prefixes)

    def _move(
        self, places: Int[Tensor, "rows time"], moved: Int[Tensor, " batch"]
    ) -> Int[Tensor, "batch time"]:
        """Position ids moved up; padding, of which nothing is read, stays among those there are."""
        up = places + moved[:, None]
        limit = self.n_positions
        return up if limit is None else up.clamp_max(limit - 1 + self._first)

    def _check_length(
        self,
        time: int,
        new: int = 0,
        moved: Int[Tensor, " batch"] | None = None,
        mask: Shaped[Tensor, "batch time"] | None = None,
    ) -> None:
        """Refuse texts of which one does not fit into the context window, moved up as it is."""
        limit = self.n_positions
        if limit is None:
            return
        total = time + new
        if moved is not None:
            total = new + int((moved + (time if mask is None else mask.sum(dim=1))).max())
        if total > limit:
            raise InputError(
                f"The text takes {time} tokens, {total} with what is put before and after it",
                f"at most {limit} tokens, the context window of this model",
                "Shorten the text or ask for fewer new tokens",
            )
