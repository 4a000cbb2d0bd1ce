"""A batch whose rows each have their own way of choosing tokens and their own end.

transformers' ``generate`` treats all rows of a batch alike. ``RowWriter`` lets it serve unrelated
requests together: as a logits processor it chooses each row's token by itself and leaves that one
alone to be taken; ``RowEnds`` ends each row when its own end has come.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from seprog.errors import InputError
from seprog.lm.tokens import Pieces, Tokens, cut


@dataclass(frozen=True)
class RowOptions:
    """How one row is written.

    Args:
        max_new_tokens: Longest continuation (>= 1).
        temperature: Of sampling (>= 0); 0 is greedy.
        top_p: Share of the probability that is sampled from (above 0, at most 1).
        seed: Of sampling; ``None``: by chance. A row's text does not depend on its neighbours.
        stop: The continuation ends before the first of these texts.
        logprobs: Alternatives to report per token; ``None``: not even the token's own.

    Raises:
        InputError: A value is out of its range.
    """

    max_new_tokens: int = 32
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        for name, good, wanted in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < math.inf, "0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("logprobs", self.logprobs is None or self.logprobs >= 0, "0 or more"),
        ):
            if not good:
                raise InputError(f"{name} is {getattr(self, name)}", wanted, f"Change {name}")


@dataclass(frozen=True)
class TokenLogprob:
    """A token that was written.

    Args:
        id: Its number.
        logprob: Natural logarithm of its probability before temperature and ``top_p``.
        alternatives: The likeliest tokens there, as number and logarithm.
    """

    id: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass
class Written:
    """What was written in one row.

    Args:
        text: The continuation, up to a stop text.
        ids: Its tokens, a final EOS and what stands behind the stop text included.
        finish: ``stop`` at an EOS or a stop text, ``length``, or ``cancelled``.
        logprobs: One per token where they were asked for.
    """

    text: str = ""
    ids: list[int] = field(default_factory=list)
    finish: Literal["stop", "length", "cancelled"] = "length"
    logprobs: list[TokenLogprob] = field(default_factory=list)


OnPiece = Callable[[int, str], None]
"""Called with a row and a piece of its text."""
Cancelled = Callable[[int], bool]
"""Whether a row is wanted no longer."""
OnEnd = Callable[[int, Written], None]
"""Called with a row and all of it as soon as it has come to its end."""


class RowWriter(LogitsProcessor):
    """Chooses tokens row by row, and says which rows are done; for one ``generate``.

    Args:
        tokens: Of the model.
        rows: Options of each row.
        ends: Tokens that end a text.
        on_piece: Told each piece of text as soon as it is certain.
        cancelled: Asked before each token.
        on_end: Told each row as soon as it is done, while others are written.
    """

    def __init__(
        self,
        tokens: Tokens,
        rows: Sequence[RowOptions],
        ends: Collection[int],
        on_piece: OnPiece | None = None,
        cancelled: Cancelled | None = None,
        on_end: OnEnd | None = None,
    ) -> None:
        self._tokens, self._rows, self._ends = tokens, rows, frozenset(ends)
        self._on_piece, self._cancelled = on_piece, cancelled or (lambda row: False)
        self._on_end = on_end or (lambda row, written: None)
        self._pieces = [Pieces(tokens.decode, row.stop) for row in rows]
        self._sources = [_source(row.seed) if row.temperature else None for row in rows]
        self._open = set(range(len(rows)))
        self.written = [Written() for _ in rows]

    def __call__(
        self, input_ids: Int[Tensor, "batch time"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        """Choose the next token of each row and leave only that one possible."""
        chosen = scores.argmax(dim=1).tolist()
        for row in sorted(self._open):
            options, source = self._rows[row], self._sources[row]
            if source is not None:
                chosen[row] = _sample(scores[row], options, source)
            if options.logprobs is not None:
                self.written[row].logprobs.append(_logprob(scores[row], chosen[row], options))
            self.written[row].ids.append(chosen[row])
        only = torch.full_like(scores, -math.inf)
        only[torch.arange(len(chosen)), torch.tensor(chosen)] = 0.0
        return only

    def done(self) -> list[bool]:
        """Per row, whether it has come to its end."""
        for row in sorted(self._open):
            if finish := self._finish(row):
                self._close(row, finish)
        return [row not in self._open for row in range(len(self._rows))]

    def _finish(self, row: int) -> Literal["stop", "length", "cancelled", ""]:
        options, ids = self._rows[row], self.written[row].ids
        if self._cancelled(row):
            return "cancelled"
        if ids[-1] in self._ends:
            return "stop"
        if self._on_piece is not None and (piece := self._pieces[row].add(ids[-1:])):
            self._on_piece(row, piece)
        if options.stop and any(s and s in self._tokens.decode(ids) for s in options.stop):
            return "stop"
        return "length" if len(ids) >= options.max_new_tokens else ""

    def _close(self, row: int, finish: Literal["stop", "length", "cancelled"]) -> None:
        done, options = self.written[row], self._rows[row]
        done.finish = finish
        done.text = cut(self._tokens.decode(done.ids), options.stop)
        if self._on_piece is not None and (piece := self._pieces[row].end()):
            self._on_piece(row, piece)
        self._open.discard(row)
        self._on_end(row, done)


class RowEnds(StoppingCriteria):
    """Ends the rows that a ``RowWriter`` says are done."""

    def __init__(self, writer: RowWriter) -> None:
        self._writer = writer

    def __call__(
        self, input_ids: Int[Tensor, "batch time"], scores: object, **kwargs: object
    ) -> Bool[Tensor, " batch"]:
        """Which rows are done."""
        return torch.tensor(self._writer.done(), device=input_ids.device)


def _source(seed: int | None) -> torch.Generator:
    source = torch.Generator()
    if seed is None:
        source.seed()
    else:
        source.manual_seed(seed % 2**63)
    return source


def _sample(scores: Float[Tensor, " vocab"], options: RowOptions, source: torch.Generator) -> int:
    """A token by temperature and nucleus (Holtzman et al. 2020, section 3.1)."""
    likely = (scores.float().cpu() / options.temperature).softmax(dim=0)
    if options.top_p < 1:
        ordered, index = likely.sort(descending=True)
        beyond = ordered.cumsum(0) - ordered >= options.top_p  # the first one always stays
        likely = likely.index_fill(0, index[beyond], 0.0)
    return int(torch.multinomial(likely, 1, generator=source))


def _logprob(scores: Float[Tensor, " vocab"], chosen: int, options: RowOptions) -> TokenLogprob:
    logs = scores.float().log_softmax(dim=0)
    values, index = logs.topk(min(options.logprobs or 0, len(logs)))
    best = tuple(zip(index.tolist(), values.tolist(), strict=True))
    return TokenLogprob(chosen, float(logs[chosen]), best)
