"""`sessionctl record`: runs a command or a shell under a terminal and records what it writes.

The one rule: the command runs, looks and ends as it would without us, whatever becomes of the recording.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import click
from msgspec import Struct

from sessionctl.connection import cannot_store, connect
from sessionctl.exits import Failure, complain, describe
from sessionctl.host import about_host, parent_session
from sessionctl.options import tag_option
from sessionctl.output import counted, write_json
from sessionctl.recording.delivery import PATIENCE_AWAY_SECONDS, PATIENCE_SECONDS, Delivery, remarks
from sessionctl.recording.job import Job, user_size
from sessionctl.recording.relay import NOTICED, PASSED_ON, Relay
from sessionctl.recording.tape import Tape
from sessionctl.terminal.pseudo_terminal import PseudoTerminal
from sessionctl.terminal.screen import Screen
from sessionctl.terminal.signals import SignalPipe, interruptible
from sessionctl.terminal.user_terminal import UserTerminal
from sessiond_client.client import Client
from sessiond_client.errors import SessiondError
from sessiond_client.requests import end_request
from sessiond_client.session import RecordingSession
from sessiond_client.wire.messages import EndReason, Session, Source, Status
from sessiond_client.wire.spool import SPOOLED

SHELL_DEFAULT = "/bin/sh"

FAREWELL_SECONDS = 2.0
"""After a failure of ours, how long what was recorded may take to be delivered."""


class Outcome(Struct, kw_only=True, frozen=True):
    """What `--json` prints."""

    session: Session
    exit_code: int
    signal: str | None
    recorded: int
    undelivered: int
    reconnects: int
    spill: str | None
    failure: str | None


@click.command(
    "record",
    short_help="Record a command or a shell under a terminal.",
    context_settings={"allow_interspersed_args": False},
)
@click.option("-n", "--name", help="The session's name: letters, digits, _ and -.")
@tag_option("A tag; may be given several times.")
@click.option("--stdin", "record_input", is_flag=True, help="Record what is typed, too: also passwords.")
@click.option("--json", "as_json", is_flag=True, help="At the end, print a JSON object on a line of its own.")
@click.argument("argv", metavar="[CMD]...", nargs=-1, type=click.UNPROCESSED)
def command(
    name: str | None, tags: tuple[str, ...], record_input: bool, as_json: bool, argv: tuple[str, ...]
) -> int:
    """Run CMD (default: your shell) under a terminal of its own, shown live, and record what it writes.

    Ends with the exit code of CMD: 128 and the signal's number if a signal killed it, 127 if it was not
    found, 126 if it cannot be executed. Where no daemon answers, or its disk is full, the recording waits in
    the spool until the daemon takes it over; CMD is run and goes on undisturbed, also if the daemon goes away
    meanwhile. Only where nothing can be kept in the spool either CMD is not run, and the exit code is 3.

    CMD's standard input is yours: if that is no terminal, CMD reads it directly.

    Ctrl-Z stops a plain CMD and lets you go on with fg; in a recorded shell it works as ever. A CMD that
    suspends itself (vim, less) goes on instead, as under any program that gives it a terminal of its own.

    \b
    Examples:
      sessionctl record -- make test
      sessionctl record -n deploy -t prod -- ./deploy.sh < /dev/null | tee log
      sessionctl record
    """
    with interruptible(), connect(spool=True) as client:
        session = _start(client, name, tags, argv)
        recorder = session.recorder()
        tape = Tape(recorder)
        keyboard = UserTerminal(0)
        screen = Screen(1)
        try:
            job, problem = _run(argv or (_shell(),), session, tape, keyboard, screen, record_input)
        except BaseException:
            # What was recorded until then is kept; the session, left by its owner, becomes `interrupted`.
            with suppress(SessiondError):
                recorder.close(timeout=FAREWELL_SECONDS)
            raise
        if problem is not None:
            complain(problem)
        assert job.exit_code is not None  # noqa: S101 - the relay ends with the command
        _finish(session, tape, job, screen, as_json)
        return job.exit_code


def _start(client: Client, name: str | None, tags: Sequence[str], argv: Sequence[str]) -> RecordingSession:
    """Begin the session, in the spool if need be: then the user learns at once where it is, and its id."""
    assert client.spool is not None  # noqa: S101 - it was connected with one
    client.spool.takes_refused = True
    try:
        session = client.start(
            name,
            source=Source.COMMAND if argv else Source.SHELL,
            tags=tags,
            parent_ulid=parent_session(client),
            owner_pid=os.getpid(),
            meta={"argv": [os.fsencode(word).decode(errors="replace") for word in argv]} if argv else None,
            **about_host(),
        )
    except SessiondError as error:
        code, message = describe(error)
        raise Failure(code, f"{message}; the command was not run") from error
    if _began_in_spool(session):
        where = f"session {session.ulid} is kept in {client.spool_dir}"
        complain(f"{cannot_store(client)}; {where}, and the daemon takes it over once it can")
    return session


def _began_in_spool(session: RecordingSession) -> bool:
    """Whether no daemon has heard of the session yet, as far as is known."""
    return session.info.next_seq == SPOOLED


def _run(
    argv: Sequence[str],
    session: RecordingSession,
    tape: Tape,
    keyboard: UserTerminal,
    screen: Screen,
    record_input: bool,
) -> tuple[Job, str | None]:
    """Run the command to its end; returns it, and why it could not be started."""
    size = user_size(keyboard)
    terminal = PseudoTerminal(size, keyboard.settings)
    job = Job(terminal, size)
    tape.resize(size)
    with SignalPipe((*PASSED_ON, *NOTICED)) as signals:
        stdin, feed = _input_ends(keyboard, record_input)
        problem = job.start(argv, {**os.environ, **session.environ()}, stdin)
        if feed is not None and stdin is not None:
            os.close(stdin)
            job.feed_through(feed)
        if problem is None:
            keyboard.enter_raw()
            typed = 0 if keyboard.is_terminal or feed is not None else None
            try:
                Relay(job, screen, tape, signals, keyboard, typed, record_input).run()
            finally:
                keyboard.restore()
    ending = {"exit_code": job.exit_code} | ({"signal": job.signal} if job.signal else {})
    tape.note("exit", ending, final=True)
    terminal.close()
    return job, problem


def _input_ends(keyboard: UserTerminal, record_input: bool) -> tuple[int | None, int | None]:
    """What the command reads (None: its terminal), and where to write what it is to read (None: nowhere).

    A standard input that is no terminal is handed on as it is, so that the command reads from it what it
    wants and no more; only to record it, it goes through us.
    """
    if keyboard.is_terminal:
        return None, None
    return os.pipe() if record_input else (0, None)


def _finish(session: RecordingSession, tape: Tape, job: Job, screen: Screen, as_json: bool) -> None:
    """Deliver, end the session, and tell how it went."""
    patience = PATIENCE_AWAY_SECONDS if _began_in_spool(session) else PATIENCE_SECONDS
    end = end_request(session.ulid, Status.COMPLETED, EndReason.EXITED, job.exit_code, None)
    delivery = Delivery(tape.recorder, end, patience)
    delivery.finish()
    failure = tape.failure or delivery.failure
    if failure is None and not tape.recorder.end_left:
        try:
            session.end(end_reason=EndReason.EXITED, exit_code=job.exit_code)
        except SessiondError as error:
            failure = error
    told = remarks(tape.recorder, failure)
    if not told and session.client.spooled:
        told.append(f"{cannot_store(session.client)}; its end waits in {session.client.spool_dir}")
    if screen.failure is not None and not screen.reader_gone:
        told.append(f"standard output could not be written: {screen.failure.strerror}; it was recorded")
    if as_json:
        _print_outcome(session, tape, job, screen, failure)
    elif told or sys.stderr.isatty():
        complain("; ".join([_summary(session, tape, job), *told]))


def _summary(session: RecordingSession, tape: Tape, job: Job) -> str:
    ending = f"killed by {job.signal}" if job.signal else f"exit {job.exit_code}"
    events = counted(tape.recorder.recorded, "event")
    name = f"{session.info.name} ({session.ulid})" if session.info.name else session.ulid
    return f"recorded as {name}, {events}, {ending}"


def _print_outcome(
    session: RecordingSession, tape: Tape, job: Job, screen: Screen, failure: SessiondError | None
) -> None:
    recorder = tape.recorder
    if not screen.ends_line:
        sys.stdout.write("\n")
    write_json(
        Outcome(
            session=session.info,
            exit_code=job.exit_code or 0,
            signal=job.signal,
            recorded=recorder.recorded,
            undelivered=recorder.undelivered,
            reconnects=recorder.reconnects,
            spill=None if recorder.spill_path is None else str(recorder.spill_path),
            failure=None if failure is None else str(failure),
        )
    )


def _shell() -> str:
    return os.environ.get("SHELL") or SHELL_DEFAULT
