"""What a journal is, wherever it lies: records appended in order, numbered from 1, durable once ``append`` returned,
read back as they were.

Three keep the contract (``tests/kafka/test_journals.py`` runs it over all): in memory, in segment files, on a topic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from margin_stream.journal import highwater
from margin_stream.journal import log as logs
from margin_stream.journal.disk import Disk
from margin_stream.journal.log import LogWriter
from margin_stream.kafka.client import Client


class Journal(Protocol):
    """Records in one order."""

    def append(self, values: Sequence[bytes]) -> int:
        """Append records; return the number of the last once all of them are durable."""

    def records(self, after: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield (number, value) behind a number, up to the durable end as it is now."""

    def end(self) -> int:
        """Return the number of the last durable record, 0 where there is none."""

    def close(self) -> None:
        """Let go of it; nothing that was appended is lost."""


class MemoryJournal:
    """For tests and simulations."""

    def __init__(self) -> None:
        self._values: list[bytes] = []

    def append(self, values: Sequence[bytes]) -> int:
        self._values.extend(values)
        return len(self._values)

    def records(self, after: int = 0) -> Iterator[tuple[int, bytes]]:
        yield from enumerate(self._values[after : len(self._values)], start=after + 1)

    def end(self) -> int:
        return len(self._values)

    def close(self) -> None:
        pass


class SegmentJournal:
    """In a folder of segment files."""

    def __init__(self, folder: Path, store_id: bytes, disk: Disk | None = None) -> None:
        self._folder, self._store_id = folder, store_id
        disk = disk or Disk()
        if not folder.exists():
            logs.create(folder, store_id, disk)
        self._writer = LogWriter(folder, store_id, disk)

    def append(self, values: Sequence[bytes]) -> int:
        for value in values:
            self._writer.append(value)
        self._writer.sync()
        return self._writer.end.number

    def records(self, after: int = 0) -> Iterator[tuple[int, bytes]]:
        for record in logs.read(self._folder, self._store_id, upto=self.end()):
            if record.number > after:
                yield record.number, record.payload

    def end(self) -> int:
        return highwater.read(self._folder / highwater.NAME, self._store_id).cut.number

    def close(self) -> None:
        self._writer.close()


class TopicJournal:
    """On a topic."""

    def __init__(self, client: Client, topic: str) -> None:
        self._client, self._topic = client, topic

    def append(self, values: Sequence[bytes]) -> int:
        """Send records; return the number of the last once every in-sync replica has all of them."""
        return self._client.send(self._topic, values) + 1 if values else self.end()

    def records(self, after: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield (number, value) behind a number, up to the end as it is now."""
        for record in self._client.read(self._topic, 0, after):
            yield record.offset + 1, record.value or b""

    def end(self) -> int:
        """Return the number of the last record."""
        return self._client.end(self._topic)

    def close(self) -> None:
        """Nothing: the client is its owner's."""
