"""Fixtures for all tests: one thread, and a tokenizer built by hand."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

torch.set_num_threads(1)

SPECIAL = ("<pad>", "<s>", "</s>")


def make_tokenizer(bos: bool) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges: one token per byte, 259 in all.

    Args:
        bos: Whether it puts ``<s>`` in front of every text.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *letters])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    if bos:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture(params=[False, True], ids=["no-bos", "bos"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """A tokenizer without and one with a BOS."""
    return make_tokenizer(request.param)
