"""Edits at rest: the store, its index, and the forms in which edits are given."""

from seprog.memory.edit_text import make_edit
from seprog.memory.index import VectorIndex
from seprog.memory.store import Event, ImportReport, Memory

__all__ = ["Event", "ImportReport", "Memory", "VectorIndex", "make_edit"]
