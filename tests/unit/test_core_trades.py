"""Trades, transfers, funding and sweeps on an account's books, and which quotes become marks: to the last unit."""

from __future__ import annotations

import pytest

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.position import Position, notional, position_key, split_key
from margin_stream.core.accounts.postings import (
    book_funding,
    book_move,
    book_perpetual,
    book_spot,
    price_shift,
    sweep,
)
from margin_stream.core.market.market import Market
from margin_stream.core.market.quote_guard import Quote, QuoteGuard
from margin_stream.core.sequenced import FUNDING_SCALE, Moved, Traded
from margin_stream.schemas.decimals import whole
from tests.unit.test_core_profiles import DIRECTORY, listed

BTC = DIRECTORY.instrument_by_name["BTCUSDT"]
PERP = DIRECTORY.instrument_by_name["BTCUSDT-PERP"]
DOGE = DIRECTORY.instrument_by_name["DOGEUSDT-PERP"]


def account() -> Account:
    return Account("A", 0, "p", "", [])


@pytest.mark.parametrize("value", [0, 5, -5, 2**63, -(2**63) - 1, 2**95 + 1, -(2**95)])
def test_an_integer_of_any_size_is_routed_as_itself_or_as_bytes(value: int) -> None:
    assert whole(value) == value
    assert whole(value.to_bytes((value.bit_length() + 8) // 8, "big", signed=True)) == value


def test_keys_hold_an_instrument_and_a_side() -> None:
    for instrument in (1, 7, 1000):
        for side in range(3):
            assert split_key(position_key(instrument, side)) == (instrument, side)
            assert position_key(instrument, side) == 4 * instrument + side


def test_a_notional_is_floored_to_minor_units() -> None:
    assert [notional(product, -2) for product in (99, 100, 199, -1, -100, -101)] == [0, 1, 1, -1, -1, -2]
    assert [notional(7, shift) for shift in (0, 1, 3)] == [7, 70, 7000]
    assert (price_shift(BTC), price_shift(PERP), price_shift(DOGE)) == (2 - 4 - 2, 2 - 3 - 2, 2 - 5)


def test_a_spot_trade_moves_cash_less_the_fee_and_holds_the_base() -> None:
    held = account()
    book_spot(held, BTC, Traded(1, "A", BTC.number, 3, 4_000_033, 7))
    # 0.0003 at 40,000.33 are 12.000099: 12.01 are paid.
    assert held.cross.ledger == {0: -1201 - 7}
    assert held.cross.balances == {0: -1208, 1: 30_000}
    book_spot(held, BTC, Traded(2, "A", BTC.number, -1, 5_000_000, 1))
    (position,) = held.cross.positions.values()
    assert (position.quantity, position.open_cost, position.realised, position.fees) == (2, 1201 - 400, 500 - 400, 8)
    assert held.cross.balances == {0: -1208 + 500 - 1, 1: 20_000}
    assert position.leverage is None


@pytest.mark.parametrize(
    ("held", "cost", "quantity", "cash", "left"),
    [
        (3, 300, -3, 120, (0, 0, -180)),
        (3, 300, -4, 160, (-1, -40, -180)),
        (3, 300, -2, 80, (1, 100, -120)),
        (-3, -301, 2, -80, (-1, -100, 121)),
        (-3, -301, 3, -120, (0, 0, 181)),
        (-3, -301, 5, -200, (2, 80, 181)),
        (0, 0, -2, 80, (-2, -80, 0)),
        (3, 300, 0, 0, (3, 300, 0)),
        (3, 300, 1, -40, (4, 340, 0)),
    ],
)
def test_a_trade_closes_its_share_and_opens_the_rest(
    held: int, cost: int, quantity: int, cash: int, left: tuple[int, int, int]
) -> None:
    position = Position(held, cost)
    assert position.trade(quantity, 40, 0) == cash
    assert (position.quantity, position.open_cost, position.realised) == left


def test_a_trade_in_a_perpetual_pays_what_it_realises_less_the_fee() -> None:
    books = account()
    books.cross.move(0, 100_000)
    book_perpetual(books, PERP, Traded(1, "A", PERP.number, 10, 4_000_000, 5, "iso", 1, 30_000, 20))
    subaccount = books.isolated["iso"]
    key = position_key(PERP.number, 1)
    position = subaccount.perpetuals[key]
    assert (position.quantity, position.open_cost, position.leverage, position.fees) == (10, 40_000, 20, 5)
    assert (books.cross.ledger, subaccount.ledger) == ({0: 70_000}, {0: 30_000 - 5})
    book_perpetual(books, PERP, Traded(2, "A", PERP.number, -10, 4_100_000, 6, "iso", 1, -1_000, 0))
    assert (position.quantity, position.open_cost, position.leverage, position.fees) == (0, 0, 20, 11)
    assert position.realised == 1_000
    assert (books.cross.ledger, subaccount.ledger) == ({0: 71_000}, {0: 30_000 - 5 + 1_000 - 6 - 1_000})
    assert subaccount.perpetuals == {}
    book_perpetual(books, PERP, Traded(3, "A", PERP.number, -10, 4_100_000, 0))
    assert list(books.cross.perpetuals) == [position_key(PERP.number, 0)]
    assert books.cross.perpetuals[position_key(PERP.number, 0)].leverage == 0


def test_money_goes_into_a_subaccount_or_from_one_to_another() -> None:
    books = account()
    book_move(books, Moved(1, "A", 0, 500, "", "iso"))
    book_move(books, Moved(2, "A", 0, 200, "", "", "iso"))
    book_move(books, Moved(3, "A", 0, 50, "", "other", ""))
    assert books.cross.ledger == {0: 150}
    assert {name: subaccount.ledger for name, subaccount in books.isolated.items()} == {
        "iso": {0: 300},
        "other": {0: 50},
    }


def test_funding_is_floored_by_position_and_summed_by_subaccount() -> None:
    books = account()
    for subaccount, side, quantity in (("", 1, 15), ("", 2, -15), ("iso", 0, 7), ("other", 0, 9)):
        held = books.subaccount(subaccount)
        instrument = DOGE if subaccount == "other" else PERP
        key = position_key(instrument.number, side)
        held.positions[key] = position = Position(quantity, 0, 0, 0, 0)
        held.hold_perpetual(key, position)
    rate = 10**FUNDING_SCALE // 1000
    concerned = book_funding(books, PERP, rate, 4_000_100)
    # 0.015 * 40,001.00 * 0.001 are 0.600015: who is long pays 0.61, who is short receives 0.60.
    assert [subaccount.name for subaccount in concerned] == ["", "iso"]
    assert books.cross.ledger == {0: -61 + 60}
    assert books.isolated["iso"].ledger == {0: -29}
    assert books.isolated["other"].ledger == {}
    assert book_funding(books, BTC, rate, 1) == []


def test_a_subaccount_without_positions_is_swept_unless_it_owes() -> None:
    books = account()
    assert not sweep(books, "iso")
    key = position_key(PERP.number, 0)
    for turn, (realised, fees) in enumerate(((100, 7), (30, 2)), start=1):
        subaccount = books.subaccount("iso")
        subaccount.positions[key] = position = Position(5, 0, realised, fees, 0)
        subaccount.hold_perpetual(key, position)
        subaccount.move(0, 40)
        subaccount.move(1, 9)
        assert not sweep(books, "iso")
        position.quantity = 0
        subaccount.hold_perpetual(key, position)
        subaccount.move(1, -10)
        assert not sweep(books, "iso")
        subaccount.move(1, 2)
        assert sweep(books, "iso")
        assert books.isolated == {}
        assert books.cross.ledger == {0: 40 * turn, 1: turn}
    kept = books.cross.positions[key]
    assert (kept.quantity, kept.realised, kept.fees, kept.leverage) == (0, 130, 9, 0)
    books.subaccount("empty")
    assert sweep(books, "empty")


# ---- quotes
# ---------------------------------------------------------------------------------------------------------------------


def a_market(**more: object) -> Market:
    market = Market(1)
    market.enlist(listed("USDT", "currency", 2))
    market.enlist(listed("BTC", "currency", 8))
    market.enlist(listed("BTCUSDT", "spot", 4, base="BTC", currency="USDT", price_scale=2, **more))
    market.tick_clock(10**9)
    return market


def judge(guard: QuoteGuard, market: Market, price: int, source: str = "a") -> Quote:
    instrument = market.directory.instruments[1]
    assert instrument is not None
    return guard.judge(instrument, price, source, market)[0]


@pytest.mark.parametrize(
    ("price", "quote"),
    [(-1, Quote.NOT_POSITIVE), (0, Quote.NOT_POSITIVE), (1, Quote.ACCEPTED), (2**61, Quote.ACCEPTED)],
)
def test_the_first_quote_is_any_positive_one(price: int, quote: Quote) -> None:
    market = a_market()
    assert judge(QuoteGuard(), market, price) is quote


@pytest.mark.parametrize(
    ("age_ns", "band"),
    [
        (0, 200_000),
        (1_500_000, 200_002),
        (999_999_999, 201_998),
        (10**9, 202_000),
        (399_999_999_999, 999_998),
        (400 * 10**9, 1_000_000),
        (401 * 10**9, 1_000_000),
    ],
)
def test_the_band_widens_with_the_age_of_the_mark_up_to_its_maximum(age_ns: int, band: int) -> None:
    """10 % and 0.1 % a second, in whole millionths, of a mark of 20,000.00; at most 50 %."""
    market = a_market(stale_after_s=1000)
    market.mark(1, 2_000_000)
    market.tick_clock(10**9 + age_ns)
    for sign in (1, -1):
        assert judge(QuoteGuard(), market, 2_000_000 + sign * band) is Quote.ACCEPTED
        assert judge(QuoteGuard(), market, 2_000_000 + sign * (band + 1)) is Quote.DEVIATION


def test_a_stale_mark_has_its_widest_band() -> None:
    market = a_market(stale_after_s=1)
    market.mark(1, 2_000_000)
    market.tick_clock(3 * 10**9)
    assert judge(QuoteGuard(), market, 3_000_000) is Quote.ACCEPTED
    assert judge(QuoteGuard(), market, 3_000_001) is Quote.DEVIATION


def test_quotes_in_a_row_re_anchor_the_mark_where_they_agree() -> None:
    market = a_market()
    market.mark(1, 1_000_000)
    guard = QuoteGuard()
    assert [judge(guard, market, price) for price in (2_000_000, 2_040_001, 2_040_000)] == [Quote.DEVIATION] * 3
    # The first is forgotten: the last three are 2,040,001 and 2,040,000 and one more.
    assert judge(guard, market, 2_000_001) is Quote.CONSECUTIVE
    assert guard.refused == {}
    assert judge(guard, market, 2_000_000) is Quote.DEVIATION
    assert judge(guard, market, 1_100_000) is Quote.ACCEPTED
    assert guard.refused == {}


@pytest.mark.parametrize(
    ("second", "quote"), [(2_040_000, Quote.SECOND_SOURCE), (2_040_001, Quote.DEVIATION), (1_960_784, Quote.DEVIATION)]
)
def test_a_second_source_that_agrees_is_believed_at_once(second: int, quote: Quote) -> None:
    market = a_market()
    market.mark(1, 1_000_000)
    guard = QuoteGuard()
    assert judge(guard, market, 2_000_000, "a") is Quote.DEVIATION
    assert judge(guard, market, second, "b") is quote
    assert (guard.refused == {}) is (quote is Quote.SECOND_SOURCE)


def test_what_becomes_of_a_quote_is_said_in_these_words() -> None:
    assert [quote.value for quote in Quote if quote is not Quote.ACCEPTED] == [
        *("consecutive", "second_source", "one_side", "not_positive", "crossed", "deviation")
    ]
    marks = [Quote.ACCEPTED, Quote.CONSECUTIVE, Quote.SECOND_SOURCE, Quote.ONE_SIDE]
    assert [quote for quote in Quote if quote.marks] == marks


@pytest.mark.parametrize(("seconds", "follows"), [(299, False), (300, True)])
@pytest.mark.parametrize("sign", [1, -1])
def test_quotes_that_stay_on_one_side_for_the_staleness_limit_move_the_mark_to_the_nearest(
    seconds: int, follows: bool, sign: int
) -> None:
    market = a_market()
    market.mark(1, 1_000_000)
    instrument = market.directory.instruments[1]
    assert instrument is not None
    guard = QuoteGuard()
    for n, far in enumerate((700_000, 600_000, 650_000)):
        market.clock_ns = 10**9 + n * 10**9
        assert guard.judge(instrument, 1_000_000 + sign * far, "a", market) == (Quote.DEVIATION, 0)
    market.clock_ns = 10**9 + seconds * 10**9
    expected = (Quote.ONE_SIDE, 1_000_000 + sign * 600_000) if follows else (Quote.DEVIATION, 0)
    assert guard.judge(instrument, 1_000_000 + sign * 800_000, "a", market) == expected
    assert (guard.refused == {}) is follows


def test_a_quote_on_the_other_side_or_too_few_quotes_do_not_move_the_mark() -> None:
    market = a_market()
    market.mark(1, 1_000_000)
    guard = QuoteGuard()
    assert judge(guard, market, 300_000) is Quote.DEVIATION
    assert judge(guard, market, 200_000) is Quote.DEVIATION
    market.clock_ns += 200 * 10**9
    # The row begins anew with it.
    assert judge(guard, market, 1_800_000) is Quote.DEVIATION
    market.clock_ns += 200 * 10**9
    assert judge(guard, market, 300_000) is Quote.DEVIATION
    market.clock_ns += 299 * 10**9
    assert judge(guard, market, 200_000) is Quote.DEVIATION
    assert judge(guard, market, 100_000) is Quote.DEVIATION
    market.clock_ns += 10**9
    assert judge(guard, market, 250_000) is Quote.ONE_SIDE
    # A single print, however old, is none.
    assert judge(guard, market, 200_000) is Quote.DEVIATION
    market.clock_ns += 1000 * 10**9
    assert judge(guard, market, 300_000) is Quote.DEVIATION
