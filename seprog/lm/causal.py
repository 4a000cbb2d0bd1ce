"""Decoder-only language models: tokens and prefixes in, logits or text out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from seprog.errors import InputError
from seprog.lm.checkpoints import load_causal
from seprog.lm.injection import inject
from seprog.lm.prefixed import Ids
from seprog.lm.writer import Writer
from seprog.types import Prefix, PrefixBatch

Mask = Shaped[Tensor, "batch total_time"]  # past + time


class CausalLM(Writer):
    """A frozen causal language model that takes prefixes.

    Args:
        model: A transformers causal language model, loaded with sdpa or eager attention.
        tokenizer: Its tokenizer; never changed.

    Raises:
        ModelError: The model has no place for a prefix. It is left as it was.

    Example::

        lm = CausalLM.from_pretrained("path/to/model")
        [prefix] = lm.capture_text(["The capital of Australia is Sydney."])
        lm.generate(["What is the capital of Australia?"], [prefix])
    """

    reading = "left to right"
    _load = staticmethod(load_causal)

    def _reading_inputs(
        self, inputs: dict[str, Any], mask: Shaped[Tensor, "batch time"] | None
    ) -> dict[str, Any]:
        return super()._reading_inputs(inputs, mask) | {"use_cache": False}

    # --- logits and tokens ------------------------------------------------------------------

    def forward(
        self,
        input_ids: Ids | None = None,
        attention_mask: Mask | None = None,
        prefixes: PrefixBatch | None = None,
        *,
        shift: int | Int[Tensor, " rows"] | None = None,
        **kwargs: Any,
    ) -> Float[Tensor, "batch kept vocab"]:
        """Logits. Differentiable with respect to the prefixes.

        Args:
            input_ids: ``(batch, time)``, or ``None`` with ``inputs_embeds`` among ``kwargs``.
            attention_mask: ``(batch, past + time)``, true where a token is real; padded on the
                left or on the right. ``None``: all are.
            prefixes: Prefixes of some rows. ``None``: the untouched model.
            shift: By how much the positions of the rows with a prefix move up, for models with
                absolute positions only. ``None``: by the number of the row's virtual tokens.
            **kwargs: For the model, such as ``past_key_values`` (then also ``use_cache=True``),
                ``inputs_embeds``, ``logits_to_keep``.

        Returns:
            ``(batch, time, vocab)``, or the positions that ``logits_to_keep`` asks for.

        Raises:
            InputError: The text is too long, or the prefixes' rows do not fit the batch.
            FingerprintMismatch: The prefixes do not fit the model.
        """
        batch, time = self._given(input_ids, kwargs.get("inputs_embeds")).shape[:2]
        cache = kwargs.get("past_key_values")
        total = time + (int(cache.get_seq_length()) if cache is not None else 0)
        moved = self._shift(batch, prefixes, shift)
        self._check_length(total, 0, moved, attention_mask)
        if kwargs.get("position_ids") is None and (attention_mask is not None or moved is not None):
            positions = self._places(total, attention_mask)
            kwargs["position_ids"] = positions[:, total - time :]
        if moved is not None:
            kwargs["position_ids"] = self._move(kwargs["position_ids"], moved)
        kwargs.setdefault("use_cache", cache is not None)
        with inject(self._sites, prefixes, batch):
            out = self.model(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        return out.logits

    __call__ = forward

    # --- scores -----------------------------------------------------------------------------

    @torch.no_grad()
    def score(
        self,
        texts: Sequence[str],
        continuations: Sequence[str],
        prefixes: Sequence[Prefix | None] | None = None,
        *,
        bos: bool | Sequence[bool] = True,
    ) -> list[float]:
        """Log-probability of each continuation after its text, summed over its tokens.

        Args:
            texts: What stands before; encoded by itself.
            continuations: What is scored; encoded by itself, so mind the space in front.
            prefixes: As in ``generate``.
            bos: As in ``generate``.
        """
        first = self.tokens.encode(texts, bos)
        second = self.tokens.encode(continuations, bos=False)
        if len(first) != len(second):
            raise InputError(f"{len(second)} continuations came for {len(first)} texts", "one each")
        rows = [a + b for a, b in zip(first, second, strict=True)]
        ids, mask = self.tokens.pad(rows, self.device, self.tokens.width(rows, bos))
        stacked = self._stack(prefixes, len(texts))
        longest = max(len(b) for b in second)
        logits = self.forward(ids, mask, stacked, logits_to_keep=longest + 1)
        scores = logits[:, -longest - 1 : -1].float().log_softmax(dim=-1)  # (batch, longest, vocab)
        found = scores.gather(2, ids[:, -longest:, None])[..., 0]  # (batch, longest)
        lengths = torch.tensor([len(b) for b in second], device=ids.device)
        scored = torch.arange(longest, device=ids.device) >= longest - lengths[:, None]
        return found.masked_fill(~scored, 0.0).sum(dim=1).tolist()
