"""Every reply and notice of the wire, and the refusal.

The one rule: new fields come with defaults, and nothing is renamed, retyped or removed while
`PROTOCOL_VERSION` stays the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UNSET, Raw, Struct, UnsetType

from sessiond_client.wire.words import ErrorCode, Session


class Reply(Struct, kw_only=True, frozen=True, tag_field="type"):
    """What the daemon answers, or tells a follower unasked (a notice); `id` is the request's."""

    id: int = 0


class Welcome(Reply, tag="welcome", kw_only=True, frozen=True):
    """Answers `hello`. `env` names the environment variables that the daemon records.

    `waiting`, where the hello had a `spool`: how many of its files could not be taken over yet.
    """

    protocol: int
    version: str
    pid: int
    data_dir: str
    env: list[str] = []
    waiting: int | UnsetType = UNSET


class Started(Reply, tag="started", kw_only=True, frozen=True):
    """Answers `start` and `fork`."""

    session: Session


class Appended(Reply, tag="appended", kw_only=True, frozen=True):
    """Answers `append`: the events are on disk and have the seqs `first` to `last`."""

    session: str
    first: int
    last: int


class Ended(Reply, tag="ended", kw_only=True, frozen=True):
    """Answers `end`; also the last notice of a `follow` whose session has ended."""

    session: Session


class SessionReply(Reply, tag="session", kw_only=True, frozen=True):
    """Answers `get`, `find`, `rename`, `tag` and `restore`."""

    session: Session | None


class Sessions(Reply, tag="sessions", kw_only=True, frozen=True):
    """Answers `list`, newest first; `next` is the `before` of the next page, null on the last one.

    `unreadable` counts sessions that are left out: what the database has of them is damaged.
    """

    sessions: list[Session]
    next: str | None = None
    unreadable: int | UnsetType = UNSET

    def __iter__(self) -> Iterator[Session]:
        """The sessions of this page."""
        return iter(self.sessions)


class Events(Reply, tag="events", kw_only=True, frozen=True):
    """Answers `read` (with `next`), or brings a follower a page (with `cursor`).

    Each of `events` is a line of the session's file, byte for byte; with all sessions followed, each has a
    `session` besides. `next` goes into `after` (with `tail`: into `before`) of the next `read`.
    """

    events: list[Raw]
    next: int | UnsetType | None = UNSET
    cursor: int | UnsetType = UNSET


class Counted(Reply, tag="counted", kw_only=True, frozen=True):
    """Answers `count`."""

    events: int
    commands: int


class Following(Reply, tag="following", kw_only=True, frozen=True):
    """Answers `follow`: `cursor` is the position after which notices begin."""

    cursor: int


class Cancelled(Reply, tag="cancelled", kw_only=True, frozen=True):
    """Answers `cancel`: no further notice comes."""


class StatusReply(Reply, tag="status", kw_only=True, frozen=True):
    """Answers `status`: the daemon's health. Commit times are over the last 1024 commits.

    `refusing` is why the last batch was refused, null once one was stored again. Of a daemon that
    writes nothing at all `read_only` says why, and `read_only_since` since when.
    """

    version: str
    pid: int
    data_dir: str
    sqlite_version: str
    uptime_seconds: float
    sessions_recording: int
    connections: int
    followers: int
    queue_length: int
    events_committed: int
    commits: int
    commit_p50_ms: float | None
    commit_p99_ms: float | None
    lagging_files: list[str]
    recovery: dict[str, int]
    refusing: ErrorCode | None = None
    read_only: str | UnsetType = UNSET
    read_only_since: str | UnsetType = UNSET


class TagCount(Struct, kw_only=True, frozen=True):
    """A tag and how many sessions have it."""

    tag: str
    sessions: int


class Tags(Reply, tag="tags", kw_only=True, frozen=True):
    """Answers `tags`: every tag in use, the most used first."""

    tags: list[TagCount]


class LabelTarget(Struct, kw_only=True, frozen=True):
    """A label and the session it stands for."""

    label: str
    session: str
    name: str


class Labelled(Reply, tag="labelled", kw_only=True, frozen=True):
    """Answers `label`: what the label stands for now, and what it stood for before."""

    label: str
    session: str | None
    previous: str | None = None


class Labels(Reply, tag="labels", kw_only=True, frozen=True):
    """Answers `labels`, in the order of the labels. `next`, if there are more: what to ask behind."""

    labels: list[LabelTarget]
    next: str | UnsetType = UNSET


class Milestone(Reply, tag="milestone", kw_only=True, frozen=True):
    """Answers `milestone_set` and `milestone_get` with the value now stored; null: never set."""

    key: str
    value: str | None
    stored: bool = False


class Milestones(Reply, tag="milestones", kw_only=True, frozen=True):
    """Answers `milestones`, in the order of the keys. `next`, if there are more: what to ask behind."""

    milestones: dict[str, str]
    next: str | UnsetType = UNSET


class Saved(Reply, tag="saved", kw_only=True, frozen=True):
    """Answers `save` and `adopt`. `existed`: it was stored before, and nothing was changed.

    `damage` says from where on a file could not be read; what was whole before that is stored.
    """

    session: Session
    existed: bool = False
    damage: str | None = None


class Deleted(Reply, tag="deleted", kw_only=True, frozen=True):
    """Answers `delete`. `purged`: the session is gone for good, else it is in the trash."""

    session: str
    purged: bool


class Hit(Struct, kw_only=True, frozen=True):
    """Where a search found something: in an event, or (`seq` null) in the name, tags or labels of a session.

    `marks` are the places in `snippet` that match: where each begins and ends, in characters.
    """

    session: str
    name: str
    at: str
    snippet: str
    seq: int | None = None
    kind: str | None = None
    marks: list[tuple[int, int]] = []


class Hits(Reply, tag="hits", kw_only=True, frozen=True):
    """Answers `search`, newest first; `next` is the `before` of the next page, null on the last one."""

    hits: list[Hit]
    next: str | None = None

    def __iter__(self) -> Iterator[Hit]:
        """The hits of this page."""
        return iter(self.hits)


class Fault(Struct, kw_only=True, frozen=True):
    """Something that is wrong with the stores; docs/recovery.md lists the codes.

    `offset` counts bytes from the beginning of the file at `path`; `repair` says what mends it.
    """

    code: str
    session: str | None = None
    path: str
    offset: int | None = None
    message: str
    repair: str


class Verified(Reply, tag="verified", kw_only=True, frozen=True):
    """Answers `verify`: what was compared in this page, and what is wrong with it.

    `lagging` are sessions whose file is only behind, as it is while it is being written. `next` is the
    `after` of the next page, null on the last one.
    """

    sessions: int
    events: int
    bytes: int
    faults: list[Fault] = []
    lagging: list[str] = []
    next: str | None = None


class StatsReply(Reply, tag="stats", kw_only=True, frozen=True):
    """Answers `stats`: totals over the sessions that are not in the trash.

    Durations are those of the sessions that have ended. `event_bytes` counts event lines; `storage_bytes` is
    what the database and the files take on the disk. `tags` are the most used ones, at most ten.
    """

    sessions: int
    recording: int
    interrupted: int
    trashed: int
    events: int
    commands: int
    event_bytes: int
    storage_bytes: int
    duration_seconds: float
    first_started_at: str | None = None
    last_event_at: str | None = None
    sources: dict[str, int] = {}
    tags: list[TagCount] = []


class Pong(Reply, tag="pong", kw_only=True, frozen=True):
    """Answers `ping`."""


class Error(Reply, tag="error", kw_only=True, frozen=True, omit_defaults=True):
    """A refusal. `message` says what and where, `hint` what to do; the other fields depend on `code`."""

    code: ErrorCode
    message: str
    hint: str | None = None
    field: str | None = None
    candidates: list[str] | None = None
    suggestions: list[str] | None = None
    next_seq: int | None = None
    path: str | None = None
    offset: int | None = None
