"""Everything that seprog raises on purpose.

::

    SeprogError                      exit code 1
    ├── InputError                   2   the caller's text, id, flag or file is not usable
    │   └── UnknownEdit              2   no edit has this id
    ├── MemoryFileError              3   the memory file cannot be opened, read or written
    │   └── DiskFull                 3   there is no space left for a change
    ├── ModelError                   4   the base model cannot be loaded or cannot be edited
    │   └── FingerprintMismatch      4   generator, gate or prefix was made for something else
    └── MissingExtra                 5   an optional dependency is not installed

A message has three beats: what came, what was expected, what to do next. The command line
prints it as one line and exits with the class's ``exit_code``; no traceback.
"""

from __future__ import annotations

from safetensors import SafetensorError

UNREADABLE = (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError)
"""What reading weights and their configuration raises, if they are not there or damaged."""


class SeprogError(Exception):
    """Base class; its message is meant for the person who runs seprog.

    Args:
        came: What was given or found.
        expected: What would have been right.
        advice: What to do next.
    """

    exit_code = 1

    def __init__(self, came: str, expected: str = "", advice: str = "") -> None:
        self.came, self.expected, self.advice = came, expected, advice
        beats = [came, expected and f"Expected {expected}", advice]
        super().__init__(" ".join(b.rstrip(".") + "." for b in beats if b))


class InputError(SeprogError):
    """A text, id, flag or file that the caller gave is not usable."""

    exit_code = 2


class UnknownEdit(InputError):
    """No edit in the memory has this id."""


class MemoryFileError(SeprogError):
    """The memory file cannot be opened, read or written."""

    exit_code = 3


class DiskFull(MemoryFileError):
    """There is no space left for a change to the memory; what was there before is safe."""


class ModelError(SeprogError):
    """The base model cannot be loaded, or has no place for a prefix."""

    exit_code = 4


class FingerprintMismatch(ModelError):
    """A generator, gate or prefix was made for another base model."""


class MissingExtra(SeprogError):
    """An optional dependency is not installed."""

    exit_code = 5
