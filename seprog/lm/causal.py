"""Decoder-only language models: tokens and prefixes in, logits or text out.

Where a prefix stands: the text that a prefix was captured from stands right before the query,
whose own positions start at 0 as always.

- Rotary models: the captured text ends at position -1, so several edits share the same slots and
  their order makes no difference.
- Models that add an absolute position to the embeddings have no position -1: text is captured
  from position 0 on, and the positions of the rows that have a prefix, of those alone, are moved
  up by its length (``shift``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextvars import copy_context
from threading import Thread
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from seprog.errors import InputError
from seprog.lm.attach import Positions, attach
from seprog.lm.checkpoints import load_causal
from seprog.lm.fingerprint import fingerprint
from seprog.lm.injection import capture, inject
from seprog.lm.positions import from_zero, shifts, up_to_minus_one
from seprog.lm.tokens import StopAtText, TextStream, Tokens, cut
from seprog.types import Prefix, PrefixBatch, PrefixSpec

Ids = Int[Tensor, "batch time"]
Mask = Shaped[Tensor, "batch total_time"]  # past + time


class CausalLM:
    """A frozen causal language model that takes prefixes.

    The model is put into evaluation mode, its parameters stop requiring gradients, and its
    attention function is exchanged for one that does the same until a prefix is injected.

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
        model.eval()
        attached = attach(model)
        model.requires_grad_(False)
        self.model, self.tokenizer = model, tokenizer
        self.tokens = Tokens(tokenizer)
        self.positions: Positions = attached.positions
        self._sites = attached.sites
        self._fingerprint: str | None = None

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
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

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
        its tokens are kept. Differentiable, unless gradients are switched off.

        Args:
            input_ids: ``(batch, time)``; this or ``inputs_embeds``.
            inputs_embeds: ``(batch, time, hidden)``.
            attention_mask: ``(batch, time)``, true where a token is real; padded on the left or
                on the right. ``None``: all are.
            keep: ``(batch, time)``, the positions to keep. ``None``: all real ones.

        Returns:
            Prefixes for all rows; rows with fewer kept positions are padded on the left.
        """
        given = inputs_embeds if input_ids is None else input_ids
        if given is None:
            raise InputError("Neither token ids nor embeddings came", "one of the two")
        shape, device = given.shape[:2], given.device
        self._check_length(shape[1])
        if keep is None:
            real = torch.ones(shape, device=device) if attention_mask is None else attention_mask
            keep = real.bool()
        inputs = {"input_ids": input_ids} if input_ids is not None else {"inputs_embeds": given}
        place = from_zero if self.positions == "learned" else up_to_minus_one
        with inject(self._sites, None, shape[0]), capture(self._sites, keep) as captured:
            self.model.base_model(
                **inputs,
                attention_mask=attention_mask,
                position_ids=place(shape[1], attention_mask, device),
                use_cache=False,
            )
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
            positions = from_zero(total, attention_mask, given.device)
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
            positions = from_zero(time, attention_mask, input_ids.device)
            kwargs["position_ids"] = positions + moved[:, None]
        options = {"do_sample": False, "pad_token_id": self.tokens.pad_id} | kwargs
        with inject(self._sites, prefixes, batch):
            return self.model.generate(input_ids, attention_mask=attention_mask, **options)

    # --- text -------------------------------------------------------------------------------

    def generate(
        self,
        texts: Sequence[str],
        prefixes: Sequence[Prefix | None] | None = None,
        max_new_tokens: int = 32,
        stop: Sequence[str] = (),
        *,
        bos: bool | Sequence[bool] = True,
        **kwargs: Any,
    ) -> list[str]:
        """Continue texts; greedy unless ``kwargs`` say otherwise.

        Args:
            texts: What to continue.
            prefixes: One per text, ``None`` for a text without. ``None``: no text has one.
            max_new_tokens: Longest continuation.
            stop: A continuation ends before the first of these texts.
            bos: Whether a text gets the tokenizer's BOS; for all, or one per text. ``False`` for
                a text that continues a verbatim prefix (see ``capture_text``).
            **kwargs: As in ``generate_ids``.

        Returns:
            The continuations alone; ``num_return_sequences`` in a row for each text.
        """
        ids, mask = self.tokens.pad(self.tokens.encode(texts, bos), self.device)
        if stop:
            criterion = StopAtText(self.tokens, ids.shape[1], stop)
            kwargs["stopping_criteria"] = [*kwargs.get("stopping_criteria", ()), criterion]
        stacked = self._stack(prefixes, len(texts))
        out = self.generate_ids(ids, mask, stacked, max_new_tokens=max_new_tokens, **kwargs)
        return [cut(self.tokens.decode(row), stop) for row in out[:, ids.shape[1] :].tolist()]

    def stream(
        self,
        text: str,
        prefix: Prefix | None = None,
        max_new_tokens: int = 32,
        stop: Sequence[str] = (),
        *,
        bos: bool = True,
        **kwargs: Any,
    ) -> Iterator[str]:
        """Like ``generate`` for one text, piece by piece while the model writes it.

        The pieces joined are what ``generate`` returns. Closing the iterator ends the work.
        """
        ids, mask = self.tokens.pad(self.tokens.encode([text], bos), self.device)
        prefixes = self._stack([prefix], 1)
        pieces = TextStream(self.tokens.decode, stop)
        criteria = [*kwargs.pop("stopping_criteria", ()), pieces]
        if stop:
            criteria.append(StopAtText(self.tokens, ids.shape[1], stop))
        options = kwargs | {"max_new_tokens": max_new_tokens, "stopping_criteria": criteria}

        def work() -> None:
            try:
                self.generate_ids(ids, mask, prefixes, streamer=pieces, **options)
            except BaseException as error:
                pieces.fail(error)

        def read() -> Iterator[str]:
            thread = Thread(target=copy_context().run, args=(work,), daemon=True)
            thread.start()
            try:
                yield from pieces
            finally:
                pieces.cancelled = True
                thread.join()

        return read()

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

    # --- checks -----------------------------------------------------------------------------

    def _shift(
        self, batch: int, prefixes: PrefixBatch | None, shift: int | Tensor | None
    ) -> Int[Tensor, " batch"] | None:
        """How far the positions of each row move up; ``None``: no row's do."""
        if prefixes is None or self.positions != "learned":
            return None
        return shifts(batch, prefixes, shift).to(self.device)

    def _stack(self, prefixes: Sequence[Prefix | None] | None, batch: int) -> PrefixBatch | None:
        if prefixes is not None and len(prefixes) != batch:
            raise InputError(f"{len(prefixes)} prefixes came for {batch} texts", "one per text")
        return None if prefixes is None else PrefixBatch.stack(prefixes)

    def _check_length(self, time: int, new: int = 0, moved: Tensor | None = None) -> None:
        """Refuse a text that does not fit into the context window."""
        limit = self.n_positions
        if limit is None:
            return
        total = time + new + (0 if moved is None else int(moved.max()))
        if total > limit:
            raise InputError(
                f"The text takes {time} tokens, {total} with what is put before and after it",
                f"at most {limit} tokens, the context window of this model",
                "Shorten the text or ask for fewer new tokens",
            )
