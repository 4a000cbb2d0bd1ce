"""Documents as packed rows of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import islice, zip_longest
from queue import Queue
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from seprog.data.documents import Document


@dataclass(frozen=True)
class Rows:
    """Documents packed side by side; none sees another.

    Args:
        ids: Token ids, end-of-text where padded.
        positions: Position of each token within its document.
        owner: Which document a token belongs to; -1 where padded.
        branch: 0 in what a document tells, 1, 2, … in its questions, none of which sees another.
        learn: Whether the model is to predict this token.
        facts: Closed-book fact that the token is the answer to; -1 otherwise.
    """

    ids: Int[Tensor, "rows length"]
    positions: Int[Tensor, "rows length"]
    owner: Int[Tensor, "rows length"]
    branch: Int[Tensor, "rows length"]
    learn: Bool[Tensor, "rows length"]
    facts: Int[Tensor, "rows length"]

    def to(self, device: str) -> Rows:
        """On a device."""
        return Rows(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def mask(self) -> Bool[Tensor, "rows 1 length length"]:
        """Causal, within each document; a question sees what was told and itself."""
        length = self.ids.shape[1]
        same = self.owner[:, :, None] == self.owner[:, None, :]
        told = (self.branch == 0)[:, None, :]
        same &= told | (self.branch[:, :, None] == self.branch[:, None, :])
        before = torch.ones(length, length, dtype=torch.bool, device=same.device).tril()
        return (same & before)[:, None]


def pack(
    documents: Iterator[Document],
    tokenizer: PreTrainedTokenizerFast,
    rows: int,
    length: int,
) -> Iterator[Rows]:
    """Fill rows with whole documents, without end.

    Args:
        documents: The stream.
        tokenizer: Turns pieces into ids.
        rows: Rows per batch.
        length: Tokens per row.

    Yields:
        Batches.
    """
    end = int(tokenizer.eos_token_id)
    waiting: list[Encoded] = []
    while True:
        batch: dict[str, Any] = {
            "ids": np.full((rows, length), end),
            "positions": np.zeros((rows, length), np.int64),
            "owner": np.full((rows, length), -1),
            "branch": np.zeros((rows, length), np.int64),
            "learn": np.zeros((rows, length), bool),
            "facts": np.full((rows, length), -1),
        }
        for row in range(rows):
            start, owner = 0, 0
            while True:
                if len(waiting) < 256:
                    fresh = _encode(list(islice(documents, 512)), tokenizer, end)
                    waiting = [d for d in fresh if len(d.ids) <= length] + waiting
                place = _last_that_fits(waiting, length - start)
                if place is None:
                    break
                document = waiting.pop(place)
                size = len(document.ids)
                span = slice(start, start + size)
                batch["ids"][row, span] = document.ids
                batch["positions"][row, span] = document.positions
                batch["owner"][row, span] = owner
                batch["branch"][row, span] = document.branch
                batch["learn"][row, span] = document.answer
                batch["facts"][row, span] = np.where(document.answer, document.fact, -1)
                start, owner = start + size, owner + 1
        yield Rows(**{k: torch.from_numpy(v) for k, v in batch.items()})


def _last_that_fits(waiting: list[Encoded], room: int) -> int | None:
    places = range(len(waiting) - 1, -1, -1)
    return next((i for i in places if len(waiting[i].ids) <= room), None)


def prefetch(batches: Iterator[Rows], ahead: int = 4) -> Iterator[Rows]:
    """The same batches, made by another thread while the model computes."""
    waiting: Queue[Rows | BaseException] = Queue(ahead)

    def fill() -> None:
        try:
            for batch in batches:
                waiting.put(batch)
        except BaseException as error:
            waiting.put(error)

    Thread(target=fill, daemon=True).start()
    while True:
        batch = waiting.get()
        if isinstance(batch, BaseException):
            raise batch
        yield batch


class Encoded(NamedTuple):
    """A document in tokens; fields as in ``Rows``, ``answer`` where it is to be learnt."""

    ids: list[int]
    positions: np.ndarray
    branch: np.ndarray
    answer: np.ndarray
    fact: int


def _encode(
    documents: list[Document], tokenizer: PreTrainedTokenizerFast, end: int
) -> list[Encoded]:
    pieces = [text for d in documents for text, _ in d.pieces]
    encoded = iter(tokenizer(pieces)["input_ids"] if pieces else [])
    result = []
    for document in documents:
        ids: list[int] = []
        positions: list[int] = []
        branch: list[int] = []
        answer: list[bool] = []
        told = place = current = 0
        for (_, is_answer), (_, follows) in zip_longest(
            document.pieces, document.pieces[1:], fillvalue=("", False)
        ):
            piece = list(next(encoded)) + [end] * is_answer
            if follows and not is_answer:  # a question: it stands right behind what was told
                current, place = current + 1, told
            ids += piece
            positions += range(place, place + len(piece))
            branch += [current] * len(piece)
            answer += [is_answer] * len(piece)
            place += len(piece)
            told = told if current else place
        result.append(
            Encoded(ids, np.array(positions), np.array(branch), np.array(answer), document.fact)
        )
    return result
