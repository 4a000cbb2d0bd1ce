"""Models that write: text in, text out, at once or piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextvars import copy_context
from threading import Thread
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from seprog.lm.injection import inject
from seprog.lm.prefixed import Ids, Prefixed
from seprog.lm.rowwise import Cancelled, OnEnd, OnPiece, RowEnds, RowOptions, RowWriter, Written
from seprog.lm.tokens import StopAtText, TextStream, cut
from seprog.types import Prefix, PrefixBatch


class Writer(Prefixed):
    """Base of the adapters whose models write; not used by itself."""

    generates = True

    def generate_ids(
        self,
        input_ids: Ids,
        attention_mask: Shaped[Tensor, "batch time"] | None = None,
        prefixes: PrefixBatch | None = None,
        *,
        shift: int | Int[Tensor, " rows"] | None = None,
        **kwargs: Any,
    ) -> Int[Tensor, "sequences length"]:
        """What the model writes, as token ids; greedy unless ``kwargs`` say otherwise.

        Args:
            input_ids: ``(batch, time)``, padded as ``tokens.pad`` does.
            attention_mask: ``(batch, time)``, true where a token is real. ``None``: all are.
            prefixes: Prefixes of some rows. ``None``: the untouched model.
            shift: As in ``forward``.
            **kwargs: For the model's ``generate``: ``max_new_tokens``, ``num_beams``,
                ``do_sample``, ``num_return_sequences``, ``streamer`` ...

        Returns:
            ``(batch * num_return_sequences, before + new)``: prompts and continuations of a
            decoder, else the decoder's start token and what it wrote.

        Raises:
            InputError: Text and continuation do not fit into the context window.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        batch, time = input_ids.shape
        moved = self._shift(batch, prefixes, shift)
        behind = int(kwargs.get("max_new_tokens") or 0) if self._goes_on else 0
        self._check_length(time, behind, moved, attention_mask)
        if moved is not None:
            kwargs["position_ids"] = self._move(self._places(time, attention_mask), moved)
        options = {"do_sample": False, "pad_token_id": self.tokens.pad_id} | kwargs
        with inject(self._sites, prefixes, batch):
            return self.model.generate(input_ids, attention_mask=attention_mask, **options)

    @property
    def _goes_on(self) -> bool:
        """Whether what is written stands behind what was read, in one text."""
        return self.reading == "left to right"

    def _written(self, ids: Ids) -> int:
        """How many tokens of what ``generate_ids`` gives were there before the model wrote."""
        return ids.shape[1] if self._goes_on else 1

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
        ids, mask = self.tokens.batch(texts, bos, self.device)
        if stop:
            criterion = StopAtText(self.tokens, self._written(ids), stop)
            kwargs["stopping_criteria"] = [*kwargs.get("stopping_criteria", ()), criterion]
        stacked = self._stack(prefixes, len(texts))
        out = self.generate_ids(ids, mask, stacked, max_new_tokens=max_new_tokens, **kwargs)
        return [cut(self.tokens.decode(row), stop) for row in out[:, self._written(ids) :].tolist()]

    def reply(
        self,
        texts: Sequence[str],
        prefixes: Sequence[Prefix | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """What the model says to texts: how it goes on with them; arguments as for ``generate``."""
        return self.generate(texts, prefixes, **kwargs)

    def write(
        self,
        texts: Sequence[str],
        rows: Sequence[RowOptions],
        prefixes: Sequence[Prefix | None] | None = None,
        *,
        bos: bool | Sequence[bool] = True,
        on_piece: OnPiece | None = None,
        cancelled: Cancelled | None = None,
        on_end: OnEnd | None = None,
    ) -> list[Written]:
        """Continue unrelated texts together, each with its own options and its own end.

        Args:
            texts: What to continue.
            rows: How, one per text.
            prefixes: As in ``generate``.
            bos: As in ``generate``.
            on_piece: Called with row and text while the model writes; the pieces of a row joined
                are its text.
            cancelled: Asked for each row before each token; a row that is wanted no longer ends.
            on_end: Called with row and result as soon as a row is done, while others are written.

        Returns:
            What was written, one per text.

        Raises:
            InputError: A text does not fit into the context window beside the longest of them
                and the most new tokens asked for.
        """
        ids, mask = self.tokens.batch(texts, bos, self.device)
        stops = self.model.generation_config.eos_token_id
        ends = [stops] if isinstance(stops, int) else list(stops or [])
        writer = RowWriter(self.tokens, rows, ends, on_piece, cancelled, on_end)
        self.generate_ids(
            ids,
            mask,
            self._stack(prefixes, len(texts)),
            max_new_tokens=max(row.max_new_tokens for row in rows),
            logits_processor=[writer],
            stopping_criteria=[RowEnds(writer)],
        )
        return writer.written

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
        ids, mask = self.tokens.batch([text], bos, self.device)
        prefixes = self._stack([prefix], 1)
        pieces = TextStream(self.tokens.decode, stop)
        criteria = [*kwargs.pop("stopping_criteria", ()), pieces]
        if stop:
            criteria.append(StopAtText(self.tokens, self._written(ids), stop))
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
