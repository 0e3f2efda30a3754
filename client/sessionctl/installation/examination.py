"""What `sessionctl doctor` looks at, one function a check.

Owns the checks and what they advise. The one rule: a check looks and changes nothing, starts no daemon, and
whatever it meets becomes a finding; the next check is made in any case.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct

from sessionctl import __version__
from sessionctl.connection import connect
from sessionctl.hooks import spool
from sessionctl.installation import settings
from sessionctl.output import counted
from sessionctl.reference import SESSION_VARIABLE
from sessiond_client import paths
from sessiond_client.errors import SessiondError
from sessiond_client.spool import leftovers
from sessiond_client.wire.messages import Session, StatusReply

DATABASE_NAME = "sessiond.db"

SHELL_VARIABLE = "SESSIOND_SHELL"
"""Set by the hooks of a shell: its pid and its session."""

SWITCH_VARIABLE = "SESSIONCTL_RECORD"

FREE_BYTES_FAIL = 64 * 1024 * 1024
FREE_BYTES_WARN = 1024 * 1024 * 1024

SQLITE_VERSION_MIN = (3, 51, 3)
"""Before this one, a database that several connections write could be damaged (the WAL-reset fault)."""

CLOCK_AHEAD_SECONDS = 300
"""A session that began later than now says that the clock has been turned back."""


class Verdict(StrEnum):
    """How bad it is."""

    PASS = "pass"  # noqa: S105 - a verdict
    WARN = "warn"
    FAIL = "fail"


class Finding(Struct, frozen=True, kw_only=True):
    """What a check found; `fix` says what to do where something is to be done."""

    check: str
    verdict: Verdict
    detail: str
    fix: str | None = None


class Surroundings(Struct, kw_only=True):
    """What the checks look at. `health` and `newest` are the daemon's; without them, `silence` says why."""

    environ: Mapping[str, str]
    version: str | None = None
    health: StatusReply | None = None
    newest: Session | None = None
    silence: str = ""

    @property
    def data_dir(self) -> Path:
        """Where the recordings are."""
        return paths.data_dir(self.environ) if self.health is None else Path(self.health.data_dir)


def examine(environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Every check, in the order in which a person would go about it."""
    around = _ask(environ)
    for name, check in CHECKS.items():
        try:
            yield check(name, around)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            yield _fail(name, f"{where}{error.strerror or error}", "see that you may read it")


def _ask(environ: Mapping[str, str]) -> Surroundings:
    around = Surroundings(environ=environ)
    try:
        with connect(autostart=False, spool=None) as client:
            around.version = client.welcome.version
            around.health = client.status()
            around.newest = next(iter(client.list(limit=1).sessions), None)
    except SessiondError as error:
        around.silence = str(error)
    return around


def _daemon(name: str, around: Surroundings) -> Finding:
    if around.health is None:
        if "no daemon answers" in around.silence and paths.autostart_allowed(around.environ):
            return _warn(name, "none runs; the next command that needs one starts it", "sessiond serve")
        return _fail(name, around.silence, "start it with: sessiond serve")
    if around.version != __version__:
        fix = "systemctl --user restart sessiond, or stop it and let the next client start it"
        return _warn(name, f"sessiond {around.version} runs, this is {__version__}", fix)
    return _pass(name, f"sessiond {around.version}, pid {around.health.pid}")


def _storing(name: str, around: Surroundings) -> Finding:
    health = around.health
    if health is None:
        return _warn(name, "not known, as no daemon answers")
    if health.read_only:
        detail = f"the daemon only reads since {health.read_only_since}: {health.read_only}"
        return _fail(name, detail, "see to the disk; the daemon tries it again every minute")
    if health.refusing:
        return _fail(name, f"the daemon refuses to store: {health.refusing}", "see: sessionctl status")
    if health.lagging_files:
        lagging = f"session files behind the database: {len(health.lagging_files)}"
        return _warn(name, lagging, "see that there is room on the disk; they catch up by themselves")
    if incomplete := health.recovery.get("sessions_incomplete"):
        detail = f"{counted(incomplete, 'session')} could not be had whole when the daemon started"
        return _warn(name, detail, "the log names them; take them from a backup, if there is one")
    return _pass(
        name, f"{counted(health.events_committed, 'event')} since the daemon started, all files up to date"
    )


def _sqlite(name: str, around: Surroundings) -> Finding:
    if around.health is None:
        return _warn(name, "not known, as no daemon answers")
    version = around.health.sqlite_version
    if tuple(int(part) for part in version.split(".")[:3] if part.isdigit()) < SQLITE_VERSION_MIN:
        return _fail(name, f"SQLite {version} can damage a database", "pip install --upgrade apsw")
    return _pass(name, f"SQLite {version}")


def _socket(name: str, around: Surroundings) -> Finding:
    path = paths.socket_path(around.environ)
    if not path.parent.exists():
        return _warn(name, f"{path.parent} is not there yet; the daemon makes it")
    if (wrong := _not_private(path.parent)) is not None:
        return _fail(name, *wrong)
    if not path.exists():
        return _pass(name, f"{path.parent} is private; nothing listens there")
    about = path.lstat()
    if not stat.S_ISSOCK(about.st_mode):
        return _fail(name, f"{path} is no socket", f"look what it is, and remove it: rm {path}")
    if about.st_uid != os.getuid() or about.st_mode & 0o077:
        return _fail(name, f"{path} is open to others", f"stop the daemon, remove it: rm {path}")
    usual = _usual_socket(around.environ)
    if path != usual:
        detail = f"SESSIOND_SOCKET is {path}; programs without it look for the same recordings at {usual}"
        return _warn(name, detail, "set it for everything that you start, or for nothing")
    return _pass(name, str(path))


def _usual_socket(environ: Mapping[str, str]) -> Path:
    return paths.socket_path({key: value for key, value in environ.items() if key != "SESSIOND_SOCKET"})


def _runtime(name: str, around: Surroundings) -> Finding:
    value = around.environ.get("XDG_RUNTIME_DIR", "")
    if not value:
        state = paths.state_dir(around.environ)
        return _warn(
            name,
            f"XDG_RUNTIME_DIR is not set; the socket is looked for in {state / 'run'}",
            "log in through systemd, or set SESSIOND_SOCKET everywhere to the same path",
        )
    if not value.startswith("/") or not Path(value).is_dir():
        return _fail(
            name,
            f"XDG_RUNTIME_DIR is {value!r}, which is no directory",
            "log in anew, or unset XDG_RUNTIME_DIR",
        )
    wrong = _not_private(Path(value))
    return _pass(name, value) if wrong is None else _fail(name, *wrong)


def _data(name: str, around: Surroundings) -> Finding:
    path = around.data_dir
    if around.health is not None and not (path / DATABASE_NAME).exists():
        gone = f"a daemon runs (pid {around.health.pid}), but its data in {path} are gone"
        return _fail(
            name, gone, f"stop it, put them back if you can, and start it again: kill {around.health.pid}"
        )
    if not path.exists():
        return _pass(name, f"{path} is not there yet; the daemon makes it")
    if (wrong := _not_private(path)) is not None:
        return _fail(name, *wrong)
    kind = paths.file_system(path)
    if paths.is_network(kind):
        return _warn(
            name,
            f"{path} is on {kind}, a network file system, which cannot give what the daemon promises",
            "set XDG_DATA_HOME to a directory on a local disk",
        )
    return _pass(name, f"{path}, on {kind or 'a file system of unknown kind'}")


def _space(name: str, around: Surroundings) -> Finding:
    path = _existing(around.data_dir)
    about = os.statvfs(path)
    free = about.f_bavail * about.f_frsize
    detail = f"{free // 2**20} MiB free in {path}"
    if free < FREE_BYTES_FAIL:
        return _fail(name, detail, "make room: recording is about to stop")
    return _warn(name, detail, "make room soon") if free < FREE_BYTES_WARN else _pass(name, detail)


def _configuration(name: str, around: Surroundings) -> Finding:
    path = paths.config_path(around.environ)
    if not path.exists():
        return _pass(name, f"all defaults; {path} is not there")
    if wrong := settings.problems(settings.read(path)):
        return _fail(name, "; ".join(wrong), "sessionctl config edit")
    return _pass(name, str(path))


def _service(name: str, around: Surroundings) -> Finding:
    if not Path("/run/systemd/system").is_dir():
        return _pass(name, "this system does not run systemd; clients start the daemon")
    config = paths.config_path(around.environ).parent.parent / "systemd" / "user"
    if not (config / "sockets.target.wants" / "sessiond.socket").exists():
        return _warn(
            name,
            "the user units are not enabled; clients start the daemon, and some systems end it at logout",
            "systemctl --user enable --now sessiond.socket (see docs/operating.md)",
        )
    user = around.environ.get("USER", "")
    if user and not (Path("/var/lib/systemd/linger") / user).exists():
        return _pass(name, "enabled; for recording while nobody is logged in: loginctl enable-linger")
    return _pass(name, "enabled, and it lingers after logout")


def _hooks(name: str, around: Surroundings) -> Finding:
    shell = Path(around.environ.get("SHELL", "bash")).name
    install = "see: sessionctl init --help"
    if around.environ.get(SWITCH_VARIABLE) in {"0", "no", "false"}:
        return _warn(name, f"recording is switched off here by {SWITCH_VARIABLE}", f"unset {SWITCH_VARIABLE}")
    session = around.environ.get(SESSION_VARIABLE, "")
    marker = around.environ.get(SHELL_VARIABLE, "")
    if session and marker.endswith(f":{session}"):
        return _pass(name, f"this shell is recorded as {session}")
    if session:
        return _pass(name, f"a recorder records this shell as {session}")
    return _warn(name, f"the commands of this {shell} are not recorded", install)


def _leftovers(name: str, around: Surroundings) -> Finding:
    directory = paths.spool_dir(paths.socket_path(around.environ), around.environ)
    if directory.exists() and (wrong := _not_private(directory)) is not None:
        return _fail(name, *wrong)
    waiting = leftovers(directory)
    shells = spool.orphans(paths.state_dir(around.environ) / spool.DIRECTORY)
    if waiting:
        detail = f"{len(waiting)} files of requests wait in {directory}"
        if around.health is None:
            return _warn(name, detail, "they are taken over when the daemon runs: sessiond serve")
        return _warn(name, detail, "unless their writers still run, see what its log says of the spool")
    if shells:
        return _warn(
            name,
            f"{counted(len(shells), 'shell')} left commands behind",
            "they are delivered when the next shell runs its first command",
        )
    return _pass(name, "nothing waits to be delivered")


def _clock(name: str, around: Surroundings) -> Finding:
    now = time.time()
    installed = Path(__file__).stat().st_mtime
    latest = installed
    if around.newest is not None:
        latest = max(latest, datetime.fromisoformat(around.newest.started_at).timestamp())
    detail = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    if latest > now + CLOCK_AHEAD_SECONDS:
        return _fail(
            name,
            f"it is {detail}, before things that have happened already",
            "set the clock: timedatectl status",
        )
    return _pass(name, detail)


def _python(name: str, _around: Surroundings) -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if find_spec("uvloop") is None:
        return _warn(
            name, f"Python {version} without uvloop, with which the daemon is quicker", "pip install uvloop"
        )
    return _pass(name, f"Python {version}, uvloop")


CHECKS: Mapping[str, Callable[[str, Surroundings], Finding]] = {
    "daemon": _daemon,
    "storing": _storing,
    "sqlite": _sqlite,
    "runtime directory": _runtime,
    "socket": _socket,
    "data directory": _data,
    "free space": _space,
    "settings": _configuration,
    "service": _service,
    "shell hooks": _hooks,
    "leftovers": _leftovers,
    "clock": _clock,
    "python": _python,
}


def _pass(check: str, detail: str) -> Finding:
    return Finding(check=check, verdict=Verdict.PASS, detail=detail)


def _warn(check: str, detail: str, fix: str | None = None) -> Finding:
    return Finding(check=check, verdict=Verdict.WARN, detail=detail, fix=fix)


def _fail(check: str, detail: str, fix: str) -> Finding:
    return Finding(check=check, verdict=Verdict.FAIL, detail=detail, fix=fix)


def _not_private(directory: Path) -> tuple[str, str] | None:
    """What is wrong with a directory that must be the user's alone, and what to do; None if nothing is."""
    about = directory.stat()
    if about.st_uid != os.getuid():
        return f"{directory} belongs to another user", "become its owner, or use another directory"
    if about.st_mode & 0o077:
        mode = stat.S_IMODE(about.st_mode)
        return f"{directory} is open to others (mode {mode:04o})", f"chmod 700 {directory}"
    return None


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
