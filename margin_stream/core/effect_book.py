"""The effect book: the number and the chain of each group's effects, and their sum a slot. They are kept here and
nowhere else.

Whoever has effects has a book: the folds of a partition share one and emit into it, a reader of recorded effects fills
one, and equal effects give equal books. Effects of one sequence number are in order of group, then of number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from margin_stream.core.digests import MODULUS, NO_CHAIN, chained, combined, effect_leaf, pack_sums, slot_of
from margin_stream.schemas.binary import encode
from margin_stream.schemas.effects import INTAKE_GROUP, MARKET_GROUP, Effect, decode_effect, effect_id, group_of

Head = tuple[int, bytes]
"""How many effects a group has, and their chain."""
NO_HEAD: Head = (0, NO_CHAIN)
_head = msgspec.msgpack.Decoder(tuple[int, bytes])


class Emitted(NamedTuple):
    """An effect as a fold emits it."""

    sequence: int
    group: str
    number: int
    data: bytes
    """Canonical bytes."""


class EffectBook:
    """The effects of some groups, counted and chained."""

    name = "effects"

    def __init__(self) -> None:
        self.out: list[Emitted] = []
        """What was emitted since the last ``drain``."""
        self.total = 0
        """Effects of all groups since ever."""
        self._heads: dict[str, Head] = {}
        self._summed: dict[str, Head] = {}
        """The heads as the sums have them, of the groups that have more effects since."""
        self._unstored: dict[str, Head] = {}
        """The groups whose row is out of date."""
        self._sums: dict[int, int] = {}

    def head(self, group: str) -> Head:
        """Return count and chain of a group's effects."""
        return self._heads.get(group, NO_HEAD)

    @property
    def groups(self) -> Iterable[str]:
        """The groups that have effects, in the order of their first."""
        return self._heads.keys()

    def emit(self, kind: type[Effect], sequence: int, at_ns: int, group: str, **fields: Any) -> str:
        """Take an effect of a fold, the group's next; return its id.

        Args:
            kind: of the effect.
            sequence: the sequence number of the item that caused it.
            at_ns: the clock in force.
            group: whose effect it is.
            fields: what the kind has beside these.
        """
        identifier = effect_id(group, self.head(group)[0] + 1)
        data = encode(kind(id=identifier, sequence=sequence, at_ns=at_ns, **fields))
        self.out.append(Emitted(sequence, group, self.add(group, data), data))
        return identifier

    def add(self, group: str, data: bytes) -> int:
        """Take a group's next effect from a record of effects; return its number."""
        before = self._heads.get(group, NO_HEAD)
        if group not in self._summed:
            self._summed[group] = before
        number = before[0] + 1
        self._heads[group] = (number, chained(before[1], data))
        self.total += 1
        return number

    def read(self, recorded: Iterable[bytes], upto: int) -> None:
        """Take recorded effects, in order, those up to a sequence number.

        Raises:
            msgspec.DecodeError: one is no effect.
        """
        for data in recorded:
            effect = decode_effect(data)
            if effect.sequence <= upto:
                self.add(group_of(effect.id), data)

    def drain(self) -> list[Emitted]:
        """Return what was emitted since the last time."""
        out, self.out = self.out, []
        return out

    def sums(self) -> dict[int, int]:
        """Return the sum of each slot; groups that belong to no slot (``@``) have their heads in ``top`` instead."""
        for group, before in self._summed.items():
            if group[0] != "@":
                slot = slot_of(group)
                change = effect_leaf(group, *self._heads[group]) - effect_leaf(group, *before)
                self._sums[slot] = (self._sums.get(slot, 0) + change) % MODULUS
        self._unstored.update(self._summed)
        self._summed.clear()
        return self._sums

    def top(self) -> bytes:
        """Return the head of the effects digest: counts and chains of ``@intake``, ``@market`` and, by name, of other
        groups without a slot."""
        others = sorted(group for group in self._heads if group[0] == "@" and group not in (INTAKE_GROUP, MARKET_GROUP))
        return encode(
            [*self.head(INTAKE_GROUP), *self.head(MARKET_GROUP), *([group, *self._heads[group]] for group in others)]
        )

    def hexdigest(self) -> str:
        """Return the effects digest over all groups."""
        return combined(self.top(), self.sums())

    # ---- as a checkpoint stores it --------------------------------------------------------------------------------

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the row of each group that has more effects since the last ``mark_stored``."""
        self.sums()
        for group in self._unstored:
            yield group.encode(), encode(self._heads[group])

    def mark_stored(self) -> None:
        """Take the changed rows for stored."""
        self._unstored.clear()

    def restore(self, _position: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Set the whole state from rows; on a new book only."""
        for key, value in rows:
            group = key.decode()
            head = self._heads[group] = _head.decode(value)
            self._summed[group] = NO_HEAD
            self.total += head[0]
        self.sums()
        self._unstored.clear()

    def digest(self) -> bytes:
        """Return the SHA-256 over counts and chains of all groups."""
        sums = self.sums()
        own = [[group, *self._heads[group]] for group in sorted(self._heads) if group[0] == "@"]
        return sha256(encode(own) + pack_sums(sums)).digest()
