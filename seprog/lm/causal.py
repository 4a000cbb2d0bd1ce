"""Decoder-only language models: tokens and prefixes in, logits or text out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from seprog.errors import InputError
from seprog.lm.checkpoints import load_causal
from seprog.lm.injection import inject
from seprog.lm.prefixed import Ids
from seprog.lm.tokens import Tokens
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

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(model, Tokens(tokenizer), "left to right")

    def _written(self, ids: Ids) -> int:
        return ids.shape[1]

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device = "cpu",
        attn_implementation: str | None = None,
    ) -> CausalLM:
        """Load a model and its tokenizer from a folder or from the Hugging Face Hub.

        Args:
            path: A folder (nothing is downloaded then) or the id of a model on the Hub.
            dtype: Type of the weights; ``"auto"`` keeps the type they were saved in.
            device: Where the model runs.
            attn_implementation: ``"sdpa"`` or ``"eager"``. ``None``: what transformers prefers.

        Raises:
            ModelError: Nothing is there, it is not a causal language model, its weights are not
                in safetensors files, or it has no place for a prefix.
        """
        model, tokenizer = load_causal(path, dtype, attn_implementation)
        return cls(model.to(device), tokenizer)

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
        given = kwargs.get("inputs_embeds") if input_ids is None else input_ids
        if given is None:
            raise InputError("Neither token ids nor embeddings came", "one of the two")
        batch, time = given.shape[:2]
        cache = kwargs.get("past_key_values")
        total = time + (int(cache.get_seq_length()) if cache is not None else 0)
        moved = self._shift(batch, prefixes, shift)
        self._check_length(total, 0, moved)
        if kwargs.get("position_ids") is None and (attention_mask is not None or moved is not None):
            positions = self._places(total, attention_mask)
            kwargs["position_ids"] = positions[:, total - time :]
        if moved is not None:
            kwargs["position_ids"] = kwargs["position_ids"] + moved[:, None]
        kwargs.setdefault("use_cache", cache is not None)
        with inject(self._sites, prefixes, batch):
            out = self.model(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        return out.logits

    __call__ = forward

    def generate_ids(
        self,
        input_ids: Ids,
        attention_mask: Mask | None = None,
        prefixes: PrefixBatch | None = None,
        *,
        shift: int | Int[Tensor, " rows"] | None = None,
        **kwargs: Any,
    ) -> Int[Tensor, "sequences length"]:
        """Continue token ids; greedy unless ``kwargs`` say otherwise.

        Args:
            input_ids: ``(batch, time)``, padded on the left.
            attention_mask: ``(batch, time)``, true where a token is real. ``None``: all are.
            prefixes: Prefixes of some rows. ``None``: the untouched model.
            shift: As in ``forward``.
            **kwargs: For the model's ``generate``: ``max_new_tokens``, ``num_beams``,
                ``do_sample``, ``num_return_sequences``, ``streamer`` ...

        Returns:
            Prompts and continuations, ``(batch * num_return_sequences, time + new)``.

        Raises:
            InputError: Text and continuation do not fit into the context window.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        batch, time = input_ids.shape
        moved = self._shift(batch, prefixes, shift)
        self._check_length(time, int(kwargs.get("max_new_tokens") or 0), moved)
        if moved is not None:
            positions = self._places(time, attention_mask)
            kwargs["position_ids"] = positions + moved[:, None]
        options = {"do_sample": False, "pad_token_id": self.tokens.pad_id} | kwargs
        with inject(self._sites, prefixes, batch):
            return self.model.generate(input_ids, attention_mask=attention_mask, **options)

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
        ids, mask = self.tokens.pad(rows, self.device)
        stacked = self._stack(prefixes, len(texts))
        longest = max(len(b) for b in second)
        logits = self.forward(ids, mask, stacked, logits_to_keep=longest + 1)
        scores = logits[:, -longest - 1 : -1].float().log_softmax(dim=-1)  # (batch, longest, vocab)
        found = scores.gather(2, ids[:, -longest:, None])[..., 0]  # (batch, longest)
        lengths = torch.tensor([len(b) for b in second], device=ids.device)
        scored = torch.arange(longest, device=ids.device) >= longest - lengths[:, None]
        return found.masked_fill(~scored, 0.0).sum(dim=1).tolist()
