"""The messages of the derived topics: msgpack arrays, decoded on trust of their generation.

Every derived message carries the store's *generation*: derived topics that were rebuilt have a new one, and messages of
another generation (a worker that slept through the rebuilding) are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from margin_stream.core.checks import Fault, check
from margin_stream.core.sequenced import AnySequenced
from margin_stream.journal.layout import CorruptManifest, StoreNewer, StoreOlder
from margin_stream.kafka.chains import Chain
from margin_stream.kafka.seals import OPEN, Foreign, Seal
from margin_stream.schemas.binary import UNDECODABLE

MANIFEST_FORMAT = 3
REBUILT_FROM = 2
"""The oldest format whose journal is read: what is derived from it is rebuilt (`kafka repartition`)."""


class StoreManifest(msgspec.Struct, frozen=True, kw_only=True, rename={"rules_version": "engine_version"}):
    """What a store on Kafka is; the last record of its manifest topic holds. JSON."""

    format: int = MANIFEST_FORMAT
    store_id: str
    generation: str
    """Of the derived topics; 16 hexadecimal characters."""
    partitions: int
    """Partitions of accounts."""
    slots: int
    rules_version: int
    clock_source: str = "input"


class SequencedBatch(msgspec.Struct, frozen=True, array_like=True):
    """Routed items for one partition: those of the sequence numbers after ``previous`` up to ``last`` that concern
    it."""

    generation: str
    previous: int
    """The last sequence number that was sent to this partition before."""
    last: int
    items: list[msgspec.Raw]
    """Each an item of ``core/sequenced.py``."""
    market_digest: bytes
    """The intake's market at ``last``; empty where the partition need not compare."""
    asked: bool
    """The partition is to report its digest at ``last``."""
    chain: bytes
    """Behind every item up to ``last`` (``chains.py``)."""


class Place(NamedTuple):
    """A place among the effects of a shard; places compare as tuples.

    The effects of one sequence number have one order, whoever makes them, so a count of them is a place within it.
    """

    sequence: int
    """All effects up to this sequence number lie before the place."""
    within: int = 0
    """So many effects of the sequence number behind it do, too."""


class EffectsRecord(msgspec.Struct, frozen=True, array_like=True):
    """What a shard decided after ``previous`` up to ``last``; where one sequence number has too many effects for a
    message, also a part of them."""

    generation: str
    shard: int
    """0 is the intake, p + 1 is partition p of accounts."""
    previous: int
    last: int
    effects: list[tuple[int, bytes]]
    """Position and canonical bytes, in order."""
    after: int
    """So many effects of sequence number ``previous + 1`` were sent before."""
    upto: int
    """So many effects of sequence number ``last + 1`` were sent with the end of this message."""
    chain: bytes
    """Behind every effect up to the end of this message."""

    @property
    def start(self) -> Place:
        """Behind which its effects lie."""
        return Place(self.previous, self.after)

    @property
    def end(self) -> Place:
        """Up to which everything was sent."""
        return Place(self.last, self.upto)

    def behind(self, here: Place) -> list[tuple[int, bytes]]:
        """Return the effects that lie behind a place, which must not lie before ``start``.

        Raises:
            Fault: the effects are not those of the places that the message states.
        """
        found: list[tuple[int, bytes]] = []
        sequence, number = self.previous + 1, self.after
        for row in self.effects:
            check(row[0] >= sequence, "effects are in order of sequence number", expected=sequence, got=row[0])
            if row[0] > sequence:
                sequence, number = row[0], 0
            if (sequence - 1, number) >= here:
                found.append(row)
            number += 1
        reached = Place(sequence - 1, number)
        sound = reached == self.end if self.upto else reached <= self.end
        check(
            sound,
            "a message has the effects up to its stated end",
            expected=tuple(self.end),
            got=tuple(reached),
        )
        return found


class EffectsPlace:
    """How far the effects of one shard were taken, and the chain there."""

    def __init__(self, here: Place, chain: Chain) -> None:
        self.here, self.chain = here, chain

    def take(self, record: EffectsRecord) -> list[tuple[int, bytes]]:
        """Return what is new of a message that does not begin ahead of the place, and go on behind it.

        Raises:
            Foreign: it does not continue what was taken, or lacks effects that it states: it is not of this store.
        """
        try:
            fresh = record.behind(self.here)
        except Fault as error:
            raise Foreign(str(error)) from None
        if record.end > self.here:
            chain = self.chain.behind(data for _, data in fresh)
            if chain.at(*record.end) != record.chain:
                raise Foreign(NO_CONTINUATION)
            self.here, self.chain = record.end, chain
        return fresh


NO_CONTINUATION = "it does not continue what was folded: its chain is another one"


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """Rows of a table that changed after one offset of its source up to another: a true statement about a deterministic
    fold.

    Its parts are messages that carry the same ``nonce`` and ``upto``; it counts once all are there. A row too large for
    one part goes on in the next ones, under the same key.
    """

    generation: str
    nonce: str
    after: int
    """-1 for a base, which holds every row."""
    upto: int
    part: int
    parts: int
    rows: list[tuple[bytes, bytes]]


class DigestPart(msgspec.Struct, frozen=True, array_like=True):
    """What one shard states of itself at a sequence number that the intake asked for."""

    generation: str
    shard: int
    sequence: int
    offset: int
    """Of the intake: the last record of the journal up to there."""
    head: bytes
    """Of the intake: its digest, and counts and chains of its effects; empty for the others."""
    effects_head: bytes
    state_sums: bytes
    """Slot (2 bytes) and sum (32 bytes) of each slot that is not 0."""
    effect_sums: bytes
    counts: list[int]
    """Of the intake: accepted, duplicate, refused, effects, duplicates of refused inputs. Of the others: accounts,
    effects."""


_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
decode_sequenced = msgspec.msgpack.Decoder(SequencedBatch).decode
decode_item = msgspec.msgpack.Decoder(AnySequenced).decode
decode_effects = msgspec.msgpack.Decoder(EffectsRecord).decode
decode_delta = msgspec.msgpack.Decoder(Delta).decode
decode_digest_part = msgspec.msgpack.Decoder(DigestPart).decode


def rows_of(parts: Iterable[Delta]) -> dict[bytes, bytes]:
    """Return the rows of a delta from all of its parts, in any order."""
    pieces: dict[bytes, list[bytes]] = {}
    for part in sorted(parts, key=lambda part: part.part):
        for key, value in part.rows:
            pieces.setdefault(key, []).append(value)
    return {key: b"".join(values) for key, values in pieces.items()}


class Deltas:
    """Collects the deltas of one generation from the messages of a changelog."""

    def __init__(self, generation: str, topic: str = "", partition: int = 0, seal: Seal = OPEN) -> None:
        self._generation = generation
        self._topic, self._partition, self._seal = topic, partition, seal
        self._parts: dict[tuple[str, int], dict[int, Delta]] = {}
        self._begun: dict[tuple[str, int], int] = {}
        """Of what is incomplete, the offset of its first part."""

    def take(self, offset: int, value: bytes | None) -> Delta | None:
        """Take one message; return the delta that it completes, with the rows of all parts, or None.

        Raises:
            Foreign: the message is no delta of ours.
        """
        delta = self._seal.read(decode_delta, self._topic, self._partition, value)
        if delta.generation != self._generation:
            return None
        key = (delta.nonce, delta.upto)
        parts = self._parts.setdefault(key, {})
        self._begun.setdefault(key, offset)
        parts[delta.part] = delta
        if len(parts) < delta.parts:
            return None
        del self._parts[key], self._begun[key]
        return msgspec.structs.replace(delta, rows=list(rows_of(parts.values()).items()))

    def whole_up_to(self, offset: int) -> int:
        """Return up to where a changelog that was read to an offset need not be read again: before the first part of
        what is incomplete."""
        return min([offset, *(first - 1 for first in self._begun.values())])


def decode_manifest(data: bytes, oldest: int = MANIFEST_FORMAT) -> StoreManifest:
    """Return a manifest.

    Raises:
        CorruptManifest: it is damaged.
        StoreOlder, StoreNewer: it is of another format.
    """
    try:
        manifest = msgspec.json.decode(data, type=StoreManifest)
    except UNDECODABLE as error:
        raise CorruptManifest(f"the manifest topic holds no manifest: {error}") from None
    if manifest.format < oldest:
        raise StoreOlder(
            f"the store was made by an earlier margin-stream (format {manifest.format}; this one knows "
            f"{MANIFEST_FORMAT}), whose {'rules' if manifest.format < REBUILT_FROM else 'derived topics'} are others"
        )
    if manifest.format > MANIFEST_FORMAT:
        raise StoreNewer(
            f"the store was made by a newer margin-stream (format {manifest.format}; this one knows {MANIFEST_FORMAT})"
        )
    return manifest
