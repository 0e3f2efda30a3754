"""`sessionctl status`: how the daemon is. The one rule: asking must not start one."""

from __future__ import annotations

from pathlib import Path

import click
from msgspec import UNSET

from sessionctl.connection import connect
from sessionctl.escape import escape_line
from sessionctl.exits import ExitCode, Failure
from sessionctl.output import counted, json_option, write_json, write_line
from sessionctl.times import short_duration
from sessiond_client import paths
from sessiond_client.errors import DaemonUnavailable
from sessiond_client.spool import leftovers
from sessiond_client.wire.messages import ErrorCode, StatusReply


@click.command("status", short_help="Show how the daemon is.")
@json_option
def command(as_json: bool) -> int:
    """Show how the daemon is: its version, load, commit times, and what needs attention.

    Exit code 1 if session files lag behind the database, nothing can be stored or the data are gone, 3 if no
    daemon runs.

    Example: sessionctl status --json
    """
    spooled = len(leftovers(paths.spool_dir(paths.socket_path())))
    try:
        with connect(autostart=False, spool=None) as client:
            health = client.status()
            path = client.path
    except DaemonUnavailable as error:
        waiting = f"; {_spool(spooled)}" if spooled else ""
        raise Failure(ExitCode.UNREACHABLE, f"{error}{waiting}") from error
    if as_json:
        found = {name: getattr(health, name) for name in health.__struct_fields__ if name != "id"}
        found = {name: value for name, value in found.items() if value is not UNSET}
        write_json({**found, "spool_files": spooled})
    else:
        for name, value in [*facts(health, str(path)), ("spool", _spool(spooled))]:
            write_line(f"{name:<11} {escape_line(value)}")
    needs_attention = health.lagging_files or health.refusing or not Path(health.data_dir).is_dir()
    return ExitCode.NEGATIVE if needs_attention else ExitCode.OK


_REFUSING = {
    ErrorCode.DISK_FULL: "nothing: the disk is full; free some space",
    ErrorCode.BUSY: "nothing: another program holds the database; close it",
}


def facts(health: StatusReply, socket: str) -> list[tuple[str, str]]:
    """What a person wants to know, in that order."""
    uptime = short_duration(health.uptime_seconds)
    found = [
        (
            "daemon",
            f"sessiond {health.version}, pid {health.pid}, up {uptime}, SQLite {health.sqlite_version}",
        ),
        ("socket", socket),
        ("data", _data(health.data_dir)),
        ("recording", counted(health.sessions_recording, "session")),
        ("clients", f"{health.connections} connected, {health.followers} following"),
        ("commits", _commits(health)),
        ("queue", f"{health.queue_length} requests"),
        ("files", _files(health.lagging_files)),
    ]
    recovery = {name: count for name, count in health.recovery.items() if count}
    if incomplete := recovery.pop("sessions_incomplete", 0):
        found.append(("damage", _incomplete(incomplete)))
    repairs = ", ".join(f"{name} {count}" for name, count in recovery.items())
    if health.read_only:
        found.append(("storing", _read_only(health)))
    elif health.refusing:
        found.append(("storing", _REFUSING.get(health.refusing, health.refusing.value)))
    return [*found, ("recovered", f"since its start: {repairs}")] if repairs else found


def _incomplete(sessions: int) -> str:
    return (
        f"{counted(sessions, 'session')} could not be had whole at the start; the log names them, what was"
        " there is kept in the quarantine: take them from a backup, if there is one"
    )


def _data(directory: str) -> str:
    there = Path(directory).is_dir()
    return directory if there else f"{directory}, which is gone: stop the daemon, and start it again"


def _read_only(health: StatusReply) -> str:
    since = f"nothing since {health.read_only_since}: {health.read_only}"
    return f"{since}; reading works; see to the disk, the daemon tries it again every minute"


def _spool(files: int) -> str:
    return f"{counted(files, 'file')} to be taken over" if files else "nothing waits"


def _commits(health: StatusReply) -> str:
    text = f"{health.commits}, with {counted(health.events_committed, 'event')}"
    if health.commit_p50_ms is None or health.commit_p99_ms is None:
        return text
    return f"{text}; half take under {health.commit_p50_ms:.2f} ms, 99% under {health.commit_p99_ms:.2f} ms"


def _files(lagging: list[str]) -> str:
    if not lagging:
        return "all up to date"
    return f"{len(lagging)} behind the database: {', '.join(lagging)}; see to the disk and its space"
