"""`sessionctl delete`: puts sessions into the trash, or removes them for good.

The one rule: nothing is deleted unasked: on a terminal the user is asked, elsewhere `--force` has to say so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import StrEnum

import click

from sessionctl.connection import connect
from sessionctl.escape import escape_line
from sessionctl.exits import ExitCode, Failure, complain, describe
from sessionctl.listing import listed
from sessionctl.options import session_argument
from sessionctl.output import json_option, write_json, write_line
from sessionctl.reference import resolve
from sessiond_client.client import Client
from sessiond_client.errors import RequestFailed
from sessiond_client.wire.messages import Session, Status

NAMES_MAX = 5
"""How many sessions the question names."""


class Outcome(StrEnum):
    """What became of a session that was to be deleted."""

    DELETED = "deleted"
    FAILED = "failed"
    SKIPPED = "skipped"


@click.command("delete", short_help="Put sessions into the trash, or remove them for good.")
@session_argument("sessions", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All sessions but those that are recording.")
@click.option("--trash", is_flag=True, help="Of those in the trash; only with --purge.")
@click.option("--purge", is_flag=True, help="For good, not into the trash.")
@click.option("-f", "--force", is_flag=True, help="Do not ask; a named session also while it is recording.")
@json_option
def command(
    sessions: tuple[str, ...], everything: bool, trash: bool, purge: bool, force: bool, as_json: bool
) -> int:
    """Put sessions into the trash, from which `restore` takes them, or with --purge remove them for good.

    Asks first; where nobody can be asked, --force is needed. --all leaves out what is recording, with --force
    as well. Each session is reported as deleted, failed or skipped, with --json as an object a line. Exit
    code 1 if one that was named is left, or any failed.

    \b
    Examples:
      sessionctl delete nightly @last
      sessionctl delete --all --trash --purge --force
    """
    if bool(sessions) == everything:
        raise click.UsageError("name the sessions, or give --all")
    if trash and not purge:
        raise click.UsageError("what is in the trash can only be deleted with --purge")
    with connect() as client:
        named = _named(client, sessions, trash)
        inherited = _inherited(client, named) if purge else ""
        if not force:
            _ask(inherited + _question(client, named, trash, purge))
        elif inherited:
            complain(inherited.rstrip())
        chosen = listed(client, {"trashed": trash}) if everything else iter(named)
        report = _Report(purge, as_json)
        for session in chosen:
            if everything and session.status is Status.RECORDING:
                report.add(session, Outcome.SKIPPED, "it is recording")
            else:
                report.add(session, *_delete(client, session, force=force and not everything, purge=purge))
    if everything and not as_json:
        write_line(", ".join(f"{count} {outcome}" for outcome, count in report.counts.items()))
    return ExitCode.NEGATIVE if report.counts[Outcome.FAILED] else ExitCode.OK


def _named(client: Client, references: Iterable[str], trash: bool) -> list[Session]:
    """All of them, each once, found before the first is deleted: so `@last @1` means what it says."""
    found = [resolve(client, reference, trashed=trash) for reference in references]
    return list({session.ulid: session for session in found}.values())


def _inherited(client: Client, named: list[Session]) -> str:
    """A sentence about the forks that will not find the beginning of theirs any more, if there are any."""
    gone = {session.ulid for session in named}
    for session in named[:NAMES_MAX]:
        forks = [fork for fork in client.list(parent_ulid=session.ulid) if fork.ulid not in gone]
        if forks:
            return f"the events before the fork are purged with {session.name} for {forks[0].name}, too. "
    return ""


def _question(client: Client, named: list[Session], trash: bool, purge: bool) -> str:
    if named:
        names = ", ".join(f"{session.name} ({session.ulid})" for session in named[:NAMES_MAX])
        more = len(named) - NAMES_MAX
        what = names + (f" and {more} more" if more > 0 else "")
    else:
        totals = client.stats()
        count = totals.trashed if trash else totals.sessions - totals.recording
        if not count:
            raise Failure(ExitCode.NEGATIVE, "there is nothing to delete")
        what = f"all {count} sessions" + (" in the trash" if trash else "")
    return f"remove {what} for good?" if purge else f"put {what} into the trash?"


def _ask(question: str) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Failure(ExitCode.USAGE, "nobody can be asked here; give --force to delete without asking")
    if not click.confirm(escape_line(question), err=True):
        raise Failure(ExitCode.NEGATIVE, "nothing was deleted")


def _delete(client: Client, session: Session, *, force: bool, purge: bool) -> tuple[Outcome, str | None]:
    try:
        client.delete(session.ulid, force=force, purge=purge)
    except RequestFailed as refusal:
        return Outcome.FAILED, describe(refusal)[1]
    return Outcome.DELETED, None


class _Report:
    """Says of each session what became of it, and counts."""

    def __init__(self, purge: bool, as_json: bool) -> None:
        self.counts = dict.fromkeys(Outcome, 0)
        self._purge = purge
        self._as_json = as_json

    def add(self, session: Session, outcome: Outcome, reason: str | None = None) -> None:
        """One session."""
        self.counts[outcome] += 1
        if self._as_json:
            purged = self._purge and outcome is Outcome.DELETED
            facts = {"session": session.ulid, "name": session.name, "outcome": outcome}
            write_json({**facts, "purged": purged, "reason": reason})
        else:
            why = f": {reason}" if reason else ""
            write_line(escape_line(f"{outcome} {session.name} ({session.ulid}){why}"))
