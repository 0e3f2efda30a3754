"""What systemd and we say to each other: sockets it hands over, states we report, how often it wants to hear.

The protocols are those of sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3). The one rule: without
systemd, all of this does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from sessiond.errors import StartupRefused

FIRST_DESCRIPTOR = 3
SOCKET_NAMES = {"wire", "unknown", "sessiond.socket"}
"""What our socket may be called in LISTEN_FDNAMES; `unknown` is what systemd says where no name is set."""


def inherited_socket(environ: Mapping[str, str]) -> socket.socket | None:
    """The listening socket the service manager opened for us, if it did. Raises StartupRefused."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = int(environ.get("LISTEN_FDS", "0"))
    names = environ.get("LISTEN_FDNAMES", "").split(":") if environ.get("LISTEN_FDNAMES") else []
    ours: socket.socket | None = None
    for offset in range(count):
        descriptor = FIRST_DESCRIPTOR + offset
        os.set_inheritable(descriptor, False)
        name = names[offset] if offset < len(names) else "unknown"
        if ours is None and name in SOCKET_NAMES:
            ours = socket.socket(fileno=descriptor)
        else:
            os.close(descriptor)
    if count and (ours is None or ours.family != socket.AF_UNIX or ours.type != socket.SOCK_STREAM):
        raise StartupRefused(
            "the service manager handed over no Unix stream socket named `wire`",
            "use the units that come with sessiond",
        )
    return ours


def watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """Within how many seconds the service manager wants to hear from us again; None if it does not care."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return int(environ.get("WATCHDOG_USEC", "0")) / 1_000_000 or None
    except ValueError:
        return None


class Notifier:
    """Tells the service manager how we are."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def notify(self, **states: str | int) -> None:
        """Send states such as `READY=1`; a manager that is not there is no error of ours."""
        if not self._address:
            return
        message = "\n".join(f"{name}={value}" for name, value in states.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagrams:
            try:
                datagrams.sendto(message.encode(), self._address)
            except OSError:
                self._address = ""
