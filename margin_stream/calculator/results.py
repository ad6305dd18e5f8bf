"""The answer to a scenario: figures and, for each position, the prices at which it is liquidated and bankrupt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Context, Decimal
from fractions import Fraction
from math import ceil, floor
from typing import Any

from margin_stream.calculator.fields import ScenarioError
from margin_stream.calculator.lines import Turn, exact_initial, exact_maintenance, nearest_turn, pieces
from margin_stream.calculator.scenario import Case, Held, build
from margin_stream.core.accounts.subaccount import Subaccount
from margin_stream.core.margin.formula import Formula, Margined
from margin_stream.core.margin.guards import Guard
from margin_stream.schemas.decimals import format_scaled
from margin_stream.schemas.ndjson import LINE_LIMIT
from margin_stream.schemas.objects import OversizedNumber

DIGITS = 28
"""Significant digits of what is not rounded."""
RATIO_PLACES = 10
_SEARCH_LIMIT = 1 << 16


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
    answer = {
        "instrument": held.instrument.name,
        **own,
        "liquidation_price": _turning_price(case, held, case.policy.close_out),
        "bankruptcy_price": _turning_price(case, held, case.policy.bankrupt._replace(inclusive=True)),
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


def _first_breached(case: Case, held: Held, guard: Guard, turn: Turn) -> int | None:
    """Return the first price of the scale that breaches, counted from the safe side, by the model's own rounded
    arithmetic."""
    number = held.instrument.number
    prices = list(case.prices)

    def breached(units: int) -> bool:
        prices[number] = units
        figures = case.calculator.evaluate(held.subaccount, prices)
        return guard.excess(figures.value, figures.debit) < 0

    into = -1 if turn.safe_above else 1
    units = max(floor(turn.price) if turn.safe_above else ceil(turn.price), 1)
    for _ in range(_SEARCH_LIMIT):
        # Rounding may move the boundary by some units either way.
        if breached(units):
            if units - into < 1 or not breached(units - into):
                return units
            units -= into
        elif units + into < 1:
            return None
        else:
            units += into
    return None


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
