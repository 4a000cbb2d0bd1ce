"""Edits as text: the forms in which they are given, and what text is acceptable.

Knows nothing of storage or models.
"""

from __future__ import annotations

from dataclasses import replace

from seprog.errors import InputError
from seprog.types import Edit

MAX_CHARACTERS = 2000
"""Longest text that any field of an edit may hold."""

FORM_FIELDS = (
    ("statement",),
    ("prompt", "target"),
    ("statement", "prompt", "target"),
    ("subject", "relation", "object"),
)
"""The fields of each form of an edit."""
FORMS = (
    "a statement, or a prompt and a target, or all three, or a subject, a relation and an object"
)
_TEXT_FIELDS = (
    "statement",
    "prompt",
    "target",
    "subject",
    "relation",
    "object",
    "namespace",
    "author",
    "reason",
)
_MAY_BE_EMPTY = ("author", "reason")
_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")  # noqa: RUF001
_CLOSING_MARKS = "\"'”’»)]"  # noqa: RUF001


def make_edit(
    statement: str | None = None,
    prompt: str | None = None,
    target: str | None = None,
    subject: str | None = None,
    relation: str | None = None,
    object: str | None = None,
    *,
    namespace: str = "default",
    author: str | None = None,
    reason: str | None = None,
) -> Edit:
    """Turn one of the forms of a correction into an edit.

    ::

        make_edit("The capital of Australia is Sydney.")
        make_edit(prompt="The capital of Australia is", target="Sydney")
        make_edit("Sydney is Australia's capital.", "What is Australia's capital?", "Sydney")
        make_edit(subject="Australia", relation="capital", object="Sydney")

    Args:
        statement: The correction as a sentence. ``None`` if given in another form.
        prompt: Question or sentence start; needs ``target``. With a statement, a prompt that the
            statement answers: the edit is tried on it.
        target: The answer to ``prompt``.
        subject: Subject of the triple; needs ``relation`` and ``object``.
        relation: Relation of the triple, as a noun ("capital").
        object: Object of the triple.
        namespace: Tenant that the edit belongs to.
        author: Who wrote it. ``None`` means unknown.
        reason: Why. ``None`` means not given.

    Returns:
        An edit with a statement of at most 2000 characters, and without an id.

    Raises:
        InputError: Not exactly one form was given, or a text is empty, too long, or not
            storable (NUL characters, bytes that are not UTF-8).
    """
    texts = {
        "statement": statement,
        "prompt": prompt,
        "target": target,
        "subject": subject,
        "relation": relation,
        "object": object,
    }
    given = tuple(name for name, text in texts.items() if text is not None)
    if given not in FORM_FIELDS:
        raise InputError(
            f"The edit came with {' and '.join(given) or 'no text'}",
            f"exactly one form: {FORMS}",
            "Give the fields of one form, all of them, and no others",
        )
    tidy = {name: _tidy(name, text) for name, text in texts.items() if text is not None}
    sentence = tidy.pop("statement", None) or _compose(tidy)
    return checked(
        Edit(sentence, **tidy, namespace=namespace, author=author, reason=reason)  # type: ignore[arg-type]
    )


def _tidy(name: str, text: str) -> str:
    check_text(name, text)
    return text.strip() if name == "statement" else " ".join(text.split())


def _compose(fields: dict[str, str]) -> str:
    if "prompt" in fields:
        sentence = f"{fields['prompt']} {fields['target']}"
    else:
        sentence = f"The {fields['relation']} of {fields['subject']} is {fields['object']}"
    ended = sentence.rstrip(_CLOSING_MARKS).endswith(_SENTENCE_ENDS)
    return sentence if ended else sentence + "."


def checked(edit: Edit) -> Edit:
    """The same edit, its statement stripped, if every text in it can be kept.

    Args:
        edit: Any edit.

    Returns:
        The edit to store.

    Raises:
        InputError: A text is empty, too long, or not storable.
    """
    for name in _TEXT_FIELDS:
        text = getattr(edit, name)
        if text is not None:
            check_text(name, text, may_be_empty=name in _MAY_BE_EMPTY)
    return replace(edit, statement=edit.statement.strip())


def check_text(name: str, text: str, may_be_empty: bool = False) -> None:
    """Refuse a text that an edit cannot hold.

    Args:
        name: What the text is, for the message ("statement").
        text: The text itself.
        may_be_empty: Whether nothing but white space is fine too.

    Raises:
        InputError: The text is empty, longer than 2000 characters, holds a NUL, or is not
            valid Unicode.
    """
    if not may_be_empty and not text.strip():
        raise InputError(f"The {name} is empty", "some text", f"Write the {name} out")
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"The {name} has {len(text)} characters",
            f"at most {MAX_CHARACTERS}",
            "Shorten it, or split it into several edits",
        )
    if "\x00" in text:
        raise InputError(
            f"The {name} holds a NUL character", "plain text", "Remove the NUL character"
        )
    if not is_unicode(text):
        raise InputError(
            f"The {name} holds bytes that are not UTF-8", "UTF-8 text", "Convert it to UTF-8"
        )


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8, that is, has no lone surrogates.

    Args:
        text: Any string; one made from bytes that are not UTF-8 has lone surrogates.

    Returns:
        True if it can.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def question_of(edit: Edit) -> str | None:
    """What two edits share if they answer the same prompt.

    Args:
        edit: Any edit.

    Returns:
        The prompt without differences in case and spacing; ``None`` if there is no prompt.
    """
    return _folded(edit.prompt) if edit.prompt else None


def fact_of(edit: Edit) -> str | None:
    """What two edits share if they state the same relation of the same subject.

    Args:
        edit: Any edit.

    Returns:
        Subject and relation, one per line, without differences in case and spacing; ``None``
        if the edit is not a triple.
    """
    if not edit.subject or not edit.relation:
        return None
    return f"{_folded(edit.subject)}\n{_folded(edit.relation)}"


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
