"""Requests from the arguments of a verb, the same for `Client` and `AsyncClient`.

The one rule: what a program leaves out is filled in here from the process that records (its directory, its
environment), because the daemon cannot know it; everything else is left to the daemon.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from sessiond_client.errors import RequestFailed
from sessiond_client.events import require_zone
from sessiond_client.ulids import RANDOM_BYTES, derived_ulid, new_ulid
from sessiond_client.version import __version__
from sessiond_client.wire.messages import (
    PROTOCOL_VERSION,
    Adopt,
    Append,
    Appended,
    End,
    Ended,
    EndReason,
    Error,
    ErrorCode,
    Fork,
    Hello,
    List,
    NewEvent,
    Read,
    Reply,
    Request,
    Save,
    SavedFooter,
    SavedHeader,
    Search,
    SearchMode,
    Session,
    Source,
    Start,
    Started,
    Status,
    Tag,
    request_decoder,
)
from sessiond_client.wire.spool import SPOOLED, Spoolable


def start_request(
    name: str | None,
    *,
    source: Source | str,
    ulid: str | None,
    cli_version: str | None,
    engine_base_url: str | None,
    parent_ulid: str | None,
    shell: str | None,
    os: str | None,
    hostname: str | None,
    cwd: str | None,
    env: Mapping[str, str] | None,
    tags: Sequence[str],
    meta: Mapping[str, Any] | None,
    owner_pid: int | None,
    started_at: datetime | None,
    recorded_env: Iterable[str],
) -> Start:
    """A `start` with a ULID chosen here, so that sending it again is recognised.

    `recorded_env` names the variables that the daemon wants to know.
    """
    return Start(
        ulid=new_ulid() if ulid is None else ulid,
        name=name,
        source=Source(source),
        cli_version=__version__ if cli_version is None else cli_version,
        engine_base_url=engine_base_url,
        parent_ulid=parent_ulid,
        shell=shell,
        os=os,
        hostname=hostname,
        cwd=_working_directory() if cwd is None else cwd,
        env=_environment(recorded_env) if env is None else dict(env),
        tags=_words("tags", tags),
        meta={} if meta is None else dict(meta),
        owner_pid=owner_pid,
        started_at=require_zone("started_at", started_at),
    )


def end_request(
    session: str,
    status: Status | str,
    end_reason: EndReason | str,
    exit_code: int | None,
    ended_at: datetime | None,
) -> End:
    """An `end`, its words checked."""
    return End(
        session=session,
        status=Status(status),
        end_reason=EndReason(end_reason),
        exit_code=exit_code,
        ended_at=require_zone("ended_at", ended_at),
    )


def can_wait(request: Request[Any]) -> bool:
    """Whether a request can wait in the spool: sent twice it is done once, and its answer is not needed."""
    match request:
        case Start():
            return request.ulid is not None
        case Append():
            return request.producer is not None and request.n is not None and request.expect is None
        case _:
            return isinstance(request, End)


def as_spooled(request: Request[Any]) -> Spoolable | None:
    """The request as it can wait: with this moment and this process, which the daemon would take its own for.

    None if it cannot wait.
    """
    if not can_wait(request):
        return None
    now = datetime.now(UTC)
    stamp = time.time_ns() // 1000
    match request:
        case Start():
            owner = os.getpid() if request.owner_pid is None else request.owner_pid
            began = request.started_at or now
            return msgspec.structs.replace(request, id=stamp, owner_pid=owner, started_at=began)
        case Append():
            events = [it if it.at else msgspec.structs.replace(it, at=now) for it in request.events]
            return msgspec.structs.replace(request, id=stamp, events=events)
        case End():
            return msgspec.structs.replace(request, id=stamp, ended_at=request.ended_at or now)
    return None


def spooled_reply(request: Spoolable, line: bytes) -> Reply:
    """What is known of the outcome of a request that waits; what only the daemon knows is `SPOOLED` or empty.

    Raises `RequestFailed` (`invalid`, `too_large`) for what the daemon would refuse whatever it has stored.
    """
    # Only for what waits: a shell that reaches its daemon need not load it.
    from sessiond_client.wire import checks
    from sessiond_client.wire.faults import explained
    from sessiond_client.wire.refused import Refused

    try:
        match request_decoder.decode(line):
            case Append() as append:
                checks.check_append(append, len(line))
            case Start() as start:
                checks.check_meta(start.meta, "meta")
                checks.normalised_tags(start.tags)
    except msgspec.ValidationError as error:
        sentence, field = explained(error)
        raise RequestFailed(Error(code=ErrorCode.INVALID, message=sentence, field=field)) from None
    except Refused as refusal:
        raise RequestFailed(refusal.reply(0)) from None
    match request:
        case Start():
            return Started(session=_begun(request))
        case Append():
            return Appended(session=request.session, first=SPOOLED, last=SPOOLED)
        case End():
            return Ended(session=_ended(request))


def merged(known: Session | None, heard: Session) -> Session:
    """A session as last heard of; of one whose end waits in the spool, what was known before stays."""
    if known is None or heard.next_seq != SPOOLED:
        return heard
    return msgspec.structs.replace(
        known,
        status=heard.status,
        ended_at=heard.ended_at,
        end_reason=heard.end_reason,
        exit_code=heard.exit_code,
        next_seq=SPOOLED,
    )


def _begun(request: Start) -> Session:
    assert request.ulid is not None
    assert request.started_at is not None
    return Session(
        ulid=request.ulid,
        name=request.name or "",
        source=request.source,
        status=Status.RECORDING,
        started_at=_time_text(request.started_at),
        cli_version=request.cli_version,
        engine_base_url=request.engine_base_url,
        parent_ulid=request.parent_ulid,
        shell=request.shell,
        os=request.os,
        hostname=request.hostname,
        cwd=request.cwd,
        env=request.env,
        tags=request.tags,
        meta=request.meta,
        next_seq=SPOOLED,
    )


def _ended(request: End) -> Session:
    assert request.ended_at is not None
    return Session(
        ulid=request.session,
        name="",
        source=Source.APP,
        status=request.status,
        started_at="",
        ended_at=_time_text(request.ended_at),
        end_reason=request.end_reason,
        exit_code=request.exit_code,
        next_seq=SPOOLED,
    )


def _time_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def list_request(
    *,
    limit: int,
    before: str | None,
    status: Status | str | None,
    source: Source | str | None,
    tags: Sequence[str],
    tags_all: Sequence[str],
    parent_ulid: str | None,
    since: datetime | None,
    until: datetime | None,
    name_prefix: str | None,
    cwd: str | None,
    hostname: str | None,
    trashed: bool,
) -> List:
    """A `list`, its words checked."""
    return List(
        limit=limit,
        before=before,
        status=None if status is None else Status(status),
        source=None if source is None else Source(source),
        tags=_words("tags", tags),
        tags_all=_words("tags_all", tags_all),
        parent_ulid=parent_ulid,
        since=require_zone("since", since),
        until=require_zone("until", until),
        name_prefix=name_prefix,
        cwd=cwd,
        hostname=hostname,
        trashed=trashed,
    )


def read_request(
    session: str,
    *,
    after: int,
    before: int | None,
    tail: int | None,
    limit: int,
    kinds: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    inherit: bool,
) -> Read:
    """A `read`, its words checked."""
    return Read(
        session=session,
        after=after,
        before=before,
        tail=tail,
        limit=limit,
        kinds=_words("kinds", kinds),
        since=require_zone("since", since),
        until=require_zone("until", until),
        inherit=inherit,
    )


def search_request(
    query: str,
    *,
    mode: SearchMode | str,
    limit: int,
    before: str | None,
    session: str | None,
    kinds: Sequence[str],
    tags: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    exit_code: int | None,
    cwd: str | None,
) -> Search:
    """A `search`, its words checked."""
    return Search(
        query=query,
        mode=SearchMode(mode),
        limit=limit,
        before=before,
        session=session,
        kinds=_words("kinds", kinds),
        tags=_words("tags", tags),
        since=require_zone("since", since),
        until=require_zone("until", until),
        exit_code=exit_code,
        cwd=cwd,
    )


def tag_request(session: str, add: Sequence[str], remove: Sequence[str]) -> Tag:
    """A `tag`, its words checked."""
    return Tag(session=session, add=_words("add", add), remove=_words("remove", remove))


def fork_request(session: str, at: int | None, name: str | None, owner_pid: int | None) -> Fork:
    """A `fork` with the child's ULID chosen here, so that sending it again is recognised."""
    return Fork(
        session=session, at=at, name=name, ulid=new_ulid(), owner_pid=owner_pid, cli_version=__version__
    )


def save_request(header: SavedHeader, events: Sequence[NewEvent], footer: SavedFooter | None) -> Save:
    """A `save` with a ULID, for the same reason: of the moment when the session began."""
    require_zone("started_at", header.started_at)
    require_zone("ended_at", None if footer is None else footer.ended_at)
    if header.ulid is None:
        milliseconds = max(int(header.started_at.timestamp() * 1000), 0)
        header = msgspec.structs.replace(header, ulid=derived_ulid(milliseconds, os.urandom(RANDOM_BYTES)))
    return Save(header=header, events=list(events), footer=footer)


def adopt_request(path: str | os.PathLike[str]) -> Adopt:
    """An `adopt` with the path as the daemon, which works in another directory, has to see it."""
    return Adopt(path=os.path.abspath(path))


def take_over_request(producer: str, name: str, directory: str | os.PathLike[str]) -> Hello:
    """A `hello` that is answered once the spool files in a directory are taken over."""
    return Hello(protocol=PROTOCOL_VERSION, client=name, producer=producer, spool=os.path.abspath(directory))


def found(session: Session | None) -> Session:
    """What `find` found; a daemon answers null only to `get`."""
    if session is None:
        raise RequestFailed(Error(code=ErrorCode.NOT_FOUND, message="no such session"))
    return session


def _words(field: str, words: Sequence[str]) -> list[str]:
    """A list of words; one string in its place is a slip that would become a list of letters."""
    if isinstance(words, str):
        raise TypeError(f"{field}: a sequence of strings is needed, not one string")
    return list(words)


def _working_directory() -> str | None:
    try:
        return _unicode(os.getcwd())
    except OSError:
        return None


def _environment(names: Iterable[str]) -> dict[str, str]:
    return {name: _unicode(value) for name in names if (value := os.environ.get(name)) is not None}


def _unicode(text: str) -> str:
    """Text of the system, where bytes that are no UTF-8 hide as lone surrogates, as text that can be sent."""
    return os.fsencode(text).decode(errors="replace")
