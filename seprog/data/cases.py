"""What the data sets of knowledge editing have in common: cases, edits and what to ask of them.

``load_cases`` reads the public files as they are; which importer reads a file is told by the fields
of the first row that any of them knows, not by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from seprog.data.folders import files_of
from seprog.data.rows import read_rows
from seprog.errors import InputError

Kind = Literal["rewrite", "paraphrase", "entailed", "composed", "near_miss", "far"]


@dataclass(frozen=True)
class Correction:
    """One edit.

    Args:
        prompt: A question or the start of a sentence.
        target: The new answer.
        subject: What it is about; empty if the data set does not say.
        truth: Answers that were right before; empty if the data set does not say.
        relation: What is asked of the subject, by the data set's own name; empty if it has none.
    """

    prompt: str
    target: str
    subject: str = ""
    truth: tuple[str, ...] = ()
    relation: str = ""

    @property
    def wording(self) -> str:
        """The prompt without its subject."""
        return self.prompt.replace(self.subject, "{}", 1)


@dataclass(frozen=True)
class Asked:
    """A question of a case.

    Args:
        kind: ``rewrite``, ``paraphrase``, ``entailed`` (a consequence), ``composed`` (of several
            hops, or several edits); ``near_miss`` and ``far`` are out of scope.
        prompt: What is asked.
        answers: Accepted answers, the first being the data set's own; out of scope those that are
            true, while the protocol compares with what the base model says.
        group: The data set's own name of the kind.
    """

    kind: Kind
    prompt: str
    answers: tuple[str, ...]
    group: str = ""


@dataclass(frozen=True)
class Hop:
    """One step of a question of several hops.

    Args:
        subject: Where it starts.
        relation: What is asked of it, by the data set's own name.
        prompts: Ways to ask for it; the first is the one that it is edited by.
        answer: Where it leads.
    """

    subject: str
    relation: str
    prompts: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Case:
    """Edits that belong together, and what is asked once they hold.

    Args:
        id: As in the data set.
        edits: At least one.
        asked: In the data set's order; the edits' own prompts come first.
        before: The hops of the composed questions as things are; empty if the data set doesn't say.
        after: The same once the edits hold.
    """

    id: str
    edits: tuple[Correction, ...]
    asked: tuple[Asked, ...] = field(default=())
    before: tuple[Hop, ...] = ()
    after: tuple[Hop, ...] = ()


@dataclass(frozen=True)
class Importer:
    """How the files of one data set are read.

    Args:
        name: Of the data set and its form.
        fields: Fields that every row has, and that no other importer's rows have together.
        parse: A row to a case, or ``None`` for one that is known to be faulty; raises
            ``LookupError``, ``TypeError`` or ``ValueError``.
    """

    name: str
    fields: frozenset[str]
    parse: Callable[[dict[str, Any]], Case | None]


def text(value: object) -> str:
    """A text that is not blank, without white space around it.

    Raises:
        ValueError: If it is something else.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r} is no text")
    return value.strip()


def texts(values: object) -> tuple[str, ...]:
    """Texts from one text, a list of texts, or a list of lists; blanks and repeats are left out.

    Raises:
        ValueError: If it is, or holds, something else; ``None`` counts as no text.
    """
    if values is None or isinstance(values, str):
        values = [values or ""]
    if not isinstance(values, list | tuple):
        raise ValueError(f"{values!r} is no text and no list of texts")
    found: list[str] = []
    for value in values:
        found += [value.strip()] if isinstance(value, str) else texts(value)
    return tuple(dict.fromkeys(t for t in found if t))


def load_cases(
    path: Path, importers: Iterable[Importer] | None = None, strangers: bool = False
) -> list[Case]:
    """Every case of a file.

    Args:
        path: JSON lines or a JSON array, plain or gzipped, as published.
        importers: Who may read it; ``None`` means all that there are.
        strangers: Whether a file that none of them knows has no cases, instead of being refused.

    Returns:
        Cases in the order of the rows; rows with a known fault of the data set are left out.

    Raises:
        InputError: If the file is missing or empty, no importer knows it, or a row is wrong; the
            message names the row.
    """
    from seprog.data.importers import IMPORTERS

    known = tuple(importers or IMPORTERS)
    rows: list[Any] = read_rows(path, lambda row: row, "an object")
    importer = _importer_of(rows, dict.fromkeys((*known, *IMPORTERS)))
    if importer in known:
        form = f"a row of {importer.name} with {', '.join(sorted(importer.fields))}"
        return [case for case in read_rows(path, importer.parse, form) if case is not None]
    if strangers:
        return []
    if not rows:
        raise InputError(f"{path} is empty", "one row or more", "Give another file")
    fields = f"the fields {', '.join(sorted(rows[0]))}" if _is_object(rows[0]) else "no fields"
    raise InputError(
        f"The first row of {path} has {fields}",
        f"the rows of one of: {', '.join(i.name for i in known)}",
        "Give the file as it was published",
    )


def load_folder(folder: Path, importers: Iterable[Importer]) -> list[list[Case]]:
    """The cases of a folder's files, file by file; files without any are left out.

    Args:
        folder: Its files may lie at any depth, beside others.
        importers: Who may read them; what another importer, or none, knows is passed over.

    Raises:
        InputError: If a row of a file that one of them knows is wrong, or a file is damaged.
    """
    known = tuple(importers)
    loaded = [load_cases(path, known, strangers=True) for path in files_of(folder)]
    return [cases for cases in loaded if cases]


def _importer_of(rows: Iterable[Any], importers: Iterable[Importer]) -> Importer | None:
    """Who knows the first row that any knows; the one that asks for most, if several do."""
    for row in filter(_is_object, rows):
        fits = [i for i in importers if i.fields <= row.keys()]
        if fits:
            return max(fits, key=lambda i: len(i.fields))
    return None


def _is_object(row: object) -> bool:
    return isinstance(row, dict)
