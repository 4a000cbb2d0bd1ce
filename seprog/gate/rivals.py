"""Which edits new ones take the place of, worked out before these are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from seprog.gate.gate import ScopeGate
from seprog.gate.shelf import Overlay, Shelf
from seprog.memory.records import mark
from seprog.types import Edit

Watch = Callable[[int, int], None]
"""Told how many edits of how many are done."""
_AT_ONCE = 32


class Rivals:
    """The edits that answer the same question as new ones do, as the gate sees it.

    The new ones are looked at in their order: to each, those before it are in force, and what
    these replaced is gone. Called again, because others wrote meanwhile, it looks only at what
    they wrote.

    Args:
        gate: Reads the edits.
        shelf: The edits in force of a namespace.
        watch: Told how far it is.
    """

    def __init__(
        self, gate: ScopeGate, shelf: Callable[[str], Shelf], watch: Watch | None = None
    ) -> None:
        self.gate, self.shelf, self.watch = gate, shelf, watch
        self._found: dict[str, list[str]] = {}
        self._keyless: list[Edit] = []
        self._new: dict[str, Shelf] = {}
        self._seen: dict[str, set[str]] = {}

    def __call__(self, edits: Sequence[Edit]) -> list[list[str]]:
        """Ids of what each replaces; a new edit without an id stands there as its ``mark``.

        Args:
            edits: To be written together; the same ones each time.
        """
        if not self._found:
            self._first([replace(e, id=e.id or mark(i)) for i, e in enumerate(edits)])
        else:
            self._again()
        return list(self._found.values())

    def _first(self, edits: Sequence[Edit]) -> None:
        gone: set[str] = set()
        self._seen = {name: set(self.shelf(name).edits) for name in {e.namespace for e in edits}}
        self._new = {name: Shelf() for name in self._seen}
        below = {name: self.shelf(name) for name in self._seen}
        for start in range(0, len(edits), _AT_ONCE):
            few = edits[start : start + _AT_ONCE]
            keys = self.gate.keys(few[:-1] if start + len(few) == len(edits) else few)
            for i, edit in enumerate(few):
                new, self._found[edit.id] = self._new[edit.namespace], []
                if edit.active:
                    shelf = Overlay(below[edit.namespace], new, gone)
                    self._found[edit.id] = [e.id for e in self._same(edit, shelf)]
                    gone.update(self._found[edit.id])
                    if i < len(keys):
                        new.add([edit], keys[i][None])
                    else:  # nothing follows that could meet it, as a rule
                        self._keyless = [edit]
            if self.watch:
                self.watch(start + len(few), len(edits))

    def _again(self) -> None:
        for edit in self._keyless:
            self._new[edit.namespace].add([edit], self.gate.keys([edit]))
        self._keyless = []
        for name, new in self._new.items():
            now = dict(self.shelf(name).edits)
            for id_ in now.keys() - self._seen[name]:
                for edit in self._same(now[id_], new):
                    self._found[edit.id].append(id_)
            self._seen[name] |= now.keys()

    def _same(self, edit: Edit, shelf: Shelf) -> list[Edit]:
        found = self.gate.same_question(edit, shelf)
        return [e for e, _ in found if e.statement != edit.statement]
