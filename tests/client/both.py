"""The asynchronous client behind the blocking one's face, so that one test holds both to the same promises.

The one rule: it only waits; each verb is the coroutine or asynchronous iterator of the real `AsyncClient`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from anyio.from_thread import BlockingPortal, start_blocking_portal

from sessiond_client import AsyncClient, AsyncRecordingSession, Client


@contextmanager
def connected(asynchronous: bool, path: Path, timeout: float = 30, spool: bool = True) -> Iterator[Client]:
    """A client of either kind, connected to the daemon at `path`."""
    if not asynchronous:
        with Client.connect(path, autostart=False, timeout=timeout, spool=spool) as client:
            yield client
        return
    with start_blocking_portal("asyncio") as portal:
        connecting = AsyncClient.connect(path, autostart=False, timeout=timeout, spool=spool)
        with portal.wrap_async_context_manager(connecting) as awaited:
            yield cast("Client", _Awaited(portal, awaited))


class _Awaited:
    """An object whose coroutines are run in the portal, one at a time."""

    def __init__(self, portal: BlockingPortal, inner: object) -> None:
        self._portal = portal
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._inner, name)
        if not inspect.ismethod(member):
            return member
        return lambda *args, **keywords: self._run(partial(member, *args, **keywords))

    def _run(self, verb: partial[Any]) -> Any:
        result = self._portal.call(verb)
        if inspect.isawaitable(result):
            result = self._portal.call(_wait, result)
        if isinstance(result, AsyncIterator):
            return self._portal.call(_collect, result)
        return _Awaited(self._portal, result) if isinstance(result, AsyncRecordingSession) else result


async def _wait(awaitable: Any) -> Any:
    return await awaitable


async def _collect(iterator: AsyncIterator[Any]) -> Any:
    return iter([value async for value in iterator])
