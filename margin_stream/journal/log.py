"""A log of segment files: one writer appends and syncs, any number of readers follow up to the durable mark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from margin_stream.journal import highwater
from margin_stream.journal.disk import Disk
from margin_stream.journal.highwater import HighWater
from margin_stream.journal.log_end import durable_cut, find_end
from margin_stream.journal.records import (
    HEADER,
    NO_CHAIN,
    START,
    CorruptLog,
    Cut,
    Record,
    Tail,
    chained,
    record_bytes,
    segment_header,
    segment_name,
    walk,
)

__all__ = ["SEGMENT_LIMIT", "START", "LogWriter", "create", "read"]

SEGMENT_LIMIT = 64 << 20


def create(folder: Path, store_id: bytes, disk: Disk) -> None:
    """Make an empty log."""
    folder.mkdir(parents=True)
    disk.replace(folder / highwater.NAME, highwater.first_bytes(store_id))
    with disk.opened(folder / segment_name(1), create=True) as descriptor:
        disk.write(descriptor, segment_header(store_id, 1, NO_CHAIN), 0)
        disk.sync(descriptor)
    disk.sync_folder(folder)


def read(folder: Path, store_id: bytes, cut: Cut = START, *, upto: int | None = None) -> Iterator[Record]:
    """Yield the records behind a cut up to the durable mark, or up to a record number that is durable.

    Raises:
        CorruptLog: damage at or below the durable mark, with file and offset.
    """
    last = durable_cut(folder, store_id).number if upto is None else upto
    for found in walk(folder, store_id, cut):
        if isinstance(found, Tail):
            if found.cut.number < last:
                path = folder / segment_name(found.cut.segment)
                raise CorruptLog(
                    path,
                    found.cut.offset,
                    found.what or f"the log ends at record {found.cut.number}, {last} was durable",
                )
            return
        if found.number > last:
            return
        yield found
        if found.number == last:
            return


class LogWriter:
    """The one writer of a log. What it wrote is durable once ``sync`` returned, and only then."""

    def __init__(
        self, folder: Path, store_id: bytes, disk: Disk, *, after: Cut = START, segment_limit: int = SEGMENT_LIMIT
    ) -> None:
        """Open at the end of the log; a torn tail, which was never acknowledged, is cut.

        Args:
            folder: the log.
            store_id: 16 bytes.
            disk: every call goes through it.
            after: a cut that a checkpoint knows; segments before it are not read again.
            segment_limit: a segment of at least so many bytes is followed by a new one.

        Raises:
            NotInLog, CorruptLog: as ``find_end``.
        """
        self.folder = folder
        self._store_id = store_id
        self._disk = disk
        self._segment_limit = segment_limit
        mark = highwater.read(folder / highwater.NAME, store_id)
        self.durable = mark.cut
        self.warnings = [
            f"{folder / highwater.NAME}: offset {offset}: {what}; written anew" for offset, what in mark.damaged
        ]
        self._writes = mark.writes
        self.cut_bytes = 0
        """How much of a torn tail was cut on opening."""
        self.end, loose = find_end(folder, store_id, mark, after)
        for found in loose:
            self.cut_bytes += found.length
            disk.cut(found.path, found.offset)
        self._descriptor = disk.open(folder / segment_name(self.end.segment))
        try:
            if mark.damaged:
                self._renew(mark)
            self._mark = disk.open(folder / highwater.NAME)
        except BaseException:
            disk.close(self._descriptor)
            raise
        self._buffer: list[bytes] = []
        if self.end.number > mark.cut.number:
            # Whole records behind the mark were written but not acknowledged; they are kept, and durable from here on.
            try:
                self.sync()
            except BaseException:
                self.close()
                raise

    def _renew(self, mark: HighWater) -> None:
        """Write a damaged high-water file anew, as a whole: for the end of the log, once that is durable. The slot that
        is left may be the older."""
        self._disk.sync(self._descriptor)
        self._disk.replace(
            self.folder / highwater.NAME, highwater.renewed_bytes(self._store_id, mark._replace(cut=self.end))
        )
        self._writes = mark.writes + 1
        self.durable = self.end

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
        """Make everything written up to a cut durable, then move the high-water mark there. May run in another thread
        than ``append``."""
        if cut.number == self.durable.number:
            return
        self._disk.sync(self._descriptor)
        self._writes += 1
        highwater.write(self._disk, self._mark, self._store_id, self._writes, cut)
        self.durable = cut

    def sync(self) -> None:
        """Write and make durable all that was appended."""
        self.make_durable(self.write())

    def close(self) -> None:
        """Close without writing what is buffered; call ``sync`` before."""
        self._disk.close(self._descriptor)
        self._disk.close(self._mark)
