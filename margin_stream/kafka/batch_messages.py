"""Messages of a limited size: routed items cut between items, effects cut between sequence numbers, or within one where
it has too many."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from margin_stream.core.sequenced import AnySequenced, Batch
from margin_stream.kafka import messages
from margin_stream.kafka.chains import Chain, number_of
from margin_stream.kafka.messages import EffectsRecord, Place, SequencedBatch

SPLIT_BYTES = 768 << 10
"""A message with more is split, where it has more than one item or effect."""
EFFECT_BYTES = 16
"""What an effect takes in a message beside its own bytes, at most: its array, its sequence number, its length."""


class Encoded:
    """Routed items as bytes, each encoded once, whatever number of partitions it goes to."""

    def __init__(self) -> None:
        self._done: dict[int, tuple[AnySequenced, msgspec.Raw, int]] = {}

    def item(self, item: AnySequenced) -> tuple[msgspec.Raw, int]:
        """Return an item's bytes, and its number in a chain."""
        found = self._done.get(id(item))
        if found is None:
            data = messages.encode(item)
            found = self._done[id(item)] = (item, msgspec.Raw(data), number_of(data))
        return found[1:]


def batch_messages(
    generation: str, previous: int, batch: Batch, asked: bool, chain: Chain, encoded: Encoded
) -> Iterator[bytes]:
    """Yield the messages of a batch, cut at items where one would be too large; the chain goes on to its end."""
    items: list[msgspec.Raw] = []
    size, here = 0, previous
    for item in batch.items:
        data, number = encoded.item(item)
        if size + len(data) > SPLIT_BYTES and items and item.sequence > here:
            yield messages.encode(SequencedBatch(generation, previous, here, items, b"", False, chain.at(here)))
            items, size, previous = [], 0, here
        items.append(data)
        size += len(data)
        here = item.sequence
        chain.add(number)
    last = batch.last
    yield messages.encode(SequencedBatch(generation, previous, last, items, batch.market_digest, asked, chain.at(last)))


def effect_messages(
    generation: str, shard: int, previous: int, last: int, rows: list[tuple[int, bytes]], chain: Chain
) -> Iterator[bytes]:
    """Yield effects as messages, cut between sequence numbers; a sequence number that is too large for one message is
    cut between its effects. The chain goes on to the end."""
    start, first = Place(previous), 0
    while True:
        cut = _cut(rows, first)
        end = Place(last)
        if cut < len(rows):
            here = rows[cut][0] - 1
            # A cut within a sequence number has nothing else before it in its message.
            spread = rows[cut - 1][0] == rows[cut][0]
            end = Place(here, cut - first + (start.within if start.sequence == here else 0) if spread else 0)
        part = rows[first:cut]
        chain.total = chain.behind(data for _, data in part).total
        places = (start.sequence, end.sequence, part, start.within, end.within)
        yield messages.encode(EffectsRecord(generation, shard, *places, chain.at(*end)))
        if cut == len(rows):
            return
        start, first = end, cut


def _cut(rows: list[tuple[int, bytes]], first: int) -> int:
    """Return where the message that begins at a row ends."""
    size = 0
    for cut in range(first, len(rows)):
        size += len(rows[cut][1]) + EFFECT_BYTES
        if size > SPLIT_BYTES and cut > first:
            begun = cut
            while begun > first and rows[begun - 1][0] == rows[cut][0]:
                begun -= 1
            return begun if begun > first else cut
    return len(rows)
