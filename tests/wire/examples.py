"""One example or more of every message, error code and file line; tests/golden holds their bytes.

The one rule: an example is never changed, because programs in other languages are tested against its bytes.
A new message, field or error code gets a new example here, and `python -m tests.wire.golden` writes its file.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Raw, Struct

from sessiond_client.wire import lines, messages
from sessiond_client.wire.messages import EndReason, ErrorCode, SearchMode, Source, Status

ULID = "01KAJSZ5T0Q4B8M2X7C9D3E6FG"
OTHER_ULID = "01KAJT0Z8R5N7P3W1Y6V2S4H9K"
PRODUCER = "01KAJSYWJ3A1B2C3D4E5F6G7H8"
AT = datetime(2026, 11, 21, 9, 24, 31, 123456, UTC)
AT_TEXT = "2026-11-21T09:24:31.123456Z"
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
TEXT = 'Grüße, 世界 😀\n\t"\\\x1b[31m'
"""Two, three and four bytes a letter, the escapes of JSON, and a terminal's escape sequence."""

SHORT_LINE = Raw(b'{"type":"event","seq":0,"kind":"note","at":"2026-11-21T09:24:31.123456Z"}')

RECORDING = messages.Session(
    ulid=ULID,
    name="nightly",
    source=Source.APP,
    status=Status.RECORDING,
    started_at=AT_TEXT,
)
COMPLETED = messages.Session(  # noqa: S604 - `shell` is a field here
    ulid=ULID,
    name="nightly",
    source=Source.COMMAND,
    status=Status.COMPLETED,
    started_at=AT_TEXT,
    ended_at="2026-11-21T09:30:00.000000Z",
    end_reason=EndReason.EXITED,
    exit_code=3,
    recovered=True,
    cli_version="1.2.3",
    engine_base_url="http://localhost:8080/",
    parent_ulid=OTHER_ULID,
    parent_seq=41,
    shell="/bin/sh",
    os="Linux 6.1",
    hostname="büro",
    cwd="/src/über",
    env={"TERM": "xterm"},
    tags=["ci", "größe"],
    labels=["release"],
    meta={"build": 7, "nested": {"list": [1, 2.5, None, True]}},
    event_count=2,
    command_count=1,
    byte_count=321,
    next_seq=2,
    digest=DIGEST,
    last_event_at="2026-11-21T09:29:59.999999Z",
)
TRASHED = messages.Session(
    ulid=ULID,
    name="nightly-2",
    source=Source.IMPORT,
    status=Status.INTERRUPTED,
    started_at=AT_TEXT,
    previous_names=["nightly", "größe"],
    trashed_at="2026-11-21T10:00:00.000000Z",
)

EVENT_LINE = lines.EventLine(seq=0, kind="prompt", at=AT_TEXT, text=TEXT, data=Raw(b'{"any": [1, 2.50]}'))
COMMAND_LINE = lines.CommandLine(
    seq=1,
    index=0,
    at=AT_TEXT,
    command="make test",
    cwd="/src",
    started_at=AT_TEXT,
    ended_at="2026-11-21T09:24:32.357456Z",
    exit_code=0,
    duration_ms=1234,
    data={"shell": "zsh"},
)

_REQUESTS: dict[str, messages.AnyRequest] = {
    "hello": messages.Hello(protocol=1),
    "hello-full": messages.Hello(id=1, protocol=1, client="example/1.0", producer=PRODUCER),
    "start": messages.Start(),
    "start-full": messages.Start(  # noqa: S604 - `shell` is a field here
        id=2,
        ulid=ULID,
        name="größe-1",
        source=Source.AGENT,
        cli_version="1.2.3",
        engine_base_url="http://localhost:8080/",
        parent_ulid=OTHER_ULID,
        shell="/bin/sh",
        os="Linux 6.1",
        hostname="büro",
        cwd="/src/über",
        env={"TERM": "xterm"},
        tags=["CI", "two words"],
        meta={"build": 7, "nested": {"list": [1, 2.5, None, True]}},
        owner_pid=0,
        started_at=AT,
    ),
    "hello-spool": messages.Hello(
        id=1, protocol=1, producer=PRODUCER, spool="/home/u/.local/state/sessiond/spool"
    ),
    "append": messages.Append(session=ULID, events=[messages.NewEvent(kind="prompt", text="hello")]),
    "append-full": messages.Append(
        id=3,
        session=ULID,
        events=[
            messages.NewEvent(kind="note"),
            messages.NewEvent(kind="output", text=TEXT, data=Raw(b'{"any": [1, 2.50]}'), at=AT),
        ],
        expect=0,
        producer=PRODUCER,
        n=1,
    ),
    "end": messages.End(session=ULID),
    "end-full": messages.End(
        id=4,
        session=ULID,
        status=Status.INTERRUPTED,
        end_reason=EndReason.EXITED,
        exit_code=-1,
        ended_at=AT,
    ),
    "get": messages.Get(id=5, session=ULID),
    "find": messages.Find(id=6, needle="nightly"),
    "list": messages.List(),
    "list-full": messages.List(
        id=7,
        limit=2,
        before="cursor",
        status=Status.COMPLETED,
        source=Source.SHELL,
        tags=["ci"],
        tags_all=["ci", "größe"],
        parent_ulid=OTHER_ULID,
        since=AT,
        until=AT,
    ),
    "read": messages.Read(session=ULID),
    "read-full": messages.Read(id=8, session=ULID, after=3, before=9, tail=2, limit=5, kinds=["command"]),
    "count": messages.CountRequest(id=9, session=ULID),
    "follow": messages.Follow(),
    "follow-full": messages.Follow(id=10, session=ULID, after=0),
    "cancel": messages.Cancel(id=10),
    "status": messages.StatusRequest(id=11),
    "ping": messages.Ping(id=12),
    "find-trashed": messages.Find(id=6, needle="nightly", trashed=True),
    "list-narrow": messages.List(
        id=7, name_prefix="nightly-", cwd="/src/über", hostname="büro", trashed=True
    ),
    "read-inherited": messages.Read(id=8, session=ULID, since=AT, until=AT, inherit=True),
    "rename": messages.Rename(id=14, session=ULID, name="größe-2"),
    "tag": messages.Tag(session=ULID),
    "tag-full": messages.Tag(id=15, session=ULID, add=["CI", "two words"], remove=["größe"]),
    "tags": messages.TagsRequest(id=16),
    "label": messages.Label(id=17, label="the good one, größer", session=ULID),
    "label-removed": messages.Label(id=17, label="release", session=None),
    "labels": messages.LabelsRequest(id=18),
    "labels-after": messages.LabelsRequest(id=18, after="release"),
    "milestone-set": messages.MilestoneSet(key="last-build", value=TEXT),
    "milestone-set-full": messages.MilestoneSet(
        id=19, key="last-build", value="8", if_absent=True, expect="7"
    ),
    "milestone-get": messages.MilestoneGet(id=20, key="last-build"),
    "milestones": messages.MilestonesRequest(id=21),
    "milestones-after": messages.MilestonesRequest(id=21, after="last-build"),
    "fork": messages.Fork(session=ULID),
    "fork-full": messages.Fork(
        id=22, session=ULID, at=41, name="nightly-fork", ulid=OTHER_ULID, owner_pid=0, cli_version="1.2.3"
    ),
    "save": messages.Save(header=messages.SavedHeader(started_at=AT), events=[]),
    "save-full": messages.Save(
        id=23,
        header=messages.SavedHeader(  # noqa: S604 - `shell` is a field here
            started_at=AT,
            ulid=ULID,
            name="größe-1",
            source=Source.AGENT,
            cli_version="1.2.3",
            engine_base_url="http://localhost:8080/",
            parent_ulid=OTHER_ULID,
            parent_seq=41,
            shell="/bin/sh",
            os="Linux 6.1",
            hostname="büro",
            cwd="/src/über",
            env={"TERM": "xterm"},
            tags=["CI", "two words"],
            meta={"build": 7, "nested": {"list": [1, 2.5, None, True]}},
        ),
        events=[messages.NewEvent(kind="output", text=TEXT, data=Raw(b'{"any": [1, 2.50]}'), at=AT)],
        footer=messages.SavedFooter(
            ended_at=AT, status=Status.INTERRUPTED, end_reason=EndReason.CLIENT_LOST, exit_code=-1
        ),
    ),
    "save-ended": messages.Save(
        header=messages.SavedHeader(started_at=AT), events=[], footer=messages.SavedFooter(ended_at=AT)
    ),
    "adopt": messages.Adopt(id=24, path="/srv/büro/nightly.ndjson"),
    "delete": messages.Delete(session=ULID),
    "delete-full": messages.Delete(id=25, session=ULID, force=True, purge=True),
    "restore": messages.Restore(id=26, session=ULID),
    "verify": messages.Verify(),
    "verify-full": messages.Verify(id=28, session=ULID, after=OTHER_ULID),
    "search": messages.Search(query="größe AND test*"),
    "search-full": messages.Search(
        id=27,
        query="gr(ö|oe)(ß|ss)e",
        mode=SearchMode.REGEX,
        limit=2,
        before="cursor",
        session=ULID,
        kinds=["command"],
        tags=["ci"],
        since=AT,
        until=AT,
        exit_code=0,
        cwd="/src/über",
    ),
    "stats": messages.StatsRequest(id=28),
}

_REPLIES: dict[str, messages.AnyReply] = {
    "welcome": messages.Welcome(
        id=1,
        protocol=1,
        version="0.1.0",
        pid=4711,
        data_dir="/home/u/.local/share/sessiond",
        env=["PATH", "TERM"],
    ),
    "welcome-waiting": messages.Welcome(
        id=1, protocol=1, version="0.1.0", pid=4711, data_dir="/home/u/.local/share/sessiond", waiting=1
    ),
    "started": messages.Started(id=2, session=RECORDING),
    "appended": messages.Appended(id=3, session=ULID, first=0, last=1),
    "ended": messages.Ended(id=4, session=COMPLETED),
    "session": messages.SessionReply(id=5, session=COMPLETED),
    "session-none": messages.SessionReply(id=5, session=None),
    "sessions": messages.Sessions(id=7, sessions=[RECORDING], next="cursor"),
    "sessions-last": messages.Sessions(id=7, sessions=[]),
    "sessions-unreadable": messages.Sessions(id=7, sessions=[], unreadable=1),
    "events-read": messages.Events(
        id=8,
        events=[SHORT_LINE],
        next=0,
    ),
    "events-read-last": messages.Events(id=8, events=[], next=None),
    "events-notice": messages.Events(
        id=10,
        events=[SHORT_LINE],
        cursor=0,
    ),
    "counted": messages.Counted(id=9, events=2, commands=1),
    "following": messages.Following(id=10, cursor=-1),
    "cancelled": messages.Cancelled(id=10),
    "status": messages.StatusReply(
        id=11,
        version="0.1.0",
        pid=4711,
        data_dir="/home/u/.local/share/sessiond",
        sqlite_version="3.54.1",
        uptime_seconds=12.5,
        sessions_recording=1,
        connections=2,
        followers=1,
        queue_length=0,
        events_committed=2,
        commits=1,
        commit_p50_ms=0.25,
        commit_p99_ms=None,
        lagging_files=[ULID],
        recovery={"torn_tail": 1},
    ),
    "status-read-only": messages.StatusReply(
        id=11,
        version="0.1.0",
        pid=4711,
        data_dir="/home/u/.local/share/sessiond",
        sqlite_version="3.54.1",
        uptime_seconds=12.5,
        sessions_recording=0,
        connections=1,
        followers=0,
        queue_length=0,
        events_committed=0,
        commits=0,
        commit_p50_ms=None,
        commit_p99_ms=None,
        lagging_files=[],
        recovery={},
        refusing=ErrorCode.READ_ONLY,
        read_only="storage failed while committing: IOError: disk I/O error (3 failures within 60 s)",
        read_only_since="2026-11-21T09:24:31.123456Z",
    ),
    "pong": messages.Pong(id=12),
    "session-trashed": messages.SessionReply(id=5, session=TRASHED),
    "tags": messages.Tags(
        id=16,
        tags=[messages.TagCount(tag="ci", sessions=12), messages.TagCount(tag="größe", sessions=1)],
    ),
    "labelled": messages.Labelled(id=17, label="release", session=ULID, previous=OTHER_ULID),
    "labelled-none": messages.Labelled(id=17, label="release", session=None),
    "labels": messages.Labels(
        id=18, labels=[messages.LabelTarget(label="release", session=ULID, name="nightly")]
    ),
    "labels-more": messages.Labels(
        id=18, labels=[messages.LabelTarget(label="release", session=ULID, name="nightly")], next="release"
    ),
    "milestone": messages.Milestone(id=19, key="last-build", value="8", stored=True),
    "milestone-none": messages.Milestone(id=20, key="last-build", value=None),
    "milestones": messages.Milestones(id=21, milestones={"last-build": "8", "größe": TEXT}),
    "milestones-more": messages.Milestones(id=21, milestones={"last-build": "8"}, next="last-build"),
    "saved": messages.Saved(id=23, session=COMPLETED),
    "saved-damaged": messages.Saved(id=24, session=TRASHED, existed=True, damage="line 7, byte 4096"),
    "deleted": messages.Deleted(id=25, session=ULID, purged=False),
    "hits": messages.Hits(
        id=27,
        hits=[
            messages.Hit(session=ULID, name="größe-1", at=AT_TEXT, snippet="größe-1", marks=[(0, 5)]),
            messages.Hit(
                session=ULID,
                name="größe-1",
                at=AT_TEXT,
                snippet="… make test && make größe …",
                seq=1,
                kind="command",
                marks=[(7, 11), (20, 25)],
            ),
        ],
        next="cursor",
    ),
    "hits-last": messages.Hits(id=27, hits=[]),
    "verified": messages.Verified(id=28, sessions=7, events=120, bytes=8192),
    "verified-faults": messages.Verified(
        id=28,
        sessions=7,
        events=120,
        bytes=8192,
        faults=[
            messages.Fault(
                code="line_differs",
                session=ULID,
                path=f"/home/büro/sessions/{ULID}.ndjson",
                offset=4096,
                message="what and where",
                repair="what to do",
            ),
            messages.Fault(code="state_differs", path="/x/state.ndjson", message="what", repair="what"),
        ],
        lagging=[OTHER_ULID],
        next=ULID,
    ),
    "stats": messages.StatsReply(
        id=28,
        sessions=12,
        recording=1,
        interrupted=2,
        trashed=3,
        events=1000,
        commands=100,
        event_bytes=180_000,
        storage_bytes=400_000,
        duration_seconds=86_400.5,
        first_started_at=AT_TEXT,
        last_event_at="2026-11-21T09:29:59.999999Z",
        sources={"shell": 10, "agent": 2},
        tags=[messages.TagCount(tag="ci", sessions=12)],
    ),
}

ERROR_FIELDS: dict[ErrorCode, dict[str, object]] = {
    ErrorCode.INVALID: {"field": "events[0].kind"},
    ErrorCode.AMBIGUOUS: {"candidates": [ULID, OTHER_ULID]},
    ErrorCode.NOT_FOUND: {"suggestions": ["nightly"]},
    ErrorCode.CONFLICT: {"next_seq": 2},
    ErrorCode.TOO_LARGE: {"field": "events"},
    ErrorCode.CORRUPT: {"path": f"/home/u/.local/share/sessiond/sessions/{ULID}.ndjson", "offset": 4096},
}

_LINES: dict[str, Struct] = {
    "header": lines.HeaderLine(version=3, id=ULID, name="nightly", source="app", started_at=AT_TEXT),
    "header-full": lines.HeaderLine(  # noqa: S604 - `shell` is a field here
        version=3,
        id=ULID,
        name="nightly",
        source="command",
        started_at=AT_TEXT,
        shell="/bin/sh",
        os="Linux 6.1",
        hostname="büro",
        cwd="/src/über",
        env={"TERM": "xterm"},
        tags=["ci"],
        cli_version="1.2.3",
        engine_base_url="http://localhost:8080/",
        parent_ulid=OTHER_ULID,
        parent_seq=41,
        meta={"build": 7},
    ),
    "header-renamed": lines.HeaderLine(
        version=3,
        id=ULID,
        name="nightly-2",
        source="app",
        started_at=AT_TEXT,
        previous_names=["nightly", "größe"],
    ),
    "event": lines.EventLine(seq=0, kind="note", at=AT_TEXT),
    "event-full": EVENT_LINE,
    "event-followed": lines.EventLine(seq=0, kind="note", at=AT_TEXT, session=ULID),
    "command": lines.CommandLine(seq=1, index=0, at=AT_TEXT, command="true"),
    "command-full": COMMAND_LINE,
    "command-followed": lines.CommandLine(seq=1, index=0, at=AT_TEXT, command="true", session=ULID),
    "amend-name": lines.AmendLine(at=AT_TEXT, name="nightly-2"),
    "amend-tags": lines.AmendLine(at=AT_TEXT, tags=[]),
    "footer": lines.FooterLine(
        ended_at=AT_TEXT,
        status="completed",
        end_reason="exited",
        exit_code=3,
        command_count=1,
        event_count=2,
        digest=DIGEST,
    ),
    "footer-no-exit": lines.FooterLine(
        ended_at=AT_TEXT,
        status="interrupted",
        end_reason="client_lost",
        exit_code=None,
        command_count=0,
        event_count=0,
        digest=DIGEST,
    ),
    "label": lines.LabelLine(at=AT_TEXT, label="release", session=ULID),
    "label-removed": lines.LabelLine(at=AT_TEXT, label="release", session=None),
    "milestone": lines.MilestoneLine(at=AT_TEXT, key="last-build", value=TEXT),
}


def _error(code: ErrorCode) -> messages.Error:
    fields = ERROR_FIELDS.get(code, {})
    return messages.Error(id=13, code=code, message="what and where", **fields)  # type: ignore[arg-type]


REQUESTS: dict[str, messages.AnyRequest] = {f"request-{name}": example for name, example in _REQUESTS.items()}
REPLIES: dict[str, messages.AnyReply] = (
    {f"reply-{name}": example for name, example in _REPLIES.items()}
    | {f"error-{code}": _error(code) for code in ErrorCode}
    | {"error-hint": messages.Error(code=ErrorCode.BUSY, message="what and where", hint="what to do")}
)
LINES: dict[str, Struct] = {f"line-{name}": example for name, example in _LINES.items()}
EXAMPLES: dict[str, Struct] = {**REQUESTS, **REPLIES, **LINES}
