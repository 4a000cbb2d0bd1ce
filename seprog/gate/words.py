"""Which edits share rare words with a text: names above all, which a sentence encoder blurs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

COMMON = 64
"""A word of more edits than this says nothing about any of them."""


def words(text: str) -> list[str]:
    """The words of a text in lower case, each once, in order."""
    return list(dict.fromkeys(re.findall(r"\w+", text.lower())))


def cue(text: str, statement: str) -> str:
    """What a statement adds to a text, in words: where a chain goes on from."""
    said = set(words(text))
    return " ".join(w for w in words(statement) if w not in said)


def asked_last(text: str) -> list[str]:
    """Of several sentences the last one, and the last question, as far as they have three words.

    A sentence ends in a mark behind a word of three letters or more, as abbreviations hardly do.
    """
    sentences = re.split(r"(?<=\w\w\w[.!?])\s+", text.strip())
    if len(sentences) == 1:
        return []
    questions = [s for s in sentences if s.endswith("?")]
    found = dict.fromkeys([sentences[-1], *questions[-1:]])
    return [s for s in found if len(words(s)) > 2]


class WordIndex:
    """Statements by their words; beside the keys' index, and derived from the edits like it."""

    def __init__(self) -> None:
        self._edits: dict[str, dict[str, None]] = {}
        self._words: dict[str, list[str]] = {}

    def add(self, id_: str, statement: str) -> None:
        """Put a statement in, or replace it."""
        self.remove(id_)
        self._words[id_] = words(statement)
        for word in self._words[id_]:
            self._edits.setdefault(word, {})[id_] = None

    def remove(self, id_: str) -> None:
        """Take a statement out, if it is there."""
        for word in self._words.pop(id_, ()):
            del self._edits[word][id_]
            if not self._edits[word]:
                del self._edits[word]

    def sharing(self, text: str, beside: WordIndex | None = None) -> dict[str, tuple[float, float]]:
        """The edits that share words with a text that are not common.

        Args:
            text: Any.
            beside: More statements that say how common a word is, and are not looked for.

        Returns:
            By id, the weight of the rarest word shared (0 to 1: no other edit has it), and the sum
            of the weights of all words shared.
        """
        shared: dict[str, tuple[float, float]] = {}
        more = beside or WordIndex()
        total_edits = len(self._words) + len(more._words)
        rarest_of_all = math.log(1 + total_edits)
        for word in words(text):
            edits = self._edits.get(word, ())
            having = len(edits) + len(more._edits.get(word, ()))
            if edits and having <= COMMON:
                weight = math.log(1 + total_edits / having) / rarest_of_all
                for id_ in edits:
                    rarest, total = shared.get(id_, (0.0, 0.0))
                    shared[id_] = max(rarest, weight), total + weight
        return shared


def best(shared: Mapping[str, tuple[float, float]]) -> list[str]:
    """Ids by the rarest word shared, then by all words shared; equal ones by id.

    A name counts for more than any number of everyday words.
    """
    return sorted(shared, key=lambda i: (-shared[i][0], -shared[i][1], i))
