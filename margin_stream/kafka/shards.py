"""Shards: the folds of a store as they follow a topic's partition, one record after the other, without a broker or a loop.

A shard takes records by offset (only the next one counts), folds them, and says what is to be sent. Readers trim what they have by place, so
a shard that resumes from a checkpoint may send again with other cuts, and one that is outrun does no harm. A *snapshot* is its changed rows
and a marker at one offset; whoever stores it writes both as one batch, once everything that was to be sent is durable.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from enum import Enum
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
import orjson

from margin_stream.core.account_fold import AccountFold, Emitted
from margin_stream.core.checks import check
from margin_stream.core.digests import MODULUS, NO_CHAIN, chained, effect_leaf, slot_of
from margin_stream.core.intake import IntakeFold
from margin_stream.core.market import Market
from margin_stream.core.routed import AnyRouted, Batch
from margin_stream.core.system import Counts, offer_raw
from margin_stream.kafka import wire
from margin_stream.kafka.names import Topics
from margin_stream.kafka.wire import DigestPart, EffectsRecord, Place, Routed
from margin_stream.tables.checkpoints import ACCOUNT, MARKET, account_row, intake_digest, partition_digest, split_row
from replay.views import describe_effect
from schemas.effects import INTAKE_GROUP, MARKET_GROUP, InputRefused, decode_effect
from schemas.engines import LATEST
from schemas.records import LINE, raw_items
from schemas.refusals import ADVICE, Refusal

SPLIT_BYTES = 768 << 10
"""A message with more is split, where it has more than one item or effect."""
EFFECT_BYTES = 16
"""What an effect takes in a message beside its own bytes, at most: its array, its position, its length."""


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
    position: int
    digest: bytes
    """Over every row of the snapshot."""
    sent: list[int]
    """Up to which position was sent: effects, then (intake) each partition of accounts. Of effects: the place up to which they were taken."""
    counts: list[int]
    """Counters that live on: duplicates, trimmed."""


class Snapshot(NamedTuple):
    """Changed rows and the marker, as one batch."""

    rows: list[tuple[bytes, bytes]]
    marker: Marker


class Unusable(Exception):
    """Rows and marker do not belong together: the shard is folded anew."""


class Shard:
    """What all shards have: an offset, a position, counters."""

    kind = ""

    def __init__(self, topics: Topics, generation: str, number: int) -> None:
        self.topics = topics
        self.generation = generation
        self.number = number
        """0 for the intake, p + 1 for partition p of accounts."""
        self.offset = -1
        self.folded = 0
        """Records folded since the start."""
        self.skipped = 0
        """Records that came again."""
        self.trimmed = 0
        """Positions that came again in other cuts; lives on in the marker."""
        self.holes = 0
        """Records passed over because something before them is missing; it comes from whoever resumes."""
        self.strange = 0
        """Messages of another generation, or of no form of ours."""
        self.unsent = 0
        """Items folded whose outcome was not taken for sending yet."""

    @property
    def position(self) -> int:
        """The last position folded."""
        raise NotImplementedError

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
        raise NotImplementedError

    def restore(self, rows: Iterable[tuple[bytes, bytes]], marker: Marker) -> None:
        """Set the state from rows in order of key; only on a new shard.

        Raises:
            Unusable: the rows do not have the marker's digest.
        """
        raise NotImplementedError

    def _restored(self, marker: Marker, digest: bytes) -> None:
        if digest != marker.digest:
            raise Unusable(f"the rows do not have the digest of the marker at position {marker.position}")
        self.offset = marker.offset
        self.trimmed = marker.counts[1]

    def _marker(self, digest: bytes, sent: list[int], duplicates: int = 0) -> Marker:
        return Marker(self.generation, self.offset, self.position, digest, sent, [duplicates, self.trimmed])


class IntakeShard(Shard):
    """The intake, following the journal."""

    kind = "intake"

    def __init__(self, topics: Topics, generation: str, partitions: int, engine: int = LATEST) -> None:
        super().__init__(topics, generation, 0)
        self.fold = IntakeFold(partitions, engine=engine)
        self.duplicates = 0
        self.sent = [0] * partitions
        self.effects_sent = 0
        self.asked_at = -1
        """The offset at which digests were last asked for."""
        self._ask = False
        self._refused: dict[int, tuple[bytes, str]] = {}
        """Position -> raw item and detail, of refusals to be sent to quarantine."""

    @property
    def position(self) -> int:
        return self.fold.position

    def _fold(self, value: bytes | None) -> None:
        for raw in raw_items(value):
            counts: Counts = offer_raw(self.fold, raw)
            self.duplicates += counts.duplicate
            self.unsent += counts.accepted + counts.refused
            if counts.refused and self.fold.last_refusal is not None:
                self._refused[self.fold.position] = (raw, self.fold.last_refusal[1])
            elif counts.duplicate:
                self.unsent += 1

    def ask_digests(self) -> None:
        """Let every shard say its digest at the position of the next ``drain``."""
        self._ask = True

    def drain(self) -> list[Send]:
        asked, self._ask = self._ask, False
        self.unsent = 0
        position = self.fold.position
        batches, own = self.fold.take(market_digest=asked)
        sends: list[Send] = []
        for partition, batch in enumerate(batches):
            if batch.items or (asked and position):
                messages = _split(self.generation, self.sent[partition], batch, asked)
                sends.extend(Send(self.topics.accounts, partition, None, message) for message in messages)
                self.sent[partition] = position
        if own:
            rows = [(effect.position, effect.data) for effect in own]
            sends.extend(_effects_messages(self, self.effects_sent, position, rows))
            self.effects_sent = position
            sends.extend(self._quarantine(own))
        self._refused.clear()
        if asked and position:
            self.asked_at = self.offset
            if self.effects_sent < position:
                sends.extend(_effects_messages(self, self.effects_sent, position, []))
                self.effects_sent = position
            sends.append(self._digest_part())
        return sends

    def _digest_part(self) -> Send:
        fold = self.fold
        counts = [fold.accepted, self.duplicates, fold.refused, fold.intake_count + fold.market_count]
        part = DigestPart(self.generation, 0, fold.position, self.offset, fold.digest(), fold.effects_head(), b"", b"", counts)
        return Send(self.topics.digests, 0, b"0", wire.encode(part))

    def _quarantine(self, own: list[Emitted]) -> Iterator[Send]:
        for emitted in own:
            effect = decode_effect(emitted.data)
            if isinstance(effect, InputRefused):
                row = quarantine_row(effect, *self._refused.get(emitted.position, (b"", "")))
                yield Send(self.topics.quarantine, 0, f"#{emitted.position}".encode(), orjson.dumps(row))

    def snapshot(self) -> Snapshot:
        rows = list(self.fold.stored())
        self.fold.mark_stored()
        marker = self._marker(intake_digest(self.fold), [self.effects_sent, *self.sent], self.duplicates)
        return Snapshot(rows, marker)

    def restore(self, rows: Iterable[tuple[bytes, bytes]], marker: Marker) -> None:
        partitions = self.fold.partitions
        try:
            self.fold = IntakeFold.restored(partitions, iter(rows))
        except Exception as error:
            raise Unusable(f"rows of the intake: {error}") from error
        self.duplicates = marker.counts[0]
        self.effects_sent, *self.sent = marker.sent
        if len(self.sent) != partitions:
            raise Unusable(f"the marker speaks of {len(self.sent)} partitions")
        self._restored(marker, intake_digest(self.fold))


class AccountsShard(Shard):
    """The accounts of one partition, following their routed items."""

    kind = "accounts"

    def __init__(self, topics: Topics, generation: str, number: int, engine: int = LATEST) -> None:
        super().__init__(topics, generation, number)
        self.fold = AccountFold(engine=engine)
        self.effects_sent = 0
        self.effects_total = 0
        """Effects of all accounts since ever."""
        self._emitted: list[tuple[int, bytes]] = []
        self._parts: list[Send] = []

    @property
    def position(self) -> int:
        return self.fold.position

    def _fold(self, value: bytes | None) -> None:
        try:
            record = wire.decode_routed(value or b"")
        except msgspec.DecodeError:
            self.strange += 1
            return
        if record.generation != self.generation:
            self.strange += 1
            return
        here = self.fold.position
        if record.previous > here:
            self.holes += 1
            return
        if record.last > here:
            items: list[AnyRouted] = record.items
            if record.previous < here:
                items = [item for item in items if item.position > here]
                self.trimmed += here - record.previous
            emitted = self.fold.apply(Batch(here, record.last, items, record.market_digest))
            self.unsent += len(items)
            self.effects_total += len(emitted)
            self._emitted.extend((effect.position, effect.data) for effect in emitted)
        else:
            self.trimmed += record.last - record.previous
        if record.asked and record.last == self.fold.position:
            self._parts.append(self._digest_part())

    def _digest_part(self) -> Send:
        fold = self.fold
        fold.flush()
        counts = [fold.account_count, self.effects_total]
        sums = wire.pack_sums(fold.state_sums), wire.pack_sums(fold.effect_sums)
        part = DigestPart(self.generation, self.number, fold.position, self.offset, b"", b"", *sums, counts)
        return Send(self.topics.digests, 0, str(self.number).encode(), wire.encode(part))

    def drain(self) -> list[Send]:
        self.unsent = 0
        sends: list[Send] = []
        position = self.fold.position
        if self._emitted or (self._parts and self.effects_sent < position):
            rows, self._emitted = self._emitted, []
            sends.extend(_effects_messages(self, self.effects_sent, position, rows))
            self.effects_sent = position
        sends.extend(self._parts)
        self._parts = []
        return sends

    def snapshot(self) -> Snapshot:
        fold = self.fold
        fold.flush()
        rows = [(ACCOUNT + name.encode(), account_row(row, chain)) for name, row, chain in fold.changed_rows()]
        rows.append((MARKET, fold.market.packed()))
        fold.mark_stored()
        return Snapshot(rows, self._marker(partition_digest(fold), [self.effects_sent]))

    def restore(self, rows: Iterable[tuple[bytes, bytes]], marker: Marker) -> None:
        market: list[bytes] = []

        def accounts() -> Iterator[tuple[bytes, bytes]]:
            for key, value in rows:
                if key == MARKET:
                    market.append(value)
                elif key.startswith(ACCOUNT):
                    yield split_row(value)

        kept = list(accounts())
        if not market:
            raise Unusable("the market row is missing")
        try:
            self.fold.restore(Market.unpacked(market[0]), marker.position, kept)
        except Exception as error:
            raise Unusable(f"rows of accounts: {error}") from error
        self.effects_sent = marker.sent[0]
        self.effects_total = self.fold.effects_total
        self._restored(marker, partition_digest(self.fold))


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
    """The effects of one shard as they are recorded: repeated ones are trimmed, numbers must follow each other, alerts go out."""

    kind = "effects"
    _HEAD = b"g/"

    def __init__(self, topics: Topics, generation: str, number: int) -> None:
        super().__init__(topics, generation, number)
        self._place = Place(0)
        self.heads: dict[str, tuple[int, bytes]] = {}
        """Group -> count and chain of its effects."""
        self.sums: dict[int, int] = {}
        self._changed: dict[str, None] = {}
        self._alerts: list[Send] = []

    @property
    def position(self) -> int:
        return self._place.position

    def _fold(self, value: bytes | None) -> None:
        try:
            record = wire.decode_effects(value or b"")
        except msgspec.DecodeError:
            self.strange += 1
            return
        if record.generation != self.generation or record.shard != self.number:
            self.strange += 1
            return
        here = self._place
        if record.start > here:
            self.holes += 1
            return
        fresh = record.behind(here)
        self.trimmed += len(record.effects) - len(fresh)
        for _, data in fresh:
            self._take(data)
        self._place = max(here, record.end)
        self.unsent += 1

    def _take(self, data: bytes) -> None:
        effect = decode_effect(data)
        group, _, number = effect.id.rpartition("/")
        count, chain = self.heads.get(group, (0, NO_CHAIN))
        check(int(number) == count + 1, "effects of a group are numbered without gaps", group=group, expected=count + 1, got=number)
        fresh = (count + 1, chained(chain, data))
        if not group.startswith("@"):
            slot = slot_of(group)
            change = effect_leaf(group, *fresh) - effect_leaf(group, count, chain)
            self.sums[slot] = (self.sums.get(slot, 0) + change) % MODULUS
        self.heads[group] = fresh
        self._changed[group] = None
        row = describe_effect(effect)
        if row["type"] in ALERTS:
            message = orjson.dumps({"id": effect.id, "type": row["type"], "timestamp": row.get("at"), "data": row})
            self._alerts.append(Send(self.topics.alerts, 0, group.encode(), message))

    def drain(self) -> list[Send]:
        self.unsent = 0
        sends, self._alerts = self._alerts, []
        return sends

    def _digest(self) -> bytes:
        own = [[group, *self.heads[group]] for group in (INTAKE_GROUP, MARKET_GROUP) if group in self.heads]
        # Where no position is half taken, the bytes are those of markers that knew no such place.
        place = [self._place.within] if self._place.within else []
        return sha256(wire.encode([self._place.position, own, *place]) + wire.pack_sums(self.sums)).digest()

    def snapshot(self) -> Snapshot:
        rows = [(self._HEAD + group.encode(), wire.encode(self.heads[group])) for group in self._changed]
        self._changed.clear()
        return Snapshot(rows, self._marker(self._digest(), [*self._place]))

    def restore(self, rows: Iterable[tuple[bytes, bytes]], marker: Marker) -> None:
        for key, value in rows:
            if key.startswith(self._HEAD):
                group = key[len(self._HEAD) :].decode()
                count, chain = msgspec.msgpack.decode(value, type=tuple[int, bytes])
                self.heads[group] = (count, chain)
                if not group.startswith("@"):
                    slot = slot_of(group)
                    self.sums[slot] = (self.sums.get(slot, 0) + effect_leaf(group, count, chain)) % MODULUS
        self._place = Place(*marker.sent)
        self._restored(marker, self._digest())


def quarantine_row(effect: InputRefused, raw: bytes, detail: str) -> dict[str, Any]:
    """Return a refused input as the topic of quarantine carries it."""
    row = {"id": f"#{effect.position}", **{k: v for k, v in describe_effect(effect).items() if k not in ("id", "type")}}
    row["detail"] = detail
    row["advice"] = ADVICE[Refusal(effect.reason)]
    if raw[:1] == LINE:
        try:
            row["raw"] = raw[1:].decode()
            return row
        except UnicodeDecodeError:
            pass
    if raw:
        row["raw_base64"] = base64.b64encode(raw[1:]).decode()
    return row


def _split(generation: str, previous: int, batch: Batch, asked: bool) -> Iterator[bytes]:
    """Yield the messages of a batch, cut at items where one would be too large."""
    whole = wire.encode(Routed(generation, previous, batch.last, batch.items, batch.market_digest, asked))
    if len(whole) <= SPLIT_BYTES or len(batch.items) < 2:
        yield whole
        return
    middle = len(batch.items) // 2
    first, second = batch.items[:middle], batch.items[middle:]
    edge = first[-1].position
    yield from _split(generation, previous, Batch(batch.previous, edge, first), asked=False)
    yield from _split(generation, edge, Batch(edge, batch.last, second, batch.market_digest), asked)


def _effects_messages(shard: Shard, previous: int, last: int, rows: list[tuple[int, bytes]]) -> Iterator[Send]:
    """Yield effects as messages, cut between positions; a position that is too large for one message is cut between its effects."""
    start, first = Place(previous), 0
    while True:
        cut = _cut(rows, first)
        end = Place(last)
        if cut < len(rows):
            here = rows[cut][0] - 1
            # A cut within a position has nothing else before it in its message.
            spread = rows[cut - 1][0] == rows[cut][0]
            end = Place(here, cut - first + (start.within if start.position == here else 0) if spread else 0)
        record = EffectsRecord(shard.generation, shard.number, start.position, end.position, rows[first:cut], start.within, end.within)
        yield Send(shard.topics.effects, shard.number, None, wire.encode_effects(record))
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
