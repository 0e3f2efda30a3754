"""One recording process that goes on while the daemon is away: says what was acknowledged, or kept.

Usage: python -m tests.crash.spooling COUNT blocking|asynchronous|recorder. On its standard output: the ULID
first, then a line `SEQ TEXT` for each event (-1: it waits in the spool), and `end` once it has ended it.
"""

from __future__ import annotations

import os
import sys

import anyio

from sessiond_client import AsyncClient, Client

TIMEOUT = 0.5


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def blocking(count: int) -> None:
    with Client.connect(autostart=False, timeout=TIMEOUT) as client:
        session = client.start(owner_pid=0)
        say(session.ulid)
        for number in range(count):
            text = f"{os.getpid()} {number}"
            say(f"{session.append('note', text)} {text}")
        session.end()
        say("end")


async def asynchronous(count: int) -> None:
    async with AsyncClient.connect(autostart=False, timeout=TIMEOUT) as client:
        session = await client.start(owner_pid=0)
        say(session.ulid)
        for number in range(count):
            text = f"{os.getpid()} {number}"
            say(f"{await session.append('note', text)} {text}")
        await session.end()
        say("end")


def recorder(count: int) -> None:
    """In pieces, each with a recorder that is closed at once; what it could not deliver waits."""
    with Client.connect(autostart=False, timeout=TIMEOUT) as client:
        session = client.start(owner_pid=0)
        say(session.ulid)
        for first in range(0, count, 20):
            record = session.recorder()
            mine = [f"{os.getpid()} {number}" for number in range(first, first + 20)]
            for text in mine:
                record("note", text)
            record.close(timeout=0.05)
            for text in mine:
                say(f"-1 {text}")
        session.end()
        say("end")


def main() -> None:
    count, kind = int(sys.argv[1]), sys.argv[2]
    if kind == "asynchronous":
        anyio.run(asynchronous, count)
    else:
        {"blocking": blocking, "recorder": recorder}[kind](count)


if __name__ == "__main__":
    main()
