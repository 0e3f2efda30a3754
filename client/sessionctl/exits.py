"""Exit codes, and the one place where an exception becomes a line on standard error and one of them.

Owns the words that a user reads when something fails. The one rule: one line that says what, where and what
to do; never a traceback for anything the world can cause.
"""

from __future__ import annotations

import errno
import os
import sys
from enum import IntEnum

import click

from sessionctl.escape import escape_line
from sessiond_client.errors import ConnectionLost, DaemonUnavailable, RequestFailed, SessiondError
from sessiond_client.wire.messages import ErrorCode

CANDIDATES_MAX = 10
"""How many candidates of an ambiguous id are shown."""


class ExitCode(IntEnum):
    """What `sessionctl` ends with, except `record`, which ends as its command does."""

    OK = 0
    NEGATIVE = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class Failure(Exception):  # noqa: N818 - not always an error: also a negative result
    """A command gives up: `message` goes to standard error, `code` is the exit code."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


_CODES = {
    ErrorCode.NOT_FOUND: ExitCode.NOT_FOUND,
    ErrorCode.INVALID: ExitCode.USAGE,
    ErrorCode.AMBIGUOUS: ExitCode.USAGE,
    ErrorCode.TOO_LARGE: ExitCode.USAGE,
}


def explain(error: BaseException) -> int:
    """Say on standard error what `error` means for the user, and return the exit code."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return ExitCode.USAGE
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return ExitCode.INTERRUPTED
    if isinstance(error, BrokenPipeError) or (isinstance(error, OSError) and error.errno == errno.EPIPE):
        return _silence()
    if isinstance(error, OSError) and error.errno == errno.EBADF and error.filename is None:
        _silence()
        complain("standard output is closed; nothing could be written to it")
        return ExitCode.NEGATIVE
    code, message = describe(error)
    complain(message)
    return code


def describe(error: BaseException) -> tuple[ExitCode, str]:
    """The exit code and the one line for a failure."""
    match error:
        case Failure():
            return error.code, error.message
        case click.UsageError():
            return ExitCode.USAGE, _usage(error)
        case click.ClickException():
            return ExitCode.USAGE, error.format_message()
        case RequestFailed():
            return _CODES.get(error.code, ExitCode.NEGATIVE), _refusal(error)
        case DaemonUnavailable() | ConnectionLost():
            return ExitCode.UNREACHABLE, str(error)
        case SessiondError():
            return ExitCode.UNREACHABLE, str(error)
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return ExitCode.NEGATIVE, f"{where}{error.strerror or error}"
        case _:
            return ExitCode.NEGATIVE, _bug(error)


def complain(message: str) -> None:
    """One line on standard error; whether anybody reads it must not matter."""
    try:
        sys.stderr.write(f"sessionctl: {escape_line(message)}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # closed, or gone: there is nobody left to tell


_TOO_MANY = "Got unexpected extra argument"
"""How click begins what it says of a word too many."""


def _usage(error: click.UsageError) -> str:
    # Choices come in lines of their own.
    message = error.format_message().replace("\n\t", " ").rstrip(".")
    if isinstance(error, click.NoSuchOption) and error.option_name == "--json":
        message = "--json goes behind the command, as in: sessionctl list --json"
    if message.startswith(_TOO_MANY):
        message += "; put quotes around what has spaces in it"
    path = error.ctx.command_path if error.ctx else "sessionctl"
    see = f"{path} --help"
    return message if see in message else f"{message} (see: {see})"


def _refusal(error: RequestFailed) -> str:
    reply = error.reply
    message = str(error)
    if reply.candidates:
        more = len(reply.candidates) - CANDIDATES_MAX
        shown = ", ".join(reply.candidates[:CANDIDATES_MAX])
        message += f"; it may be one of: {shown}" + (f" and {more} more" if more > 0 else "")
    elif reply.suggestions:
        message += f"; did you mean: {', '.join(reply.suggestions)}?"
    elif reply.code is ErrorCode.NOT_FOUND and not reply.hint:
        message += "; see: sessionctl list"
    return message


def _silence() -> ExitCode:
    """Whoever read our output has gone: keep the interpreter from complaining about it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    return ExitCode.BROKEN_PIPE


def _bug(error: BaseException) -> str:
    """A fault of ours: still one line, with the place, and the whole story where it is asked for."""
    if os.environ.get("SESSIONCTL_DEBUG"):
        import traceback

        traceback.print_exception(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    fault = f"{type(error).__name__}: {error}{where}"
    return f"this is a fault in sessionctl: {fault} (SESSIONCTL_DEBUG=1 shows all)"
