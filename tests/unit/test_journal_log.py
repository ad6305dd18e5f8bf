"""A log of segments: what is durable stays, what was never acknowledged is cut, and whatever is missing is named with
its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from margin_stream.journal import highwater
from margin_stream.journal import log as logs
from margin_stream.journal.disk import Disk
from margin_stream.journal.log import START, LogWriter, read
from margin_stream.journal.records import HEADER, CorruptLog, Cut, Record, record_bytes, segment_header, segment_name
from tests.faults import ForgetfulDisk, Stopped, StoppingDisk

STORE = bytes(range(16))
PAYLOADS = [b"payload %d" % n * (n % 5) for n in range(1, 13)]


def opened(folder: Path, disk: Disk | None = None, **more: object) -> LogWriter:
    disk = disk or Disk()
    if not folder.exists():
        logs.create(folder, STORE, disk)
    return LogWriter(folder, STORE, disk, **more)  # type: ignore[arg-type]


def filled(folder: Path, payloads: list[bytes] = PAYLOADS, segment_limit: int = 150) -> list[Cut]:
    """Write a log of several segments and return the cut behind each record."""
    writer = opened(folder, segment_limit=segment_limit)
    cuts = []
    for payload in payloads:
        cuts.append(writer.append(payload))
        writer.sync()
    writer.close()
    return cuts


def payloads(folder: Path, cut: Cut = START, **more: int) -> list[bytes]:
    return [record.payload for record in read(folder, STORE, cut, **more)]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_log_is_empty_and_whole(tmp_path: Path) -> None:
    disk = StoppingDisk()
    folder = tmp_path / "a" / "log"
    writer = opened(folder, disk)
    assert (writer.durable, writer.end) == (START, Cut(0, 1, 68, bytes(32)))
    assert (writer.warnings, writer.cut_bytes) == ([], 0)
    assert files(folder) == [segment_name(1), "highwater"]
    assert (folder / segment_name(1)).read_bytes() == segment_header(STORE, 1, bytes(32))
    assert (folder / "highwater").read_bytes() == highwater.first_bytes(STORE)
    assert payloads(folder) == []
    # The mark first, then the segment, each with its name in the folder; opening for writing changes nothing.
    assert disk.calls == [
        *("create", "write", "sync", "rename", "sync_folder"),
        *("create", "write", "sync", "sync_folder"),
        *("open", "open"),
    ]
    writer.close()


def test_two_logs_are_not_made_in_one_place(tmp_path: Path) -> None:
    logs.create(tmp_path / "log", STORE, Disk())
    with pytest.raises(FileExistsError):
        logs.create(tmp_path / "log", STORE, Disk())


def test_nothing_is_durable_before_it_was_synced_and_then_all_of_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    disk = StoppingDisk()
    writer = opened(folder, disk)
    disk.calls.clear()
    first = writer.append(b"one")
    assert (first.number, first.segment, first.offset) == (1, 1, 68 + 16 + 3)
    assert writer.append(b"two") == writer.end
    assert writer.durable == START
    assert disk.calls == []
    cut = writer.write()
    assert cut == writer.end
    assert writer.durable == START
    assert disk.calls == ["write"]
    assert payloads(folder) == []
    writer.make_durable(cut)
    assert writer.durable == cut
    # The records are on the disk before the mark says so, and the mark before anybody hears of it.
    assert disk.calls == ["write", "sync", "write", "sync"]
    assert payloads(folder) == [b"one", b"two"]
    writer.sync()
    assert disk.calls == ["write", "sync", "write", "sync"]
    writer.close()
    assert highwater.read(folder / "highwater", STORE).cut == cut


def test_segments_follow_each_other_and_each_cut_reads_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    cuts = filled(folder)
    assert len(files(folder)) > 4
    found = list(read(folder, STORE))
    assert [(record.number, record.payload, record.cut) for record in found] == [
        (n, payload, cut) for n, (payload, cut) in enumerate(zip(PAYLOADS, cuts, strict=True), start=1)
    ]
    for n, cut in enumerate(cuts, start=1):
        assert payloads(folder, cut) == PAYLOADS[n:]
        assert payloads(folder, upto=n) == PAYLOADS[:n]
    assert payloads(folder, cuts[3], upto=7) == PAYLOADS[4:7]
    assert payloads(folder, cuts[6], upto=3) == []
    assert payloads(folder, upto=0) == []


@pytest.mark.parametrize(("limit", "count"), [(68 + 16 + 4, 1), (68 + 16 + 5, 1), (68 + 16 + 6, 2)])
def test_a_segment_that_has_reached_its_limit_is_followed_by_a_new_one(tmp_path: Path, limit: int, count: int) -> None:
    folder = tmp_path / "log"
    filled(folder, [b"12345"] * 4, limit)
    firsts = [1 + count * n for n in range(-(-4 // count))]
    assert files(folder) == [*(segment_name(first) for first in firsts), "highwater"]
    assert payloads(folder) == [b"12345"] * 4


def test_an_old_segment_is_durable_before_the_next_one_begins(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    disk = StoppingDisk()
    writer = opened(folder, disk, segment_limit=90)
    writer.append(b"x" * 40)
    disk.calls.clear()
    writer.append(b"y")
    assert disk.calls == ["write", "sync", "write", "sync", "create", "write", "sync", "sync_folder"]
    assert writer.durable.number == 1
    assert writer.end.segment == 2
    assert (folder / segment_name(2)).read_bytes()[:68] == segment_header(STORE, 2, writer.durable.chain)
    writer.sync()
    writer.close()
    again = opened(folder)
    assert again.append(b"z") == Cut(3, 2, again.end.offset, again.end.chain)
    again.sync()
    again.close()
    assert payloads(folder) == [b"x" * 40, b"y", b"z"]


def test_the_default_segment_has_sixty_four_mebibytes() -> None:
    assert logs.SEGMENT_LIMIT == 64 << 20


def test_a_log_goes_on_where_it_ended_from_any_cut_that_is_known(tmp_path: Path) -> None:
    for place in range(len(PAYLOADS) + 1):
        folder = tmp_path / str(place)
        cuts = [START, *filled(folder)]
        writer = opened(folder, after=cuts[place], segment_limit=150)
        assert (writer.end, writer.durable) == (cuts[-1], cuts[-1])
        assert writer.cut_bytes == 0
        cut = writer.append(b"more")
        writer.sync()
        writer.close()
        assert payloads(folder) == [*PAYLOADS, b"more"]
        assert highwater.read(folder / "highwater", STORE).cut == cut


def test_a_torn_tail_is_cut_and_counted_and_whole_records_behind_the_mark_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    cuts = filled(folder, PAYLOADS[:3], 10_000)
    path = folder / segment_name(1)
    whole = path.read_bytes()
    path.write_bytes(whole + record_bytes(4, b"whole") + record_bytes(5, b"torn")[:-1])
    assert payloads(folder) == PAYLOADS[:3]
    disk = StoppingDisk()
    writer = opened(folder, disk)
    assert writer.cut_bytes == 16 + 3
    assert path.read_bytes() == whole + record_bytes(4, b"whole")
    assert writer.end.number == writer.durable.number == 4
    assert writer.end.offset == len(whole) + 16 + 5
    assert disk.calls == ["open", "truncate", "sync", "open", "open", "sync", "write", "sync"]
    writer.append(b"five")
    writer.sync()
    writer.close()
    assert payloads(folder) == [*PAYLOADS[:3], b"whole", b"five"]
    assert payloads(folder, cuts[2]) == [b"whole", b"five"]


def test_segments_behind_the_end_are_removed_and_counted(tmp_path: Path) -> None:
    """A writer died while it made a new segment: its header is incomplete, nothing in it was acknowledged."""
    for length in (0, 1, 67):
        folder = tmp_path / str(length)
        cuts = filled(folder, PAYLOADS[:3], 10_000)
        extra = folder / segment_name(4)
        extra.write_bytes(segment_header(STORE, 4, cuts[-1].chain)[:length])
        disk = StoppingDisk()
        writer = opened(folder, disk, segment_limit=10)
        assert writer.cut_bytes == length
        assert files(folder) == [segment_name(1), "highwater"]
        assert "sync_folder" in disk.calls
        assert writer.end == cuts[-1]
        writer.append(b"four")
        writer.sync()
        writer.close()
        assert files(folder) == [segment_name(1), segment_name(4), "highwater"]
        assert payloads(folder) == [*PAYLOADS[:3], b"four"]


def test_a_whole_empty_segment_behind_the_end_is_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    cuts = filled(folder, PAYLOADS[:3], 10_000)
    (folder / segment_name(4)).write_bytes(segment_header(STORE, 4, cuts[-1].chain))
    writer = opened(folder)
    assert writer.end == Cut(3, 4, HEADER.size, cuts[-1].chain)
    assert writer.cut_bytes == 0
    writer.append(b"four")
    writer.sync()
    writer.close()
    assert payloads(folder) == [*PAYLOADS[:3], b"four"]


def damage_read(folder: Path) -> CorruptLog:
    with pytest.raises(CorruptLog) as caught:
        payloads(folder)
    return caught.value


def damage_of(folder: Path, **more: object) -> CorruptLog:
    with pytest.raises(CorruptLog) as caught:
        opened(folder, **more)  # type: ignore[arg-type]
    return caught.value


def test_an_acknowledged_record_that_is_gone_is_a_fault_for_reader_and_writer(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    cuts = filled(folder, PAYLOADS[:3], 10_000)
    path = folder / segment_name(1)
    whole = path.read_bytes()
    path.write_bytes(whole[: cuts[1].offset])
    for damage in (damage_of(folder), damage_read(folder)):
        assert (damage.path, damage.offset) == (path, cuts[1].offset)
    assert damage_of(folder).what == "the log ends at record 2, but record 3 was durable"
    assert damage_read(folder).what == "the log ends at record 2, 3 was durable"
    path.write_bytes(whole[:-1])
    for damage in (damage_of(folder), damage_read(folder)):
        assert (damage.path, damage.offset) == (path, cuts[1].offset)
        assert damage.what == f"record 3 is torn: {len(PAYLOADS[2]) - 1} of {len(PAYLOADS[2])} bytes"
    assert payloads(folder, upto=2) == PAYLOADS[:2]


def test_a_segment_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    cuts = filled(folder)
    segment = cuts[-1].segment
    path = folder / segment_name(segment)
    path.unlink()
    assert damage_of(folder).what.startswith(f"the log ends at record {segment - 1}, but record 12 was durable")
    damage = damage_of(folder, after=cuts[-1])
    assert (damage.path, damage.offset, damage.what) == (path, 0, "the segment is missing")
    (folder / segment_name(1)).unlink()
    damage = damage_read(folder)
    assert (damage.path, damage.offset, damage.what) == (folder / segment_name(1), 0, "the segment is missing")


def test_a_damaged_header_of_a_segment_with_acknowledged_records_is_a_fault(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    cuts = filled(folder)
    for segment in sorted({cut.segment for cut in cuts}):
        path = folder / segment_name(segment)
        whole = path.read_bytes()
        path.write_bytes(whole[:20])
        for after in (START, Cut(segment - 1, segment, 0, bytes(32))):
            damage = damage_of(folder, after=after)
            assert (damage.path, damage.what) == (path, "the segment header is incomplete")
        path.write_bytes(whole)
    # The segment that holds the first record that is not acknowledged may be incomplete; the one before may not.
    last = folder / segment_name(cuts[-1].segment)
    mark = highwater.read(folder / "highwater", STORE)
    assert mark.cut == cuts[-1]
    last.write_bytes(last.read_bytes()[:3])
    assert damage_of(folder).path == last


def test_tables_that_know_more_than_the_mark_are_a_fault(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    cuts = filled(folder, PAYLOADS[:3], 10_000)
    opened(folder, after=cuts[-1]).close()
    damage = damage_of(folder, after=cuts[-1]._replace(number=4))
    assert (damage.path, damage.offset) == (folder / "highwater", 0)
    assert damage.what == (
        "the tables know record 4, the high-water mark is at 3: acknowledged records are gone, or the file is of an "
        "earlier time"
    )


def test_another_history_under_the_same_numbers_is_a_fault(tmp_path: Path) -> None:
    """The chain of the mark is that of the records: a log that was replaced by another of the same length is
    noticed."""
    folder, other = tmp_path / "log", tmp_path / "other"
    cuts = filled(folder, PAYLOADS[:3], 10_000)
    filled(other, [b"PAYLOAD 1", *PAYLOADS[1:3]], 10_000)
    path = folder / segment_name(1)
    path.write_bytes((other / segment_name(1)).read_bytes())
    damage = damage_of(folder)
    assert (damage.path, damage.offset) == (path, cuts[2].offset)
    assert damage.what == "record 3 does not have the chain of the high-water mark"


def test_a_mark_with_a_damaged_slot_is_written_anew_on_opening(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    cuts = filled(folder, PAYLOADS[:3], 10_000)
    path = folder / "highwater"
    whole = path.read_bytes()
    older = 0 if highwater.read(path, STORE).writes % 2 else 512
    path.write_bytes(whole[:older] + b"?" + whole[older + 1 :])
    writer = opened(folder)
    assert writer.durable == cuts[-1]
    found = highwater.read(path, STORE)
    assert (found.cut, found.damaged) == (cuts[-1], ())
    assert [text.partition(": ")[2] for text in writer.warnings] == [
        f"offset {older}: the slot does not match its checksum; written anew"
    ]
    writer.close()


def test_whatever_was_acknowledged_survives_a_power_cut(tmp_path: Path) -> None:
    for stop in range(len(PAYLOADS)):
        folder = tmp_path / str(stop)
        disk = ForgetfulDisk()
        writer = opened(folder, disk, segment_limit=150)
        for payload in PAYLOADS[:stop]:
            writer.append(payload)
            writer.sync()
        writer.append(PAYLOADS[stop])
        writer.write()
        disk.cut_power(folder)
        writer.close()
        again = opened(folder)
        assert again.durable.number == stop
        again.close()
        assert payloads(folder) == PAYLOADS[:stop]


@pytest.mark.slow(reason="stops a writer at every call to the disk")
def test_a_writer_that_stops_at_any_call_to_the_disk_leaves_a_log_that_opens(tmp_path: Path) -> None:
    counted = StoppingDisk()
    everything(tmp_path / "whole", counted, acknowledged := [])
    assert acknowledged == PAYLOADS
    for at in range(10, len(counted.calls) + 1):
        for torn in (None, 50):
            folder = tmp_path / f"{at}-{torn}"
            acknowledged = []
            with pytest.raises(Stopped):
                everything(folder, StoppingDisk(at, torn=torn), acknowledged)
            found = recovered(folder)
            assert found[: len(acknowledged)] == acknowledged
            assert found == PAYLOADS[: len(found)]


def everything(folder: Path, disk: Disk, acknowledged: list[bytes]) -> None:
    writer = opened(folder, disk, segment_limit=150)
    for payload in PAYLOADS:
        writer.append(payload)
        writer.sync()
        acknowledged.append(payload)
    writer.close()


def recovered(folder: Path) -> list[bytes]:
    writer = opened(folder, segment_limit=150)
    number = writer.append(b"after").number
    writer.sync()
    writer.close()
    found = list(read(folder, STORE))
    assert [record.number for record in found] == list(range(1, number + 1))
    assert isinstance(found[-1], Record)
    assert found[-1].payload == b"after"
    return [record.payload for record in found[:-1]]


def test_a_new_log_whose_first_segment_is_damaged_is_no_empty_log(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    logs.create(folder, STORE, Disk())
    path = folder / segment_name(1)
    path.write_bytes(path.read_bytes()[:50])
    damage = damage_of(folder)
    assert (damage.path, damage.offset, damage.what) == (path, 0, "the segment header is incomplete")
    assert path.exists()


def test_a_torn_record_is_cut_and_counted_and_a_stray_segment_is_never_removed(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    cuts = filled(folder, PAYLOADS[:3], 10_000)
    path = folder / segment_name(1)
    path.write_bytes(path.read_bytes() + b"torn")
    stray = folder / segment_name(5)
    stray.write_bytes(bytes(30))
    assert damage_of(folder).path == stray
    assert stray.stat().st_size == 30
    stray.unlink()
    writer = opened(folder)
    assert writer.cut_bytes == 4
    assert writer.end == cuts[-1]
    assert files(folder) == [segment_name(1), "highwater"]
    writer.close()
