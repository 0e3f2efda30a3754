"""Small file systems for tests, on loop devices and in memory: made, filled, cut off, mounted again.

The one rule: whoever makes one unmounts it, whatever happened; where that is not possible here, the test is
skipped with the reason.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SHUTDOWN = 0x8004587D
"""FS_IOC_SHUTDOWN, `_IOR('X', 125, __u32)`: the file system stops at once, as if the power went."""

NO_LOG_FLUSH = 2
"""What is not in the journal yet is gone."""

IMAGE_BYTES = {"ext4": 64 * 1024 * 1024, "xfs": 320 * 1024 * 1024}
"""Sparse; xfs wants more room."""


class LoopDisk:
    """A file system in an image file, mounted at `mountpoint`."""

    def __init__(self, image: Path, mountpoint: Path, kind: str, *, size: int | None = None) -> None:
        self._image = image
        self.mountpoint = mountpoint
        self._kind = kind
        with image.open("wb") as file:
            file.truncate(size or IMAGE_BYTES[kind])
        options = {"ext4": ["-q", "-F", "-m", "0"], "xfs": ["-q"]}[kind]
        _run(f"mkfs.{kind}", *options, str(image))
        mountpoint.mkdir(mode=0o700)
        self.mount()
        mountpoint.chmod(0o700)

    def mount(self) -> None:
        """Mount it; the file system's own journal is replayed."""
        _run("mount", "-t", self._kind, "-o", "loop", str(self._image), str(self.mountpoint))

    def unmount(self) -> None:
        """Unmount it; nobody may have a file open on it."""
        _run("umount", str(self.mountpoint))

    def cut(self) -> None:
        """Stop the file system: nothing more reaches the image, not even what is waiting to."""
        descriptor = os.open(self.mountpoint, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, NO_LOG_FLUSH.to_bytes(4, "little"))
        finally:
            os.close(descriptor)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def _require(command: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a file system")
    if shutil.which(command) is None:
        pytest.skip(f"needs {command}")


@contextmanager
def loop_disk(home: Path, kind: str, *, size: int | None = None) -> Iterator[LoopDisk]:
    """A file system of its own where the data below `home` go."""
    _require(f"mkfs.{kind}")
    try:
        disk = LoopDisk(home / f"{kind}.img", home / "data", kind, size=size)
    except OSError as error:
        pytest.skip(f"cannot mount here: {error}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk.mountpoint)], capture_output=True)


@contextmanager
def memory_disk(home: Path, size: int) -> Iterator[Path]:
    """A file system in memory, of `size` bytes, where the data below `home` go."""
    _require("mount")
    disk = home / "data"
    disk.mkdir(mode=0o700)
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(disk))
    except OSError as error:
        pytest.skip(f"cannot mount here: {error}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
