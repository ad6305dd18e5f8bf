"""Shards: the folds of a store as they follow a topic's partition, one record after the other, without a broker or a
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
from typing import Any, NamedTuple

import msgspec
import orjson

from margin_stream.core.accounts.fold import AccountFold
from margin_stream.core.checks import check
from margin_stream.core.digests import pack_sums
from margin_stream.core.effect_book import EffectBook, Emitted
from margin_stream.core.fold import FoldSet
from margin_stream.core.folds import accounts_of, partition_folds, store_folds
from margin_stream.core.intake.admission import Admission
from margin_stream.core.intake.fold import IntakeFold
from margin_stream.core.sequenced import AnySequenced, Batch
from margin_stream.kafka import messages
from margin_stream.kafka.address import Topics
from margin_stream.kafka.batch_messages import batch_messages, effect_messages
from margin_stream.kafka.messages import DigestPart, Place, StoreManifest
from margin_stream.schemas.effects import InputRefused, decode_effect, effect_id, group_of
from margin_stream.schemas.records import raw_items, readable
from margin_stream.schemas.refusals import ADVICE, Refusal
from margin_stream.views.effect import describe_effect


class Accepted(Enum):
    """What became of a record."""

    FOLDED = 1
    SKIPPED = 2
    """Its offset was folded before."""
    AHEAD = 3
    """An offset before it is missing: the reader must go back."""


class Send(NamedTuple):
    """A message to be sent."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes


class Marker(msgspec.Struct, frozen=True, array_like=True):
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
    """Counters that live on: duplicates, trimmed."""


class Snapshot(NamedTuple):
    """Changed rows and the marker, as one batch."""

    rows: list[tuple[bytes, bytes]]
    marker: Marker


class Unusable(Exception):
    """Rows and marker do not belong together: the shard is folded anew."""


class Shard:
    """What all shards have: an offset, folds that stand at a sequence number, counters."""

    kind = ""

    def __init__(self, topics: Topics, generation: str, number: int, folds: FoldSet) -> None:
        self.topics = topics
        self.generation = generation
        self.number = number
        """0 for the intake, p + 1 for partition p of accounts."""
        self.folds = folds
        self.offset = -1
        self.folded = 0
        """Records folded since the start."""
        self.skipped = 0
        """Records that came again."""
        self.duplicates = 0
        """Inputs that came again; lives on in the marker."""
        self.trimmed = 0
        """Positions that came again in other cuts; lives on in the marker."""
        self.holes = 0
        """Records passed over because something before them is missing; it comes from whoever resumes."""
        self.strange = 0
        """Messages of another generation, or of no form of ours."""
        self.unsent = 0
        """Items folded whose outcome was not taken for sending yet."""
        self.sent = [0]
        """Up to which sequence number was sent: effects, then (intake) each partition of accounts. Of effects: the
        place up to which they were taken."""

    @property
    def sequence(self) -> int:
        """The last sequence number folded."""
        return self.folds.sequence

    def accept(self, offset: int, value: bytes | None) -> Accepted:
        """Fold the record at an offset.

        Raises:
            Fault: the fold found a fault; the shard must not go on.
        """
        if offset <= self.offset:
            self.skipped += 1
            return Accepted.SKIPPED
        if offset > self.offset + 1:
            return Accepted.AHEAD
        self._fold(value)
        self.offset = offset
        self.folded += 1
        return Accepted.FOLDED

    def _fold(self, value: bytes | None) -> None:
        raise NotImplementedError

    def drain(self) -> list[Send]:
        """Return what is to be sent for what was folded since the last time."""
        raise NotImplementedError

    def snapshot(self) -> Snapshot:
        """Return the rows that changed since the last snapshot; everything folded must have been drained."""
        rows = list(self.folds.rows())
        self.folds.mark_stored()
        counts = [self.duplicates, self.trimmed]
        return Snapshot(
            rows,
            Marker(
                self.generation, self.offset, self.sequence, self._digest(self.sent, counts), self.sent.copy(), counts
            ),
        )

    def restore(self, rows: Iterable[tuple[bytes, bytes]], marker: Marker) -> None:
        """Set the state from rows in order of key; only on a new shard.

        Raises:
            Unusable: the rows do not have the marker's digest.
        """
        try:
            self.folds.restore(marker.sequence, rows)
        except Exception as error:
            raise Unusable(f"rows of {self.kind}: {error}") from error
        if len(marker.sent) != len(self.sent):
            raise Unusable(f"the marker has {len(marker.sent)} places of what was sent, not {len(self.sent)}")
        if self._digest(marker.sent, marker.counts) != marker.digest:
            raise Unusable(f"the rows do not have the digest of the marker at sequence number {marker.sequence}")
        self.offset, self.sent = marker.offset, marker.sent.copy()
        self.duplicates, self.trimmed = marker.counts

    def _digest(self, sent: list[int], counts: list[int]) -> bytes:
        return sha256(self.folds.digest() + messages.encode([sent, counts])).digest()

    def _send_effects(self, emitted: Iterable[Emitted]) -> Iterator[Send]:
        """Yield the messages of effects up to the sequence number."""
        rows = [(effect.sequence, effect.data) for effect in emitted]
        for message in effect_messages(self.generation, self.number, self.sent[0], self.sequence, rows):
            yield Send(self.topics.effects, self.number, None, message)
        self.sent[0] = self.sequence


class IntakeShard(Shard):
    """The intake and the folds of the whole store, following the journal."""

    kind = "intake"

    def __init__(self, topics: Topics, generation: str, partitions: int, *, rules_version: int) -> None:
        self.intake = IntakeFold(partitions, rules_version=rules_version)
        super().__init__(topics, generation, 0, store_folds(self.intake))
        self.sent = [0] * (partitions + 1)
        self.asked_at = -1
        """The offset at which digests were last asked for."""
        self._admission = Admission(self.intake, refused=self._note)
        self._ask = False
        self._refused: dict[int, tuple[bytes, str]] = {}
        """Position -> raw item and detail, of refusals to be sent to quarantine."""

    @property
    def sequence(self) -> int:
        return self.intake.sequence

    def _fold(self, value: bytes | None) -> None:
        for raw in raw_items(value):
            counts = self._admission.item(raw)
            self.duplicates += counts.duplicate
            self.unsent += sum(counts)

    def _note(self, sequence: int, raw: bytes, reason: tuple[Refusal, str]) -> None:
        self._refused[sequence] = (raw, reason[1])

    def ask_digests(self) -> None:
        """Let every shard give its digest at the sequence number of the next ``drain``."""
        self._ask = True

    def drain(self) -> list[Send]:
        asked, self._ask = self._ask, False
        self.unsent = 0
        sequence = self.intake.sequence
        whole, *batches = self.intake.take(market_digest=asked)
        own = self.folds.apply(whole)
        sends: list[Send] = []
        for partition, batch in enumerate(batches):
            if batch.items or (asked and sequence):
                messages = batch_messages(self.generation, self.sent[partition + 1], batch, asked)
                sends.extend(Send(self.topics.accounts, partition, None, message) for message in messages)
                self.sent[partition + 1] = sequence
        asked = asked and sequence > 0
        if own or (asked and self.sent[0] < sequence):
            sends.extend(self._send_effects(own))
        sends.extend(self._quarantine(own))
        self._refused.clear()
        if asked:
            self.asked_at = self.offset
            sends.append(self._digest_part())
        return sends

    def _digest_part(self) -> Send:
        intake, book = self.intake, self.folds.book
        counts = [intake.accepted, self.duplicates, intake.refused, book.total]
        part = DigestPart(
            self.generation,
            0,
            intake.sequence,
            self.offset,
            intake.digest(),
            book.top(),
            pack_sums(self.folds.state_sums()),
            b"",
            counts,
        )
        return Send(self.topics.digests, 0, b"0", messages.encode(part))

    def _quarantine(self, own: list[Emitted]) -> Iterator[Send]:
        for emitted in own:
            effect = decode_effect(emitted.data)
            if isinstance(effect, InputRefused):
                row = quarantine_row(effect, *self._refused.get(emitted.sequence, (b"", "")))
                yield Send(self.topics.quarantine, 0, f"#{emitted.sequence}".encode(), orjson.dumps(row))


class AccountsShard(Shard):
    """The folds of one partition, following their routed items."""

    kind = "accounts"

    def __init__(self, topics: Topics, generation: str, number: int, *, rules_version: int) -> None:
        super().__init__(topics, generation, number, partition_folds(rules_version=rules_version))
        self._emitted: list[Emitted] = []
        self._parts: list[Send] = []

    @property
    def accounts(self) -> AccountFold:
        """The accounts of the partition."""
        return accounts_of(self.folds)

    def _fold(self, value: bytes | None) -> None:
        try:
            record = messages.decode_sequenced(value or b"")
        except msgspec.DecodeError:
            self.strange += 1
            return
        if record.generation != self.generation:
            self.strange += 1
            return
        here = self.sequence
        if record.previous > here:
            self.holes += 1
            return
        if record.last > here:
            items: list[AnySequenced] = record.items
            if record.previous < here:
                items = [item for item in items if item.sequence > here]
                self.trimmed += here - record.previous
            self._emitted.extend(self.folds.apply(Batch(here, record.last, items, record.market_digest)))
            self.unsent += len(items)
        else:
            self.trimmed += record.last - record.previous
        if record.asked and record.last == self.sequence:
            self._parts.append(self._digest_part())

    def _digest_part(self) -> Send:
        sums = pack_sums(self.folds.state_sums()), pack_sums(self.folds.book.sums())
        counts = [self.accounts.account_count, self.folds.book.total]
        part = DigestPart(self.generation, self.number, self.sequence, self.offset, b"", b"", *sums, counts)
        return Send(self.topics.digests, 0, str(self.number).encode(), messages.encode(part))

    def drain(self) -> list[Send]:
        self.unsent = 0
        sends: list[Send] = []
        if self._emitted or (self._parts and self.sent[0] < self.sequence):
            emitted, self._emitted = self._emitted, []
            sends.extend(self._send_effects(emitted))
        sends.extend(self._parts)
        self._parts = []
        return sends


ALERTS = frozenset(
    {
        "margin_warned",
        "margin_level_changed",
        "margin_call_issued",
        "call_reduced",
        "call_met",
        "call_cured",
        "call_reopened",
        "call_expired",
        "call_escalated",
        "liquidation_due",
        "feed_went_stale",
        "mark_reanchored",
    }
)
"""Types of effects that a desk is alerted to."""


class EffectsShard(Shard):
    """The effects of one shard as they are recorded: repeated ones are trimmed, numbers must follow each other, alerts
    go out."""

    kind = "effects"

    def __init__(self, topics: Topics, generation: str, number: int) -> None:
        self.book = EffectBook()
        super().__init__(topics, generation, number, FoldSet((), self.book))
        self.sent = [*Place(0)]
        self._alerts: list[Send] = []

    def _fold(self, value: bytes | None) -> None:
        try:
            record = messages.decode_effects(value or b"")
        except msgspec.DecodeError:
            self.strange += 1
            return
        if record.generation != self.generation or record.shard != self.number:
            self.strange += 1
            return
        here = Place(*self.sent)
        if record.start > here:
            self.holes += 1
            return
        fresh = record.behind(here)
        self.trimmed += len(record.effects) - len(fresh)
        for _, data in fresh:
            self._take(data)
        self.sent = [*max(here, record.end)]
        self.folds.sequence = self.sent[0]
        self.unsent += 1

    def _take(self, data: bytes) -> None:
        effect = decode_effect(data)
        group = group_of(effect.id)
        number = self.book.add(group, data)
        check(
            effect.id == effect_id(group, number),
            "effects of a group are numbered without gaps",
            group=group,
            expected=number,
            got=effect.id,
        )
        row = describe_effect(effect)
        if row["type"] in ALERTS:
            message = orjson.dumps({"id": effect.id, "type": row["type"], "timestamp": row.get("at"), "data": row})
            self._alerts.append(Send(self.topics.alerts, 0, group.encode(), message))

    def drain(self) -> list[Send]:
        self.unsent = 0
        sends, self._alerts = self._alerts, []
        return sends


def shard_of(topics: Topics, manifest: StoreManifest, topic: str, partition: int) -> Shard:
    """Return an empty shard for a partition of a topic that workers follow."""
    if topic == topics.inputs:
        return IntakeShard(topics, manifest.generation, manifest.partitions, rules_version=manifest.rules_version)
    if topic == topics.accounts:
        return AccountsShard(topics, manifest.generation, partition + 1, rules_version=manifest.rules_version)
    return EffectsShard(topics, manifest.generation, partition)


def quarantine_row(effect: InputRefused, raw: bytes, detail: str) -> dict[str, Any]:
    """Return a refused input as the topic of quarantine carries it."""
    row = {"id": f"#{effect.sequence}", **{k: v for k, v in describe_effect(effect).items() if k not in ("id", "type")}}
    row["detail"] = detail
    row["advice"] = ADVICE[Refusal(effect.reason)]
    return row | readable(raw)
