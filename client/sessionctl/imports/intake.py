"""One file after another becomes a session, or a finding about the file.

Owns the way from a path to the daemon. The one rule: a file is stored as far as it is whole, in one step, or
not at all; and what is wrong with one file keeps no other from being imported.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from sessionctl.imports.conversion import READERS, Conversion
from sessionctl.imports.detect import Format, detect, require_text
from sessionctl.imports.progress import Progress
from sessionctl.imports.source import CHUNK_BYTES, Refused, Source
from sessionctl.session_file import scratch, session_file
from sessiond_client.client import Client
from sessiond_client.errors import RequestFailed
from sessiond_client.wire.messages import NAME_LENGTH_MAX, SHORT_LENGTH_MAX, ErrorCode, Session

STANDARD_INPUT = "-"
PIPED_NAME = "stdin"
PIPED_BYTES_MAX = 64 * 1024**3
"""How much is taken from a pipe."""

SUFFIX_MAX = 1000
"""So many names are tried where one is taken."""


class Outcome(Struct, kw_only=True, frozen=True):
    """What became of one file. `existed`: the same content was imported before, and nothing was changed.

    `damage` says from where on it could not be read; with an `error` and no session, nothing was stored.
    """

    file: str
    format: Format | None = None
    session: Session | None = None
    existed: bool = False
    damage: str | None = None
    error: str | None = None


class Intake:
    """Imports files through one client, with the options of one call."""

    def __init__(
        self,
        client: Client,
        format: Format | None,  # noqa: A002 - the word of the user
        name: str | None,
        tags: Sequence[str],
        progress: Progress,
    ) -> None:
        self._client = client
        self._format = format
        self._name = name
        self._tags = list(tags)
        self._progress = progress

    def take(self, file: str) -> Outcome:
        """Import one file. Raises nothing that is about this file alone."""
        known: Format | None = self._format
        try:
            with self._opened(file) as source:
                known = known or detect(source)
                if known in READERS:
                    require_text(source)
                if known is Format.NDJSON:
                    self._require_session_file(source)
                    return self._adopt(file, source)
                return self._convert(file, source, known)
        except Refused as error:
            return Outcome(file=file, format=known, error=str(error))
        except RequestFailed as error:
            # What the daemon advises about a file that it cannot read is to import it.
            text = error.reply.message if error.code is ErrorCode.INVALID else str(error)
            return Outcome(file=file, format=known, error=text)
        except OSError as error:
            elsewhere = error.filename not in {None, file, os.fspath(file)}
            where = f"{error.filename}: " if elsewhere else ""
            return Outcome(file=file, format=known, error=f"{where}{error.strerror or error}")

    @contextmanager
    def _opened(self, file: str) -> Iterator[Source]:
        """The source; what comes through a pipe is put into a file first, so that it can be read twice."""
        with ExitStack() as stack:
            if file == STANDARD_INPUT:
                path = stack.enter_context(self._piped(sys.stdin.buffer))
                name: str | None = PIPED_NAME
            elif _is_pipe(file):
                path = stack.enter_context(self._piped(stack.enter_context(open(file, "rb"))))
                name = PIPED_NAME
            else:
                path, name = Path(file), None
            source = stack.enter_context(Source(path, name, self._progress.advance))
            self._progress.work(f"importing {file}", source.size)
            yield source

    @contextmanager
    def _piped(self, pipe: BinaryIO) -> Iterator[Path]:
        with scratch("import", PIPED_NAME) as (path, copy):
            size = 0
            self._progress.work("reading", 0)
            while chunk := pipe.read(CHUNK_BYTES):
                size += len(chunk)
                if size > PIPED_BYTES_MAX:
                    raise Refused(f"more than {PIPED_BYTES_MAX} bytes came; save them and import the file")
                copy.write(chunk)
            copy.flush()
            yield path

    def _require_session_file(self, source: Source) -> None:
        """Raise `Refused` if the user has called something else the file of a session."""
        if self._format is Format.NDJSON and (seen := detect(source)) is not Format.NDJSON:
            raise Refused(f"it is no session's file but looks like {seen}; import it without -F")

    def _convert(self, file: str, source: Source, format: Format) -> Outcome:  # noqa: A002 - as above
        conversion = Conversion(source, format)
        known = self._client.get(conversion.ulid)
        if known is not None:
            return Outcome(file=file, format=format, session=known, existed=True)
        with session_file(conversion.ulid) as made:
            damage = conversion.write(made, self._name, self._tags)
            try:
                saved = self._client.adopt(made.path)
            except RequestFailed as error:
                # Somebody else was quicker with the same content; only times it does not have may differ.
                known = self._client.get(conversion.ulid) if error.code is ErrorCode.EXISTS else None
                if known is None:
                    raise
                return Outcome(file=file, format=format, session=known, existed=True)
        return Outcome(
            file=file,
            format=format,
            session=saved.session,
            existed=saved.existed,
            damage=None if damage is None else str(damage),
        )

    def _adopt(self, file: str, source: Source) -> Outcome:
        """A session's file goes to the daemon as it is; the name and tags that were asked for come after."""
        with self._sendable(source) as path:
            saved = self._client.adopt(path)
        session, error = saved.session, None
        if not saved.existed:
            try:
                session = self._named(session)
            except RequestFailed as refusal:
                error = f"it is stored, but without the name and tags that were asked for: {refusal}"
        return Outcome(
            file=file,
            format=Format.NDJSON,
            session=session,
            existed=saved.existed,
            damage=saved.damage,
            error=error,
        )

    def _named(self, session: Session) -> Session:
        if self._tags:
            session = self._client.tag(session.ulid, add=self._tags)
        if self._name is None or self._name == session.name:
            return session
        for number in range(1, SUFFIX_MAX):
            try:
                return self._client.rename(session.ulid, _suffixed(self._name, number))
            except RequestFailed as refusal:
                if refusal.code is not ErrorCode.EXISTS:
                    raise
        return self._client.rename(session.ulid, _suffixed(self._name, SUFFIX_MAX))

    @contextmanager
    def _sendable(self, source: Source) -> Iterator[str]:
        """A path that can be told to the daemon; a file whose own cannot is copied."""
        path = os.path.abspath(source.path)
        try:
            path.encode()
        except UnicodeEncodeError:
            pass  # then it is copied
        else:
            if len(path) <= SHORT_LENGTH_MAX:
                yield path
                return
        with source.path.open("rb") as file, self._piped(file) as copy:
            yield str(copy)


def _suffixed(name: str, number: int) -> str:
    """The name, from the second on with a number, as the daemon does where a name is taken."""
    suffix = "" if number == 1 else f"-{number}"
    return name[: NAME_LENGTH_MAX - len(suffix)] + suffix


def _is_pipe(file: str) -> bool:
    """Whether it can be read once only. Raises `Refused` for what is no file at all."""
    mode = os.stat(file).st_mode
    if stat.S_ISDIR(mode):
        raise Refused(f"it is a directory; name the files in it, as in {os.path.join(file, '*')}")
    if stat.S_ISREG(mode):
        return False
    if stat.S_ISFIFO(mode):
        return True
    raise Refused("it is neither a file nor a pipe")
