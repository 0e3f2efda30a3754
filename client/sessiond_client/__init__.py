"""Record sessions, and read them back: the client library of sessiond.

    from sessiond_client import Client

    with Client.connect() as client, client.start(name="nightly", source="app") as session:
        session.append("prompt", "hello")            # returns seq 0; it is on disk
        with session.recorder() as record:           # many events in a row
            for chunk in chunks:
                record("output", chunk)
        for event in client.follow(session.ulid): ...

`AsyncClient` has the same verbs, awaited. The one rule: importing this loads neither asyncio nor anyio;
what needs them is loaded when it is first named.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sessiond_client.client import Client
from sessiond_client.errors import (
    ConnectionLost,
    DaemonCannotStore,
    DaemonUnavailable,
    NotSpooled,
    ProtocolError,
    RecordingIncomplete,
    RequestFailed,
    SessiondError,
)
from sessiond_client.events import EventPage, event
from sessiond_client.follow import Follower
from sessiond_client.session import RecordingSession
from sessiond_client.ulids import new_ulid
from sessiond_client.version import __version__
from sessiond_client.wire.lines import Event
from sessiond_client.wire.messages import (
    EndReason,
    ErrorCode,
    Fault,
    Hit,
    Hits,
    Labelled,
    LabelTarget,
    Milestone,
    NewEvent,
    Saved,
    SavedFooter,
    SavedHeader,
    SearchMode,
    Session,
    Sessions,
    Source,
    StatsReply,
    Status,
    TagCount,
    Verified,
)
from sessiond_client.wire.spool import SPOOLED

if TYPE_CHECKING:
    from sessiond_client.aio import AsyncClient as AsyncClient
    from sessiond_client.aio import AsyncRecorder as AsyncRecorder
    from sessiond_client.aio import AsyncRecordingSession as AsyncRecordingSession
    from sessiond_client.hosted import HostedSessions as HostedSessions
    from sessiond_client.log import RecordHandler as RecordHandler
    from sessiond_client.recorder import Recorder as Recorder

_LAZY = {
    "AsyncClient": "sessiond_client.aio",
    "AsyncRecorder": "sessiond_client.aio",
    "AsyncRecordingSession": "sessiond_client.aio",
    "HostedSessions": "sessiond_client.hosted",
    "RecordHandler": "sessiond_client.log",
    "Recorder": "sessiond_client.recorder",
}

__all__ = [
    "SPOOLED",
    "AsyncClient",
    "AsyncRecorder",
    "AsyncRecordingSession",
    "Client",
    "ConnectionLost",
    "DaemonCannotStore",
    "DaemonUnavailable",
    "EndReason",
    "ErrorCode",
    "Event",
    "EventPage",
    "Fault",
    "Follower",
    "Hit",
    "Hits",
    "HostedSessions",
    "LabelTarget",
    "Labelled",
    "Milestone",
    "NewEvent",
    "NotSpooled",
    "ProtocolError",
    "RecordHandler",
    "Recorder",
    "RecordingIncomplete",
    "RecordingSession",
    "RequestFailed",
    "Saved",
    "SavedFooter",
    "SavedHeader",
    "SearchMode",
    "Session",
    "SessiondError",
    "Sessions",
    "Source",
    "StatsReply",
    "Status",
    "TagCount",
    "Verified",
    "__version__",
    "event",
    "new_ulid",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
