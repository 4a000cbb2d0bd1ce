"""Reading models from disk or from the Hub, with errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedConfig,
)
from transformers.models.auto import modeling_auto as auto

from seprog.errors import ModelError

Head = Literal["sequence", "token", "masked_lm"]
"""What stands on an encoder: a classifier of texts or of tokens, or a masked language model."""

_HEADS: dict[Head, Any] = {
    "sequence": auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    "token": auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    "masked_lm": auto.MODEL_FOR_MASKED_LM_MAPPING,
}
_ADVICE = "Give the folder of a model saved by save_pretrained, or the id of a model on the Hub"


def read_config(path: str) -> PreTrainedConfig:
    """The configuration of the model in a folder or on the Hub.

    Raises:
        ModelError: Nothing is there, or nothing that transformers can read.
    """
    folder = Path(path)
    if not folder.is_dir() and (folder.exists() or path.startswith(("/", "./", "../", "~"))):
        raise ModelError(f"{path} is not a folder", "a folder with a model in it", _ADVICE)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelError(f"{path} has no config.json", "a folder with a model in it", _ADVICE)
    try:
        return transformers.AutoConfig.from_pretrained(path, local_files_only=folder.is_dir())
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"No model could be read from {path!r} ({_first_line(error)})",
            "a folder or the id of a model on the Hub",
            _ADVICE,
        ) from error


def head_of(model_class: type, config: PreTrainedConfig) -> Head:
    """Which head a class of models has.

    Raises:
        ModelError: None of those that an encoder can have here.
    """
    for head in _heads(model_class, config):
        return head
    raise ModelError(
        f"{model_class.__name__} is no encoder with a known head",
        "a model for sequence classification, token classification or masked language modelling",
        "Choose another base model",
    )


def _heads(model_class: type | None, config: PreTrainedConfig) -> list[Head]:
    """The heads that a class of models has; none if there is no class."""
    of = [head for head, classes in _HEADS.items() if type(config) in classes]
    return [head for head in of if _HEADS[head][type(config)] is model_class]


def _saved_class(config: PreTrainedConfig) -> type | None:
    """The class that the checkpoint was saved from, as its configuration says."""
    name = (config.architectures or [""])[0]
    return getattr(transformers, name, None)


def is_causal(config: PreTrainedConfig) -> bool:
    """Whether a checkpoint is one of a causal language model.

    The families that read both ways can be told to read left to right (BERT): there a checkpoint
    is causal only if it was saved as a causal language model.
    """
    models: Any = auto.MODEL_FOR_CAUSAL_LM_MAPPING
    if config.is_encoder_decoder or type(config) not in models or has_head(config):
        return False
    return _saved_class(config) is models[type(config)] or not is_encoder(config)


def is_encoder(config: PreTrainedConfig) -> bool:
    """Whether a checkpoint is of a family that reads both ways, or has an encoder's head."""
    both_ways = type(config) in _HEADS["masked_lm"]
    return not config.is_encoder_decoder and (both_ways or has_head(config))


def has_head(config: PreTrainedConfig) -> bool:
    """Whether a checkpoint has a head that ``EncoderModel`` knows."""
    return bool(_heads(_saved_class(config), config))


def load_causal(
    path: str, dtype: str | torch.dtype, attn_implementation: str | None
) -> tuple[Any, Any]:
    """A causal language model, from safetensors files only, and its tokenizer.

    Raises:
        ModelError: It is not there, not causal, not in safetensors files or not complete.
    """
    config = read_config(path)
    if not is_causal(config):
        raise ModelError(
            f"{path} is a model of type {config.model_type!r}", "a causal language model", _ADVICE
        )
    return _load(AutoModelForCausalLM, "causal language model", path, dtype, attn_implementation)


def is_seq2seq(config: PreTrainedConfig) -> bool:
    """Whether a configuration is one of a sequence-to-sequence language model."""
    return config.is_encoder_decoder and type(config) in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING


def load_seq2seq(
    path: str, dtype: str | torch.dtype, attn_implementation: str | None
) -> tuple[Any, Any]:
    """A sequence-to-sequence model, from safetensors files only, and its tokenizer.

    Raises:
        ModelError: It is not there, of another kind, not in safetensors files or not complete.
    """
    config = read_config(path)
    if not is_seq2seq(config):
        raise ModelError(
            f"{path} is a model of type {config.model_type!r}",
            "a sequence-to-sequence language model",
            _ADVICE,
        )
    kind = "sequence-to-sequence language model"
    return _load(AutoModelForSeq2SeqLM, kind, path, dtype, attn_implementation)


def load_encoder(
    path: str, dtype: str | torch.dtype, attn_implementation: str | None
) -> tuple[Any, Any]:
    """An encoder with the head it was saved with, from safetensors files only, and its tokenizer.

    Raises:
        ModelError: It is not there, has no known head, is not in safetensors files or not complete.
    """
    config = read_config(path)
    if config.is_encoder_decoder or not has_head(config):
        saved = _saved_class(config)
        raise ModelError(
            f"{path} is a model of type {config.model_type!r}, "
            + (f"saved as {saved.__name__}" if saved else "saved without saying as what"),
            "an encoder for sequence classification, token classification or masked language "
            "modelling",
            "Choose a checkpoint that was saved with one of these heads",
        )
    return _load(_saved_class(config), "encoder with a head", path, dtype, attn_implementation)


def _load(
    model_class: Any,
    kind: str,
    path: str,
    dtype: str | torch.dtype,
    attn_implementation: str | None,
) -> tuple[Any, Any]:
    local = Path(path).is_dir()
    if local and not any(Path(path).glob("*.safetensors")):
        raise ModelError(
            f"{path} has no *.safetensors file",
            "weights in safetensors files (other formats can run code when they are read)",
            "Convert it: load it with transformers and save_pretrained it again",
        )
    try:
        loaded: Any = model_class.from_pretrained(
            path,
            dtype=dtype,
            attn_implementation=attn_implementation,
            use_safetensors=True,
            local_files_only=local,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=local)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"{path} cannot be loaded ({_first_line(error)})",
            f"a {kind} with safetensors weights and a tokenizer",
            _ADVICE,
        ) from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"{path} lacks {len(missing)} weights of a {kind} ({missing[0]} ...)",
            "the weights of every layer and of the head",
            f"Choose a checkpoint that was saved as a {kind}",
        )
    return model, tokenizer


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
