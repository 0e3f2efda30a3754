"""Every state-changing system call of a daemon's life, killed or failed at: see `tests.crash.calls`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.crash.calls import NOT_MET
from tests.running import ROOT

SHARES = ["1/2", "2/2"]
"""Two processes at a time, where there are two cores."""

KILLS, KILLS_MET_MIN = 122, 50
ERRORS, ERRORS_MET_MIN = 80, 24
"""So many in the default run, over both shares; and how many must have been met in each."""

POINTS_MIN = 400
"""So many points the life must have: fewer, and the test has lost sight of something."""

MEMORY = Path("/dev/shm")
"""What a kill leaves is in the page cache, whatever the file system; in memory it is there sooner."""

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace to stop at system calls")


def cases_of(kind: str, share: str, count: int | None = None, directory: Path | None = None) -> Counter[str]:
    """Run the cases; how often each outcome came about. Fails for what was violated in any."""
    command = [sys.executable, "-m", "tests.crash.calls", kind, "--share", share]
    limit = [] if count is None else ["--points", str(count)]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'client'}:{ROOT}"}
    if directory is not None and os.access(directory, os.W_OK):
        environ["TMPDIR"] = str(directory)
    done = subprocess.run([*command, *limit], cwd=ROOT, env=environ, capture_output=True, text=True)
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stderr
    head, *cases = map(json.loads, done.stdout.splitlines())
    assert head["points"] >= POINTS_MIN
    violated: list[dict[str, Any]] = [case for case in cases if case["violations"]]
    assert violated == []
    return Counter(case["outcome"] for case in cases)


def met(outcomes: Counter[str]) -> int:
    return outcomes.total() - outcomes[NOT_MET]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("share", SHARES)
def test_a_daemon_killed_at_any_call_keeps_what_it_acknowledged(share: str) -> None:
    outcomes = cases_of("kill", share, KILLS, MEMORY)

    assert met(outcomes) >= KILLS_MET_MIN
    assert outcomes["lost, exit -9"] > outcomes["did not start"] > 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("share", SHARES)
def test_a_daemon_that_any_call_fails_keeps_what_it_acknowledged(share: str) -> None:
    outcomes = cases_of("error", share, ERRORS, MEMORY)

    assert met(outcomes) >= ERRORS_MET_MIN
    assert outcomes["lost, exit 70"] > 0
    assert outcomes["done, exit 0"] > 0


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("kind", ["kill", "error"])
def test_a_daemon_killed_or_failed_at_every_call_keeps_what_it_acknowledged(kind: str, share: str) -> None:
    outcomes = cases_of(kind, share)

    assert met(outcomes) >= outcomes.total() * 0.7
