"""Where in the journal what lies: rows of the intake's table, one a stretch of records, each with the slots of the
accounts that it concerns. Reading begins near what is asked for, and passes over what does not concern an account.

Written with the checkpoint whose rows it lies beside, so what lies behind the last checkpoint is not in it: that is read
to the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from margin_stream.core.digests import slot_of
from margin_stream.journal.records import Cut
from margin_stream.schemas.binary import encode
from margin_stream.tables.rocks import OWN, Table

PREFIX = OWN + b"index/"
STRETCH_ITEMS = 2000
_SLOT_BYTES = 2


class Stretch(msgspec.Struct, frozen=True, array_like=True):
    """Records of the journal in a row."""

    begin: Cut
    """Before the first of them."""
    sequence: int
    """The last sequence number before."""
    end: Cut
    """Behind the last of them."""
    upto: int
    """The last sequence number in them."""
    slots: bytes
    """Of the accounts that items in them concern, 2 bytes each, in order."""

    def concerns(self, slot: int) -> bool:
        """Return whether an item of an account of this slot may be in it."""
        wanted = slot.to_bytes(_SLOT_BYTES, "big")
        return any(self.slots[n : n + _SLOT_BYTES] == wanted for n in range(0, len(self.slots), _SLOT_BYTES))


class IndexWriter:
    """Collects the rows of the records that are folded."""

    def __init__(self) -> None:
        self._open: Stretch | None = None
        self._slots: set[int] = set()
        self._rows: list[tuple[bytes, bytes]] = []

    def note(self, begin: Cut, sequence: int, end: Cut, upto: int, accounts: Iterable[str]) -> None:
        """Take the records between two cuts: the sequence numbers before and at their end, the accounts concerned."""
        open_ = self._open
        if open_ is not None and open_.upto - open_.sequence >= STRETCH_ITEMS:
            self._close()
            open_ = None
        self._slots.update(map(slot_of, accounts))
        first = Stretch(begin, sequence, end, upto, b"") if open_ is None else open_
        self._open = Stretch(first.begin, first.sequence, end, upto, b"")

    def _row(self) -> list[tuple[bytes, bytes]]:
        if self._open is None:
            return []
        slots = b"".join(slot.to_bytes(_SLOT_BYTES, "big") for slot in sorted(self._slots))
        stretch = msgspec.structs.replace(self._open, slots=slots)
        return [(PREFIX + (stretch.begin.number + 1).to_bytes(8, "big"), encode(stretch))]

    def _close(self) -> None:
        self._rows += self._row()
        self._open, self._slots = None, set()

    def take(self) -> list[tuple[bytes, bytes]]:
        """Return the rows since the last time; the stretch that is not complete is written, and written again."""
        rows, self._rows = self._rows + self._row(), []
        return rows


def read_index(table: Table) -> Iterator[Stretch]:
    """Yield the stretches of the journal that a table of the intake knows."""
    for _, value in table.rows(PREFIX):
        yield msgspec.msgpack.decode(value, type=Stretch)
