"""On what kind of file system a path is, as the system tells of its mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessiond_client import paths

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw - proc proc rw
40 22 0:40 / /home/u rw,nosuid - nfs4 server:/home rw
41 40 0:41 / /home/u/local rw - xfs /dev/sdb1 rw
42 22 0:42 / /mnt/with\\040space rw master:7 - fuse.sshfs u@host:/ rw
43 22 0:43 / /over rw - ext4 /dev/sdc1 rw
44 43 0:44 / /over rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/var/lib", "ext4", False),
        ("/home/u", "nfs4", True),
        ("/home/u/.local/share/sessiond", "nfs4", True),
        ("/home/u/local/share", "xfs", False),
        ("/home/user2", "ext4", False),
        ("/mnt/with space/data", "fuse.sshfs", True),
        ("/over/it", "cifs", True),
    ],
)
def test_the_innermost_and_latest_mount_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: str, network: bool
) -> None:
    monkeypatch.setattr(paths, "MOUNTS", tmp_path / "mountinfo")
    paths.MOUNTS.write_text(MOUNTS)

    assert paths.file_system(Path(path)) == kind
    assert paths.is_network(kind) is network


def test_a_system_that_does_not_tell_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "MOUNTS", tmp_path / "none")

    assert paths.file_system(tmp_path) is None
    assert not paths.is_network(None)


def test_the_real_system_tells() -> None:
    if not paths.MOUNTS.exists():
        pytest.skip("needs /proc")
    assert paths.file_system(Path("/proc/self")) == "proc"
