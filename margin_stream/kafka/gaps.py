"""Offsets at which a topic has no record, and which of them the broker explains.

Transactional producers leave markers in a topic, and records that they took back. Consumers read committed records
only, and pass over both, so offsets are missing between records. Any other offset that is missing is a fault: the topic
was compacted, cut, or lost records.

aiokafka tells nobody what it passed over. So its reader of fetched batches is replaced by one that notes it.
"""

from __future__ import annotations

from typing import Any

from aiokafka.consumer import fetcher

from margin_stream.errors import Error

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


class _Batches:
    """Batches as they were fetched; tells its reader of each that it passed over."""

    def __init__(self, batches: Any, reader: _CommittedRecords) -> None:
        self._batches = batches
        self._reader = reader
        self._last: tuple[int, Any] | None = None

    def has_next(self) -> bool:
        if self._last is not None:
            self._reader.passed(*self._last)
            self._last = None
        return bool(self._batches.has_next())

    def next_batch(self) -> Any:
        batch = self._batches.next_batch()
        self._last = (self._reader.next_fetch_offset, batch)
        return batch


class _CommittedRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    def __init__(self, tp: Any, records: Any, *rest: Any) -> None:
        super().__init__(tp, _Batches(records, self), *rest)

    def passed(self, position: int, batch: Any) -> None:
        """Note a batch of which no record was given."""
        aborted = batch.is_transactional and batch.producer_id in self._aborted_producers
        if batch.is_control_batch or aborted:
            start = max(position, batch.base_offset)
            note(self._tp.topic, self._tp.partition, start, batch.next_offset)


def install() -> None:
    """Have every consumer of this process note what it passes over."""
    fetcher.PartitionRecords = _CommittedRecords
