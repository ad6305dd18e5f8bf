"""The plain engine, vectorised: every holder of an instrument is revalued at every tick, in floats, with a bound on
their error.

Where a guard might have flipped within that bound, the account goes to the exact path; so the calls are those of the
pure core, item for item. What does not fit (a model without a linear form, an undecided guard, a huge subaccount, more
guards than there is room for) is *hot*: it goes to the exact path at every tick of its instruments, and is counted.

The error: a row gathers at most ``TICKS_LIMIT`` changes before it is made anew, each rounded to half a unit in the last
place of numbers no greater than ``GROWTH`` times the gross at enrolment; a price beyond that makes the rows anew too.
Beside it stand the model's own roundings.

One file, because one class owns the arrays: enrolling, revaluing and compacting move the same rows, and mypyc compiles
them together.
"""

from __future__ import annotations

from itertools import compress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from margin_stream.core.margin.brackets import BracketTable
from margin_stream.core.margin.guards import Guard, GuardState
from margin_stream.core.margin.model import Profile
from margin_stream.core.market.market import Market
from margin_stream.core.revaluation.filter import GuardTests
from margin_stream.revaluation.columns import PositionTerms, ProductTerms, SimpleTerms
from margin_stream.revaluation.forms import LARGEST, ROWS, Form, form_of, limits_of
from margin_stream.revaluation.kernels import TESTS, WIDTH, move_held, move_products, move_simple

TICKS_LIMIT = 1 << 16
GROWTH = 16.0
EPSILON = 2.0**-53
ERROR = EPSILON * (4 * TICKS_LIMIT + 256) * GROWTH
"""Of a row's gross: what its value and debit may be off by."""
_DEAD_LIMIT = 10_000

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]


class VectorFilter:
    """Watches by revaluing every holder at every tick; see ``core.revaluation.filter.RevaluationFilter``."""

    def __init__(self) -> None:
        self._prices: Floats = np.ones(1)
        self._ceilings: Floats = np.full(1, np.inf)
        """Above this, an instrument's rows are made anew."""
        self._simple: list[SimpleTerms] = [SimpleTerms()]
        self._products: list[ProductTerms] = [ProductTerms()]
        self._held: list[PositionTerms] = [PositionTerms()]
        self._ticks = 0
        self._rows: Floats = np.zeros((1024, WIDTH))
        self._owners: Integers = np.zeros(1024, dtype=np.int32)
        """Unit -> account."""
        self._errors: list[tuple[int, float]] = []
        """Unit -> roundings of its form, and its gross, at enrolment."""
        self._guarded: list[tuple[list[Guard], list[GuardState]]] = []
        """Unit -> the guards that its tests were written for, and what they reported."""
        self._count = 0
        self._alive: NDArray[np.bool_] = np.zeros(1024, dtype=np.bool_)
        self._dead = 0
        self._units: dict[int, range] = {}
        """Account -> its units."""
        self._found: NDArray[np.int64] = np.zeros(1024, dtype=np.int64)
        self._near_trigger: list[dict[int, None]] = [{}]
        self._near_trigger_on: dict[int, tuple[int, ...]] = {}
        self._brackets: Floats = np.zeros((0, 3))
        self._tables: dict[int, tuple[BracketTable, int, int]] = {}
        self.exact_named = 0
        """Accounts named so far because a float could not decide, or because they are hot; not a fact."""
        self.revalued = 0
        """Holders revalued so far; not a fact."""

    # ---- RevaluationFilter ----------------------------------------------------------------------------------------------------

    def add_instrument(self) -> None:
        """See ``RevaluationFilter``."""
        self._prices = np.append(self._prices, 0.0)
        self._ceilings = np.append(self._ceilings, np.inf)
        self._simple.append(SimpleTerms())
        self._products.append(ProductTerms())
        self._held.append(PositionTerms())
        self._near_trigger.append({})

    def add_account(self) -> None:
        """See ``RevaluationFilter``."""

    def place(self, number: int, price: int) -> None:
        """See ``RevaluationFilter``."""
        self._prices[number] = price

    def reached(self, number: int, price: int) -> list[int]:
        """See ``RevaluationFilter``."""
        now, before = float(price), float(self._prices[number])
        near_trigger = self._near_trigger[number]
        self._prices[number] = now
        self._ticks += 1
        if self._ticks > TICKS_LIMIT or now > self._ceilings[number]:
            # Every account is looked at, and enrolled anew at the prices of now.
            return self._expire()
        simple, products, held = self._simple[number], self._products[number], self._held[number]
        total = simple.units.count + products.units.count + held.units.count
        found = self._found
        if total > len(found):
            found = self._found = np.zeros(2 * total, dtype=np.int64)
        at = 0
        rows = self._rows
        if simple.units.count:
            at = move_simple(
                simple.units.array,
                simple.values.array,
                simple.debits.array,
                simple.units.count,
                now - before,
                rows,
                found,
                at,
            )
        if products.units.count:
            at = move_products(
                products.units.array,
                products.values.array,
                products.debits.array,
                products.others.array,
                self._prices,
                products.units.count,
                now - before,
                rows,
                found,
                at,
            )
        if held.units.count:
            at = move_held(
                held.units.array,
                held.values.array,
                held.lines.array,
                held.tables.array,
                self._brackets,
                held.units.count,
                before,
                now,
                rows,
                found,
                at,
            )
        self.revalued += total
        if not at and not near_trigger:
            return []
        named = dict(near_trigger)
        for unit in found[:at].tolist():
            if self._alive[unit]:
                named[int(self._owners[unit])] = None
        self.exact_named += len(named)
        return list(named)

    def keeps(self, account: int) -> bool:
        """See ``Watch``: a row follows the prices until it is forgotten, and what is hot stays so."""
        return account in self._units or account in self._near_trigger_on

    def forget(self, account: int) -> None:
        """See ``RevaluationFilter``."""
        units = self._units.pop(account, None)
        if units is not None:
            self._alive[units.start : units.stop] = False
            for unit in units:
                self._rows[unit, TESTS:] = _NEVER
            self._dead += len(units)
        for number in self._near_trigger_on.pop(account, ()):
            self._near_trigger[number].pop(account, None)

    def track(self, account: int, profile: Profile, subaccounts: list[GuardTests], market: Market) -> None:
        """See ``RevaluationFilter``."""
        if self._renewed(account, subaccounts):
            return
        self.forget(account)
        if self._dead > _DEAD_LIMIT and 2 * self._dead > self._count:
            self._compact()
        unfresh = market.unfresh
        reads = dict.fromkeys(leg for row in subaccounts for leg in profile.calculator.depends_on(row.subaccount))
        found = [self._unit(profile, row) for row in subaccounts]
        if any(row is None for row in found) or (unfresh and not unfresh.isdisjoint(reads)):
            fresh = tuple(leg for leg in reads if leg not in unfresh)
            self._near_trigger_on[account] = fresh
            for number in fresh:
                self._near_trigger[number][account] = None
            return
        first = self._count
        for row, watched in zip(found, subaccounts, strict=True):
            assert row is not None
            self._guarded.append((watched.guards, watched.guard_states))
            self._enrol(account, row)
        self._units[account] = range(first, self._count)
        for leg in reads:
            self._ceilings[leg] = min(self._ceilings[leg], GROWTH * self._prices[leg])

    @property
    def near_trigger_count(self) -> int:
        """See ``RevaluationFilter``."""
        return len(self._near_trigger_on)

    # ---- rows -----------------------------------------------------------------------------------------------------

    def _renewed(self, account: int, subaccounts: list[GuardTests]) -> bool:
        """Write the tests of an account's rows anew, where it has rows and they can be written."""
        units = self._units.get(account)
        if units is None or len(units) != len(subaccounts):
            return False
        reported = self._guarded
        for unit, watched in zip(units, subaccounts, strict=True):
            guards, guard_states = reported[unit]
            if watched.guards is guards and watched.guard_states is guard_states:
                continue
            tests = _tests(watched, *self._errors[unit])
            if tests is None:
                return False
            self._rows[unit, TESTS:] = tests
            reported[unit] = watched.guards, watched.guard_states
        return True

    def _unit(self, profile: Profile, watched: GuardTests) -> _Unit | None:
        """Return what the vectors hold of a subaccount at the prices of now; None where it belongs to the exact
        path."""
        try:
            form = form_of(profile.calculator, watched.subaccount)
            if form is None:
                return None
            value, debit, gross = self._sums(form)
            tests = _tests(watched, form.rounded, gross)
        except OverflowError:
            return None
        return None if tests is None else _Unit(form, value, debit, gross, tests)

    def _sums(self, form: Form) -> tuple[float, float, float]:
        """Return value, debit and gross of a form."""
        prices = self._prices
        value, debit = form.fixed_value, form.fixed_debit
        gross = abs(value) + abs(debit)
        for instrument, by_value, by_debit in form.simple:
            price = float(prices[instrument])
            value += by_value * price
            debit += by_debit * price
            gross += (abs(by_value) + by_debit) * price
        for legs, by_value, by_debit in form.products:
            product = 1.0
            for leg in legs:
                product *= float(prices[leg])
            value += by_value * product
            debit += by_debit * product
            gross += (abs(by_value) + by_debit) * product * GROWTH ** (len(legs) - 1)
        for held in form.held:
            price = float(prices[held.instrument])
            size = held.size * price
            k = held.table.place(int(size))
            margin = (size * held.table.rates[k] - held.table.amounts[k]) / held.table.divisor
            value += held.value * price - held.cost
            debit += margin
            gross += abs(held.value) * price * 2 + abs(held.cost) + held.table.amounts[-1] / held.table.divisor
        return value, debit, gross

    def _enrol(self, account: int, row: _Unit) -> None:
        form = row.form
        unit = self._count
        if unit == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
            self._owners = np.concatenate([self._owners, np.zeros_like(self._owners)])
            self._alive = np.concatenate([self._alive, np.zeros_like(self._alive)])
        self._rows[unit] = (row.value, row.debit, *row.tests)
        self._errors.append((form.rounded, row.gross))
        self._owners[unit] = account
        self._alive[unit] = True
        self._count += 1
        for instrument, by_value, by_debit in form.simple:
            simple = self._simple[instrument]
            simple.units.append(unit)
            simple.values.append(by_value)
            simple.debits.append(by_debit)
        for legs, by_value, by_debit in form.products:
            for place, leg in enumerate(legs):
                products = self._products[leg]
                others = [*legs[:place], *legs[place + 1 :], 0][:2]
                products.units.append(unit)
                products.values.append(by_value)
                products.debits.append(by_debit)
                products.others.append(others)
        for position in form.held:
            held = self._held[position.instrument]
            held.units.append(unit)
            held.values.append(position.value)
            held.lines.append(self._line(position.size, float(self._prices[position.instrument]), position.table))
            held.tables.append(self._table(position.table)[1:])

    def _line(self, size: float, price: float, table: BracketTable) -> list[float]:
        """Return size, rate and amount of a position's bracket, and the prices between which it lies there."""
        k = table.place(int(size * price))
        high = table.edges[k + 1] / size if k + 1 < len(table.edges) else float("inf")
        return [
            size,
            size * table.rates[k] / table.divisor,
            table.amounts[k] / table.divisor,
            table.edges[k] / size,
            high,
        ]

    def _table(self, table: BracketTable) -> tuple[BracketTable, int, int]:
        """Return where a table's brackets begin and end, added where they are new. (The table is kept, so that its
        identity stays its own.)"""
        known = self._tables.get(id(table))
        if known is None:
            first = len(self._brackets)
            rows = [
                (float(edge), rate / table.divisor, amount / table.divisor)
                for edge, rate, amount in zip(table.edges, table.rates, table.amounts, strict=True)
            ]
            self._brackets = np.concatenate([self._brackets, np.array(rows)])
            known = self._tables[id(table)] = (table, first, len(self._brackets))
        return known

    def _expire(self) -> list[int]:
        """Name every account and forget all, so that all are enrolled anew."""
        self._ticks = 0
        self._ceilings[:] = np.inf
        named = list(dict.fromkeys([*self._units, *self._near_trigger_on]))
        for account in named:
            self.forget(account)
        return named

    def _compact(self) -> None:
        """Drop dead units and their terms."""
        alive = self._alive[: self._count]
        places = np.cumsum(alive, dtype=np.int32) - 1
        for group in (self._simple, self._products, self._held):
            for calculator in group:
                units = calculator.units.array[: calculator.units.count]
                mask = alive[units]
                for column in calculator.columns():
                    column.keep(mask)
                calculator.units.array[: calculator.units.count] = places[
                    calculator.units.array[: calculator.units.count]
                ]
        kept = int(alive.sum())
        self._rows[:kept] = self._rows[: self._count][alive]
        self._owners[:kept] = self._owners[: self._count][alive]
        lives = alive.tolist()
        self._errors = list(compress(self._errors, lives))
        self._guarded = list(compress(self._guarded, lives))
        self._units = {
            account: range(int(places[units.start]), int(places[units.start]) + len(units))
            for account, units in self._units.items()
        }
        self._count, self._dead = kept, 0
        self._alive[:kept] = True
        self._alive[kept:] = False


class _Unit(NamedTuple):
    """What the vectors hold of a subaccount, at enrolment."""

    form: Form
    value: float
    debit: float
    gross: float
    tests: tuple[float, ...]


def _tests(watched: GuardTests, rounded: int, gross: float) -> tuple[float, ...] | None:
    """Return the tests of a subaccount, as many as a row has; None where they cannot be written.

    Args:
        watched: its guards and what they say.
        rounded: roundings of its form.
        gross: of its row.
    """
    if GuardState.UNDECIDED in watched.guard_states:
        return None
    try:
        for guard in watched.guards:
            gross += abs(float(guard.offset))
    except OverflowError:
        return None
    if not gross < LARGEST:
        return None
    limits = limits_of(watched.guards, watched.guard_states, rounded + ERROR * gross)
    return None if limits is None else (*limits, *_NEVER[len(limits) :])


_NEVER = (0.0, 0.0, -float("inf")) * ROWS
"""Tests that never fail."""
