"""A valuation without rounding, as a sum of terms: what a model may give of a portfolio beside the figures themselves.

Value and debit are sums of amounts, each a number times the prices of its legs, and of positions, each a line in its
price with a bracket table for what it requires. Whoever needs more than figures reads it: the calculator solves it for
prices, revaluation by vectors holds it in floats. It is exact: integers and ratios of integers.
"""

from __future__ import annotations

from typing import NamedTuple

from margin_stream.core.accounts.position import Position
from margin_stream.core.margin.brackets import BracketTable
from margin_stream.core.margin.guards import Ratio


class Amount(NamedTuple):
    """``numerator / denominator`` minor units, times the price of each leg in units of its scale."""

    legs: tuple[int, ...]
    """Numbers of instruments; empty for an amount of the base currency."""
    numerator: int
    denominator: int
    owed: bool
    """It counts as debit, else as value."""


class Margined(NamedTuple):
    """A position: ``quantity * price - open cost`` counts as value, what its table requires as debit."""

    key: int
    position: Position
    table: BracketTable
    leverage: int
    """The chosen one, or the profile's."""


class Loan(NamedTuple):
    """The debit is a loan: equity is value less debit, requirements are shares of the debit."""

    initial: Ratio
    maintenance: Ratio


class Formula(NamedTuple):
    """The terms of one portfolio."""

    amounts: list[Amount]
    positions: list[Margined]
    loan: Loan | None
    """None: equity is the value, the maintenance requirement is the debit."""
    bounded: bool
    """False where something is owed or held that no price bounds: then the terms are not all."""
