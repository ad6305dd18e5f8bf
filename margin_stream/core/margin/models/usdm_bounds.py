"""Least and greatest figures of ``binance-usdm`` between two prices of each instrument, as exact fractions.

What is required and the bounds on it are one formula twice: ``BracketTable.maintenance`` at a price, ``Holding`` between
two. They must change together; the law that bounds hold is in tests/properties/test_bounds.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from margin_stream.core.accounts.position import Position, notional
from margin_stream.core.margin.brackets import BracketTable
from margin_stream.core.margin.collateral import AssetTerms
from margin_stream.core.margin.guards import NO_BOUND, Guard


def worth(terms: AssetTerms, balance: int, prices: Sequence[int]) -> int:
    """Return what a balance adds to equity: after haircut and rounded down, or owed in full and rounded up."""
    return priced(terms, balance, prices[terms.first], prices[terms.second], prices[terms.third])


def priced(terms: AssetTerms, balance: int, first: int, second: int, third: int) -> int:
    product = balance * first * second * third
    return product * terms.keep // terms.value_divisor if balance > 0 else product // terms.debit_divisor


Part = tuple[int, int]
"""A fraction: numerator and positive denominator, not reduced."""


def total(left: Part, right: Part) -> Part:
    """Return the sum of two fractions."""
    return left[0] * right[1] + right[0] * left[1], left[1] * right[1]


def excess_of(part: Part, guard: Guard, never: bool) -> int:
    """Return the excess of ``value * denominator - numerator * debit`` as an integer of the same sign.

    Args:
        part: the fraction.
        guard: whose offset is still to be taken off.
        never: nothing is required at any price that is left open, so the guard holds back where the fraction is not
            negative.
    """
    over, under = part
    over -= guard.offset * guard.ratio.denominator * under
    # An inclusive guard breaches at 0 too: rounded up and one less, that is negative; any other rounded down.
    excess = -(-over // under) - 1 if guard.inclusive else over // under
    return max(excess, 0) if never and part[0] >= 0 else excess


class CollateralSpan(NamedTuple):
    """Least and greatest value of the balances; None where there is no bound."""

    least: int | None
    greatest: int | None


class Holding:
    """The positions in one instrument, whose price lies between two."""

    __slots__ = ("high", "low", "positions", "table")

    def __init__(self, table: BracketTable, low: int, high: int) -> None:
        self.table = table
        self.low = low
        self.high = high if high == NO_BOUND else max(high, low)
        self.positions: list[Position] = []

    def add(self, position: Position) -> None:
        """Add a position."""
        self.positions.append(position)

    @property
    def margin_zero_at_least(self) -> bool:
        """At the lowest price nothing is required."""
        return all(self.table.maintenance(abs(position.quantity) * self.low) == 0 for position in self.positions)

    @property
    def margin_at_most_zero(self) -> bool:
        """At no price anything is required."""
        if self.high == NO_BOUND:
            return not any(self.table.rates)
        return all(self.table.maintenance(abs(position.quantity) * self.high) == 0 for position in self.positions)

    def span(self, numerator: int, denominator: int, *, sharp: bool) -> tuple[Part | None, Part | None]:
        """Return least and greatest of ``denominator * profit - numerator * margin`` between the prices.

        Where the price is known, rounded as a valuation rounds; elsewhere without rounding, and, unless sharp, with
        room for it.
        """
        table = self.table
        if self.low == self.high:
            fixed = 0
            for position in self.positions:
                profit = notional(position.quantity * self.low, table.shift) - position.open_cost
                fixed += denominator * profit - numerator * table.maintenance(abs(position.quantity) * self.low)
            return (fixed, 1), (fixed, 1)
        unit = table.divisor * table.scale_down
        slack = 0 if sharp else (denominator + numerator) * len(self.positions) * unit
        first = self._at(self.low, 1, numerator, denominator)
        if self.high == NO_BOUND:
            rest = self._slope(len(table.rates) - 1, numerator, denominator)
            top = None if rest > 0 else self._top([(first, 1)], numerator, denominator)
            return (None if rest < 0 else (first - slack, unit)), top
        last = self._at(self.high, 1, numerator, denominator)
        least = (min(first, last) - slack, unit)
        if len(self.positions) == 1:
            quantity = self.positions[0].quantity
            if quantity < 0:
                return least, (first, unit)
            if self._slope(table.place(quantity * self.high), numerator, denominator) >= 0:
                return least, (last, unit)
        return least, self._top([(first, 1), (last, 1)], numerator, denominator)

    def _top(self, ends: list[Part], numerator: int, denominator: int) -> Part:
        """Return the greatest value at the ends and at every edge between them."""
        unit = self.table.divisor * self.table.scale_down
        best = ends[0]
        candidates = ends[1:]
        for position in self.positions:
            # An edge lies at price edge / (size * edge_scale).
            part = abs(position.quantity) * self.table.edge_scale
            for edge in self.table.edge_sizes:
                if self.low * part < edge and (self.high == NO_BOUND or edge < self.high * part):
                    candidates.append((self._at(edge, part, numerator, denominator), part))
        for candidate in candidates:
            if candidate[0] * best[1] > best[0] * candidate[1]:
                best = candidate
        return best[0], best[1] * unit

    def _at(self, price: int, part: int, numerator: int, denominator: int) -> int:
        """Return the value at price ``price / part`` without rounding, times ``part * divisor * scale_down``."""
        table = self.table
        total = 0
        for position in self.positions:
            size = abs(position.quantity)
            profit = (
                position.quantity * price * table.scale_up - position.open_cost * part * table.scale_down
            ) * table.divisor
            k = table.place(size * price // part)
            margin = max(size * price * table.rates[k] - table.amounts[k] * part, 0) * table.scale_down
            total += denominator * profit - numerator * margin
        return total

    def _slope(self, bracket: int, numerator: int, denominator: int) -> int:
        """Return the sign of the slope where every position lies in a bracket."""
        table = self.table
        gain = denominator * table.scale_up * table.divisor
        loss = numerator * table.scale_down * table.rates[bracket]
        return sum(position.quantity * gain - abs(position.quantity) * loss for position in self.positions)
