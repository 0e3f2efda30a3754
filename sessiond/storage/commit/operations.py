"""What the writer can be asked to do to the stores, and what comes of it.

The one rule: an operation is checked for form before it gets here; the transaction checks only what depends
on the state of the stores.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from sessiond.errors import Refused
from sessiond_client.wire.messages import NewEvent, Session, Source, Status


class Owner(NamedTuple):
    """A process whose end ends its sessions: `start` in clock ticks after boot, `boot` the boot's id."""

    pid: int
    start: int | None
    boot: str | None


class Appended(NamedTuple):
    """The seqs of the first and last event of an append."""

    first: int
    last: int


class StartSession(Struct, kw_only=True, frozen=True):
    """Begin a session. `tags` are normalised, `env` is filtered, `name` None asks for the default."""

    ulid: str
    name: str | None
    source: Source
    started_at: int
    received_at: int
    producer: str | None = None
    owner: Owner | None = None
    cli_version: str | None = None
    engine_base_url: str | None = None
    parent_ulid: str | None = None
    parent_seq: int | None = None
    shell: str | None = None
    os: str | None = None
    hostname: str | None = None
    cwd: str | None = None
    env: dict[str, str] = {}
    tags: list[str] = []
    meta: dict[str, object] = {}


class AppendEvents(Struct, kw_only=True, frozen=True):
    """Add events to a session, all or none; see `messages.Append`."""

    session: str
    events: list[NewEvent]
    received_at: int
    expect: int | None = None
    producer: str | None = None
    n: int | None = None


class EndSession(Struct, kw_only=True, frozen=True):
    """End a session and seal its file; on an ended one it changes nothing."""

    session: str
    status: Status
    end_reason: str
    ended_at: int
    exit_code: int | None = None
    recovered: bool = False


class MarkSynced(Struct, kw_only=True, frozen=True):
    """The first `size` bytes of a session's file, the events below `seq`, are on disk."""

    session: str
    size: int
    seq: int
    sealed: bool


class Nothing(Struct, kw_only=True, frozen=True):
    """Change nothing: that it comes back shows that the queue and the store are alive."""


class RenameSession(Struct, kw_only=True, frozen=True):
    """Give a session another name."""

    session: str
    name: str
    at: int


class TagSession(Struct, kw_only=True, frozen=True):
    """Add and remove tags, which are normalised."""

    session: str
    add: list[str]
    remove: list[str]
    at: int


class SetLabel(Struct, kw_only=True, frozen=True):
    """Let a label stand for a session, or (None) for none."""

    label: str
    session: str | None
    at: int


class SetMilestone(Struct, kw_only=True, frozen=True):
    """Store a value under a key; see `messages.MilestoneSet` for the conditions."""

    key: str
    value: str
    if_absent: bool
    expect: str | None
    at: int


class ForkSession(Struct, kw_only=True, frozen=True):
    """Begin a child of a session; what is left out comes from the parent."""

    session: str
    seq: int | None
    ulid: str
    name: str | None
    started_at: int
    producer: str | None = None
    owner: Owner | None = None
    cli_version: str | None = None


class DeleteSession(Struct, kw_only=True, frozen=True):
    """Put a session into the trash, or mark it to be purged; with `force` one that records is ended first."""

    session: str
    force: bool
    purge: bool
    at: int


class RestoreSession(Struct, kw_only=True, frozen=True):
    """Take a session out of the trash."""

    session: str


class MarkSettled(Struct, kw_only=True, frozen=True):
    """The file of an ended session is where it belongs, has this header and `size` bytes, and is on disk."""

    session: str
    header: str
    shelf: str
    size: int


class PurgeEvents(Struct, kw_only=True, frozen=True):
    """Remove some events of a purged session; the outcome is how many there were."""

    session: str
    limit: int


class PurgeSession(Struct, kw_only=True, frozen=True):
    """Remove what else there is of a purged session."""

    session: str


class SaveSession(Struct, kw_only=True, frozen=True):
    """Store a whole session, or nothing; digest, counts and an empty name or ULID are filled in."""

    session: Session
    events: list[NewEvent]


class BeginAdoption(Struct, kw_only=True, frozen=True):
    """Make a row that nobody sees for a session whose events follow; `session` says what it will be."""

    session: Session


class AdoptEvents(Struct, kw_only=True, frozen=True):
    """More event lines of a session that is being brought in; `first` is the seq of the first of them."""

    session: str
    first: int
    kinds: list[str]
    times: list[int]
    lines: list[str]


class KeepAdopted(Struct, kw_only=True, frozen=True):
    """All events are here, and the file with its `size` bytes is on disk: let the session be seen."""

    session: str
    size: int


class AbandonAdopted(Struct, kw_only=True, frozen=True):
    """What there is of a session that was not brought in whole is to be purged; else nothing is changed."""

    session: str


class Stored(NamedTuple):
    """A whole session, as it is stored; `existed`: it was before, and nothing was changed."""

    session: Session
    existed: bool


class Abandoned(NamedTuple):
    """Whether there was anything to be purged."""

    purged: bool


class LabelSet(NamedTuple):
    """What a label stood for before."""

    previous: str | None


class MilestoneStored(NamedTuple):
    """The value that is stored now, and whether it is the one that was to be stored."""

    value: str | None
    stored: bool


class Purged(NamedTuple):
    """How many events were removed."""

    events: int


Arrival = SaveSession | BeginAdoption | AdoptEvents | KeepAdopted | AbandonAdopted
Operation = (
    StartSession
    | AppendEvents
    | EndSession
    | MarkSynced
    | Nothing
    | RenameSession
    | TagSession
    | SetLabel
    | SetMilestone
    | ForkSession
    | DeleteSession
    | RestoreSession
    | MarkSettled
    | PurgeEvents
    | PurgeSession
    | Arrival
)
Outcome = Session | Appended | Stored | Abandoned | LabelSet | MilestoneStored | Purged | Refused | None
