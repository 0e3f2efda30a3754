"""`sessionctl tail`: where it goes over from reading to following, and going on where a script stopped."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec

from sessionctl.commands.tail import Tail
from sessionctl.output import Form
from sessionctl.patterns import compiled
from sessionctl.transcripts.outlet import PlainOutlet
from sessionctl.transcripts.selection import Selection
from sessionctl.transcripts.transcript import Transcript
from sessiond_client.client import Client
from sessiond_client.wire.messages import Counted, Events, Read, Request
from tests.cli.conftest import SESSIONCTL, Sessionctl
from tests.cli.recorded import shared_daemon

daemon = shared_daemon

ULID = "01M7YXD1KGXQK2AAA9C3V1686V"


class Recording:
    """In place of a client: a session that another event joins whenever it is looked at."""

    def __init__(self, events: int, page_events: int = 1000) -> None:
        self.events = events
        self.page_events = page_events

    def count(self, _session: str) -> Counted:
        """How many events there are, and then one more."""
        self.events += 1
        return Counted(events=self.events - 1, commands=0)

    def call(self, request: Request[Any]) -> Events:
        """The last events before a place, in pages as small as a daemon likes."""
        assert isinstance(request, Read)
        assert request.tail is not None
        end = self.events if request.before is None else request.before
        start = max(0, end - min(request.tail, self.page_events))
        lines = [
            {
                "type": "event",
                "seq": seq,
                "kind": "note",
                "at": "2026-11-21T00:00:00.000000Z",
                "text": str(seq),
            }
            for seq in range(start, end)
        ]
        page = [msgspec.Raw(msgspec.json.encode(line)) for line in lines]
        return Events(events=page, next=start if start and len(page) <= request.tail else None)


class Memory(PlainOutlet):
    """In place of standard output: the numbers of the events."""

    def __init__(self) -> None:
        self.seqs: list[int] = []

    def write(self, data: bytes, position: int) -> None:  # noqa: ARG002 - it is in the data, too
        """Keep the number."""
        self.seqs.append(json.loads(data)["seq"])

    def settle(self, position: int) -> None:
        """Nothing waits."""


def tail_of(recording: Recording, count: int, pattern: str | None = None) -> tuple[Tail, Memory]:
    """The end of a recording, written to memory."""
    outlet = Memory()
    selection = Selection(pattern=None if pattern is None else compiled(pattern))
    tail = Tail(cast("Client", recording), ULID, selection, Transcript(Form.NDJSON), outlet)
    tail.write_last(count)
    return tail, outlet


def test_an_event_stored_between_counting_and_reading_is_not_followed_again() -> None:
    tail, outlet = tail_of(Recording(5), 3)

    assert (outlet.seqs, tail.position) == ([3, 4, 5], 6)


def test_with_no_events_wanted_following_begins_behind_the_last_one() -> None:
    tail, outlet = tail_of(Recording(5), 0)

    assert (outlet.seqs, tail.position) == ([], 5)


def test_the_last_events_come_in_order_however_small_the_pages() -> None:
    _, outlet = tail_of(Recording(49, page_events=7), 30)

    assert outlet.seqs == list(range(20, 50))


def test_the_last_events_with_a_match_are_looked_for_as_far_back_as_need_be() -> None:
    tail, outlet = tail_of(Recording(49, page_events=7), 3, "^[0-9]$|^11$")

    assert (outlet.seqs, tail.position) == ([8, 9, 11], 49)


# --- with a real daemon


@contextmanager
def following(sessionctl: Sessionctl, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """`tail -f` into a pipe."""
    with subprocess.Popen(
        [*SESSIONCTL, "tail", "-f", *options], stdout=subprocess.PIPE, bufsize=0, env=sessionctl.environ
    ) as follower:
        try:
            yield follower
        finally:
            follower.kill()


def lines_of(follower: subprocess.Popen[bytes], count: int) -> list[bytes]:
    """The next lines that it writes."""
    assert follower.stdout is not None
    return [follower.stdout.readline() for _ in range(count)]


def test_what_is_followed_takes_every_form_and_goes_through_every_filter(sessionctl: Sessionctl) -> None:
    ulid = sessionctl.out("start", "--detach").strip()
    sessionctl.out("append", ulid, "note", "-", stdin=b"one\ntwo\n")

    with following(sessionctl, ulid, "-o", "ndjson", "--grep", "^t", "-k", "note") as follower:
        shown = lines_of(follower, 1)
        for kind, text in (("note", "tick"), ("output", "tock"), ("note", "other"), ("note", "the end")):
            sessionctl.out("append", ulid, kind, text)
        sessionctl.out("end", ulid)
        shown += lines_of(follower, 2)
        assert follower.stdout is not None
        assert follower.stdout.read() == b""
        assert follower.wait(60) == 0

    file = Path(sessionctl.out("show", "--file", ulid).strip()).read_bytes().splitlines(keepends=True)
    assert shown == [line for line in file if b'"note"' in line and b'"text":"t' in line]


def test_grep_counts_what_it_shows_and_nothing_found_is_exit_code_1(sessionctl: Sessionctl) -> None:
    ulid = sessionctl.out("start", "--detach").strip()
    sessionctl.out("append", ulid, "note", "-", stdin=b"".join(b"%d\n" % n for n in range(30)))

    shown = sessionctl.out("tail", ulid, "-n", "2", "--grep", "^1")
    nothing = sessionctl("tail", ulid, "--grep", "x")

    assert [line.partition("\t")[0] for line in shown.splitlines()] == ["18", "19"]
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (1, b"", b"")


def test_a_number_alone_says_how_many(sessionctl: Sessionctl) -> None:
    ulid = sessionctl.out("start", "--detach").strip()
    sessionctl.out("append", ulid, "note", "-", stdin=b"one\ntwo\nthree\n")

    assert sessionctl.out("tail", "-2") == sessionctl.out("tail", "-n", "2", ulid)
    assert sessionctl.out("tail", "-2").count("\n") == 2


def test_a_cursor_file_begins_with_the_last_events_and_goes_on_with_all_that_came_since(
    sessionctl: Sessionctl, tmp_path: Path
) -> None:
    ulid = sessionctl.out("start", "--detach").strip()
    tail = ["tail", ulid, "-n", "2", "--raw", "--cursor-file", str(tmp_path / "seen")]
    sessionctl.out("append", ulid, "output", "-", stdin=b"a\nb\nc\n")

    first = sessionctl.out(*tail)
    sessionctl.out("append", ulid, "output", "-", stdin=b"d\ne\nf\n")

    assert (first, sessionctl.out(*tail), sessionctl.out(*tail)) == ("b\nc\n", "d\ne\nf\n", "")


def test_beginning_with_no_events_still_notes_where(sessionctl: Sessionctl, tmp_path: Path) -> None:
    ulid = sessionctl.out("start", "--detach").strip()
    tail = ["tail", ulid, "-n", "0", "--raw", "--cursor-file", str(tmp_path / "seen")]
    sessionctl.out("append", ulid, "output", "before")

    assert sessionctl.out(*tail) == ""
    sessionctl.out("append", ulid, "output", "after")
    assert sessionctl.out(*tail) == "after"


def test_a_followed_session_is_noted_as_it_goes_and_taken_up_again(
    sessionctl: Sessionctl, tmp_path: Path
) -> None:
    ulid = sessionctl.out("start", "--detach").strip()
    cursor = tmp_path / "seen"
    cursor.write_text(json.dumps({"session": ulid, "next": 0}))
    options = [ulid, "-o", "plain", "--cursor-file", str(cursor)]
    received: list[bytes] = []

    for number, ending in enumerate((signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
        with following(sessionctl, *options) as follower:
            sessionctl.out("append", ulid, "note", "-", stdin=b"x\n" * 100)
            received += lines_of(follower, 100)
            follower.send_signal(ending)
            assert follower.wait(60) == 130
        assert json.loads(cursor.read_bytes())["next"] == 100 * (number + 1)

    assert [int(line.partition(b"\t")[0]) for line in received] == list(range(300))
