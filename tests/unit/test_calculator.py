"""The what-if calculator: published cases, the laws of a liquidation price, errors by field."""

from __future__ import annotations

import json
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import margin_stream
from margin_stream.calculator import margin, margin_line
from margin_stream.calculator.results import plain
from tests.usdm_days import TABLES

CONTRACT: dict[str, Any] = {
    "id": "x1",
    "profile": "binance-usdm",
    "mode": "isolated",
    "base_currency": "USDT",
    "prices": {"BTCUSDT": "38000"},
    "positions": [{"instrument": "BTCUSDT", "quantity": "0.5", "entry_price": "40000", "isolated_margin": "1200"}],
    "collateral": [{"asset": "USDT", "amount": "5000"}],
    "parameters": {
        "brackets": {
            "BTCUSDT": [
                {
                    "floor": "0",
                    "cap": "50000",
                    "maintenance_rate": "0.004",
                    "maintenance_amount": "0",
                    "max_leverage": "125",
                },
                {
                    "floor": "50000",
                    "cap": None,
                    "maintenance_rate": "0.005",
                    "maintenance_amount": "50",
                    "max_leverage": "100",
                },
            ]
        }
    },
}


def one_bracket(rate: str, amount: str) -> list[dict[str, Any]]:
    return [{"floor": "0", "cap": None, "maintenance_rate": rate, "maintenance_amount": amount}]


BTC = {"instrument": "BTCUSDT", "quantity": "109.488", "entry_price": "32481.98"}
ETH = {"instrument": "ETHUSDT", "quantity": "3683.979", "entry_price": "1456.84"}
WALLET = "1535443.01"


def published(mode: str, positions: list[dict[str, Any]]) -> dict[str, Any]:
    """A case that Binance publishes and freqtrade tests: one wallet, long ETH and BTC; the tables reduced to the
    bracket that applies."""
    return margin(
        {
            "id": "p",
            "profile": "binance-usdm",
            "mode": mode,
            "rounding": "none",
            "prices": {"BTCUSDT": "31967.27", "ETHUSDT": "1335.18"},
            "positions": positions,
            "collateral": [{"asset": "USDT", "amount": WALLET}] if mode == "cross" else [],
            "parameters": {
                "brackets": {"BTCUSDT": one_bracket("0.025", "16300.000"), "ETHUSDT": one_bracket("0.10", "135365.00")}
            },
        }
    )


def test_the_scenario_of_the_contract() -> None:
    """38,000 * 0.5 * 0.004 = 76; 200 + (p - 38,000) / 2 = 0.002 p at p = 37,751.004...; 1,200 are gone at 37,600."""
    answer = margin(CONTRACT)
    assert answer["equity"] == "5000.00000000"
    (position,) = answer["positions"]
    assert position["maintenance_margin"] == "76.00000000"
    assert position["initial_margin"] == "950.00000000"
    assert position["equity"] == "200.00000000"
    assert (position["bracket"], position["liquidation_price"], position["bankruptcy_price"]) == (
        1,
        "37751.00",
        "37600.00",
    )
    assert margin_stream.margin(CONTRACT) == answer


@pytest.mark.parametrize(
    ("mode", "positions", "expected"),
    [
        ("isolated", [{**ETH, "isolated_margin": WALLET}], ["1114.78"]),
        ("isolated", [{**BTC, "isolated_margin": WALLET}], ["18778.73"]),
        ("cross", [ETH, BTC], ["1153.26", "26316.89"]),
    ],
)
def test_liquidation_prices_as_published(mode: str, positions: list[dict[str, Any]], expected: list[str]) -> None:
    """Source: freqtrade, tests/exchange/test_exchange.py, test_liquidation_price_binance (from Binance's own
    examples)."""
    found = [Fraction(position["liquidation_price"]) for position in published(mode, positions)["positions"]]
    assert [round(price * 100) for price in found] == [round(Fraction(price) * 100) for price in expected]


def test_a_hedged_pair_is_liquidated_at_one_price() -> None:
    """Long 2 and short 1 at 100, wallet 50, 1 % of each side: 50 + (p - 100) = 0.03 p at p = 50 / 0.97."""
    answer = margin(
        {
            "profile": "binance-usdm",
            "rounding": "none",
            "prices": {"X": "100"},
            "positions": [
                {"instrument": "X", "quantity": "2", "entry_price": "100", "position_side": "long"},
                {"instrument": "X", "quantity": "-1", "entry_price": "100", "position_side": "short"},
            ],
            "collateral": [{"asset": "USDT", "amount": "50"}],
            "parameters": {"brackets": {"X": one_bracket("0.01", "0")}},
        }
    )
    assert [position["liquidation_price"] for position in answer["positions"]] == [plain(Fraction(5000, 97))] * 2


def test_prime_gives_the_price_at_which_the_account_is_closed_out() -> None:
    """1 BTC bought at 40,000 with 12,000: D 28,000; 0.9 p < 1.1 * 28,000 below p = 34,222.22...; 0.9 p = 28,000 at
    31,111.11..."""
    answer = margin(
        {
            "profile": "prime",
            "prices": {"BTCUSDT": "40000"},
            "positions": [{"instrument": "BTCUSDT", "quantity": "1", "entry_price": "40000"}],
            "collateral": [{"asset": "USDT", "amount": "12000"}],
        }
    )
    assert (answer["equity"], answer["maintenance_margin"], answer["call_amount"]) == (
        "8000.00000000",
        "7000.00000000",
        "0.00000000",
    )
    assert answer["positions"][0]["liquidation_price"] == "34222.22"
    assert answer["positions"][0]["bankruptcy_price"] == "31111.11"
    called = margin(
        {
            "profile": "prime",
            "prices": {"BTCUSDT": "38000"},
            "positions": [{"instrument": "BTCUSDT", "quantity": "1", "entry_price": "40000"}],
            "collateral": [{"asset": "USDT", "amount": "12000"}],
        }
    )
    # 1.40 * 28,000 - 34,200 = 5,000.
    assert called["call_amount"] == "5000.00000000"


def random_scenario(seed: int) -> dict[str, Any]:
    rng = Random(seed)
    prices = {
        "BTCUSDT-PERP": f"{rng.randint(100_000, 9_000_000) / 100:.2f}",
        "ETHUSDT-PERP": f"{rng.randint(10_000, 900_000) / 100:.2f}",
    }
    positions = []
    for name in rng.sample(sorted(prices), rng.randint(1, 2)):
        sides = ["both"] if rng.randrange(3) else ["long", "short"]
        for side in sides:
            way = {"both": rng.choice((-1, 1)), "long": 1, "short": -1}[side]
            price = float(prices[name])
            position = {
                "instrument": name,
                "quantity": f"{way * rng.randint(1, 300_000) / price:.3f}",
                "entry_price": f"{price * rng.uniform(0.8, 1.2):.2f}",
                "position_side": side,
            }
            if float(position["quantity"]):  # type: ignore[arg-type]
                positions.append(position)
    isolated = rng.randrange(2) == 0
    if isolated:
        for position in positions:
            position["isolated_margin"] = f"{rng.uniform(1, 60_000):.2f}"
    return {
        "profile": "binance-usdm",
        "mode": "isolated" if isolated else "cross",
        "prices": prices,
        "positions": positions,
        "collateral": [{"asset": "USDT", "amount": f"{rng.uniform(100, 90_000):.2f}"}],
        "parameters": {"brackets": {name: TABLES[name] for name in prices}},
    }


def liquidatable(scenario: dict[str, Any], place: int, price: str) -> bool:
    position = scenario["positions"][place]
    moved = {**scenario, "prices": {**scenario["prices"], position["instrument"]: price}}
    answer = margin(moved)
    figures = answer["positions"][place] if scenario["mode"] == "isolated" else answer
    ratio = figures["margin_ratio"]
    return ratio is not None and Fraction(figures["equity"]) <= Fraction(
        answer["positions"][place]["maintenance_margin"]
        if scenario["mode"] == "isolated"
        else answer["maintenance_margin"]
    )


@pytest.mark.slow(reason="searches prices one unit apart")
@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9))
def test_the_liquidation_price_is_where_the_account_first_becomes_liquidatable_by_one_unit_either_side(
    seed: int,
) -> None:
    scenario = random_scenario(seed)
    answer = margin(scenario)
    assert "error" not in answer
    for place, position in enumerate(answer["positions"]):
        price = position["liquidation_price"]
        if price is None:
            # No price turns it: as it is at the mark, it is a hair above nothing and a hundredfold up.
            mark = scenario["prices"][position["instrument"]]
            found = [liquidatable(scenario, place, each) for each in ("0.01", mark, f"{float(mark) * 100:.2f}")]
            assert len(set(found)) == 1
            continue
        units = int(Fraction(price) * 100)
        assert liquidatable(scenario, place, price)
        safe = [f"{(units + step) / 100:.2f}" for step in (-1, 1) if units + step > 0]
        assert any(not liquidatable(scenario, place, each) for each in safe)


@pytest.mark.slow(reason="searches prices one unit apart")
@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**9))
def test_rounding_moves_a_liquidation_price_outwards_and_by_little(seed: int) -> None:
    scenario = random_scenario(seed)
    for rounded, exact in zip(
        margin(scenario)["positions"], margin({**scenario, "rounding": "none"})["positions"], strict=True
    ):
        if rounded["liquidation_price"] is None or exact["liquidation_price"] is None:
            continue
        assert abs(Fraction(rounded["liquidation_price"]) - Fraction(exact["liquidation_price"])) < Fraction(2, 100)


def error_of(**changes: Any) -> tuple[str, str]:
    answer = margin({**CONTRACT, **changes})
    assert set(answer) == {"id", "error"}
    assert set(answer["error"]) == {"code", "field", "message"}
    return answer["error"]["code"], answer["error"]["field"]


def test_errors_name_their_field() -> None:
    position = CONTRACT["positions"][0]
    assert error_of(profile="nope") == ("profile_unknown", "profile")
    assert error_of(prices={"BTCUSDT": 38000.5}) == ("float_not_allowed", "prices.BTCUSDT")
    assert error_of(prices={}) == ("price_missing", "prices.BTCUSDT")
    assert error_of(prices={"BTCUSDT": "-1"}) == ("bad_value", "prices.BTCUSDT")
    assert error_of(colour="red") == ("unknown_field", "colour")
    assert error_of(mode="both") == ("bad_value", "mode")
    assert error_of(parameters={}) == ("brackets_missing", "parameters.brackets.BTCUSDT")
    assert error_of(parameters={**CONTRACT["parameters"], "warm": "1"}) == ("unknown_field", "parameters.warm")
    assert error_of(positions=[{**position, "quantity": None}]) == ("missing_field", "positions[0].quantity")
    assert error_of(positions=[{**position, "quantity": "x"}]) == ("bad_value", "positions[0].quantity")
    assert error_of(positions=[{**position, "leverage": 0.5}]) == ("bad_value", "positions[0].leverage")
    assert error_of(positions=[{**position, "side": 1}]) == ("unknown_field", "positions[0].side")
    assert error_of(collateral=[{"asset": "USDT", "amount": "1e5"}]) == ("bad_value", "collateral[0].amount")
    assert error_of(instruments={"BTCUSDT": {"kind": "future"}}) == ("bad_value", "instruments.BTCUSDT.kind")
    bad = {"BTCUSDT": [{"floor": "0", "cap": None, "maintenance_rate": "2", "maintenance_amount": "0"}]}
    assert error_of(parameters={"brackets": bad}) == (
        "profile_invalid",
        "parameters.brackets.BTCUSDT[0].maintenance_rate",
    )
    assert margin_line(b"{nope")["error"]["code"] == "not_json"
    assert margin_line(b'{"id":"a","id":"b"}')["error"]["code"] == "not_json"
    assert margin_line(b"[]")["error"]["code"] == "bad_value"


def test_any_parameter_can_be_overridden_and_odd_tables_are_named() -> None:
    """At the level `safe`, an account exactly at its maintenance margin is not liquidatable: the price lies a unit
    further."""
    position = {"instrument": "X", "quantity": "1", "entry_price": "100"}
    scenario = {
        "profile": "binance-usdm",
        "prices": {"X": "100"},
        "positions": [position],
        "collateral": [{"asset": "USDT", "amount": "55"}],
        "parameters": {"brackets": {"X": one_bracket("0.1", "0")}},
    }
    assert margin(scenario)["positions"][0]["liquidation_price"] == "50.00"
    safe = {**scenario, "parameters": {**scenario["parameters"], "at_level": "safe"}}  # type: ignore[dict-item]
    assert margin(safe)["positions"][0]["liquidation_price"] == "49.99"
    odd = margin({**scenario, "parameters": {"brackets": {"X": one_bracket("0.1", "5")}}})
    assert odd["warnings"] == [
        "parameters.brackets.X[0].maintenance_amount: "
        "the first bracket's amount is 5, not 0: the margin of a small position would be negative"
    ]
    # Below 50 the amount is more than the rate gives: the margin is 0, and what is left is bankruptcy, under 45.
    assert odd["positions"][0]["liquidation_price"] == "44.99"


def test_an_instrument_can_be_defined_in_the_scenario() -> None:
    answer = margin(
        {
            "profile": "binance-usdm",
            "prices": {"DOGE": "0.30"},
            "instruments": {
                "DOGE": {"kind": "perpetual", "currency": "USDT", "price_scale": 5, "quantity_scale": 0},
                "USDT": {"kind": "currency", "quantity_scale": 2},
            },
            "positions": [{"instrument": "DOGE", "quantity": "-1000", "entry_price": "0.30"}],
            "collateral": [{"asset": "USDT", "amount": "100"}],
            "parameters": {"brackets": {"DOGE": one_bracket("0.05", "0")}},
        }
    )
    # 100 + 300 - 1000 p = 50 p at p = 0.380952...; money is in cents.
    assert answer["equity"] == "100.00"
    assert answer["positions"][0]["liquidation_price"] == "0.38095"


def test_answers_are_plain_json() -> None:
    assert json.loads(json.dumps(margin(CONTRACT))) == margin(CONTRACT)
