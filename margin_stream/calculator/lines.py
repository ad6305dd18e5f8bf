"""Value and requirement of a subaccount as exact lines over one price, all others fixed; and the prices at which a
guard turns.

Without rounding, what a model computes is piecewise linear in each single price: one piece for ``prime``, one a bracket
for ``binance-usdm``. So a liquidation price is the root of a line, bracket by bracket, as a fraction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from margin_stream.core.margin.brackets import UNIT, BracketTable
from margin_stream.core.margin.formula import Formula, Margined
from margin_stream.core.margin.guards import Guard


class Line(NamedTuple):
    """``fixed + slope * price``, in minor units; the price in units of its scale."""

    fixed: Fraction
    slope: Fraction

    def at(self, price: Fraction) -> Fraction:
        """Return the value at a price."""
        return self.fixed + self.slope * price

    def plus(self, fixed: Fraction, slope: Fraction = Fraction(0)) -> Line:
        """Return the sum with another line."""
        return Line(self.fixed + fixed, self.slope + slope)


class Piece(NamedTuple):
    """Value and debit from one price up to the next piece's."""

    start: Fraction
    end: Fraction | None
    """None for no end."""
    value: Line
    debit: Line

    def excess(self, guard: Guard) -> Line:
        """Return the line whose sign decides the guard: negative is a breach, zero the boundary."""
        numerator, denominator = guard.ratio
        return Line(
            self.value.fixed * denominator - numerator * self.debit.fixed - guard.offset * denominator,
            self.value.slope * denominator - numerator * self.debit.slope,
        )


NOTHING = Line(Fraction(0), Fraction(0))


def pieces(formula: Formula, prices: Sequence[int], instrument: int, together: Collection[int] = ()) -> list[Piece]:
    """Return the pieces over all prices of one instrument, from 0 on.

    Args:
        formula: of a portfolio.
        prices: of every instrument, in units of its scale.
        instrument: whose price varies; the unit instrument (0) for none.
        together: instruments whose prices vary with it, in proportion, as far as amounts read them; no amount reads two
            prices that vary.
    """
    value = debit = NOTHING
    for amount in formula.amounts:
        worth = Fraction(amount.numerator, amount.denominator)
        moves = False
        for leg in amount.legs:
            if leg == instrument:
                moves = True
            elif leg in together:
                moves = True
                worth *= Fraction(prices[leg], prices[instrument])
            else:
                worth *= prices[leg]
        fixed, slope = (Fraction(0), worth) if moves else (worth, Fraction(0))
        if amount.owed:
            debit = debit.plus(fixed, slope)
        else:
            value = value.plus(fixed, slope)
    moving = []
    for held in formula.positions:
        position, table = held.position, held.table
        per_unit = Fraction(position.quantity * table.scale_up, table.scale_down)
        if table.number == instrument:
            value = value.plus(Fraction(-position.open_cost), per_unit)
            moving.append((abs(position.quantity), table))
        else:
            price = prices[table.number]
            value = value.plus(per_unit * price - position.open_cost)
            debit = debit.plus(exact_maintenance(table, abs(position.quantity) * price))
    starts = {Fraction(0)}
    for size, table in moving:
        for k, edge in enumerate(table.edges):
            starts.add(Fraction(edge, size))
            # Where the amount is more than the rate gives, the margin is 0.
            if table.rates[k]:
                starts.add(Fraction(max(table.amounts[k], 0), table.rates[k] * size))
    ordered = sorted(starts)
    found = []
    for place, start in enumerate(ordered):
        end = ordered[place + 1] if place + 1 < len(ordered) else None
        inside = (start + end) / 2 if end is not None else start + 1
        own = debit
        for size, table in moving:
            k = table.place(int(inside * size))
            fixed, slope = Fraction(-table.amounts[k], table.divisor), Fraction(table.rates[k] * size, table.divisor)
            if fixed + slope * inside > 0:
                own = own.plus(fixed, slope)
        found.append(Piece(start, end, value, own))
    return found


def exact_initial(held: Margined, size: int) -> Fraction:
    """Return the initial margin of a size without rounding: notional by leverage, as far as the bracket allows it."""
    table = held.table
    return Fraction(size * table.scale_up, table.scale_down) * UNIT / table.allowed(size, held.leverage)


def exact_maintenance(table: BracketTable, size: int) -> Fraction:
    """Return the maintenance margin of a size without rounding, minor units."""
    k = table.place(size)
    return max(Fraction(size * table.rates[k] - table.amounts[k], table.divisor), Fraction(0))


class Turn(NamedTuple):
    """A price at which a guard turns."""

    price: Fraction
    safe_above: bool
    """It is safe above and breached below; otherwise the other way round."""


def nearest_turn(found: Sequence[Piece], guard: Guard, mark: Fraction) -> Turn | None:
    """Return the price nearest to the mark at which the guard turns, None where it turns at no positive price.

    From a safe mark this is the nearest price that breaches; from a breached one the price at which it breached, or
    would be safe again.
    """
    turns = sorted(_turns(found, guard), key=lambda turn: (abs(turn.price - mark), turn.price))
    return turns[0] if turns else None


def _turns(found: Sequence[Piece], guard: Guard) -> Iterator[Turn]:
    before: bool | None = None
    for piece in found:
        line = piece.excess(guard)
        marks = [piece.start]
        if line.slope:
            root = -line.fixed / line.slope
            if piece.start < root and (piece.end is None or root < piece.end):
                marks.append(root)
        for place, start in enumerate(marks):
            end = marks[place + 1] if place + 1 < len(marks) else piece.end
            inside = (start + end) / 2 if end is not None else start + 1
            safe = line.at(inside) >= 0 or (piece.debit.at(inside) == 0 and piece.value.at(inside) >= 0)
            if before is not None and safe is not before and start > 0:
                yield Turn(start, safe_above=safe)
            before = safe
