"""A log of segment files: one writer appends and syncs, any number of readers follow up to the durable mark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from margin_stream.journal import highwater
from margin_stream.journal.disk import Disk
from margin_stream.journal.records import (
    HEADER,
    NO_CHAIN,
    CorruptLog,
    Cut,
    Record,
    Tail,
    chained,
    read_segment,
    record_bytes,
    segment_header,
    segment_name,
    segments,
)

SEGMENT_LIMIT = 64 << 20
START = Cut(0, 1, 0, NO_CHAIN)


def create(folder: Path, store_id: bytes, disk: Disk) -> None:
    """Make an empty log."""
    folder.mkdir(parents=True)
    disk.replace(folder / highwater.NAME, highwater.first_bytes(store_id))
    descriptor = disk.open(folder / segment_name(1), create=True)
    try:
        disk.write(descriptor, segment_header(store_id, 1, NO_CHAIN), 0)
        disk.sync(descriptor)
    finally:
        disk.close(descriptor)
    disk.sync_folder(folder)


def read(folder: Path, store_id: bytes, cut: Cut = START, *, upto: int | None = None) -> Iterator[Record]:
    """Yield the records behind a cut up to the durable mark, or up to a record number that is durable.

    Raises:
        CorruptLog: damage at or below the durable mark, with file and offset.
    """
    last = highwater.read(folder / highwater.NAME, store_id).cut.number if upto is None else upto
    for found in _walk(folder, store_id, cut):
        if isinstance(found, Tail):
            if found.cut.number < last:
                path = folder / segment_name(found.cut.segment)
                raise CorruptLog(path, found.cut.offset, found.what or f"the log ends at record {found.cut.number}, {last} was durable")
            return
        if found.number > last:
            return
        yield found
        if found.number == last:
            return


def _walk(folder: Path, store_id: bytes, cut: Cut) -> Iterator[Record | Tail]:
    """Yield records across segments, then the Tail of the last one read."""
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


class LogWriter:
    """The one writer of a log. What it wrote is durable once ``sync`` returned, and only then."""

    def __init__(self, folder: Path, store_id: bytes, disk: Disk, *, after: Cut = START, segment_limit: int = SEGMENT_LIMIT) -> None:
        """Open at the end of the log; a torn tail, which was never acknowledged, is cut.

        Args:
            folder: the log.
            store_id: 16 bytes.
            disk: every call goes through it.
            after: a cut that is known to be whole (from a checkpoint); what lies before is not read again.
            segment_limit: a segment of at least so many bytes is followed by a new one.

        Raises:
            CorruptLog: damage at or below the durable mark.
        """
        self.folder = folder
        self._store_id = store_id
        self._disk = disk
        self._segment_limit = segment_limit
        mark = highwater.read(folder / highwater.NAME, store_id)
        self.durable = mark.cut
        self.warnings = [f"{folder / highwater.NAME}: {what}" for what in mark.damaged]
        self._writes = mark.writes
        self.cut_bytes = 0
        """How much of a torn tail was cut on opening."""
        if after.number > mark.cut.number:
            raise CorruptLog(
                folder / highwater.NAME, 0, f"the tables know record {after.number}, the high-water mark says {mark.cut.number}"
            )
        end = self._find_end(after)
        self.end = end
        self._descriptor = disk.open(folder / segment_name(end.segment))
        self._mark = disk.open(folder / highwater.NAME)
        self._buffer: list[bytes] = []
        if end.number > mark.cut.number or self.warnings:
            # Whole records behind the mark were written but not acknowledged; they are kept, and durable from here on.
            self.sync()

    def _find_end(self, after: Cut) -> Cut:
        tail = Tail(after, "")
        path = self.folder / segment_name(after.segment)
        try:
            for found in _walk(self.folder, self._store_id, after):
                if isinstance(found, Tail):
                    tail = found
                else:
                    tail = Tail(found.cut, "")
                if tail.cut.number == self.durable.number and self.durable.number and tail.cut.chain != self.durable.chain:
                    raise CorruptLog(path, tail.cut.offset, f"record {tail.cut.number} does not have the chain of the high-water mark")
        except CorruptLog as damage:
            first = int(damage.path.stem) if damage.path.suffix == ".seg" else 0
            if first == 0 or first <= self.durable.number or tail.cut.number < self.durable.number or first <= after.segment:
                raise
            # A segment that was being made when the writer died: nothing in it was acknowledged.
            tail = Tail(tail.cut, f"segment {damage.path.name} is incomplete")
        path = self.folder / segment_name(tail.cut.segment)
        if tail.cut.number < self.durable.number:
            what = tail.what or f"the log ends at record {tail.cut.number}, but record {self.durable.number} was durable"
            raise CorruptLog(path, tail.cut.offset, what)
        cut = tail.cut if tail.cut.offset else Cut(tail.cut.number, tail.cut.segment, HEADER.size, tail.cut.chain)
        for first in segments(self.folder):
            if first > cut.number and first != cut.segment:
                extra = self.folder / segment_name(first)
                self.cut_bytes += extra.stat().st_size
                self._disk.remove(extra)
                self._disk.sync_folder(self.folder)
        size = path.stat().st_size
        if size > cut.offset:
            self.cut_bytes += size - cut.offset
            descriptor = self._disk.open(path)
            try:
                self._disk.truncate(descriptor, cut.offset)
                self._disk.sync(descriptor)
            finally:
                self._disk.close(descriptor)
        return cut

    def append(self, payload: bytes) -> Cut:
        """Add a record to what the next ``write`` writes; return the cut behind it."""
        if self.end.offset >= self._segment_limit:
            self._roll()
        number = self.end.number + 1
        record = record_bytes(number, payload)
        self._buffer.append(record)
        self.end = Cut(number, self.end.segment, self.end.offset + len(record), chained(self.end.chain, record))
        return self.end

    def _roll(self) -> None:
        self.sync()
        first = self.end.number + 1
        path = self.folder / segment_name(first)
        descriptor = self._disk.open(path, create=True)
        self._disk.write(descriptor, segment_header(self._store_id, first, self.end.chain), 0)
        self._disk.sync(descriptor)
        self._disk.sync_folder(self.folder)
        self._disk.close(self._descriptor)
        self._descriptor = descriptor
        self.end = Cut(self.end.number, first, HEADER.size, self.end.chain)

    def write(self) -> Cut:
        """Hand what was appended to the operating system; return the cut behind it. Not durable yet."""
        if self._buffer:
            data = b"".join(self._buffer)
            self._buffer = []
            self._disk.write(self._descriptor, data, self.end.offset - len(data))
        return self.end

    def make_durable(self, cut: Cut) -> None:
        """Make everything written up to a cut durable, then move the high-water mark there. May run in another thread than ``append``."""
        if cut.number == self.durable.number and not self.warnings:
            return
        self._disk.sync(self._descriptor)
        self._writes += 1
        highwater.write(self._disk, self._mark, self._store_id, self._writes, cut)
        self.durable = cut
        self.warnings = []

    def sync(self) -> None:
        """Write and make durable all that was appended."""
        self.make_durable(self.write())

    def close(self) -> None:
        """Close without writing what is buffered; call ``sync`` before."""
        self._disk.close(self._descriptor)
        self._disk.close(self._mark)
