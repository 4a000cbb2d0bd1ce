"""The generator that needs no training: the keys and values of the edit's own text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from seprog.lm import LanguageModel
from seprog.types import Edit, Prefix


class VerbatimGenerator:
    """The edit as the base model itself reads it, cached.

    With one edit this is the edit's text in the context, bit for bit but for rounding.

    Args:
        lm: The base model.
    """

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm

    @property
    def replaces_bos(self) -> bool:
        """It begins with the edit's own leading tokens; where a model writes, one set will do."""
        return self.lm.generates

    @property
    def fingerprint(self) -> str:
        """Changes when the base model does."""
        return f"verbatim-{self.lm.fingerprint}"

    def prefixes(self, edits: Sequence[Edit]) -> list[Prefix]:
        """One prefix per edit, as long as its text has tokens."""
        return self.lm.capture_text([e.statement for e in edits]) if edits else []

    def save_pretrained(self, folder: Path) -> None:
        """Write the one thing there is to know."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "generator.json").write_text(json.dumps({"kind": "verbatim"}) + "\n")
