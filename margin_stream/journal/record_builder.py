"""From admitted items to the payload of a journal record: ticks of one source in a row become columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from margin_stream.schemas.binary import encode, encode_payload
from margin_stream.schemas.columns import columns_of
from margin_stream.schemas.inputs import PriceTicked

TICKS_LIMIT = 4096
RECORD_BYTES = 4 << 20
"""Bytes of items after which a record ends: well within what a reader of a log takes, and what a topic takes as one
message."""


def payloads(items: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the payloads of as many records as encoded items need; mostly one."""
    start = size = 0
    for n, item in enumerate(items):
        size += len(item)
        if size > RECORD_BYTES and n > start:
            yield encode_payload(items[start:n])
            start, size = n, len(item)
    if start < len(items):
        yield encode_payload(items[start:])


class PayloadBuilder:
    """Collects the encoded items of the next record, in order."""

    def __init__(self) -> None:
        self._items: list[bytes] = []
        self._ticks: list[PriceTicked] = []
        self.size = 0
        """Bytes so far, ticks in waiting roughly counted."""
        self.count = 0

    def add(self, item: bytes) -> None:
        """Add an encoded item."""
        if self._ticks:
            self._close_ticks()
        self._items.append(item)
        self.size += len(item)
        self.count += 1

    def add_tick(self, tick: PriceTicked) -> None:
        """Add a tick."""
        ticks = self._ticks
        if ticks and (ticks[0].source != tick.source or len(ticks) >= TICKS_LIMIT):
            self._close_ticks()
            ticks = self._ticks
        ticks.append(tick)
        self.size += 32
        self.count += 1

    def _close_ticks(self) -> None:
        ticks, self._ticks = self._ticks, []
        columns = columns_of(ticks) if len(ticks) > 1 else None
        if columns is None:
            self._items.extend(encode(tick) for tick in ticks)
        else:
            self._items.append(encode(columns))

    def take(self) -> list[bytes]:
        """Return the encoded items and start anew."""
        if self._ticks:
            self._close_ticks()
        items, self._items = self._items, []
        self.size = self.count = 0
        return items
