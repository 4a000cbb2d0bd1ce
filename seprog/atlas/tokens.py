"""Atlas' tokenizer, and invented words that use all of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from seprog.atlas.corpus import Corpus
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


def spellings(tokenizer: PreTrainedTokenizerFast, rng: random.Random, each: int = 12) -> list[str]:
    """Invented words in which rare tokens stand as often as frequent ones.

    Args:
        tokenizer: Its tokens that are letters only are put together, two or three at a time.
        rng: Source of chance.
        each: Words drawn per token (>= 1).

    Returns:
        The words that the tokenizer takes apart into the very tokens they were made of.
    """
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    texts = [t for t in texts if t.strip().isalpha() and t.isascii()]
    starts = [t for t in texts if t.startswith(" ")]
    tails = [t for t in texts if not t.startswith(" ")]
    drawn: list[tuple[str, ...]] = [(rng.choice(starts), t) for t in tails * each]
    drawn += [(s, rng.choice(tails)) for s in starts * each]
    drawn = [p if rng.random() < 0.5 else (*p, rng.choice(tails)) for p in drawn]
    found = tokenizer(["".join(p) for p in drawn])["input_ids"]
    same = (tokenizer.batch_decode([[i] for i in ids]) for ids in found)
    return ["".join(p).strip() for p, kept in zip(drawn, same, strict=True) if list(p) == kept]
