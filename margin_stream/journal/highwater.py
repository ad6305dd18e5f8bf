"""The high-water file: up to which record a log was durable, written before anything up to there is acknowledged.

With it a torn tail (never acknowledged, can be cut) is told from a lost one (acknowledged, a fault). Two slots are
written in turn, so a write that is torn leaves the other.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from margin_stream.journal.disk import Disk
from margin_stream.journal.records import START, CorruptLog, Cut, reading

MAGIC = b"MSHIGH01"
SLOT = struct.Struct("<8s16sQQQQ32sI")
"""Magic, store id, count of writes, record number, segment, offset, chain, CRC-32 of the preceding fields."""
SLOT_SPACING = 512
SIZE = 2 * SLOT_SPACING
NAME = "highwater"


class SlotDamage(NamedTuple):
    """A place in the file that is not as it should be."""

    offset: int
    what: str


class HighWater(NamedTuple):
    """What a high-water file states."""

    writes: int
    cut: Cut
    damaged: tuple[SlotDamage, ...]
    """What is wrong with a slot that was not used; the one that was is whole."""
    certain: bool = True
    """Both slots could be read. Else the one that is left may be the older, and the log was durable one group
    further."""


def slot_bytes(store_id: bytes, writes: int, cut: Cut) -> bytes:
    """Return one slot."""
    plain = SLOT.pack(MAGIC, store_id, writes, cut.number, cut.segment, cut.offset, cut.chain, 0)[:-4]
    return plain + zlib.crc32(plain).to_bytes(4, "little")


def first_bytes(store_id: bytes) -> bytes:
    """Return the file of an empty log."""
    return renewed_bytes(store_id, HighWater(0, START, ()))


def renewed_bytes(store_id: bytes, mark: HighWater) -> bytes:
    """Return a whole file that states what a damaged one reported."""
    slots = [b"", b""]
    for writes in (mark.writes, mark.writes + 1):
        slots[writes % 2] = slot_bytes(store_id, writes, mark.cut)
    return b"".join(slot.ljust(SLOT_SPACING, b"\0") for slot in slots)


def write(disk: Disk, descriptor: int, store_id: bytes, writes: int, cut: Cut) -> None:
    """Write the next slot and make it durable."""
    disk.write(descriptor, slot_bytes(store_id, writes, cut), (writes % 2) * SLOT_SPACING)
    disk.sync(descriptor)


def read(path: Path, store_id: bytes) -> HighWater:
    """Read a high-water file. Damage is read again: a writer may just be writing the slot.

    Raises:
        CorruptLog: missing, both slots damaged, or of another store.
    """
    found = _read(path, store_id)
    for _ in range(2):
        if found.certain:
            break
        found = _read(path, store_id)
    return found


def _read(path: Path, store_id: bytes) -> HighWater:
    try:
        with reading(path):
            data = path.read_bytes()
    except FileNotFoundError:
        raise CorruptLog(path, 0, "the high-water file is missing") from None
    found: list[tuple[int, Cut]] = []
    damaged: list[SlotDamage] = []
    if len(data) != SIZE:
        damaged.append(SlotDamage(0, f"the file has {len(data)} bytes, not {SIZE}"))
    for place in range(2):
        offset = place * SLOT_SPACING
        slot = data[offset : offset + SLOT.size]
        spare = data[offset + SLOT.size : offset + SLOT_SPACING]
        if len(slot) < SLOT.size or zlib.crc32(slot[:-4]) != int.from_bytes(slot[-4:], "little"):
            damaged.append(SlotDamage(offset, "the slot does not match its checksum"))
            continue
        if any(spare):
            damaged.append(SlotDamage(offset + SLOT.size, "the bytes behind the slot are not zero"))
        _, store, writes, number, segment, at, chain, _ = SLOT.unpack(slot)
        if store != store_id:
            raise CorruptLog(path, offset + 8, f"the high-water file belongs to another store ({store.hex()})")
        if writes % 2 != place:
            # Written next would be the slot that holds the newest mark.
            damaged.append(SlotDamage(offset, "the slot is in the other's place"))
        found.append((writes, Cut(number, segment, at, bytes(chain))))
    if not found:
        raise CorruptLog(path, 0, "both slots of the high-water file are damaged")
    writes, cut = max(found)
    return HighWater(writes, cut, tuple(damaged), len(found) == 2)
