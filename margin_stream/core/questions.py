"""The questions that a fold waits for: effects that want an answer, each with a time limit that is in the journal, so
that nothing waits for ever.

A fold that asks keeps one of these. It is asked by an effect (``AnswerRequested``), answered by the first answer to it
(``Answered``), and closed without one at the first clock past its limit.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from hashlib import sha256

import msgspec

from margin_stream.core.digests import leaf, pack_sums, slot_of
from margin_stream.schemas.binary import encode
from margin_stream.schemas.effects import group_of

_slot = msgspec.msgpack.Decoder(list[tuple[str, int]])


class Questions:
    """Open questions, by the id of the effect that asked. Rows are by slot, so that results do not depend on
    partitions."""

    def __init__(self) -> None:
        self._open: dict[int, dict[str, int]] = {}
        """Slot -> question -> the last instant at which it can be answered."""
        self._limits: list[tuple[int, str]] = []
        self._changed: dict[int, None] = {}

    def ask(self, question: str, expires_at_ns: int) -> None:
        """Open a question; the limit is the last instant at which an answer counts."""
        slot = slot_of(group_of(question))
        self._open.setdefault(slot, {})[question] = expires_at_ns
        self._changed[slot] = None
        heapq.heappush(self._limits, (expires_at_ns, question))

    def close(self, question: str) -> bool:
        """Close a question; False where it is not open: answered before, expired, or never asked."""
        slot = slot_of(group_of(question))
        if self._open.get(slot, {}).pop(question, None) is None:
            return False
        self._changed[slot] = None
        return True

    def expired(self, now_ns: int) -> list[str]:
        """Close the questions whose limit lies before a clock; return them by limit and id."""
        found = []
        while self._limits and self._limits[0][0] < now_ns:
            _, question = heapq.heappop(self._limits)
            if self.close(question):
                found.append(question)
        return found

    @property
    def count(self) -> int:
        """How many are open."""
        return sum(map(len, self._open.values()))

    def sums(self) -> dict[int, int]:
        """Return the sum of each slot that has open questions."""
        return {slot: leaf(self._row(slot)) for slot, found in self._open.items() if found}

    def _row(self, slot: int) -> bytes:
        return encode(sorted(self._open.get(slot, {}).items()))

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows of the slots that changed since the last ``mark_stored``."""
        for slot in self._changed:
            yield slot.to_bytes(2, "big"), self._row(slot)

    def mark_stored(self) -> None:
        """Take the changed rows for stored."""
        self._changed.clear()

    def restore(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Set the whole state from rows."""
        self._open = {int.from_bytes(key, "big"): dict(_slot.decode(value)) for key, value in rows}
        self._limits = [(limit, question) for found in self._open.values() for question, limit in found.items()]
        heapq.heapify(self._limits)

    def digest(self) -> bytes:
        """Return the SHA-256 over all of them."""
        return sha256(pack_sums(self.sums())).digest()
