"""The shards of a store: the intake follows the journal, a shard of accounts follows its sequenced items, a shard of
effects follows their record and sends alerts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
from margin_stream.kafka.batch_messages import Encoded, batch_messages
from margin_stream.kafka.chains import Chain
from margin_stream.kafka.messages import DigestPart, EffectsPlace, Place, SequencedBatch, StoreManifest
from margin_stream.kafka.seals import OPEN, Foreign, Seal
from margin_stream.kafka.shard import Send, Shard
from margin_stream.schemas.binary import UNDECODABLE
from margin_stream.schemas.effects import InputRefused, decode_effect, effect_id, group_of
from margin_stream.schemas.records import raw_items, readable
from margin_stream.schemas.refusals import ADVICE, Refusal
from margin_stream.views.effect import describe_effect


class IntakeShard(Shard):
    """The intake and the folds of the whole store, following the journal."""

    kind = "intake"

    def __init__(self, topics: Topics, generation: str, partitions: int, *, rules_version: int) -> None:
        self.intake = IntakeFold(partitions, rules_version=rules_version)
        super().__init__(topics, generation, 0, store_folds(self.intake))
        self.sent = [0] * (partitions + 1)
        self.chains = [Chain() for _ in self.sent]
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
        sources = self.intake.sources
        before = sources.duplicates_of_refused
        for raw in raw_items(value):
            counts = self._admission.item(raw)
            self.duplicates += counts.duplicate
            self.unsent += sum(counts)
        self.of_refused += sources.duplicates_of_refused - before

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
        encoded = Encoded()
        for partition, batch in enumerate(batches, 1):
            if batch.items or (asked and sequence):
                chain = self.chains[partition]
                messages = batch_messages(self.generation, self.sent[partition], batch, asked, chain, encoded)
                sends.extend(Send(self.topics.accounts, partition - 1, None, message) for message in messages)
                self.sent[partition] = sequence
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
        counts = [intake.accepted, self.duplicates, intake.refused, book.total, self.of_refused]
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

    def __init__(self, topics: Topics, generation: str, number: int, *, rules_version: int, seal: Seal = OPEN) -> None:
        super().__init__(topics, generation, number, partition_folds(rules_version=rules_version), seal)
        self.chains = [Chain(), Chain()]
        self._emitted: list[Emitted] = []
        self._parts: list[Send] = []

    @property
    def accounts(self) -> AccountFold:
        """The accounts of the partition."""
        return accounts_of(self.folds)

    def _fold(self, value: bytes | None) -> None:
        topic, partition = self.topics.accounts, self.number - 1
        try:
            record = self.seal.read(messages.decode_sequenced, topic, partition, value)
            if record.generation != self.generation:
                self.strange += 1
            elif record.previous > self.sequence:
                self.holes += 1
            else:
                self._take(record)
        except Foreign as error:
            self._refuse(topic, partition, error)

    def _take(self, record: SequencedBatch) -> None:
        here = self.sequence
        if record.last > here:
            items, chain = fresh_items(record, here, self.chains[1])
            self._emitted.extend(self.folds.apply(Batch(here, record.last, items, record.market_digest)))
            self.chains[1] = chain
            self.unsent += len(items)
            self.trimmed += here - record.previous
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
        return sends + self._take_alerts()


class EffectsShard(Shard):
    """The effects of one shard as they are recorded: repeated ones are trimmed, numbers must follow each other, alerts
    go out."""

    kind = "effects"

    def __init__(self, topics: Topics, generation: str, number: int, *, seal: Seal = OPEN) -> None:
        self.book = EffectBook()
        super().__init__(topics, generation, number, FoldSet((), self.book), seal)
        self.sent = [*Place(0)]

    def _fold(self, value: bytes | None) -> None:
        topic = self.topics.effects
        place = EffectsPlace(Place(*self.sent), self.chains[0])
        try:
            record = self.seal.read(messages.decode_effects, topic, self.number, value)
            if record.generation != self.generation:
                self.strange += 1
                return
            if record.shard != self.number:
                raise Foreign(f"it is of shard {record.shard}")
            if record.start > place.here:
                self.holes += 1
                return
            fresh = place.take(record)
        except Foreign as error:
            self._refuse(topic, self.number, error)
            return
        self.trimmed += len(record.effects) - len(fresh)
        for _, data in fresh:
            self._take(data)
        self.sent, self.chains = [*place.here], [place.chain]
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
        if effect.alert:
            message = orjson.dumps({"id": effect.id, "type": row["type"], "timestamp": row.get("at"), "data": row})
            self._alerts.append(Send(self.topics.alerts, 0, group.encode(), message))

    def drain(self) -> list[Send]:
        self.unsent = 0
        return self._take_alerts()


def fresh_items(record: SequencedBatch, here: int, chain: Chain) -> tuple[list[AnySequenced], Chain]:
    """Return the items of a message behind a sequence number, and the chain behind them.

    Raises:
        Foreign: they do not continue what was folded.
    """
    try:
        items = [messages.decode_item(raw) for raw in record.items]
    except UNDECODABLE as error:
        raise Foreign(f"an item of it has no form of ours: {error}") from None
    first = sum(item.sequence <= here for item in items)
    chain = chain.behind(record.items[first:])
    if chain.at(record.last) != record.chain:
        raise Foreign(messages.NO_CONTINUATION)
    return items[first:], chain


def shard_of(topics: Topics, manifest: StoreManifest, topic: str, partition: int, seal: Seal = OPEN) -> Shard:
    """Return an empty shard for a partition of a topic that workers follow."""
    if topic == topics.inputs:
        return IntakeShard(topics, manifest.generation, manifest.partitions, rules_version=manifest.rules_version)
    if topic == topics.accounts:
        return AccountsShard(
            topics, manifest.generation, partition + 1, rules_version=manifest.rules_version, seal=seal
        )
    return EffectsShard(topics, manifest.generation, partition, seal=seal)


def quarantine_row(effect: InputRefused, raw: bytes, detail: str) -> dict[str, Any]:
    """Return a refused input as the topic of quarantine carries it."""
    row = {"id": f"#{effect.sequence}", **{k: v for k, v in describe_effect(effect).items() if k not in ("id", "type")}}
    row["detail"] = detail
    row["advice"] = ADVICE[Refusal(effect.reason)]
    return row | readable(raw)
