"""Base models that take prefixes: tokens and prefixes in, logits or text out."""

from seprog.lm.base import LanguageModel
from seprog.lm.causal import CausalLM
from seprog.lm.encoder import EncoderModel
from seprog.lm.loading import load_lm

__all__ = ["CausalLM", "EncoderModel", "LanguageModel", "load_lm"]
