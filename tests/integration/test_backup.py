"""Backups beside a writer: whole at any moment, incremental, damage is found and not copied; restored elsewhere they go on
as if nothing had been lost."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from pathlib import Path
from random import Random

import pytest

from margin_stream.host.backup import BackupDiffers, back_up
from margin_stream.host.embedded import Host
from margin_stream.host.lock import Lock
from margin_stream.journal.disk import Disk
from margin_stream.journal.layout import Layout, StoreLocked
from margin_stream.journal.records import CorruptLog
from margin_stream.replay.replay import replay
from margin_stream.replay.verification import verify
from tests.days import random_day
from tests.folding import fold
from tests.integration.test_errors import command


@pytest.fixture
def lines() -> list[bytes]:
    return random_day(61, accounts=6, steps=400)


def written(path: Path, lines: list[bytes], **given: int) -> Path:
    with Host(path, partitions=3, group_items=10, checkpoint_items=100, **given) as host:
        host.ingest(lines)
    return path


def test_a_backup_is_restored_elsewhere_and_goes_on(
    tmp_path: Path, lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    half = len(lines) // 2
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "s", lines[:half])
    code, _, out = command("backup", "copy", "--store", "s")
    assert code == 0
    assert json.loads(out)["records"] == json.loads(out)["copied"] > 0
    shutil.rmtree("s")
    shutil.copytree("copy", "elsewhere")
    assert verify(tmp_path / "elsewhere").ok
    written(tmp_path / "elsewhere", lines)
    assert replay(tmp_path / "elsewhere").equal
    with Host(tmp_path / "elsewhere") as host:
        assert host.system.digests() == fold(lines)[0]


def test_every_backup_beside_a_writer_is_whole(tmp_path: Path, lines: list[bytes]) -> None:
    """Small segments, so that they change while they are copied."""
    store, copy = tmp_path / "s", tmp_path / "copy"
    done = threading.Event()

    def write() -> None:
        with Host(store, partitions=3, group_items=3, checkpoint_items=50, segment_limit=4000) as host:
            for line in lines:
                host.ingest([line])
        done.set()

    Host(store, partitions=3).close()
    writer = threading.Thread(target=write)
    writer.start()
    sizes = []
    while not done.is_set():
        sizes.append(back_up(store, copy).records)
        found = verify(copy, tables=False)
        assert found.problems == []
        assert found.records == sizes[-1]
    writer.join()
    last = back_up(store, copy)
    assert last.records > sizes[0]
    assert sizes == sorted(sizes)
    assert back_up(store, copy).copied == 0
    shutil.copytree(copy, tmp_path / "restored")
    with Host(tmp_path / "restored") as host:
        assert host.system.digests() == fold(lines)[0]


class Stopping(Disk):
    """The machine stops at the n-th call."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        if self.left == 0:
            super().write(descriptor, data[: len(data) // 2], offset)
        self._count()
        super().write(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        self._count()
        super().sync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)


def test_a_backup_that_was_stopped_anywhere_is_completed_by_the_next(tmp_path: Path, lines: list[bytes]) -> None:
    store = written(tmp_path / "s", lines[:200], segment_limit=2000)
    rng = Random(5)
    calls = 0
    while True:
        copy = tmp_path / f"c{calls}"
        try:
            back_up(store, copy, disk=Stopping(calls))
            break
        except KeyboardInterrupt:
            pass
        if rng.random() < 0.5 and copy.exists():
            with contextlib.suppress(KeyboardInterrupt):
                back_up(store, copy, disk=Stopping(rng.randrange(8)))
        back_up(store, copy)
        assert verify(copy, tables=False).ok
        shutil.rmtree(copy)
        calls += 1
    assert calls > 10


def test_damage_is_named_and_not_copied(tmp_path: Path, lines: list[bytes]) -> None:
    store, copy = written(tmp_path / "s", lines[:200]), tmp_path / "copy"
    back_up(store, copy)
    before = verify(copy, tables=False)
    written(store, lines)
    path = next(Layout(store).journal.glob("*.seg"))
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptLog, match="offset"):
        back_up(store, copy)
    after = verify(copy, tables=False)
    assert after.ok
    assert after.records >= before.records
    code, rows, _ = command("backup", str(copy), "--store", str(store))
    assert (code, rows[0]["code"]) == (4, "journal_damaged")


def test_the_store_itself_and_a_folder_in_use_are_refused(tmp_path: Path, lines: list[bytes]) -> None:
    """Else the copy would be written under the hands of a writer."""
    store, copy = written(tmp_path / "s", lines[:100]), tmp_path / "copy"
    (tmp_path / "link").symlink_to(store)
    for same in (store, tmp_path / "link", tmp_path / "copy" / ".." / "s"):
        copy.mkdir(exist_ok=True)
        with pytest.raises(BackupDiffers, match="the store itself"):
            back_up(store, same)
    back_up(store, copy)
    lock = Lock(Layout(copy).lock)
    with pytest.raises(StoreLocked):
        back_up(store, copy)
    lock.release()
    back_up(store, copy)
    # Opened for writing, it is a store with a past of its own.
    Host(copy).close()
    with pytest.raises(BackupDiffers, match="the backup has"):
        back_up(store, copy)


def test_another_store_and_another_past_are_refused(tmp_path: Path, lines: list[bytes]) -> None:
    store, copy = written(tmp_path / "s", lines[:100]), tmp_path / "copy"
    back_up(store, copy)
    old = shutil.copytree(copy, tmp_path / "old")
    other = written(tmp_path / "other", lines[:100])
    with pytest.raises(BackupDiffers, match="another store"):
        back_up(other, copy)
    written(store, lines[:200])
    back_up(store, copy)
    # Restored from the older backup, the store goes on otherwise: first shorter, then longer.
    with pytest.raises(BackupDiffers, match="the backup has"):
        back_up(old, copy)
    written(old, [*lines[:100], *random_day(62, accounts=6, steps=900)])
    with pytest.raises(BackupDiffers, match="is not that of the store"):
        back_up(old, copy)
    assert verify(copy, tables=False).ok
