"""Edges of single rules that other tests step over."""

from __future__ import annotations

from typing import Any

import pytest

from margin_stream.core.margin.guards import Guard, GuardState, Ratio
from margin_stream.core.margin.model import MODELS, SaleLeg
from margin_stream.core.market.directory import Directory
from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.rules_versions import LATEST
from tests.days import PARAMETERS, Day
from tests.properties.test_model_twins import ASSET, DIRECTORY, NUMBER, PRIME, Book
from tests.unit.test_core_profiles import compiled, listed


def test_assets_of_one_haircut_are_sold_in_order_of_their_listing_not_of_their_instruments() -> None:
    directory = Directory()
    for name, scale in (("USDT", 2), ("AAA", 2), ("BBB", 2)):
        directory.enlist(listed(name, "currency", scale))
    for name in ("BBB", "AAA"):
        directory.enlist(listed(f"{name}USDT", "spot", 2, base=name, currency="USDT", price_scale=2))
    assets = {name: {"haircut": "0.2", "route": [f"{name}USDT"]} for name in ("BBB", "AAA")} | {
        "USDT": {"haircut": "0", "route": []}
    }
    _, calculator = MODELS["prime"].compile({**PARAMETERS, "assets": assets}, directory)
    book = Book({2: 100_00, 1: 100_00, 0: -175_00})
    legs = calculator.sale(book, [1, 100, 100], Guard(Ratio(14, 10), 0, inclusive=False))
    assert [leg.asset for leg in legs] == [1, 2]


def test_a_gap_of_less_than_a_unit_is_closed_with_a_unit() -> None:
    """D = 0.07, V = 0.09: at 1.3 a tenth of a cent is missing."""
    prices = [1] + [0] * (len(DIRECTORY.instruments) - 1)
    prices[NUMBER["BTCUSDT"]] = 4_000_000
    book = Book({ASSET["BTC"]: -175, ASSET["USDT"]: 9})
    assert PRIME.evaluate(book, prices) == (9, 7, False)
    assert PRIME.sale(book, prices, Guard(Ratio(13, 10), 0, inclusive=False)) == [SaleLeg(ASSET["USDT"], 1)]
    assert PRIME.sale(book, prices, Guard(Ratio(9, 7), 0, inclusive=False)) == []


@pytest.mark.parametrize(
    ("warn", "restore", "widest"),
    [("2", "1.5", Ratio(2, 1)), ("1.5", "2", Ratio(2, 1)), ("1.55", "1.6", Ratio(16, 10))],
)
def test_the_widest_level_is_so_by_value(warn: str, restore: str, widest: Ratio) -> None:
    for model in ("prime", "binance-usdm"):
        assert compiled(model, warn=warn, restore=restore)[0].quiescent.ratio == widest


@pytest.mark.parametrize(("owed", "truth"), [("-0.01", GuardState.UNDECIDED), ("0.01", GuardState.FALSE)])
def test_what_was_never_marked_may_be_worth_nothing_at_all(owed: str, truth: GuardState) -> None:
    day = Day().opened(prices=False)
    day.account("A")
    day.money("A", "1", "BTC")
    day.money("A", owed)
    system = StoreFold(1, rules_version=LATEST)
    for line in day.lines:
        system.admission.line(line)
    system.fold()
    part = system.accounts[0]
    account = part.account("A")
    assert account is not None
    valuation = part.valuation(account, account.cross)
    assert valuation is not None
    assert valuation.truth(Guard(Ratio(1, 1), 0, inclusive=False)) is truth


def test_what_is_open_in_a_profile_is_typed_as_the_seam_says() -> None:
    calculator: Any
    for model, subaccounts in (("prime", False), ("binance-usdm", True)):
        _, calculator = compiled(model)
        assert calculator.subaccounts is subaccounts
        assert calculator.base == ASSET["USDT"]
