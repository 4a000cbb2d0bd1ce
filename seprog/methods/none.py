"""No edit at all: what the base model says by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from seprog.lm import LanguageModel
from seprog.methods.contract import ANY, EditMethod, Request


class Nothing(EditMethod):
    """Takes edits and does nothing."""

    name: ClassVar[str] = "none"
    source: ClassVar[str] = "the base model"
    kinds: ClassVar[tuple[type[LanguageModel], ...]] = ANY
    forgets: ClassVar[bool] = True
    reads: ClassVar[bool] = True

    def apply(self, requests: Sequence[Request]) -> None:
        """Nothing."""

    def revert(self) -> None:
        """Nothing."""

    def forget(self, request: Request) -> None:
        """Nothing."""

    def bytes_kept(self) -> int:
        """Nothing."""
        return 0
