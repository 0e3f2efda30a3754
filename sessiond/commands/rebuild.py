"""`sessiond rebuild`: the database anew from the files, or only what `sessiond check` found.

The one rule: what is replaced is kept in the quarantine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import click

from sessiond import log
from sessiond.clock import Clock
from sessiond.commands import ulid
from sessiond.commands.possession import DIRECTORY, data_directory, possession
from sessiond.commands.progress import Progress
from sessiond.commands.telling import FAULTS_FOUND, number, shown, tell, tell_fault
from sessiond.storage.check.faults import Cure, FaultCode, fault
from sessiond.storage.database import CORRUPTION, not_opened
from sessiond.storage.directory import DATABASE_NAME, DataDirectory
from sessiond.storage.repair.mending import Mending
from sessiond.storage.repair.rebuilding import rebuild, settle_all
from sessiond.storage.repair.salvaging import Incomplete
from sessiond_client.wire.messages import Fault

QUESTION = (
    "This sets the database in {} aside and builds it anew from the files."
    " Sessions that were still recording are interrupted by it. Go on?"
)


@click.command("rebuild")
@click.option("--data-dir", type=DIRECTORY, help="Where the recordings are kept.")
@click.option("--mend", is_flag=True, help="Keep the database, and mend only what is wrong.")
@click.option("--session", "sessions", metavar="ULID", multiple=True, help="Mend only this session.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: faults, then a summary.")
def command(data_dir: Path | None, mend: bool, sessions: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Build the database anew from the files, while no daemon runs.

    As far as the old database can be read, files that are damaged or missing are first written anew from it;
    then it is set aside. A session that neither copy has whole, nor the two together, is named. Labels and
    milestones come from state.ndjson. With --mend, or for single sessions with --session, the database
    stays, and each fault that `sessiond check` finds is mended from the copy that is right. What is replaced
    is in the directory `quarantine` afterwards. If it is cut short, call it again.

    Exits with 0 when done, 1 if something is still wrong, 70 when the disk failed, 75 when a daemon has the
    data, 78 when the data directory is refused.

    \b
    Examples:
      sessiond rebuild
      sessiond rebuild --mend
    """

    os.umask(0o077)
    log.configure("warning")
    path = data_directory(data_dir)
    with possession(path, "rebuild", writes=True), Progress(Clock()) as progress:
        if mend or sessions:
            failed = _mend(path, [ulid.required(each) for each in sessions], progress, as_json)
        else:
            _confirm(path, yes)
            failed = _rebuild(path, progress, as_json)
    sys.exit(FAULTS_FOUND if failed else 0)


def _confirm(path: Path, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here: use --yes")
    click.confirm(QUESTION.format(path), abort=True, err=True)


def _rebuild(path: Path, progress: Progress, as_json: bool) -> bool:

    with _translated(path):
        done = rebuild(path, Clock(), progress.show)
    progress.clear()
    for session in done.incomplete:
        _tell_incomplete(session, as_json=as_json)
    if as_json:
        tell("summary", done._asdict() | {"incomplete": len(done.incomplete)})
        return bool(done.incomplete)
    counts = f"{number(done.sessions, 'session')}, {number(done.events, 'event')}"
    click.echo(f"the database is built anew: {counts}")
    if done.unread:
        click.echo("nothing in the old database could be read: all is from the files")
    if done.mended:
        click.echo(f"mended before: {number(done.mended, 'file')}")
    for what, count in sorted(done.recovery.items()):
        click.echo(f"{what.replace('_', ' ')}: {count}")
    return bool(done.incomplete)


def _tell_incomplete(session: Incomplete, *, as_json: bool) -> None:
    """A session of which no copy has all: what is here, and where the rest is."""
    if as_json:
        tell("incomplete", session._asdict())
        return
    called = "" if session.name is None else f" ({session.name})"
    parts = [
        f"{number(session.events, 'event')} from the beginning" if session.events else "nothing is stored"
    ]
    if session.rest:
        parts.append(f"{session.rest} more in quarantine/{session.session}.rest-…")
    if session.lost:
        parts.append(f"{number(session.lost, 'event')} in neither copy")
    click.echo(shown(f"not whole: session {session.session}{called}: {', '.join(parts)}"))
    click.echo("    -> take it from a backup, if there is one; what was there is kept in the quarantine")


def _mend(path: Path, ulids: list[str], progress: Progress, as_json: bool) -> bool:

    mended = left = 0
    with _translated(path), closing(DataDirectory.open(path, Clock())) as directory:
        settle_all(directory, Clock())  # what the start took in from the trash goes back there
        for found, is_left in _mended(directory, ulids, progress):
            progress.clear()
            if is_left:
                left += 1
                tell_fault(found, as_json=as_json)
            else:
                mended += 1
        recovery = dict(directory.recovery.counters)
        incomplete = directory.incomplete
    progress.clear()
    for session in incomplete:
        _tell_incomplete(session, as_json=as_json)
    failed = bool(left or incomplete)
    if as_json:
        tell("summary", {"mended": mended, "left": left, "incomplete": len(incomplete), "recovery": recovery})
        return failed
    for what, count in sorted(recovery.items()):
        click.echo(f"{what.replace('_', ' ')}: {count}")
    if mended or not recovery:
        click.echo(f"mended: {number(mended, 'fault')}" + (f"; left: {left}" if left else ""))
    elif left:
        click.echo(f"left: {number(left, 'fault')}")
    return failed


def _mended(directory: DataDirectory, ulids: list[str], progress: Progress) -> Iterator[tuple[Fault, bool]]:
    """Mend, and look again: what was found and is mended, and what is left."""

    mending = Mending(directory, Clock())
    try:
        total, done = mending.checking.total_size(), 0
        for ulid, compared in mending.sessions(ulids):
            done += compared.size
            progress.show("comparing", done, total)
            if compared.faults:
                again = mending.checking.compare(ulid)
                left = [] if again is None else again.faults
                yield from ((found, False) for found in compared.faults if found not in left)
                yield from ((found, True) for found in left)
        if not ulids:
            yield from ((found, False) for found in mending.rest())
            yield from ((found, True) for found in mending.checking.directory_faults())
    except (*CORRUPTION, apsw.SQLError) as error:
        message = f"SQLite finds: {error}"
        yield fault(FaultCode.DATABASE_DAMAGED, directory.path / DATABASE_NAME, message, Cure.DATABASE), True


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """What SQLite and the disk say, as what the user is told."""

    try:
        yield
    except (apsw.Error, OSError) as error:
        raise not_opened("rebuilding", path, error) from error
