"""`sessionctl export`: what each format has in it, and what becomes of it on its way out."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from uuid import UUID

import pytest

from sessionctl.export.formats import FORMATS, Options, format_for
from sessionctl.export.recording import Recording
from sessiond_client import Client
from sessiond_client.wire.messages import Adopt
from tests.cli.conftest import SESSIONCTL, Sessionctl
from tests.cli.recorded import (
    Told,
    commands,
    exported,
    record,
    shared_client,
    shared_daemon,
    terminal_session,
)
from tests.cli.terminal import Terminal
from tests.running import ROOT, RunningDaemon

HOSTILE = "\x1b]0;owned\x07</script><b>\u202e```\n# no heading\n\x9b31m"
MIB = 1024 * 1024


daemon, client = shared_daemon, shared_client


class Elements(HTMLParser):
    """What a browser sees: each element, how often, and the attributes there are."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.policy = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        values = dict(attrs)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""


# --- the session's own file, and what other programs take for one


def test_ndjson_is_the_file_byte_for_byte(sessionctl: Sessionctl, client: Client) -> None:
    ulid = record(client, *commands("make"), ("note", HOSTILE, {"deep": {"a": [1, None]}}), tags=["a"])

    file = Path(sessionctl.out("show", "--file", ulid).strip()).read_bytes()
    assert sessionctl("export", ulid).stdout == file
    events = b"".join(file.splitlines(keepends=True)[1:-1])
    assert json.loads(file.splitlines()[-1])["digest"] == hashlib.sha256(events).hexdigest()


def test_ndjson_of_a_session_still_recording_has_no_footer(client: Client) -> None:
    ulid = record(client, ("note", "one", {}), ended=False)

    header, note = exported(client, ulid, "ndjson").splitlines()
    assert json.loads(header)["name"] == "demo"
    assert json.loads(note)["text"] == "one"


def test_what_is_recorded_after_an_export_has_begun_is_not_in_it(client: Client) -> None:
    ulid = record(client, ("note", "one", {}), ended=False)
    info = client.get(ulid)
    assert info is not None
    chunks = FORMATS["ndjson"].chunks(Recording(client, info), Options())
    next(chunks)

    client.session(ulid).append("note", "late")

    assert b"late" not in b"".join(chunks)


def test_rec_has_every_field_of_version_2(client: Client) -> None:
    times = {"started_at": "2026-11-21T09:24:32Z", "ended_at": "2026-11-21T09:24:33.25Z"}
    whole = {"cwd": "/tmp", "exit_code": 2, "duration_ms": 1250.4, "extra": 1, **times}
    told: list[Told] = [("note", "left out", {}), ("command", "make all", whole), ("command", "ls", {})]
    ulid = record(client, *told, ulid="01M7ZANC7PZK50Q4AR0X1MVVZW")

    header, first, second, footer = map(json.loads, exported(client, ulid, "rec").splitlines())
    assert header == {
        "type": "header",
        "version": 2,
        "id": "01a1feaa-b0f6-4cca-8b91-5807434deffc",
        "name": "demo",
        "shell": "bash",
        "os": "Linux",
        "hostname": "box",
        "env": {"HOME": "/home/ada", "USER": "ada"},
        "tags": [],
        "started_at": 1795253071.5,
    }
    assert first == {
        "type": "command",
        "index": 0,
        "command": "make all",
        "cwd": "/tmp",
        "started_at": 1795253072.0,
        "ended_at": 1795253073.25,
        "exit_code": 2,
        "duration_ms": 1250,
    }
    assert second == {
        "type": "command",
        "index": 1,
        "command": "ls",
        "cwd": "/src",
        "started_at": 1795253072.25,
    }
    assert footer == {"type": "footer", "ended_at": 1795253080.5, "command_count": 2, "status": "completed"}
    assert UUID(header["id"]).version == 4


def test_rec_keeps_the_id_under_which_rec_knew_the_session(client: Client) -> None:
    known = "6f1d0b1e-8f5a-4a53-9a43-0d1b2c3d4e5f"
    ulid = record(client, meta={"rec_id": known}, ended=False)

    (header,) = map(json.loads, exported(client, ulid, "rec").splitlines())
    assert header["id"] == known


def test_a_file_of_rec_comes_back_as_it_was(client: Client, tmp_path: Path) -> None:
    text = (
        '{"type":"header","version":2,"id":"6f1d0b1e-8f5a-4a53-9a43-0d1b2c3d4e5f","name":"old","shell":"zsh",'
        '"os":"Debian","hostname":"h","env":{"HOME":"/a","PATH":"/bin"},"tags":["x"],"started_at":1700000000.25}\n'
        '{"type":"command","index":0,"command":"echo \\"hi\\"\\n","cwd":"/tmp","started_at":1700000001.5,'
        '"ended_at":1700000002.75,"exit_code":0,"duration_ms":1250}\n'
        '{"type":"footer","ended_at":1700000010.0,"command_count":1,"status":"completed"}\n'
    )
    (tmp_path / "old.ndjson").write_text(text)

    saved = client.call(Adopt(path=str(tmp_path / "old.ndjson")))
    assert exported(client, saved.session.ulid, "rec") == text


def test_json_is_one_object_that_can_be_shared(client: Client) -> None:
    ulid = record(client, ("prompt", HOSTILE, {"n": 1}), ("alert", "two", {}), engine_base_url="http://e")

    shared = json.loads(exported(client, ulid, "json"))
    assert list(shared)[:4] == ["ulid", "engine_base_url", "parent_ulid", "name"]
    assert (shared["ulid"], shared["engine_base_url"], shared["parent_ulid"]) == (ulid, "http://e", None)
    assert shared["events"] == [
        {"seq": 0, "kind": "prompt", "at": "2026-11-21T09:24:31.750000Z", "text": HOSTILE, "data": {"n": 1}},
        {"seq": 1, "kind": "alert", "at": "2026-11-21T09:24:32.000000Z", "text": "two", "data": {}},
    ]


def test_every_format_is_documented_and_shown_in_the_help(sessionctl: Sessionctl) -> None:
    _, _, document = (ROOT / "docs" / "formats.md").read_text().partition("## Export")
    shown = sessionctl.out("export", "--help")

    assert re.findall(r"^\| `(\w[\w-]*)` \|", document, re.MULTILINE) == list(FORMATS)
    assert all(
        re.search(rf"^ +{name} +{entry.summary}$", shown, re.MULTILINE) for name, entry in FORMATS.items()
    )


def test_the_ending_of_the_file_names_the_format_and_json_tells_what_was_written(
    sessionctl: Sessionctl, client: Client, tmp_path: Path
) -> None:
    ulid = terminal_session(client)
    page = tmp_path / "demo.html"

    (told,) = sessionctl.json("export", ulid, "-o", str(page))
    refused = sessionctl("export", ulid, "--json")

    assert told == {"session": ulid, "format": "html", "path": str(page), "bytes": page.stat().st_size}
    assert page.read_text().startswith("<!")
    assert (refused.returncode, refused.stderr.count(b"\n")) == (2, 1)


@pytest.mark.parametrize("name", ["ndjson", "rec", "json", "cast", "txt", "md", "html"])
def test_a_session_without_events_has_an_export(client: Client, name: str) -> None:
    text = exported(client, record(client), name)

    assert (text == "") if name == "txt" else ("demo" in text)


# --- terminals


def test_txt_is_what_was_on_the_terminal(client: Client) -> None:
    assert exported(client, terminal_session(client), "txt") == "gr\u00fc\u00df\n\u20ac!\ufffd\n"


def test_lines_are_not_broken_where_pieces_of_output_end(client: Client) -> None:
    long = "x" * 100_000
    many = "".join(f"{number:>8} a line\n" for number in range(10_000))
    text = f"{long}\r\n{many}{long * 15}\n{many}"
    told: list[Told] = [("output", text[at : at + 4099], {}) for at in range(0, len(text), 4099)]
    ulid = record(client, *told)

    assert exported(client, ulid, "txt") == text.replace("\r", "")
    shown = exported(client, ulid, "md").splitlines()
    assert [line for line in shown if line.endswith("a line")] == many.splitlines() * 2
    assert long in shown


def test_txt_shows_commands_and_messages_and_controls_nothing(client: Client) -> None:
    ulid = record(client, *commands("make"), ("message", "\x1b[31m\u202ered", {}), ("output", "ok\x1b[K", {}))

    assert exported(client, ulid, "txt") == "$ make\nmessage: \\x1b[31m\\u202ered\nok\n"


# --- to be read


def test_md_is_a_transcript(client: Client) -> None:
    ulid = record(client, *commands("make"), ("output", "ok\r\n", {}), ("message", "hi", {"role": "user"}))

    assert exported(client, ulid, "md") == (
        "# Session `demo`\n\n"
        f"- Session: `{ulid}`\n"
        "- Status: `completed (stopped)`\n"
        "- Started: `2026-11-21 09:24:31 UTC`\n"
        "- Ended: `2026-11-21 09:24:40 UTC`\n"
        "- Exit code: `0`\n"
        "- Host: `box Linux`\n"
        "- Directory: `/src`\n"
        "- Events: `3, of which 1 command`\n"
        "\n**`command`** 2026-11-21 09:24:31 UTC, `in /src`, `exit code 0`\n"
        "\n```sh\nmake\n```\n"
        "\n**`output`** 2026-11-21 09:24:32 UTC\n"
        "\n```text\nok\n```\n"
        "\n**`message`** 2026-11-21 09:24:32 UTC\n"
        '\n```text\nhi\n```\n\n```json\n{"role":"user"}\n```\n'
    )


def test_no_recorded_text_breaks_out_of_a_fence(client: Client) -> None:
    fences = "a\n```\n# heading\n````\n<img src=x>"
    ulid = record(client, ("message", fences, {"k": "`" * 9}), *commands("ls", cwd="/a`b``c"), hostname="`x`")

    text = exported(client, ulid, "md")
    assert f"\n`````text\n{fences}\n`````\n" in text
    assert "\n``````````json\n" in text
    assert ", ``` in /a`b``c ```," in text
    assert "- Host: `` `x` Linux ``" in text


def test_html_has_no_markup_from_a_recording_and_loads_nothing(client: Client) -> None:
    ulid = record(
        client,
        ("output", HOSTILE, {}),
        ("message", HOSTILE, {"</pre>": "<script>"}),
        *commands("<i>", cwd="/<b>"),
        hostname="<u>",
    )

    page = exported(client, ulid, "html")
    elements = Elements(page)
    ours = {"html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "dl", "dt", "dd", "div"}
    assert set(elements.seen) == ours | {"p", "b", "pre", "script"}
    assert elements.seen["script"] == 3
    assert elements.seen["b"] == 3
    assert elements.seen["pre"] == 4
    assert {name for name in elements.attributes if name in {"src", "href"} or name.startswith("on")} == set()
    recorded = re.sub("<script>.*?</script>", "", page, flags=re.DOTALL)  # all but the player
    assert not {"\x1b", "\u202e", "\x9b", "\x07"} & set(recorded)
    assert "default-src 'none'" in elements.policy
    assert "connect-src" not in elements.policy


def test_html_without_output_has_no_player(client: Client) -> None:
    page = exported(client, record(client, ("message", "\nhi & bye", {})), "html")

    assert "<script" not in page
    assert "script-src" not in page
    assert "<pre>\n\nhi &amp; bye</pre>" in page


# --- on its way out


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Makefile", "makefile"),
        ("Dockerfile", "dockerfile"),
        (".gitlab-ci.yml", "gitlab-ci"),
        (".github/workflows/demo.yml", "github-action"),
        (".circleci/config.yml", "circleci"),
        ("workflows/demo.yml", None),
        ("demo.SH", "bash"),
        ("demo.ndjson", "ndjson"),
        ("demo", None),
    ],
)
def test_names_that_others_look_for_say_the_format(path: str, name: str | None, tmp_path: Path) -> None:
    assert format_for(tmp_path / path) == name


def test_a_name_that_says_no_format_gets_the_default_and_a_word(
    sessionctl: Sessionctl, client: Client, tmp_path: Path
) -> None:
    ulid = terminal_session(client)

    odd = sessionctl("export", ulid, "-o", str(tmp_path / "a.yml"))
    sessionctl.out("export", ulid, "-o", str(tmp_path / "b.yml"), "-F", "txt")

    told = "a.yml is written as ndjson, for its name says no format; -F chooses another\n"
    assert (odd.returncode, odd.stderr.decode()) == (0, f"sessionctl: {tmp_path}/{told}")


def test_a_file_is_whole_private_and_not_overwritten(
    sessionctl: Sessionctl, client: Client, tmp_path: Path
) -> None:
    ulid = record(client, ("note", "x", {}))
    target = tmp_path / "out.ndjson"

    assert sessionctl.out("export", ulid, "-o", str(target)) == ""
    assert target.stat().st_mode & 0o777 == 0o600
    target.write_text("mine")
    refused = sessionctl("export", ulid, "-o", str(target))
    assert (refused.returncode, target.read_text()) == (1, "mine")
    assert b"--force" in refused.stderr
    assert sessionctl.out("export", ulid, "-o", str(target), "--force") == ""
    assert target.read_bytes() == sessionctl("export", ulid).stdout
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_export_that_fails_leaves_no_file(sessionctl: Sessionctl, client: Client, tmp_path: Path) -> None:
    ulid = record(client, ("note", "x", {}))
    before = set(tmp_path.iterdir())

    failed = sessionctl("export", ulid, "-F", "bash", "-o", str(tmp_path / "x.sh"))
    assert failed.returncode == 1
    assert b"no commands" in failed.stderr
    assert b"-F cast or -F txt" in failed.stderr
    assert failed.stderr.count(b"\n") == 1
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-F", "makefil"], 2, b"did you mean makefile?"),
        (["-F", "\x1b[31m"], 2, b"There are: ndjson, rec"),
        (["-F", "cast", "--param", "A=b"], 2, b"are for scripts: bash, makefile"),
        (["-F", "bash", "--param", "A"], 2, b"NAME=VALUE"),
        (["-o", "/"], 2, b"is a directory"),
        (["-o", "/nowhere/x"], 1, b"/nowhere: there is no such directory"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    sessionctl: Sessionctl, client: Client, arguments: list[str], code: int, said: bytes
) -> None:
    ulid = record(client, *commands("ls"))

    result = sessionctl("export", ulid, *arguments)
    assert result.returncode == code, result
    assert said in result.stderr
    assert result.stderr.count(b"\n") == 1
    assert (result.stdout, b"\x1b" in result.stderr) == (b"", False)


def test_a_reader_that_leaves_is_no_error(sessionctl: Sessionctl, client: Client) -> None:
    ulid = record(client, *[("output", "x" * 100_000, {})] * 20)

    pipeline = '"$@" | head -c 10'
    result = subprocess.run(
        ["bash", "-c", pipeline, "bash", *SESSIONCTL, "export", ulid],
        capture_output=True,
        env=sessionctl.environ,
        timeout=60,
    )
    assert (result.stdout, result.stderr) == (b'{"type":"h', b"")


def test_a_terminal_gets_no_control_characters(client: Client, on_terminal: Callable[..., Terminal]) -> None:
    ulid = record(client, *commands("echo \x9b31m\u202e\x1b]0;owned\x07"))

    terminal = on_terminal("export", ulid, "-F", "bash")
    shown = terminal.wait_for("owned").decode(errors="replace")
    assert r"\x9b31m\u202e\x1b]0;owned" in shown


def test_a_big_session_passes_through_in_little_memory(
    sessionctl: Sessionctl, client: Client, tmp_path: Path
) -> None:
    ulid = record(client, ended=False)
    line = "x" * 254 + "\r\n"
    with client.session(ulid).recorder() as note:
        for _ in range(48):
            note("output", line * 4_000)
    script = (
        "import re, sys; from pathlib import Path; from sessionctl.main import cli; "
        "cli.main(sys.argv[1:], standalone_mode=False); "
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024)"
    )

    for name in ("ndjson", "json", "cast", "txt", "html"):
        target = tmp_path / name
        result = subprocess.run(
            [sys.executable, "-P", "-c", script, "export", ulid, "-F", name, "-o", str(target)],
            capture_output=True,
            env=sessionctl.environ,
            timeout=60,
        )
        assert result.returncode == 0, result
        assert os.path.getsize(target) > 45 * MIB
        assert int(result.stdout) < 80, f"{name}: {result.stdout.decode().strip()} MiB"
        target.unlink()


@pytest.mark.parametrize("patience", [-1, 3600])
def test_a_bar_is_shown_on_the_terminal_of_those_who_wait(
    daemon: RunningDaemon, client: Client, tmp_path: Path, patience: int
) -> None:
    ulid = record(client, *[("note", "x", {})] * 2500)
    script = (
        f"import sys; from sessionctl.export import progress; progress.QUIET_SECONDS = {patience}; "
        "from sessionctl.main import cli; cli.main(sys.argv[1:], standalone_mode=False); print('done')"
    )
    argv = [sys.executable, "-P", "-c", script, "export", ulid, "-F", "md", "-o", str(tmp_path / "x.md")]

    terminal = Terminal(argv, daemon.environ)
    shown = terminal.wait_for("done")
    terminal.close()
    assert (b"demo" in shown and b"%" in shown) is (patience < 0)
