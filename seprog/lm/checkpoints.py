"""Reading models from disk or from the Hub, with errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from seprog.errors import ModelError

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
        return AutoConfig.from_pretrained(path, local_files_only=folder.is_dir())
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"No model could be read from {path!r} ({_first_line(error)})",
            "a folder or the id of a model on the Hub",
            _ADVICE,
        ) from error


def is_causal(config: PreTrainedConfig) -> bool:
    """Whether a configuration is one of a causal language model."""
    return not config.is_encoder_decoder and type(config) in MODEL_FOR_CAUSAL_LM_MAPPING


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
    local = Path(path).is_dir()
    if local and not any(Path(path).glob("*.safetensors")):
        raise ModelError(
            f"{path} has no *.safetensors file",
            "weights in safetensors files (other formats can run code when they are read)",
            "Convert it: load it with transformers and save_pretrained it again",
        )
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
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
            "a causal language model with safetensors weights and a tokenizer",
            _ADVICE,
        ) from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"{path} lacks {len(missing)} weights of a causal language model ({missing[0]} ...)",
            "the weights of every layer and of the language model head",
            "Choose a checkpoint that was saved as a causal language model",
        )
    return model, tokenizer


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
