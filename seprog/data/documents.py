"""Text to learn from, piece by piece."""

from __future__ import annotations

from dataclasses import dataclass

Piece = tuple[str, bool]
"""A text, and whether the model is to learn to continue with it there (an answer)."""


@dataclass
class Document:
    """Text to learn from.

    Args:
        pieces: ``(text, is_answer)`` in order; an answer is closed by an end-of-text token.
        fact: Index of the closed-book fact that it teaches, or -1.
    """

    pieces: list[Piece]
    fact: int = -1
