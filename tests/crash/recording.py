"""One recording process: starts or joins a session, appends one event at a time, says what was acknowledged.

Usage: python -m tests.crash.recording COUNT [SESSION]. On its standard output: the ULID first, then a line
`SEQ TEXT` for each event, once it was acknowledged.
"""

from __future__ import annotations

import os
import sys

from sessiond_client import Client


def main() -> None:
    count = int(sys.argv[1])
    shared = sys.argv[2] if len(sys.argv) > 2 else None
    write = sys.stdout.write
    with Client.connect(autostart=False, timeout=60, spool=False) as client:
        session = client.session(shared) if shared else client.start()
        write(f"{session.ulid}\n")
        for number in range(count):
            text = f"{os.getpid()} {number}"
            seq = session.append("prompt", text)
            write(f"{seq} {text}\n")
            sys.stdout.flush()
        if not shared:
            session.end()


if __name__ == "__main__":
    main()
