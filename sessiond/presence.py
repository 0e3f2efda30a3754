"""Sees to it that clients find us: our name in the file system, put back when somebody takes it away.

The one rule: the name belongs to whoever holds its lock; one whose lock another daemon holds is left alone.
"""

from __future__ import annotations

import logging

import anyio

from sessiond.errors import StartupRefused
from sessiond.notices import DirectoryNotices
from sessiond.publication import PublishedSocket
from sessiond.server import Server

REPUBLISH_SECONDS_MIN = 1.0
"""Between two publications, so that whoever keeps deleting our name does not keep us busy with it."""

RETRY_SECONDS = 5.0
"""After the name could not be put back, it is tried again so much later."""

logger = logging.getLogger("sessiond.presence")


class Presence:
    """`run` watches over a published socket until it is cancelled."""

    def __init__(self, published: PublishedSocket, server: Server) -> None:
        self._published = published
        self._server = server

    async def run(self) -> None:
        """Put the name back whenever it is not ours."""
        while True:
            notices = DirectoryNotices(self._published.path.parent)
            try:
                # Looked at after the watch was set, so that nothing is missed between the two.
                while self._published.is_ours():
                    await notices.wait()
            finally:
                notices.close()
            await anyio.sleep(REPUBLISH_SECONDS_MIN if self._publish_again() else RETRY_SECONDS)

    def _publish_again(self) -> bool:
        path = str(self._published.path)
        try:
            self._published.publish_again()
        except StartupRefused as refusal:
            logger.error("nobody finds us", extra={"socket": path, "reason": refusal.what})  # noqa: TRY400
            return False
        self._server.move_to(self._published.socket)
        logger.warning("the socket was gone and is published again", extra={"socket": path})
        return True
