"""From what shards say of themselves to the digests of the store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from margin_stream.core.digests import combined, merged, unpack_sums
from margin_stream.core.intake.admission import Counts
from margin_stream.core.store_fold import Digests
from margin_stream.kafka.messages import DigestPart, decode_digest_part
from margin_stream.kafka.seals import OPEN, Foreign, Seal

SUM_ROW = 34
"""Bytes of a slot and its sum."""


class Reported(NamedTuple):
    """Digests of the store at a sequence number, and the counters there."""

    digests: Digests
    counts: Counts
    effects: int
    offset: int
    """The last record of the journal up to there."""
    accounts: int
    of_refused: int
    """Duplicates of inputs that were refused when they came first."""


class Statements:
    """Collects the digest parts of all shards; states the store's digests wherever all of them spoke of one sequence
    number."""

    def __init__(self, generation: str, partitions: int, topic: str = "", seal: Seal = OPEN) -> None:
        self._generation = generation
        self._topic, self._seal = topic, seal
        self.foreign = 0
        """Messages that are no digest part of this store."""
        self._shards = partitions + 1
        self._parts: dict[int, dict[int, DigestPart]] = {}
        self.reported: dict[int, Reported] = {}
        """By sequence number."""
        self.contradictions: list[str] = []
        """A shard reported two things of one sequence number."""

    def take(self, value: bytes | None) -> Reported | None:
        """Take one message of the topic of digests; return the store's digests where it completes a sequence number."""
        try:
            part = self._seal.read(decode_digest_part, self._topic, 0, value)
            if part.generation != self._generation:
                return None
            if not self._is_sound(part):
                raise Foreign("its numbers are those of no shard")
        except Foreign:
            self.foreign += 1
            return None
        return self._add(part)

    def _is_sound(self, part: DigestPart) -> bool:
        sums = len(part.state_sums) % SUM_ROW == len(part.effect_sums) % SUM_ROW == 0
        return sums and 0 <= part.shard < self._shards and len(part.counts) == (2 if part.shard else 5)

    def _add(self, part: DigestPart) -> Reported | None:
        parts = self._parts.setdefault(part.sequence, {})
        known = parts.get(part.shard)
        if known is not None:
            if _sums(known) != _sums(part):
                self.contradictions.append(
                    f"shard {part.shard} reported two digests of sequence number {part.sequence}"
                )
                return None
            if part.offset <= known.offset:
                return None
        # Records of nothing but duplicates move the offset and not the position: what was reported last counts.
        parts[part.shard] = part
        if len(parts) < self._shards:
            return None
        found = combine(parts.values())
        self.reported[part.sequence] = found
        for sequence in [sequence for sequence in self._parts if sequence < part.sequence - 1_000_000]:
            del self._parts[sequence]
        return found

    @property
    def last(self) -> Reported | None:
        """The digests at the highest sequence number of which all shards spoke."""
        return self.reported[max(self.reported)] if self.reported else None


def _sums(part: DigestPart) -> tuple[bytes, bytes, bytes, bytes]:
    return part.head, part.effects_head, part.state_sums, part.effect_sums


def combine(parts: Iterable[DigestPart]) -> Reported:
    """Return the digests of the store from the parts of the intake and of all partitions at one sequence number."""
    ordered = sorted(parts, key=lambda part: part.shard)
    intake, partitions = ordered[0], ordered[1:]
    state = combined(intake.head, merged(unpack_sums(part.state_sums) for part in ordered))
    effects = combined(intake.effects_head, merged(unpack_sums(part.effect_sums) for part in partitions))
    accepted, duplicate, refused, own, of_refused = intake.counts
    return Reported(
        Digests(intake.sequence, state, effects),
        Counts(accepted, duplicate, refused),
        own + sum(part.counts[1] for part in partitions),
        intake.offset,
        sum(part.counts[0] for part in partitions),
        of_refused,
    )
