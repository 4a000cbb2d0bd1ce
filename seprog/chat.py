"""Conversations: what of them the gate reads, and how they become text for the model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seprog.errors import InputError
from seprog.types import Candidate, GateDecision

Message = Mapping[str, str]
"""A turn: ``role`` (system, user or assistant) and ``content``."""

ROLES = ("system", "user", "assistant")

LONGEST_QUERY = 20_000
"""Characters of a query; longer ones are refused."""

LEANING = 600
"""Characters of two user turns that the gate reads as one text; it cannot take in many more."""

POINTING = frozenset(
    "about again also another he her hers him his instead it its one ones same she that their "
    "theirs them then there these they this those too".split()
)
"""Words that point to what was said before."""
LITTLE = frozenset(
    "a an and are as at be but by can could did do does for from had has have how if in is me my "
    "of on or please say so tell the to us was we were what when where which who whom whose why "
    "will with would you your".split()
)
"""Words that name nothing."""
POLITE = frozenset(
    "bye good great hello hey hi no nice okay ok sorry sure thank thanks yes".split()
)
"""Words of turns that ask nothing."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked: of the model, and of the gate.

    Args:
        text: What the model reads.
        judged: What the gate reads; an edit fires if it bears on any of these. The first one is
            what was asked.
        bos: Whether the tokenizer's BOS stands in front of ``text``.
    """

    text: str
    judged: tuple[str, ...]
    bos: bool = True

    @staticmethod
    def plain(text: str) -> Query:
        """A text that both read as it stands."""
        return Query(text, (text,))

    @staticmethod
    def conversation(tokenizer: Any, messages: Sequence[Message]) -> Query:
        """The last turn of a conversation, in the words of the tokenizer's chat template.

        Raises:
            InputError: The conversation is none, or the template is missing or does not take it.
        """
        check_messages(messages)
        text, bos = chat_text(tokenizer, messages)
        return Query(text, tuple(judged(messages)), bos)


def check_query(query: str) -> None:
    """Refuse a query that is empty, longer than ``LONGEST_QUERY``, or no Unicode.

    Raises:
        InputError: It is.
    """
    if not query.strip():
        raise InputError("The query is empty", "a question or the start of a text", "Ask something")
    if len(query) > LONGEST_QUERY:
        raise InputError(
            f"The query has {len(query)} characters", f"at most {LONGEST_QUERY}", "Shorten it"
        )
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "The query is not valid Unicode", "UTF-8 text", "Convert it to UTF-8"
        ) from error


def check_queries(queries: Sequence[str]) -> None:
    """Refuse queries of which one is none, and a single text in place of several.

    Raises:
        InputError: It is.
    """
    if isinstance(queries, str):
        raise InputError(f"The text {queries[:40]!r} came", "a list of texts", "Put it into a list")
    for query in queries:
        check_query(query)


def check_messages(messages: Sequence[Message]) -> None:
    """Refuse what is no conversation that waits for an answer.

    Raises:
        InputError: There is no turn, one has no role or content, or the last is not the user's.
    """
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if role not in ROLES or not isinstance(content, str):
            raise InputError(
                f"The turn {dict(message)!r} came",
                f"a role ({', '.join(ROLES)}) and a content that is text",
                "Correct the turn",
            )
    if not messages or messages[-1]["role"] != "user":
        raise InputError(
            f"A conversation of {len(messages)} turns came that does not end with the user's",
            "a last turn of the user, which is to be answered",
            "Put the question last",
        )


def judged(messages: Sequence[Message]) -> list[str]:
    """What the gate reads: the last user turn and, if it leans on it, the one before with it."""
    asked = [m["content"] for m in messages if m["role"] == "user"][-2:]
    both = " ".join(asked)
    if len(asked) == 2 and len(both) <= LEANING and leans(asked[-1]):
        return [asked[-1], both]
    return asked[-1:]


def leans(text: str) -> bool:
    """Whether a turn can't be understood without the one before, as far as its words tell.

    It points back ("And how many people live there?"), or names next to nothing ("What is the
    capital?", "Since when?"). Words of other languages than English all name something.
    """
    words = re.findall(r"[^\W\d_]+|\d+", text.lower())
    named = [w for w in words if w not in LITTLE | POINTING]
    if not named:
        return bool(words)
    if POLITE.issuperset(named):
        return False
    return not POINTING.isdisjoint(words) or (
        len(named) == 1 and not {"the", "and"}.isdisjoint(words)
    )


def merged(decisions: Sequence[GateDecision]) -> GateDecision:
    """One decision about a conversation: an edit fires if it does for any text that was judged.

    Args:
        decisions: About the texts of ``judged``, in its order.

    Returns:
        The decision, about the first of them.
    """
    found: dict[str, Candidate] = {}
    for candidate in (c for d in decisions for c in d.candidates):
        known = found.get(candidate.edit.id)
        if known is None or (candidate.fired, candidate.probability) > (
            known.fired,
            known.probability,
        ):
            found[candidate.edit.id] = candidate
    first = decisions[0]
    return GateDecision.ranked(first.query, first.threshold, found.values())


def chat_text(tokenizer: Any, messages: Sequence[Message]) -> tuple[str, bool]:
    """A conversation in the words of the tokenizer's chat template, up to the answer.

    Returns:
        The text, and whether the tokenizer's own BOS is to stand in front of it: where the
        template begins with that BOS, it is taken off the text.

    Raises:
        InputError: The tokenizer has no chat template, or it does not take the conversation.
    """
    if not tokenizer.chat_template:
        raise InputError(
            "The model's tokenizer has no chat template",
            "the tokenizer of a chat model",
            "Ask with a plain text instead (Editor.ask)",
        )
    try:
        text = str(
            tokenizer.apply_chat_template(
                [dict(m) for m in messages], tokenize=False, add_generation_prompt=True
            )
        )
    except Exception as error:  # whatever the template raises
        raise InputError(
            f"The model's chat template does not take the conversation ({error})",
            "roles in the order that the template wants",
            "See the template in the model's tokenizer_config.json",
        ) from error
    own = tokenizer("", add_special_tokens=True).input_ids
    bos = tokenizer.bos_token
    if bos and own[:1] == [tokenizer.bos_token_id] and text.startswith(bos):
        return text.removeprefix(bos), True
    return text, False
