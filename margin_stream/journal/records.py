"""The bytes of a log: segment header, record, high-water slot. ``docs/journal.md`` is this page in words.

All integers are little-endian. A record is ``length, number, crc, payload``; the CRC-32 (zlib's) covers length, number
and payload. The chain is SHA-256 over the chain before and the whole record.
"""

from __future__ import annotations

import errno
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from margin_stream.errors import Error

MAGIC = b"MSLOG001"
HEADER = struct.Struct("<8s16sQ32sI")
"""Segment header: magic, store id, number of the first record, chain before it, CRC-32 of the preceding fields."""
RECORD = struct.Struct("<IQI")
"""Record header: payload length, number, CRC-32."""
_CHECKED = struct.Struct("<IQ")
PAYLOAD_LIMIT = 64 << 20
NO_CHAIN = bytes(32)


class RecordTooLarge(ValueError):
    """A record that no reader would take was about to be written."""


class CorruptLog(Error, code="journal_damaged"):
    """A log is damaged: the file and the offset are named."""

    def __init__(self, path: Path, offset: int, what: str) -> None:
        super().__init__(f"{path}: offset {offset}: {what}", file=path, offset=offset)
        self.path = path
        self.offset = offset
        self.what = what


class UndecodableRecord(CorruptLog, code="record_undecodable"):
    """A record's bytes are whole, and are not what this log holds."""


class Cut(NamedTuple):
    """A place between two records."""

    number: int
    """The last record before the cut; 0 at the start."""
    segment: int
    """The first record number of the segment that holds the place."""
    offset: int
    chain: bytes


START = Cut(0, 1, 0, NO_CHAIN)


class Record(NamedTuple):
    """A record as read, with the cut behind it."""

    number: int
    offset: int
    payload: bytes
    cut: Cut


class Tail(NamedTuple):
    """How the reading of a segment ended: after a whole record (``what`` empty), or at damage."""

    cut: Cut
    what: str


def segment_name(first: int) -> str:
    """Return the file name of the segment that starts with a record."""
    return f"{first:020d}.seg"


_SEGMENT_NAME = re.compile(r"[0-9]{20}\.seg")


def segments(folder: Path) -> list[int]:
    """Return the first record numbers of the segments in a folder, in order. Files with other names are none of the
    log's."""
    return sorted(int(path.stem) for path in folder.glob("*.seg") if _SEGMENT_NAME.fullmatch(path.name))


def segment_header(store_id: bytes, first: int, chain: bytes) -> bytes:
    """Return the header of a segment."""
    plain = HEADER.pack(MAGIC, store_id, first, chain, 0)[:-4]
    return plain + zlib.crc32(plain).to_bytes(4, "little")


def read_header(data: bytes, path: Path, store_id: bytes, first: int) -> bytes:
    """Check a segment header and return the chain before the segment.

    Raises:
        CorruptLog: damaged, of another store, or of another place in the log.
    """
    if len(data) < HEADER.size:
        raise CorruptLog(path, 0, "the segment header is incomplete")
    magic, store, number, chain, crc = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise CorruptLog(path, 0, f"not a segment of this format (begins {magic!r})")
    if crc != zlib.crc32(data[: HEADER.size - 4]):
        raise CorruptLog(path, 0, "the segment header does not match its checksum")
    if store != store_id:
        raise CorruptLog(path, 8, f"the segment belongs to another store ({store.hex()})")
    if number != first:
        raise CorruptLog(path, 24, f"the segment starts with record {number}, its name has {first}")
    return bytes(chain)


def record_bytes(number: int, payload: bytes) -> bytes:
    """Return a record.

    Raises:
        RecordTooLarge: written, it would look like damage to every reader, and all behind it would be lost.
    """
    if len(payload) > PAYLOAD_LIMIT:
        raise RecordTooLarge(f"record {number} would have {len(payload)} bytes, a reader takes {PAYLOAD_LIMIT}")
    crc = zlib.crc32(payload, zlib.crc32(_CHECKED.pack(len(payload), number)))
    return RECORD.pack(len(payload), number, crc) + payload


def chained(chain: bytes, record: bytes) -> bytes:
    """Return the chain after a record."""
    return sha256(chain + record).digest()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the medium's "this cannot be read" into damage of a file; other errors are the machine's and stay what they
    are."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise CorruptLog(path, 0, f"the medium cannot read the file: {error.strerror}") from error


def read_head(path: Path) -> bytes:
    """Return as many bytes of a segment as its header has, or fewer where there are no more."""
    with reading(path), path.open("rb", buffering=0) as file:
        return file.read(HEADER.size)


def walk(folder: Path, store_id: bytes, cut: Cut) -> Iterator[Record | Tail]:
    """Yield records across segments, then the Tail of the last one read.

    Raises:
        CorruptLog: a segment is missing, its header is damaged, or the medium cannot read it.
    """
    while True:
        path = folder / segment_name(cut.segment)
        if not path.exists():
            raise CorruptLog(path, 0, "the segment is missing")
        tail = Tail(cut, "")
        for found in read_segment(path, store_id, cut):
            if isinstance(found, Tail):
                tail = found
            else:
                yield found
        following = tail.cut.number + 1
        if tail.what or following == cut.segment or not (folder / segment_name(following)).exists():
            yield tail
            return
        cut = Cut(tail.cut.number, following, 0, tail.cut.chain)


def read_segment(path: Path, store_id: bytes, cut: Cut, *, ahead: bool = True) -> Iterator[Record | Tail]:
    """Yield the records of a segment behind a cut, then a Tail that states how it ended.

    Nothing is raised for damaged records: the caller knows whether the place was durable. A damaged header is raised.

    Args:
        path: the segment file.
        store_id: 16 bytes.
        cut: where to begin; offset 0 begins at the segment's start and checks that its header continues the chain.
        ahead: read more than is asked for, which is quick. What the medium cannot read is read again without, so that
            its place is exact.
    """
    with reading(path), path.open("rb", buffering=-1 if ahead else 0) as file:
        try:
            header = file.read(HEADER.size)
        except OSError as error:
            if not ahead or error.errno != errno.EIO:
                raise
            yield from read_segment(path, store_id, cut, ahead=False)
            return
        before = read_header(header, path, store_id, cut.segment)
        number, offset, chain = cut.number, cut.offset, cut.chain
        if offset == 0:
            offset = HEADER.size
            if before != chain:
                raise CorruptLog(path, 32, "the segment does not continue the chain of the one before")
        file.seek(offset)
        while True:
            here = Cut(number, cut.segment, offset, chain)
            try:
                head = file.read(RECORD.size)
                length = RECORD.unpack(head)[0] if len(head) == RECORD.size else 0
                payload = file.read(length) if length <= PAYLOAD_LIMIT else b""
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                if ahead:
                    yield from read_segment(path, store_id, here, ahead=False)
                else:
                    yield Tail(here, f"{UNREADABLE}record {number + 1} cannot be read: {error.strerror}")
                return
            if not head:
                yield Tail(here, "")
                return
            if len(head) < RECORD.size:
                yield Tail(here, f"record {number + 1} is torn: {len(head)} bytes of its header")
                return
            length, got, crc = RECORD.unpack(head)
            if length > PAYLOAD_LIMIT:
                yield Tail(here, f"record {number + 1} is damaged: its length reads {length}")
                return
            if len(payload) < length:
                yield Tail(here, f"record {number + 1} is torn: {len(payload)} of {length} bytes")
                return
            if crc != zlib.crc32(payload, zlib.crc32(head[:12])):
                yield Tail(here, f"record {number + 1} does not match its checksum")
                return
            if got != number + 1:
                yield Tail(here, f"record {number + 1} was expected, {got} is here")
                return
            number = got
            chain = chained(chain, head + payload)
            end = offset + RECORD.size + length
            yield Record(number, offset, payload, Cut(number, cut.segment, end, chain))
            offset = end


UNREADABLE = "the medium failed: "
"""Begins what is reported of a place that could not be read: nothing is known of it, so it is never cut."""
