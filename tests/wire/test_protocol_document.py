"""docs/protocol.md says what the code says: every message, field, type, error code, word and limit."""

from __future__ import annotations

import enum
import re
import types
from datetime import UTC
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
import pytest
from msgspec import Meta, Raw, Struct, UnsetType

from sessiond.connection import FIRST_LINE_SECONDS_MAX, IN_FLIGHT_BYTES_MAX, LINE_SECONDS_MAX
from sessiond.handlers import FOLLOWS_PER_CONNECTION_MAX
from sessiond.search.indexer import CATCH_UP_SECONDS_MAX
from sessiond.search.query import SECONDS_MAX
from sessiond.server import CONNECTIONS_MAX
from sessiond.storage.commit.amendments import PREVIOUS_NAMES_MAX
from sessiond.verifying import VERIFY_SECONDS_MAX
from sessiond_client.wire import framing, lines, messages
from tests.wire.examples import ERROR_FIELDS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()

REQUESTS = {str(kind.__struct_config__.tag): kind for kind in get_args(messages.AnyRequest)}
REPLIES = {str(kind.__struct_config__.tag): kind for kind in get_args(messages.AnyReply)}
DOCUMENTED: dict[str, type[Struct]] = {
    **{f"Request `{tag}`": kind for tag, kind in REQUESTS.items()},
    **{f"Reply `{tag}`": kind for tag, kind in REPLIES.items()},
    "Object `new event`": messages.NewEvent,
    "Object `session`": messages.Session,
    "Object `saved header`": messages.SavedHeader,
    "Object `saved footer`": messages.SavedFooter,
    "Object `tag count`": messages.TagCount,
    "Object `label target`": messages.LabelTarget,
    "Object `hit`": messages.Hit,
    "Object `fault`": messages.Fault,
    "Line `event`": lines.EventLine,
    "Line `command`": lines.CommandLine,
}
ENUMERATIONS: dict[str, type[enum.StrEnum]] = {
    "source": messages.Source,
    "status": messages.Status,
    "end reason": messages.EndReason,
    "search mode": messages.SearchMode,
}
TYPE_WORDS: list[tuple[object, str]] = [
    (messages.Ulid, "ULID"),
    (messages.Name, "name"),
    (messages.LabelText, "label text"),
    (messages.Short, "short string"),
    (messages.Time, "time"),
    (messages.Count, "count"),
    (messages.Seq, "seq"),
    (Annotated[int, Meta(ge=1, le=2**53 - 1)], "n"),
    (messages.ExitCode, "exit code"),
    (messages.ErrorCode, "error code"),
    (messages.NewEvent, "new event"),
    (messages.Session, "session"),
    (messages.SavedHeader, "saved header"),
    (messages.SavedFooter, "saved footer"),
    (messages.TagCount, "tag count"),
    (messages.LabelTarget, "label target"),
    (messages.Hit, "hit"),
    (messages.Fault, "fault"),
    (tuple[int, int], "pair of integers"),
    (dict[str, str], "object of strings"),
    (dict[str, int], "object of integers"),
    (dict[str, Any], "object"),
    (list[Raw], "list of line"),
    (Raw, "any JSON object"),
    (str, "string"),
    (int, "integer"),
    (float, "number"),
    (int | float, "number"),
    (bool, "boolean"),
    *((kind, word) for word, kind in ENUMERATIONS.items()),
]


def section(heading: str, level: int = 3) -> str:
    """What stands below this heading, up to the next one."""
    match = re.search(
        rf"^{'#' * level} {re.escape(heading)}$\n(.*?)(?=^#|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL
    )
    assert match, f"docs/protocol.md has no heading {heading!r}"
    return match[1]


def table(text: str) -> list[list[str]]:
    """The cells of the rows of the first table in `text`, without its head."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def documented_fields(heading: str) -> dict[str, tuple[bool, str]]:
    """Field name to (may be missing, type word)."""
    rows = [(row[0].strip("`"), row[1]) for row in table(section(heading))]
    return {name.removesuffix("?"): (name.endswith("?"), word) for name, word in rows}


def type_word(annotation: object) -> str:
    """The word that the page has for a field's type."""
    for known, word in TYPE_WORDS:
        if annotation == known:
            return word
    if get_origin(annotation) is Annotated:
        return type_word(get_args(annotation)[0])
    if get_origin(annotation) is list:
        return f"list of {type_word(get_args(annotation)[0])}"
    assert get_origin(annotation) in {Union, types.UnionType}, annotation
    rest = tuple(part for part in get_args(annotation) if part not in {types.NoneType, UnsetType})
    return type_word(Union[rest])  # noqa: UP007 - made of a tuple


def sends_null(message: type[Struct], annotation: object) -> bool:
    return types.NoneType in get_args(annotation) and not message.__struct_config__.omit_defaults


def field_word(message: type[Struct], annotation: object) -> str:
    return type_word(annotation) + (" or null" if sends_null(message, annotation) else "")


def code_limits() -> dict[str, int]:
    """Every constant of the wire that is a number."""
    names = {**vars(messages), **vars(framing)}
    return {name: value for name, value in names.items() if name.isupper() and isinstance(value, int)}


@pytest.mark.parametrize("heading", DOCUMENTED)
def test_the_fields_of_a_message_are_documented_and_no_others(heading: str) -> None:
    message = DOCUMENTED[heading]
    expected = {
        field.encode_name: (not field.required, field_word(message, field.type))
        for field in msgspec.structs.fields(message)
    }

    assert documented_fields(heading) == expected


def test_every_message_is_documented_and_no_other() -> None:
    headings = re.findall(r"^### ((?:Request|Reply|Object|Line) `.*`)$", DOCUMENT, re.MULTILINE)

    assert headings == sorted(set(headings), key=headings.index)
    assert set(headings) == set(DOCUMENTED)


@pytest.mark.parametrize("tag", REQUESTS)
def test_the_reply_to_a_request_is_documented(tag: str) -> None:
    (base,) = REQUESTS[tag].__orig_bases__
    (reply,) = get_args(base)

    assert f"Answered by `{reply.__struct_config__.tag}`" in section(f"Request `{tag}`")


def test_every_error_code_is_documented_and_no_other() -> None:
    rows = table(section("Errors", level=2))

    assert [row[0].strip("`") for row in rows] == [code.value for code in messages.ErrorCode]
    assert all(row[2] for row in rows)


def test_the_extra_fields_of_an_error_code_are_documented() -> None:
    rows = table(section("Errors", level=2))
    documented = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in rows}

    assert documented == {code.value: set(ERROR_FIELDS.get(code, {})) for code in messages.ErrorCode}


def test_every_extra_field_of_an_error_belongs_to_a_code() -> None:
    common = {"id", "code", "message", "hint"}
    extra = set(messages.Error.__struct_fields__) - common

    assert extra == set().union(*ERROR_FIELDS.values())


def test_every_limit_is_documented_with_its_number_and_no_other() -> None:
    documented = {row[0].strip("`"): int(row[1]) for row in table(section("Limits", level=2))}

    assert documented == code_limits()


def test_the_limits_of_a_connection_are_the_daemons() -> None:
    rules = " ".join(section("The connection", level=2).split())

    assert f"first whole line within {FIRST_LINE_SECONDS_MAX:.0f} s" in rules
    assert f"complete within {LINE_SECONDS_MAX:.0f} s" in rules
    assert f"or {IN_FLIGHT_BYTES_MAX >> 20} MiB" in rules
    assert f"above {CONNECTIONS_MAX} connections" in rules
    assert f"at most {FOLLOWS_PER_CONNECTION_MAX} follows" in rules


def test_the_patience_of_a_search_is_the_daemons() -> None:
    rules = " ".join(section("Request `search`").split())

    assert f"sent after {SECONDS_MAX:.0f} s however far" in rules
    assert f"up to {CATCH_UP_SECONDS_MAX:.0f} s more" in rules


def test_a_page_of_a_verification_is_as_long_as_the_daemon_makes_it() -> None:
    rules = " ".join(section("Request `verify`").split())

    assert VERIFY_SECONDS_MAX == 1.0
    assert "as many sessions as a second allows" in rules


def test_as_many_names_are_remembered_as_the_daemon_keeps() -> None:
    (row,) = [row for row in table(section("Object `session`")) if row[0] == "`previous_names?`"]

    assert f"the last {PREVIOUS_NAMES_MAX}" in row[2]


@pytest.mark.parametrize("word", ENUMERATIONS)
def test_the_words_of_an_enumeration_are_documented_and_no_others(word: str) -> None:
    row = next(row for row in table(section("Types", level=2)) if row[0] == word)

    assert re.findall(r"`(\w+)`", row[1]) == [member.value for member in ENUMERATIONS[word]]


def test_the_time_in_the_document_is_one() -> None:
    row = next(row for row in table(section("Types", level=2)) if row[0] == "time")
    (example,) = re.findall(r"`(\S+)`", row[1])

    assert msgspec.convert(example, messages.Time).tzinfo is UTC
