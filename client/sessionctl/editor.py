"""The user's editor: $VISUAL, $EDITOR or vi.

The one rule: while it runs, Ctrl-C is for the editor.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sessionctl.exits import ExitCode, Failure

DEFAULT = "vi"


class Editor:
    """The editor that the user has chosen, else `vi`. Raises `Failure` if there is no terminal for that."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.command = environ.get("VISUAL") or environ.get("EDITOR") or DEFAULT
        chosen = self.command != DEFAULT
        if not chosen and not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise Failure(ExitCode.USAGE, f"{DEFAULT} needs a terminal; set $EDITOR")

    def run(self, path: Path) -> int:
        """Open it; the exit code. Raises `Failure` if it cannot be started."""
        try:
            with _left_alone():
                return subprocess.run([*shlex.split(self.command), str(path)], check=False).returncode
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            message = f"the editor {self.command!r} cannot be started: {why}; set $EDITOR"
            raise Failure(ExitCode.NEGATIVE, message) from None


@contextmanager
def _left_alone() -> Iterator[None]:
    """A handler, other than being ignored, is not handed on to the editor."""
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
