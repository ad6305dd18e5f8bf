"""Messages of a limited size: routed items cut between items, effects cut between sequence numbers, or within one where
it has too many."""

from __future__ import annotations

from collections.abc import Iterator

from margin_stream.core.sequenced import Batch
from margin_stream.kafka import messages
from margin_stream.kafka.messages import EffectsRecord, Place, SequencedBatch

SPLIT_BYTES = 768 << 10
"""A message with more is split, where it has more than one item or effect."""
EFFECT_BYTES = 16
"""What an effect takes in a message beside its own bytes, at most: its array, its sequence number, its length."""


def batch_messages(generation: str, previous: int, batch: Batch, asked: bool) -> Iterator[bytes]:
    """Yield the messages of a batch, cut at items where one would be too large."""
    whole = messages.encode(SequencedBatch(generation, previous, batch.last, batch.items, batch.market_digest, asked))
    if len(whole) <= SPLIT_BYTES or len(batch.items) < 2:
        yield whole
        return
    middle = len(batch.items) // 2
    first, second = batch.items[:middle], batch.items[middle:]
    edge = first[-1].sequence
    yield from batch_messages(generation, previous, Batch(batch.previous, edge, first), asked=False)
    yield from batch_messages(generation, edge, Batch(edge, batch.last, second, batch.market_digest), asked)


def effect_messages(
    generation: str, shard: int, previous: int, last: int, rows: list[tuple[int, bytes]]
) -> Iterator[bytes]:
    """Yield effects as messages, cut between sequence numbers; a sequence number that is too large for one message is
    cut between its effects."""
    start, first = Place(previous), 0
    while True:
        cut = _cut(rows, first)
        end = Place(last)
        if cut < len(rows):
            here = rows[cut][0] - 1
            # A cut within a sequence number has nothing else before it in its message.
            spread = rows[cut - 1][0] == rows[cut][0]
            end = Place(here, cut - first + (start.within if start.sequence == here else 0) if spread else 0)
        yield messages.encode_effects(
            EffectsRecord(generation, shard, start.sequence, end.sequence, rows[first:cut], start.within, end.within)
        )
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
