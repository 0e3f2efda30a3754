"""Starts a daemon that is other than it should be in one thing: `python -m tests.crash.launching WHAT serve`.

It is for what the product has no lever for, and must have none. WHAT is `normal` (the database is not synced
at each commit: a promise less), `skewed` (its clock is off by the seconds in the file $SESSIOND_TEST_SKEW) or
`later` (it knows one schema more). The one rule: all else is the daemon as it is, and so is its command line.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from sessiond import cli
from sessiond.clock import Clock
from sessiond.storage import database
from sessiond.storage.database import Database

LATER_SCHEMA = "CREATE TABLE later (id INTEGER PRIMARY KEY, what TEXT NOT NULL);"


def normal() -> None:
    """`synchronous=NORMAL`: a commit is safe from a crash of the daemon, not from a power cut."""
    configure = Database._configure

    def configure_normal(self: Database) -> None:
        configure(self)
        self.connection.execute("PRAGMA synchronous = NORMAL")

    Database._configure = configure_normal  # type: ignore[method-assign]


def skewed() -> None:
    """The time of day is off by what a file says, from one moment to the next."""
    skew = Path(os.environ["SESSIOND_TEST_SKEW"])

    def now(self: Clock) -> int:
        return time.time_ns() // 1000 + int(float(skew.read_text()) * 1_000_000)

    Clock.now = now  # type: ignore[method-assign]


def later() -> None:
    """A later version: its schema has one step more."""
    known = database.migrations()
    database.migrations = lambda: [*known, LATER_SCHEMA]  # type: ignore[assignment]


def main() -> None:
    """See the module."""
    {"normal": normal, "skewed": skewed, "later": later}[sys.argv.pop(1)]()
    cli.main(prog_name="sessiond")


if __name__ == "__main__":
    main()
