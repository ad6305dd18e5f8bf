"""The scenarios of ``simulate``: a crash, a walk, a quiet day; spot on credit, and perpetuals beside it where they are
asked for.

Prices move in integers of a billionth, by sums of uniform draws (no float, so every machine gives the same bytes): a
common shock and one of their own an instrument, now and then a jump, pulled back towards a path. In the crash the path
falls as deep as 19 May 2021
did: BTC -30 %, ETH -44 %, at its lowest exactly. The mark of a perpetual is its pair's price and a small basis; the
prices of the pairs are the same with and without perpetuals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count, pairwise
from random import Random

import msgspec

from margin_stream import profiles
from margin_stream.importers.market import CURRENCY_SCALES, Pair
from margin_stream.schemas.decimals import canonical, format_scaled, whole
from margin_stream.schemas.inputs import (
    AnyInput,
    ClockTicked,
    CollateralMoved,
    InstrumentListed,
    PositionChanged,
    PriceTicked,
)
from margin_stream.schemas.times import parse_time
from margin_stream.simulation import DEFAULT_PROFILES, answers, books, perpetual_books
from margin_stream.simulation.perpetual_books import FUNDING_EVERY_NS, SUFFIX, USDM, Perpetual, Tables
from margin_stream.simulation.synthetic_brackets import synthetic_brackets
from margin_stream.simulation.venue import Venue

SECOND_NS = 1_000_000_000
STEP_S = 20
STEPS = 86_400 // STEP_S
"""Steps of the day itself."""
AFTER_STEP_S = 240
AFTER_STEPS = 86_400 // AFTER_STEP_S
"""Steps of the day after, on which calls fall due: fewer, and flat."""
BILLION = 10**9
MIXED_PROFILES = ("prime", "prime", "prime", "prime", USDM)
"""Of the demos: four accounts in spot on credit to one in perpetuals."""
BASIS_SHOCK = 20_000
"""Of a perpetual against its pair, a step, in billionths; a sixtieth of the basis goes back each step."""


@dataclass(frozen=True, slots=True)
class Coin:
    """A simulated instrument against USDT."""

    base: str
    price: int
    """At the start, in units of the price scale."""
    price_scale: int
    depth: int
    """How far the crash takes it, in thousandths of the price at the start."""
    illiquid: int = 2
    """On which step of the ladder its synthetic leverage brackets begin at best, 0 for the highest leverage."""


COINS = (
    Coin("ADA", 19500, 4, 420),
    Coin("BCH", 112000, 2, 470),
    Coin("BTC", 4290000, 2, 300, 0),
    Coin("DOGE", 47900, 5, 430),
    Coin("DOT", 40100, 3, 480),
    Coin("ETH", 338000, 2, 440, 0),
    Coin("LINK", 41300, 3, 490),
    Coin("LTC", 27500, 2, 440),
    Coin("XMR", 33800, 2, 460),
    Coin("XRP", 15900, 4, 410),
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """How prices move."""

    day: str
    common: int
    """Common shock a step, in billionths (about a standard deviation)."""
    own: int
    jumps: int
    """Jumps an instrument and 10,000 steps."""
    jump_size: int
    path: tuple[tuple[int, int], ...]
    """(step, thousandths of the crash's depth): straight lines between."""
    cover: tuple[int, int]
    """V / D at the start, in thousandths."""
    largest_trade: int
    """In whole USDT, of perpetuals ten times as much; 0 for a day without trades."""


SCENARIOS = {
    # A crash as deep as 19 May 2021: BTC -30 %, ETH -44 %.
    "crash": Scenario(
        "2021-05-19T00:00:00Z",
        common=260_000,
        own=240_000,
        jumps=8,
        jump_size=12_000_000,
        path=((0, 0), (1500, 150), (2050, 420), (2300, 640), (2360, 1000), (2420, 720), (2800, 480), (STEPS, 520)),
        cover=(1450, 3000),
        largest_trade=4000,
    ),
    # A correlated walk with jumps.
    "walk": Scenario(
        "2021-04-14T00:00:00Z",
        common=300_000,
        own=300_000,
        jumps=8,
        jump_size=15_000_000,
        path=((0, 0), (STEPS, 0)),
        cover=(1420, 2600),
        largest_trade=4000,
    ),
    # A quiet day on which nobody is called.
    "quiet": Scenario(
        "2021-06-30T00:00:00Z",
        common=40_000,
        own=40_000,
        jumps=0,
        jump_size=0,
        path=((0, 0), (STEPS, 0)),
        cover=(2000, 5000),
        largest_trade=0,
    ),
}


class UnknownScenario(ValueError):
    """No scenario of that name."""


def pairs() -> dict[str, Pair]:
    """Return the pairs that are simulated, by their name."""
    return {f"{coin.base}USDT": Pair(f"{coin.base}USDT", "spot", coin.base, "USDT") for coin in COINS}


def simulate(
    name: str, accounts: int, seed: int, profile_names: Sequence[str] = DEFAULT_PROFILES, tables: Tables | None = None
) -> Iterator[AnyInput]:
    """Yield the inputs of a simulated day and of the quiet day after it, answers to its margin calls among them.

    With ``binance-usdm`` among the profiles, or with tables, perpetuals are listed: one beside each pair that has a
    table. They are funded every eight hours, traded, and closed by the venue where liquidation is due.

    Args:
        name: of a scenario.
        accounts: how many.
        seed: of prices, accounts, trades, answers and synthetic brackets.
        profile_names: shipped margin profiles; accounts take them in turn.
        tables: leverage brackets by pair; left out, synthetic ones where a profile needs them.

    Raises:
        UnknownScenario: the text lists those that there are.
    """
    scenario = SCENARIOS.get(name)
    if scenario is None:
        raise UnknownScenario(f"no scenario {name!r}; there are: {', '.join(sorted(SCENARIOS))}")
    source = f"sim/{name}/{accounts}/{seed}"
    if tuple(profile_names) != DEFAULT_PROFILES:
        source += f"/{'+'.join(profile_names)}"
    if tables is not None:
        content = msgspec.json.encode({pair: list(tables[pair]) for pair in sorted(tables)})
        source += f"/brackets@{sha256(content).hexdigest()[:12]}"
    elif USDM in profile_names:
        tables = synthetic_brackets({f"{coin.base}USDT": coin.illiquid for coin in COINS}, seed)
    members = {
        books.account_id(number): profile_names[(number - 1) % len(profile_names)] for number in range(1, accounts + 1)
    }
    usdm = sorted(account for account, profile in members.items() if profile == USDM)
    venue = (
        None
        if tables is None
        else Venue(f"{source}/venue", seed, accounts=usdm, largest_trade=10 * scenario.largest_trade)
    )
    spot = next((profile for profile in profile_names if profile != USDM), "")
    day = _day(scenario, accounts, seed, source, spot, members, tables)
    yield from answers.with_answers(day, seed, f"{source}/answers", venue)


def _day(
    scenario: Scenario,
    accounts: int,
    seed: int,
    source: str,
    spot: str,
    members: Mapping[str, str],
    tables: Tables | None,
) -> Iterator[AnyInput]:
    """Yield the day without what the venue and the called do.

    Args:
        spot: the profile of accounts in spot; empty for none.
        members: account -> profile.
        tables: leverage brackets by pair; None for a day without perpetuals.
    """
    start_ns = parse_time(scenario.day)
    book, feed = f"{source}/book", f"{source}/feed"
    listed = pairs()
    low, high = scenario.cover
    plan = books.BookPlan(
        accounts, seed, profiles.load(spot or DEFAULT_PROFILES[0]), "USDT", cover_low=low, cover_high=high
    )
    numbers, feed_numbers = count(1), count(1)
    for currency in ("USDT", *(coin.base for coin in COINS)):
        scale = CURRENCY_SCALES.get(currency, 8)
        yield InstrumentListed(
            source=book,
            source_seq=next(numbers),
            event_time=start_ns,
            instrument=currency,
            kind="currency",
            quantity_scale=scale,
        )
    for coin in COINS:
        yield InstrumentListed(
            source=book,
            source_seq=next(numbers),
            event_time=start_ns,
            instrument=f"{coin.base}USDT",
            kind="spot",
            quantity_scale=6,
            base=coin.base,
            currency="USDT",
            price_scale=coin.price_scale,
        )
    perpetuals = _perpetuals(tables)
    for coin, _ in perpetuals:
        yield perpetual_books.listing(listed[f"{coin.base}USDT"], coin.price_scale, book, next(numbers), start_ns)
    if spot:
        yield books.activation(listed, plan, book, next(numbers), start_ns)
    if tables is not None:
        used = {f"{coin.base}USDT": perpetual.table for coin, perpetual in perpetuals}
        yield perpetual_books.activation("USDT", used, book, next(numbers), start_ns, "simulator")
    yield from books.openings(plan, book, numbers, start_ns, list(members.values()))
    yield ClockTicked(source=feed, source_seq=next(feed_numbers), event_time=start_ns, time=start_ns)
    for coin in COINS:
        yield _tick(feed, next(feed_numbers), start_ns, f"{coin.base}USDT", coin, coin.price)
    for coin, perpetual in perpetuals:
        yield _tick(feed, next(feed_numbers), start_ns, perpetual.name, coin, coin.price)
    first = {f"{coin.base}USDT": format_scaled(coin.price, coin.price_scale) for coin in COINS}
    assets = books.quoted_assets(listed, first, plan)
    held = [perpetual for _, perpetual in perpetuals]
    in_spot, in_perpetuals = ([name for name in members if (members[name] == USDM) is usdm] for usdm in (False, True))
    yield from books.opening_books(plan, assets, book, numbers, start_ns, in_spot)
    yield from perpetual_books.opening_books(in_perpetuals, seed, "USDT", held, book, numbers, start_ns)
    # Of their own, so that the pairs have the same prices without perpetuals.
    basis_rng = Random(f"basis/{seed}")
    basis = dict.fromkeys((perpetual.name for perpetual in held), 0)
    funding_ns = (start_ns // FUNDING_EVERY_NS + 1) * FUNDING_EVERY_NS
    rng = Random(seed * 7919 + 1)
    noise = dict.fromkeys((coin.base for coin in COINS), BILLION)
    prices = {coin.base: coin.price for coin in COINS}
    deepest = max(range(len(scenario.path)), key=lambda n: scenario.path[n][1])
    bottom = scenario.path[deepest][0] if scenario.path[deepest][1] else -1
    for step in range(1, STEPS + AFTER_STEPS):
        seconds = step * STEP_S if step < STEPS else 86_400 + (step - STEPS) * AFTER_STEP_S
        now = start_ns + seconds * SECOND_NS
        yield ClockTicked(source=feed, source_seq=next(feed_numbers), event_time=now, time=now)
        depth = _on_path(scenario.path, step)
        common = _draw(rng) * scenario.common // BILLION
        for coin in COINS:
            shock = common + _draw(rng) * scenario.own // BILLION
            if scenario.jumps and rng.randrange(10_000) < scenario.jumps:
                shock += rng.choice((-1, 1)) * rng.randrange(scenario.jump_size)
            level = noise[coin.base]
            level += level * shock // BILLION + (BILLION - level) // 120
            if step == bottom:
                level = BILLION
            noise[coin.base] = level
            path_price = coin.price * (1_000_000 - depth * coin.depth)
            price = max(1, path_price * level // (1_000_000 * BILLION))
            if bottom >= 0:
                price = max(price, coin.price * (1000 - coin.depth) // 1000)
            prices[coin.base] = price
            yield _tick(feed, next(feed_numbers), now, f"{coin.base}USDT", coin, price)
        for coin, perpetual in perpetuals:
            level = basis[perpetual.name]
            level += _draw(basis_rng) * BASIS_SHOCK // BILLION - level // 60
            basis[perpetual.name] = level
            price = max(1, prices[coin.base] * (BILLION + level) // BILLION)
            yield _tick(feed, next(feed_numbers), now, perpetual.name, coin, price)
        if basis and now >= funding_ns:
            yield from perpetual_books.funding(list(basis), funding_ns, f"{source}/funding")
            funding_ns += FUNDING_EVERY_NS
        if accounts and scenario.largest_trade:
            for event in _activity(rng, scenario.largest_trade, accounts, now, book, prices):
                if members[event.account] == USDM:
                    if isinstance(event, PositionChanged):
                        continue  # The venue sees to its clients' trades.
                    event = _deposited(event)
                yield books.numbered(event, book, next(numbers))


def _perpetuals(tables: Tables | None) -> list[tuple[Coin, Perpetual]]:
    """Return the perpetuals that have a table, with their coins, in order of name."""
    named = {f"{coin.base}USDT": coin for coin in COINS}
    return [
        (
            coin,
            Perpetual(
                f"{pair}{SUFFIX}", format_scaled(coin.price, coin.price_scale), coin.price_scale, tuple(tables[pair])
            ),
        )
        for pair, coin in named.items()
        if tables is not None and pair in tables
    ]


def _deposited(event: CollateralMoved) -> CollateralMoved:
    """Return a movement of money as a deposit: a withdrawal would need free margin, which nobody looks at here."""
    mantissa, exponent = event.amount_delta
    return msgspec.structs.replace(event, amount_delta=(abs(whole(mantissa)), exponent), reason="deposit")


def _activity(
    rng: Random, largest: int, accounts: int, now: int, book: str, prices: dict[str, int]
) -> Iterator[PositionChanged | CollateralMoved]:
    """Yield the trades and movements of money of one step: about one account in two thousand trades, one in eight
    thousand moves money."""
    for _ in range(_times(rng, accounts, 2000)):
        coin = COINS[rng.randrange(len(COINS))]
        price = prices[coin.base]
        worth = rng.randrange(50, largest)
        quantity = max(1, worth * 10 ** (4 + coin.price_scale) // price) * rng.choice((-1, 1))
        yield PositionChanged(
            source=book,
            source_seq=0,
            event_time=now,
            account=books.account_id(1 + rng.randrange(accounts)),
            instrument=f"{coin.base}USDT",
            quantity_delta=canonical(quantity, -4),
            price=canonical(price, -coin.price_scale),
            fee=canonical(worth // 20, -2),
            reason="trade",
        )
    for _ in range(_times(rng, accounts, 8000)):
        amount = rng.randrange(100, 5000) * rng.choice((-1, 1, 1))
        yield CollateralMoved(
            source=book,
            source_seq=0,
            event_time=now,
            account=books.account_id(1 + rng.randrange(accounts)),
            asset="USDT",
            amount_delta=canonical(amount, 0),
            reason="deposit" if amount > 0 else "withdrawal",
        )


def _times(rng: Random, accounts: int, one_in: int) -> int:
    whole, rest = divmod(accounts, one_in)
    return whole + (rng.randrange(one_in) < rest)


def _draw(rng: Random) -> int:
    """Return about a normal draw in billionths: the ones among 256 fair bits, smoothed by a uniform draw."""
    return ((rng.getrandbits(256).bit_count() - 128) * BILLION + rng.getrandbits(30) - (1 << 29)) // 8


def _on_path(path: tuple[tuple[int, int], ...], step: int) -> int:
    for (start, low), (end, high) in pairwise(path):
        if step <= end:
            return low + (high - low) * (step - start) // (end - start)
    return path[-1][1]


def _tick(source: str, sequence: int, now: int, instrument: str, coin: Coin, price: int) -> PriceTicked:
    return PriceTicked(
        source=source,
        source_seq=sequence,
        event_time=now,
        instrument=instrument,
        price=canonical(price, -coin.price_scale),
    )
