"""`sessionctl verify`: are database and files whole, and do they say the same?

The one rule: the daemon compares, here it is only shown; recording goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
import msgspec

from sessionctl.commands.stats import short_size
from sessionctl.connection import connect
from sessionctl.escape import escape_line
from sessionctl.exits import ExitCode
from sessionctl.imports.progress import Progress
from sessionctl.options import session_argument
from sessionctl.output import Colour, colours_wanted, json_option, painted, write_json, write_line
from sessionctl.reference import resolve
from sessiond_client.client import Client
from sessiond_client.wire.messages import Fault, Verified

UNITS = ("KiB", "MiB", "GiB", "TiB")
"""As `sessiond check` has them, which says the same."""


@click.command("verify", short_help="Compare every line of database and files.")
@session_argument(required=False)
@json_option
def command(session: str | None, as_json: bool) -> int:
    """Compare every line of database and files, of all sessions or of one, and say what mends each fault.

    Nothing is changed, and recording goes on. A file that is only behind the database, as it is while it is
    written to, is no fault. Without a daemon, `sessiond check` does the same and more. With --json: faults,
    one a line, then a summary. Exit code 1: there is a fault.

    \b
    Examples:
      sessionctl verify
      sessionctl verify @last --json
    """
    run = _Run()
    with connect() as client, Progress() as progress:
        if session is None:
            progress.work("comparing", client.stats().event_bytes)
        ulid = None if session is None else resolve(client, session).ulid
        for page in run.pages(client, ulid):
            progress.clear()
            for fault in page.faults:
                _tell(fault, as_json)
            progress.advance(page.bytes)
    run.tell(as_json)
    return ExitCode.NEGATIVE if run.faults else ExitCode.OK


class _Run:
    """Counts what was compared."""

    def __init__(self) -> None:
        self.faults = 0
        self._sessions = 0
        self._events = 0
        self._bytes = 0
        self._lagging: list[str] = []

    def pages(self, client: Client, session: str | None) -> Iterator[Verified]:
        """One session, or all of them, page by page."""
        after = None
        while True:
            page = client.verify(session, after=after)
            self.faults += len(page.faults)
            self._sessions += page.sessions
            self._events += page.events
            self._bytes += page.bytes
            self._lagging += page.lagging
            yield page
            if (after := page.next) is None:
                return

    def tell(self, as_json: bool) -> None:
        """The last line, and which files are behind."""
        counts = {"sessions": self._sessions, "events": self._events, "bytes": self._bytes}
        if as_json:
            write_json({"type": "summary", **counts, "faults": self.faults, "lagging": self._lagging})
            return
        for ulid in self._lagging:
            write_line(f"lagging  {ulid}")
        what = "all is well" if not self.faults else f"{self.faults} fault" + "s" * (self.faults != 1)
        compared = f"{self._sessions} session{'s' * (self._sessions != 1)}, {self._events} events"
        write_line(f"compared {compared}, {short_size(self._bytes, UNITS)}: {what}")


def _tell(fault: Fault, as_json: bool) -> None:
    if as_json:
        write_json({"type": "fault", **msgspec.structs.asdict(fault)})
        return
    where = fault.path if fault.offset is None else f"{fault.path}, byte {fault.offset}"
    whose = "" if fault.session is None else f"session {fault.session}: "
    write_line(f"{painted(fault.code, Colour.RED, colours_wanted())}  {escape_line(where)}")
    write_line(f"    {escape_line(whose + fault.message)}")
    write_line(f"    -> {escape_line(fault.repair)}")
