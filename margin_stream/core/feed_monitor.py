"""The feed monitor: of each source, how far it numbers, how new its events are, and what the clock was when it was last
there.

It judges nothing: a person, a desk or an alert rule compares the clock that a source was last seen at with the clock of
now. Refused inputs count as being there; an input that could not be decoded has no source, and a duplicate is no fact
(the host counts it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any, ClassVar

import msgspec

from margin_stream.core.effect_book import EffectBook
from margin_stream.core.fold import FoldBase
from margin_stream.core.sequenced import Received
from margin_stream.schemas.binary import encode

_row = msgspec.msgpack.Decoder(tuple[int, int, int, int])


class FeedMonitor(FoldBase):
    """What is known of each source. It emits nothing."""

    name = "feeds"
    reads: ClassVar[tuple[type, ...]] = (Received,)
    measures: ClassVar[dict[str, str]] = {
        "highest": "The highest number that the source has used.",
        "newest_event_time_ns": "The newest event time among its inputs.",
        "clock_ns": "The clock in force at its last input.",
    }

    def __init__(self, _book: EffectBook) -> None:
        self._sources: dict[str, tuple[int, int, int, int]] = {}
        """Source -> highest number, newest event time, clock at its last input, sequence number of that."""
        self._changed: dict[str, None] = {}

    def apply(self, item: Received) -> None:
        """Take inputs of a source."""
        highest, newest_ns, _, _ = self._sources.get(item.source, (-1, 0, 0, 0))
        newest_ns = max(newest_ns, item.event_time_ns)
        self._sources[item.source] = (max(highest, item.number), newest_ns, item.clock_ns, item.sequence)
        self._changed[item.source] = None

    def facts(self) -> Iterator[dict[str, Any]]:
        """Yield the sources by name."""
        for source in sorted(self._sources):
            highest, newest_ns, clock_ns, sequence = self._sources[source]
            yield {
                "source": source,
                "highest": highest,
                "newest_event_time_ns": newest_ns,
                "clock_ns": clock_ns,
                "sequence": sequence,
            }

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the sources that had inputs since the last ``mark_stored``."""
        for source in self._changed:
            yield source.encode(), encode(self._sources[source])

    def mark_stored(self) -> None:
        """Take the changed rows for stored."""
        self._changed.clear()

    def restore(self, _position: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Set the whole state from rows."""
        self._sources = {key.decode(): _row.decode(value) for key, value in rows}

    def digest(self) -> bytes:
        """Return the SHA-256 over all sources."""
        return sha256(encode([[source, *self._sources[source]] for source in sorted(self._sources)])).digest()
