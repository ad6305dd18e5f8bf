"""The law of the seam: every evaluation at prices inside a box lies within its bounds."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from margin_stream.core.accounts.position import Position
from margin_stream.core.margin.collateral import AssetTerms
from margin_stream.core.margin.guards import NO_BOUND, Guard, Ratio
from margin_stream.core.margin.models.prime import PrimeCalculator
from margin_stream.core.revaluation.price_boxes import Boxes, cell_edges, cell_of


class Book:
    def __init__(self, balances: dict[int, int]) -> None:
        self.balances = balances
        self.perpetuals: dict[int, Position] = {}


def random_terms(rng: Random) -> PrimeCalculator:
    table = {0: AssetTerms(0, 0, 0, 1, 1, 1, Ratio(1, 1))}
    for asset in range(1, 5):
        keep = rng.randint(0, 100)
        divisor = 10 ** rng.randint(0, 6)
        legs = (asset, rng.choice((0, 1)), 0)
        table[asset] = AssetTerms(*legs, keep, divisor * 100, divisor, Ratio(keep, 100))
    return PrimeCalculator(0, Ratio(2, 5), Ratio(1, 4), table)


@pytest.mark.slow(reason="many random days, each folded several times")
@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**9))
def test_every_evaluation_inside_lies_within_the_bounds(seed: int) -> None:
    rng = Random(seed)
    calculator = random_terms(rng)
    book = Book(
        {
            asset: rng.choice((-1, 1)) * rng.randint(1, 10 ** rng.randint(1, 9))
            for asset in rng.sample(range(5), rng.randint(1, 5))
        }
    )
    lowest = [1] + [rng.randint(0, 10**5) for _ in range(4)]
    highest = [1] + [low + rng.randint(0, 10**4) for low in lowest[1:]]
    guards = [
        Guard(Ratio(rng.randint(1, 200), 100), rng.choice((0, 0, rng.randint(-500, 500))), rng.random() < 0.5)
        for _ in range(4)
    ]
    spans = calculator.bounds(book, lowest, highest, guards)
    opened = [high if rng.randrange(4) else NO_BOUND for high in highest[1:]]
    wider = calculator.bounds(book, lowest, [1, *opened], guards)
    corners = [lowest, highest] + [
        [1] + [rng.randint(a, b) for a, b in zip(lowest[1:], highest[1:], strict=True)] for _ in range(20)
    ]
    for prices in corners:
        value, debit, _ = calculator.evaluate(book, prices)
        for guard, (least, greatest), (wide_least, wide_greatest) in zip(guards, spans, wider, strict=True):
            excess = guard.excess(value, debit)
            assert least is not None
            assert greatest is not None
            assert least <= excess <= greatest
            assert wide_least is None or wide_least <= excess
            assert wide_greatest is None or excess <= wide_greatest


@given(st.integers(1, 2**62))
def test_cells_hold_their_prices_and_rise(price: int) -> None:
    low, high = cell_edges(cell_of(price))
    assert low <= price <= high
    assert cell_of(high + 1) == cell_of(price) + 1
    assert price < 8192 or high - low <= price >> 12


def test_a_certified_account_is_found_when_a_price_leaves_its_box_and_not_before() -> None:
    boxes = Boxes()
    boxes.add_instrument()
    boxes.add_account()
    boxes.place(1, 100_000)
    lowest, highest = [1, 0], [1, 0]
    sides = boxes.box({1: 1}, 10_000, 20_000, lowest, highest)
    boxes.certify(0, sides)
    assert boxes.reached(1, lowest[1]) == []
    assert boxes.reached(1, highest[1]) == []
    assert boxes.reached(1, lowest[1] - 1) == [0]
    boxes.forget(0)
    assert boxes.reached(1, 50_000) == []
