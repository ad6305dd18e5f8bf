"""Price boxes: which accounts a tick can concern.

Prices are cut into *cells* of about a fiftieth of a percent (twelve bits of mantissa), exactly and in integers. An
account that was found unable to flip any guard while each of its instruments stays within so many cells of where it is,
is *certified*: it leaves a mark at the first cell outside, below and above, for each instrument. A tick that stays in
its cell costs two comparisons; one that leaves it collects the accounts whose marks it reached. An account too close to
a guard to be certified is *hot*: it is looked at at every tick of its instruments.

Nothing here decides anything: boxes are derived state, and a wrong guess of size costs time only. What makes them right
is the model's law of bounds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from margin_stream.core.margin.guards import NO_BOUND

CELL_BITS = 12
REACH_BITS = 20
"""A reach is counted in 2**-20 of the price."""
REACH_LIMIT = 4 << REACH_BITS
"""A reach of at least this is no limit."""

_STAMP_BITS = 24
_STAMP_MASK = (1 << _STAMP_BITS) - 1


def cell_of(price: int) -> int:
    """Return the cell of a price, which must be positive. Cells rise with prices; below 2**13 each price is a cell of
    its own."""
    shift = price.bit_length() - CELL_BITS - 1
    return price if shift <= 0 else (shift << CELL_BITS) + (price >> shift)


def cell_edges(cell: int) -> tuple[int, int]:
    """Return the lowest and highest price of a cell, both included."""
    shift = (cell >> CELL_BITS) - 1
    if shift <= 0:
        return cell, cell
    low = (cell - (shift << CELL_BITS)) << shift
    return low, low + (1 << shift) - 1


Sides = list[tuple[int, int, int]]
"""Of each instrument its number and the first cells outside a box, below and above; -1 where there is no limit."""


class _Instrument:
    """Where one instrument is, and the marks of accounts around it."""

    __slots__ = ("above", "below", "cell", "high", "low", "near_trigger")

    def __init__(self) -> None:
        self.cell = 0
        self.low = 1
        self.high = 0
        self.below: dict[int, array[int]] = {}
        self.above: dict[int, array[int]] = {}
        self.near_trigger: dict[int, None] = {}


class Boxes:
    """The certified accounts of a partition, by number."""

    def __init__(self) -> None:
        self._instruments: list[_Instrument] = [_Instrument()]
        self._stamps: array[int] = array("I")
        """An account's current stamp; entries with another one are of an older certificate."""
        self._hot_on: dict[int, tuple[int, ...]] = {}
        self._entries = 0
        self._live: array[int] = array("H")
        """How many entries the account's current certificate left."""
        self._live_total = 0

    def add_instrument(self) -> None:
        """Make room for one more instrument."""
        self._instruments.append(_Instrument())

    def add_account(self) -> None:
        """Make room for one more account."""
        self._stamps.append(0)
        self._live.append(0)

    def place(self, number: int, price: int) -> None:
        """Set where an instrument is, without asking whom it concerns."""
        instrument = self._instruments[number]
        instrument.cell = cell_of(price)
        instrument.low, instrument.high = cell_edges(instrument.cell)

    def reached(self, number: int, price: int) -> list[int]:
        """Move an instrument to a price; return the accounts that it may concern, each once."""
        instrument = self._instruments[number]
        found: dict[int, None] = dict(instrument.near_trigger) if instrument.near_trigger else {}
        if price < instrument.low:
            cell = cell_of(price)
            self._collect(instrument.below, cell, instrument.cell - 1, found)
            instrument.cell = cell
            instrument.low, instrument.high = cell_edges(cell)
        elif price > instrument.high:
            cell = cell_of(price)
            self._collect(instrument.above, instrument.cell + 1, cell, found)
            instrument.cell = cell
            instrument.low, instrument.high = cell_edges(cell)
        return list(found) if found else []

    def _collect(self, marks: dict[int, array[int]], first: int, last: int, found: dict[int, None]) -> None:
        if last - first > len(marks):
            cells: Iterable[int] = [cell for cell in marks if first <= cell <= last]
        else:
            cells = [cell for cell in range(first, last + 1) if cell in marks]
        stamps = self._stamps
        for cell in cells:
            entries = marks.pop(cell)
            self._entries -= len(entries)
            for entry in entries:
                account = entry >> _STAMP_BITS
                if stamps[account] == entry & _STAMP_MASK:
                    found[account] = None

    def forget(self, account: int) -> None:
        """Drop an account's certificate."""
        self._stamps[account] = (self._stamps[account] + 1) & _STAMP_MASK
        self._live_total -= self._live[account]
        self._live[account] = 0
        if account in self._hot_on:
            for number in self._hot_on.pop(account):
                self._instruments[number].near_trigger.pop(account, None)

    def box(
        self, directions: dict[int, int], against: int, favourable: int, lowest: list[int], highest: list[int]
    ) -> Sides:
        """Write the corners of a box around where the instruments are, and return its sides for ``certify``.

        Args:
            directions: instrument -> 1 where a rise helps, -1 where it harms, 0 where it may do either.
            against: how far prices may move to the account's harm, in 2**-20 of the price; REACH_LIMIT or more is no
                limit.
            favourable: how far they may move for it.
            lowest: receives the least price of each instrument.
            highest: receives the greatest price, NO_BOUND where there is no limit.
        """
        rooms = self._instruments
        sides: Sides = []
        for number, way in directions.items():
            room = rooms[number]
            if way > 0:
                down, up = against, favourable
            elif way < 0:
                down, up = favourable, against
            else:
                down = up = min(against, favourable)
            low = room.low
            below = above = -1
            if down < 1 << REACH_BITS:
                cell = cell_of(low - (low * down >> REACH_BITS)) + 1
                if cell > room.cell:
                    cell = room.cell
                below = cell - 1
                lowest[number] = cell_edges(cell)[0]
            else:
                lowest[number] = 0
            if up < REACH_LIMIT:
                cell = cell_of(low + (low * up >> REACH_BITS)) - 1
                if cell < room.cell:
                    cell = room.cell
                above = cell + 1
                highest[number] = cell_edges(cell)[1]
            else:
                highest[number] = NO_BOUND
            sides.append((number, below, above))
        return sides

    def certify(self, account: int, sides: Sides) -> None:
        """Record that nothing happens to a forgotten account while its instruments stay in the box."""
        entry = account << _STAMP_BITS | self._stamps[account]
        rooms = self._instruments
        count = 0
        for number, below, above in sides:
            room = rooms[number]
            if below >= 0:
                marks = room.below.get(below)
                if marks is None:
                    marks = room.below[below] = array("Q")
                marks.append(entry)
                count += 1
            if above >= 0:
                marks = room.above.get(above)
                if marks is None:
                    marks = room.above[above] = array("Q")
                marks.append(entry)
                count += 1
        self._entries += count
        self._live[account] = count
        self._live_total += count
        if self._entries > 4 * self._live_total + 100_000:
            self._compact()

    def heat(self, account: int, instruments: Iterable[int]) -> None:
        """Record that a forgotten account is to be looked at at every tick of its instruments."""
        numbers = tuple(instruments)
        self._hot_on[account] = numbers
        for number in numbers:
            self._instruments[number].near_trigger[account] = None

    def _compact(self) -> None:
        """Drop the entries of older certificates."""
        stamps = self._stamps
        self._entries = 0
        for room in self._instruments:
            for marks in (room.below, room.above):
                for cell in list(marks):
                    kept = array("Q", [e for e in marks[cell] if stamps[e >> _STAMP_BITS] == e & _STAMP_MASK])
                    if kept:
                        marks[cell] = kept
                        self._entries += len(kept)
                    else:
                        del marks[cell]

    @property
    def near_trigger_count(self) -> int:
        """How many accounts are hot."""
        return len(self._hot_on)
