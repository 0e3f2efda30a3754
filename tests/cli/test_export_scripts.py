"""Scripts made of recorded commands: any command means in them what it meant when it was typed."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessionctl.exits import ExitCode, Failure
from sessionctl.export.makefile import recipe
from sessionctl.export.parameters import Parameters
from sessionctl.export.pipeline import circleci_text, github_text
from sessionctl.export.shell_text import verbatim, word
from sessionctl.export.steps import Step
from sessionctl.export.yaml_text import quoted, scalar
from sessiond_client import Client
from tests.cli.conftest import Sessionctl
from tests.cli.recorded import commands, exported, record, shared_client, shared_daemon

SCRIPTS = ["bash", "makefile", "dockerfile", "github-action", "gitlab-ci", "circleci"]
PIPELINES = ["github-action", "gitlab-ci", "circleci"]

ODD = [
    'echo "it\'s $HOME"',
    "cat <<EOF\nmulti $((1+1))\n  'odd \"quotes\n\ttab\nEOF",
    "cat <<-'A B'\n\t$HOME `x`\n\tA B",
    'for i in a b; do\n  echo "$i" # don\'t\n\ndone',
    "printf '%s\\n' '${{ x }}' '<< y >>' \"a\\\\\" $'tab\\there'",
    "-f 2>/dev/null || @e 2>/dev/null || echo started oddly",
    "printf %s 'ends with a backslash \\'",
    "echo trailing blank \\ ",
    "echo ünï 漢字 🎉 a\u00a0b",
    "# only a comment, with a quote: '",
    '[ 1 = 1 ] && [ "$x" ] || echo \'["json"]\'',
]

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


daemon, client = shared_daemon, shared_client


def bash(script: str, **variables: str) -> str:
    """What a script prints; it must end well."""
    environ = {"PATH": "/usr/bin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", **variables}
    result = subprocess.run(
        ["bash"], input=script.encode(), capture_output=True, env=environ, cwd="/", timeout=30
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.decode()


def make(makefile: str, directory: Path, *targets: str) -> str:
    (directory / "Makefile").write_bytes(makefile.encode())
    environ = {"PATH": "/usr/bin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
    result = subprocess.run(
        ["make", "-s", *targets], capture_output=True, env=environ, cwd=directory, timeout=30
    )
    assert result.returncode == 0, result
    return result.stdout.decode()


def yaml_of(text: str) -> Any:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed; it checks what we write")
    return yaml.safe_load(text)


def step(command: str, **about: Any) -> Step:
    return Step(number=1, command=command, **({"directory": None, "exit_code": 0} | about))


def runs(pipeline: str, document: Any) -> list[str]:
    """What the shells of a pipeline get to run, after the service has replaced its own marks."""
    if pipeline == "github-action":
        texts = [item["run"] for item in document["jobs"]["session"]["steps"][1:]]
        return [text.replace("${{ '${{' }}", "${{") for text in texts]
    if pipeline == "gitlab-ci":
        return list(document["session"]["script"])
    texts = [item["run"]["command"] for item in document["jobs"]["session"]["steps"][1:]]
    return [text.replace("\\<<", "<<") for text in texts]


# --- each format, by hand


def test_bash_reads_like_what_was_typed(client: Client) -> None:
    ulid = record(
        client,
        ("note", "left out", {}),
        *commands("make", "cat <<E\nx\nE", "  "),
        *commands("false", cwd="/a b", exit_code=1),
        *commands("echo 'open", cwd=None),
    )

    _, _, body = exported(client, ulid, "bash").partition("set -e\n")
    assert body == (
        "\ncd -- /src\nmake\n"
        "\ncat <<E\nx\nE\n"
        "\ncd -- '/a b'\n# exit code 1 when it was recorded\n{\nfalse\n} || true\n"
        "\neval 'echo '\"'\"'open'\n"
    )


@pytest.mark.parametrize(
    "broken",
    ["if true; then", "}", "echo $(ls", "for x in a; do", "case x in", ")", "echo a |", "&& ls", "a() {",
     "done", "`", "[[ a", "echo >", "ls ;; ls", "echo ${x"],
)  # fmt: skip
def test_a_command_that_is_none_breaks_nothing_that_follows(client: Client, broken: str) -> None:
    unknown: dict[str, Any] = {"cwd": None, "exit_code": None}
    failed = [("command", broken, {**unknown, "exit_code": 2}), ("command", "echo on", {**unknown})]
    listed = [("command", broken, unknown), ("command", "echo on", unknown)]

    assert bash(exported(client, record(client, *failed), "bash")) == "on\n"
    script = exported(client, record(client, *listed), "bash").replace("set -e\n", "set +e\n")
    assert bash(script) == "on\n"


def test_every_script_says_where_it_comes_from(client: Client) -> None:
    ulid = record(client, *commands("ls"), hostname="evil\nhost\\")

    for name in SCRIPTS:
        lines = exported(client, ulid, name).removeprefix("#!/usr/bin/env bash\n").splitlines()
        assert lines[0] == f"# Session: demo ({ulid})"
        assert lines[1] == r"# Recorded: 2026-11-21 09:24:31 UTC on evil\nhost\, 1 command"
        assert lines[2].startswith("# Made by sessionctl export ")


def test_makefile_has_a_target_for_each_command(client: Client) -> None:
    ulid = record(client, *commands("echo $HOME"), *commands("a\nb", exit_code=2, cwd=None))

    _, _, body = exported(client, ulid, "makefile").partition("all:\n")
    assert body == (
        "\n.PHONY: step-1\nall: step-1\nstep-1:\n\tcd -- /src || exit; echo $$HOME\n"
        "\n# exit code 2 when it was recorded\n"
        ".PHONY: step-2\nall: step-2\nstep-2:\n\t-:; eval $$'a\\nb'\n"
    )


def test_dockerfile_leaves_to_docker_only_what_it_reads_as_a_shell_does(client: Client) -> None:
    ulid = record(
        client,
        *commands("apt-get update", "cat <<E\nx\nE", "echo a \\", "--mount=x ls", '["ls"]'),
        *commands("ls", cwd="/a b"),
        *commands("false", cwd="/tmp", exit_code=1),
    )

    _, _, body = exported(client, ulid, "dockerfile").partition("FROM ubuntu:24.04\n")
    assert body == (
        'SHELL ["/bin/bash","-c"]\n'
        "\nWORKDIR /src\nRUN apt-get update\n"
        '\nRUN ["/bin/bash","-c","cat <<E\\nx\\nE"]\n'
        '\nRUN ["/bin/bash","-c","eval \'echo a \\\\\'"]\n'
        '\nRUN ["/bin/bash","-c","--mount=x ls"]\n'
        '\nRUN ["/bin/bash","-c","[\\"ls\\"]"]\n'
        '\nRUN ["/bin/bash","-c","cd -- \'/a b\' || exit\\nls"]\n'
        "\nWORKDIR /tmp\n# exit code 1 when it was recorded\n"
        'RUN ["/bin/bash","-c","{\\nfalse\\n} || true"]\n'
    )


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_are_yaml_with_one_step_a_command(client: Client, name: str) -> None:
    ulid = record(client, *commands("make", "echo ${{ x }} <<< y"), *commands("false", cwd=None, exit_code=1))

    document = yaml_of(exported(client, ulid, name))
    steps = [text.removeprefix("(\n").removesuffix("\n)") for text in runs(name, document)]
    assert steps == ["cd -- /src\nmake", "cd -- /src\necho ${{ x }} <<< y", "{\nfalse\n} || true"]


def test_marks_of_a_service_are_escaped_in_titles_too(client: Client) -> None:
    ulid = record(client, *commands("echo ${{ github.token }}", "echo << pipeline.id >>", cwd=None))

    assert "name: \"1: echo ${{ '${{' }} github.token }}\"" in exported(client, ulid, "github-action")
    assert 'name: "2: echo \\\\<< pipeline.id >>"' in exported(client, ulid, "circleci")


def test_a_session_without_commands_makes_no_script(client: Client) -> None:
    ulid = record(client, ("output", "x", {}), *commands(" \t"))

    for name in SCRIPTS:
        with pytest.raises(
            Failure, match="has no commands to make a script of; try -F cast or -F txt"
        ) as why:
            exported(client, ulid, name)
        assert why.value.code is ExitCode.NEGATIVE


# --- they are really run


def test_the_bash_script_does_what_was_done(client: Client) -> None:
    ulid = record(
        client,
        *commands(*ODD[:7], cwd="/"),
        *commands("x=kept", "false", 'echo "$x $PWD"', cwd="/tmp", exit_code=1),
    )

    script = exported(client, ulid, "bash")
    assert subprocess.run(["bash", "-n"], input=script.encode(), capture_output=True).stderr == b""
    assert bash(script) == (
        "it's /root\n"
        "multi 2\n  'odd \"quotes\n\ttab\n"
        "$HOME `x`\n"
        "a\nb\n"
        "${{ x }}\n<< y >>\na\\\ntab\there\n"
        "started oddly\n"
        "ends with a backslash \\"
        "kept /tmp\n"
    )


def test_make_does_what_was_done(client: Client, tmp_path: Path) -> None:
    ulid = record(client, *commands(*ODD[:5], cwd="/"), *commands("false", "pwd", cwd="/tmp", exit_code=1))

    printed = make(exported(client, ulid, "makefile"), tmp_path)
    assert printed == (
        "it's /root\n"
        "multi 2\n  'odd \"quotes\n\ttab\n"
        "$HOME `x`\n"
        "a\nb\n"
        "${{ x }}\n<< y >>\na\\\ntab\there\n"
        "/tmp\n"
    )


def test_a_command_that_does_not_close_swallows_nothing(client: Client) -> None:
    open_ended = ["echo 'a", 'echo "b', "cat <<EOF\nc", "echo d \\", "echo $'e", "cat <<A <<B\nx\nA", "( f"]
    ulid = record(
        client, *commands(*open_ended[:-1], cwd=None, exit_code=1), *commands("echo last", cwd=None)
    )

    printed = bash(exported(client, ulid, "bash") + "echo after\n")
    assert printed.endswith("last\nafter\n")


@MANY
@given(TEXTS)
def test_any_text_survives_bash_as_a_command(text: str) -> None:
    command = f"printf %s {shlex.quote(text)}"

    assert verbatim(command) == command
    assert bash(verbatim(command)) == text
    assert bash(f"printf %s {word(text)}") == text


@MANY
@given(TEXTS)
def test_no_text_reaches_beyond_itself_in_bash(text: str) -> None:
    lines = [verbatim(text), "builtin echo; builtin printf MARK"]
    script = "\n".join(lines)

    # Only whether the shell gets to the second line is asked: nothing of the text is run.
    result = subprocess.run(["bash", "-n"], input=script.encode(), capture_output=True, timeout=30)
    if result.returncode == 0:
        assert b"here-document" not in result.stderr
        assert b"unexpected EOF" not in result.stderr


@pytest.mark.skipif(not Path("/usr/bin/make").exists(), reason="GNU make is not installed")
@MANY
@given(text=TEXTS, cwd=st.sampled_from([None, "/", "/tmp"]))
def test_any_text_survives_make(tmp_path_factory: pytest.TempPathFactory, text: str, cwd: str | None) -> None:
    line = recipe(step(f"printf %s {shlex.quote(text)}", directory=cwd))

    assert "\n" not in line
    directory = tmp_path_factory.mktemp("make")
    assert make(f"SHELL := /bin/bash\nall:\n\t{line}\n", directory) == text


@settings(max_examples=500, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_any_text_survives_yaml(text: str) -> None:
    lines = f"  - {scalar(text, 6)}\n  - {quoted(text)}\n"

    assert yaml_of(f"- next\n-\n{lines}- last\n") == ["next", [text, text], "last"]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["a", " ", "\n", "\t", "#", "- b", ": ", "'", '"', "\\", "|", "%", "\u2028"]))
)
def test_any_layout_survives_yaml(parts: list[str]) -> None:
    text = "".join(parts)

    assert yaml_of(f"- k: {scalar(text, 4)}\n- last\n") == [{"k": text}, "last"]


@pytest.mark.parametrize("name", PIPELINES)
def test_odd_commands_come_through_every_pipeline(client: Client, name: str) -> None:
    ulid = record(client, *commands(*ODD, cwd=None))

    texts = runs(name, yaml_of(exported(client, ulid, name)))
    assert [text.removeprefix("(\n").removesuffix("\n)") for text in texts] == [verbatim(odd) for odd in ODD]


def test_the_marks_of_the_services_come_back() -> None:
    assert github_text("a ${{ b }} ${{{{") == "a ${{ '${{' }} b }} ${{ '${{' }}{{"
    assert circleci_text("cat <<EOF <<< x") == "cat \\<<EOF \\<<< x"


def test_the_json_form_of_docker_is_the_command(client: Client) -> None:
    ulid = record(client, *commands(*ODD, cwd=None))

    lines = exported(client, ulid, "dockerfile").splitlines()
    told = [line.removeprefix("RUN ") for line in lines if line.startswith("RUN ")]
    meant = [json.loads(text)[2] if text.startswith("[") else text for text in told]
    assert meant == [verbatim(odd) for odd in ODD]


# --- parameters


def test_a_parameter_takes_the_place_of_its_name_in_braces(client: Client) -> None:
    ulid = record(
        client, *commands("curl {{URL}} '{{URL}}' \"{{URL}}\" --name={{NAME}} {{ x }}", cwd="/{{NAME}}")
    )

    script = exported(client, ulid, "bash", parameters={"URL": "a'b $c", "NAME": "plain"})
    assert "curl 'a'\"'\"'b $c' 'a'\\''b $c' \"a'b \\$c\" --name=plain {{ x }}\n" in script
    assert "cd -- /plain\n" in script


def test_without_parameters_braces_mean_what_they_meant(client: Client) -> None:
    ulid = record(client, *commands("gh pr view --template '{{title}}'"))

    assert "gh pr view --template '{{title}}'\n" in exported(client, ulid, "bash")


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"A": "1"}, r"no value for {{B}}; give one with --param B=VALUE"),
        ({"A": "1", "B": "2", "C": "3"}, r"--param C: no command has {{C}}; there are: A, B"),
        ({"A": "1", "B": "not plain"}, r"--param B: {{B}} stands where such a value cannot be quoted"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(
    client: Client, parameters: dict[str, str], said: str
) -> None:
    ulid = record(client, *commands("echo {{A}}", "echo $(cat {{B}})"))

    with pytest.raises(Failure) as why:
        exported(client, ulid, "bash", parameters=parameters)
    assert str(why.value).startswith(said)
    assert why.value.code is ExitCode.USAGE


def test_the_command_line_takes_parameters(sessionctl: Sessionctl, client: Client) -> None:
    ulid = record(client, *commands("echo {{A}} {{B}}"))

    script = sessionctl.out("export", ulid, "-F", "bash", "--param", "A=1", "--param", "B=x=y")
    assert "echo 1 x=y\n" in script
    missing = sessionctl("export", ulid, "-F", "bash", "--param", "A=1")
    assert (missing.returncode, missing.stderr.count(b"\n")) == (2, 1)


def test_recorded_home_user_and_host_become_variables(client: Client) -> None:
    ulid = record(
        client,
        *commands("echo /home/ada/x '/home/ada/y' \"z/home/ada\" ada@box", cwd="/home/ada/src"),
        *commands("echo /home/adam nevada ~ada $(echo ada) 'it is ada'", cwd="/srv"),
    )

    script = exported(client, ulid, "bash", detect=True)
    assert 'export HOME="${HOME:-/home/ada}"\n' in script
    assert 'export USER="${USER:-ada}"\n' in script
    assert 'export HOST="${HOST:-box}"\n' in script
    assert 'cd -- "${HOME}"/src\n' in script
    assert 'echo "${HOME}"/x \'\'"${HOME}"\'/y\' "z/home/${USER}" "${USER}"@"${HOST}"\n' in script
    # Where a variable might not stand, what was recorded does.
    assert "echo /home/adam nevada ~ada $(echo ada) 'it is ada'\n" in script
    printed = bash(script.replace("cd -- ", ": "), HOME="/home/eve", USER="eve", HOST="cube")
    assert printed.splitlines()[0] == "/home/eve/x /home/eve/y z/home/eve eve@cube"


def test_a_parameter_settles_what_was_detected(client: Client) -> None:
    ulid = record(client, *commands("ls /home/ada"))

    script = exported(client, ulid, "bash", detect=True, parameters={"HOME": "/opt/app"})
    assert "ls /opt/app\n" in script
    assert "export HOME" not in script


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("makefile", "export HOME ?= /home/ada\n"),
        ("dockerfile", "ARG HOME=/home/ada\n\nWORKDIR ${HOME}/src\n"),
        ("github-action", '          export HOME="${HOME:-/home/ada}"\n          cd -- "${HOME}"/src\n'),
        ("gitlab-ci", '      export HOME="${HOME:-/home/ada}"\n      cd -- "${HOME}"/src\n'),
        ("circleci", '            export HOME="${HOME:-/home/ada}"\n            cd -- "${HOME}"/src\n'),
    ],
)
def test_variables_are_declared_as_each_format_does(client: Client, name: str, declared: str) -> None:
    ulid = record(client, *commands("ls", cwd="/home/ada/src"))

    assert declared in exported(client, ulid, name, detect=True)


@MANY
@given(TEXTS.filter(lambda text: not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in text)))
def test_any_value_stays_one_word_wherever_it_stands(value: str) -> None:
    parameters = Parameters({"V": value}, {})

    command = parameters.command("printf '%s\\n' {{V}} '{{V}}' \"{{V}}\" x{{V}}")
    assert bash(command) == f"{value}\n{value}\n{value}\nx{value}\n"
