"""Network file systems are named, by the doctor and by the writer."""

from __future__ import annotations

from pathlib import Path

import pytest

from margin_stream.doctor import machine
from margin_stream.host import recovery
from margin_stream.host.embedded import Host
from margin_stream.journal import file_systems

MOUNTS = """\
22 1 0:20 / / rw - ext4 /dev/sda rw
30 22 0:40 / /mnt/a\\040b rw - nfs4 server:/x rw
31 30 0:41 / /mnt/a\\040b/inner rw - xfs /dev/sdb rw
32 22 0:42 / /mnt/s rw - fuse.sshfs host: rw
"""


def test_the_mount_that_holds_a_place_is_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda _: MOUNTS)
    for place, kind in (
        ("/srv", "ext4"),
        ("/mnt/a b/c", "nfs4"),
        ("/mnt/a b/inner/d", "xfs"),
        ("/mnt/s", "fuse.sshfs"),
    ):
        assert file_systems.file_system(Path(place)) == kind


def test_a_network_file_system_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "file_system", lambda _: "nfs4")
    found = machine.syncing(tmp_path)
    assert (found.status, found.found) == ("problem", f"{tmp_path}: nfs4")
    monkeypatch.setattr(recovery, "file_system", lambda _: "nfs4")
    with Host(tmp_path / "s") as host:
        assert host.recovery.notes[0].startswith(f"{tmp_path / 's'}: nfs4: not supported")
    monkeypatch.undo()
    with Host(tmp_path / "s") as host:
        assert host.recovery.notes == ()
