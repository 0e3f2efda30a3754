"""Commands as a user starts them: from the start of the process to its end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping

from tests.benchmarks.measured import Measured, times
from tests.peer import Peer
from tests.running import RunningDaemon

LIST_MS_MAX = 150.0
LINE = b"0123456789" * 10 + b"\n"
COMMAND = 'yes "$0" | head -c "$1"'
PAGE = 1000


class NotWhole(Exception):  # noqa: N818 - it is a finding
    """A recording does not hold what the command has written."""


def _run(environ: Mapping[str, str], *arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environ, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def commands(daemon: RunningDaemon, runs: int) -> list[Measured]:
    """`sessionctl`, and importing the client library; the runs take turns."""
    python = ["-P"]
    wanted = {
        "sessionctl list": [*python, "-m", "sessionctl", "list"],
        "sessionctl --version": [*python, "-m", "sessionctl", "--version"],
        "python -c 'import sessiond_client'": [*python, "-c", "import sessiond_client"],
        "python -c pass": [*python, "-c", "pass"],
    }
    taken: dict[str, list[float]] = {title: [] for title in wanted}
    for _ in range(runs):
        for title, arguments in wanted.items():
            taken[title].append(_run(daemon.environ, *arguments))
    goals = {"sessionctl list": LIST_MS_MAX}
    found = [times(title, seconds, goals.get(title))[0] for title, seconds in taken.items()]
    imported = found[2].value - found[3].value
    return [*found, Measured("importing the client library alone", round(imported, 1), "ms")]


def recorded(daemon: RunningDaemon, megabytes: int) -> list[Measured]:
    """A command that writes so much, in lines of 100 characters, recorded under a pseudo-terminal.

    Raises NotWhole unless every byte is in the session.
    """
    size = megabytes * 1_000_000
    shell = ["sh", "-c", COMMAND, LINE.decode().strip(), str(size)]
    seconds = _run(daemon.environ, "-P", "-m", "sessionctl", "record", "-n", "bulk", "--", *shell)
    whole, rest = divmod(size, len(LINE))
    expected = whole * (len(LINE) + 1) + rest  # the terminal makes \r\n of each \n
    found = _recorded_bytes(daemon, "bulk")
    if found != expected:
        raise NotWhole(f"{found} bytes were recorded, {expected} were written")
    return [
        Measured(f"recording {megabytes} MB under a pseudo-terminal", round(seconds, 2), "s"),
        Measured("the same by the second", round(megabytes / seconds, 1), "MB/s"),
    ]


def _recorded_bytes(daemon: RunningDaemon, name: str) -> int:
    with Peer(daemon.socket) as peer:
        session = peer.call("find", needle=name)["session"]["ulid"]
        total, after = 0, -1
        while True:
            reply = peer.call("read", session=session, after=after, limit=PAGE, kinds=["output"])
            total += sum(len(each["text"].encode()) for each in reply["events"])
            if not reply["events"] or reply["next"] is None:
                return total
            after = reply["next"]
