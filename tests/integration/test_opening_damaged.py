"""Opening a store whose files do not fit: nothing acknowledged is given up in silence, and what is only a cache is
rebuilt."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from margin_stream.host.embedded import Host
from margin_stream.journal import highwater, log_end
from margin_stream.journal import log as logs
from margin_stream.journal.disk import Disk
from margin_stream.journal.layout import CorruptManifest, StoreLocked
from margin_stream.journal.records import HEADER, CorruptLog, segment_header, segment_name, segments
from margin_stream.replay.verification import verify
from tests.days import random_day
from tests.folding import fold

LINES = random_day(5, accounts=10, steps=300, noisy=True)
REFERENCE = fold(LINES)[0]


def make(path: Path, lines: list[bytes] = LINES, *, segment_limit: int = logs.SEGMENT_LIMIT) -> Path:
    with Host(path, partitions=2, group_items=20, checkpoint_items=120, segment_limit=segment_limit) as host:
        host.ingest(lines)
    return path


def segment(path: Path, log: str = "journal", first: int = 1) -> Path:
    return path / log / segment_name(first)


@pytest.mark.slow(reason="opens many damaged stores")
@pytest.mark.parametrize("missing", [1, 100, 5000])
def test_a_journal_that_is_shorter_than_its_checkpoint_is_refused_with_the_tables_there(
    tmp_path: Path, missing: int
) -> None:
    whole = segment(make(tmp_path / "s")).read_bytes()
    segment(tmp_path / "s").write_bytes(whole[:-missing])
    with pytest.raises(CorruptLog) as damage:
        Host(tmp_path / "s")
    assert damage.value.path == segment(tmp_path / "s")
    assert segment(tmp_path / "s").stat().st_size == len(whole) - missing, "nothing is cut or added"


def test_a_damaged_record_in_the_last_segment_is_found_on_opening_though_a_checkpoint_covers_it(tmp_path: Path) -> None:
    data = bytearray(segment(make(tmp_path / "s")).read_bytes())
    data[len(data) // 2] ^= 16
    segment(tmp_path / "s").write_bytes(data)
    with pytest.raises(CorruptLog, match="does not match its checksum"):
        Host(tmp_path / "s")


@pytest.mark.slow(reason="opens many damaged stores")
def test_tables_of_another_store_are_rebuilt_not_believed(tmp_path: Path) -> None:
    make(tmp_path / "s")
    make(tmp_path / "other", random_day(6, accounts=10, steps=200))
    shutil.rmtree(tmp_path / "s" / "tables")
    shutil.copytree(tmp_path / "other" / "tables", tmp_path / "s" / "tables")
    assert {problem.file for problem in verify(tmp_path / "s").problems} >= {str(tmp_path / "s" / "tables" / "intake")}
    with Host(tmp_path / "s") as host:
        assert host.system.digests() == REFERENCE
        assert any("rebuilt" in note for note in host.recovery.notes)
    assert verify(tmp_path / "s").ok


@pytest.mark.slow(reason="opens many damaged stores")
def test_tables_that_are_ahead_of_a_journal_that_was_rolled_back_are_named_by_verify_and_refused_by_the_writer(
    tmp_path: Path,
) -> None:
    make(tmp_path / "s", LINES[:200])
    shutil.copytree(tmp_path / "s", tmp_path / "backup")
    make(tmp_path / "s")
    for name in ("journal", "digests", "effects"):
        shutil.rmtree(tmp_path / "s" / name)
        shutil.copytree(tmp_path / "backup" / name, tmp_path / "s" / name)
    found = verify(tmp_path / "s")
    assert "acknowledged records are gone" in " ".join(problem.what for problem in found.problems)
    with pytest.raises(CorruptLog, match="acknowledged records are gone"):
        Host(tmp_path / "s")


@pytest.mark.slow(reason="opens many damaged stores")
def test_a_stale_checkpoint_is_a_start_like_any_other(tmp_path: Path) -> None:
    make(tmp_path / "s", LINES[:200])
    shutil.copytree(tmp_path / "s" / "tables", tmp_path / "old")
    make(tmp_path / "s")
    shutil.rmtree(tmp_path / "s" / "tables")
    shutil.move(tmp_path / "old", tmp_path / "s" / "tables")
    assert any("the tables stand at sequence number" in problem.what for problem in verify(tmp_path / "s").problems)
    with Host(tmp_path / "s") as host:
        assert 0 < host.recovery.from_sequence < REFERENCE.sequence
        assert host.system.digests() == REFERENCE
    assert verify(tmp_path / "s").ok


@pytest.mark.slow(reason="opens many damaged stores")
def test_a_whole_segment_that_is_not_part_of_the_log_is_named_and_never_deleted(tmp_path: Path) -> None:
    make(tmp_path / "s", segment_limit=4000)
    firsts = segments(tmp_path / "s" / "journal")
    assert len(firsts) > 4
    for name in (segment_name(10_000), segment_name(firsts[2] + 1)):
        stray = tmp_path / "s" / "journal" / name
        shutil.copy(segment(tmp_path / "s", first=firsts[1]), stray)
        assert [problem.file for problem in verify(tmp_path / "s", fold=False).problems] == [str(stray)]
        if name == segment_name(10_000):
            with pytest.raises(CorruptLog, match="not part of the log"):
                Host(tmp_path / "s")
        assert stray.exists()
        stray.unlink()
    assert verify(tmp_path / "s").ok


@pytest.mark.slow(reason="opens many damaged stores")
def test_files_with_other_names_are_none_of_the_logs(tmp_path: Path) -> None:
    make(tmp_path / "s")
    shutil.copy(segment(tmp_path / "s"), tmp_path / "s" / "journal" / "1.seg")
    (tmp_path / "s" / "journal" / "copy of 1.seg").write_bytes(b"x")
    assert verify(tmp_path / "s").ok
    with Host(tmp_path / "s") as host:
        assert host.system.digests() == REFERENCE


@pytest.mark.slow_after(1, reason="opens many damaged stores")
@pytest.mark.parametrize("content", [b"", b"\0" * 68, b"MSLOG001" + b"\0" * 20])
def test_a_segment_that_was_being_made_is_removed_and_reported(tmp_path: Path, content: bytes) -> None:
    make(tmp_path / "s")
    identity = Host(tmp_path / "s").close()
    assert identity == REFERENCE
    mark = highwater.read(tmp_path / "s" / "journal" / "highwater", store_id(tmp_path / "s"))
    making = segment(tmp_path / "s", first=mark.cut.number + 1)
    making.write_bytes(content)
    assert verify(tmp_path / "s").torn_tail_bytes == len(content)
    with Host(tmp_path / "s") as host:
        assert host.recovery.cut_bytes == len(content)
        assert host.system.digests() == REFERENCE
    assert not making.exists()


def store_id(path: Path) -> bytes:
    from margin_stream.journal.layout import Layout, read_manifest

    return read_manifest(Layout(path)).identity


def test_a_segment_with_records_but_a_broken_header_is_damage_not_a_segment_in_the_making(tmp_path: Path) -> None:
    make(tmp_path / "s")
    mark = highwater.read(tmp_path / "s" / "journal" / "highwater", store_id(tmp_path / "s"))
    making = segment(tmp_path / "s", first=mark.cut.number + 1)
    header = bytearray(segment_header(store_id(tmp_path / "s"), mark.cut.number + 1, mark.cut.chain))
    header[70 % HEADER.size] ^= 1
    making.write_bytes(bytes(header) + b"\x01" * 40)
    with pytest.raises(CorruptLog) as damage:
        Host(tmp_path / "s")
    assert damage.value.path == making


@pytest.mark.slow(reason="opens many damaged stores")
def test_a_torn_tail_beside_a_damaged_slot_is_not_cut(tmp_path: Path) -> None:
    """The slot that is left may be the older one, so the torn record may have been acknowledged; no crash leaves
    both."""
    make(tmp_path / "s")
    path = tmp_path / "s" / "journal" / "highwater"
    mark = highwater.read(path, store_id(tmp_path / "s"))
    data = bytearray(path.read_bytes())
    data[(mark.writes % 2) * highwater.SLOT_SPACING + 40] ^= 1
    path.write_bytes(data)
    whole = segment(tmp_path / "s").read_bytes()
    segment(tmp_path / "s").write_bytes(whole[:-5])
    shutil.rmtree(tmp_path / "s" / "tables")
    with pytest.raises(CorruptLog, match="it may have been acknowledged"):
        Host(tmp_path / "s")
    segment(tmp_path / "s").write_bytes(whole)
    with Host(tmp_path / "s") as host:
        assert host.system.digests() == REFERENCE
        assert any("slot" in note for note in host.recovery.notes)


def test_a_place_that_the_medium_cannot_read_is_named_and_never_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "s")
    host = Host(tmp_path / "s")
    host._journal.append(b"\x90" * 60)
    host._journal.write()
    host.abandon()
    size = segment(tmp_path / "s").stat().st_size
    from margin_stream.journal import records

    def failing(self: Path, *words: object, **more: object) -> object:
        file = original(self, *words, **more)  # type: ignore[arg-type]
        if self.name.endswith(".seg") and self.parent.name == "journal":
            read = file.read

            def broken(length: int = -1) -> bytes:
                if file.tell() > size - 80:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                return read(length)

            return Proxy(file, broken)
        return file

    original = Path.open
    monkeypatch.setattr(records.Path, "open", failing)
    with pytest.raises(CorruptLog, match="cannot be read"):
        log_end.find_end(
            tmp_path / "s" / "journal",
            store_id(tmp_path / "s"),
            highwater.read(tmp_path / "s" / "journal" / "highwater", store_id(tmp_path / "s")),
        )
    monkeypatch.undo()
    assert segment(tmp_path / "s").stat().st_size == size


class Proxy:
    """A file whose reads are another function."""

    def __init__(self, file: object, read: object) -> None:
        self._file, self.read = file, read

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()  # type: ignore[attr-defined]


def test_a_journal_without_manifest_is_a_damaged_store_not_a_missing_one(tmp_path: Path) -> None:
    make(tmp_path / "s")
    (tmp_path / "s" / "manifest.json").unlink()
    found = verify(tmp_path / "s")
    assert [(problem.file, problem.offset) for problem in found.problems] == [
        (str(tmp_path / "s" / "manifest.json"), 0)
    ]
    with pytest.raises(CorruptManifest):
        Host(tmp_path / "s")


class FullDisk(Disk):
    """Has no room for writes once told so."""

    full = False

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        if self.full:
            with self._named(descriptor):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(descriptor, data, offset)


@pytest.mark.slow(reason="opens many damaged stores")
def test_an_open_that_fails_lets_go_of_everything(tmp_path: Path) -> None:
    """Descriptors, databases and the lock: the same process can try again, and opens what it has."""
    make(tmp_path / "s", LINES[:100])
    host = Host(tmp_path / "s")
    host.ingest(LINES[100:110])
    host.abandon()
    disk = FullDisk()
    disk.full = True
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            Host(tmp_path / "s", disk=disk)
    assert len(os.listdir("/proc/self/fd")) == before
    disk.full = False
    with Host(tmp_path / "s", disk=disk) as again:
        again.ingest(LINES)
        assert again.checkpoint() == REFERENCE


def test_a_writer_that_failed_gives_the_lock_back(tmp_path: Path) -> None:
    disk = FullDisk()
    host = Host(tmp_path / "s", disk=disk, group_items=10)
    disk.full = True
    with pytest.raises(OSError, match=r"No space left.*journal"):
        host.ingest(LINES)
    with pytest.raises(StoreLocked):
        Host(tmp_path / "s")
    host.abandon()
    host.abandon()
    with Host(tmp_path / "s") as again:
        again.ingest(LINES)
        assert again.checkpoint() == REFERENCE
