"""Perpetuals at their edges: exactly at the restore level, a requirement of nothing, and the top between two
brackets."""

from __future__ import annotations

import pytest

from margin_stream.core.accounts.position import Position
from margin_stream.core.margin.guards import NO_BOUND, Guard, Ratio
from margin_stream.core.margin.model import SaleLeg
from tests.days import PARAMETERS
from tests.properties.test_model_twins import ASSET, DIRECTORY, NUMBER, USDM, Book
from tests.unit.test_core_profiles import compiled

DOGE, BTC = NUMBER["DOGEUSDT-PERP"], NUMBER["BTCUSDT-PERP"]
INSTRUMENTS = len(DIRECTORY.instruments)
RESTORE = Guard(Ratio(125, 100), 0, inclusive=False)


def prices(price: int) -> list[int]:
    return [1] + [price] * (INSTRUMENTS - 1)


@pytest.mark.parametrize(
    ("cents", "closed"),
    [
        (1876, 0),
        (1875, 0),
        (1874, 1),
        (1503, 199),
        (1502, 200),
        (1500, 200),
        (1499, 201),
        (3, 999),
        (2, 1000),
        (0, 1000),
        (-5, 1000),
    ],
)
def test_a_sale_ends_exactly_at_the_restore_level(cents: int, closed: int) -> None:
    """1,000 at 0.30 need 15.00, at 1.25 of it 18.75. Each that is closed takes 0.015 of it."""
    for side in (1, -1):
        book = Book({0: cents}, {DOGE << 2: Position(side * 1000, side * 30_000, 0, 0, 0)})
        assert USDM.evaluate(book, prices(30_000)) == (cents, 1500, False)
        legs = USDM.sale(book, prices(30_000), RESTORE)
        assert legs == ([SaleLeg(0, closed * 30, DOGE << 2, -side * closed)] if closed else [])


def test_the_next_position_is_closed_where_the_first_was_not_enough() -> None:
    held = {
        DOGE << 2: Position(1000, 30_000, 0, 0, 0),
        DOGE << 2 | 1: Position(1000, 30_000, 0, 0, 0),
        DOGE << 2 | 2: Position(-1, -30, 0, 0, 0),
    }
    legs = USDM.sale(Book({0: 1500}, held), prices(30_000), RESTORE)
    assert legs == [SaleLeg(0, 30_000, DOGE << 2, -1000), SaleLeg(0, 6_060, DOGE << 2 | 1, -202)]


def test_a_long_of_one_unit_is_helped_by_a_rise_and_collateral_may_go_either_way() -> None:
    assert USDM.directions(Book({}, {BTC << 2: Position(1, 0, 0, 0, 0)})) == {BTC: 1}
    _, calculator = compiled("binance-usdm", assets=PARAMETERS["assets"])
    for first, second, way in ((-1, 1, 0), (1, -1, 0), (1, 1, 1), (-1, -1, -1)):
        book = Book({ASSET["BTC"]: first, ASSET["XMR"]: second})
        assert calculator.directions(book) == {NUMBER["BTCUSDT"]: way, NUMBER["XMRBTC"]: second}


def test_a_haircut_counts_for_a_single_unit_too() -> None:
    assets = {"USDT": {"haircut": "0.5", "route": []}}
    for model in ("prime", "binance-usdm"):
        _, calculator = compiled(model, assets=assets)
        assert [calculator.evaluate(Book({0: units}), prices(0)).value for units in (1, 2, 3)] == [0, 1, 1]


def test_where_nothing_is_required_a_guard_holds_back_as_long_as_the_equity_is_not_negative() -> None:
    free = {
        "DOGEUSDT-PERP": [
            {"floor": "0", "cap": None, "maintenance_rate": "0", "maintenance_amount": "0", "max_leverage": "10"}
        ]
    }
    _, calculator = compiled("binance-usdm", brackets=free)
    book = Book({0: 100}, {DOGE << 2: Position(1000, 30_000, 0, 0, 0)})
    for offset in (0, 10**6):
        guard = Guard(Ratio(125, 100), offset, inclusive=True)
        for low, high in ((29_900, 30_100), (30_000, 30_000), (29_000, 29_800)):
            (span,) = calculator.bounds(book, prices(low), prices(high), [guard])
            for price in (low, (low + high) // 2, high):
                value, debit, _ = calculator.evaluate(book, prices(price))
                assert debit == 0
                assert span[0] <= guard.excess(value, 0) <= span[1]


@pytest.mark.slow_after(2, reason="many cases, each folded anew")
@pytest.mark.parametrize("quantity", [999_983, 1_000_000])
@pytest.mark.parametrize(
    "ratio", [Ratio(15, 1), Ratio(30, 1), Ratio(60, 1), Ratio(99, 1), Ratio(100, 1), Ratio(250, 1), Ratio(20, 1)]
)
def test_the_top_between_two_brackets_is_found_at_whichever_price_it_lies(quantity: int, ratio: Ratio) -> None:
    """Of a thousand bitcoins each cent of the price is ten dollars: the greatest excess lies at one price, beside an
    edge."""
    guard = Guard(ratio, 0, inclusive=False)
    book = Book({}, {BTC << 2: Position(quantity, 5_000_000, 0, 0, 0)})
    excess = {}
    for price in range(900, 20_100):
        value, debit, _ = USDM.evaluate(book, prices(price))
        excess[price] = guard.excess(value, debit)
    # Rounding, and what one cent of the price is worth: an edge may lie between two cents.
    slack = 2 * (ratio.numerator + ratio.denominator) + quantity // 1000 + 1
    edges = [1000 * n for n in (2, 6, 15)]
    for low, high in (
        (900, 20_099),
        *((edge - 1, edge + 2) for edge in edges),
        *((edge, edge + 1) for edge in edges),
        *((edge + 1, 19_000) for edge in edges),
    ):
        found = [excess[price] for price in range(low, high + 1)]
        (span,) = USDM.bounds(book, prices(low), prices(high), [guard])
        assert min(found) - slack <= span[0] <= min(found)
        assert max(found) <= span[1] <= max(found) + slack
        (opened,) = USDM.bounds(book, prices(low), [1] + [NO_BOUND] * (INSTRUMENTS - 1), [guard])
        # The last bracket takes half of the notional, times at least 15: it falls without end.
        assert opened[0] is None
        rest = [excess[price] for price in range(low, 20_100)]
        assert max(rest) <= opened[1] <= max(rest) + slack
