"""Atlas' tokenizer, and documents as packed rows of tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from seprog.atlas.corpus import Corpus, Document
from seprog.atlas.fiction import NAMERS

END = "<end>"


def train_tokenizer(corpus: Corpus, vocabulary: int, documents: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE on the corpus' own documents and on invented names.

    Every word carries its leading space, also at the start of a text, so that a text and its
    place in a longer text have the same tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def texts() -> Iterator[str]:
        for i, query in enumerate(corpus.closed):
            for _ in range(3):
                yield f"{query.start} {corpus.answers[i]}."
        for document in islice(corpus, documents):
            yield " ".join(text for text, _ in document.pieces)
        rng = random.Random(0)
        for namer in NAMERS.values():
            yield from (namer(rng) for _ in range(documents // 20))

    tokenizer.train_from_iterator(texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, clean_up_tokenization_spaces=False
    )


@dataclass(frozen=True)
class Rows:
    """Documents packed side by side; none sees another.

    Args:
        ids: Token ids, end-of-text where padded.
        positions: Position of each token within its document.
        owner: Which document a token belongs to; -1 where padded.
        learn: Whether the model is to predict this token.
        facts: Closed-book fact that the token is the answer to; -1 otherwise.
    """

    ids: Int[Tensor, "rows length"]
    positions: Int[Tensor, "rows length"]
    owner: Int[Tensor, "rows length"]
    learn: Bool[Tensor, "rows length"]
    facts: Int[Tensor, "rows length"]

    def mask(self) -> Bool[Tensor, "rows 1 length length"]:
        """Causal, within each document."""
        length = self.ids.shape[1]
        same = self.owner[:, :, None] == self.owner[:, None, :]
        return (same & torch.ones(length, length, dtype=torch.bool).tril())[:, None]


def pack(
    documents: Iterator[Document],
    tokenizer: PreTrainedTokenizerFast,
    rows: int,
    length: int,
    other: float,
    rng: np.random.Generator,
) -> Iterator[Rows]:
    """Fill rows with whole documents, without end.

    Args:
        documents: The stream.
        tokenizer: Turns pieces into ids.
        rows: Rows per batch.
        length: Tokens per row.
        other: Share of the tokens outside answers that are learnt as well (0 to 1).
        rng: Source of chance for ``other``.

    Yields:
        Batches.
    """
    end = int(tokenizer.eos_token_id)
    waiting: list[tuple[list[int], list[bool], int]] = []
    while True:
        batch: dict[str, Any] = {
            "ids": np.full((rows, length), end),
            "positions": np.zeros((rows, length), np.int64),
            "owner": np.full((rows, length), -1),
            "learn": np.zeros((rows, length), bool),
            "facts": np.full((rows, length), -1),
        }
        for row in range(rows):
            start, owner = 0, 0
            while True:
                if not waiting:
                    waiting = _encode(list(islice(documents, 512)), tokenizer, end)
                ids, answer, fact = waiting.pop()
                if len(ids) > length:
                    continue
                if start + len(ids) > length:
                    waiting.append((ids, answer, fact))
                    break
                span = slice(start, start + len(ids))
                batch["ids"][row, span] = ids
                batch["positions"][row, span] = range(len(ids))
                batch["owner"][row, span] = owner
                batch["learn"][row, span] = answer | (rng.random(len(ids)) < other)
                batch["learn"][row, start] = False  # nothing stands before it
                batch["facts"][row, span] = np.where(answer, fact, -1)
                start, owner = start + len(ids), owner + 1
        yield Rows(**{k: torch.from_numpy(v) for k, v in batch.items()})


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


def _encode(
    documents: list[Document], tokenizer: PreTrainedTokenizerFast, end: int
) -> list[tuple[list[int], Any, int]]:
    pieces = [text for d in documents for text, _ in d.pieces]
    encoded = iter(tokenizer(pieces)["input_ids"])
    result = []
    for document in documents:
        ids: list[int] = []
        answer: list[bool] = []
        for _, is_answer in document.pieces:
            piece = list(next(encoded)) + [end] * is_answer
            ids += piece
            answer += [is_answer] * len(piece)
        result.append((ids, np.array(answer), document.fact))
    return result
