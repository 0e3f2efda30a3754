"""The commands of a session as the steps of a script.

Owns what all script formats have in common. The one rule: only commands that are not blank, in their order,
each with the directory it ran in.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from msgspec import Struct

from sessionctl import __version__
from sessionctl.escape import escape_line
from sessionctl.exits import ExitCode, Failure
from sessionctl.export.formats import Options
from sessionctl.export.parameters import Parameters, Unchanged, detected
from sessionctl.export.passages import clock
from sessionctl.export.recording import Recording
from sessionctl.output import counted
from sessiond_client.wire.messages import Session

TITLE_LENGTH_MAX = 60


class Step(Struct, frozen=True, kw_only=True):
    """One command, its parameters filled in; `directory` is a word of the shell."""

    number: int
    command: str
    directory: str | None
    exit_code: int | None

    @property
    def failed(self) -> bool:
        """Whether it failed when it was recorded."""
        return self.exit_code not in {None, 0}

    @property
    def title(self) -> str:
        """The command, short enough for a headline."""
        text = escape_line(self.command)
        cut = text[:TITLE_LENGTH_MAX] + "..." if len(text) > TITLE_LENGTH_MAX else text
        return f"{self.number}: {cut}"


class Script(Struct, frozen=True, kw_only=True):
    """What a script is made of: `variables` are those its steps use, with their defaults."""

    about: list[str]
    name: str
    variables: dict[str, str]
    steps: Iterator[Step]

    def declarations(self, text: str | None = None) -> list[str]:
        """Shell lines that give the variables (in `text`) their defaults; what is set already stays."""
        return [
            f'export {name}="${{{name}:-{value}}}"'
            for name, value in self.variables.items()
            if text is None or f"${{{name}}}" in text
        ]


def script_of(recording: Recording, options: Options) -> Script:
    """The script of a session. Raises `Failure` if it has no commands, or the parameters do not fit."""
    info = recording.info
    parameters: Parameters = Unchanged()
    variables: dict[str, str] = {}
    if options.parameters or options.detect:
        parameters = Parameters(options.parameters, detected(info) if options.detect else {})
        variables = parameters.check(_texts(recording))
    steps = _steps(recording, parameters)
    first = next(steps, None)
    if first is None:
        raise Failure(
            ExitCode.NEGATIVE,
            f"session {info.name} has no commands to make a script of; try -F cast or -F txt",
        )
    return Script(about=_about(info), name=info.name, variables=variables, steps=chain([first], steps))


def _texts(recording: Recording) -> Iterator[str]:
    for event in recording.events(["command"]):
        if event.text and event.text.strip():
            yield event.text
            yield str(event.data.get("cwd") or "")


def _steps(recording: Recording, parameters: Parameters) -> Iterator[Step]:
    number = 0
    for event in recording.events(["command"]):
        if not event.text or not event.text.strip():
            continue
        number += 1
        directory = event.data.get("cwd")
        yield Step(
            number=number,
            command=parameters.command(event.text),
            directory=parameters.directory(directory) if directory else None,
            exit_code=event.data.get("exit_code"),
        )


def _about(info: Session) -> list[str]:
    """Lines for a comment. None ends with what was recorded: a backslash there would join the next line."""
    host = f" on {escape_line(info.hostname)}" if info.hostname else ""
    return [
        f"Session: {escape_line(info.name)} ({info.ulid})",
        f"Recorded: {clock(info.started_at)}{host}, {counted(info.command_count, 'command')}",
        f"Made by sessionctl export {__version__}",
    ]
