"""Base models that take prefixes: tokens and prefixes in, logits or text out."""

from seprog.lm.base import LanguageModel
from seprog.lm.causal import CausalLM
from seprog.lm.encoder import EncoderModel, check_label
from seprog.lm.loading import load_lm
from seprog.lm.rowwise import RowOptions, Written
from seprog.lm.seq2seq import Seq2SeqLM
from seprog.lm.tokens import check_spelling

__all__ = [
    "CausalLM",
    "EncoderModel",
    "LanguageModel",
    "RowOptions",
    "Seq2SeqLM",
    "Written",
    "check_label",
    "check_spelling",
    "load_lm",
]
