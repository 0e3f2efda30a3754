"""One session joined from what is left of both copies: header, events, end, and what is missing.

The one rule: it ends only with the footer of exactly its events, and it is complete only if nothing is known
of that it has not.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import msgspec

from sessiond.storage.disk import Disk
from sessiond.storage.encoding import encode, footer_line
from sessiond.storage.file_reading import FileReading, LineDamage, called_in, lines_of
from sessiond.storage.recovery.taking import footer_at_end, is_called_later, names_in, names_of
from sessiond.storage.repair.joining import Copies, lines_that_hold
from sessiond.storage.repair.old_database import OldDatabase, Remains
from sessiond_client.wire.lines import HeaderLine


class Joint:
    """`path` and `reading`: the file, if it is of this session; `remains`: its row, if there is one."""

    def __init__(
        self,
        disk: Disk,
        old: OldDatabase,
        path: Path | None,
        reading: FileReading | None,
        remains: Remains | None,
    ) -> None:
        self._disk = disk
        self._path = path
        self._reading = reading
        self._remains = remains
        self._session = None if remains is None else remains.session
        self._copies = Copies(
            lambda: iter(()) if remains is None else old.events(remains),
            lambda: iter(()) if path is None else lines_that_hold(disk, path),
            self._session,
        )
        self.examined = self._copies.examined
        self.header = self._header()
        """None if neither copy has one: then there is nothing to bring the events under."""
        self._end = None
        if reading is not None and path is not None:
            self._end = reading.footer or footer_at_end(disk, path)
        self._footer = self._proven_footer()

    def _header(self) -> HeaderLine | None:
        """With every change in it: of the two, that which is called later."""
        reading, remains = self._reading, self._remains
        of_rows = None if remains is None else remains.header
        if reading is None or reading.header is None:
            return of_rows
        names = names_in(reading)
        if self._session is not None and not is_called_later(names, names_of(self._session)):
            return of_rows
        name, tags = called_in(reading.header.name, reading.header.tags, reading.amends)
        previous = names[:-1] or msgspec.UNSET
        return msgspec.structs.replace(reading.header, name=name, tags=tags, previous_names=previous)

    def _proven_footer(self) -> bytes | None:
        session, remains = self._session, self._remains
        if session and remains and remains.has_ended and self.examined.gives(session):
            return footer_line(session)
        if self._end is not None and self.examined.ends_as(self._end):
            return encode(self._end)
        return None

    def gives_more(self) -> bool:
        """Whether it has more than the file has before its first damage."""
        if self._reading is None or self._reading.header is None:
            return True
        if self._footer is not None and self._reading.footer is None:
            return True
        return self.examined.number > self._reading.sequence.next_seq

    def lines(self, header: HeaderLine) -> Iterator[bytes]:
        """The file that it makes, line by line."""
        return chain([encode(header)], self._copies.lines(), [] if self._footer is None else [self._footer])

    def rest(self) -> Iterator[bytes]:
        """The event lines that do not come into that file."""
        return chain([] if self.header is not None else self._copies.lines(), self._copies.rest())

    @property
    def lost(self) -> int:
        """How many events are known to have been there that neither copy has."""
        known = [self.examined.end]
        if self._end is not None:
            known.append(self._end.event_count)
        if self._session is not None and self._session.byte_count > self.examined.byte_count:
            known.append(self._session.next_seq)  # a number that stands alone may be what is damaged
        return max(known) - self.examined.number - self.examined.rest

    def is_complete(self) -> bool:
        """Whether nothing is missing, as far as can be told."""
        if self.header is None or self.examined.rest or self.lost:
            return False
        if self._footer is not None:
            return True
        if self._end is not None or (self._remains is not None and self._remains.has_ended):
            return False
        is_counted = self._session is not None and self._session.next_seq <= self.examined.number
        return is_counted or not self._has_bad_line()

    def _has_bad_line(self) -> bool:
        """Whether a whole line of the file does not hold; one that is only torn was never promised."""
        if self._path is None or self._reading is None or self._reading.damage is None:
            return False
        descriptor = self._disk.open_read(self._path)
        try:
            return next(lines_of(self._disk, descriptor, self._reading.damage[0]), None) is not None
        except LineDamage:
            return False
        finally:
            self._disk.close(descriptor)
