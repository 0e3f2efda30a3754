"""What is wrong with a message or a value, in words.

Owns the sentences for what msgspec finds. The one rule: whoever reads one learns what is needed, never how
it was checked.
"""

from __future__ import annotations

import re

from msgspec import ValidationError

from sessiond_client.wire.words import KIND_PATTERN, LABEL_PATTERN, NAME_PATTERN, TAG_PATTERN, ULID_PATTERN

_NAME = "a name: use letters, digits, _ and -, without spaces"
_MEANINGS = {
    KIND_PATTERN: "a kind: use small letters, digits, _ and ., beginning with a letter, at most 64",
    LABEL_PATTERN: "a label: use one line of text, without control characters",
    NAME_PATTERN: _NAME,
    TAG_PATTERN: _NAME,
    ULID_PATTERN: "the id of a session: 26 digits and capital letters, without I, L, O and U",
}
_TYPES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}

_SIZE = re.compile(r"Expected `(str|array)` of length (>=|<=) (\d+)")
_BOUND = re.compile(r"Expected `(?:int|float)` (>=|<=) (-?\d+)")
_TYPE = re.compile(r"Expected `([\w| ]+)`, got `(\w+)`")
_MISSING = re.compile(r"missing required field `([^`]+)`")
_UNKNOWN = re.compile(r"contains unknown field `([^`]+)`")
_ENUM = re.compile(r"Invalid enum value (.*)", re.DOTALL)


def explained(error: ValidationError) -> tuple[str, str | None]:
    """One sentence on what is wrong, and the field that it is about, as far as one is."""
    found, _, where = str(error).rpartition(" - at `$")
    if not found:
        found, where = where, ""
    field = where.rstrip("`").removeprefix(".")
    for pattern, inner in ((_MISSING, "is missing"), (_UNKNOWN, "is not known here")):
        if match := pattern.search(found):
            field = ".".join(filter(None, (field, match[1])))
            return f"`{field}` {inner}", field
    return f"{f'`{field}`' if field else 'this'} {_problem(found)}", field or None


def _problem(found: str) -> str:
    """What follows the name of the field."""
    for pattern, meaning in _MEANINGS.items():
        if repr(pattern) in found:
            return f"is not {meaning}"
    if match := _SIZE.match(found):
        kind, side, size = match.groups()
        if side == ">=":
            return "is empty"
        return f"has more than {size} items" if kind == "array" else f"is longer than {size} characters"
    if match := _BOUND.match(found):
        return f"is {'less' if match[1] == '>=' else 'more'} than {match[2]}"
    if match := _TYPE.match(found):
        wanted = " or ".join(_TYPES.get(name, name) for name in match[1].split(" | "))
        return f"must be {wanted}, not {_TYPES.get(match[2], match[2])}"
    if match := _ENUM.match(found):
        return f"cannot be {match[1]}"
    return f"is not right: {found}"
