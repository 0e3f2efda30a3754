"""Every message of the wire, gathered: import from here.

A message is one JSON object on one line; `type` names it, `id` pairs a reply with its request. What the
fields are made of is in `words`, the messages themselves are in `requests` and `replies`. docs/protocol.md
lists what stands there, and a test compares the two.
"""

from __future__ import annotations

import msgspec

from sessiond_client.wire.replies import (
    Appended,
    Cancelled,
    Counted,
    Deleted,
    Ended,
    Error,
    Events,
    Fault,
    Following,
    Hit,
    Hits,
    Labelled,
    Labels,
    LabelTarget,
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
    TagCount,
    Tags,
    Verified,
    Welcome,
)
from sessiond_client.wire.requests import (
    Adopt,
    Append,
    Cancel,
    CountRequest,
    Delete,
    End,
    Find,
    Follow,
    Fork,
    Get,
    Hello,
    Label,
    LabelsRequest,
    List,
    MilestoneGet,
    MilestoneSet,
    MilestonesRequest,
    Ping,
    Read,
    Rename,
    ReplyT,
    Request,
    Restore,
    Save,
    SavedFooter,
    SavedHeader,
    Search,
    Start,
    StatsRequest,
    StatusRequest,
    Tag,
    TagsRequest,
    Verify,
)
from sessiond_client.wire.words import (
    DATA_DEPTH_MAX,
    ENV_BYTES_MAX,
    EVENTS_PER_APPEND_MAX,
    ITEMS_MAX,
    KIND_PATTERN,
    LABEL_LENGTH_MAX,
    LABEL_PATTERN,
    LABELS_MAX,
    LIST_LIMIT_DEFAULT,
    LIST_LIMIT_MAX,
    META_BYTES_MAX,
    NAME_LENGTH_MAX,
    NAME_PATTERN,
    PRODUCER_WINDOW,
    PROTOCOL_VERSION,
    READ_LIMIT_DEFAULT,
    READ_LIMIT_MAX,
    RECORDED_ENV_DEFAULT,
    REQUESTS_IN_FLIGHT_MAX,
    SEARCH_LIMIT_DEFAULT,
    SEARCH_LIMIT_MAX,
    SHORT_LENGTH_MAX,
    TAG_PATTERN,
    TEXT_BYTES_MAX,
    ULID_PATTERN,
    VALUE_BYTES_MAX,
    Count,
    EndReason,
    ErrorCode,
    ExitCode,
    LabelText,
    Name,
    NewEvent,
    SearchMode,
    Seq,
    Session,
    Short,
    Shorts,
    Source,
    Status,
    Time,
    Ulid,
)

__all__ = [
    "DATA_DEPTH_MAX",
    "ENV_BYTES_MAX",
    "EVENTS_PER_APPEND_MAX",
    "ITEMS_MAX",
    "KIND_PATTERN",
    "LABELS_MAX",
    "LABEL_LENGTH_MAX",
    "LABEL_PATTERN",
    "LIST_LIMIT_DEFAULT",
    "LIST_LIMIT_MAX",
    "META_BYTES_MAX",
    "NAME_LENGTH_MAX",
    "NAME_PATTERN",
    "PRODUCER_WINDOW",
    "PROTOCOL_VERSION",
    "READ_LIMIT_DEFAULT",
    "READ_LIMIT_MAX",
    "RECORDED_ENV_DEFAULT",
    "REQUESTS_IN_FLIGHT_MAX",
    "SEARCH_LIMIT_DEFAULT",
    "SEARCH_LIMIT_MAX",
    "SHORT_LENGTH_MAX",
    "TAG_PATTERN",
    "TEXT_BYTES_MAX",
    "ULID_PATTERN",
    "VALUE_BYTES_MAX",
    "Adopt",
    "AnyReply",
    "AnyRequest",
    "Append",
    "Appended",
    "Cancel",
    "Cancelled",
    "Count",
    "CountRequest",
    "Counted",
    "Delete",
    "Deleted",
    "End",
    "EndReason",
    "Ended",
    "Error",
    "ErrorCode",
    "Events",
    "ExitCode",
    "Fault",
    "Find",
    "Follow",
    "Following",
    "Fork",
    "Get",
    "Hello",
    "Hit",
    "Hits",
    "Label",
    "LabelTarget",
    "LabelText",
    "Labelled",
    "Labels",
    "LabelsRequest",
    "List",
    "Milestone",
    "MilestoneGet",
    "MilestoneSet",
    "Milestones",
    "MilestonesRequest",
    "Name",
    "NewEvent",
    "Ping",
    "Pong",
    "Read",
    "Rename",
    "Reply",
    "ReplyT",
    "Request",
    "Restore",
    "Save",
    "Saved",
    "SavedFooter",
    "SavedHeader",
    "Search",
    "SearchMode",
    "Seq",
    "Session",
    "SessionReply",
    "Sessions",
    "Short",
    "Shorts",
    "Source",
    "Start",
    "Started",
    "StatsReply",
    "StatsRequest",
    "Status",
    "StatusReply",
    "StatusRequest",
    "Tag",
    "TagCount",
    "Tags",
    "TagsRequest",
    "Time",
    "Ulid",
    "Verified",
    "Verify",
    "Welcome",
    "reply_decoder",
    "request_decoder",
]

AnyRequest = (
    Hello
    | Start
    | Append
    | End
    | Get
    | Find
    | List
    | Read
    | CountRequest
    | Follow
    | Cancel
    | Rename
    | Tag
    | TagsRequest
    | Label
    | LabelsRequest
    | MilestoneSet
    | MilestoneGet
    | MilestonesRequest
    | Fork
    | Save
    | Adopt
    | Delete
    | Restore
    | Search
    | Verify
    | StatsRequest
    | StatusRequest
    | Ping
)
AnyReply = (
    Welcome
    | Started
    | Appended
    | Ended
    | SessionReply
    | Sessions
    | Events
    | Counted
    | Following
    | Cancelled
    | Tags
    | Labelled
    | Labels
    | Milestone
    | Milestones
    | Saved
    | Deleted
    | Hits
    | Verified
    | StatsReply
    | StatusReply
    | Pong
    | Error
)

request_decoder: msgspec.json.Decoder[AnyRequest] = msgspec.json.Decoder(AnyRequest)
reply_decoder: msgspec.json.Decoder[AnyReply] = msgspec.json.Decoder(AnyReply)
