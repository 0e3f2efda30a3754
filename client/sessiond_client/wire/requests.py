"""Every request of the wire; the type parameter of each is the reply it gets.

The one rule: new fields come with defaults, and nothing is renamed, retyped or removed while
`PROTOCOL_VERSION` stays the same.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from msgspec import Meta, Struct

from sessiond_client.wire.replies import (
    Appended,
    Cancelled,
    Counted,
    Deleted,
    Ended,
    Events,
    Following,
    Hits,
    Labelled,
    Labels,
    Milestone,
    Milestones,
    Pong,
    Reply,
    Saved,
    SessionReply,
    Sessions,
    Started,
    StatsReply,
    StatusReply,
    Tags,
    Verified,
    Welcome,
)
from sessiond_client.wire.words import (
    LIST_LIMIT_DEFAULT,
    LIST_LIMIT_MAX,
    READ_LIMIT_DEFAULT,
    READ_LIMIT_MAX,
    SEARCH_LIMIT_DEFAULT,
    SEARCH_LIMIT_MAX,
    Count,
    EndReason,
    ExitCode,
    LabelText,
    Name,
    NewEvent,
    SearchMode,
    Seq,
    Short,
    Shorts,
    Source,
    Status,
    Time,
    Ulid,
)

ReplyT = TypeVar("ReplyT", bound=Reply)


class Request(Struct, Generic[ReplyT], kw_only=True, frozen=True, omit_defaults=True, tag_field="type"):
    """What a client asks; the type parameter is the reply it gets unless it is refused."""

    id: int = 0


class Hello(Request[Welcome], tag="hello", kw_only=True, frozen=True):
    """Opens a conversation; every other request may also come first.

    With `spool`, the welcome comes once the files there that nobody writes any more are taken over.
    """

    protocol: int
    client: Short | None = None
    producer: Ulid | None = None
    spool: Short | None = None


class Start(Request[Started], tag="start", kw_only=True, frozen=True):
    """Begins a session. What is left out, the daemon fills in; `owner_pid` 0 means: no owner."""

    ulid: Ulid | None = None
    name: Name | None = None
    source: Source = Source.APP
    cli_version: Short | None = None
    engine_base_url: Short | None = None
    parent_ulid: Ulid | None = None
    shell: Short | None = None
    os: Short | None = None
    hostname: Short | None = None
    cwd: Short | None = None
    env: dict[str, str] = {}
    tags: Shorts = []
    meta: dict[str, Any] = {}
    owner_pid: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    started_at: Time | None = None


class Append(Request[Appended], tag="append", kw_only=True, frozen=True):
    """Adds events, all or none. With `expect`, only if the session's `next_seq` is that.

    With `producer` and `n`, sending it again returns the first answer instead of storing it again.
    """

    session: Ulid
    events: list[NewEvent]
    expect: Count | None = None
    producer: Ulid | None = None
    n: Annotated[int, Meta(ge=1, le=2**53 - 1)] | None = None


class End(Request[Ended], tag="end", kw_only=True, frozen=True):
    """Ends a session and seals its file. Ending it again returns the first end."""

    session: Ulid
    status: Status = Status.COMPLETED
    end_reason: EndReason = EndReason.STOPPED
    exit_code: ExitCode | None = None
    ended_at: Time | None = None


class Get(Request[SessionReply], tag="get", kw_only=True, frozen=True):
    """The session with this ULID, or null."""

    session: Ulid


class Find(Request[SessionReply], tag="find", kw_only=True, frozen=True):
    """The session meant by `needle`: ULID, label, unique prefix or suffix of 4 or more, newest of a name.

    `trashed`: of those in the trash, which are not found otherwise.
    """

    needle: Short
    trashed: bool = False


class List(Request[Sessions], tag="list", kw_only=True, frozen=True):
    """Sessions, newest first. `tags`: any of them; `tags_all`: all of them; `limit` 0 gives none."""

    limit: Annotated[int, Meta(ge=0, le=LIST_LIMIT_MAX)] = LIST_LIMIT_DEFAULT
    before: Short | None = None
    status: Status | None = None
    source: Source | None = None
    tags: Shorts = []
    tags_all: Shorts = []
    parent_ulid: Ulid | None = None
    since: Time | None = None
    until: Time | None = None
    name_prefix: Short | None = None
    cwd: Short | None = None
    hostname: Short | None = None
    trashed: bool = False


class Read(Request[Events], tag="read", kw_only=True, frozen=True):
    """Events with `after` < seq < `before`, ascending; `tail` N gives the last N of them.

    `inherit`: of a fork, first the events of its parent up to where it was forked; then `after`, `before`
    and `next` count along this whole chain, and each event has a `session`.
    """

    session: Ulid
    after: Seq = -1
    before: Count | None = None
    tail: Annotated[int, Meta(ge=0, le=READ_LIMIT_MAX)] | None = None
    limit: Annotated[int, Meta(ge=0, le=READ_LIMIT_MAX)] = READ_LIMIT_DEFAULT
    kinds: Shorts = []
    since: Time | None = None
    until: Time | None = None
    inherit: bool = False


class CountRequest(Request[Counted], tag="count", kw_only=True, frozen=True):
    """How many events and commands a session has."""

    session: Ulid


class Follow(Request[Following], tag="follow", kw_only=True, frozen=True):
    """Notices for each new event of one session, or of all; `after` -1 from the start, left out: only new."""

    session: Ulid | None = None
    after: Seq | None = None


class Cancel(Request[Cancelled], tag="cancel", kw_only=True, frozen=True):
    """Ends the `follow` that was asked with this same `id`."""


class Rename(Request[SessionReply], tag="rename", kw_only=True, frozen=True):
    """Gives a session another name; refused with `exists` if another session has it."""

    session: Ulid
    name: Name


class Tag(Request[SessionReply], tag="tag", kw_only=True, frozen=True):
    """Adds and removes tags. The order is kept, duplicates are skipped."""

    session: Ulid
    add: Shorts = []
    remove: Shorts = []


class TagsRequest(Request[Tags], tag="tags", kw_only=True, frozen=True):
    """The tags in use."""


class Label(Request[Labelled], tag="label", kw_only=True, frozen=True):
    """Lets a label stand for a session, whatever it stood for before; `session` null removes it."""

    label: LabelText
    session: Ulid | None


class LabelsRequest(Request[Labels], tag="labels", kw_only=True, frozen=True):
    """The labels in use, those behind the label `after`."""

    after: str | None = None


class MilestoneSet(Request[Milestone], tag="milestone_set", kw_only=True, frozen=True):
    """Stores a value under a key. `if_absent`: only if there is none; `expect`: only if it is this one.

    The reply has the value that is stored then, and in `stored` whether it is this request's.
    """

    key: Short
    value: str
    if_absent: bool = False
    expect: str | None = None


class MilestoneGet(Request[Milestone], tag="milestone_get", kw_only=True, frozen=True):
    """The value under a key."""

    key: Short


class MilestonesRequest(Request[Milestones], tag="milestones", kw_only=True, frozen=True):
    """Keys and their values, those behind the key `after`."""

    after: str | None = None


class Fork(Request[Started], tag="fork", kw_only=True, frozen=True):
    """Begins a child of a session, from its event `at` on (default: the last). No events are copied."""

    session: Ulid
    at: Seq | None = None
    name: Name | None = None
    ulid: Ulid | None = None
    owner_pid: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    cli_version: Short | None = None


class SavedHeader(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What is known of a session that is saved whole."""

    started_at: Time
    ulid: Ulid | None = None
    name: Name | None = None
    source: Source = Source.IMPORT
    cli_version: Short | None = None
    engine_base_url: Short | None = None
    parent_ulid: Ulid | None = None
    parent_seq: Count | None = None
    shell: Short | None = None
    os: Short | None = None
    hostname: Short | None = None
    cwd: Short | None = None
    env: dict[str, str] = {}
    tags: Shorts = []
    meta: dict[str, Any] = {}


class SavedFooter(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """How a session that is saved whole ended."""

    ended_at: Time
    status: Status = Status.COMPLETED
    end_reason: EndReason = EndReason.IMPORTED
    exit_code: ExitCode | None = None


class Save(Request[Saved], tag="save", kw_only=True, frozen=True):
    """Stores a whole session at once, or nothing. Without a `footer` it is stored as interrupted."""

    header: SavedHeader
    events: list[NewEvent]
    footer: SavedFooter | None = None


class Adopt(Request[Saved], tag="adopt", kw_only=True, frozen=True):
    """Stores the session in an NDJSON file (version 2 or 3) of this user; the file is left as it is."""

    path: Short


class Delete(Request[Deleted], tag="delete", kw_only=True, frozen=True):
    """Puts a session into the trash; `force`: also one that is recording; `purge`: for good."""

    session: Ulid
    force: bool = False
    purge: bool = False


class Restore(Request[SessionReply], tag="restore", kw_only=True, frozen=True):
    """Takes a session out of the trash."""

    session: Ulid


class Search(Request[Hits], tag="search", kw_only=True, frozen=True):
    """Finds events, and sessions by name, tag and label, newest first.

    `kinds`, `exit_code` and `cwd` are about events; with any of them, sessions themselves are not hits.
    `tags`: sessions with any of them; `cwd`: of the command, else of its session.
    """

    query: Short
    mode: SearchMode = SearchMode.WORDS
    limit: Annotated[int, Meta(ge=0, le=SEARCH_LIMIT_MAX)] = SEARCH_LIMIT_DEFAULT
    before: Short | None = None
    session: Ulid | None = None
    kinds: Shorts = []
    tags: Shorts = []
    since: Time | None = None
    until: Time | None = None
    exit_code: ExitCode | None = None
    cwd: Short | None = None


class Verify(Request[Verified], tag="verify", kw_only=True, frozen=True):
    """Compares files and database, a page of sessions at a time, in the order of their ULIDs."""

    session: Ulid | None = None
    after: Ulid | None = None


class StatsRequest(Request[StatsReply], tag="stats", kw_only=True, frozen=True):
    """Totals over all sessions."""


class StatusRequest(Request[StatusReply], tag="status", kw_only=True, frozen=True):
    """The daemon's health."""


class Ping(Request[Pong], tag="ping", kw_only=True, frozen=True):
    """Is anyone there?"""
