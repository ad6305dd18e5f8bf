"""The answer to a scenario: figures and, for each position, the prices at which it is liquidated and bankrupt."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from decimal import Context, Decimal
from fractions import Fraction
from functools import cache
from math import ceil, floor
from typing import Any

from margin_stream.calculator.fields import ScenarioError
from margin_stream.calculator.lines import Turn, exact_initial, exact_maintenance, nearest_turn, pieces
from margin_stream.calculator.scenario import Case, Held, build
from margin_stream.core.accounts.subaccount import Subaccount
from margin_stream.core.margin.formula import Formula, Margined
from margin_stream.core.margin.guards import Guard, Span
from margin_stream.schemas.decimals import format_scaled
from margin_stream.schemas.ndjson import LINE_LIMIT
from margin_stream.schemas.objects import OversizedNumber

DIGITS = 28
"""Significant digits of what is not rounded."""
RATIO_PLACES = 10
_FARTHEST = 1 << 62
_LOOKS = 20_000


def margin(scenario: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to one scenario; see docs/calculator.md for both.

    Decimals are texts (or integers). A scenario that cannot be computed gives ``{"id", "error": {"code", "field",
    "message"}}``.
    """
    identifier = scenario.get("id") if isinstance(scenario, Mapping) else None
    try:
        if not isinstance(scenario, Mapping):
            raise ScenarioError("bad_value", "", "a scenario is an object")
        return {"id": identifier, **_answer(build(scenario))}
    except ScenarioError as error:
        return {"id": identifier, "error": {"code": error.code, "field": error.field, "message": error.message}}


def margin_line(line: bytes) -> dict[str, Any]:
    """Return the answer to one line of NDJSON."""
    try:
        if len(line) > LINE_LIMIT:
            raise ValueError(f"the line has {len(line)} bytes, the limit is {LINE_LIMIT}")
        scenario = json.loads(
            line,
            object_pairs_hook=_unique,
            parse_float=OversizedNumber,
            parse_int=_bounded,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError) as error:
        return {
            "id": None,
            "error": {"code": "not_json", "field": "", "message": f"the line is no JSON object: {error}"},
        }
    return margin(scenario)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is given twice")
    return fields


def _bounded(text: str) -> object:
    return int(text) if len(text) <= 64 else OversizedNumber(text)


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is no JSON number")


def _answer(case: Case) -> dict[str, Any]:
    figures = _figures(case, case.account.cross)
    answer = {
        **{
            name: figures[name] for name in ("equity", "initial_margin", "maintenance_margin", "margin_ratio", "excess")
        },
        "call_amount": _call_amount(case),
        "positions": [_position(case, held) for held in case.held],
    }
    if case.warnings:
        answer["warnings"] = case.warnings
    return answer


def _figures(case: Case, subaccount: Subaccount) -> dict[str, Any]:
    """Return equity and requirements of a subaccount, rounded as the profile rounds, or exactly."""
    if case.rounded:
        equity, initial, maintenance = map(Fraction, case.calculator.statement(subaccount, case.prices)[:3])
    else:
        equity, initial, maintenance = _exact_statement(case, subaccount)
    return {
        "equity": _money(case, equity),
        "initial_margin": _money(case, initial),
        "maintenance_margin": _money(case, maintenance),
        "margin_ratio": _ratio(case, equity, maintenance),
        "excess": _money(case, equity - maintenance),
    }


def _exact_statement(case: Case, subaccount: Subaccount) -> tuple[Fraction, Fraction, Fraction]:
    formula = _formula(case, subaccount)
    piece = pieces(formula, case.prices, 0)[0]
    value, debit = piece.value.fixed, piece.debit.fixed
    if formula.loan is not None:
        return value - debit, debit * Fraction(*formula.loan.initial), debit * Fraction(*formula.loan.maintenance)
    initial = (exact_initial(held, _size(case, held)) for held in formula.positions)
    return value, sum(initial, Fraction(0)), debit


def _formula(case: Case, subaccount: Subaccount) -> Formula:
    """Return the valuation as a sum of terms.

    Raises:
        ScenarioError: the profile's model has none.
    """
    found = case.calculator.formula(subaccount)
    if found is None:
        raise ScenarioError("not_exact", "profile", "its margin model has no exact figures; leave out rounding")
    return found


def _size(case: Case, held: Margined) -> int:
    return abs(held.position.quantity) * case.prices[held.table.number]


def _call_amount(case: Case) -> str:
    """Return what a call would demand now: 0 where nothing is called."""
    policy = case.policy
    figures = case.calculator.evaluate(case.account.cross, case.prices)
    due = 0
    if policy.call_types[0].callable and policy.call_types[0].trigger.excess(figures.value, figures.debit) < 0:
        shortfall = policy.call_types[0].shortfall(figures)
        due = policy.call_types[0].rounded(shortfall) if policy.call_types[0].is_called(shortfall) else 0
    return _money(case, Fraction(due))


def _position(case: Case, held: Held) -> dict[str, Any]:
    own: dict[str, Any] = {"initial_margin": None, "maintenance_margin": None, "bracket": None}
    formula = case.calculator.formula(held.subaccount)
    for term in formula.positions if formula is not None else ():
        if term.key == held.key:
            table, size = term.table, _size(case, term)
            initial = Fraction(table.initial(size, term.leverage)) if case.rounded else exact_initial(term, size)
            maintenance = Fraction(table.maintenance(size)) if case.rounded else exact_maintenance(table, size)
            own = {
                "initial_margin": _money(case, initial),
                "maintenance_margin": _money(case, maintenance),
                "bracket": table.place(size) + 1,
            }
    close_out, bankrupt = case.policy.close_out, case.policy.bankrupt._replace(inclusive=True)
    answer = {
        "instrument": held.instrument.name,
        **own,
        "liquidation_price": _turning_price(case, held, close_out),
        "bankruptcy_price": _turning_price(case, held, bankrupt),
    }
    if together := case.together.get(held.instrument.number):
        answer |= {
            "joint_liquidation_price": _joint_price(case, held, close_out, together),
            "joint_bankruptcy_price": _joint_price(case, held, bankrupt, together),
        }
    if held.isolated:
        answer |= {
            name: figure
            for name, figure in _figures(case, held.subaccount).items()
            if name in ("equity", "margin_ratio", "excess")
        }
    return answer


def _turning_price(case: Case, held: Held, guard: Guard) -> str | None:
    """Return the price at which the position's subaccount breaches a guard, all other prices as they are."""
    if not held.position.quantity:
        return None
    number, scale = held.instrument.number, held.instrument.price_scale
    formula = case.calculator.formula(held.subaccount)
    if formula is None:
        return None
    turn = nearest_turn(pieces(formula, case.prices, number), guard, Fraction(case.prices[number]))
    if turn is None or turn.price <= 0:
        return None
    if not case.rounded:
        return plain(turn.price / 10**scale)
    units = _first_breached(case, held, guard, turn)
    return None if units is None else format_scaled(units, scale)


def _joint_price(case: Case, held: Held, guard: Guard, together: Collection[int]) -> str | None:
    """Return the price at which the position's subaccount breaches a guard while the collateral of the same coin moves
    in proportion; in the profile's rounding the first price of the scale beyond."""
    formula = case.calculator.formula(held.subaccount)
    if not held.position.quantity or formula is None:
        return None
    number, scale = held.instrument.number, held.instrument.price_scale
    mark = Fraction(case.prices[number])
    turn = nearest_turn(pieces(formula, case.prices, number, together), guard, mark)
    if turn is None or turn.price <= 0:
        return None
    if not case.rounded:
        return plain(turn.price / 10**scale)
    units = floor(turn.price) if turn.safe_above else ceil(turn.price)
    return format_scaled(units, scale) if units > 0 else None


def _first_breached(case: Case, held: Held, guard: Guard, turn: Turn) -> int | None:
    """Return the first price of the scale that breaches, counted from the safe side, by the model's own rounded
    arithmetic; None where no price of the scale does.

    Rounding moves the boundary, by many units where a unit of the price is worth little. Where value and debit go one way
    with the price, those at the ends of a stretch bound all between: it is safe, or breached, or it is halved. Long and
    short of one instrument go both ways: then the model's bounds are asked, which may leave so much open that it is
    halved towards one price that breaches behind one that does not, be it the first or not.
    """
    number, calculator, subaccount = held.instrument.number, case.calculator, held.subaccount
    one_way = _goes_one_way(_formula(case, subaccount), number)
    prices = list(case.prices)

    @cache
    def at(units: int) -> tuple[int, int]:
        prices[number] = units
        figures = calculator.evaluate(subaccount, prices)
        return figures.value, figures.debit

    def excess(units: int) -> int:
        return guard.excess(*at(units))

    def span(near: int, far: int) -> Span:
        if one_way or near == far:
            values, debits = zip(at(near), at(far), strict=True)
            return guard.excess(min(values), max(debits)), guard.excess(max(values), min(debits))
        lowest, highest = list(case.prices), list(case.prices)
        lowest[number], highest[number] = min(near, far), max(near, far)
        return calculator.bounds(subaccount, lowest, highest, [guard])[0]

    looks = 0

    def first(near: int, far: int) -> int | None:
        nonlocal looks
        looks += 1
        least, greatest = span(near, far)
        if looks > _LOOKS:
            least, greatest = (excess(far), None) if excess(near) >= 0 else (None, -1)
        if least is not None and least >= 0:
            return None
        if greatest is not None and greatest < 0:
            return near
        middle = (near + far) // 2
        halves = ((near, middle), (middle + 1, far)) if near < far else ((near, middle + 1), (middle, far))
        found = first(*halves[0])
        return first(*halves[1]) if found is None else found

    into = -1 if turn.safe_above else 1
    start = max(floor(turn.price), 1)
    # What rounding may take or give, at most: a minor unit a term, in the guard's own units.
    terms = len(subaccount.balances) + 2 * len(subaccount.positions) + 2
    slack = terms * sum(guard.ratio) + 1
    near, far = start, start
    step = 1
    while excess(near) < slack and step < _FARTHEST:
        moved = max(start - into * step, 1)
        if moved == near or (excess(near) >= 0 > excess(moved)):
            break
        near, step = moved, 2 * step
    step = 1
    while excess(far) > -slack and step < _FARTHEST:
        moved = max(start + into * step, 1)
        if moved == far:
            break
        far, step = moved, 2 * step
    return first(near, far)


def _goes_one_way(formula: Formula, number: int) -> bool:
    """Return whether the value rises with the price of an instrument, or falls, at all prices. (The debit only rises.)"""
    signs = {amount.numerator > 0 for amount in formula.amounts if number in amount.legs and not amount.owed}
    signs |= {term.position.quantity > 0 for term in formula.positions if term.table.number == number}
    return len(signs) <= 1


def _money(case: Case, minor: Fraction) -> str:
    if case.rounded:
        return format_scaled(minor.numerator // minor.denominator, case.base_scale)
    return plain(minor / 10**case.base_scale)


def _ratio(case: Case, equity: Fraction, maintenance: Fraction) -> str | None:
    if maintenance == 0:
        return None
    ratio = equity / maintenance
    if case.rounded:
        # Half to even.
        return format_scaled(round(ratio * 10**RATIO_PLACES), RATIO_PLACES)
    return plain(ratio)


def plain(fraction: Fraction) -> str:
    """Return a fraction as a decimal without exponent: exactly where it ends, else to 28 significant digits."""
    text = f"{Context(prec=DIGITS).divide(Decimal(fraction.numerator), Decimal(fraction.denominator)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
