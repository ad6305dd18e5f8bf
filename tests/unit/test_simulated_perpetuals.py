"""The simulator with perpetuals: the default day keeps its bytes, seeds are reproducible, books and tables are ones
that a venue would allow."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import cache
from hashlib import sha256
from itertools import count, islice

import pytest

from margin_stream.core.margin.brackets import bracket_of, faults_of
from margin_stream.schemas.decimals import DecimalPair
from margin_stream.schemas.inputs import (
    AccountOpened,
    AnyInput,
    ClockTicked,
    CollateralMoved,
    FundingPaid,
    InstrumentListed,
    PositionChanged,
    PriceTicked,
    ProfileActivated,
)
from margin_stream.schemas.ndjson import encode_line
from margin_stream.simulation.perpetual_books import LEVERAGES, USED_SHARE, Perpetual, Tables, opening_books
from margin_stream.simulation.scenarios import COINS, DEFAULT_PROFILES, MIXED_PROFILES, UnknownScenario, simulate
from margin_stream.simulation.synthetic_brackets import synthetic_brackets

PAIRS = {f"{coin.base}USDT": coin.illiquid for coin in COINS}
BOTH = ("prime", "binance-usdm")
DEFAULT_DAYS = {
    "crash": "df90949e09239a749f3d421eeab66f564bb1a4821fff2480a524c76bff05287e",
    "walk": "a604d8dc6220b582652804a5cd29f08a1cb2605e7f548d0179cbfcf4b775886b",
    "quiet": "969e0e7859a10b01bc5cbb805ab24719e6307233cde9591df47965e9988fa61a",
}
"""SHA-256 of `simulate --scenario NAME --accounts 5 --seed 3`: it changes only with a decision."""


def number(pair: DecimalPair) -> Decimal:
    return Decimal(pair[0]).scaleb(pair[1])


def day(
    scenario: str, accounts: int, seed: int, profiles: Sequence[str] = BOTH, tables: Tables | None = None
) -> Iterator[AnyInput]:
    return simulate(scenario, accounts, seed, profiles, tables)


@cache
def crash() -> tuple[AnyInput, ...]:
    return tuple(day("crash", 80, 2))


@pytest.mark.slow(reason="simulates whole days")
@pytest.mark.parametrize("scenario", sorted(DEFAULT_DAYS))
def test_the_default_day_keeps_its_bytes(scenario: str) -> None:
    digest = sha256()
    for event in simulate(scenario, 5, 3):
        digest.update(encode_line(event))
    assert digest.hexdigest() == DEFAULT_DAYS[scenario]


@pytest.mark.slow(reason="simulates whole days")
def test_equal_arguments_give_equal_bytes_and_others_do_not() -> None:
    def start(seed: int, profiles: Sequence[str] = BOTH, tables: Tables | None = None) -> list[bytes]:
        return [encode_line(event) for event in islice(day("walk", 12, seed, profiles, tables), 3000)]

    first = start(1)
    assert first == start(1)
    others = [start(2), start(1, MIXED_PROFILES), start(1, tables=synthetic_brackets(PAIRS, 9))]
    assert len({b"".join(lines) for lines in (first, *others)}) == 4
    # Days that differ never share a source: one store can take both.
    assert len({lines[0].split(b'"source"')[1].split(b",")[0] for lines in (first, *others)}) == 4


@pytest.mark.slow(reason="simulates whole days")
def test_pairs_have_the_same_prices_with_and_without_perpetuals() -> None:
    def ticks(profiles: Sequence[str]) -> list[tuple[str, DecimalPair]]:
        found = islice(day("crash", 10, 4, profiles), 20_000)
        return [
            (event.instrument, event.price)
            for event in found
            if isinstance(event, PriceTicked) and "-" not in event.instrument
        ]

    alone, beside = ticks(DEFAULT_PROFILES), ticks(BOTH)
    shared = min(len(alone), len(beside))
    assert shared > 5_000
    assert alone[:shared] == beside[:shared]


def test_synthetic_brackets_are_sound_for_any_seed() -> None:
    tables = [table for seed in range(100) for table in synthetic_brackets(PAIRS, seed).values()]
    for table in tables:
        brackets = [bracket_of(row, "") for row in table]
        assert faults_of(brackets) == []
        assert brackets[-1].cap is None
        for bracket in brackets:
            # Initial margin at the largest leverage is twice the rate, so nothing that may be opened is liquidated at
            # once.
            assert bracket.max_leverage is not None
            assert 2 * bracket.rate * bracket.max_leverage == 10**36
    assert len({str(table) for table in tables}) > 500
    assert synthetic_brackets(PAIRS, 5) == synthetic_brackets(PAIRS, 5)
    assert {table[0].max_leverage for table in tables} == {"125", "100", "50", "25"}


@pytest.mark.slow(reason="simulates whole days")
def test_profiles_take_turns_and_each_has_what_it_needs() -> None:
    opened = [event for event in crash() if isinstance(event, AccountOpened)]
    assert [event.profile for event in opened] == [*BOTH] * 40
    activated = {event.profile: event for event in crash() if isinstance(event, ProfileActivated)}
    assert sorted(activated) == sorted(BOTH)
    kinds = Counter(event.kind for event in crash() if isinstance(event, InstrumentListed))
    assert (kinds["spot"], kinds["perpetual"]) == (10, 10)
    profile = {event.account: event.profile for event in opened}
    for event in crash():
        if isinstance(event, PositionChanged):
            assert event.instrument.endswith("-PERP") is (profile[event.account] == "binance-usdm")


@pytest.mark.slow(reason="simulates whole days")
def test_the_day_has_what_a_venue_has() -> None:
    trades = [event for event in crash() if isinstance(event, PositionChanged) and event.instrument.endswith("-PERP")]
    reasons = Counter(event.reason for event in trades)
    assert reasons["opening"] > 40
    assert reasons["trade"] > 40
    assert reasons["liquidation"] > 40
    opening = [event for event in trades if event.reason == "opening"]
    assert len([event for event in opening if event.isolated]) > 5
    assert {event.position_side for event in opening} == {"both", "long", "short"}
    assert len({event.leverage for event in opening}) > 3
    hedged = {event.account for event in opening if event.position_side != "both"}
    assert all(event.position_side != "both" for event in trades if event.account in hedged and not event.isolated)
    hours = {event.event_time % (8 * 3600 * 10**9) for event in crash() if isinstance(event, FundingPaid)}
    assert hours == {0}
    assert len([event for event in crash() if isinstance(event, FundingPaid)]) == 5 * 10


@pytest.mark.slow(reason="simulates whole days")
def test_marks_stay_near_their_pair() -> None:
    latest: dict[str, Decimal] = {}
    furthest = Decimal(0)
    for event in crash():
        if isinstance(event, PriceTicked):
            latest[event.instrument] = number(event.price)
        elif isinstance(event, ClockTicked):
            for name, price in latest.items():
                if name.endswith("-PERP"):
                    furthest = max(furthest, abs(price / latest[name.removesuffix("-PERP")] - 1))
    assert Decimal("0.0001") < furthest < Decimal("0.005")


@pytest.mark.slow(reason="simulates whole days")
def test_liquidations_close_and_never_turn_a_position_round() -> None:
    held: dict[tuple[str, str, str, str], Decimal] = defaultdict(Decimal)
    for event in crash():
        if isinstance(event, PositionChanged) and event.instrument.endswith("-PERP"):
            key = event.account, event.isolated, event.instrument, event.position_side
            before = held[key]
            held[key] += number(event.quantity_delta)
            if event.reason == "liquidation":
                assert before * number(event.quantity_delta) < 0
                assert before * held[key] >= 0
                if event.isolated:
                    assert held[key] == 0


def test_books_of_known_tables_are_within_the_deposit_and_the_venue_s_leverage() -> None:
    tables = synthetic_brackets(PAIRS, 1)
    first = {f"{coin.base}USDT": Decimal(coin.price).scaleb(-coin.price_scale) for coin in COINS}
    perpetuals = [Perpetual(f"{pair}-PERP", f"{first[pair]}", 2, tuple(table)) for pair, table in tables.items()]
    deposits: dict[str, Decimal] = {}
    used: dict[str, Decimal] = defaultdict(Decimal)
    for event in opening_books([f"A-{n:06d}" for n in range(400)], 7, "USDT", perpetuals, "s", count(1), 1):
        if isinstance(event, CollateralMoved):
            deposits[event.account] = number(event.amount_delta)
        if isinstance(event, PositionChanged):
            notional = abs(number(event.quantity_delta)) * first[event.instrument.removesuffix("-PERP")]
            table = tables[event.instrument.removesuffix("-PERP")]
            bracket = next(row for row in reversed(table) if Decimal(row.floor) <= notional)
            assert bracket.max_leverage is not None
            assert 1 <= event.leverage <= min(int(bracket.max_leverage), max(LEVERAGES))
            used[event.account] += notional / event.leverage
            if event.isolated:
                assert number(event.isolated_margin_delta) * event.leverage >= notional * Decimal("0.9")
    assert len(deposits) == 400
    for account, deposit in deposits.items():
        assert used[account] <= deposit * USED_SHARE / 100 + 50  # At least one unit of each perpetual is held.


def test_tables_of_a_file_decide_what_is_listed() -> None:
    tables = {"BTCUSDT": synthetic_brackets(PAIRS, 1)["BTCUSDT"]}
    listed = [
        event.instrument
        for event in islice(day("quiet", 4, 1, tables=tables), 40)
        if isinstance(event, InstrumentListed)
    ]
    assert [name for name in listed if name.endswith("-PERP")] == ["BTCUSDT-PERP"]
    without_accounts = [
        event for event in islice(day("quiet", 4, 1, ("prime",), tables), 40) if isinstance(event, ProfileActivated)
    ]
    assert [event.profile for event in without_accounts] == ["prime", "binance-usdm"]


@pytest.mark.slow(reason="simulates whole days")
def test_without_any_table_nobody_trades_perpetuals() -> None:
    events = list(islice(day("crash", 400, 1, ("binance-usdm",), {}), 30_000))
    assert not [event for event in events if isinstance(event, PositionChanged)]
    assert [event.reason for event in events if isinstance(event, CollateralMoved)].count("opening") == 400


def test_one_profile_alone_and_fewer_accounts_than_profiles() -> None:
    alone = list(islice(day("walk", 6, 1, ("binance-usdm",)), 4000))
    assert [event.profile for event in alone if isinstance(event, ProfileActivated)] == ["binance-usdm"]
    few = [
        event
        for event in islice(day("walk", 1, 1, ("binance-usdm", "prime")), 4000)
        if isinstance(event, PositionChanged)
    ]
    assert few
    assert all(event.instrument.endswith("-PERP") for event in few)


def test_an_unknown_scenario_is_named() -> None:
    with pytest.raises(UnknownScenario, match="storm"):
        next(simulate("storm", 1, 1))
