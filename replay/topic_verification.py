"""Verify a store on Kafka: is anything of its topics damaged? Read-only; every problem is named by topic, partition and
offset."""

from __future__ import annotations

from hashlib import sha256

import msgspec

from margin_stream.kafka import fetched, messages
from margin_stream.kafka.address import KafkaAddress
from margin_stream.kafka.chains import Chain
from margin_stream.kafka.client import Client
from margin_stream.kafka.messages import EffectsPlace, Place
from margin_stream.kafka.reader import KafkaReader
from margin_stream.kafka.seals import Foreign
from margin_stream.kafka.shard import SnapshotMarker, Unusable
from margin_stream.kafka.shard_table import MARKER
from margin_stream.kafka.shards import fresh_items, shard_of
from margin_stream.replay.verification import Problem, Verified, refold
from margin_stream.schemas.binary import UNDECODABLE
from margin_stream.schemas.effects import decode_effect
from margin_stream.schemas.records import count_of, raw_items

NO_CHAIN = bytes(32)


def verify(client: Client, address: KafkaAddress, *, fold: bool = True) -> Verified:
    """Check everything of a store.

    Args:
        client: connected.
        address: of the store.
        fold: also fold the journal from nothing and compare effects and digests with what the workers recorded.

    Raises:
        StoreMissing, StoreError: there is no store.
    """
    reader = KafkaReader(client, address)
    inspector = _Inspector(client, reader)
    inspector.journal()
    inspector.routed()
    inspector.effects()
    inspector.changelogs()
    for what in reader.statements.contradictions:
        inspector.report(address.topics.digests, 0, None, what)
    topics = address.topics
    folded = (
        fold and not inspector.problems and refold(reader, inspector.problems, f"{topics.inputs}-0", topics.effects)
    )
    return Verified(
        ok=not inspector.problems,
        problems=inspector.problems,
        records=reader.last_record,
        items=inspector.items,
        effects=inspector.effect_count,
        chain=inspector.chain.hex(),
        torn_tail_bytes=0,
        checkpoint_position=inspector.checkpoint_position,
        folded=folded,
    )


class _Inspector:
    def __init__(self, client: Client, reader: KafkaReader) -> None:
        self._client = client
        self._reader = reader
        self._topics = reader.address.topics
        self.problems: list[Problem] = []
        self.items = self.effect_count = self.checkpoint_position = 0
        self.chain = NO_CHAIN

    def report(self, topic: str, partition: int | None, offset: int | None, what: str) -> None:
        self.problems.append(Problem(topic if partition is None else f"{topic}-{partition}", offset, what))

    def journal(self) -> None:
        """Every offset from 0 is there, or a transaction explains why not (the client checks the checksums); the chain
        over all records."""
        expected = 0
        topic = self._topics.inputs
        for record in self._client.read(topic, 0, 0, self._reader.last_record):
            expected = fetched.behind(topic, 0, expected)
            if record.offset != expected:
                self.report(
                    topic,
                    0,
                    expected,
                    f"{record.offset - expected} records are missing: the journal must be kept for ever",
                )
                expected = record.offset
            expected += 1
            value = record.value
            self.items += sum(count_of(raw) for raw in raw_items(value))
            length = -1 if value is None else len(value)
            self.chain = sha256(self.chain + length.to_bytes(8, "big", signed=True) + (value or b"")).digest()
        expected = fetched.behind(topic, 0, expected)
        if expected < self._reader.last_record:
            self.report(topic, 0, expected, f"{self._reader.last_record - expected} records are missing")

    def routed(self) -> None:
        """What was routed to each partition: every message continues the one before."""
        topic = self._topics.accounts
        for partition in range(self._reader.partitions):
            here, chain = 0, Chain()
            for message in self._client.read(topic, partition):
                try:
                    record = self._reader.seal.read(messages.decode_sequenced, topic, partition, message.value)
                    if record.generation == self._reader.manifest.generation and record.previous <= here < record.last:
                        _, chain = fresh_items(record, here, chain)
                        here = record.last
                except Foreign as error:
                    self.report(topic, partition, message.offset, str(error))

    def effects(self) -> None:
        """What the shards recorded: continuous, numbered, and the same bytes where it was sent again."""
        topic = self._topics.effects
        generation = self._reader.manifest.generation
        for shard in range(self._reader.partitions + 1):
            place, hole = EffectsPlace(Place(0), Chain()), Place(0)
            hole_offset: int | None = None
            seen: dict[str, bytes] = {}
            for message in self._client.read(topic, shard):
                try:
                    record = self._reader.seal.read(messages.decode_effects, topic, shard, message.value)
                except Foreign as error:
                    self.report(topic, shard, message.offset, str(error))
                    continue
                if record.generation != generation:
                    continue
                for _, data in record.effects:
                    try:
                        identifier = decode_effect(data).id
                    except UNDECODABLE as error:
                        self.report(topic, shard, message.offset, f"an effect cannot be decoded: {error}")
                        continue
                    digest = sha256(data).digest()[:16]
                    if seen.setdefault(identifier, digest) != digest:
                        self.report(
                            topic, shard, message.offset, f"effect {identifier} was recorded before with other bytes"
                        )
                if record.start > place.here:
                    hole, hole_offset = max(hole, record.end), message.offset
                    continue
                try:
                    self.effect_count += len(place.take(record))
                except Foreign as error:
                    self.report(topic, shard, message.offset, str(error))
            here = place.here
            if hole > here:
                begun = f" and {here.within} effects of the next" if here.within else ""
                self.report(
                    topic, shard, hole_offset, f"effects behind sequence number {here.sequence}{begun} are missing"
                )

    def changelogs(self) -> None:
        """The deltas of every table, applied one after the other, give rows with the digest of their marker."""
        manifest = self._reader.manifest
        topics = self._topics
        for source, partitions in (
            (topics.inputs, 1),
            (topics.accounts, manifest.partitions),
            (topics.effects, manifest.partitions + 1),
        ):
            for partition in range(partitions):
                rows = self._rows(topics.changelog(source), partition)
                data = rows.pop(MARKER, None)
                if data is None:
                    continue
                marker = msgspec.msgpack.decode(data, type=SnapshotMarker)
                if source == topics.inputs:
                    self.checkpoint_position = marker.sequence
                shard = shard_of(topics, manifest, source, partition)
                try:
                    shard.restore(sorted(rows.items()), marker)
                except Unusable as error:
                    self.report(topics.changelog(source), partition, None, str(error))

    def _rows(self, topic: str, partition: int) -> dict[bytes, bytes]:
        rows: dict[bytes, bytes] = {}
        deltas = messages.Deltas(self._reader.manifest.generation, topic, partition, self._reader.seal)
        current = -1
        for message in self._client.read(topic, partition):
            try:
                delta = deltas.take(message.offset, message.value)
            except Foreign as error:
                self.report(topic, partition, message.offset, str(error))
                continue
            if delta is not None and delta.after <= current < delta.upto:
                if delta.after == -1:
                    rows = {}
                rows.update(delta.rows)
                current = delta.upto
        return rows
