"""Records as they are fetched: which offsets have none and why, and what becomes of a batch that cannot be unpacked.

Transactional producers leave markers in a topic, and records that they took back. Consumers read committed records
only, and pass over both, so offsets are missing between records. Any other offset that is missing is a fault: the topic
was compacted, cut, or lost records.

aiokafka tells nobody what it passed over, and gives up where it cannot unpack a batch. So its reader of fetched batches
is replaced. In place of a batch that cannot be unpacked it gives one record, at the first offset of the batch, whose
value is the batch as it came: it is refused as any other value that is no event, and kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords

from margin_stream.errors import Error
from margin_stream.kafka import codecs

log = logging.getLogger(__name__)

ISOLATION = "read_committed"
NOTED_LIMIT = 10_000
"""So many stretches of a partition are remembered, the latest."""


class OffsetsMissing(Error, code="offsets_missing"):
    """A topic has no record at offsets at which it must have one."""

    def __init__(self, topic: str, partition: int, first: int, behind: int) -> None:
        super().__init__(
            f"{topic}-{partition}: no record at the offsets {first} to {behind - 1}, and no transaction explains it: "
            "the topic was compacted, cut or made anew",
            topic=topic,
            partition=partition,
            offset=first,
        )


_passed: dict[tuple[str, int], dict[int, int]] = {}
"""Partition -> first offset of a stretch that was passed over -> the offset behind it."""


def note(topic: str, partition: int, start: int, behind: int) -> None:
    """Note that the broker explains why there is no record from one offset up to another."""
    stretches = _passed.setdefault((topic, partition), {})
    stretches[start] = max(behind, stretches.pop(start, behind))
    if len(stretches) > NOTED_LIMIT:
        del stretches[next(iter(stretches))]


def behind(topic: str, partition: int, offset: int) -> int:
    """Return the first offset, at or behind this one, at which a record must be, as far as is known."""
    stretches = _passed.get((topic, partition), {})
    while offset in stretches:
        offset = stretches[offset]
    return offset


_SIZE_AT, _HEAD = 8, 61
"""Of a batch: where the length of what follows that field is, and how many bytes are before its records."""


class _Fetched(MemoryRecords):  # type: ignore[misc]
    """What was fetched of a partition, with its bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class _Packed:
    """A batch that is compressed."""

    def __init__(self, batch: Any, data: bytes, where: str) -> None:
        self._batch = batch
        self._data = data
        self._where = where
        self.unreadable = False
        self.base_offset, self.next_offset = batch.base_offset, batch.next_offset
        self.is_control_batch, self.is_transactional = batch.is_control_batch, batch.is_transactional
        self.producer_id = batch.producer_id
        self.validate_crc = batch.validate_crc

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(self._batch)
        except codecs.UNREADABLE as error:
            log.warning("%s: offset %d: the batch cannot be unpacked: %s", self._where, self.base_offset, error)
            self.unreadable = True
            record = SimpleNamespace(offset=self.base_offset, timestamp=self._batch.max_timestamp, timestamp_type=0)
            record.key, record.value, record.checksum, record.headers = None, self._data, None, ()
            return iter([record])


class _Batches:
    """Batches as they were fetched; tells its reader of each that it passed over."""

    def __init__(self, batches: _Fetched, where: str, reader: _CommittedRecords) -> None:
        self._batches = batches
        self._where = where
        self._reader = reader
        self._last: tuple[int, Any] | None = None
        self._at = 0
        """Where the next batch begins."""

    def has_next(self) -> bool:
        if self._last is not None:
            self._reader.passed(*self._last)
            self._last = None
        return bool(self._batches.has_next())

    def next_batch(self) -> Any:
        batch = self._batches.next_batch()
        data, start = self._batches.data, self._at
        self._at = start + _SIZE_AT + 4 + int.from_bytes(data[start + _SIZE_AT : start + _SIZE_AT + 4], "big")
        if getattr(batch, "compression_type", 0):
            batch = _Packed(batch, bytes(data[start + _HEAD : self._at]), self._where)
        self._last = (self._reader.next_fetch_offset, batch)
        return batch


class _CommittedRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    def __init__(self, tp: Any, records: Any, *rest: Any) -> None:
        super().__init__(tp, _Batches(records, f"{tp.topic}-{tp.partition}", self), *rest)

    def passed(self, position: int, batch: Any) -> None:
        """Note the offsets of a batch at which no record was given."""
        aborted = batch.is_transactional and batch.producer_id in self._aborted_producers
        unreadable = getattr(batch, "unreadable", False)
        if batch.is_control_batch or aborted or unreadable:
            start = max(position, batch.base_offset + unreadable)
            if start >= batch.next_offset:
                return
            note(self._tp.topic, self._tp.partition, start, batch.next_offset)


def install() -> None:
    """Have every consumer of this process read so."""
    codecs.install()
    fetcher.MemoryRecords = _Fetched
    fetcher.PartitionRecords = _CommittedRecords
