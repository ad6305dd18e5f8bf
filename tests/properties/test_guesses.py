"""Guesses of how far prices may move decide nothing, but a bad one costs time: they are confirmed by the bounds, and
waste little."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from margin_stream.core.accounts.position import Position
from margin_stream.core.margin.guards import NO_LIMIT, Guard, GuardState, Ratio
from tests.properties.test_model_twins import ASSET, DIRECTORY, NUMBER, PRIME, USDM, Book
from tests.usdm_days import PERPETUALS

SHARE = 1 << 20
GUARDS = {
    "prime": [Guard(Ratio(n, 100), 0, inclusive=False) for n in (140, 125, 110, 100)]
    + [Guard(Ratio(140, 100), 1 - 5_000_000, inclusive=False)],
    "usdm": [Guard(Ratio(n, 100), 0, inclusive=True) for n in (125, 100)] + [Guard(Ratio(0, 1), 0, inclusive=False)],
}
PRICES = [1] + [0] * (len(DIRECTORY.instruments) - 1)
for _name, _usual in (
    ("BTCUSDT", 4_000_000),
    ("ETHUSDT", 300_000),
    ("XMRBTC", 8_000),
    *((n, row[2]) for n, row in PERPETUALS.items()),
):
    PRICES[NUMBER[_name]] = _usual


def loan(rng: Random) -> Book:
    """A loan of dollars or of coins, on coins or dollars: most of it near its levels."""
    held, owed = rng.sample(["USDT", "BTC", "ETH", "XMR"], 2)
    units = {"USDT": 1, "BTC": 25, "ETH": 333, "XMR": 3125}
    book = {
        ASSET[held]: rng.randint(500, 2_000) * 10_000 * units[held],
        ASSET[owed]: -rng.randint(400, 1_000) * 10_000 * units[owed],
    }
    if rng.randrange(3) == 0:
        other = rng.choice([name for name in units if name not in (held, owed)])
        book[ASSET[other]] = rng.randint(1, 500) * 10_000 * units[other] * rng.choice((1, 1, -1))
    return Book(book)


def subaccount(rng: Random) -> Book:
    held = {}
    for name, (price_scale, quantity_scale, usual) in PERPETUALS.items():
        if rng.randrange(2):
            quantity = rng.randint(1_000, 40_000) * 10 ** (price_scale + quantity_scale) // usual
            side = rng.choice((1, -1))
            cost = side * quantity * usual * 100 // 10 ** (price_scale + quantity_scale)
            held[NUMBER[name] << 2] = Position(side * quantity, cost, 0, 0, 0)
    return Book(
        {ASSET["USDT"]: rng.randint(-5_000, 300_000), ASSET["BTC"]: rng.randint(0, 1) * rng.randint(10**6, 10**7)}, held
    )


def moved(calculator: Any, book: Book, against: int, favourable: int) -> tuple[list[int], list[int]]:
    """Return the corners of a box of such reaches."""
    lowest, highest = list(PRICES), list(PRICES)
    for number, way in calculator.directions(book).items():
        down, up = {1: (against, favourable), -1: (favourable, against), 0: (min(against, favourable),) * 2}[way]
        lowest[number] = max(PRICES[number] - (PRICES[number] * down >> 20), 0)
        highest[number] = PRICES[number] + (PRICES[number] * up >> 20)
    return lowest, highest


def flips(
    calculator: Any, book: Book, guards: list[Guard], guard_states: list[GuardState], against: int, favourable: int
) -> bool:
    spans = calculator.bounds(book, *moved(calculator, book, against, favourable), guards)
    return any(
        span[0] < 0 if truth is GuardState.FALSE else span[1] >= 0
        for span, truth in zip(spans, guard_states, strict=True)
    )


def quality(model: str, count: int = 300) -> dict[str, float]:
    """Return the shares of guesses that the bounds confirm, and of those that would not bear to be a sixth wider, on
    each side."""
    calculator, make = (PRIME, loan) if model == "prime" else (USDM, subaccount)
    guards = GUARDS[model]
    tried = {"against": 0, "favourable": 0}
    found = dict.fromkeys(("against confirmed", "against tight", "favourable confirmed", "favourable tight"), 0)
    for seed in range(count):
        book = make(Random(seed))
        figures = calculator.evaluate(book, PRICES)
        guard_states = [
            GuardState.TRUE if guard.excess(figures.value, figures.debit) < 0 else GuardState.FALSE for guard in guards
        ]
        guess = dict(zip(tried, calculator.reach(book, PRICES, guards, guard_states, figures), strict=True))
        for side, reach in guess.items():
            if 0 < reach < SHARE:
                tried[side] += 1
                found[f"{side} confirmed"] += not flips(
                    calculator, book, guards, guard_states, **{**dict.fromkeys(tried, 0), side: reach}
                )
                found[f"{side} tight"] += flips(
                    calculator, book, guards, guard_states, **{**dict.fromkeys(tried, 0), side: reach * 7 // 6 + 3}
                )
    assert min(tried.values()) > count // 8
    return {name: times / tried[name.split()[0]] for name, times in found.items()}


LEAST = {
    "prime": {"against confirmed": 0.87, "against tight": 0.70, "favourable confirmed": 0.99, "favourable tight": 0.68},
    "usdm": {"against confirmed": 0.99, "against tight": 0.81, "favourable confirmed": 0.97, "favourable tight": 0.99},
}
"""What the guesses reached when this was written, and a little less."""


@pytest.mark.parametrize("model", LEAST)
def test_most_guesses_are_confirmed_at_once_and_not_much_too_small(model: str) -> None:
    found = quality(model)
    assert {name: share for name, share in found.items() if share < LEAST[model][name]} == {}


@pytest.mark.parametrize("model", ["prime", "usdm"])
def test_where_no_price_moves_anything_there_is_no_limit(model: str) -> None:
    calculator, guards = (PRIME if model == "prime" else USDM), GUARDS[model]
    for units in (5, -5):
        book = Book({ASSET["USDT"]: units})
        figures = calculator.evaluate(book, PRICES)
        guard_states = [
            GuardState.TRUE if guard.excess(figures.value, figures.debit) < 0 else GuardState.FALSE for guard in guards
        ]
        assert calculator.reach(book, PRICES, guards, guard_states, figures) == (NO_LIMIT, NO_LIMIT)
