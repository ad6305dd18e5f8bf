"""Collateral in the coin that is traded: the price at which both move alike; and contracts that count for more than
one."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from margin_stream import margin

ONE = [{"floor": "0", "cap": None, "maintenance_rate": "0.004", "maintenance_amount": "0", "max_leverage": "125"}]
TWO = [
    {"floor": "0", "cap": "50000", "maintenance_rate": "0.004", "maintenance_amount": "0", "max_leverage": "125"},
    {"floor": "50000", "cap": None, "maintenance_rate": "0.01", "maintenance_amount": "300", "max_leverage": "50"},
]


def scenario(perpetual: str = "40000", spot: str = "40000", **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "profile": "binance-usdm",
        "rounding": "none",
        "prices": {"BTCUSDT": spot, "BTCUSDT-PERP": perpetual},
        "positions": [{"instrument": "BTCUSDT-PERP", "quantity": "1", "entry_price": "40000"}],
        "collateral": [{"asset": "BTC", "amount": "1"}],
        "instruments": {"BTCUSDT": {"kind": "spot", "base": "BTC", "currency": "USDT"}},
        "parameters": {
            "assets": {"BTC": {"haircut": "0.05", "route": ["BTCUSDT"]}},
            "brackets": {"BTCUSDT-PERP": ONE},
        },
    }
    return found | changes


def test_the_worked_number() -> None:
    """0.95 P + P - 40000 = 0.004 P at P = 40000 / 1.946; nothing is left at 40000 / 1.95."""
    (position,) = margin(scenario())["positions"]
    assert Fraction(position["joint_liquidation_price"]) == pytest.approx(
        Fraction(40000) / Fraction("1.946"), rel=1e-20
    )
    assert Fraction(position["joint_bankruptcy_price"]) == pytest.approx(Fraction(40000) / Fraction("1.95"), rel=1e-20)
    assert Fraction(position["liquidation_price"]) == pytest.approx(Fraction(2000) / Fraction("0.996"), rel=1e-20)


def test_it_is_rounded_towards_the_breach_with_the_profile() -> None:
    (position,) = margin(scenario(rounding="profile"))["positions"]
    assert position["joint_liquidation_price"] == "20554.98"
    short = [{"instrument": "BTCUSDT-PERP", "quantity": "-3", "entry_price": "40000"}]
    (position,) = margin(scenario(rounding="profile", positions=short))["positions"]
    # 120000 + 0.95 P - 3 P = 0.012 P at P = 58195.9263...
    assert position["joint_liquidation_price"] == "58195.93"


def test_only_collateral_of_the_same_coin_has_it() -> None:
    for collateral in ([{"asset": "USDT", "amount": "5000"}], [{"asset": "B", "amount": "5000"}]):
        answer = margin(scenario(collateral=collateral, parameters={"brackets": {"BTCUSDT-PERP": ONE}}))
        assert "joint_liquidation_price" not in answer["positions"][0]
        assert not any("moves with" in text for text in answer.get("warnings", ()))
    isolated = [{"instrument": "BTCUSDT-PERP", "quantity": "1", "entry_price": "40000", "isolated_margin": "2000"}]
    assert "joint_liquidation_price" not in margin(scenario(positions=isolated))["positions"][0]


AMOUNTS = st.integers(-400, 400).map(lambda n: Fraction(n, 100))


@settings(max_examples=150, deadline=None)
@given(
    quantity=AMOUNTS.filter(bool),
    coins=st.integers(1, 400).map(lambda n: Fraction(n, 100)),
    money=st.integers(-20_000, 50_000),
    entry=st.integers(20_000, 60_000),
    basis=st.integers(-500, 500),
    table=st.sampled_from([ONE, TWO]),
)
def test_both_prices_moved_to_it_turn_the_account(
    quantity: Fraction, coins: Fraction, money: int, entry: int, basis: int, table: list[dict[str, Any]]
) -> None:
    """An independent valuation, at prices moved alike, changes its answer there and nowhere nearer to the mark."""
    spot, perpetual = Fraction(40_000 + basis), Fraction(40_000)

    def breached(price: Fraction) -> bool:
        coin = spot * price / perpetual
        equity = coins * coin * Fraction(95, 100) + money + quantity * (price - entry)
        size = abs(quantity) * price
        row = table[0] if len(table) == 1 or size < 50_000 else table[1]
        return equity <= max(
            size * Fraction(row["maintenance_rate"]) - Fraction(row["maintenance_amount"]), Fraction(0)
        )

    (position,) = margin(
        scenario(
            spot=str(spot),
            positions=[{"instrument": "BTCUSDT-PERP", "quantity": str(float(quantity)), "entry_price": str(entry)}],
            collateral=[{"asset": "BTC", "amount": str(float(coins))}, {"asset": "USDT", "amount": str(money)}],
            parameters={
                "assets": {"BTC": {"haircut": "0.05", "route": ["BTCUSDT"]}},
                "brackets": {"BTCUSDT-PERP": table},
            },
        )
    )["positions"]
    found = position["joint_liquidation_price"]
    now = breached(perpetual)
    steps = [perpetual * n / 1000 for n in range(1, 3000)]
    if found is None:
        assert all(breached(price) is now for price in steps)
        return
    price = Fraction(found)
    tiny = price / 10**12
    assert breached(price - tiny) is not breached(price + tiny)
    nearer = [step for step in steps if abs(step - perpetual) < abs(price - perpetual) - tiny]
    assert all(breached(step) is now for step in nearer)


# ---- multiplier ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contracts", "multiplier", "quantity"),
    [("3", "50", "150"), ("25", "0.01", "0.25"), ("-7", "0.1", "-0.7"), ("0.5", "100", "50")],
)
@pytest.mark.parametrize("rounding", ["profile", "none"])
def test_a_contract_counts_as_many_times(contracts: str, multiplier: str, quantity: str, rounding: str) -> None:
    def answer(held: str, **definition: str) -> dict[str, Any]:
        return margin(
            {
                "profile": "binance-usdm",
                "rounding": rounding,
                "prices": {"ESU": "5000.25"},
                "positions": [{"instrument": "ESU", "quantity": held, "entry_price": "5100"}],
                "collateral": [{"asset": "USDT", "amount": "90000"}],
                "instruments": {"ESU": {"kind": "perpetual", "currency": "USDT", **definition}},
                "parameters": {"brackets": {"ESU": ONE}},
            }
        )

    found = answer(contracts, multiplier=multiplier)
    assert "error" not in found, found
    assert found == answer(quantity)


@pytest.mark.parametrize(
    ("definition", "field"),
    [({"multiplier": "0"}, "multiplier"), ({"multiplier": "-5"}, "multiplier"), ({"multiplier": "x"}, "multiplier")],
)
def test_a_multiplier_is_positive(definition: dict[str, str], field: str) -> None:
    answer = margin(
        scenario(
            instruments={
                "BTCUSDT": {"kind": "spot", "base": "BTC"},
                "BTCUSDT-PERP": {"kind": "perpetual", **definition},
            }
        )
    )
    assert answer["error"]["field"] == f"instruments.BTCUSDT-PERP.{field}"


def test_a_spot_pair_has_no_multiplier() -> None:
    answer = margin(scenario(instruments={"BTCUSDT": {"kind": "spot", "base": "BTC", "multiplier": "2"}}))
    assert answer["error"]["field"] == "instruments.BTCUSDT.multiplier"
