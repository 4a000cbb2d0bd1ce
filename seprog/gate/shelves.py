"""The shelves of a memory's namespaces, kept up to date with it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from threading import RLock

import numpy as np
from jaxtyping import Float32

from seprog.errors import MemoryFileError
from seprog.gate.gate import ScopeGate
from seprog.gate.shelf import Shelf
from seprog.memory import Memory
from seprog.types import Edit


class Shelves:
    """One shelf per namespace. May be asked for from several threads.

    Args:
        gate: Makes the keys.
    """

    def __init__(self, gate: ScopeGate) -> None:
        self.gate = gate
        self._lock = RLock()
        self._known: dict[str, tuple[int, Shelf]] = {}

    def of(self, memory: Memory, namespace: str) -> Shelf:
        """The namespace's active edits with their keys; brought up to date with the memory."""
        with self._lock:
            revision, shelf = self._known.get(namespace) or (0, Shelf())
            if memory.revision() != revision:
                revision, changed = memory.changes(revision, namespace)
                shelf.remove([e.id for e in changed if not e.active])
                if active := [e for e in changed if e.active]:
                    shelf.add(active, self._keys(memory, active))
            self._known[namespace] = revision, shelf
            return shelf

    def _keys(self, memory: Memory, edits: Sequence[Edit]) -> Float32[np.ndarray, "edits width"]:
        """The gate's keys of edits, from the memory or made now and kept there."""
        stamp = self.gate.fingerprint
        ids, kept = memory.get_keys(stamp, [e.id for e in edits])
        found = dict(zip(ids, kept, strict=True))
        if missing := [e for e in edits if e.id not in found]:
            made = self.gate.keys(missing)
            with suppress(MemoryFileError):
                memory.put_keys(stamp, [e.id for e in missing], made)
            rounded = made.astype(np.float16)  # as the memory keeps them
            found |= {e.id: key for e, key in zip(missing, rounded, strict=True)}
        return np.stack([found[e.id] for e in edits], dtype=np.float32)
