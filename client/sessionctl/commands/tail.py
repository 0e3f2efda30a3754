"""`sessionctl tail`: the last events of a session, and those to come.

The one rule: between the last event read and the first one followed none is missed, none comes twice.
"""

from __future__ import annotations

import re
import sys
from datetime import datetime
from typing import Any

import click

from sessionctl.commands.show import verdict
from sessionctl.connection import connect
from sessionctl.exits import ExitCode
from sessionctl.options import session_argument
from sessionctl.output import Form, colours_wanted
from sessionctl.reference import resolve
from sessionctl.transcripts.cursor_file import CursorFile
from sessionctl.transcripts.outlet import CountedOutlet, Outlet, PlainOutlet
from sessionctl.transcripts.selection import CAT_KINDS, Selection, chosen_form, event_options
from sessionctl.transcripts.transcript import Entry, Transcript
from sessiond_client.client import Client
from sessiond_client.events import decode_lines
from sessiond_client.wire.messages import READ_LIMIT_MAX

EVENTS_DEFAULT = 10


class LikeTail(click.Command):
    """Takes `-5` for `-n 5`, as others of its name do."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See `click.Command`."""
        return super().parse_args(ctx, [f"-n{arg[1:]}" if _COUNT.fullmatch(arg) else arg for arg in args])


_COUNT = re.compile(r"-\d+")


@click.command("tail", cls=LikeTail, short_help="Show the last events of a session, and follow it.")
@session_argument(default="@last")
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(0, READ_LIMIT_MAX),
    default=EVENTS_DEFAULT,
    show_default=True,
    help="How many events to begin with.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with new events until the session ends.")
@event_options
def command(
    session: str,
    count: int,
    follow: bool,
    kinds: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    pattern: Any,
    output: str | None,
    raw: bool,
    cursor_file: str | None,
    as_json: bool,
) -> int:
    """Show the last events of SESSION (default: the newest), and with -f those to come.

    -n counts the events that are shown, not those that --grep passes over; -5 is -n 5. The forms of -o are
    those of show. With --json one event a line, as the library gives it. With --grep, exit code 1: none
    matches.

    With --cursor-file each event is written once: -n counts only where FILE says nothing yet; from then on
    it is all that came since. A kill -9 or a power cut may leave FILE behind by what was written last, which
    then comes again.

    \b
    Examples:
      sessionctl tail -f @last
      sessionctl tail -n 100 --json nightly
      sessionctl tail -f nightly -o ndjson --cursor-file seen | ./ship-events
    """
    form = chosen_form(output, raw, as_json)
    colours = form is Form.PRETTY and colours_wanted()
    transcript = Transcript(form, colours=colours, to_terminal=sys.stdout.isatty())
    selection = Selection(kinds or (CAT_KINDS if form is Form.CAT else ()), since, until, pattern)
    with connect() as client:
        info = resolve(client, session)
        if cursor_file is None:
            tail = Tail(client, info.ulid, selection, transcript, PlainOutlet())
            tail.write_last(count)
            return tail.finish(follow)
        with CountedOutlet(CursorFile(cursor_file, info)) as counted:
            tail = Tail(client, info.ulid, selection, transcript, counted)
            if counted.begins is None:
                tail.write_last(count)
            else:
                tail.write_since(counted.begins)
            return tail.finish(follow)


class Tail:
    """The end of one session, as far as it was written. `position` is the seq to go on with."""

    def __init__(
        self, client: Client, ulid: str, selection: Selection, transcript: Transcript, outlet: Outlet
    ) -> None:
        self.position = 0
        self._client = client
        self._ulid = ulid
        self._selection = selection
        self._transcript = transcript
        self._outlet = outlet
        self._shown = 0

    def write_last(self, count: int) -> None:
        """The last `count` events."""
        # Asked for first, so that what is stored in between is followed if it was not read.
        self.position = self._client.count(self._ulid).events
        with self._outlet.waiting():
            entries = self._selection.last(self._client, self._ulid, count)
        for entry in entries:
            self._write(entry)

    def write_since(self, position: int) -> None:
        """All events from `position` on."""
        self.position = position
        entries = self._selection.read(self._client, self._ulid, after=position - 1)
        while True:
            with self._outlet.waiting():
                entry = next(entries, None)
            if entry is None:
                return
            self._write(entry)

    def finish(self, follow: bool) -> ExitCode:
        """Go on with what comes, if wanted."""
        self._outlet.settle(self.position)
        if follow:
            self._follow()
        return verdict(self._selection, self._shown)

    def _follow(self) -> None:
        with self._outlet.waiting():
            follower = self._client.follow(self._ulid, after=self.position - 1)
        with follower:
            while True:
                with self._outlet.waiting():
                    lines = follower.take_lines()
                if not lines:
                    return
                for entry in map(Entry, lines, decode_lines(lines)):
                    if self._selection.admits(entry.event):
                        self._write(entry)
                    self.position = max(self.position, entry.event.seq + 1)
                self._outlet.settle(self.position)

    def _write(self, entry: Entry) -> None:
        self._outlet.write(self._transcript.encode(entry), entry.event.seq + 1)
        self.position = max(self.position, entry.event.seq + 1)
        self._shown += 1
