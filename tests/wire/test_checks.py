"""What is checked of the events of a request."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from msgspec import Raw

from sessiond_client.wire.checks import check_events
from sessiond_client.wire.messages import TEXT_BYTES_MAX, NewEvent
from sessiond_client.wire.refused import Refused

GOOD = [
    NewEvent(kind="output", text="x", at=datetime(2026, 11, 21, tzinfo=UTC)),
    NewEvent(kind="command", text="ls"),
]
WEST = timezone(timedelta(hours=-1))


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (NewEvent(kind="Output", text="x"), "kind"),
        (NewEvent(kind="output", text="x" * (TEXT_BYTES_MAX + 1)), "text"),
        (NewEvent(kind="output", text="é" * (TEXT_BYTES_MAX // 2 + 1)), "text"),
        (NewEvent(kind="output", text="x", data=Raw(b"[1]")), "data"),
        (NewEvent(kind="output", text="x", at=datetime.max.replace(tzinfo=WEST)), "at"),
        (NewEvent(kind="command"), "text"),
    ],
)
def test_one_bad_event_among_good_ones_is_refused_by_its_place(event: NewEvent, field: str) -> None:
    check_events(GOOD)

    with pytest.raises(Refused) as refused:
        check_events([*GOOD, event, *GOOD])

    assert refused.value.reply(1).field == f"events[2].{field}"
