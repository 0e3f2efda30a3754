"""Where things are: socket, data, state and configuration of one user, and on what kind of file system.

The one rule: these locations are worked out here and nowhere else, from an environment that is passed in,
so that the daemon, its clients and the tests agree. Follows the XDG base directory specification.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

SOCKET_NAME = "sessiond.sock"
SPOOL_NAME = "spool"

MOUNTS = Path("/proc/self/mountinfo")
"""What is mounted where; see proc(5). Python has no statfs(2) that would tell the kind of a file system."""

# fmt: off
NETWORK_FILE_SYSTEMS = frozenset((
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "drvfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs",
    "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
))
# fmt: on
"""Where a lock may be held by two, and what was synced need not be on a disk."""

_MOUNT_POINT, _MOUNT_TYPE = 4, 0
_ESCAPES = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


def _home(environ: Mapping[str, str]) -> Path:
    """`$HOME`; one that is not absolute would mean another place to every process, and is passed over."""
    named = environ.get("HOME", "")
    return Path(named if named.startswith("/") else pwd.getpwuid(os.getuid()).pw_dir)


def _base(environ: Mapping[str, str], variable: str, fallback: str) -> Path:
    """The XDG directory named by `variable`; relative values are ignored, as the specification asks."""
    value = environ.get(variable, "")
    return Path(value) if value.startswith("/") else _home(environ) / fallback


def data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Database and session files: `$XDG_DATA_HOME/sessiond`."""
    return _base(environ, "XDG_DATA_HOME", ".local/share") / "sessiond"


def state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Logs and the spool: `$XDG_STATE_HOME/sessiond`."""
    return _base(environ, "XDG_STATE_HOME", ".local/state") / "sessiond"


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The configuration file: `$XDG_CONFIG_HOME/sessiond/config.toml`."""
    return _base(environ, "XDG_CONFIG_HOME", ".config") / "sessiond" / "config.toml"


def runtime_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """What lasts as long as the login: `$XDG_RUNTIME_DIR/sessiond`, else `run` in the state directory."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return Path(runtime) / "sessiond" if runtime.startswith("/") else state_dir(environ) / "run"


def socket_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The daemon's socket: `$SESSIOND_SOCKET`, else in the runtime directory."""
    named = environ.get("SESSIOND_SOCKET")
    return Path(named).absolute() if named else runtime_dir(environ) / SOCKET_NAME


def spool_dir(socket: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Where requests to the daemon at `socket` wait while it is away: `spool/` in the state directory.

    Only those to a socket in one of the user's own places do. A daemon that listens elsewhere is another one
    (that of a test, say) and must not get them, nor give away its own: its spool is beside its socket.
    """
    if socket in _own_sockets(environ):
        return state_dir(environ) / SPOOL_NAME
    return spool_beside(socket)


def spool_beside(socket: Path) -> Path:
    """The spool of the daemon at this very socket."""
    return socket.with_name(f"{socket.name}.{SPOOL_NAME}")


def _own_sockets(environ: Mapping[str, str]) -> set[Path]:
    """Where the user's daemon may listen, as seen with and without `XDG_RUNTIME_DIR` (cron, su)."""
    unnamed = {name: value for name, value in environ.items() if name != "SESSIOND_SOCKET"}
    return {
        socket_path(unnamed),
        state_dir(environ) / "run" / SOCKET_NAME,
        Path(f"/run/user/{os.getuid()}/sessiond") / SOCKET_NAME,
    }


def autostart_allowed(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a client may start the daemon: yes, unless `SESSIOND_AUTOSTART` is 0."""
    return environ.get("SESSIOND_AUTOSTART", "1") not in {"0", "no", "false"}


def file_system(path: Path) -> str | None:
    """The kind of file system that a path is on, or would be; None where the system does not tell."""
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    resolved = path.resolve()
    best, kind = "", None
    for mount in mounts:
        left, _, right = mount.partition(" - ")
        point = left.split()[_MOUNT_POINT]
        for escape, character in _ESCAPES.items():
            point = point.replace(escape, character)
        # Of two on one point the later one hides the earlier.
        if resolved.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, right.split()[_MOUNT_TYPE]
    return kind


def is_network(kind: str | None) -> bool:
    """Whether a kind of file system is, or may be, on another machine; FUSE may be anything."""
    return kind is not None and (kind in NETWORK_FILE_SYSTEMS or kind.startswith("fuse."))
