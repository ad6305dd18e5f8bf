"""Liquidation prices that others publish, found by folding: one tick above it the position stands, at the tick it is
liquidated."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Any

import pytest

from tests.comparing import engine_says
from tests.days import text
from tests.usdm_days import UsdmDay

SCALE = 2
ETH, BTC = "ETH-PERP", "BTC-PERP"


def table(below: str, rate: str, amount: str) -> list[dict[str, Any]]:
    """Return two brackets, continuous from 0, of which the upper one has this rate and amount.

    Continuity asks that floor x (rate - rate below) = amount, which gives the floor.
    """
    floor_ = Fraction(amount) / (Fraction(rate) - Fraction(below))
    assert floor_.denominator == 1
    return [
        {"floor": "0", "cap": str(floor_), "maintenance_rate": below, "maintenance_amount": "0", "max_leverage": "25"},
        {
            "floor": str(floor_),
            "cap": None,
            "maintenance_rate": rate,
            "maintenance_amount": amount,
            "max_leverage": "5",
        },
    ]


TABLES = {ETH: table("0.05", "0.1", "135365"), BTC: table("0.005", "0.025", "16300")}
POSITIONS = {ETH: ("3683.979", "1456.84"), BTC: ("109.488", "32481.98")}
WALLET = "1535443.01"


class Example:
    """One account with the positions of the example, all marks at their entry prices."""

    def __init__(self, *names: str, subaccount: str = "") -> None:
        self.day = UsdmDay()
        self.day.opened()
        for name in (ETH, BTC):
            self.day.book(
                "instrument_listed",
                instrument=name,
                kind="perpetual",
                currency="USDT",
                price_scale=SCALE,
                quantity_scale=3,
            )
        self.day.activate(2, brackets=TABLES)
        self.day.clock(1)
        self.day.usdm_account("A", WALLET)
        more = {"isolated": subaccount, "isolated_margin_delta": WALLET} if subaccount else {}
        for name in names:
            quantity, entry = POSITIONS[name]
            self.day.tick(name, entry)
            self.day.perpetual("A", name, quantity, entry, **more)
        self.subaccount = subaccount

    def at(self, name: str, price: int) -> dict[str, Any]:
        """Let this price be the mark; return the subaccount."""
        self.day.believe(name, text(price, SCALE))
        facts = engine_says(self.day.lines)[2]["A"]
        return dict(facts[self.subaccount])


def liquidation_price(name: str, required_by_others: Fraction, profit_of_others: Fraction) -> Fraction:
    """Return (WB - TMM of others + UPNL of others + cum - Q x EP) / (Q x MMR - Q), of a long."""
    quantity, entry = map(Fraction, POSITIONS[name])
    rate, amount = (Fraction(TABLES[name][1][field]) for field in ("maintenance_rate", "maintenance_amount"))
    return (Fraction(WALLET) - required_by_others + profit_of_others + amount - quantity * entry) / (
        quantity * rate - quantity
    )


def check(example: Example, name: str, exact: Fraction, published: str) -> None:
    assert round(exact, 2) == Fraction(published)
    tick = floor(exact * 10**SCALE)
    above = example.at(name, tick + 1)
    assert above["level"] == "WARNING", above
    below = example.at(name, tick)
    assert below["level"] == "LIQUIDATING", below
    assert Fraction(below["value"]) <= Fraction(below["debit"])


@pytest.mark.parametrize("subaccount", ["", "isolated"])
@pytest.mark.parametrize(("name", "published"), [(ETH, "1114.78"), (BTC, "18778.73")])
def test_a_lone_long_is_liquidated_at_the_published_price(name: str, published: str, subaccount: str) -> None:
    """A wallet of 1,535,443.01 against one long, isolated (and in cross, where it is alone).

    Source: freqtrade, tests/exchange/test_exchange.py, the cases "binance", isolated, of the liquidation price (from
    memory), which are Binance's own worked example "How to calculate the liquidation price of USDS-M futures contracts"
    in isolated mode.
    """
    check(Example(name, subaccount=subaccount), name, liquidation_price(name, Fraction(0), Fraction(0)), published)


@pytest.mark.parametrize(
    ("name", "other", "other_price", "required", "profit", "published"),
    [
        (ETH, BTC, "31967.27", "71200.81144", "-56354.57", "1153.26"),
        (BTC, ETH, "1335.18", "356512.508", "-448192.89", "26316.89"),
    ],
)
def test_two_longs_in_cross_are_liquidated_at_the_published_price(
    name: str, other: str, other_price: str, required: str, profit: str, published: str
) -> None:
    """The same wallet against both longs in cross: what the other one needs and has lost is no longer there.

    Source: as above, the cases "binance", cross (from memory): maintenance 71,200.81144 and profit -56,354.57 of the
    other, and 356,512.508 and -448,192.89. The other's mark follows from its profit: 31,967.27 and 1,335.18.
    """
    quantity, entry = map(Fraction, POSITIONS[other])
    row = TABLES[other][1]
    margin = quantity * Fraction(other_price) * Fraction(row["maintenance_rate"]) - Fraction(row["maintenance_amount"])
    assert abs(margin - Fraction(required)) < Fraction("0.01")
    assert abs(quantity * (Fraction(other_price) - entry) - Fraction(profit)) < Fraction("0.01")
    example = Example(ETH, BTC)
    example.at(other, int(Fraction(other_price) * 10**SCALE))
    check(example, name, liquidation_price(name, margin, quantity * (Fraction(other_price) - entry)), published)


def test_a_notional_at_a_floor_lies_in_the_upper_bracket_and_the_margin_does_not_jump() -> None:
    """At 815,000 the rates 0.005 and 0.025 (less 16,300) ask the same, 4,075; beyond it each 100 asks 2.50.

    Source: Binance, "Leverage and margin of USDS-M futures": maintenance = notional x rate - amount, with amounts that
    join the brackets.
    """
    for quantity, margin, leverage_needs in (
        ("8.149", "4074.50", "81490.00"),
        ("8.150", "4075.00", "163000.00"),
        ("8.151", "4077.50", "163020.00"),
    ):
        day = Example().day
        day.tick(BTC, "100000.00")
        day.perpetual("A", BTC, quantity, "100000.00", leverage=10)
        facts = engine_says(day.lines)[2]["A"][""]
        # Ten times leverage is allowed below the floor, five times from it on.
        assert (facts["debit"], facts["initial"]) == (margin, leverage_needs)
