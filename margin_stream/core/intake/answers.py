"""Which answers came before: the identity of what an outbox sends back. Decided once, by the intake.

An answer has no number of its source's own: it is known by the outbox, the effect that it answers, and its number among
the answers to that effect. The last million such keys are held; a held key, and one to an effect below the highest that
was let go of in its group, is a duplicate, whatever is in it. So the first answer stands.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

from margin_stream.core.digests import MODULUS, leaf
from margin_stream.schemas.effects import split_id

ANSWER_WINDOW = 1_000_000
_ARRIVAL, _FLOOR = b"key/", b"floor/"


class AnswerKeys:
    """The keys of the answers that were taken."""

    def __init__(self, window: int = ANSWER_WINDOW) -> None:
        self.window = window
        self.total = 0
        """Answers taken since ever."""
        self._sum = 0
        """Of the keys that are held, modulo 2**256."""
        self._held: OrderedDict[str, int] = OrderedDict()
        """Key -> the number of its arrival, oldest first."""
        self._floors: dict[str, int] = {}
        """Outbox and group -> the highest number of an effect whose key was let go of."""
        self._unstored: dict[int, str] = {}
        """Arrival -> key."""
        self._moved: dict[str, None] = {}
        """Floors whose row is out of date."""

    def knows(self, outbox: str, effect: str, number: int) -> bool:
        """Return whether an answer came before, or is too old to be told from one that did."""
        if _key(outbox, effect, number) in self._held:
            return True
        group, count = split_id(effect)
        return bool(self._floors) and count <= self._floors.get(_floor(outbox, group), 0)

    def take(self, outbox: str, effect: str, number: int) -> None:
        """Take the key of a new answer."""
        key = _key(outbox, effect, number)
        self._held[key] = self.total
        self._unstored[self.total] = key
        self.total += 1
        self._sum = (self._sum + leaf(key.encode())) % MODULUS
        if len(self._held) > self.window:
            oldest, _ = self._held.popitem(last=False)
            self._sum = (self._sum - leaf(oldest.encode())) % MODULUS
            old_outbox, old_effect, _ = oldest.rsplit("\0", 2)
            group, count = split_id(old_effect)
            floor = _floor(old_outbox, group)
            self._floors[floor] = max(count, self._floors.get(floor, 0))
            self._moved[floor] = None

    def facts(self) -> list[Any]:
        """Return what is digested; nothing where no answer ever came."""
        floors = [[name, self._floors[name]] for name in sorted(self._floors)]
        return [[self.total, self._sum.to_bytes(32, "big"), floors]] if self.total else []

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the changed rows. A key that was let go of is overwritten by the one that comes a window later."""
        for arrival, key in self._unstored.items():
            yield _ARRIVAL + (arrival % self.window).to_bytes(8, "big"), arrival.to_bytes(8, "big") + key.encode()
        for floor in self._moved:
            yield _FLOOR + floor.encode(), self._floors[floor].to_bytes(8, "big")

    def mark_stored(self) -> None:
        """Take the changed rows for stored."""
        self._unstored.clear()
        self._moved.clear()

    def restore(self, facts: list[Any], rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Set the whole state from facts and rows."""
        if facts:
            self.total, self._sum = facts[0][0], int.from_bytes(facts[0][1], "big")
        arrivals: dict[int, str] = {}
        for key, value in rows:
            if key.startswith(_ARRIVAL):
                arrival = int.from_bytes(value[:8], "big")
                if key != _ARRIVAL + (arrival % self.window).to_bytes(8, "big"):
                    raise ValueError("a key of an answer is in another's place")
                arrivals[arrival] = value[8:].decode()
            else:
                self._floors[key[len(_FLOOR) :].decode()] = int.from_bytes(value, "big")
        self._held = OrderedDict((arrivals[arrival], arrival) for arrival in sorted(arrivals))
        whole = sorted(arrivals) == list(range(self.total - len(arrivals), self.total)) and len(arrivals) == min(
            self.total, self.window
        )
        if not whole or sum(leaf(key.encode()) for key in self._held) % MODULUS != self._sum:
            raise ValueError("keys of answers are missing, or are others")


def _key(outbox: str, effect: str, number: int) -> str:
    return f"{outbox}\0{effect}\0{number}"


def _floor(outbox: str, group: str) -> str:
    return f"{outbox}\0{group}"
