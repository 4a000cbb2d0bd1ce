"""Train Atlas from its tables: ``seprog atlas build``."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from seprog.atlas.corpus import Corpus
from seprog.atlas.tokens import spellings, train_tokenizer
from seprog.atlas.world import load_world
from seprog.training.causal import CausalTraining, train_causal


@dataclass(frozen=True)
class AtlasConfig(CausalTraining):
    """How Atlas is built.

    Args:
        open_book: Share of open-book documents (0 to 1); one is some ten times as long as others.
        others: Share of the documents in more writers' phrasings (0 to 1).
    """

    open_book: float = 0.3
    others: float = 0.0


def build(out: Path, run_folder: Path, config: AtlasConfig, start_from: Path | None = None) -> Path:
    """Train Atlas, or go on with a run that was stopped.

    Args:
        out: Folder that the finished model is written to.
        run_folder: Folder for checkpoint and log.
        config: Size, length, seed.
        start_from: Folder of a model built before, as deep or less, whose weights and tokenizer
            are taken; ``None`` starts from nothing.

    Returns:
        ``out``.

    Raises:
        InputError: If the model under ``start_from`` does not fit, or the run is of another size.
    """
    run_folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(run_folder, config, start_from)

    def corpus_from(seed: int) -> Corpus:
        corpus = Corpus(load_world(), random.Random(seed), config.open_book, others=config.others)
        corpus.words = spellings(tokenizer, corpus.rng)
        return corpus

    return train_causal(out, run_folder, config, corpus_from, tokenizer, start_from)


def _tokenizer(
    folder: Path, config: AtlasConfig, start_from: Path | None
) -> PreTrainedTokenizerFast:
    path = folder / "tokenizer"
    if not path.exists():
        if start_from is not None:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(start_from)
        else:
            corpus = Corpus(load_world(), random.Random(config.seed), others=config.others)
            tokenizer = train_tokenizer(corpus, config.vocabulary, 20_000)
        tokenizer.save_pretrained(path)
    return PreTrainedTokenizerFast.from_pretrained(path)
