"""The edits of one namespace, ready to be searched: what a memory is to the gate."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from threading import RLock
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from seprog.gate.glance import Sighting
from seprog.gate.words import WordIndex, best
from seprog.memory import VectorIndex
from seprog.types import Edit

T = TypeVar("T")


def interleave(*lists: Sequence[T]) -> list[T]:
    """The firsts of all lists, then the seconds, and so on; each element once."""
    columns = ([x[i] for x in lists if i < len(x)] for i in range(max(map(len, lists), default=0)))
    return list(dict.fromkeys(x for column in columns for x in column))


class Shelf:
    """Edits by id, by key and by word. May be changed while other threads search it.

    Adding or removing an edit takes time in proportion to the edit, not to the shelf.
    """

    def __init__(self) -> None:
        self.edits: dict[str, Edit] = {}
        self.index = VectorIndex()
        self.words = WordIndex()
        self._lock = RLock()

    def __len__(self) -> int:
        """The number of edits."""
        return len(self.edits)

    def add(self, edits: Sequence[Edit], keys: Float[np.ndarray, "n d"]) -> None:
        """Put edits that carry ids on the shelf, or replace them.

        Args:
            edits: Any number of them.
            keys: A key for each.
        """
        with self._lock:
            self.index.add([e.id for e in edits], keys)
            for edit in edits:
                self.edits[edit.id] = edit
                self.words.add(edit.id, edit.statement)

    def remove(self, ids: Iterable[str]) -> None:
        """Take edits off the shelf; ids that are not on it are passed over."""
        with self._lock:
            for id_ in ids:
                if self.edits.pop(id_, None) is not None:
                    self.index.remove([id_])
                    self.words.remove(id_)

    def search(
        self,
        keys: Float[np.ndarray, "q d"],
        cues: Sequence[str],
        hidden: Sequence[Collection[str]],
        nearest: int,
        shared: int,
        beside: Shelf | None = None,
    ) -> list[list[Sighting]]:
        """Per query, the edits nearest to its key and those that share its cue's rarest words.

        Args:
            keys: Of the queries.
            cues: Texts of which the words are looked up.
            hidden: Per query, ids that are not to be found.
            nearest: Edits to find by key, at least 1.
            shared: Edits to find by words.
            beside: A shelf of which the edits count where it is asked how rare a word is.

        Returns:
            Edits, and what they were found by; best first, fewer if there are not so many.
        """
        more = max(map(len, hidden), default=0)
        others = beside.words if beside else None
        with self._lock:
            by_key = self.index.search(keys, nearest + more)
            found = []
            for key, cue, near, left_out in zip(keys, cues, by_key, hidden, strict=True):
                close = [i for i, _ in near if i not in left_out][:nearest]
                words = self.words.sharing(cue, others)
                alike = [i for i in best(words) if i not in left_out][:shared]
                ids = interleave(close, alike)
                cosines = self.index.cosines(key, ids)
                found.append(
                    [
                        Sighting(self.edits[i], cosine, *words.get(i, (0.0, 0.0)))
                        for i, cosine in zip(ids, cosines, strict=True)
                    ]
                )
            return found


class Overlay(Shelf):
    """A shelf as it would be with more edits on it and some taken off; the shelf itself stays.

    Args:
        below: The shelf.
        above: With the edits that are to be seen too.
        hidden: Ids of edits on the shelf that are not to be seen.
    """

    def __init__(self, below: Shelf, above: Shelf, hidden: Collection[str] = ()) -> None:
        super().__init__()
        self.below, self.above, self.hidden = below, above, set(hidden)

    def __len__(self) -> int:
        """The number of edits on both, those hidden included."""
        return len(self.below) + len(self.above)

    def search(
        self,
        keys: Float[np.ndarray, "q d"],
        cues: Sequence[str],
        hidden: Sequence[Collection[str]],
        nearest: int,
        shared: int,
        beside: Shelf | None = None,
    ) -> list[list[Sighting]]:
        """As on a shelf; the edits found on the two take turns."""
        out = [self.hidden | set(ids) for ids in hidden]
        turns = ((self.above, self.below), (self.below, self.above))
        found = [s.search(keys, cues, out, nearest, shared, other) for s, other in turns]
        return [interleave(*lists) for lists in zip(*found, strict=True)]
