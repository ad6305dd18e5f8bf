"""The calls to the disk: all of the data is written, wherever it belongs; a small file is replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from margin_stream.journal.disk import Disk


def test_a_file_is_made_once_and_only_for_its_owner(tmp_path: Path) -> None:
    disk = Disk()
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        disk.open(path)
    descriptor = disk.open(path, create=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert not os.get_inheritable(descriptor)
    disk.close(descriptor)
    with pytest.raises(FileExistsError):
        disk.open(path, create=True)
    again = disk.open(path)
    disk.write(again, b"both", 0)
    assert os.pread(again, 4, 0) == b"both"
    disk.close(again)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(again)


def test_a_write_goes_on_until_all_of_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    descriptor = disk.open(tmp_path / "file", create=True)
    real = os.pwrite
    places: list[int] = []

    def some(descriptor: int, data: bytes, offset: int) -> int:
        places.append(offset)
        return real(descriptor, bytes(data)[:3], offset)

    monkeypatch.setattr(os, "pwrite", some)
    disk.write(descriptor, b"0123456789", 5)
    disk.write(descriptor, b"", 3)
    assert (tmp_path / "file").read_bytes() == bytes(5) + b"0123456789"
    assert places == [5, 8, 11, 14]
    disk.truncate(descriptor, 7)
    assert (tmp_path / "file").read_bytes() == bytes(5) + b"01"
    disk.close(descriptor)


def test_syncing_asks_the_system_and_lets_go_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    descriptor = disk.open(tmp_path / "file", create=True)
    asked: list[object] = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: asked.append(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(os, "fsync", lambda descriptor: asked.append(os.fstat(descriptor).st_ino))
    disk.sync(descriptor)
    disk.close(descriptor)
    before = sorted(os.listdir("/proc/self/fd"))
    disk.sync_folder(tmp_path)
    assert asked == [(tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino]
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_replaced_file_is_the_old_or_the_new_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    disk = Disk()
    path = tmp_path / "file"
    (tmp_path / "file.new").write_bytes(b"left by one that died")
    for content in (b"first", b"second"):
        disk.replace(path, content)
        assert path.read_bytes() == content
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    disk.rename(path, tmp_path / "other")
    disk.remove(tmp_path / "other")
    assert list(tmp_path.iterdir()) == []


def test_a_replacement_that_cannot_be_written_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    path = tmp_path / "file"
    disk.replace(path, b"old")

    def full(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    before = sorted(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            disk.replace(path, b"new")
    assert path.read_bytes() == b"old"
    assert sorted(os.listdir("/proc/self/fd")) == before
