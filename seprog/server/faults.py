"""What is wrong with a request, in three beats, from what pydantic finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from reprlib import Repr
from typing import Any

from seprog.errors import InputError

_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 3, 4, 3
_SHORT.maxstring = _SHORT.maxother = 60

_EXPECTED = {
    "string_type": "a text",
    "string_too_long": "a text of at most {max_length} characters",
    "string_too_short": "a text of at least {min_length} characters",
    "string_pattern_mismatch": "a text that matches {pattern}",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "too_short": "at least {min_length} in it",
    "too_long": "at most {max_length} in it",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "greater_than_equal": "{ge:g} or more",
    "less_than_equal": "{le:g} or less",
    "greater_than": "more than {gt:g}",
    "less_than": "less than {lt:g}",
    "literal_error": "{expected}",
    "none_required": "nothing: it is not supported",
}
"""By pydantic's name of a fault; of others, what pydantic says of them."""

_PLACES = {"query": "query parameter", "header": "header", "path": "path's"}

Found = Mapping[str, Any]
"""A fault as pydantic tells it."""


def fault(found: Sequence[Found], body: Any) -> tuple[InputError, str | None]:
    """The first fault of a request.

    Args:
        found: All of them, as pydantic tells them.
        body: What came, as far as it could be read.

    Returns:
        What is said of it, and the field that is at fault.
    """
    places = [_place(one, body) for one in found]
    same = [i for i, place in enumerate(places) if place[:2] == places[0][:2]]
    # where a field may be one thing or another, the one that fits the furthest was meant
    deepest = max((places[i] for i in same), key=len)
    meant = [found[i] for i in same if places[i] == deepest]
    where, *path = deepest
    if where != "body":
        name = f"The {_PLACES.get(where, where)} {'.'.join(path)}"
        return _said(meant, name), ".".join(deepest)
    if not path:
        return _said(meant, "The body"), None
    return _said(meant, f"The field {'.'.join(path)}"), ".".join(path)


def _place(found: Found, body: Any) -> tuple[str, ...]:
    """Where a fault is, without pydantic's own names of what a field may be."""
    where, *path = found["loc"]
    if where != "body" or found["type"] == "json_invalid":
        return (where, *(path if where != "body" else ()))
    kept, node = [where], body
    for i, part in enumerate(path, start=1):
        if _has(node, part):
            kept.append(str(part))
            node = node[part]
        elif found["type"] == "missing" and i == len(path):
            kept.append(str(part))
    return tuple(kept)


def _has(node: Any, part: str | int) -> bool:
    if isinstance(node, list):
        return isinstance(part, int) and part < len(node)
    return isinstance(node, Mapping) and part in node


def _said(meant: Sequence[Found], name: str) -> InputError:
    """What is said of faults at one place, each of which would be one too many."""
    kind, given = meant[0]["type"], meant[0].get("input")
    if kind == "json_invalid":
        why = f"{meant[0]['ctx']['error']}, at character {meant[0]['loc'][-1]}"
        return InputError(f"The body is no JSON ({why})", "a JSON object", "Correct it")
    if kind == "missing":
        return InputError(f"{name} is missing", "it to be there", "Add it; see /docs")
    if kind == "extra_forbidden":
        advice = "Correct its name, or leave it out; see /docs"
        return InputError(f"{name} is unknown", "one that is known", advice)
    expected = " or ".join(dict.fromkeys(map(_expected, meant)))
    advice = "Leave it out" if kind == "none_required" else "Correct it; see /docs"
    if name == "The body" and isinstance(given, str | bytes):  # it did not say that it is JSON
        advice = "Send it with the header Content-Type: application/json"
    return InputError(f"{name} is {_SHORT.repr(given)}", expected, advice)


def _expected(found: Found) -> str:
    """What one of pydantic's faults lacks."""
    told = found.get("ctx", {})
    if found["type"] == "too_long" and told.get("max_length") == 0:
        return "an empty one: it is not supported"
    known = _EXPECTED.get(found["type"])
    if known is not None:
        return known.format(**told)
    said: str = found["msg"]
    return said.removeprefix("Value error, ").removeprefix("Input should be ")
