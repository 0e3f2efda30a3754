"""Being told that the names in a directory change, or that a peer is gone, without looking again and again.

What only Linux has (inotify, epoll) is used here and nowhere else in the daemon. The one rule: whoever waits
looks for itself afterwards; a notice says only that it may be worth it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path

import anyio

LOOK_SECONDS = 5.0
"""How often to look where the system gives no notice."""

NOTICES_BYTES = 4096

_MOVED_FROM, _MOVED_TO, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x40, 0x80, 0x200, 0x400, 0x800
_ONLY_DIRECTORY = 0x01000000
_MASK = _MOVED_FROM | _MOVED_TO | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLY_DIRECTORY


class DirectoryNotices:
    """Watches one directory from now on, until `close`."""

    def __init__(self, path: Path) -> None:
        self._descriptor = _watch(path)

    async def wait(self) -> None:
        """Return once a name or the directory has gone, or a name come by a rename; or when it is time."""
        if self._descriptor is None:
            await anyio.sleep(LOOK_SECONDS)
            return
        await anyio.wait_readable(self._descriptor)
        os.read(self._descriptor, NOTICES_BYTES)

    def close(self) -> None:
        """Watch it no more."""
        if self._descriptor is not None:
            os.close(self._descriptor)


class Hangups:
    """Tells who of those that closed their sending side, and may still read, is gone altogether.

    Without epoll nobody is told: then it shows when they are written to the next time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._gone: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        if self._epoll is not None:
            loop.add_reader(self._epoll.fileno(), self._look)

    def watch(self, descriptor: int, gone: Callable[[], None]) -> None:
        """Call `gone` once nobody is at the other end of this socket."""
        if self._epoll is not None:
            # No event is asked for: a hang-up is told in any case; that there is nothing to read is known.
            self._epoll.register(descriptor, 0)
            self._gone[descriptor] = gone

    def forget(self, descriptor: int) -> None:
        """This socket is about to be closed."""
        if self._gone.pop(descriptor, None) is not None and self._epoll is not None:
            self._epoll.unregister(descriptor)

    def _look(self) -> None:
        assert self._epoll is not None
        for descriptor, _ in self._epoll.poll(0):
            self._gone[descriptor]()

    def close(self) -> None:
        """Tell of nobody any more."""
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None


def _watch(path: Path) -> int | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    if libc.inotify_add_watch(descriptor, os.fsencode(path), _MASK) < 0:
        os.close(descriptor)
        return None
    return descriptor
