"""Sees to it that nobody is told "stored" of data that have been taken away under the daemon.

The one rule: whatever the daemon needs to find again at its next start is looked at whenever a name in the
data directory goes or is replaced; what is missing ends the daemon, which then answers nobody.
"""

from __future__ import annotations

from sessiond.notices import DirectoryNotices
from sessiond.storage.hold import Hold


class Custody:
    """`run` watches over a data directory until it is cancelled."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold

    async def run(self) -> None:
        """Raises DataGone once something of it is missing, or is not what it was."""
        notices = DirectoryNotices(self._hold.data_dir)
        try:
            while True:
                # Looked at after the watch was set, so that nothing is missed between the two.
                self._hold.require_in_place()
                await notices.wait()
        finally:
            notices.close()
