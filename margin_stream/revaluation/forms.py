"""A subaccount as a piecewise linear form of prices, in floats: what the vectors hold of it.

Value and debit of the models are sums of terms, each a coefficient times one price, or a product of prices, or a
bracket's line. Rounding is left out here and goes into the tolerance; whatever cannot be expressed in floats is ``None``,
and stays with the exact path.
"""

from __future__ import annotations

from typing import NamedTuple

from margin_stream.core.accounts.subaccount import Subaccount
from margin_stream.core.margin.brackets import BracketTable
from margin_stream.core.margin.guards import Guard, GuardState
from margin_stream.core.margin.model import MarginCalculator

LARGEST = 1e200
"""A subaccount of more than this, in minor units, is huge: it stays with the exact path."""


class Simple(NamedTuple):
    """A term in one price: ``value * price`` and ``debit * price``."""

    instrument: int
    value: float
    debit: float


class Product(NamedTuple):
    """A term in a product of two or three prices."""

    legs: tuple[int, ...]
    value: float
    debit: float


class Held(NamedTuple):
    """A perpetual: ``value * price - cost``, and the margin of its table."""

    instrument: int
    value: float
    cost: float
    size: float
    """|quantity| without its scale."""
    table: BracketTable


class Form(NamedTuple):
    """Value and debit of a subaccount."""

    fixed_value: float
    fixed_debit: float
    simple: list[Simple]
    products: list[Product]
    held: list[Held]
    rounded: int
    """How many roundings the model makes, each of less than one minor unit."""


def form_of(calculator: MarginCalculator, subaccount: Subaccount) -> Form | None:
    """Return the form of a subaccount; None for a model without a formula, and for what no price bounds.

    Raises:
        OverflowError: a number is too large for a float.
    """
    formula = calculator.formula(subaccount)
    if formula is None or not formula.bounded:
        return None
    fixed_value = fixed_debit = 0.0
    simple: list[Simple] = []
    products: list[Product] = []
    for legs, numerator, denominator, owed in formula.amounts:
        number = numerator / denominator
        value, debit = (0.0, number) if owed else (number, 0.0)
        if not legs:
            fixed_value += value
            fixed_debit += debit
        elif len(legs) == 1:
            simple.append(Simple(legs[0], value, debit))
        else:
            products.append(Product(legs, value, debit))
    held = []
    for _, position, table, _ in formula.positions:
        value = position.quantity * table.scale_up / table.scale_down
        held.append(Held(table.number, value, float(position.open_cost), float(abs(position.quantity)), table))
    return Form(fixed_value, fixed_debit, simple, products, held, len(formula.amounts) + 2 * len(held))


def limits_of(guards: list[Guard], guard_states: list[GuardState], tolerance: float) -> list[float] | None:
    """Return the tests of some guards: of each the ``a``, ``b`` and ``limit`` of ``a * V - b * D > limit``, one after
    the other.

    None where there are more than the vectors have room for. While all hold, no guard has flipped.

    Of guards that say the same at an offset of 0, the one with the largest ratio (where it does not breach) or the
    smallest (where it does) implies the others, because a debit is never negative.
    """
    safe = breached = None
    others: list[float] = []
    for guard, truth in zip(guards, guard_states, strict=True):
        ratio = guard.ratio.numerator / guard.ratio.denominator
        # An inclusive guard breaches where the excess is one less than nothing: it has a denominator in it, so this is
        # at most one unit.
        slack = tolerance * (1.0 + ratio) + 1.0
        if guard.offset == 0:
            if truth is GuardState.FALSE:
                safe = max(ratio, safe) if safe is not None else ratio
            else:
                breached = min(ratio, breached) if breached is not None else ratio
        elif truth is GuardState.FALSE:
            others += (1.0, ratio, guard.offset + slack)
        else:
            others += (-1.0, -ratio, -guard.offset + slack)
    rows: list[float] = []
    if safe is not None:
        rows += (1.0, safe, tolerance * (1.0 + safe) + 1.0)
    if breached is not None:
        rows += (-1.0, -breached, tolerance * (1.0 + breached) + 1.0)
    rows += others
    return rows if len(rows) <= 3 * ROWS else None


ROWS = 3
"""Tests of a subaccount."""
