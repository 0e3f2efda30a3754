"""`sessiond check`: are database and files whole, and do they say the same?

The one rule: nothing is changed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import click
import msgspec

from sessiond.clock import Clock
from sessiond.commands import ulid
from sessiond.commands.possession import DIRECTORY, data_directory, possession
from sessiond.commands.progress import Progress
from sessiond.commands.telling import FAULTS_FOUND, number, shown, size, tell, tell_fault
from sessiond.storage.check.checking import AtRest, leftovers
from sessiond.storage.check.faults import at_once, for_a_copy
from sessiond.storage.database import not_opened
from sessiond.storage.disk import Disk
from sessiond.storage.files import SessionFiles
from sessiond_client.wire.messages import Fault

LEFTOVERS_SHOWN_MAX = 10


@click.command("check")
@click.option("--data-dir", type=DIRECTORY, help="Where the recordings are kept.")
@click.option("--session", metavar="ULID", help="Only this session.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: faults, then a summary.")
def command(data_dir: Path | None, session: str | None, as_json: bool) -> None:
    """Compare every line of database and files while no daemon runs, and say what mends each fault.

    Nothing is changed. `sessionctl verify` does the same through a running daemon.

    Exits with 0 if all is well, 1 if there is a fault, 70 when the disk failed, 75 when a daemon has the
    data, 78 when the data directory is refused.

    \b
    Examples:
      sessiond check
      sessiond check --data-dir /media/backup/sessiond --json
    """

    path = data_directory(data_dir)
    with possession(path, "check", writes=False), Progress(Clock()) as progress:
        check = _Check(path, progress, is_copy=data_dir is not None)
        for found in check.faults(None if session is None else ulid.required(session)):
            progress.clear()
            tell_fault(found, as_json=as_json)
        progress.clear()
        check.tell_summary(as_json=as_json)
    sys.exit(FAULTS_FOUND if check.count else 0)


class _Check:
    """One run over one directory."""

    def __init__(self, path: Path, progress: Progress, *, is_copy: bool) -> None:
        self.count = 0
        self._commands: set[str] = set()
        self._path = path
        self._is_copy = is_copy
        self._files = SessionFiles(path, Disk())
        self._check = AtRest(path, self._files, progress.show)

    def faults(self, session: str | None) -> Iterator[Fault]:
        """Every fault, as it is found. Raises StartupRefused, Refused and StorageFailed."""
        try:
            for found in self._check.faults(session):
                self.count += 1
                if (command := at_once(found)) is not None:
                    self._commands.add(command)
                repair = self._here(found.repair)
                yield found if repair == found.repair else msgspec.structs.replace(found, repair=repair)
        except (apsw.Error, OSError) as error:
            raise not_opened("reading", self._path, error) from error

    def _here(self, repair: str) -> str:
        return for_a_copy(repair, self._path) if self._is_copy else repair

    def tell_summary(self, *, as_json: bool) -> None:
        """What was compared, and what lies about."""

        lying = leftovers(self._path, self._files)
        totals = self._check.totals
        if as_json:
            counts = {"sessions": totals.sessions, "events": totals.events, "bytes": totals.size}
            tell("summary", counts | {"faults": self.count, "leftovers": lying})
            return
        compared = (
            f"{number(totals.sessions, 'session')}, {number(totals.events, 'event')}, {size(totals.size)}"
        )
        click.echo(f"compared {compared}: {number(self.count, 'fault') if self.count else 'all is well'}")
        if self.count > 1 and self._commands:
            command = self._here(min(self._commands, key=len))
            click.echo(f"{shown(command)} does at once what can be done about them")
        for path in lying[:LEFTOVERS_SHOWN_MAX]:
            click.echo(f"left over: {shown(path)}")
        if len(lying) > LEFTOVERS_SHOWN_MAX:
            click.echo(f"left over: {number(len(lying) - LEFTOVERS_SHOWN_MAX, 'more')}")
