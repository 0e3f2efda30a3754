"""The entry point: what is loaded when, help, and the odd circumstances of a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import sessionctl
import sessiond_client
from sessionctl.main import COMMANDS
from tests.cli.conftest import SESSIONCTL, Sessionctl
from tests.cli.terminal import Terminal
from tests.running import ROOT, environ_for

Start = Callable[..., Terminal]

PROBE = """
import sys
from sessionctl.main import cli
sys.argv[1:] = {arguments}
cli.main(prog_name="sessionctl", standalone_mode=False)
print(sorted(name for name in sys.modules), file=sys.stderr)
"""


def loaded(environ: dict[str, str], *arguments: str) -> str:
    """The modules that are loaded after a command."""
    probe = PROBE.format(arguments=list(arguments))
    result = subprocess.run([sys.executable, "-P", "-c", probe], capture_output=True, env=environ, timeout=60)
    assert result.returncode == 0, result
    return result.stderr.decode()


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_version_and_help_load_neither_commands_nor_the_client(home: Path, option: str) -> None:
    modules = loaded(environ_for(home), option)

    for name in ("sessionctl.commands", "sessiond_client", "msgspec", "rich", "asyncio", "socket"):
        assert f"'{name}" not in modules


def test_a_listing_loads_nothing_that_it_does_not_need(sessionctl: Sessionctl) -> None:
    modules = loaded(sessionctl.environ, "list")

    for name in ("rich", "asyncio", "anyio", "ulid", "subprocess", "sessionctl.commands.record", "sessiond."):
        assert f"'{name}" not in modules


def test_there_is_one_version(home: Path) -> None:
    assert sessionctl.__version__ == sessiond_client.__version__
    assert f'version = "{sessionctl.__version__}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_json(home: Path, name: str) -> None:
    result = Sessionctl(environ_for(home))(name, "--help")

    shown = result.stdout.decode()
    assert (result.returncode, result.stderr) == (0, b"")
    assert "Example" in shown
    assert f"sessionctl {name}" in shown or f'sessionctl append "$id" {name}' in shown
    assert "--json" in shown


def test_help_lists_every_command(home: Path) -> None:
    shown = Sessionctl(environ_for(home)).out("--help")

    assert [name for name in COMMANDS if f"\n  {name} " not in shown] == []
    assert "Exit codes" in shown


def test_a_slip_in_a_commands_name_gets_a_suggestion(home: Path) -> None:
    result = Sessionctl(environ_for(home))("shwo")

    assert result.returncode == 2
    assert (
        result.stderr
        == b"sessionctl: there is no command 'shwo'; did you mean show? (see: sessionctl --help)\n"
    )


def test_closed_standard_streams_are_no_trouble(sessionctl: Sessionctl) -> None:
    script = '"$@" record -- sh -c "echo hidden; exit 3" <&- >&- 2>&-'
    result = subprocess.run(
        ["sh", "-c", script, "sh", *SESSIONCTL], capture_output=True, env=sessionctl.environ, timeout=60
    )

    assert (result.returncode, result.stdout, result.stderr) == (3, b"", b"")
    assert sessionctl.output_bytes() == b"hidden\r\n"


def test_on_a_terminal_the_list_is_a_table(on_terminal: Start, sessionctl: Sessionctl) -> None:
    ulid = sessionctl.out("start", "--detach", "-n", "nightly", "-t", "x").strip()

    terminal = on_terminal("list")

    assert terminal.wait() == 0
    shown = terminal.seen.decode()
    assert "nightly" in shown
    assert ulid[-8:] in shown
    assert "\x1b[" in shown
    assert sessionctl.out("show", "--no-events", ulid[-8:]).startswith("# session: nightly")


def test_a_row_of_the_list_is_one_line_however_long_names_and_tags_are(
    on_terminal: Start, sessionctl: Sessionctl
) -> None:
    tags = [word for number in range(20) for word in ("-t", f"tag-{number}")]
    sessionctl.out("start", "--detach", "-n", "n" * 120, *tags)

    terminal = on_terminal("list")

    assert terminal.wait() == 0
    assert terminal.seen.count(b"\n") == 2
    assert "nn…".encode() in terminal.seen


def test_no_color_means_no_escape_sequences(on_terminal: Start, sessionctl: Sessionctl) -> None:
    ulid = sessionctl.out("start", "--detach").strip()
    sessionctl.out("append", ulid, "error", "x")

    for arguments in (["list"], ["show", "--no-pager", ulid], ["tail", ulid], ["status"]):
        terminal = on_terminal(*arguments, NO_COLOR="1")
        assert terminal.wait() == 0
        assert b"\x1b" not in terminal.seen, arguments


def test_an_empty_list_on_a_terminal_says_what_to_do(on_terminal: Start) -> None:
    terminal = on_terminal("list")

    assert terminal.wait() == 0
    assert b"record one with: sessionctl record -- COMMAND" in terminal.seen


def test_long_output_on_a_terminal_goes_through_the_pager(on_terminal: Start, sessionctl: Sessionctl) -> None:
    ulid = sessionctl.out("start", "--detach", "-n", "paged").strip()
    sessionctl.out("append", ulid, "note", "-", stdin=b"line\n" * 5000)

    terminal = on_terminal("show", ulid, SESSIONCTL_PAGER="sh -c 'head -n 1; echo the pager'")
    assert terminal.wait() == 0
    assert terminal.seen.endswith(b"the pager\r\n")
    assert b"paged" in terminal.seen

    without = on_terminal("show", ulid, "--no-pager", PAGER="echo the pager")
    assert without.wait() == 0
    assert b"the pager" not in without.seen

    missing = on_terminal("show", ulid, PAGER="no-such-pager")
    assert missing.wait() == 0
    assert b"paged" in missing.seen


def test_hostile_text_on_a_terminal_is_escaped(on_terminal: Start, sessionctl: Sessionctl) -> None:
    ulid = sessionctl.out("start", "--detach").strip()
    sessionctl.out("append", ulid, "output", "one\n\x1b]0;owned\x07\r\x9b31m\u202e")

    for arguments in (["show", "--no-pager", ulid], ["tail", ulid]):
        terminal = on_terminal(*arguments, NO_COLOR="1")
        assert terminal.wait() == 0
        shown = terminal.seen.decode()
        assert r"\x1b]0;owned\x07\r\x9b31m\u202e" in shown
        assert not set("\x1b\x07\x9b\u202e") & set(shown)


def test_commands_are_completed(sessionctl: Sessionctl) -> None:
    result = sessionctl(COMP_WORDS="sessionctl st", COMP_CWORD="1", _SESSIONCTL_COMPLETE="bash_complete")

    assert result.stdout.decode().split() == ["plain,start", "plain,stats", "plain,status"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["rename", "green", "new", "name"],
            (
                "Got unexpected extra argument (name); put quotes around what has spaces in it"
                " (see: sessionctl rename --help)"
            ),
        ),
        (
            ["tail", "x", "--cursor-file"],
            "Option '--cursor-file' requires an argument (see: sessionctl tail --help)",
        ),
        (["list", "--tag"], "Option '--tag' requires an argument (see: sessionctl list --help)"),
        (
            ["--json", "list"],
            "--json goes behind the command, as in: sessionctl list --json (see: sessionctl --help)",
        ),
        (
            ["completions"],
            (
                "Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish"
                " (see: sessionctl completions --help)"
            ),
        ),
        (
            ["label", "set", "@last", "x"],
            "@last has a meaning of its own and cannot be a label",
        ),
        (["label", "set", " . ", "x"], ". has a meaning of its own and cannot be a label"),
        (
            ["search", "x", "-n", "0"],
            "Invalid value for '-n' / '--limit': 0 is not in the range x>=1 (see: sessionctl search --help)",
        ),
    ],
)
def test_a_slip_is_told_in_one_line_that_says_what_to_do(home: Path, arguments: list[str], told: str) -> None:
    result = Sessionctl(environ_for(home))(*arguments)

    assert (result.returncode, result.stdout, result.stderr.decode()) == (2, b"", f"sessionctl: {told}\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["label", "set", "a\nb", "@0"],
            "`label` is not a label: use one line of text, without control characters",
        ),
        (["label", "set", "x" * 129, "@0"], "`label` is longer than 128 characters"),
        (["rename", "@0", ""], "`name` is empty"),
        (["rename", "@0", "x" * 129], "`name` is longer than 128 characters"),
        (["rename", "@0", "two words"], "`name` is not a name: use letters, digits, _ and -, without spaces"),
    ],
)
def test_what_is_wrong_with_a_value_is_said_in_words(
    sessionctl: Sessionctl, arguments: list[str], told: str
) -> None:
    sessionctl.out("start", "--detach")

    result = sessionctl(*arguments)

    assert (result.returncode, result.stderr.decode()) == (2, f"sessionctl: {told}\n")


def test_what_cannot_be_written_is_no_success(sessionctl: Sessionctl) -> None:
    ulid = sessionctl.out("start", "--detach").strip()

    for arguments in (["list"], ["export", ulid], ["show", ulid]):
        result = subprocess.run(
            ["sh", "-c", '"$@" >&-', "sh", *SESSIONCTL, *arguments],
            capture_output=True,
            env=sessionctl.environ,
            timeout=60,
        )
        told = b"sessionctl: standard output is closed; nothing could be written to it\n"
        assert (result.returncode, result.stderr) == (1, told)


def test_nothing_asked_shows_the_help_as_it_is(sessionctl: Sessionctl) -> None:
    result = sessionctl()

    assert result.returncode == 2
    assert b"\nRecord:\n" in result.stderr
    assert b"\\n" not in result.stderr


def test_what_other_programs_call_it_gets_the_name_it_has_here(home: Path) -> None:
    result = Sessionctl(environ_for(home))("stop")

    assert (result.returncode, result.stderr) == (
        2,
        b"sessionctl: there is no command 'stop'; did you mean end? (see: sessionctl --help)\n",
    )
