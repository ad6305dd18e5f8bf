"""A store on Kafka open for reading: replay, verify and the views work on it as on a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from margin_stream.core.store_fold import StoreFold
from margin_stream.journal.layout import RecordedDigest
from margin_stream.kafka.address import KafkaAddress
from margin_stream.kafka.chains import Chain
from margin_stream.kafka.client import Client
from margin_stream.kafka.digest_quorum import Statements
from margin_stream.kafka.messages import EffectsPlace, Place, decode_effects
from margin_stream.kafka.seals import Foreign, configured_seal
from margin_stream.kafka.topics_admin import read_manifest
from margin_stream.schemas.records import raw_items
from margin_stream.views.source import EVERYTHING, Items, Part, Until


class KafkaReader:
    """Reads a store's topics up to their ends as they were on opening."""

    repeats = True

    def __init__(self, client: Client, address: KafkaAddress) -> None:
        """
        Raises:
            StoreMissing, StoreError, Unreachable.
        """
        self._client = client
        self.address = address
        self.manifest = read_manifest(client, address)
        self.partitions = self.manifest.partitions
        self.rules_version = self.manifest.rules_version
        topics = address.topics
        # The order matters beside workers: digests are read first, so what they speak of is in the other topics.
        self.seal = configured_seal()
        statements = Statements(self.manifest.generation, self.partitions, topics.digests, self.seal)
        for record in client.read(topics.digests):
            statements.take(record.value)
        self.statements = statements
        self.recorded = [
            RecordedDigest(sequence, reported.offset + 1, reported.digests.state, reported.digests.effects)
            for sequence, reported in sorted(statements.reported.items())
        ]
        self._effect_ends = [client.end(topics.effects, shard) for shard in range(self.partitions + 1)]
        self.last_record = client.end(topics.inputs)

    @property
    def recorded_sequence(self) -> int:
        """Up to here every shard has recorded its effects and reported its digest."""
        return self.recorded[-1].sequence if self.recorded else 0

    def items(self, after: int = 0) -> Iterator[Items]:
        """Yield the journal's records, their items raw; number n is offset n - 1."""
        for record in self._client.read(self.address.topics.inputs, 0, after, self.last_record, whole=True):
            yield Items(record.offset + 1, list(raw_items(record.value)))

    def parts(self, sequence: int = 0, account: str | None = None) -> Iterator[Part]:
        """Yield the whole journal: it may have inputs more than once, so its sequence numbers are counted from the
        start."""
        yield Part(0, 0, self.items())

    def effects(self, log: int, after: int = 0) -> Iterator[bytes]:
        """Yield the recorded effects of one shard, each once, up to where the record has no hole."""
        for _, effects in self.effects_behind(log):
            yield from effects

    @property
    def lineage(self) -> tuple[str, str]:
        """The store's id, and the generation of its derived topics."""
        return self.manifest.store_id, self.manifest.generation

    def effects_behind(self, log: int, mark: Sequence[Any] = ()) -> Iterator[tuple[Sequence[Any], list[bytes]]]:
        """Yield the effects of one shard message by message, each effect once; a mark is the next offset, the place
        reached and the chain there. What is not of this store is passed over."""
        offset, sequence, within, chain = mark or (0, 0, 0, b"")
        place = EffectsPlace(Place(sequence, within), Chain.unpack(chain))
        topic = self.address.topics.effects
        for message in self._client.read(topic, log, offset, self._effect_ends[log]):
            try:
                record = self.seal.read(decode_effects, topic, log, message.value)
                if record.generation != self.manifest.generation or record.start > place.here:
                    continue
                fresh = place.take(record)
            except Foreign:
                continue
            yield (message.offset + 1, *place.here, place.chain.pack()), [data for _, data in fresh]

    def from_checkpoint(self, until: Until = EVERYTHING, only: str | None = None) -> tuple[StoreFold, int] | None:
        """Return None: the tables are with the workers."""
        return None

    def again(self) -> KafkaReader:
        """Return the store opened anew."""
        return KafkaReader(self._client, self.address)
