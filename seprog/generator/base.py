"""What a prompt generator is: edits to prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from seprog.types import Edit, Prefix


@runtime_checkable
class PromptGenerator(Protocol):
    """Turns each edit into a prefix for one base model."""

    @property
    def fingerprint(self) -> str:
        """Changes when the generator or its base model does; stamped on cached prefixes."""
        ...

    @property
    def replaces_bos(self) -> bool:
        """Whether the prefix already holds the BOS that the query would start with."""
        ...

    def prefixes(self, edits: Sequence[Edit]) -> list[Prefix]:
        """One prefix per edit, in the order given."""
        ...

    def save_pretrained(self, folder: Path) -> None:
        """Write what is needed to load it again."""
        ...
