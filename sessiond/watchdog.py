"""Tells the service manager that we are well, after having tried it.

The one rule: a ping goes out only after a request came in through the socket as a client's would, and an
operation went through the writer's queue and its store, so that whoever lives but serves nobody is replaced.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import anyio
import anyio.abc

from sessiond.publication import PATH_BYTES_MAX
from sessiond.storage.commit.operations import Nothing
from sessiond.systemd import Notifier
from sessiond.writer import Writer

PINGS_PER_PERIOD = 2
TRIAL_SHARE = 3
"""A trial may take this part of the period; so a ping in time follows one that only just passed."""

LANE = "watchdog"

logger = logging.getLogger("sessiond.watchdog")


class Watchdog:
    """`run` pings until it is cancelled. `path` is where clients find us."""

    def __init__(self, notifier: Notifier, period_seconds: float, path: Path, writer: Writer) -> None:
        self._notifier = notifier
        self._period = period_seconds
        self._path = path
        self._writer = writer

    async def run(self) -> None:
        """Try, and ping if it went well."""
        while True:
            await anyio.sleep(self._period / PINGS_PER_PERIOD)
            try:
                with anyio.fail_after(self._period / TRIAL_SHARE):
                    await self._knock()
                    await self._writer.ask(Nothing(), LANE)
            except (OSError, TimeoutError, anyio.EndOfStream) as error:
                reason = str(error) or type(error).__name__
                logger.error("the service manager is not told that all is well", extra={"reason": reason})  # noqa: TRY400
            else:
                self._notifier.notify(WATCHDOG=1)

    async def _knock(self) -> None:
        """Be a client for the length of one request."""
        async with await _connect(self._path) as stream:
            await stream.send(b'{"type":"ping"}\n')
            while not (await stream.receive()).endswith(b"\n"):
                pass


async def _connect(path: Path) -> anyio.abc.SocketStream:
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        return await anyio.connect_unix(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return await anyio.connect_unix(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
