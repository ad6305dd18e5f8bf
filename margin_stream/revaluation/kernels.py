"""The loops over holders, compiled by numba. Every array is float64 or int32; nothing is allocated in here.

A unit is a subaccount: its row holds value, debit and up to three tests ``a * V - b * D > limit``. A kernel moves the
rows of an instrument's holders by what the price moved, and writes down the units for which a test fails (or is no
number). Each kernel ends in the same lines: in a function of their own, inlined or not, they took twice the time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

TESTS = 2
"""Where the tests begin, behind value and debit."""
WIDTH = 11
"""Value, debit, and three tests of three numbers each."""


@njit(cache=True, error_model="numpy")  # type: ignore[misc, unused-ignore]
def move_simple(units: Any, values: Any, debits: Any, count: int, change: float, rows: Any, found: Any, at: int) -> int:
    """Move the holders of terms in one price; return how many units are found."""
    for n in range(count):
        unit = units[n]
        value = rows[unit, 0] + values[n] * change
        debit = rows[unit, 1] + debits[n] * change
        rows[unit, 0] = value
        rows[unit, 1] = debit
        if not (
            rows[unit, 2] * value - rows[unit, 3] * debit > rows[unit, 4]
            and rows[unit, 5] * value - rows[unit, 6] * debit > rows[unit, 7]
            and rows[unit, 8] * value - rows[unit, 9] * debit > rows[unit, 10]
        ):
            found[at] = unit
            at += 1
    return at


@njit(cache=True, error_model="numpy")  # type: ignore[misc, unused-ignore]
def move_products(
    units: Any,
    values: Any,
    debits: Any,
    others: Any,
    prices: Any,
    count: int,
    change: float,
    rows: Any,
    found: Any,
    at: int,
) -> int:
    """Move the holders of terms in a product of prices; ``others`` names the other legs of each."""
    for n in range(count):
        unit = units[n]
        moved = change * prices[others[n, 0]] * prices[others[n, 1]]
        value = rows[unit, 0] + values[n] * moved
        debit = rows[unit, 1] + debits[n] * moved
        rows[unit, 0] = value
        rows[unit, 1] = debit
        if not (
            rows[unit, 2] * value - rows[unit, 3] * debit > rows[unit, 4]
            and rows[unit, 5] * value - rows[unit, 6] * debit > rows[unit, 7]
            and rows[unit, 8] * value - rows[unit, 9] * debit > rows[unit, 10]
        ):
            found[at] = unit
            at += 1
    return at


@njit(cache=True, error_model="numpy")  # type: ignore[misc, unused-ignore]
def move_held(
    units: Any,
    values: Any,
    lines: Any,
    tables: Any,
    brackets: Any,
    count: int,
    before: float,
    price: float,
    rows: Any,
    found: Any,
    at: int,
) -> int:
    """Move the holders of a perpetual.

    ``lines`` has for each: size, rate and amount of its bracket, and the prices between which it lies there.
    ``brackets`` has for each row of all
    tables: the least size, rate, amount (per unit of size and in minor units); ``tables`` where a holder's table begins
    and ends.
    """
    change = price - before
    for n in range(count):
        unit = units[n]
        value = rows[unit, 0] + values[n] * change
        if lines[n, 3] <= price < lines[n, 4]:
            debit = rows[unit, 1] + lines[n, 1] * change
        else:
            size = lines[n, 0]
            first, last = tables[n, 0], tables[n, 1]
            k = first
            while k + 1 < last and brackets[k + 1, 0] <= size * price:
                k += 1
            old = lines[n, 1] * before - lines[n, 2]
            lines[n, 1] = size * brackets[k, 1]
            lines[n, 2] = brackets[k, 2]
            lines[n, 3] = brackets[k, 0] / size
            lines[n, 4] = brackets[k + 1, 0] / size if k + 1 < last else np.inf
            debit = rows[unit, 1] + (lines[n, 1] * price - lines[n, 2]) - old
        rows[unit, 0] = value
        rows[unit, 1] = debit
        if not (
            rows[unit, 2] * value - rows[unit, 3] * debit > rows[unit, 4]
            and rows[unit, 5] * value - rows[unit, 6] * debit > rows[unit, 7]
            and rows[unit, 8] * value - rows[unit, 9] * debit > rows[unit, 10]
        ):
            found[at] = unit
            at += 1
    return at
