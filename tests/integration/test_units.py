"""The user units: valid for the oldest systemd we support, and saying what the code says."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sessiond.daemon import STOP_SECONDS_MAX
from sessiond.errors import EXIT_CONFIGURATION, EXIT_STORAGE, EXIT_TAKEN
from sessiond.publication import BACKLOG
from sessiond.storage.database import BUSY_TIMEOUT_MS
from sessiond.systemd import SOCKET_NAMES
from sessiond.watchdog import PINGS_PER_PERIOD, TRIAL_SHARE
from sessiond_client import paths

UNITS = Path(__file__).parents[2] / "systemd"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((UNITS / name).read_text())
    return parser


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    program = tmp_path / ".local" / "bin" / "sessiond"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}

    found = subprocess.run(
        ["systemd-analyze", "--user", "--man=no", "verify", *map(str, sorted(UNITS.iterdir()))],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_the_socket_is_where_clients_look() -> None:
    expected = paths.socket_path({"XDG_RUNTIME_DIR": "/runtime"})

    assert unit("sessiond.socket")["Socket"]["ListenStream"].replace("%t", "/runtime") == str(expected)


def test_the_socket_is_private_and_named_as_the_daemon_expects() -> None:
    socket = unit("sessiond.socket")["Socket"]

    assert socket["SocketMode"] == "0600"
    assert socket["DirectoryMode"] == "0700"
    assert socket["FileDescriptorName"] in SOCKET_NAMES
    assert int(socket["Backlog"]) == BACKLOG


def test_a_failed_disk_is_tried_again_and_a_refused_start_is_not() -> None:
    service = unit("sessiond.service")["Service"]
    prevented = {int(code) for code in service["RestartPreventExitStatus"].split()}

    assert service["Restart"] == "on-failure"
    assert prevented == {EXIT_TAKEN, EXIT_CONFIGURATION}
    assert EXIT_STORAGE not in prevented


def test_restarts_alone_never_reach_the_start_limit() -> None:
    parsed = unit("sessiond.service")
    starts = float(parsed["Unit"]["StartLimitIntervalSec"][:-1]) / float(parsed["Service"]["RestartSec"][:-1])

    assert starts < int(parsed["Unit"]["StartLimitBurst"])


def test_systemd_waits_longer_than_the_daemon_needs_to_stop() -> None:
    assert float(unit("sessiond.service")["Service"]["TimeoutStopSec"][:-1]) > 2 * STOP_SECONDS_MAX


def test_the_service_uses_nothing_that_breaks_or_is_ignored_in_a_user_unit() -> None:
    service = unit("sessiond.service")["Service"]
    hide_the_peers_user = {"PrivateUsers", "DynamicUser", "User"}
    move_or_remove_data = {"StateDirectory", "RuntimeDirectory", "ProtectHome"}

    assert service["Type"] == "notify"
    assert set(service).isdisjoint(hide_the_peers_user | move_or_remove_data)


def test_a_trial_before_a_ping_may_take_longer_than_anything_a_daemon_waits_for() -> None:
    period = float(unit("sessiond.service")["Service"]["WatchdogSec"][:-1])

    assert period / TRIAL_SHARE > BUSY_TIMEOUT_MS / 1000
    assert 1 / PINGS_PER_PERIOD + 1 / TRIAL_SHARE < 1
