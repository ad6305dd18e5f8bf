"""What must hold of perpetuals and subaccounts whatever the numbers are. The engine is a black box here; days are small."""

from __future__ import annotations

import json
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.comparing import engine_says
from tests.days import text
from tests.usdm_days import PERPETUALS, TABLES, UsdmDay, random_usdm_day

SMALL = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
DEPTH = {"HEALTHY": 0, "WARNING": 1, "LIQUIDATING": 2, "BANKRUPT": 3}
NAMES = st.sampled_from(sorted(PERPETUALS))
CENTS = st.integers(0, 5_000_000)
UNIT = Fraction(1, 100)
QUANTITIES = st.integers(1, 400_000)
"""In quantity units: up to 400 BTC or ETH, far beyond the last floors."""


def opened(cash: int = 0) -> UsdmDay:
    day = UsdmDay()
    day.opened()
    day.usdm_account("A", text(cash, 2))
    return day


def trade(day: UsdmDay, name: str, quantity: int, price: int | None = None, account: str = "A", **more: Any) -> None:
    price_scale, quantity_scale, first = PERPETUALS[name]
    day.perpetual(
        account, name, text(quantity, quantity_scale), text(first if price is None else price, price_scale), **more
    )


def facts(day: UsdmDay, account: str = "A", subaccount: str = "") -> dict[str, Any]:
    _, refusals, found = engine_says(day.lines)
    assert not refusals
    return dict(found[account][subaccount])


def cash_of(found: dict[str, Any]) -> Fraction:
    return Fraction(found["balances"].get("USDT", "0"))


@pytest.mark.slow(reason="many random days, each folded several times")
@SMALL
@given(
    st.lists(st.tuples(NAMES, QUANTITIES, st.sampled_from((-1, 1))), min_size=1, max_size=3),
    CENTS,
    st.integers(0, 10**7),
)
def test_more_cash_never_raises_the_level(trades: list[tuple[str, int, int]], cash: int, more: int) -> None:
    depths = []
    for deposit in (cash, cash + more):
        day = opened(deposit)
        for name, quantity, sign in trades:
            trade(day, name, quantity * sign)
        depths.append(DEPTH[facts(day)["level"]])
    assert depths[1] <= depths[0]


@pytest.mark.slow(reason="many random days, each folded several times")
@SMALL
@given(NAMES, QUANTITIES, st.sampled_from((-1, 1)), st.integers(1, 300))
def test_the_requirement_is_never_negative_and_never_falls_when_the_price_rises(
    name: str, quantity: int, sign: int, percent: int
) -> None:
    day = opened(10**6)
    trade(day, name, quantity * sign)
    scale, _, first = PERPETUALS[name]
    before = Fraction(facts(day)["debit"])
    day.believe(name, text(first + max(1, first * percent // 100), scale))
    assert 0 <= before <= Fraction(facts(day)["debit"])


@pytest.mark.slow(reason="many random days, each folded several times")
@SMALL
@given(
    NAMES, QUANTITIES, st.sampled_from((-1, 1)), st.integers(1, 9_999_999), st.lists(st.integers(1, 1000), max_size=4)
)
def test_opening_and_closing_at_one_price_costs_the_rounding_alone(
    name: str, quantity: int, sign: int, price: int, parts: list[int]
) -> None:
    """Each booking is rounded against the account: less than one unit for the opening and one for each closing part."""
    day = opened(10**6)
    trade(day, name, quantity * sign, price)
    left, closings = quantity, 0
    for part in [*parts, quantity]:
        closed = min(part, left)
        if closed:
            trade(day, name, -closed * sign, price)
            left, closings = left - closed, closings + 1
    after = facts(day)
    _, cost, realised, fees, _ = after["positions"].get(f"{name} both", ("", "0", "0", "0", 0))
    assert Fraction(cost) == Fraction(fees) == 0
    assert after["debit"] == "0.00"
    assert cash_of(after) == 10_000 + Fraction(realised)
    assert -(1 + closings) * UNIT < Fraction(realised) <= 0


@pytest.mark.slow(reason="many random days, each folded several times")
@SMALL
@given(NAMES, QUANTITIES)
def test_two_halves_on_two_accounts_do_not_need_more_than_the_whole(name: str, half: int) -> None:
    """The margin is convex in the notional and 0 at 0, so a part never needs more than its share; in the first bracket
    just its share."""
    day = opened()
    day.usdm_account("B")
    trade(day, name, 2 * half)
    trade(day, name, half, account="B")
    whole, part = Fraction(facts(day)["debit"]), Fraction(facts(day, "B")["debit"])
    assert 2 * part <= whole + UNIT
    price_scale, quantity_scale, first = PERPETUALS[name]
    cap = TABLES[name][0]["cap"]
    if cap is None or Fraction(2 * half * first, 10 ** (price_scale + quantity_scale)) < Fraction(cap):
        assert abs(2 * part - whole) <= UNIT


@pytest.mark.slow(reason="many random days, each folded several times")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**9))
def test_money_is_conserved_over_subaccounts(seed: int) -> None:
    """Over all subaccounts: balances = what came from outside + realised - fees, to the unit; transfers, margins and sweeps
    move nothing away."""
    rng = Random(seed)
    rows = [json.loads(line) for line in random_usdm_day(rng.randrange(10**9))]
    rows = [row for row in rows if row["type"] not in ("funding_paid", "account_changed")]
    lines = [json.dumps(row).encode() for row in rows]
    _, refusals, found = engine_says(lines)
    refused = {position for position, _ in refusals}
    came: dict[str, Fraction] = {}
    for position, row in enumerate(rows, 1):
        if (
            row["type"] == "collateral_moved"
            and position not in refused
            and "from_isolated" not in row
            and row["asset"] == "USDT"
        ):
            came[row["account"]] = came.get(row["account"], Fraction(0)) + Fraction(row["amount_delta"])
    for account, subaccounts in found.items():
        if account.startswith("U") and int(account[1:]) % 4 != 3:
            parts = [subaccount for name, subaccount in subaccounts.items() if name != "calls"]
            held = sum(cash_of(part) for part in parts)
            positions = [position for part in parts for position in part["positions"].values()]
            assert held == came.get(account, 0) + sum(Fraction(p[2]) - Fraction(p[3]) for p in positions)


@pytest.mark.slow(reason="many random days, each folded several times")
@SMALL
@given(NAMES, QUANTITIES, st.integers(1, 9_999_999), st.integers(-(10**12) + 1, 10**12 - 1), st.booleans())
def test_funding_of_a_long_and_an_equal_short_comes_to_nothing_or_costs_one_unit(
    name: str, quantity: int, price: int, rate: int, one_account: bool
) -> None:
    day = opened(10**6)
    other = "A" if one_account else "B"
    if not one_account:
        day.usdm_account("B", "10000.00")
    trade(day, name, quantity, position_side="long")
    trade(day, name, -quantity, account=other, position_side="short")
    before = sum(cash_of(facts(day, account)) for account in {"A", other})
    scale = PERPETUALS[name][0]
    day.book("funding_paid", instrument=name, rate=text(rate, 12), price=text(price, scale))
    after = sum(cash_of(facts(day, account)) for account in {"A", other})
    assert after - before in (0, -UNIT)


@pytest.mark.slow(reason="many random days, each folded several times")
@SMALL
@given(NAMES, QUANTITIES, st.sampled_from((-1, 1)), st.integers(1, 200_000), st.integers(1, 3))
def test_the_liquidation_of_a_subaccount_leaves_cross_as_it_is(
    name: str, quantity: int, sign: int, margin: int, factor: int
) -> None:
    """Nothing that happens to the subaccount's price is felt in cross: not in its level, its balances, or its effects."""
    day = opened(10**6)
    other = next(instrument for instrument in sorted(PERPETUALS) if instrument != name)
    trade(day, other, 100)
    trade(day, name, quantity * sign, isolated="P", isolated_margin_delta=text(margin, 2))
    before = facts(day)
    scale, _, first = PERPETUALS[name]
    day.believe(name, text(first * (1 + factor) if sign < 0 else max(1, first // (10 * factor)), scale))
    after = facts(day)
    subaccount = facts(day, subaccount="P")
    worst = Fraction(quantity * first, 10 ** (sum(PERPETUALS[name][:2])))
    if worst > 20 * margin * UNIT:
        assert subaccount["level"] == "BANKRUPT"
    assert after == before
    said = engine_says(day.lines)[0]
    turned = [effect for effect in said if effect["sequence"] > len(day.lines) - 3 and effect.get("account") == "A"]
    assert all(effect["isolated"] == "P" for effect in turned)


@pytest.mark.slow(reason="many random days, each folded several times")
@SMALL
@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_transfer_and_its_return_leave_no_trace(there: int, cash: int) -> None:
    day = opened(cash)
    before = engine_says(day.lines)
    day.money("A", text(there, 2), isolated="P", from_isolated="")
    day.money("A", text(there, 2), isolated="", from_isolated="P")
    after = engine_says(day.lines)
    assert after[2] == before[2]
    assert ([] if there <= cash else ["BANKRUPT", "HEALTHY"]) == [
        effect["level"] for effect in after[0][len(before[0]) :] if effect["type"] == "margin_level_changed"
    ]
