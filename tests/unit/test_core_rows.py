"""What is stored and digested: rows of accounts, the market's facts, slots. Equal facts give equal bytes, in this build
and in every later one."""

from __future__ import annotations

import re
import struct
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.position import Position
from margin_stream.core.accounts.row import packed, unpacked
from margin_stream.core.accounts.subaccount import NEVER, Level, Subaccount
from margin_stream.core.calls.call import Call, Deadline, Outcome
from margin_stream.core.checks import Fault, Mismatch, check
from margin_stream.core.digests import (
    MODULUS,
    NO_CHAIN,
    SLOTS,
    chained,
    combined,
    effect_leaf,
    leaf,
    merged,
    partition_of,
    slot_of,
)
from margin_stream.core.margin import models as _models  # noqa: F401  (registers the models)
from margin_stream.core.margin.guards import Guard, GuardState, Ratio, guard_state_of
from margin_stream.core.margin.model import MarginFigures
from margin_stream.core.market.directory import Directory, parts_per_million
from margin_stream.core.market.market import Market
from margin_stream.schemas.inputs import InstrumentListed, ProfileActivated
from tests.days import PARAMETERS
from tests.unit.test_core_profiles import DIRECTORY, listed

CHAIN = bytes(range(32))


def some_account() -> Account:
    account = Account("some-account", 0, "prime", "desk", ["a@b", "c@d"])
    account.cross.level, account.cross.liquidating, account.cross.stale, account.cross.suppressed = (
        Level.WARNING,
        False,
        True,
        True,
    )
    account.cross.pending_since_ns = 77
    account.cross.call_count = 3
    account.cross.calls = [Call(3, 500, 100, 10, 20, 2, Deadline.ESCALATED, Outcome.PARTIALLY_MET)]
    account.liquidation_count = account.cross.liquidation_number = 4
    account.cross.liquidation_amount = 900
    account.cross.move(0, 12_345)
    account.cross.move(2, -7)
    account.cross.move(2, 7)
    account.cross.positions[1 << 2] = Position(25, 1000, -3, 9)
    account.cross.hold(1, 25 * 10**4)
    account.cross.pending_deposits = [(3, -5, 6, "some-account/call/3")]
    account.effect_count = 11
    return account


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "rows.md").read_text()


def read(row: bytes) -> Any:
    """Return what the reader of docs/rows.md makes of a row."""
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0], names)
    return names["read"](row)


def written(account: Account) -> dict[str, Any]:
    """Return what docs/rows.md lists of an account."""

    def of(part: Subaccount) -> dict[str, Any]:
        return {
            "name": part.name,
            "level": int(part.level),
            "flags": part.liquidating + 2 * part.stale + 4 * part.suppressed,
            "calls_so_far": part.call_count,
            "request": part.liquidation_number,
            "pending_since": part.pending_since_ns,
            "request_amount": part.liquidation_amount,
            "ledger": [(asset, part.ledger[asset]) for asset in sorted(part.ledger) if part.ledger[asset]],
            "positions": [
                (
                    key,
                    -1 if held.leverage is None else held.leverage,
                    held.quantity,
                    held.open_cost,
                    held.realised,
                    held.fees,
                )
                for key, held in sorted(part.positions.items())
            ],
            "calls": [
                (
                    call.number,
                    call.amount,
                    call.paid,
                    call.issued_at_ns,
                    call.due_at_ns,
                    call.tranche,
                    int(call.deadline),
                    int(call.outcome),
                )
                for call in part.calls
            ],
            "deposits": part.pending_deposits,
        }

    return {
        "id": account.id,
        "profile": account.profile,
        "desk": account.desk,
        "base": account.base,
        "subaccounts": [of(part) for part in account.subaccounts()],
        "contacts": account.contacts,
        "requests": account.liquidation_count,
        "effects": account.effect_count,
    }


def facts(account: Account | Subaccount) -> dict[str, Any]:
    """Return everything of an account that is a fact or derived from facts, but for the last valuation."""

    def of(thing: Any) -> Any:
        if isinstance(thing, dict):
            return {key: of(value) for key, value in thing.items()}
        if isinstance(thing, list | tuple):
            return [of(value) for value in thing]
        if isinstance(thing, Account | Subaccount | Position | Call):
            names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
            return {
                name: of(getattr(thing, name)) for name in names if name not in ("guard_states", "figures", "guards")
            }
        return thing

    return of(account)  # type: ignore[no-any-return]


@pytest.mark.plain_core
def test_a_row_is_the_facts_as_the_page_has_them() -> None:
    row = packed(some_account())
    assert read(row) == written(some_account())
    assert sha256(row).hexdigest() == "f8ac5d55f8672eea77c166f95b7c286bd9fa5a8e3883bfd6815d4f7c12aa1316"
    again = unpacked(row, DIRECTORY)
    expected = facts(some_account())
    expected["cross"]["ledger"].pop(2)
    expected["cross"] |= {"open_calls": 1, "unpaid": 400}
    assert facts(again) == expected
    assert packed(again) == row


@pytest.mark.plain_core
def test_a_row_has_every_subaccount_in_the_same_form() -> None:
    account = some_account()
    account.cross.positions[4 << 2 | 1] = position = Position(-8, -800, 1, 2, 20)
    account.cross.hold_perpetual(4 << 2 | 1, position)
    account.cross.liquidation_number = 2
    subaccount = account.subaccount("iso-\u00e9")
    subaccount.level, subaccount.liquidating = Level.BANKRUPT, True
    subaccount.liquidation_number, subaccount.liquidation_amount = 1, 55
    subaccount.move(0, -9)
    subaccount.positions[5 << 2] = position = Position(3, 4, 5, 6, 0)
    subaccount.hold_perpetual(5 << 2, position)
    subaccount.positions[4 << 2] = Position(0, 0, 8, 9, 7)
    row = packed(account)
    assert read(row) == written(account)
    again = unpacked(row, DIRECTORY)
    assert packed(again) == row
    assert facts(again)["isolated"] == facts(account)["isolated"]
    assert facts(again.cross)["perpetuals"] == facts(account.cross)["perpetuals"]
    assert (again.liquidation_count, again.cross.liquidation_number) == (4, 2)
    bare = Account("x", 0, "p", "", [])
    bare.subaccount("b")
    bare.subaccount("a")
    assert [part.name for part in bare.subaccounts()] == ["", "a", "b"]
    assert [part["name"] for part in read(packed(bare))["subaccounts"]] == ["", "a", "b"]
    assert bare.subaccount("") is bare.cross
    assert bare.subaccount("a") is bare.isolated["a"]


@pytest.mark.parametrize(
    ("amount", "width"),
    [
        *((1, 1), (127, 1), (-128, 1), (128, 2), (-129, 2), (2**15 - 1, 2), (-(2**15), 2), (2**15, 4), (2**31 - 1, 4)),
        *((-(2**31), 4), (2**31, 8), (2**63 - 1, 8), (-(2**63), 8), (2**63, 16), (-(2**63) - 1, 16), (2**64, 16)),
        *((2**127 - 1, 16), (-(2**127), 16), (2**127, 32), (-(2**127) - 1, 32), (2**200, 32)),
    ],
)
def test_a_column_takes_the_least_width_that_holds_its_integers(amount: int, width: int) -> None:
    small = Account("x", 0, "p", "", [])
    small.cross.liquidation_amount = amount
    row = packed(small)
    # Behind the head: lengths of four texts, eight small integers, which are zeros, and the moment -1.
    assert row[32:40] == bytes([1, 1, 1, 0, 0, 0, 1, 255])
    assert row[40] == width
    assert row[41 : 41 + width] == amount.to_bytes(width, "little", signed=True)
    assert len(row) == 41 + width + 2
    account = some_account()
    account.cross.move(0, amount - 12_345)
    account.cross.positions[1 << 2].open_cost = amount
    account.cross.pending_deposits = [(3, amount, 6, "")]
    account.subaccount("iso").move(0, amount)
    row = packed(account)
    assert read(row) == written(account)
    again = unpacked(row, DIRECTORY)
    assert packed(again) == row
    assert again.cross.ledger == {0: amount}
    assert again.isolated["iso"].balances == {0: amount}


def test_what_is_no_row_is_not_read() -> None:
    row = packed(some_account())
    for layout in (0, 1, 3):
        with pytest.raises(Fault, match="an account row has a known layout"):
            unpacked(bytes([layout]) + row[1:], DIRECTORY)
    for other in (*(row[:length] for length in range(len(row))), row + b"x"):
        with pytest.raises((Fault, ValueError, IndexError, struct.error)):
            unpacked(other, DIRECTORY)


@pytest.mark.plain_core
def test_a_new_account_has_nothing_and_owes_nothing() -> None:
    account = Account("x", 0, "p", "d", ["c"])
    assert facts(account) == {
        "id": "x",
        "base": 0,
        "profile": "p",
        "desk": "d",
        "contacts": ["c"],
        "effect_count": 0,
        "liquidation_count": 0,
        "isolated": {},
        "cross": {
            **dict.fromkeys(("liquidating", "stale", "suppressed"), False),
            **dict.fromkeys(("call_count", "liquidation_amount", "liquidation_number", "open_calls", "unpaid"), 0),
            "name": "",
            "level": 0,
            "pending_since_ns": NEVER,
            "ledger": {},
            "balances": {},
            "positions": {},
            "perpetuals": {},
            "calls": [],
            "pending_deposits": [],
            "pricings": NEVER,
        },
    }
    assert (account.cross.guards, account.cross.guard_states, account.cross.figures) == ([], None, None)
    assert Subaccount().name == ""
    assert NEVER == -1
    assert list(Level) == [0, 1, 2, 3, 4]
    assert account.cross.quiescent
    assert account.cross.empty
    assert not account.cross.review


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("level", Level.WARNING),
        ("pending_since_ns", 0),
        ("liquidating", True),
        ("stale", True),
        ("suppressed", True),
        ("open_calls", 1),
    ],
)
def test_a_subaccount_with_anything_under_way_is_not_calm(name: str, value: Any) -> None:
    subaccount = Subaccount()
    setattr(subaccount, name, value)
    assert not subaccount.quiescent


def test_flags_go_into_one_integer_and_back() -> None:
    for flags in range(8):
        subaccount = Subaccount()
        subaccount.set_flags(flags)
        assert (subaccount.liquidating, subaccount.stale, subaccount.suppressed) == (
            bool(flags & 1),
            bool(flags & 2),
            bool(flags & 4),
        )
        assert subaccount.flags == flags


def test_what_is_derived_from_calls_counts_the_open_ones() -> None:
    subaccount = Subaccount()
    subaccount.calls = [
        Call(1, 100, 0, 0, 9, 1, Deadline.EXPIRED),
        Call(2, 100, 30, 0, 9, 1, Deadline.RUNNING, Outcome.PARTIALLY_MET),
        Call(3, 100, 10, 0, 9, 1, Deadline.ESCALATED, Outcome.CURED),
        Call(4, 100, 100, 0, 9, 1, Deadline.ESCALATED, Outcome.MET),
    ]
    subaccount.recount()
    assert (subaccount.open_calls, subaccount.unpaid, subaccount.review) == (2, 170, False)
    subaccount.calls[0].deadline = Deadline.ESCALATED
    assert subaccount.review


def test_balances_keep_no_zero_and_the_ledger_keeps_what_was_moved() -> None:
    subaccount = Subaccount()
    subaccount.move(1, 5)
    subaccount.hold(1, -5)
    subaccount.hold(2, -5)
    assert (subaccount.balances, subaccount.ledger) == ({2: -5}, {1: 5})
    assert not subaccount.empty
    subaccount.hold(2, 5)
    assert subaccount.empty
    position = Position(1, 0, 0, 0, 0)
    subaccount.hold_perpetual(9, position)
    assert subaccount.perpetuals == {9: position}
    assert not subaccount.empty
    position.quantity = 0
    subaccount.hold_perpetual(9, position)
    assert subaccount.empty


def test_an_account_holds_a_perpetual_in_any_of_its_subaccounts() -> None:
    account = Account("x", 0, "p", "", [])
    account.subaccount("iso").hold_perpetual(5 << 2 | 2, Position(1, 0, 0, 0, 0))
    assert account.holds_perpetual(5)
    assert not account.holds_perpetual(4)
    assert not account.holds_perpetual(5 << 2)


# ---- digests
# -----------------------------------------------------------------------------------------------------------------


def test_a_slot_is_the_first_twelve_bits_of_the_groups_hash() -> None:
    for name in ("A", "some-account", "é", *(f"n{n}" for n in range(50))):
        assert slot_of(name) == int(sha256(name.encode()).hexdigest()[:3], 16)
    assert (4096, 2**256, bytes(32)) == (SLOTS, MODULUS, NO_CHAIN)
    assert [partition_of(slot, 3) for slot in (0, 1365, 1366, 2730, 2731, 4095)] == [0, 0, 1, 1, 2, 2]


def test_leaves_and_chains_are_plain_hashes() -> None:
    assert leaf(b"row") == int(sha256(b"row").hexdigest(), 16)
    assert chained(CHAIN, b"effect") == sha256(CHAIN + b"effect").digest()
    assert effect_leaf("g", 7, CHAIN) == leaf(b"g\0" + b"7\0" + CHAIN)
    assert effect_leaf("g", 0, CHAIN) == 0


def test_a_digest_is_the_hash_of_the_head_and_every_slot() -> None:
    sums = {0: 1, 5: MODULUS + 7, 4095: MODULUS - 1}
    plain = sha256(
        b"head" + b"".join((sums.get(slot, 0) % 2**256).to_bytes(32, "big") for slot in range(4096))
    ).hexdigest()
    assert combined(b"head", sums) == plain
    assert merged([{1: 5, 2: 6}, {2: MODULUS - 4, 3: 9}, {1: 1}]) == {1: 6, 2: 2, 3: 9}


# ---- the market
# ---------------------------------------------------------------------------------------------------------------


def activation(name: str, version: int, effective: int) -> ProfileActivated:
    return ProfileActivated(
        source="s",
        source_seq=1,
        event_time=0,
        profile=name,
        model="prime",
        version=version,
        effective_from=effective,
        approved_by="r",
        parameters=dict(PARAMETERS),
    )


def a_market() -> Market:
    market = Market(1)
    for name in ("USDT", "BTC", "ETH", "XMR"):
        market.enlist(listed(name, "currency", 2 if name == "USDT" else 8))
    for name, base, currency, limit in (
        ("BTCUSDT", "BTC", "USDT", 300),
        ("ETHUSDT", "ETH", "USDT", 60),
        ("XMRBTC", "XMR", "BTC", 300),
    ):
        scales = {"price_scale": 6 if name == "XMRBTC" else 2, "stale_after_s": limit}
        market.enlist(listed(name, "spot", 4, base=base, currency=currency, **scales))
    return market


def test_the_facts_of_a_market_are_all_that_is_digested() -> None:
    market = a_market()
    market.tick_clock(1000)
    market.mark(1, 40_000)
    market.wait(activation("later", 1, 5000))
    market.wait(activation("now", 1, 900))
    market.tick_clock(2000)
    market.mark(3, 7)
    expected = [
        1,
        2000,
        market.directory.listings,
        [[40_000, 1000, 0], [0, 0, 0], [7, 2000, 0]],
        [activation("now", 1, 900)],
        [activation("later", 1, 5000)],
    ]
    assert market.facts() == expected
    assert [listing.instrument for listing in market.directory.listings] == [
        "USDT",
        "BTC",
        "ETH",
        "XMR",
        "BTCUSDT",
        "ETHUSDT",
        "XMRBTC",
    ]
    assert market.packed() == msgspec.msgpack.Encoder(order="deterministic").encode(expected)
    assert market.digest() == sha256(market.packed()).digest()
    again = Market.unpacked(market.packed())
    assert again.packed() == market.packed()
    assert (again.prices, again.marked_at_ns, again.stale, again.unfresh) == (
        [1, 40_000, 0, 7],
        [0, 1000, 0, 2000],
        [False] * 4,
        {2},
    )
    assert (market.prices, market.marked_at_ns, market.stale, market.unfresh) == (
        [1, 40_000, 0, 7],
        [0, 1000, 0, 2000],
        [False] * 4,
        {2},
    )
    # Parameters are a mapping: in whatever order they were sent, the facts are the same.
    turned = ProfileActivated(
        **{name: getattr(activation("now", 1, 900), name) for name in ProfileActivated.__struct_fields__}
    )
    turned.parameters.clear()
    turned.parameters.update(dict(reversed(list(PARAMETERS.items()))))
    other = a_market()
    other.wait(turned)
    same = a_market()
    same.wait(activation("now", 1, 900))
    assert other.digest() == same.digest()


def test_a_mark_is_fresh_to_the_last_moment_of_its_own_limit() -> None:
    for restored in (False, True):
        market = a_market()
        market.tick_clock(10**9)
        assert market.mark(1, 5) is True
        assert market.mark(1, 6) is False
        assert market.mark(2, 5) is True
        market.tick_clock(11 * 10**9)
        market.mark(3, 5)
        assert market.mark(1, 7) is False
        if restored:
            market = Market.unpacked(market.packed())
        assert market.tick_clock(61 * 10**9) == ([], [])
        assert market.tick_clock(61 * 10**9 + 1) == ([], [2])
        assert market.stale == [False, False, True, False]
        assert market.tick_clock(311 * 10**9) == ([], [])
        assert market.tick_clock(311 * 10**9 + 1) == ([], [1, 3])
        if restored:
            market = Market.unpacked(market.packed())
        assert market.unfresh == {1, 2, 3}
        assert market.tick_clock(10**15) == ([], [])
        assert market.mark(2, 5) is True
        assert (market.stale[2], market.unfresh) == (False, {1, 3})


def test_instruments_go_stale_by_number_whatever_was_marked_first() -> None:
    market = a_market()
    market.tick_clock(10**9)
    for number in (3, 1):
        market.mark(number, 5)
    assert market.tick_clock(400 * 10**9) == ([], [1, 3])


def test_without_a_listing_nothing_goes_stale() -> None:
    assert Market(1).tick_clock(2**61) == ([], [])


def test_profiles_take_effect_by_time_name_and_version_and_never_go_back() -> None:
    market = a_market()
    for name, version, effective in (
        ("b", 2, 50),
        ("b", 1, 40),
        ("a", 1, 50),
        ("c", 1, 101),
        ("b", 3, 50),
        ("d", 5, 100),
    ):
        market.wait(activation(name, version, effective))
    activated, _ = market.tick_clock(100)
    assert [(profile.name, profile.version) for profile in activated] == [
        ("b", 1),
        ("a", 1),
        ("b", 2),
        ("b", 3),
        ("d", 5),
    ]
    assert [event.profile for event in market.waiting.values()] == ["c"]
    market.wait(activation("d", 4, 100))
    market.wait(activation("d", 5, 100))
    activated, _ = market.tick_clock(101)
    assert [(profile.name, profile.version) for profile in activated] == [("c", 1)]
    assert market.profiles["d"].version == 5
    assert market.waiting == {}


@pytest.mark.parametrize(("price", "low", "high"), [(100, 50, 150), (101, 50, 152), (1, 0, 2), (3, 1, 5)])
def test_a_stale_price_lies_within_its_widest_band_rounded_outwards(price: int, low: int, high: int) -> None:
    market = a_market()
    market.prices[1] = price
    market.stale[1] = True
    assert market.open_range(1) == (low, high)
    assert all(type(edge) is int for edge in market.open_range(1))
    # Quotes that were refused widen it, and are facts.
    market.doubt(1, low, high + 3)
    again = Market.unpacked(market.packed())
    assert again.open_range(1) == (low, high + 3)
    assert again.packed() == market.packed()
    market.stale[1] = False
    market.doubt(1, price + 7, price + 9)
    assert market.open_range(1) == (price, price + 9)
    assert 1 in market.unfresh
    market.mark(1, price)
    assert (market.in_doubt, 1 in market.unfresh) == ({}, False)


@pytest.mark.parametrize("restored", [False, True])
def test_a_mark_in_doubt_goes_stale_when_its_time_has_come(restored: bool) -> None:
    market = a_market()
    market.tick_clock(10**9)
    market.mark(3, 50)
    market.doubt(3, 5, 6)
    if restored:
        market = Market.unpacked(market.packed())
    assert market.tick_clock(301 * 10**9) == ([], [])
    assert market.tick_clock(301 * 10**9 + 1) == ([], [3])
    assert market.open_range(3) == (5, 75)


# ---- the directory
# -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pair", "ppm"),
    [((0, 0), 0), ((1, 0), 10**6), ((1, -6), 1), ((1, -7), None), ((25, -2), 250_000), ((5, 1), 50 * 10**6)],
)
def test_fractions_are_counted_in_millionths(pair: tuple[int, int], ppm: int | None) -> None:
    assert parts_per_million(pair) == ppm


def test_a_listing_is_kept_with_all_that_it_says() -> None:
    directory = Directory()
    assert directory.enlist(listed("USDT", "currency", 2)) is None
    directory.enlist(listed("BTC", "currency", 8))
    share = directory.enlist(
        listed(
            "ACME",
            "equity",
            3,
            currency="USDT",
            price_scale=4,
            band=(0, 0),
            band_per_second=(0, 0),
            reanchor_within=(0, 0),
            stale_after_s=1,
        )
    )
    assert share is not None
    assert (share.number, share.name, share.perpetual, share.price_scale, share.quantity_scale) == (
        1,
        "ACME",
        False,
        4,
        3,
    )
    assert (share.band_ppm, share.band_per_second_ppm, share.band_maximum_ppm, share.reanchor_ppm) == (0, 0, 500_000, 0)
    assert (share.stale_after_ns, share.reanchor_quotes) == (10**9, 3)
    assert (share.base.name, share.base.number, share.base.scale, share.currency.name) == ("ACME", 2, 3, "USDT")
    assert directory.asset_by_name["ACME"] is share.base is directory.assets[2]
    perpetual = directory.enlist(listed("P", "perpetual", 3, currency="USDT", band=(1, -6), band_maximum=(0, 0)))
    assert perpetual is not None
    assert (perpetual.number, perpetual.perpetual, perpetual.base, perpetual.currency.name) == (
        2,
        True,
        directory.assets[0],
        "USDT",
    )
    assert (perpetual.band_ppm, perpetual.band_per_second_ppm, perpetual.band_maximum_ppm) == (1, 1000, 0)
    assert directory.instruments == [None, share, perpetual]
    assert "P" not in directory.asset_by_name
    assert [listing.instrument for listing in directory.listings] == ["USDT", "BTC", "ACME", "P"]
    assert isinstance(directory.listings[0], InstrumentListed)


# ---- guards
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "truth"),
    [
        ((0, 5), GuardState.FALSE),
        ((-1, 5), GuardState.UNDECIDED),
        ((-9, -1), GuardState.TRUE),
        ((-9, 0), GuardState.UNDECIDED),
        ((None, -1), GuardState.TRUE),
        ((None, 0), GuardState.UNDECIDED),
        ((0, None), GuardState.FALSE),
        ((-1, None), GuardState.UNDECIDED),
        ((None, None), GuardState.UNDECIDED),
    ],
)
def test_a_guard_is_decided_where_all_that_is_open_says_the_same(
    span: tuple[int | None, int | None], truth: GuardState
) -> None:
    assert guard_state_of(span) is truth


def test_an_excess_is_negative_exactly_where_the_guard_breaches() -> None:
    rng = Random(1)
    for _ in range(500):
        numerator, denominator, debit = rng.randint(0, 9), rng.randint(1, 9), rng.randint(0, 30)
        value, offset, inclusive = rng.randint(-20, 60), rng.randint(-9, 9), rng.random() < 0.5
        guard = Guard(Ratio(numerator, denominator), offset, inclusive)
        level = numerator * debit + offset * denominator
        breaches = value * denominator <= level if inclusive else value * denominator < level
        if debit == 0 and value >= 0:
            breaches = False
        assert (guard.excess(value, debit) < 0) is breaches
    assert Guard(Ratio(3, 2), 4, inclusive=True).excess(10, 2) == 20 - 6 - 8 - 1
    assert Guard(Ratio(3, 2), 4, inclusive=False).excess(-1, 0) == -2 - 8
    assert Guard(Ratio(3, 2), -4, inclusive=False).excess(1, 0) == 2 + 8
    assert Guard(Ratio(3, 2), 4, inclusive=False).excess(0, 0) == 0
    assert Guard(Ratio(3, 2), 0, inclusive=True).excess(0, 1) == -4
    assert MarginFigures(1, 2) == (1, 2, False)


# ---- faults
# ----------------------------------------------------------------------------------------------------------------------


def test_a_fault_says_what_does_not_hold_and_with_which_numbers() -> None:
    check(True, "never seen", n=1)
    with pytest.raises(Fault) as caught:
        check(False, "all is well")
    assert str(caught.value) == "not so: all is well"
    with pytest.raises(Fault) as caught:
        check(False, "all is well", first=1, second="two")
    assert str(caught.value) == "not so: all is well (first=1, second=two)"
    assert issubclass(Mismatch, Fault)
