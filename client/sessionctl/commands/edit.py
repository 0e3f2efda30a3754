"""`sessionctl edit`: the commands of a session in the user's editor.

The one rule: what was recorded is never rewritten, and what was typed is never lost.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from sessionctl.connection import connect
from sessionctl.duplicate import header_of_copy, require_ended, store
from sessionctl.edition import (
    Edition,
    EditRefused,
    edition_of,
    parse,
    recorded_commands,
    text_of,
    write_edited,
)
from sessionctl.editor import Editor
from sessionctl.escape import escape_line
from sessionctl.exits import ExitCode, Failure, describe
from sessionctl.export.recording import Recording
from sessionctl.options import session_argument
from sessionctl.output import json_option, write_json, write_line
from sessionctl.reference import resolve
from sessionctl.session_file import SessionFile, private_folder
from sessiond_client.client import Client
from sessiond_client.errors import SessiondError
from sessiond_client.wire.lines import CommandLine
from sessiond_client.wire.messages import Session


@click.command("edit", short_help="Edit the commands of a session, as a session of their own.")
@session_argument()
@click.option(
    "--from",
    "text_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Take the edited text from FILE instead of an editor.",
)
@json_option
def command(session: str, text_path: Path | None, as_json: bool) -> None:
    """Edit the name, the tags and the commands of SESSION, which has ended, in $VISUAL, $EDITOR or vi.

    What was recorded is not rewritten: changed commands become a session of their own, a child of SESSION,
    with the times and the other events as they were. A changed name and changed tags alone are given to
    SESSION itself. With --json the session that has the changes.

    \b
    Examples:
      sessionctl edit @last
      EDITOR="code --wait" sessionctl edit deploy
    """
    with connect() as client:
        info = resolve(client, session)
        require_ended(info, "edited")
        try:
            recorded = recorded_commands(Recording(client, info).lines(["command"]))
        except EditRefused as refusal:
            raise Failure(ExitCode.NEGATIVE, f"{info.name} cannot be edited: {refusal}") from None
        before = edition_of(info.name, info.tags, recorded.values())
        own = text_path is None
        if text_path is None:
            text_path = _edited(info, text_of(before, info.ended_at or ""))
        with _kept(text_path, info):
            after = parse(_text(text_path), before)
            result = _apply(client, info, recorded, before, after)
    if own:
        text_path.unlink(missing_ok=True)
    _tell(info, result, after != before, as_json)


def _edited(info: Session, text: str) -> Path:
    """Let the user edit the text; the file with the result. Raises `Failure` if the editor does."""
    editor = Editor()
    descriptor, name = tempfile.mkstemp(
        dir=private_folder("edit"), prefix=f"{info.name[:64]}-", suffix=".toml"
    )
    path = Path(name)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    try:
        code = editor.run(path)
    except Failure:
        path.unlink()
        raise
    if code:
        kept = _kept_words(path, info) if path.read_bytes() != text.encode() else None
        if kept is None:
            path.unlink()
        message = f"the editor {editor.command!r} ended with {code}; nothing was changed"
        raise Failure(ExitCode.NEGATIVE, message if kept is None else f"{message}; {kept}")
    return path


@contextmanager
def _kept(path: Path, info: Session) -> Iterator[None]:
    """Whatever goes wrong, the user is told where the text is."""
    try:
        yield
    except (EditRefused, Failure, SessiondError, OSError, UnicodeDecodeError) as error:
        if isinstance(error, EditRefused):
            code, message = ExitCode.NEGATIVE, f"{error}; nothing was changed"
        elif isinstance(error, UnicodeDecodeError):
            code, message = ExitCode.NEGATIVE, "the text is not UTF-8; nothing was changed"
        else:
            code, message = describe(error)
        raise Failure(code, f"{message}; {_kept_words(path, info)}") from error


def _kept_words(path: Path, info: Session) -> str:
    return f"your text is kept, go on with: sessionctl edit {info.ulid} --from {shlex.quote(str(path))}"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _apply(
    client: Client, info: Session, recorded: Mapping[int, CommandLine], before: Edition, after: Edition
) -> Session:
    """The session that has the changes."""
    if after.commands == before.commands:
        return _amended(client, info, after)
    copied = header_of_copy(info, after.name, "edited_from")
    header = msgspec.structs.replace(copied, tags=after.tags, parent_ulid=info.ulid, parent_seq=None)

    def write(file: SessionFile) -> None:
        write_edited(file, Recording(client, info).lines(), recorded, after, info.started_at)

    return store(client, info, header, write)


def _amended(client: Client, info: Session, after: Edition) -> Session:
    """The same session under its new name, with its new tags."""
    result = info
    if after.name != info.name:
        result = client.rename(info.ulid, after.name)
    if after.tags != info.tags:
        gone = [tag for tag in info.tags if tag not in after.tags]
        result = client.tag(info.ulid, add=after.tags, remove=gone)
    return result


def _tell(info: Session, result: Session, changed: bool, as_json: bool) -> None:
    if as_json:
        write_json(result)
    elif not changed:
        write_line(f"{escape_line(info.name)} ({info.ulid}) stays as it is: nothing was changed")
    elif result.ulid == info.ulid:
        write_line(f"{escape_line(result.name)} ({result.ulid}) has its new name and tags")
    else:
        write_line(
            f"the edited commands are {escape_line(result.name)} ({result.ulid});"
            f" the recorded ones stay, remove them with: sessionctl delete {info.ulid}"
        )
