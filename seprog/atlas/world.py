"""The facts that Atlas knows, what follows from them, and what follows from them after edits.

The tables under ``facts/`` hold one row per entity; the files under ``relations/`` say how each
column is put into words. ``World.answer`` is the symbolic oracle: for any query it gives the right
answer in the world as edited, and the edits on which that answer rests. Knows nothing of models.
"""

from __future__ import annotations

import csv
import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

HERE = Path(__file__).parent
Split = Literal["train", "calibration", "test"]
SPLITS: tuple[Split, ...] = ("train", "calibration", "test")
Wording = Literal["train", "many", "calibration", "another", "test", "other"]
TRAINING: tuple[Wording, ...] = ("train", "many")
WORDINGS: tuple[Wording, ...] = (*TRAINING, "calibration", "another", "test", "other")
"""Whose phrasings: a split's; ``many``, those of the training split and of six more writers;
``another``, one writer's, to choose models by; or ``other``, those of four more, in which nothing
is trained, fitted or chosen. What is not a split's stands under ``relations/others``."""
Key = tuple[str, str]
"""(relation, subject): what a fact is about."""


@cache
def split_of(name: str) -> Split:
    """The part of the data that an entity belongs to, by a hash of its name (70/10/20 %)."""
    bucket = hashlib.sha256(name.encode()).digest()[0] % 10
    return "train" if bucket < 7 else "calibration" if bucket == 7 else "test"


@dataclass(frozen=True, eq=False)
class Relation:
    """One relation and its phrasings. Compared by identity.

    Args:
        name: Unique name, also in results.
        subject: Entity type of the subject.
        object: Entity or value type of the object.
        one_to_one: Whether the object identifies the subject, so that the inverse can be asked.
        inherited: Whether subclasses inherit the value.
        phrasings: Per wording, sentences with ``{s}`` that end in ``{o}.``.
        nouns: Per wording, noun phrases with ``{s}`` that denote the object.
        inverses: Per wording, sentences with ``{o}`` that end in ``{s}.``.
    """

    name: str
    subject: str
    object: str
    column: str
    one_to_one: bool
    inherited: bool
    phrasings: Mapping[Wording, tuple[str, ...]]
    nouns: Mapping[Wording, tuple[str, ...]]
    inverses: Mapping[Wording, tuple[str, ...]]


@dataclass(frozen=True)
class Query:
    """A walk through the world: start at an entity and follow relations.

    Args:
        start: Name of an entity (the object, for an inverse query).
        path: Names of the relations, innermost first.
        inverse: Ask which subject has ``start`` as its value of ``path[0]``.
    """

    start: str
    path: tuple[str, ...]
    inverse: bool = False


@dataclass(frozen=True)
class Fact:
    """One (subject, relation, object); counterfactual if it is used as an edit."""

    subject: str
    relation: str
    object: str

    @property
    def key(self) -> Key:
        """What the fact is about."""
        return self.relation, self.subject


@dataclass(frozen=True)
class Outcome:
    """The right answer to a query, and the facts among the edits that it rests on, in order."""

    answer: str
    used: tuple[Fact, ...] = ()


def asks(phrasing: str) -> bool:
    """Whether a phrasing is a question rather than a statement."""
    return "?" in phrasing


def tidy(text: str) -> str:
    """Articles before noun phrases and vowels, and the first letter."""
    text = re.sub(r"\b([Aa]n?|[Tt]he) (the|an?) ", lambda m: m[2] + " ", text)
    text = re.sub(r"\b([Aa]) (?=[aeioAEIO])", lambda m: m[1] + "n ", text)
    text = re.sub(r"\b([Aa])n (?=[^aeiouAEIOU\W\d])", lambda m: m[1] + " ", text)
    return text[:1].upper() + text[1:]


def fill(phrasing: str, subject: str) -> str:
    """A prompt: the phrasing with its subject, without the object and the period."""
    text = phrasing.replace("{s}", subject).removesuffix("{o}.").rstrip()
    return tidy(text)


@dataclass(eq=False)
class World:
    """All facts, by what they are about. Compared by identity; treat it as read-only."""

    relations: dict[str, Relation]
    facts: dict[Key, str]
    entities: dict[str, list[str]] = field(default_factory=dict)

    def objects(self, type_: str) -> list[str]:
        """Every object of the given type that occurs in the tables, in a fixed order."""
        return self._objects[type_]

    @cached_property
    def _objects(self) -> dict[str, list[str]]:
        found: dict[str, dict[str, None]] = {}
        for (relation, _), value in self.facts.items():
            found.setdefault(self.relations[relation].object, {})[value] = None
        return {t: list(v) for t, v in found.items()}

    def answer(self, query: Query, edits: Mapping[Key, Fact] | None = None) -> Outcome | None:
        """The right answer once ``edits`` hold.

        Args:
            query: What is asked.
            edits: The edits in force, by what they are about. ``None`` means none.

        Returns:
            The answer and the edits that were needed, or ``None`` if the world has no answer.
        """
        edits = edits or {}
        if query.inverse:
            return self._inverse(query, edits)
        node = query.start
        used: list[Fact] = []
        for relation in query.path:
            step = self._step(relation, node, edits)
            if step is None:
                return None
            node = step.answer
            used += step.used
        return Outcome(node, tuple(dict.fromkeys(used)))

    def _step(self, relation: str, node: str, edits: Mapping[Key, Fact]) -> Outcome | None:
        used: list[Fact] = []
        inherited = self.relations[relation].inherited
        for _ in range(16):  # a chain of classes is never longer; edits may close a circle
            fact = edits.get((relation, node))
            if fact is not None:
                return Outcome(fact.object, (*used, fact))
            if (relation, node) in self.facts:
                return Outcome(self.facts[relation, node], tuple(used))
            if not inherited:
                return None
            parent = edits.get(("kind", node))
            if parent is not None:
                used.append(parent)
                node = parent.object
            elif ("kind", node) in self.facts:
                node = self.facts["kind", node]
            else:
                return None
        return None

    def _inverse(self, query: Query, edits: Mapping[Key, Fact]) -> Outcome | None:
        (relation,) = query.path
        claims = [f for f in edits.values() if f.relation == relation and f.object == query.start]
        if len(claims) == 1:
            return Outcome(claims[0].subject, (claims[0],))
        owners = self._owners.get((relation, query.start), [])
        owners = [s for s in owners if (relation, s) not in edits]
        return Outcome(owners[0]) if len(owners) == 1 and not claims else None

    @cached_property
    def _owners(self) -> dict[Key, list[str]]:
        found: dict[Key, list[str]] = {}
        for (relation, subject), value in self.facts.items():
            found.setdefault((relation, value), []).append(subject)
        return found

    def continuations(self, type_: str) -> list[str]:
        """Names of the relations that an entity of this type can be asked about."""
        return [r.name for r in self.relations.values() if r.subject == type_]


def load_relations(folder: Path = HERE / "relations") -> dict[str, Relation]:
    """Read every relation, in the order of the files' names, with all that others call it."""
    relations = {}
    for path in sorted(folder.glob("*.toml")):
        others = tomllib.loads((folder / "others" / path.name).read_text("utf-8"))
        for name, row in tomllib.loads(path.read_text("utf-8")).items():
            more = others[name]
            row |= {key: texts for key, texts in more.items() if not key.endswith("train")}
            for form in ("", "noun_", "inverse_"):
                own, theirs = (source.get(f"{form}train", ()) for source in (row, more))
                row[f"{form}many"] = [*own, *theirs]
            relations[name] = Relation(
                name=name,
                subject=row["subject"],
                object=row["object"],
                column=row["column"],
                one_to_one=row.get("one_to_one", False),
                inherited=row.get("inherited", False),
                phrasings={w: tuple(row[w]) for w in WORDINGS},
                nouns={w: tuple(row[f"noun_{w}"]) for w in WORDINGS},
                inverses={w: tuple(row.get(f"inverse_{w}", ())) for w in WORDINGS},
            )
    return relations


TABLES = {
    "books": "book",
    "cities": "city",
    "companies": "company",
    "countries": "country",
    "elements": "element",
    "films": "film",
    "kinds": "organism",
    "organisms": "organism",
    "paintings": "painting",
    "people": "person",
}
"""File name of each table, and the entity type of its rows."""


@cache
def load_world() -> World:
    """Read all tables. Cached; treat the result as read-only."""
    relations = load_relations()
    facts: dict[Key, str] = {}
    entities: dict[str, list[str]] = {}
    for table, type_ in TABLES.items():
        with (HERE / "facts" / f"{table}.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                entities.setdefault(type_, []).append(row["name"])
                for relation in _columns(relations.values(), type_):
                    if value := row.get(relation.column):
                        facts[relation.name, row["name"]] = value
    return World(relations, facts, entities)


def _columns(relations: Iterable[Relation], type_: str) -> list[Relation]:
    return [r for r in relations if r.subject == type_]
