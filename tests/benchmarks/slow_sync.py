"""A slower disk: every sync takes at least so long, on all sides, by a library that is preloaded.

Owns the library, which the C compiler of the machine builds. The one rule: the real sync is done all the
same. A program that does without the C library, such as one in Go, is run under strace instead, which holds
up the same system calls.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
_UNITS = {"us": 1, "ms": 1000, "s": 1_000_000}


class NoSlowSync(Exception):  # noqa: N818 - it is a reason
    """Syncs cannot be made slower here; the message says what to install."""


def microseconds(text: str) -> int:
    """`1ms`, `500us`, `0`. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s)|0", text)
    if not found:
        raise ValueError(f"{text!r} is no duration such as 1ms or 500us")
    return int(float(found[1]) * _UNITS[found[2]]) if found[1] else 0


class SlowSync:
    """Syncs of at least so many microseconds; 0 leaves them alone."""

    def __init__(self, delay: int = 0, library: Path | None = None) -> None:
        self.delay = delay
        self._library = library

    @classmethod
    def build(cls, directory: Path, delay: int) -> SlowSync:
        """Compile the library into a directory. Raises NoSlowSync."""
        if not delay:
            return cls()
        compiler = shutil.which("cc")
        if compiler is None:
            raise NoSlowSync("there is no C compiler; install one with: apt-get install gcc libc6-dev")
        library = directory / "slow_sync.so"
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
        built = subprocess.run(command, capture_output=True, text=True)
        if built.returncode:
            raise NoSlowSync(f"{compiler} failed: {built.stderr.strip()[-300:]}")
        library.chmod(0o755)
        return cls(delay, library)

    @property
    def environ(self) -> Mapping[str, str]:
        """What a process needs in its environment."""
        if self._library is None:
            return {}
        return {"LD_PRELOAD": str(self._library), "SLOW_SYNC_US": str(self.delay)}

    def under_env(self) -> Sequence[str]:
        """A command that runs another one with that environment."""
        return ["env", *(f"{name}={value}" for name, value in self.environ.items())] if self.environ else []

    def under_strace(self) -> Sequence[str]:
        """A command that runs another one, linked statically, with slow syncs. Raises NoSlowSync.

        strace adds the whole delay to the time that the sync takes by itself.
        """
        if not self.delay:
            return []
        if shutil.which("strace") is None:
            raise NoSlowSync("it is linked statically, which takes strace: apt-get install strace")
        inject = f"inject=fsync,fdatasync:delay_exit={self.delay}"
        return [
            "strace",
            "-f",
            "-qq",
            "--seccomp-bpf",
            "-e",
            "trace=fsync,fdatasync",
            "-e",
            inject,
            "-o",
            "/dev/null",
        ]
