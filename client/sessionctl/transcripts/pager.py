"""A pager for long output on a terminal.

Owns the pager's process while it runs. The one rule: only where standard output is a terminal; leaving the
pager early is no error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

DEFAULT = "less -FRX"


def pager_command(environ: Mapping[str, str] = os.environ) -> str | None:
    """$SESSIONCTL_PAGER, $PAGER or `less -FRX`; None where it is set to nothing or to `cat`."""
    for variable in ("SESSIONCTL_PAGER", "PAGER"):
        if variable in environ:
            chosen = environ[variable].strip()
            return None if chosen in {"", "cat"} else chosen
    return None if environ.get("TERM", "dumb") == "dumb" else DEFAULT


@contextmanager
def paged(wanted: bool) -> Iterator[None]:
    """Standard output goes through the pager within this block, if wanted and on a terminal."""
    command = pager_command() if wanted and sys.stdout.isatty() else None
    if command is None:
        yield
        return
    import shlex
    import subprocess

    try:
        pager = subprocess.Popen(
            shlex.split(command), stdin=subprocess.PIPE, text=True, errors="backslashreplace"
        )
    except (OSError, ValueError):
        yield  # without its pager the output is still there to read
        return
    screen = sys.stdout
    sys.stdout = pager.stdin or screen
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        pass  # who reads has seen enough
    finally:
        sys.stdout = screen
        _finish(pager)


def _finish(pager: subprocess.Popen[str]) -> None:
    """Wait for the pager; the keyboard is its own until it ends, Ctrl-C included."""
    if pager.stdin is not None:
        with suppress(OSError):  # what it has not read by now it does not want
            pager.stdin.close()
    while True:
        try:
            pager.wait()
        except KeyboardInterrupt:
            continue  # it was for the pager
        return
