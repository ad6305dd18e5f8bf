"""A topic with one partition as a journal; record n has offset n - 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from margin_stream.kafka.client import Client


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
