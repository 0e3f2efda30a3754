"""`sessionctl replay`: plays what a terminal showed, or runs recorded commands again.

The one rule: which of the two happens is clear before anything does: options of the one are refused for the
other, and commands are only run where there is nothing to play, or where the user says so.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import click
from click.core import ParameterSource

from sessionctl.connection import connect
from sessionctl.escape import escape_line
from sessionctl.exits import ExitCode, Failure, complain
from sessionctl.options import session_argument
from sessionctl.output import Form, colours_wanted, counted, form_for, json_option, write_json, write_line
from sessionctl.patterns import pattern_option
from sessionctl.reference import resolve
from sessionctl.replaying.danger import Dangers, Level
from sessionctl.replaying.playback import Keyboard, Keys, NoKeys, Output, Player
from sessionctl.replaying.recorded_shell import RecordedShell
from sessionctl.replaying.rerun import Planned, Policy, Questions, Rerun, Step, Summary, Wanted
from sessionctl.terminal.newlines import Newlines
from sessionctl.terminal.screen_modes import ScreenModes
from sessionctl.terminal.signals import EndingSignals
from sessionctl.terminal.user_terminal import UserTerminal
from sessionctl.transcripts.selection import Selection
from sessionctl.transcripts.transcript import raw_bytes
from sessiond_client.client import Client
from sessiond_client.wire.messages import Session

TERMINAL, COMMANDS = "terminal", "commands"

_OF_COMMANDS = (
    "dry_run", "stepwise", "skip", "first", "globs", "cwd", "force", "policy", "level", "patterns", "as_json",
)  # fmt: skip
_OF_TERMINAL = ("speed", "idle_limit", "no_wait")


def _indexes(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> frozenset[int]:
    try:
        return frozenset(int(word) for words in value for word in words.split(",") if word.strip())
    except ValueError:
        message = "numbers parted by commas are needed, as in 1,2"
        raise click.BadParameter(message, context, parameter) from None


@click.command("replay", short_help="Play a recorded terminal, or run recorded commands again.")
@session_argument()
@click.option("--terminal", "mode", flag_value=TERMINAL, help="Play the output (default where there is any).")
@click.option("--commands", "mode", flag_value=COMMANDS, help="Run the commands.")
@click.option("--speed", type=click.FloatRange(0.01, 1000), default=1.0, help="So many times as fast.")
@click.option(
    "--idle-limit", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer than that."
)
@click.option("--no-wait", is_flag=True, help="All output at once.")
@click.option("--dry-run", is_flag=True, help="Only show what would run.")
@click.option("--step", "stepwise", is_flag=True, help="Ask before each command.")
@click.option("--from", "first", type=click.IntRange(min=0), default=0, help="Begin with this number.")
@click.option("--skip", multiple=True, callback=_indexes, metavar="N,…", help="Not these numbers.")
@click.option("--skip-pattern", "globs", multiple=True, metavar="GLOB,…", help="Not commands like these.")
@click.option("--cwd", type=click.Path(exists=True, file_okay=False), help="Run all of them here.")
@click.option(
    "--danger-policy",
    "policy",
    type=click.Choice([policy.value for policy in Policy]),
    help="Of destructive commands: leave them out, run nothing if there is one, or run them (default: ask).",
)
@click.option("--force", is_flag=True, help="The same as --danger-policy allow.")
@click.option(
    "--danger-level",
    "level",
    type=click.Choice([level.value for level in Level]),
    default=Level.MODERATE.value,
    show_default=True,
    help="How much counts as destructive.",
)
@click.option(
    "--danger-pattern",
    "patterns",
    multiple=True,
    metavar="REGEX",
    callback=pattern_option,
    help="This counts, too; may be given several times.",
)
@json_option
@click.pass_context
def command(ctx: click.Context, /, session: str, mode: str | None, **options: Any) -> int:
    """Play what a terminal showed, with its timing, or run recorded commands again.

    The terminal: space pauses, . steps to the next output, q ends. The bytes are those that were recorded,
    so the recording controls your terminal as the program did; afterwards that is restored. Where standard
    output is no terminal, the bytes are written with their timing.

    Commands: each by a shell of its own, in its recorded directory where that exists. Destructive ones are
    asked about; with nobody to ask, they are not run. Recordings are as trustworthy as whoever made them:
    see --dry-run first. Exit code 1: a command failed or was denied, or you stopped it.

    \b
    Examples:
      sessionctl replay demo --speed 2 --idle-limit 1
      sessionctl replay setup --commands --dry-run
      sessionctl replay setup --commands --from 3 --skip-pattern 'vim *,less *' --step
    """
    with connect() as client:
        info = resolve(client, session)
        mode = _mode(client, info, mode)
        _refuse_foreign_options(ctx, mode)
        if info.ended_at is None or info.status != "completed":
            complain(f"this session has no proper end ({info.status}); what there is of it is replayed")
        if mode == TERMINAL:
            return _play(client, info, options["speed"], 0.0 if options["no_wait"] else options["idle_limit"])
        return _run(client, info, **{name: options[name] for name in _OF_COMMANDS})


def _mode(client: Client, info: Session, wanted: str | None) -> str:
    has_output = bool(client.read(info.ulid, kinds=["output"], limit=1).events)
    mode = wanted or (TERMINAL if has_output or not info.command_count else COMMANDS)
    if mode == TERMINAL and not has_output:
        other = "; its commands can be: --commands" if info.command_count else ""
        raise Failure(ExitCode.NEGATIVE, f"{info.name} has no output that could be played{other}")
    if mode == COMMANDS and not info.command_count:
        raise Failure(
            ExitCode.NEGATIVE, f"{info.name} has no commands that could be run; see: sessionctl init"
        )
    return mode


def _refuse_foreign_options(ctx: click.Context, mode: str) -> None:
    foreign, right = (_OF_COMMANDS, COMMANDS) if mode == TERMINAL else (_OF_TERMINAL, TERMINAL)
    for parameter in ctx.command.params:
        given = ctx.get_parameter_source(parameter.name or "") is not ParameterSource.DEFAULT
        if parameter.name in foreign and given:
            raise click.UsageError(f"{parameter.opts[0]} goes with --{right}", ctx)


# --- the terminal


def _play(client: Client, info: Session, speed: float, idle_limit: float | None) -> int:
    screen, keyboard = UserTerminal(1), UserTerminal(0)
    sized = _tell_size(client, info) if screen.is_terminal else True
    modes = ScreenModes()
    with EndingSignals() as signals, _steered(screen, keyboard, modes) as keys:
        stage = _Stage(keys, modes, signals, Newlines(added=not sized))
        player = Player(stage.write, stage, time.monotonic, speed=speed, idle_limit=idle_limit)
        player.play(_outputs(client, info.ulid))
    return ExitCode.OK


class _Stage:
    """Where it is played. Being told to end takes effect here and not while the terminal is restored."""

    def __init__(self, keys: Keys, modes: ScreenModes, signals: EndingSignals, newlines: Newlines) -> None:
        self._keys = keys
        self._modes = modes
        self._signals = signals
        self._newlines = newlines

    def write(self, data: bytes) -> None:
        """Past any buffer: what is not written when it ends must not be written afterwards."""
        data = self._newlines.feed(data)
        self._modes.feed(data)
        with self._signals.heeded():
            while data:
                data = data[os.write(1, data) :]

    def wait(self, seconds: float | None) -> str | None:
        """See `Keys`."""
        with self._signals.heeded():
            return self._keys.wait(seconds)


def _outputs(client: Client, ulid: str) -> Iterator[Output]:
    for _, event in Selection(["output"]).read(client, ulid):
        yield Output(datetime.fromisoformat(event.at).timestamp(), raw_bytes(event))


@contextmanager
def _steered(screen: UserTerminal, keyboard: UserTerminal, modes: ScreenModes) -> Iterator[Keys]:
    """Keys that steer, where there is a terminal; whatever happens, it is restored."""
    if not screen.is_terminal:
        yield NoKeys()
        return
    try:
        yield Keyboard(keyboard.file) if keyboard.enter_raw() else NoKeys()
    finally:
        with suppress(OSError):  # a terminal that has gone needs nothing
            os.write(screen.file, modes.undo())
        keyboard.forget_typed()
        keyboard.restore()


def _tell_size(client: Client, info: Session) -> bool:
    """A recording made in a larger window looks torn in a smaller one; only the user can change that.

    Returns whether it was recorded in a window at all.
    """
    columns, rows = 0, 0
    for _, event in Selection(["resize"]).read(client, info.ulid):
        columns = max(columns, _number(event.data.get("cols")))
        rows = max(rows, _number(event.data.get("rows")))
    here = os.get_terminal_size(1)
    if here.columns and here.lines and (columns > here.columns or rows > here.lines):
        complain(f"recorded in a window of {columns}x{rows}; this one has {here.columns}x{here.lines}")
    return columns > 0


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


# --- commands


def _run(
    client: Client,
    info: Session,
    *,
    dry_run: bool,
    stepwise: bool,
    skip: frozenset[int],
    first: int,
    globs: tuple[str, ...],
    cwd: str | None,
    force: bool,
    policy: str | None,
    level: str,
    patterns: list[Any],
    as_json: bool,
) -> int:
    if force and policy not in {None, Policy.ALLOW}:
        raise click.UsageError(f"--force and --danger-policy {policy} exclude each other")
    asks = sys.stdin.isatty() and sys.stderr.isatty()
    if stepwise and not asks:
        raise click.UsageError("--step asks before each command: it needs a terminal")
    summary = Summary(session=info.ulid, total=info.command_count)
    interrupted = False
    signals = EndingSignals()
    wanted = Wanted(first, skip, [glob for words in globs for glob in words.split(",") if glob])
    if not any(map(wanted.admits, _steps(client, info))):
        commands = counted(info.command_count, "command")
        raise Failure(ExitCode.NEGATIVE, f"nothing is left to run: {commands}, and all are passed over")
    rerun = Rerun(
        lambda: _steps(client, info),
        wanted,
        Dangers(Level(level), patterns),
        Policy.ALLOW if force else None if policy is None else Policy(policy),
        Questions(signals) if asks else None,
        RecordedShell(info.shell, cwd, signals),
        colours=colours_wanted(tty=sys.stderr.isatty()),
    )
    if dry_run:
        _show_plan(rerun, summary, as_json)
    else:
        sys.stdout.flush()
        try:
            with signals:
                rerun.run(summary, stepwise=stepwise)
        except KeyboardInterrupt:
            interrupted = True
    if as_json:
        write_json(summary)
    elif not dry_run:
        complain(str(summary))
    if interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.NEGATIVE if summary.failed or summary.denied or summary.aborted else ExitCode.OK


def _steps(client: Client, info: Session) -> Iterator[Step]:
    """The commands that the session had when it was asked for."""
    entries = Selection(["command"]).read(client, info.ulid)
    for count, (_, event) in enumerate(entries):
        if count >= info.command_count:
            return
        index, cwd = event.data.get("index"), event.data.get("cwd")
        yield Step(
            index=index if isinstance(index, int) else count,
            command=os.fsdecode(raw_bytes(event)),
            cwd=cwd if isinstance(cwd, str) else None,
        )


def _show_plan(rerun: Rerun, summary: Summary, as_json: bool) -> None:
    if as_json:
        summary.planned = [*rerun.plan(summary)]
        return
    pretty = form_for(as_json) is Form.PRETTY
    for planned in rerun.plan(summary):
        write_line(_pretty_plan(planned) if pretty else _plain_plan(planned))


def _pretty_plan(planned: Planned) -> str:
    line = f"[{planned.index}] $ {escape_line(planned.command)}"
    return f"{line}\n    destructive: {escape_line(planned.destructive)}" if planned.destructive else line


def _plain_plan(planned: Planned) -> str:
    cells = [str(planned.index), planned.cwd or "", planned.command, planned.destructive or ""]
    return "\t".join(map(escape_line, cells))
