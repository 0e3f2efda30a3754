"""The commands of a session as a text that can be edited, and the session that the edited text says.

Owns the text, in TOML. The one rule: what was not changed in the text is not changed in the session, and what
the text does not show (times, other events) stays as it was recorded.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec
import tomli_w
from msgspec import Meta, Raw, Struct

from sessionctl.escape import escape_toml
from sessionctl.names import normal_tags
from sessionctl.session_file import SessionFile
from sessiond_client.wire.faults import explained
from sessiond_client.wire.lines import CommandLine, EventLine
from sessiond_client.wire.messages import TEXT_BYTES_MAX, ExitCode, Name, Short, Shorts

COMMANDS_MAX = 10_000
TEXT_MAX = 64 * 1024 * 1024
"""The longest text, in characters."""

EXPLANATION = """\
# {name}, ended {ended_at}
#
# Change, move, remove or add commands. One with a `seq` keeps the times it was recorded with.
# Changed commands become a session of their own; the recorded one stays as it is.
# A changed name and changed tags alone are given to the recorded one.

"""


_line_decoder: msgspec.json.Decoder[EventLine | CommandLine] = msgspec.json.Decoder(EventLine | CommandLine)
_command_decoder = msgspec.json.Decoder(CommandLine)


class EditRefused(Exception):  # noqa: N818 - a finding about the user's text, not a fault
    """The text does not say a session; `reason` says why not, and where."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class EditedCommand(Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    """A command as the text has it; without a `seq` it is a new one."""

    command: str
    seq: Annotated[int, Meta(ge=0)] | None = None
    cwd: Short | None = None
    exit_code: ExitCode | None = None


class Edition(Struct, forbid_unknown_fields=True, frozen=True):
    """What can be edited of a session."""

    name: Name
    tags: Shorts = []
    commands: Annotated[list[EditedCommand], Meta(max_length=COMMANDS_MAX)] = []


def recorded_commands(pages: Iterable[Sequence[Raw]]) -> dict[int, CommandLine]:
    """The commands of a session by their seq. Raises `EditRefused` for more than anybody edits."""
    commands: dict[int, CommandLine] = {}
    size = 0
    for page in pages:
        for raw in page:
            line = _command_decoder.decode(raw)
            commands[line.seq] = line
            size += len(line.command)
        if len(commands) > COMMANDS_MAX or size > TEXT_MAX:
            raise EditRefused(
                f"its commands are more than {COMMANDS_MAX}, or longer than {TEXT_MAX} characters"
            )
    return commands


def edition_of(name: str, tags: Sequence[str], commands: Iterable[CommandLine]) -> Edition:
    """A session as it is."""
    edited = [EditedCommand(it.command, it.seq, it.cwd, it.exit_code) for it in commands]
    return Edition(name, [*tags], edited)


def text_of(edition: Edition, ended_at: str) -> str:
    """The text to edit. Characters that deceive the eye stand in it as escapes."""
    parts = [tomli_w.dumps({"name": edition.name, "tags": edition.tags})]
    for command in edition.commands:
        # The writer takes a carriage return before a line break for a part of it.
        multiline = "\r\n" not in command.command
        table = tomli_w.dumps(msgspec.to_builtins(command), multiline_strings=multiline)
        parts.append(f"\n[[commands]]\n{table}")
    return EXPLANATION.format(name=edition.name, ended_at=ended_at) + escape_toml("".join(parts))


def parse(text: str, known: Edition) -> Edition:
    """What an edited text says. Raises `EditRefused`."""
    if len(text) > TEXT_MAX:
        raise EditRefused(f"the text is longer than {TEXT_MAX} characters")
    try:
        edition = msgspec.convert(tomllib.loads(text), Edition)
    except tomllib.TOMLDecodeError as error:
        raise EditRefused(f"this is no TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise EditRefused(explained(error)[0]) from None
    except RecursionError:
        raise EditRefused("this is no TOML that anybody would write: it is nested too deep") from None
    _check_commands(edition, known)
    try:
        return msgspec.structs.replace(edition, tags=normal_tags(edition.tags))
    except ValueError as error:
        raise EditRefused(str(error)) from None


def _check_commands(edition: Edition, known: Edition) -> None:
    recorded = {it.seq for it in known.commands}
    seen: set[int] = set()
    for number, command in enumerate(edition.commands, 1):
        if len(command.command.encode()) > TEXT_BYTES_MAX:
            raise EditRefused(f"command {number} is longer than {TEXT_BYTES_MAX} bytes")
        if command.seq is None:
            continue
        if command.seq not in recorded:
            raise EditRefused(f"command {number}: none has seq {command.seq}; leave seq out for a new one")
        if command.seq in seen:
            raise EditRefused(f"command {number}: seq {command.seq} is there twice")
        seen.add(command.seq)


def write_edited(
    file: SessionFile,
    pages: Iterable[Sequence[Raw]],
    recorded: Mapping[int, CommandLine],
    edition: Edition,
    started_at: str,
) -> None:
    """Write the events of a session, its commands as the edition says.

    The commands come in the order of the text: before a recorded one, all that stand before it there.
    """
    commands = edition.commands
    place = {it.seq: number for number, it in enumerate(commands, 1)}
    written = 0
    at = started_at
    for page in pages:
        for raw in page:
            line = _line_decoder.decode(raw)
            at = line.at
            if isinstance(line, EventLine):
                file.event(line)
                continue
            for command in commands[written : place.get(line.seq, 0)]:
                file.command(_as_edited(command, recorded, at))
                written += 1
    for command in commands[written:]:
        file.command(_as_edited(command, recorded, at))


def _as_edited(edited: EditedCommand, recorded: Mapping[int, CommandLine], at: str) -> CommandLine:
    """The line of a command; `at` is for one that was never recorded."""
    if edited.seq is None:
        line = CommandLine(seq=0, index=0, at=at, command=edited.command)
    else:
        line = recorded[edited.seq]
    data = line.data
    if line.command != edited.command:
        # The exact bytes were those of another text.
        data = {key: value for key, value in data.items() if key != "b64"}
    return msgspec.structs.replace(
        line, command=edited.command, cwd=edited.cwd, exit_code=edited.exit_code, data=data
    )
