"""Shards over topics in memory, with everything that goes wrong between them: kills at any send, wiped disks, zombies,
doubled records.

No broker, no loop, no threads: a seed decides the whole run, and a failure prints it.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from unittest.mock import patch

import msgspec

from margin_stream.core.digests import NO_CHAIN, SLOTS, chained, combined, effect_leaf, slot_of
from margin_stream.kafka import batch_messages, messages
from margin_stream.kafka.address import Topics
from margin_stream.kafka.digest_quorum import Statements
from margin_stream.kafka.shard import Accepted, Send, Shard, Unusable
from margin_stream.kafka.shard_table import ShardTable
from margin_stream.kafka.shards import AccountsShard, EffectsShard, IntakeShard
from margin_stream.schemas.binary import encode
from margin_stream.schemas.effects import decode_effect
from margin_stream.schemas.rules_versions import LATEST

GENERATION = "0123456789abcdef"


class Log:
    """Topics in memory: (topic, partition) -> values."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, int], list[bytes | None]] = defaultdict(list)
        self.followed: list[EffectsShard] = []
        """At the end of a run."""
        self.limits: Sequence[int] = ()
        """Bytes of a message, one of them each time that something is sent; empty: as they are."""

    def send(self, send: Send) -> None:
        self.values[send.topic, send.partition].append(send.value)


class Topical:
    """Topics in memory, with what ``Client`` has to read a store and to send to it."""

    def __init__(self, log: Log, partitions: int, name: str = "s", rules_version: int = LATEST) -> None:
        self._log, self._name = log, name
        manifest = messages.StoreManifest(
            store_id="1" * 32, generation=GENERATION, partitions=partitions, slots=SLOTS, rules_version=rules_version
        )
        self._manifest = msgspec.json.encode(manifest)

    def _values(self, topic: str, partition: int) -> Sequence[bytes | None]:
        return [self._manifest] if topic == f"{self._name}.manifest" else self._log.values[topic, partition]

    def topics(self) -> set[str]:
        return {f"{self._name}.manifest"}

    def create_topics(
        self, topics: Mapping[str, int], settings: Mapping[str, Mapping[str, str]], replicas: int
    ) -> None:
        pass

    def partition_counts(self, topics: Mapping[str, int]) -> dict[str, int]:
        return dict(topics)

    def end(self, topic: str, partition: int = 0) -> int:
        return len(self._values(topic, partition))

    def last(self, topic: str) -> SimpleNamespace | None:
        return next(reversed(list(self.read(topic))), None)

    def read(
        self, topic: str, partition: int = 0, start: int = 0, end: int | None = None, *, whole: bool = False
    ) -> Iterator[SimpleNamespace]:
        for offset, value in list(enumerate(self._values(topic, partition)))[start:end]:
            yield SimpleNamespace(offset=offset, value=value)

    def send(self, topic: str, values: Sequence[bytes | None], *, partition: int = 0) -> int:
        self._log.values[topic, partition].extend(values)
        return len(self._log.values[topic, partition]) - 1


class Follower:
    """One shard on one worker."""

    def __init__(self, kind: str, number: int, partitions: int, folder: Path, log: Log, rng: Random) -> None:
        self.kind, self.number, self.partitions, self.folder, self.log, self.rng = (
            kind,
            number,
            partitions,
            folder,
            log,
            rng,
        )
        self.topics = Topics("s")
        self.source = {
            "intake": (self.topics.inputs, 0),
            "accounts": (self.topics.accounts, number - 1),
            "effects": (self.topics.effects, number),
        }[kind]
        self.path = folder / f"{kind}-{number}"
        self.shard = self._new()
        self.restores = 0
        self.lossy = False
        """It lost something that it was to send: it must not write a checkpoint any more."""

    def _new(self) -> Shard:
        if self.kind == "intake":
            return IntakeShard(self.topics, GENERATION, self.partitions, rules_version=LATEST)
        if self.kind == "accounts":
            return AccountsShard(self.topics, GENERATION, self.number, rules_version=LATEST)
        return EffectsShard(self.topics, GENERATION, self.number)

    def start(self) -> None:
        """Restore: the table, then the changelog, then the rows into a new shard."""
        self.table = ShardTable(self.path, GENERATION)
        changelog = self.log.values[self.topics.changelog(self.source[0]), self.source[1]]
        first = -1 if self.table.changelog_offset is None else self.table.changelog_offset
        for offset, value in enumerate(changelog):
            if offset > first:
                self.table.apply_changelog(offset, value)
        self.table.note_changelog()
        self.shard = self._new()
        try:
            if self.table.load(self.shard):
                self.restores += 1
        except Unusable as error:
            raise AssertionError(f"a restore was not consistent: {error}") from error
        self.table.loaded()

    def pending(self) -> int:
        return len(self.log.values[self.source]) - self.shard.offset - 1

    def follow(self, most: int) -> None:
        values = self.log.values[self.source]
        rng = self.rng
        for _ in range(most):
            offset = self.shard.offset + 1
            if rng.random() < 0.05:
                offset = max(0, offset + rng.randrange(-4, 4))
            if offset >= len(values):
                return
            before = self.shard.offset
            accepted = self.shard.accept(offset, values[offset])
            assert (accepted is Accepted.FOLDED) == (offset == before + 1)

    def send(self, *, most: int | None = None) -> bool:
        """Send what was folded; stop after some messages (a kill in the middle). Return whether all went out."""
        with patch.object(
            batch_messages,
            "SPLIT_BYTES",
            self.rng.choice(self.log.limits) if self.log.limits else batch_messages.SPLIT_BYTES,
        ):
            sends = self.shard.drain()
        for n, send in enumerate(sends):
            if most is not None and n >= most:
                return False
            self.log.send(send)
        return True

    def checkpoint(self, *, lose_delta: bool = False, part_of_delta: bool = False) -> None:
        self.send()
        self.table.write(self.shard.snapshot())
        upto, _, messages = self.table.delta()
        if lose_delta:
            return
        if part_of_delta:
            messages = messages[: self.rng.randrange(len(messages) + 1)]
        for message in messages:
            self.log.values[self.topics.changelog(self.source[0]), self.source[1]].append(message)
        if not part_of_delta:
            self.table.delta_acked(upto)

    def crash(self, *, wipe: bool = False) -> None:
        self.table.close()
        if wipe:
            shutil.rmtree(self.path)


def run(
    seed: int,
    values: list[bytes | None],
    folder: Path,
    *,
    limits: Sequence[int] = (),
    torn: float = 0.0,
    log: Log | None = None,
) -> tuple[Log, int, dict[str, int]]:
    """Let workers follow the journal with faults until all is folded; return the topics, the partitions and what
    happened.

    Args:
        limits: bytes of a message, one of them each time that something is sent; left out: as they are.
        log: the topics; left out: new ones.
        torn: the chance that what is sent ends in the middle: a worker is killed there, of a zombie the rest is lost.
    """
    rng = Random(seed)
    partitions = rng.choice((1, 2, 4, 7))
    log = log or Log()
    topics = Topics("s")
    happened: dict[str, int] = defaultdict(int)
    followers = [Follower("intake", 0, partitions, folder, log, rng)]
    followers += [Follower("accounts", p + 1, partitions, folder, log, rng) for p in range(partitions)]
    followers += [Follower("effects", s, partitions, folder, log, rng) for s in range(partitions + 1)]
    log.limits = limits
    for follower in followers:
        follower.start()
    zombies: list[Follower] = []
    waiting = list(values)
    steps = 0
    while waiting or any(follower.pending() for follower in followers):
        steps += 1
        if waiting and rng.random() < 0.5:
            value = waiting.pop(0)
            for _ in range(2 if rng.random() < 0.05 else 1):
                log.values[topics.inputs, 0].append(value)
        follower = rng.choice(followers)
        follower.follow(rng.randrange(1, 8))
        chance = rng.random()
        if torn and rng.random() < torn:
            if not follower.send(most=rng.randrange(1, 9)):
                happened["torn"] += 1
                follower.crash(wipe=rng.random() < 0.1)
                follower.start()
        elif chance < 0.5:
            follower.send()
        elif chance < 0.6:
            follower.checkpoint(lose_delta=rng.random() < 0.2, part_of_delta=rng.random() < 0.2)
        elif chance < 0.66 and steps < 4000:
            happened["kills"] += 1
            follower.send(most=rng.randrange(3))
            follower.crash(wipe=rng.random() < 0.3)
            follower.start()
        elif chance < 0.69 and len(zombies) < 6:
            happened["zombies"] += 1
            zombie = Follower(follower.kind, follower.number, partitions, folder / f"z{len(zombies)}", log, rng)
            zombie.start()
            zombies.append(zombie)
        if zombies and rng.random() < 0.2:
            zombie = rng.choice(zombies)
            zombie.follow(rng.randrange(1, 20))
            if rng.random() < 0.8:
                zombie.lossy |= not zombie.send(most=rng.randrange(1, 9) if torn and rng.random() < torn else None)
            elif rng.random() < 0.3 and not zombie.lossy:
                zombie.checkpoint()
        if followers[0].kind == "intake" and rng.random() < 0.02:
            followers[0].shard.ask_digests()  # type: ignore[attr-defined]
        assert steps < 200_000, "it does not come to an end"
    followers[0].shard.ask_digests()  # type: ignore[attr-defined]
    while any(follower.send() and False for follower in followers) or any(follower.pending() for follower in followers):
        for follower in followers:
            follower.follow(1000)
    for follower in followers:
        follower.send()
        happened["restores"] += follower.restores
        happened["trimmed"] += follower.shard.trimmed
        happened["holes"] += follower.shard.holes
        happened["foreign"] += follower.shard.foreign
        if isinstance(follower.shard, EffectsShard):
            log.followed.append(follower.shard)
    for follower in (*followers, *zombies):
        follower.crash()
    return log, partitions, happened


def recorded_effects(log: Log, partitions: int) -> tuple[str, list[bytes]]:
    """Read the effects as a consumer would: trim by place, and fault where a repeated one has other bytes. Returns
    digest and effects."""
    topics = Topics("s")
    heads: dict[str, tuple[int, bytes]] = {}
    seen: dict[str, bytes] = {}
    rows: list[bytes] = []
    for shard in range(partitions + 1):
        here = (0, 0)
        for value in log.values[topics.effects, shard]:
            record = messages.decode_effects(value or b"")
            hole = (record.previous, record.after) > here
            numbers = {record.previous: record.after}
            for position, data in record.effects:
                effect = decode_effect(data)
                assert seen.setdefault(effect.id, data) == data, "an effect was repeated with other bytes"
                place = (position - 1, numbers.get(position - 1, 0))
                numbers[position - 1] = place[1] + 1
                if hole or place < here:
                    continue
                group = effect.id.rpartition("/")[0]
                count, chain = heads.get(group, (0, NO_CHAIN))
                heads[group] = (count + 1, chained(chain, data))
                rows.append(data)
            if not hole:
                here = max(here, (record.last, record.upto))
    return _digest(heads), rows


def _digest(heads: dict[str, tuple[int, bytes]]) -> str:
    heads = dict(heads)
    intake, market = (heads.pop(group, (0, NO_CHAIN)) for group in ("@intake", "@market"))
    sums: dict[int, int] = {}
    for group, (count, chain) in heads.items():
        slot = slot_of(group)
        sums[slot] = (sums.get(slot, 0) + effect_leaf(group, count, chain)) % (1 << 256)
    return combined(encode([*intake, *market]), sums)


def followed_effects(log: Log, partitions: int) -> str:
    """Return the digest of the effects as those shards took them that follow what is recorded."""
    heads: dict[str, tuple[int, bytes]] = {}
    for shard in log.followed:
        heads |= {group: shard.book.head(group) for group in shard.book.groups}
    assert len(log.followed) == partitions + 1
    return _digest(heads)


def statements(log: Log, partitions: int) -> Statements:
    found = Statements(GENERATION, partitions)
    for value in log.values[Topics("s").digests, 0]:
        found.take(value)
    return found
