"""Leverage brackets: maintenance margin that rises with the size of a position, as derivatives venues publish it.

A table cuts the notional N of a position into brackets; in bracket k the maintenance margin is ``N * rate_k -
amount_k``. The amounts (the venues' "cumulative" or "maintenance amount") make it continuous: ``amount_k = amount_(k-1)
+ floor_k * (rate_k - rate_(k-1))``. A notional on an edge belongs to the upper bracket.

Source: Binance, "Leverage and Margin of USDS-M Futures"; the formula and the edge read in freqtrade's tests and
recomputed.
Example: N 100,000 in the bracket from 50,000 with rate 0.005 and amount 50: 100,000 * 0.005 - 50 = 450.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import gcd
from typing import NamedTuple

from margin_stream.core.margin.parameters import BracketParameters, ParameterError
from margin_stream.core.margin.ratios import ratio
from margin_stream.core.market.directory import Instrument
from margin_stream.schemas.decimals import POWERS_OF_TEN, format_scaled

PLACES = 18
UNIT: int = 10**PLACES
"""Every number of a bracket is an integer count of 10**-18."""


class Bracket(NamedTuple):
    """One bracket; every number in units of 10**-18."""

    floor: int
    cap: int | None
    rate: int
    amount: int
    max_leverage: int | None


class BracketTable:
    """The brackets of one instrument, and their integer arithmetic.

    Of a position of ``size`` (quantity times price without their scales, not negative): bracket ``place(size)``,
    maintenance ``ceil((size * rates[k] - amounts[k]) / divisor)`` in minor units of the settlement currency.
    """

    __slots__ = (
        "amounts",
        "brackets",
        "divisor",
        "edge_scale",
        "edge_sizes",
        "edges",
        "number",
        "rates",
        "scale_down",
        "scale_up",
        "shift",
        "size_scale",
    )

    def __init__(self, brackets: Sequence[Bracket], instrument: Instrument) -> None:
        self.brackets = tuple(brackets)
        self.number = instrument.number
        self.size_scale = instrument.quantity_scale + instrument.price_scale
        scale = instrument.currency.scale
        self.shift = scale - self.size_scale
        """Decimal places of the currency less those of quantity times price."""
        self.scale_up: int = POWERS_OF_TEN[max(self.shift, 0)]
        self.scale_down: int = POWERS_OF_TEN[max(-self.shift, 0)]
        divisor = UNIT * self.scale_down
        rates = [bracket.rate * self.scale_up for bracket in brackets]
        amounts = [bracket.amount * POWERS_OF_TEN[scale] * self.scale_down for bracket in brackets]
        common = gcd(divisor, *rates, *amounts)
        self.divisor = divisor // common
        self.rates = tuple(rate // common for rate in rates)
        self.amounts = tuple(amount // common for amount in amounts)
        self.edges = tuple(-(-bracket.floor * POWERS_OF_TEN[self.size_scale] // UNIT) for bracket in brackets)
        """The least size of each bracket."""
        exact = [bracket.floor * POWERS_OF_TEN[self.size_scale] for bracket in brackets]
        shared = gcd(UNIT, *exact)
        self.edge_scale: int = UNIT // shared
        self.edge_sizes = tuple(edge // shared for edge in exact)
        """Where each bracket begins, exactly: a size times ``edge_scale``."""

    def place(self, size: int) -> int:
        """Return which bracket a size lies in, from 0."""
        return max(bisect_right(self.edges, size) - 1, 0)

    def maintenance(self, size: int) -> int:
        """Return the maintenance margin of a size, minor units, rounded up, never negative."""
        k = max(bisect_right(self.edges, size) - 1, 0)
        return max(-((self.amounts[k] - size * self.rates[k]) // self.divisor), 0)

    def initial(self, size: int, leverage: int) -> int:
        """Return the initial margin of a size at a chosen leverage, which the bracket caps; minor units, rounded up."""
        return -(-size * self.scale_up * UNIT // (self.allowed(size, leverage) * self.scale_down))

    def allowed(self, size: int, leverage: int) -> int:
        """Return the leverage that counts, in units of 10**-18: the chosen one, or the most that the bracket allows."""
        highest = self.brackets[self.place(size)].max_leverage
        return leverage * UNIT if highest is None else min(highest, leverage * UNIT)


def bracket_of(given: BracketParameters, field: str) -> Bracket:
    """Return a bracket of its parameters.

    Raises:
        ParameterError: a number is none, or out of its range.
    """
    floor, rate, amount = (
        _units(getattr(given, name), f"{field}.{name}") for name in ("floor", "maintenance_rate", "maintenance_amount")
    )
    cap = None if given.cap is None else _units(given.cap, f"{field}.cap")
    leverage = None if given.max_leverage is None else _units(given.max_leverage, f"{field}.max_leverage")
    if rate >= UNIT:
        raise ParameterError(f"parameters.{field}.maintenance_rate: {given.maintenance_rate} is not below 1")
    if cap is not None and cap <= floor:
        raise ParameterError(f"parameters.{field}.cap: {given.cap} is not above the floor, {given.floor}")
    if leverage is not None and leverage < UNIT:
        raise ParameterError(f"parameters.{field}.max_leverage: {given.max_leverage} is below 1")
    return Bracket(floor, cap, rate, amount, leverage)


def _units(text: str, field: str) -> int:
    numerator, denominator = ratio(text, field)
    return numerator * UNIT // denominator


def liquidating_at_once(brackets: Sequence[Bracket]) -> list[tuple[int, str]]:
    """Return the brackets, from 0, in which a position at the largest leverage needs more than its initial margin."""
    return [
        (
            k,
            f"maintenance_rate {_text(row.rate)} x max_leverage {_text(row.max_leverage)} is above 1: liquidated when opened",
        )
        for k, row in enumerate(brackets)
        if row.max_leverage is not None and row.rate * row.max_leverage > UNIT * UNIT
    ]


def faults_of(brackets: Sequence[Bracket]) -> list[tuple[int, str, str]]:
    """Return everything that is wrong with a table: (bracket from 0, field, what). A sound one has none.

    Named are gaps, overlaps, rates that fall, amounts that make the margin jump, leverage that rises. Nothing is
    repaired.
    """
    found = []
    if not brackets:
        return [(0, "", "the table is empty")]
    first = brackets[0]
    if first.floor != 0:
        found.append((0, "floor", f"the first bracket begins at {_text(first.floor)}, not at 0"))
    if first.amount != 0:
        found.append(
            (
                0,
                "maintenance_amount",
                f"the first bracket's amount is {_text(first.amount)}, not 0: the margin of a small position would be "
                f"negative",
            )
        )
    for k in range(1, len(brackets)):
        below, here = brackets[k - 1], brackets[k]
        if below.cap is None:
            found.append((k - 1, "cap", "open, though another bracket follows"))
        elif here.floor < below.cap:
            found.append(
                (
                    k,
                    "floor",
                    f"overlaps: {_text(here.floor)} lies below {_text(below.cap)}, where the bracket before ends",
                )
            )
        elif here.floor > below.cap:
            found.append(
                (
                    k,
                    "floor",
                    f"leaves a gap: {_text(here.floor)} lies above {_text(below.cap)}, where the bracket before ends",
                )
            )
        if here.rate < below.rate:
            found.append((k, "maintenance_rate", f"falls from {_text(below.rate)} to {_text(here.rate)}"))
        wanted, rest = divmod(below.amount * UNIT + here.floor * (here.rate - below.rate), UNIT)
        if here.amount != wanted or rest:
            found.append(
                (
                    k,
                    "maintenance_amount",
                    f"is discontinuous: {_text(here.amount)}, continuous would be {_text(wanted)}",
                )
            )
        if below.max_leverage is not None and here.max_leverage is not None and here.max_leverage > below.max_leverage:
            found.append((k, "max_leverage", f"rises from {_text(below.max_leverage)} to {_text(here.max_leverage)}"))
    return found


def _text(units: int) -> str:
    return format_scaled(units, PLACES).rstrip("0").rstrip(".")
