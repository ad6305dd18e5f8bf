"""A shard: folds of a store as they follow a topic's partition, one record after the other, without a broker or a
loop.

A shard takes records by offset (only the next one counts), folds them, and gives what is to be sent. Readers trim what
they have by place, so a shard that resumes from a checkpoint may send again with other cuts, and one that is outrun
does no harm. A *snapshot* is the changed rows of its folds and a marker at one offset; whoever stores it writes both as
one batch, once everything that was to be sent is durable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from hashlib import sha256
from typing import NamedTuple

import msgspec
import orjson

from margin_stream.core.checks import check
from margin_stream.core.effect_book import Emitted
from margin_stream.core.fold import FoldSet
from margin_stream.kafka import messages
from margin_stream.kafka.address import Topics
from margin_stream.kafka.batch_messages import effect_messages
from margin_stream.kafka.chains import Chain
from margin_stream.kafka.seals import OPEN, Foreign, Seal


class Accepted(Enum):
    """What became of a record."""

    FOLDED = 1
    SKIPPED = 2
    """Its offset was folded before."""
    AHEAD = 3
    """An offset before it is missing: the reader must go back."""


ANOTHER_RECORD = "the record at the last offset folded is the one that was folded: the topic was cut or made anew"


def record_hash(value: bytes | None) -> bytes:
    """Return the SHA-256 of a record's value, one of a record without value."""
    found = sha256(b"" if value is None else b"=")
    found.update(value or b"")
    return found.digest()


class Send(NamedTuple):
    """A message to be sent."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes


class SnapshotMarker(msgspec.Struct, frozen=True, array_like=True):
    """Where a snapshot stands."""

    generation: str
    offset: int
    """The last record folded."""
    sequence: int
    digest: bytes
    """Over every row of the snapshot, and over the fields below."""
    sent: list[int]
    """Up to which sequence number was sent: effects, then (intake) each partition of accounts. Of effects: the place up
    to which they were taken."""
    counts: list[int]
    """Counters that live on: duplicates, trimmed, duplicates of refused inputs."""
    chains: list[bytes]
    """Behind what was sent, as in ``sent``; of accounts also behind the items taken. Of effects: behind those taken."""
    last: tuple[int, bytes] = (-1, b"")
    """Offset and SHA-256 of the last record that was folded; -1 and nothing before the first."""


class Snapshot(NamedTuple):
    """Changed rows and the marker, as one batch."""

    rows: list[tuple[bytes, bytes]]
    marker: SnapshotMarker


class Unusable(Exception):
    """Rows and marker do not belong together: the shard is folded anew."""


class Shard:
    """What all shards have: an offset, folds that stand at a sequence number, counters."""

    kind = ""

    def __init__(self, topics: Topics, generation: str, number: int, folds: FoldSet, seal: Seal = OPEN) -> None:
        self.topics = topics
        self.generation = generation
        self.seal = seal
        self.number = number
        """0 for the intake, p + 1 for partition p of accounts."""
        self.folds = folds
        self.offset = -1
        self.last: tuple[int, bytes] = (-1, b"")
        """Offset and SHA-256 of the last record that was folded."""
        self.folded = 0
        """Records folded since the start."""
        self.skipped = 0
        """Records that came again."""
        self.duplicates = 0
        """Inputs that came again; lives on in the marker."""
        self.of_refused = 0
        """Those of them that were refused when they came first; lives on in the marker."""
        self.trimmed = 0
        """Positions that came again in other cuts; lives on in the marker."""
        self.holes = 0
        """Records passed over because something before them is missing; it comes from whoever resumes."""
        self.strange = 0
        """Messages of another generation: of before the topics were rebuilt."""
        self.foreign = 0
        """Messages that are not of this store: they were refused."""
        self.unsent = 0
        """Items folded whose outcome was not taken for sending yet."""
        self.sent = [0]
        """Up to which sequence number was sent: effects, then (intake) each partition of accounts. Of effects: the
        place up to which they were taken."""
        self.chains = [Chain()]
        """See ``SnapshotMarker.chains``."""
        self.refusals: list[str] = []
        """Why messages were refused, since someone looked."""
        self._alerts: list[Send] = []

    @property
    def sequence(self) -> int:
        """The last sequence number folded."""
        return self.folds.sequence

    def accept(self, offset: int, value: bytes | None) -> Accepted:
        """Fold the record at an offset.

        Raises:
            Fault: the fold found a fault, or another record is where the last one was; the shard must not go on.
        """
        if offset <= self.offset:
            self.skipped += 1
            if offset == self.last[0]:
                check(self.last[1] == record_hash(value), ANOTHER_RECORD)
            return Accepted.SKIPPED
        if offset > self.offset + 1:
            return Accepted.AHEAD
        self._fold(value)
        self.offset = offset
        self.last = offset, record_hash(value)
        self.folded += 1
        return Accepted.FOLDED

    def pass_over(self, behind: int) -> None:
        """Go on at an offset: the broker explains why there is no record before it."""
        self.offset = max(self.offset, behind - 1)

    def _fold(self, value: bytes | None) -> None:
        raise NotImplementedError

    def drain(self) -> list[Send]:
        """Return what is to be sent for what was folded since the last time."""
        raise NotImplementedError

    def _refuse(self, topic: str, partition: int, error: Foreign) -> None:
        """Fold nothing of a message that is not of this store, and raise the alarm."""
        self.foreign += 1
        offset = self.offset + 1
        self.refusals.append(f"{topic}-{partition}: offset {offset}: refused: {error}")
        data = {"topic": topic, "partition": partition, "offset": offset, "reason": str(error)}
        row = {
            "id": f"@{topic}/{partition}/{offset}",
            "type": "derived_message_refused",
            "timestamp": None,
            "data": data,
        }
        self._alerts.append(Send(self.topics.alerts, 0, topic.encode(), orjson.dumps(row)))

    def _take_alerts(self) -> list[Send]:
        alerts, self._alerts = self._alerts, []
        return alerts

    def snapshot(self) -> Snapshot:
        """Return the rows that changed since the last snapshot; everything folded must have been drained."""
        rows = list(self.folds.rows())
        self.folds.mark_stored()
        counts = [self.duplicates, self.trimmed, self.of_refused]
        chains = [chain.pack() for chain in self.chains]
        return Snapshot(
            rows,
            SnapshotMarker(
                self.generation,
                self.offset,
                self.sequence,
                self._digest(self.sent, counts, chains),
                self.sent.copy(),
                counts,
                chains,
                self.last,
            ),
        )

    def restore(self, rows: Iterable[tuple[bytes, bytes]], marker: SnapshotMarker) -> None:
        """Set the state from rows in order of key; only on a new shard.

        Raises:
            Unusable: the rows do not have the marker's digest.
        """
        try:
            self.folds.restore(marker.sequence, rows)
        except Exception as error:
            raise Unusable(f"rows of {self.kind}: {error}") from error
        if (len(marker.sent), len(marker.chains)) != (len(self.sent), len(self.chains)):
            raise Unusable(f"the marker has {len(marker.sent)} places of what was sent, not {len(self.sent)}")
        if self._digest(marker.sent, marker.counts, marker.chains) != marker.digest:
            raise Unusable(f"the rows do not have the digest of the marker at sequence number {marker.sequence}")
        self.offset, self.last, self.sent = marker.offset, marker.last, marker.sent.copy()
        self.chains = [Chain.unpack(chain) for chain in marker.chains]
        self.duplicates, self.trimmed, self.of_refused = marker.counts

    def _digest(self, sent: list[int], counts: list[int], chains: list[bytes]) -> bytes:
        return sha256(self.folds.digest() + messages.encode([sent, counts, chains])).digest()

    def _send_effects(self, emitted: Iterable[Emitted]) -> Iterator[Send]:
        """Yield the messages of effects up to the sequence number."""
        rows = [(effect.sequence, effect.data) for effect in emitted]
        places = self.sent[0], self.sequence
        self.sent[0] = self.sequence
        for message in effect_messages(self.generation, self.number, *places, rows, self.chains[0]):
            yield Send(self.topics.effects, self.number, None, message)
