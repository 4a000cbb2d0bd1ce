"""Prompt generators: edits to prefixes."""

from __future__ import annotations

import json
from pathlib import Path

from seprog.errors import UNREADABLE, InputError
from seprog.generator.base import PromptGenerator
from seprog.generator.self_encoder import SelfEncoder, SelfEncoderConfig
from seprog.generator.verbatim import VerbatimGenerator
from seprog.lm import LanguageModel


def load_generator(folder: Path | None, lm: LanguageModel) -> PromptGenerator:
    """The generator in a folder; the verbatim one if ``folder`` is ``None``.

    Raises:
        InputError: If the folder holds no generator.
        FingerprintMismatch: If it was trained for another base model.
    """
    if folder is None:
        return VerbatimGenerator(lm)
    try:
        kind = json.loads((folder / "generator.json").read_text())["kind"]
        if kind == "verbatim":
            return VerbatimGenerator(lm)
        return SelfEncoder.from_pretrained(folder, lm)
    except UNREADABLE as error:
        raise InputError(
            f"{folder} holds no generator ({error})",
            "a folder with generator.json and generator.safetensors",
            "Train one with: seprog train generator",
        ) from error


__all__ = [
    "PromptGenerator",
    "SelfEncoder",
    "SelfEncoderConfig",
    "VerbatimGenerator",
    "load_generator",
]
