"""The calculator's liquidation and bankruptcy prices at any scale: the first price of the scale that breaches, counted from
the safe side, and none is missing. Compared with a search price by price."""

from __future__ import annotations

from fractions import Fraction
from random import Random
from typing import Any

import pytest

from margin_stream.calculator.results import margin
from margin_stream.calculator.scenario import build
from tests.counts import TIMES

SPAN = 60


def scenario(rng: Random) -> dict[str, Any]:
    """A position in isolated or cross mode, at random scales of price, quantity and money."""
    places, digits, money = rng.randrange(0, 9), rng.randrange(0, 5), rng.randrange(0, 9)
    price = Fraction(rng.randrange(1000, 99999), 10 ** rng.randrange(0, 5))
    quantity = Fraction(rng.randrange(1, 5000), 10**digits) * rng.choice((1, -1))
    entry = price * Fraction(rng.randrange(90, 110), 100)
    rate = Fraction(rng.randrange(2, 60), 1000)
    margin_ = abs(quantity) * entry * Fraction(rng.randrange(8, 60), 100)
    text = lambda value, n: f"{float(round(value, n)):.{n}f}"  # noqa: E731
    return {
        "id": "x",
        "profile": "binance-usdm",
        "mode": "isolated",
        "prices": {"X": text(max(price, Fraction(1, 10**places)), places)},
        "positions": [
            {
                "instrument": "X",
                "quantity": text(quantity, digits),
                "entry_price": text(entry, places),
                "isolated_margin": text(margin_, money),
            }
        ],
        "instruments": {"X": {"kind": "perpetual"}, "USDT": {"kind": "currency", "quantity_scale": money}},
        "parameters": {
            "brackets": {
                "X": [
                    {
                        "floor": "0",
                        "cap": None,
                        "maintenance_rate": text(rate, 3),
                        "maintenance_amount": "0",
                        "max_leverage": "10",
                    }
                ]
            }
        },
    }


def check(given: dict[str, Any]) -> bool:
    """Compare with a search around the price; return whether there is one."""
    answer = margin(given)
    if "error" in answer:
        assert answer["error"]["code"] in ("bad_value", "wrong_scale"), answer
        return False
    case = build(given)
    held = case.held[0]
    row = answer["positions"][0]
    found = False
    for name, guard in (
        ("liquidation_price", case.policy.close_out),
        ("bankruptcy_price", case.policy.bankrupt._replace(inclusive=True)),
    ):
        number, scale = held.instrument.number, held.instrument.price_scale
        prices = list(case.prices)

        def breached(units: int, prices: list[int] = prices, number: int = number, guard: Any = guard) -> bool:
            prices[number] = units
            figures = case.calculator.evaluate(held.subaccount, prices)
            return guard.excess(figures.value, figures.debit) < 0

        into = -1 if held.position.quantity > 0 else 1
        if not held.position.quantity:
            assert row[name] is None
            continue
        if row[name] is None:
            # It turns nowhere: at every price breached, or at none.
            looked_at = [*range(1, SPAN), *(1 << n for n in range(60))]
            assert len({breached(units) for units in looked_at}) == 1, given
            continue
        found = True
        units = int(Fraction(row[name]) * 10**scale)
        assert breached(units), (name, given)
        assert not any(breached(units - into * k) for k in range(1, SPAN) if units - into * k >= 1), (name, given)
    return found


def test_no_price_is_missing_and_each_is_the_first() -> None:
    rng = Random(5)
    assert sum(check(scenario(rng)) for _ in range(150 * TIMES)) > 80 * TIMES


@pytest.mark.slow(reason="ten thousand scenarios")
def test_ten_thousand_scenarios() -> None:
    rng = Random(6)
    assert sum(check(scenario(rng)) for _ in range(10_000)) > 5_000


def test_prices_keep_the_digits_as_they_are_written() -> None:
    given = scenario(Random(1)) | {"prices": {"X": "0.05000"}}
    given["positions"] = [{"instrument": "X", "quantity": "100000", "entry_price": "0.05000", "isolated_margin": "250"}]
    given["instruments"] = {"X": {"kind": "perpetual"}}
    given["parameters"]["brackets"]["X"][0]["maintenance_rate"] = "0.005"
    (row,) = margin(given)["positions"]
    assert (row["liquidation_price"], row["bankruptcy_price"]) == ("0.04773", "0.04750")


def test_collateral_that_adds_nothing_and_that_moves_along_is_named() -> None:
    given = scenario(Random(1)) | {"prices": {"BTCUSDT": "40000"}, "mode": "cross", "instruments": {}}
    given["positions"] = [{"instrument": "BTCUSDT", "quantity": "1", "entry_price": "40000"}]
    given["parameters"]["brackets"] = {"BTCUSDT": given["parameters"]["brackets"]["X"]}
    given["collateral"] = [{"asset": "USDC", "amount": "5000"}, {"asset": "BTC", "amount": "1"}]
    given["instruments"] = {"BTCSPOT": {"kind": "spot", "base": "BTC", "currency": "USDT"}}
    given["prices"]["BTCSPOT"] = "40000"
    given["parameters"]["assets"] = {"BTC": {"haircut": "0.05", "route": ["BTCSPOT"]}}
    warnings = margin(given)["warnings"]
    assert any("USDC is not named by parameters.assets" in text for text in warnings)
    assert any("the price of BTC moves with BTCUSDT" in text for text in warnings)


@pytest.mark.parametrize("other", ["-0.999", "-1", "-2", "-1.001"])
def test_long_and_short_of_one_perpetual_have_prices_too(other: str) -> None:
    given = scenario(Random(1)) | {"prices": {"X": "100.00000000"}, "mode": "cross"}
    both = [("long", "1"), ("short", other)]
    given["positions"] = [
        {"instrument": "X", "quantity": quantity, "entry_price": "100.00000000", "position_side": side}
        for side, quantity in both
    ]
    given["collateral"] = [{"asset": "USDT", "amount": "5"}]
    given["instruments"] = {"X": {"kind": "perpetual"}, "USDT": {"kind": "currency", "quantity_scale": 2}}
    rows = margin(given)["positions"]
    assert all(row["liquidation_price"] for row in rows)
