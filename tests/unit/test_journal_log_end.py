"""How a log ends, from every place that tables may know: what is whole, what may be cut, and what no crash explains.
``repair`` shows these words."""

from __future__ import annotations

from pathlib import Path

import pytest

from margin_stream.journal import highwater, log_end
from margin_stream.journal.disk import Disk
from margin_stream.journal.log import START, LogWriter, create, read
from margin_stream.journal.log_end import Ending, Loose, NotInLog, find_end
from margin_stream.journal.records import (
    HEADER,
    UNREADABLE,
    CorruptLog,
    Cut,
    Tail,
    record_bytes,
    segment_header,
    segment_name,
    walk,
)

STORE = bytes(range(16))
THREE = [b"one", b"two", b"three"]


def filled(folder: Path, segment_limit: int = 10_000, payloads: list[bytes] = THREE) -> list[Cut]:
    """Write a log, a group for each record, and return the cut behind each."""
    create(folder, STORE, Disk())
    writer = LogWriter(folder, STORE, Disk(), segment_limit=segment_limit)
    cuts = []
    for payload in payloads:
        cuts.append(writer.append(payload))
        writer.sync()
    writer.close()
    return cuts


def end_of(folder: Path, after: Cut = START) -> Ending:
    return find_end(folder, STORE, highwater.read(folder / "highwater", STORE), after)


def damage_of(folder: Path, after: Cut = START) -> CorruptLog:
    with pytest.raises(CorruptLog) as caught:
        end_of(folder, after)
    return caught.value


def damage_newest_slot(folder: Path) -> None:
    """Leave the older mark only, so that it is in doubt."""
    path = folder / "highwater"
    offset = highwater.read(path, STORE).writes % 2 * highwater.SLOT_SPACING
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
    assert not highwater.read(path, STORE).certain


def test_tables_that_know_more_than_the_older_mark_set_how_far_the_log_must_reach(tmp_path: Path) -> None:
    cuts = filled(tmp_path / "log")
    damage_newest_slot(tmp_path / "log")
    assert highwater.read(tmp_path / "log" / "highwater", STORE).cut == cuts[1]
    assert end_of(tmp_path / "log", cuts[2]) == Ending(cuts[2], ())
    path = tmp_path / "log" / segment_name(1)
    path.write_bytes(path.read_bytes()[: cuts[1].offset])
    assert end_of(tmp_path / "log", cuts[1]) == Ending(cuts[1], ())
    damage = damage_of(tmp_path / "log", cuts[2])
    assert (damage.path, damage.offset) == (path, cuts[1].offset)
    assert damage.what == "the log ends at record 2, but record 3 was durable"


def test_readers_go_to_the_end_of_what_is_whole_where_the_mark_is_in_doubt(tmp_path: Path) -> None:
    filled(tmp_path / "log")
    damage_newest_slot(tmp_path / "log")
    assert [record.payload for record in read(tmp_path / "log", STORE)] == THREE


def test_a_mark_in_doubt_is_held_to_its_chain_though_the_tables_agree_with_the_log(tmp_path: Path) -> None:
    cuts = filled(tmp_path / "log")
    path = tmp_path / "log" / "highwater"
    other = highwater.slot_bytes(STORE, 8, cuts[2]._replace(chain=b"?" * 32))
    path.write_bytes(other.ljust(highwater.SLOT_SPACING, b"\0") + bytes(highwater.SLOT_SPACING))
    damage = damage_of(tmp_path / "log", cuts[2])
    assert (damage.path, damage.offset) == (tmp_path / "log" / segment_name(1), cuts[2].offset)
    assert damage.what == "record 3 does not have the chain of the high-water mark"


def test_a_place_that_a_sound_log_does_not_have_is_another_logs(tmp_path: Path) -> None:
    cuts = filled(tmp_path / "log")
    for foreign in (cuts[1]._replace(chain=b"?" * 32), cuts[1]._replace(offset=cuts[1].offset - 1)):
        with pytest.raises(NotInLog) as caught:
            end_of(tmp_path / "log", foreign)
        damage = caught.value
        assert (damage.path, damage.offset) == (tmp_path / "log" / segment_name(1), foreign.offset)
        assert damage.what == "record 2 is not the one that the tables know"


def test_a_record_that_its_segment_cannot_hold_is_another_logs(tmp_path: Path) -> None:
    """Each record has a segment of its own; the tables speak of the first in the third."""
    cuts = filled(tmp_path / "log", HEADER.size + 1)
    with pytest.raises(NotInLog, match="record 1 is not the one that the tables know"):
        end_of(tmp_path / "log", cuts[0]._replace(segment=3))


def test_tables_may_know_the_beginning_of_a_segment_without_records(tmp_path: Path) -> None:
    """So they do where a writer died behind making a segment, and the next one stored its tables before it wrote
    anything."""
    cuts = filled(tmp_path / "log")
    (tmp_path / "log" / segment_name(4)).write_bytes(segment_header(STORE, 4, cuts[-1].chain))
    known = end_of(tmp_path / "log").cut
    assert known == Cut(3, 4, HEADER.size, cuts[-1].chain)
    assert end_of(tmp_path / "log", known) == Ending(known, ())


@pytest.mark.parametrize("limit", [HEADER.size + 1, 10_000])
@pytest.mark.parametrize("content", [b"", b"MS", bytes(HEADER.size)])
def test_a_segment_in_the_making_goes_as_a_whole(tmp_path: Path, limit: int, content: bytes) -> None:
    """Also where its length came to the disk and its header did not, and where the segment before has one record
    only."""
    cuts = filled(tmp_path / "log", limit)
    extra = tmp_path / "log" / segment_name(4)
    extra.write_bytes(content)
    assert end_of(tmp_path / "log") == Ending(cuts[-1], (Loose(extra, 0, len(content), "the segment was being made"),))


def test_more_than_a_header_was_never_in_the_making(tmp_path: Path) -> None:
    filled(tmp_path / "log")
    extra = tmp_path / "log" / segment_name(4)
    extra.write_bytes(bytes(HEADER.size + 1))
    assert damage_of(tmp_path / "log").path == extra


@pytest.mark.parametrize("first", [5, 9])
def test_a_segment_beyond_the_end_is_damage_and_never_cut(tmp_path: Path, first: int) -> None:
    cuts = filled(tmp_path / "log")
    extra = tmp_path / "log" / segment_name(first)
    extra.write_bytes(segment_header(STORE, first, cuts[-1].chain) + record_bytes(first, b"acknowledged once"))
    damage = damage_of(tmp_path / "log")
    assert (damage.path, damage.offset) == (extra, 0)
    assert damage.what == "the segment is not part of the log, which ends at record 3"


@pytest.mark.parametrize(
    ("length", "what"), [(1, "1 bytes of its header"), (15, "15 bytes of its header"), (17, "1 of 4 bytes")]
)
def test_a_torn_record_is_loose_from_the_first_byte_on(tmp_path: Path, length: int, what: str) -> None:
    cuts = filled(tmp_path / "log")
    path = tmp_path / "log" / segment_name(1)
    path.write_bytes(path.read_bytes() + record_bytes(4, b"torn")[:length])
    assert end_of(tmp_path / "log") == Ending(
        cuts[-1], (Loose(path, cuts[-1].offset, length, f"record 4 is torn: {what}"),)
    )


def test_a_torn_record_behind_a_mark_in_doubt_may_have_been_acknowledged(tmp_path: Path) -> None:
    cuts = filled(tmp_path / "log")
    damage_newest_slot(tmp_path / "log")
    path = tmp_path / "log" / segment_name(1)
    path.write_bytes(path.read_bytes() + record_bytes(4, b"torn")[:-1])
    damage = damage_of(tmp_path / "log")
    assert (damage.path, damage.offset) == (path, cuts[-1].offset)
    assert damage.what == (
        "record 4 is torn: 3 of 4 bytes, and a slot of the high-water file is damaged, so it may have been acknowledged"
    )


def test_what_the_medium_cannot_read_is_damage_and_never_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = filled(tmp_path / "log")
    path = tmp_path / "log" / segment_name(1)
    path.write_bytes(path.read_bytes() + record_bytes(4, b"four"))
    words = f"{UNREADABLE}record 4 cannot be read: Input/output error"

    def failing(folder: Path, store_id: bytes, cut: Cut) -> object:
        for found in walk(folder, store_id, cut):
            if found.cut.number == 4:
                yield Tail(cuts[-1], words)
                return
            yield found

    monkeypatch.setattr(log_end, "walk", failing)
    damage = damage_of(tmp_path / "log")
    assert (damage.path, damage.offset, damage.what) == (path, cuts[-1].offset, words)


def test_a_mark_never_overwrites_the_one_before(tmp_path: Path) -> None:
    """Written in turns: whatever becomes of a write, the mark before it stands in the other slot."""
    folder = tmp_path / "log"
    create(folder, STORE, Disk())
    writer = LogWriter(folder, STORE, Disk())
    for number in range(1, 6):
        before = writer.durable
        cut = writer.append(b"payload")
        writer.sync()
        mark = highwater.read(folder / "highwater", STORE)
        assert (mark.writes, mark.cut) == (1 + number, cut)
        whole = (folder / "highwater").read_bytes()
        damage_newest_slot(folder)
        assert highwater.read(folder / "highwater", STORE).cut == before
        (folder / "highwater").write_bytes(whole)
    writer.close()


@pytest.mark.parametrize("known", [0, 1])
def test_a_segment_within_the_log_that_the_log_does_not_lead_to_is_damage(tmp_path: Path, known: int) -> None:
    """Whether tables know a place or not: what no crash explains is damage, wherever it lies."""
    cuts = filled(tmp_path / "log")
    assert end_of(tmp_path / "log", [START, *cuts][known]) == Ending(cuts[2], ())
    stray = tmp_path / "log" / segment_name(2)
    stray.write_bytes(b"garbage")
    damage = damage_of(tmp_path / "log", [START, *cuts][known])
    assert (damage.path, damage.offset) == (stray, 0)
    assert "not part of the log: its records lie in another one" in str(damage)


def test_every_segment_of_a_log_is_part_of_it_from_any_place(tmp_path: Path) -> None:
    cuts = filled(tmp_path / "log", segment_limit=HEADER.size + 1, payloads=[b"%d" % n for n in range(6)])
    assert len(list((tmp_path / "log").glob("*.seg"))) == 6
    for cut in (START, *cuts):
        assert end_of(tmp_path / "log", cut) == Ending(cuts[-1], ())
