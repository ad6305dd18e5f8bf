"""What the intake refuses, with the reason and the words that the sender reads, and the last value that it still
takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from margin_stream.core.intake.fold import IntakeFold, Verdict
from margin_stream.core.intake.validation import AMOUNT_LIMIT, PRICE_LIMIT
from margin_stream.core.margin.model import MODELS
from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.inputs import (
    AccountOpened,
    ClockTicked,
    CollateralMoved,
    FundingPaid,
    PositionChanged,
    PriceTicked,
)
from margin_stream.schemas.rules_versions import LATEST
from tests.days import Day
from tests.usdm_days import UsdmDay
from tests.versions import registered


def prepared(clock: bool = True, rules_version: int = LATEST) -> tuple[UsdmDay, StoreFold]:
    """Return a day with a directory, an account of each profile, and (with a clock) first prices; and the system that
    took it."""
    day = UsdmDay()
    if clock:
        day.opened()
    else:
        day.directory()
    day.account("A")
    day.usdm_account("U")
    system = StoreFold(2, rules_version=rules_version)
    for line in day.lines:
        assert system.admission.line(line) is Verdict.ACCEPTED, system.intake.last_refusal
    return day, system


def said_of(
    system: StoreFold, type_: str, *, source: str = "more", seq: int = 1, **fields: Any
) -> tuple[str, str] | None:
    """Offer an item; return the reason and the detail of its refusal, None where it was accepted."""
    row = {"type": type_, "source": source, "source_seq": seq, "event_time": "2021-05-19T00:00:00Z", **fields}
    verdict = system.admission.line(json.dumps(row).encode())
    if verdict is Verdict.ACCEPTED:
        return None
    assert verdict is Verdict.REFUSED
    assert system.intake.last_refusal is not None
    reason, detail = system.intake.last_refusal
    return reason.value, detail


TRADE = {"account": "A", "instrument": "BTCUSDT", "quantity_delta": "1", "price": "40000"}
PERPETUAL = {"account": "U", "instrument": "BTCUSDT-PERP", "quantity_delta": "1", "price": "40000"}
MOVE = {"account": "A", "asset": "USDT", "amount_delta": "1"}
POCKETS = {"account": "U", "asset": "USDT", "amount_delta": "1", "isolated": "p"}
FUNDING = {"instrument": "BTCUSDT-PERP", "rate": "0.0001"}
LISTING = {"instrument": "X", "kind": "spot", "base": "BTC", "currency": "USDT", "quantity_scale": 4, "price_scale": 2}
OPENING = {"account": "N", "base_currency": "USDT", "profile": "prime"}
NO_CLOCK = ("clock_required", "no clock_ticked came yet")
FRACTION = "a fraction from 0 up to, not including, 1 with at most six decimal places"
PRICE_RANGE = "price: from 0 up to 2**62 units of the price scale"
QUOTE_RANGE = "within 2**62 units of the price scale"
NOT_FOR = "isolated, position_side, isolated_margin_delta, leverage: BTCUSDT is no perpetual"

REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("position_changed", {**TRADE, "instrument": "USDT"}, "not_tradable", "instrument: USDT is a currency"),
    ("position_changed", {**TRADE, "instrument": "NO"}, "instrument_unknown", "instrument: 'NO' is not listed"),
    ("position_changed", {**TRADE, "account": "no"}, "account_unknown", "account: 'no' is not open"),
    (
        "position_changed",
        {**TRADE, "quantity_delta": "0.00001"},
        "wrong_scale",
        "quantity_delta: BTCUSDT has 4 decimal places",
    ),
    ("position_changed", {**TRADE, "price": "0.001"}, "wrong_scale", "price: BTCUSDT has 2 decimal places"),
    ("position_changed", {**TRADE, "fee": "0.001"}, "wrong_scale", "fee: USDT has 2 decimal places"),
    (
        "position_changed",
        {**PERPETUAL, "isolated": "p", "isolated_margin_delta": "0.001"},
        "wrong_scale",
        "isolated_margin_delta: USDT has 2 decimal places",
    ),
    ("position_changed", {**TRADE, "price": "-0.01"}, "out_of_range", PRICE_RANGE),
    ("position_changed", {**TRADE, "price": "46116860184273879.04"}, "out_of_range", PRICE_RANGE),
    ("position_changed", {**TRADE, "isolated": "p"}, "isolated_invalid", NOT_FOR),
    ("position_changed", {**TRADE, "position_side": "long"}, "isolated_invalid", NOT_FOR),
    ("position_changed", {**TRADE, "isolated_margin_delta": "1"}, "isolated_invalid", NOT_FOR),
    ("position_changed", {**TRADE, "leverage": 1}, "isolated_invalid", NOT_FOR),
    (
        "position_changed",
        {**PERPETUAL, "isolated_margin_delta": "1"},
        "isolated_invalid",
        "isolated_margin_delta: names no subaccount",
    ),
    (
        "position_changed",
        {**PERPETUAL, "account": "A"},
        "instrument_not_margined",
        "instrument: BTCUSDT-PERP: prime margins no perpetuals (profile prime, version 1)",
    ),
    (
        "position_changed",
        {**TRADE, "account": "U"},
        "instrument_not_margined",
        "instrument: BTCUSDT: binance-usdm margins perpetuals only (profile binance-usdm, version 1)",
    ),
    ("collateral_moved", {**MOVE, "asset": "NO"}, "asset_unknown", "asset: 'NO' is not listed"),
    ("collateral_moved", {**MOVE, "asset": "BTCUSDT"}, "asset_unknown", "asset: 'BTCUSDT' is not listed"),
    ("collateral_moved", {**MOVE, "account": "no"}, "account_unknown", "account: 'no' is not open"),
    ("collateral_moved", {**MOVE, "amount_delta": "0.001"}, "wrong_scale", "amount_delta: USDT has 2 decimal places"),
    (
        "collateral_moved",
        {**MOVE, "isolated": "p"},
        "isolated_invalid",
        "isolated, from_isolated: profile prime has no isolated subaccounts",
    ),
    (
        "collateral_moved",
        {**MOVE, "from_isolated": ""},
        "isolated_invalid",
        "isolated, from_isolated: profile prime has no isolated subaccounts",
    ),
    ("collateral_moved", {**POCKETS, "from_isolated": "p"}, "isolated_invalid", "from_isolated: the subaccount itself"),
    (
        "collateral_moved",
        {**POCKETS, "isolated": "", "from_isolated": ""},
        "isolated_invalid",
        "from_isolated: the subaccount itself",
    ),
    (
        "collateral_moved",
        {**POCKETS, "from_isolated": "", "amount_delta": "0"},
        "out_of_range",
        "amount_delta: a transfer between subaccounts is positive",
    ),
    (
        "collateral_moved",
        {**POCKETS, "from_isolated": "", "amount_delta": "-0.01"},
        "out_of_range",
        "amount_delta: a transfer between subaccounts is positive",
    ),
    ("funding_paid", {**FUNDING, "instrument": "NO"}, "instrument_unknown", "instrument: 'NO' is not listed"),
    ("funding_paid", {**FUNDING, "instrument": "BTCUSDT"}, "not_tradable", "instrument: BTCUSDT is no perpetual"),
    ("funding_paid", {**FUNDING, "rate": "1"}, "out_of_range", "rate: between -1 and 1"),
    ("funding_paid", {**FUNDING, "rate": "-1"}, "out_of_range", "rate: between -1 and 1"),
    ("funding_paid", {**FUNDING, "price": "0.001"}, "wrong_scale", "price: BTCUSDT-PERP has 2 decimal places"),
    ("funding_paid", {**FUNDING, "price": "-0.01"}, "out_of_range", PRICE_RANGE),
    ("funding_paid", {**FUNDING, "price": "46116860184273879.04"}, "out_of_range", PRICE_RANGE),
    ("price_ticked", {"instrument": "USDT", "price": "1"}, "not_tradable", "instrument: USDT is a currency"),
    ("price_ticked", {"instrument": "NO", "price": "1"}, "instrument_unknown", "instrument: 'NO' is not listed"),
    ("price_ticked", {"instrument": "BTCUSDT", "price": "0.001"}, "wrong_scale", "price: BTCUSDT has 2 decimal places"),
    (
        "price_ticked",
        {"instrument": "BTCUSDT", "price": "1", "bid": "0.001"},
        "wrong_scale",
        "bid: BTCUSDT has 2 decimal places",
    ),
    (
        "price_ticked",
        {"instrument": "BTCUSDT", "price": "1", "ask": "0.001"},
        "wrong_scale",
        "ask: BTCUSDT has 2 decimal places",
    ),
    (
        "price_ticked",
        {"instrument": "BTCUSDT", "price": "46116860184273879.04"},
        "out_of_range",
        f"price: {QUOTE_RANGE}",
    ),
    (
        "price_ticked",
        {"instrument": "BTCUSDT", "price": "-46116860184273879.04"},
        "out_of_range",
        f"price: {QUOTE_RANGE}",
    ),
    (
        "price_ticked",
        {"instrument": "BTCUSDT", "price": "1", "ask": "46116860184273879.04"},
        "out_of_range",
        f"ask: {QUOTE_RANGE}",
    ),
    ("clock_ticked", {"time": "2021-05-18T23:59:59.999999999Z"}, "clock_backwards", "time: before the clock"),
    (
        "clock_ticked",
        {"time": "2021-05-18T00:00:00Z", "confirmed_by": "ops"},
        "clock_backwards",
        "time: before the clock",
    ),
    (
        "clock_ticked",
        {"time": "2021-05-27T00:00:00.000000001Z"},
        "clock_jump_unconfirmed",
        "time: more than 8 days past the clock",
    ),
    ("account_opened", {**OPENING, "account": "A B"}, "account_invalid", "account: 'A B'"),
    ("account_opened", {**OPENING, "account": ""}, "account_invalid", "account: ''"),
    ("account_opened", {**OPENING, "account": "x" * 65}, "account_invalid", f"account: '{'x' * 65}'"),
    ("account_opened", {**OPENING, "account": "é" * 100}, "account_invalid", f"account: '{'é' * 80}'"),
    ("account_opened", {**OPENING, "margin_group": "other"}, "account_invalid", "margin_group: the account itself"),
    (
        "account_opened",
        {**OPENING, "contacts": ["ops-1", "a@b.example"]},
        "contact_invalid",
        "contacts[1]: not a reference",
    ),
    ("account_opened", {**OPENING, "contacts": ["x" * 65]}, "contact_invalid", "contacts[0]: not a reference"),
    ("account_opened", {**OPENING, "contacts": [""]}, "contact_invalid", "contacts[0]: not a reference"),
    ("account_opened", {**OPENING, "contacts": ["a"] * 17}, "contact_invalid", "contacts: at most 16, not 17"),
    ("account_changed", {"account": "A", "contacts": ["+44 20"]}, "contact_invalid", "contacts[0]: not a reference"),
    ("account_opened", {**OPENING, "account": "A"}, "account_opened_already", "account: A is open"),
    ("account_opened", {**OPENING, "base_currency": "NO"}, "asset_unknown", "base_currency: 'NO' is not listed"),
    (
        "account_opened",
        {**OPENING, "base_currency": "BTC"},
        "account_invalid",
        "profile: prime has another base currency",
    ),
    ("account_opened", {**OPENING, "profile": "no"}, "profile_unknown", "profile: 'no' was never activated"),
    ("account_changed", {"account": "no"}, "account_unknown", "account: 'no' is not open"),
    ("account_changed", {"account": "A", "profile": "no"}, "profile_unknown", "profile: 'no' was never activated"),
    (
        "engine_activated",
        {"version": 3, "approved_by": "x"},
        "engine_unknown",
        "version: 3; in force is 1, the latest is 1",
    ),
    (
        "instrument_listed",
        {**LISTING, "instrument": "BTCUSDT"},
        "instrument_listed_already",
        "instrument: BTCUSDT is listed already",
    ),
    (
        "instrument_listed",
        {**LISTING, "instrument": "BTC"},
        "instrument_listed_already",
        "instrument: BTC is listed already",
    ),
    (
        "instrument_listed",
        {"instrument": "C", "kind": "currency", "quantity_scale": 2, "base": "BTC"},
        "listing_invalid",
        "base, currency, price_scale: a currency has none of them",
    ),
    (
        "instrument_listed",
        {"instrument": "C", "kind": "currency", "quantity_scale": 2, "currency": "BTC"},
        "listing_invalid",
        "base, currency, price_scale: a currency has none of them",
    ),
    (
        "instrument_listed",
        {"instrument": "C", "kind": "currency", "quantity_scale": 2, "price_scale": 1},
        "listing_invalid",
        "base, currency, price_scale: a currency has none of them",
    ),
    *(
        ("instrument_listed", {**LISTING, field: value}, "listing_invalid", f"{field}: {FRACTION}")
        for field in ("band", "band_per_second", "band_maximum", "reanchor_within")
        for value in ("1", "-0.000001", "0.0000001")
    ),
    ("instrument_listed", {**LISTING, "currency": "NO"}, "asset_unknown", "currency: 'NO' is not listed"),
    ("instrument_listed", {**LISTING, "kind": "equity"}, "listing_invalid", "base: a share is its own asset"),
    ("instrument_listed", {**LISTING, "kind": "perpetual"}, "listing_invalid", "base: a perpetual delivers nothing"),
    ("instrument_listed", {**LISTING, "base": "NO"}, "asset_unknown", "base: 'NO' is not listed"),
    ("instrument_listed", {**LISTING, "base": "USDT"}, "listing_invalid", "base, currency: a pair joins two assets"),
    (
        "instrument_listed",
        {**LISTING, "quantity_scale": 9},
        "listing_invalid",
        "quantity_scale: BTC has 8 decimal places, a quantity cannot have more",
    ),
]

ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    ("position_changed", {**TRADE, "quantity_delta": "0.0001", "price": "0.01", "fee": "0.01"}),
    ("position_changed", {**TRADE, "price": "0"}),
    ("position_changed", {**TRADE, "price": "46116860184273879.03", "quantity_delta": "0"}),
    (
        "position_changed",
        {**PERPETUAL, "isolated": "p", "isolated_margin_delta": "0.01", "leverage": 1, "position_side": "long"},
    ),
    ("collateral_moved", {**MOVE, "amount_delta": "-0.01"}),
    ("collateral_moved", {**POCKETS, "from_isolated": "", "amount_delta": "0.01"}),
    ("collateral_moved", {**POCKETS, "amount_delta": "0"}),
    ("funding_paid", {**FUNDING, "rate": "0.999999999999"}),
    ("funding_paid", {**FUNDING, "rate": "-0.999999999999", "price": "0"}),
    ("funding_paid", {**FUNDING, "price": "46116860184273879.03"}),
    ("price_ticked", {"instrument": "BTCUSDT", "price": "46116860184273879.03"}),
    ("price_ticked", {"instrument": "BTCUSDT", "price": "-46116860184273879.03"}),
    ("clock_ticked", {"time": "2021-05-19T00:00:00Z"}),
    ("clock_ticked", {"time": "2021-05-27T00:00:00Z"}),
    ("clock_ticked", {"time": "2021-05-27T00:00:00.000000001Z", "confirmed_by": "ops"}),
    ("account_opened", {**OPENING, "account": "x" * 64, "margin_group": "x" * 64}),
    ("account_opened", {**OPENING, "account": "x"}),
    ("account_opened", {**OPENING, "account": "ABCDEFGHIJKLMNOPQRSTUVWXYZ_-0123456789"}),
    ("account_opened", {**OPENING, "account": "abcdefghijklmnopqrstuvwxyz"}),
    ("account_changed", {"account": "A", "profile": "binance-usdm"}),
    ("engine_activated", {"version": 1, "approved_by": "x"}),
    ("instrument_listed", {**LISTING, "quantity_scale": 8}),
    (
        "instrument_listed",
        {**LISTING, "band": "0", "band_per_second": "0", "band_maximum": "0.999999", "reanchor_within": "0.000001"},
    ),
    ("instrument_listed", {**LISTING, "kind": "equity", "base": ""}),
    ("instrument_listed", {**LISTING, "kind": "perpetual", "base": ""}),
]


@pytest.mark.parametrize(
    ("type_", "fields", "reason", "detail"), REFUSED, ids=[f"{n}-{row[0]}-{row[2]}" for n, row in enumerate(REFUSED)]
)
def test_what_is_not_valid_is_refused_with_its_reason(
    type_: str, fields: dict[str, Any], reason: str, detail: str
) -> None:
    _, system = prepared()
    before = system.intake.facts()
    assert said_of(system, type_, **fields) == (reason, detail)
    # Nothing else became of it: the counts, the identity, and one effect that says why.
    assert system.intake.refused == 1
    assert system.sequence == before[0] + 1
    own, *parts = system.fold(compare_markets=True)
    effects = [effect for effect in own if effect.group == "@intake"]
    assert len(effects) == 1
    assert all(effect.sequence != system.sequence for part in parts for effect in part)
    after = system.intake.facts()
    assert after[6:9] == before[6:9]
    assert [after[2], after[3]] == [before[2], before[3] + 1]


@pytest.mark.parametrize(("type_", "fields"), ACCEPTED)
def test_the_last_value_in_range_is_accepted(type_: str, fields: dict[str, Any]) -> None:
    _, system = prepared()
    assert said_of(system, type_, **fields) is None
    assert system.intake.refused == 0
    system.fold(compare_markets=True)


@pytest.mark.parametrize(
    ("type_", "fields"),
    [
        ("position_changed", TRADE),
        ("collateral_moved", MOVE),
        ("funding_paid", FUNDING),
        ("price_ticked", {"instrument": "BTCUSDT", "price": "1"}),
    ],
)
def test_before_the_first_clock_only_the_directory_is_accepted(type_: str, fields: dict[str, Any]) -> None:
    _, system = prepared(clock=False)
    assert said_of(system, type_, **fields) == NO_CLOCK
    assert said_of(system, "account_changed", source="book2", account="A", desk="d") is None
    assert said_of(system, "clock_ticked", source="clock", time="1970-01-01T00:00:00Z") == (
        "out_of_range",
        "time: past 1970-01-01T00:00:00Z",
    )
    assert said_of(system, "clock_ticked", source="clock", seq=2, time="1970-01-01T00:00:00.000000001Z") is None


def test_funding_without_a_price_needs_a_mark() -> None:
    day, system = prepared(clock=False)
    assert said_of(system, "clock_ticked", source="clock", time="2021-05-19T00:00:00Z") is None
    assert said_of(system, "funding_paid", **FUNDING) == ("mark_required", "price: BTCUSDT-PERP has no mark yet")
    assert said_of(system, "funding_paid", seq=2, **FUNDING, price="0") is None
    assert day.lines


def test_profiles_come_in_rising_versions_of_one_base_currency() -> None:
    day, system = prepared()

    def activate(version: int, seq: int, **more: Any) -> tuple[str, str] | None:
        fields = {"profile": "prime", "model": "prime", "effective_from": "2020-01-01T00:00:00Z", "approved_by": "r"}
        return said_of(
            system, "profile_activated", seq=seq, **{**fields, "version": version, "parameters": day.parameters, **more}
        )

    assert activate(1, 1) == ("profile_version_not_newer", "version: prime has version 1 already")
    assert activate(2, 2, model="no") == (
        "profile_invalid",
        f"model: 'no' is unknown to rules version 1; known are {', '.join(sorted(MODELS))}",
    )
    in_btc = {**day.parameters, "base_currency": "BTC", "assets": {"BTC": {"haircut": "0", "route": []}}}
    assert activate(2, 3, parameters=in_btc) == ("profile_invalid", "parameters.base_currency: never changes")
    assert activate(2, 4) is None
    assert activate(2, 5) == ("profile_version_not_newer", "version: prime has version 2 already")
    assert activate(7, 6) is None


def test_a_later_rules_version_is_in_force_from_its_activation_on() -> None:
    with registered() as later:
        system = StoreFold(2, rules_version=LATEST)
        day = Day().opened()
        day.account("A")
        for line in day.lines:
            assert system.admission.line(line) is Verdict.ACCEPTED
        trade = TRADE | {"leverage": 0}
        refused = said_of(system, "position_changed", seq=2, **trade)
        assert refused is not None
        assert refused[0] == "unknown_field"
        assert said_of(system, "engine_activated", seq=3, version=later, approved_by="r") is None
        assert system.intake.market.rules_version == later
        assert said_of(system, "engine_activated", seq=4, version=LATEST, approved_by="r") == (
            "engine_unknown",
            f"version: {LATEST}; in force is {later}, the latest is {later}",
        )
        # What was refused stays refused by its bytes; under another number it counts.
        row = {
            "type": "position_changed",
            "source": "more",
            "source_seq": 2,
            "event_time": "2021-05-19T00:00:00Z",
            **trade,
        }
        assert system.admission.line(json.dumps(row).encode()) is Verdict.DUPLICATE
        assert said_of(system, "position_changed", seq=5, **trade) is None
        system.fold(compare_markets=True)
        assert all(part.market.rules_version == later for part in system.accounts)
        again = StoreFold(2, rules_version=later)
        for line in day.lines:
            again.admission.line(line)
        assert again.intake.accounts.facts() == system.intake.accounts.facts()


# ---- at the edge of what the binary form can carry
# --------------------------------------------------------------------


def struct(kind: Any, **fields: Any) -> Any:
    return kind(source="direct", source_seq=1, event_time=0, **fields)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("amount", "good"), [(AMOUNT_LIMIT - 1, True), (AMOUNT_LIMIT, False)])
def test_amounts_lie_within_127_bits(sign: int, amount: int, good: bool) -> None:
    pair = (sign * amount, -2)
    for event, detail in (
        (
            struct(CollateralMoved, account="A", asset="USDT", amount_delta=pair),
            "amount_delta: within 2**127 units of the asset's scale",
        ),
        (
            struct(
                PositionChanged, account="A", instrument="BTCUSDT", quantity_delta=(sign * amount, -4), price=(1, 0)
            ),
            "quantity_delta, fee: within 2**127 units of their scale",
        ),
        (
            struct(PositionChanged, account="A", instrument="BTCUSDT", quantity_delta=(1, 0), price=(1, 0), fee=pair),
            "quantity_delta, fee: within 2**127 units of their scale",
        ),
        (
            struct(
                PositionChanged,
                account="U",
                instrument="BTCUSDT-PERP",
                quantity_delta=(1, 0),
                price=(1, 0),
                isolated="p",
                isolated_margin_delta=pair,
            ),
            "isolated_margin_delta: within 2**127 units of its scale",
        ),
    ):
        _, system = prepared()
        verdict = system.intake.offer(event, b"content")
        if good:
            assert verdict is Verdict.ACCEPTED
            system.fold(compare_markets=True)
        else:
            assert verdict is Verdict.REFUSED
            assert system.intake.last_refusal is not None
            assert (system.intake.last_refusal[0].value, system.intake.last_refusal[1]) == ("out_of_range", detail)


def test_the_limits_are_the_documented_ones() -> None:
    assert (AMOUNT_LIMIT, PRICE_LIMIT) == (2**127, 2**62)


def test_a_margin_that_leaves_a_subaccount_is_as_good_as_one_that_comes() -> None:
    _, system = prepared()
    assert said_of(system, "position_changed", **PERPETUAL, isolated="p", isolated_margin_delta="-5") is None
    assert said_of(system, "funding_paid", seq=2, instrument="BTCUSDT-PERP", rate="0.01", price="100") is None
    system.fold()
    account = next(found for part in system.accounts if (found := part.account("U")) is not None)
    assert account.cross.ledger == {0: 500}
    assert account.isolated["p"].ledger == {0: -500 - 100}


# ---- identity
# ------------------------------------------------------------------------------------------------------------


def quote(seq: int, price: int = 4_000_000, source: str = "feed") -> PriceTicked:
    return PriceTicked(source=source, source_seq=seq, event_time=0, instrument="BTCUSDT", price=(price, -2))


def test_a_source_is_a_feed_or_a_book_by_its_first_item() -> None:
    _, system = prepared()
    intake = system.intake
    opening = AccountOpened(
        source="feed", source_seq=1000, event_time=0, account="N", base_currency="USDT", profile="prime"
    )
    assert intake.offer(opening, b"1") is Verdict.REFUSED
    assert intake.last_refusal == ("source_kind_mixed", "source: feed is a feed")
    # It has consumed its number: sent again it is a duplicate, and quotes up to it are late.
    assert intake.offer(opening, b"1") is Verdict.DUPLICATE
    assert intake.offer(quote(1000), b"") is Verdict.DUPLICATE
    assert intake.offer(quote(1001), b"") is Verdict.ACCEPTED
    assert intake.offer(quote(1, source="book"), b"") is Verdict.REFUSED
    assert intake.last_refusal is not None
    assert intake.last_refusal[0].value == "source_kind_mixed"
    assert intake.offer(quote(5000, source="book"), b"") is Verdict.REFUSED
    assert intake.last_refusal == ("source_kind_mixed", "source: book is a book")
    assert intake.offer(quote(5000, source="book"), b"") is Verdict.DUPLICATE
    assert intake.offer(quote(5000, 1, source="book"), b"") is Verdict.DUPLICATE


def test_a_number_of_a_book_with_another_content_is_refused_once() -> None:
    _, system = prepared()
    intake = system.intake
    first = CollateralMoved(source="b2", source_seq=7, event_time=0, account="A", asset="USDT", amount_delta=(1, 0))
    assert intake.offer(first, b"one") is Verdict.ACCEPTED
    assert intake.offer(first, b"one") is Verdict.DUPLICATE
    assert intake.offer(first, b"two") is Verdict.REFUSED
    assert intake.last_refusal == ("identity_reused", "source_seq: b2#7 came before with another content")
    assert intake.offer(first, b"two") is Verdict.DUPLICATE
    assert intake.sources.not_compared == 0


def test_a_clock_is_known_to_move_before_it_is_offered() -> None:
    _, system = prepared()
    intake = system.intake

    def clock(seconds: int, seq: int = 10**6, source: str = "feed", by: str = "") -> ClockTicked:
        return ClockTicked(
            source=source, source_seq=seq, event_time=0, time=intake.market.clock_ns + seconds * 10**9, confirmed_by=by
        )

    highest = intake.sources.feeds["feed"].highest
    cases = [
        (clock(0), True),
        (clock(-1), False),
        (clock(8 * 86_400), True),
        (clock(8 * 86_400 + 1), False),
        (clock(8 * 86_400 + 1, by="ops"), True),
        (clock(1, highest), False),
        (clock(1, highest + 1), True),
        (clock(1, 1, "book"), False),
        (clock(1, 0, "new"), True),
    ]
    for event, expected in cases:
        assert intake.moves_clock(event) is expected
        _, other = prepared()
        assert (other.intake.offer(event, b"") is Verdict.ACCEPTED) is expected


def test_what_could_not_be_decoded_is_known_by_its_bytes_for_ever() -> None:
    _, system = prepared()
    intake = system.intake
    assert not intake.sources.is_known_undecodable(b"nonsense")
    assert system.admission.line(b"nonsense") is Verdict.REFUSED
    assert intake.sources.is_known_undecodable(b"nonsense")
    assert not intake.sources.is_known_undecodable(b"nonsens")
    assert system.admission.line(b"nonsense") is Verdict.DUPLICATE
    assert intake.refused == 1
    assert len(intake.sources.undecodable) == 1


def test_a_fresh_intake_counts_nothing() -> None:
    intake = IntakeFold(3, rules_version=LATEST)
    facts = intake.facts()
    assert facts[0] == facts[2] == facts[3] == facts[9] == facts[10] == 0
    assert facts[4] == facts[5] == facts[8] == []
    assert facts[6] == facts[7] == [0, bytes(32)]
    batches = intake.take()
    assert [(batch.previous, batch.last, batch.items, batch.market_digest) for batch in batches] == [
        (0, 0, [], b"")
    ] * 4
    assert intake.book.drain() == []


def test_funding_is_taken_at_its_price_or_at_the_mark() -> None:
    for price, moved in ((None, -4_000), ((50_000, 0), -5_000)):
        _, system = prepared()
        assert said_of(system, "position_changed", **PERPETUAL) is None
        event = struct(FundingPaid, instrument="BTCUSDT-PERP", rate=(1, -3), price=price)
        assert system.intake.offer(event, b"") is Verdict.ACCEPTED
        system.fold()
        account = next(found for part in system.accounts if (found := part.account("U")) is not None)
        assert account.cross.ledger == {0: moved}
