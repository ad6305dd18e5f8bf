"""The high-water file: two slots in turn, and the whole one with the higher count is believed."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from margin_stream.journal import highwater
from margin_stream.journal.disk import Disk
from margin_stream.journal.highwater import HighWater, SlotDamage
from margin_stream.journal.records import CorruptLog, Cut

STORE = bytes(range(16))
START = Cut(0, 1, 0, bytes(32))
CUTS = [Cut(n, 1 + n // 4, 100 * n, bytes([n]) * 32) for n in range(1, 7)]


def slot(writes: int, cut: Cut, store: bytes = STORE) -> bytes:
    """Return a slot as docs/journal.md describes it, without the code under test."""
    plain = struct.pack("<8s16sQQQQ32s", b"MSHIGH01", store, writes, cut.number, cut.segment, cut.offset, cut.chain)
    return (plain + struct.pack("<I", zlib.crc32(plain))).ljust(512, b"\0")


def file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "highwater"
    path.write_bytes(data)
    return path


def test_an_empty_log_stands_before_its_first_record(tmp_path: Path) -> None:
    data = highwater.first_bytes(STORE)
    assert data == slot(0, START) + slot(1, START)
    assert highwater.read(file(tmp_path, data), STORE) == HighWater(1, START, ())
    assert highwater.NAME == "highwater"


def test_slots_are_written_in_turn_and_the_later_one_counts(tmp_path: Path) -> None:
    path = file(tmp_path, highwater.first_bytes(STORE))
    disk = Disk()
    descriptor = disk.open(path)
    expected = [slot(0, START), slot(1, START)]
    for writes, cut in enumerate(CUTS, start=2):
        highwater.write(disk, descriptor, STORE, writes, cut)
        expected[writes % 2] = slot(writes, cut)
        assert path.read_bytes() == b"".join(expected)
        assert highwater.read(path, STORE) == HighWater(writes, cut, ())
    disk.close(descriptor)


@pytest.mark.parametrize("place", range(2))
def test_a_damaged_slot_leaves_the_other_and_is_named(tmp_path: Path, place: int) -> None:
    slots = [slot(4, CUTS[0]), slot(5, CUTS[1])]
    for byte in range(92):
        damaged = bytearray(slots[place])
        damaged[byte] ^= 1
        data = damaged + slots[1] if place == 0 else slots[0] + damaged
        what = (SlotDamage(512 * place, "the slot does not match its checksum"),)
        # The damaged one may have been the later: it is not certain any more which was.
        other = HighWater(5, CUTS[1], what, certain=False) if place == 0 else HighWater(4, CUTS[0], what, certain=False)
        assert highwater.read(file(tmp_path, bytes(data)), STORE) == other


@pytest.mark.parametrize(("byte", "noticed"), [(91, "slot"), (92, "spare"), (511, "spare")])
def test_every_byte_behind_a_slot_is_zero(tmp_path: Path, byte: int, noticed: str) -> None:
    for place in range(2):
        data = bytearray(slot(4, CUTS[0]) + slot(5, CUTS[1]))
        data[512 * place + byte] ^= 1
        found = highwater.read(file(tmp_path, bytes(data)), STORE)
        if noticed == "spare":
            assert found == HighWater(
                5, CUTS[1], (SlotDamage(512 * place + 92, "the bytes behind the slot are not zero"),)
            )
        else:
            assert found.damaged == (SlotDamage(512 * place, "the slot does not match its checksum"),)


def test_without_a_whole_slot_there_is_no_mark(tmp_path: Path) -> None:
    with pytest.raises(CorruptLog) as caught:
        highwater.read(file(tmp_path, bytes(1024)), STORE)
    assert (caught.value.offset, caught.value.what) == (0, "both slots of the high-water file are damaged")
    assert caught.value.path == tmp_path / "highwater"
    with pytest.raises(CorruptLog) as caught:
        highwater.read(tmp_path / "nothing", STORE)
    assert (caught.value.path, caught.value.offset) == (tmp_path / "nothing", 0)
    assert caught.value.what == "the high-water file is missing"


@pytest.mark.parametrize("place", range(2))
def test_a_slot_of_another_store_is_no_damage_but_a_mistake(tmp_path: Path, place: int) -> None:
    slots = [slot(4, CUTS[0]), slot(5, CUTS[1])]
    slots[place] = slot(6, CUTS[2], bytes(16))
    path = file(tmp_path, b"".join(slots))
    with pytest.raises(CorruptLog) as caught:
        highwater.read(path, STORE)
    assert (caught.value.path, caught.value.offset) == (path, 512 * place + 8)
    assert caught.value.what == f"the high-water file belongs to another store ({'00' * 16})"


@pytest.mark.parametrize(
    ("length", "lost"), [(1023, False), (1025, False), (512 + 92, False), (512 + 91, True), (600, True), (512, True)]
)
def test_a_file_of_another_length_is_named_and_its_whole_slots_are_read(
    tmp_path: Path, length: int, lost: bool
) -> None:
    data = (slot(4, CUTS[0]) + slot(5, CUTS[1]) + b"\0")[:length]
    found = highwater.read(file(tmp_path, data), STORE)
    what = [SlotDamage(0, f"the file has {length} bytes, not 1024")]
    if lost:
        what.append(SlotDamage(512, "the slot does not match its checksum"))
    assert found == HighWater(4 if lost else 5, CUTS[0] if lost else CUTS[1], tuple(what), certain=not lost)
