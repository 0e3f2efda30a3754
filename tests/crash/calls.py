"""Every state-changing system call of a scripted life, killed or failed at, on the real process.

Usage: python -m tests.crash.calls kill|error [--points N] [--share I/N] [--only FAULT]. On standard output
there is one JSON object a case: the fault, what became of the daemon, and what was violated.

A point is the n-th time that one thread makes a call on a path: strace counts by thread, so of two threads
that make the same call on the same file the one that is first there meets the fault. The one rule: after each
fault the stores hold what was acknowledged, and at most the one request that was not; and the life goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.checker import mismatches
from tests.crash.forked import ForkedDaemon, import_daemon
from tests.crash.life import ONLY_READS, Life
from tests.peer import Peer
from tests.running import NotReady

CALLS = [
    *["openat", "mkdir", "link", "linkat", "rename", "unlink", "chmod", "fchmod"],
    *["pwrite64", "write", "ftruncate", "fdatasync", "fsync", "sendto", "sendmsg"],
]

ERRORS = {
    "openat": ["EMFILE", "EIO", "ENOSPC"],
    "mkdir": ["ENOSPC"],
    "pwrite64": ["EIO", "ENOSPC", "EINTR"],
    "write": ["EIO", "ENOSPC", "EINTR"],
    "fdatasync": ["EIO", "EINTR"],
    "fsync": ["EIO", "ENOSPC"],
    "ftruncate": ["EIO"],
    "rename": ["EIO", "ENOSPC"],
    "unlink": ["EIO"],
    "link": ["EMLINK"],
    "linkat": ["EMLINK", "ENOSPC"],
    "sendto": ["EINTR"],
}
"""With what each call is made to fail. An EINTR only once: whoever retries it for ever is right to."""

SOCKET_CALLS = {"sendto", "sendmsg"}
ANSWER_SECONDS_MAX = 30
"""Longer than a change of an ended session waits for its file; after that it is a hang."""

SETTLE_ROUNDS_MAX = 10_000
NOT_MET = "not met"
"""A life in which the thread in question did not come so far."""

ALLOWED_EXITS = {0, 70, 75, 78}

_entered = re.compile(r"^(\d+) +(\w+)\((.*)$")
_path = re.compile(r'"(/[^"]*)"')
_open_file = re.compile(r"^\d+<(/[^>]*)>")
_left_out = re.compile(r"/\.[0-9a-f]+$|/daemon\.log$")
"""The socket before it has its name, which has the process's number in it; and what is no state."""


class Point(NamedTuple):
    """The n-th time that a thread makes a call on a path below the home, or (None) on a socket."""

    call: str
    path: str | None
    nth: int


class Fault(NamedTuple):
    """A point and what happens there: an errno's name, or None for SIGKILL; once, or from then on."""

    point: Point
    error: str | None
    persists: bool = False

    def options(self, home: Path) -> list[str]:
        """What to tell strace."""
        call, path, nth = self.point
        action = "signal=KILL" if self.error is None else f"error={self.error}"
        when = f"{nth}+" if self.persists else f"{nth}"
        where = [] if path is None else ["-P", str(home / path)]
        return [*where, "-e", f"trace={call}", "-e", f"inject={call}:{action}:when={when}"]

    def __str__(self) -> str:
        call, path, nth = self.point
        what = "kill" if self.error is None else f"{self.error}{'+' if self.persists else ''}"
        return f"{call} {path or 'socket'} #{nth}: {what}"


def survey(home: Path) -> list[Point]:
    """Every point of a life that nothing happens to, in the order of their first time."""
    trace = home / "trace"
    daemon = ForkedDaemon(home, strace=["-y", "-o", str(trace), "-e", f"trace={','.join(CALLS)}"])
    life = Life()
    assert life.proceed(daemon.socket, ANSWER_SECONDS_MAX) == "done"
    assert daemon.stop() == 0
    daemon.release()
    counted: Counter[tuple[str, str, str | None]] = Counter()
    points: dict[Point, None] = {}
    for line in trace.read_text().splitlines():
        if (entered := _entered.match(line)) is None:
            continue
        thread, call, arguments = entered.groups()
        path = _path_below(home, call, arguments.rpartition(" = ")[0] or arguments)
        if path is None and call not in SOCKET_CALLS:
            continue
        counted[thread, call, path] += 1
        points[Point(call, path, counted[thread, call, path])] = None
    return list(points)


def _path_below(home: Path, call: str, arguments: str) -> str | None:
    if call in SOCKET_CALLS:
        return None
    for path in _open_file.findall(arguments) or reversed(_path.findall(arguments)):
        if path.startswith(f"{home}/") and not _left_out.search(path):
            return str(Path(path).relative_to(home))
    return None


def kills(points: list[Point]) -> Iterator[Fault]:
    """SIGKILL at every point."""
    return (Fault(point, None) for point in points)


def errors(points: list[Point]) -> Iterator[Fault]:
    """Every error at every point, once and from then on."""
    for point in points:
        for error in ERRORS.get(point.call, []):
            yield Fault(point, error)
            if error != "EINTR":
                yield Fault(point, error, persists=True)


def chosen(faults: list[Fault], count: int | None) -> list[Fault]:
    """So many of them, evenly over all; all of them for None."""
    if count is None or count >= len(faults):
        return faults
    return [faults[index * len(faults) // count] for index in range(count)]


def suffer(fault: Fault, home: Path) -> tuple[str, list[str]]:
    """A life with a fault in it, then the rest of it on a new daemon; what came of it, what was violated."""
    life = Life()
    violations: list[str] = []
    outcome = _with_fault(fault, home, life, violations)
    try:
        violations += _rest_of(life, home)
    except (OSError, EOFError, AssertionError, subprocess.TimeoutExpired) as error:
        violations.append(f"the second daemon: {type(error).__name__}: {error}")
    return outcome, violations


def _rest_of(life: Life, home: Path) -> list[str]:
    """Check what the fault left, live on, check again; what is violated."""
    daemon = ForkedDaemon(home)
    try:
        found = life.violations(daemon.data_dir) + _settled(daemon)
        if found:
            return found
        ending = life.proceed(daemon.socket, ANSWER_SECONDS_MAX)
        found = [] if ending == "done" else [f"the life ended with {ending}"]
        found += life.violations(daemon.data_dir) + _settled(daemon)
        if (code := daemon.stop()) != 0:
            found.append(f"the second daemon exited with {code}")
        return found
    finally:
        daemon.kill()


def _with_fault(fault: Fault, home: Path, life: Life, violations: list[str]) -> str:
    log = home / "strace"
    options = ["-o", str(log), *fault.options(home)]
    try:
        daemon = ForkedDaemon(home, strace=options)
    except NotReady:
        if fault.error is not None:
            violations += _bad_refusal((home / "daemon.log").read_text())
        return "did not start" if _is_met(log) else NOT_MET
    try:
        ending = life.proceed(daemon.socket, ANSWER_SECONDS_MAX)
        if ending not in ("done", "lost", ONLY_READS):
            # It refuses for as long as the fault lasts, and goes on by itself after it.
            daemon.release()
            again = life.proceed(daemon.socket, ANSWER_SECONDS_MAX)
            ending += f", then {again}"
        if ending.endswith(("done", ONLY_READS)):
            daemon.process.send_signal(15)
        code = daemon.process.wait(ANSWER_SECONDS_MAX)
        daemon.release()
        if fault.error is not None:
            violations += _bad_end(ending, code, daemon.log_text())
        return f"{ending}, exit {code}" if _is_met(log) else NOT_MET
    except (TimeoutError, subprocess.TimeoutExpired, AssertionError) as error:
        violations.append(f"{type(error).__name__}: {error}")
        return "hung"
    finally:
        daemon.kill()
        daemon.release()


def _is_met(trace: Path) -> bool:
    text = trace.read_text()
    return "(INJECTED)" in text or "killed by SIGKILL" in text


def _bad_refusal(log: str) -> Iterator[str]:
    """A daemon that does not start says why, in one plain line."""
    if "Traceback" in log or not log.rstrip("\n").rpartition("\n")[2].startswith("sessiond: "):
        yield f"it did not start, and said {log[-2000:]!r}"


def _bad_end(ending: str, code: int, log: str) -> Iterator[str]:
    if code not in ALLOWED_EXITS or (ending.endswith("lost") and code == 0):
        yield f"it {ending} with exit code {code}"
    if "Traceback" in log:
        yield f"a traceback in the log: {log[-2000:]}"


def _settled(daemon: ForkedDaemon) -> list[str]:
    """What files and database still disagree on once the daemon had the time to bring them together."""
    found: list[str] = []
    with Peer(daemon.socket) as peer:
        for _ in range(SETTLE_ROUNDS_MAX):
            lagging = peer.call("status")["lagging_files"]
            found = [] if lagging else list(_differences(daemon.data_dir))
            if not lagging and not found:
                return []
    return found or ["files that lag for ever"]


def _differences(data_dir: Path) -> Iterator[str]:
    """As the checker has them; a file that is moved or renamed while it looks is looked at again."""
    try:
        yield from mismatches(data_dir)
    except (FileNotFoundError, AssertionError) as error:
        yield str(error)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["kill", "error"])
    parser.add_argument("--points", type=int)
    parser.add_argument("--share", default="1/1")
    parser.add_argument("--only", help="the faults that begin with this, as the output has them")
    options = parser.parse_args()
    first, step = map(int, options.share.split("/"))
    make: Callable[[list[Point]], Iterator[Fault]] = kills if options.kind == "kill" else errors
    import_daemon()
    with tempfile.TemporaryDirectory(prefix="sessiond-") as directory:
        points = survey(Path(directory))
    faults = [fault for fault in make(points) if str(fault).startswith(options.only or "")]
    faults = chosen(faults, options.points)
    print(json.dumps({"points": len(points), "faults": len(faults)}), flush=True)  # noqa: T201
    for fault in itertools.islice(faults, first - 1, None, step):
        with tempfile.TemporaryDirectory(prefix="sessiond-", ignore_cleanup_errors=True) as directory:
            outcome, violations = suffer(fault, Path(directory))
        case = {"fault": str(fault), "outcome": outcome, "violations": violations}
        print(json.dumps(case), flush=True)  # noqa: T201


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
    sys.exit()
