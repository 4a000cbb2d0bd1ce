"""Atlas' tokenizer, and invented words that use all of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

from transformers import PreTrainedTokenizerFast

from seprog.atlas.corpus import Corpus
from seprog.atlas.fiction import NAMERS
from seprog.data.byte_pairs import byte_pairs


def train_tokenizer(corpus: Corpus, vocabulary: int, documents: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE on the corpus' own documents and on invented names."""

    def texts() -> Iterator[str]:
        for i, query in enumerate(corpus.closed):
            for _ in range(3):
                yield f"{query.start} {corpus.answers[i]}."
        for document in islice(corpus, documents):
            yield " ".join(text for text, _ in document.pieces)
        rng = random.Random(0)
        for namer in NAMERS.values():
            yield from (namer(rng) for _ in range(documents // 20))

    return byte_pairs(texts(), vocabulary)


def spellings(tokenizer: PreTrainedTokenizerFast, rng: random.Random, each: int = 12) -> list[str]:
    """Invented words in which rare tokens stand as often as frequent ones.

    Args:
        tokenizer: Its tokens that are letters only are put together, two or three at a time.
        rng: Source of chance.
        each: Words drawn per token (>= 1).

    Returns:
        The words that the tokenizer takes apart into the very tokens they were made of; none if its
        tokens do not show where a word begins.
    """
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    texts = [t for t in texts if t.strip().isalpha() and t.isascii()]
    starts = [t for t in texts if t.startswith(" ")]
    tails = [t for t in texts if not t.startswith(" ")]
    if not starts or not tails:
        return []
    drawn: list[tuple[str, ...]] = [(rng.choice(starts), t) for t in tails * each]
    drawn += [(s, rng.choice(tails)) for s in starts * each]
    drawn = [p if rng.random() < 0.5 else (*p, rng.choice(tails)) for p in drawn]
    found = tokenizer(["".join(p) for p in drawn])["input_ids"]
    same = (tokenizer.batch_decode([[i] for i in ids]) for ids in found)
    return ["".join(p).strip() for p, kept in zip(drawn, same, strict=True) if list(p) == kept]
