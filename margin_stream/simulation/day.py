"""A whole day from market files: listings, profiles, seeded accounts, clocks and ticks, in one stream of inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count

import msgspec

from margin_stream import profiles
from margin_stream.importers.binance import Funding
from margin_stream.importers.market import MarketFile, Pair, base_currency_of, listings, market_events
from margin_stream.schemas.decimals import parse_pair
from margin_stream.schemas.inputs import AnyInput, ClockTicked, FundingPaid, PriceTicked
from margin_stream.simulation import books, perpetual_books
from margin_stream.simulation.perpetual_books import FUNDING_EVERY_NS, USDM, Tables, perpetual_name


@dataclass(frozen=True, slots=True)
class Accounts:
    """The seeded accounts of an import."""

    count: int
    seed: int
    profiles: tuple[str, ...]
    """Accounts take them in turn."""
    cover_low: int = 1450
    """Least V / D at the start of an account in spot, in thousandths."""
    cover_high: int = 3000
    within_margin: bool = False
    """Books in perpetuals start within the venue's leverage and their deposit; else a few start in liquidation."""


def day_events(
    market: MarketFile, accounts: Accounts | None, tables: Tables | None = None, rates: Sequence[Funding] = ()
) -> Iterator[AnyInput]:
    """Yield the inputs: the directory, then clocks and ticks; accounts open first and get their books after the first
    ticks.

    Positions are in instruments that tick at the first moment, so that every account has a value from the start. With
    tables, every pair that has one is listed as a perpetual too, which ticks with the pair's prices, and
    ``binance-usdm`` is activated with them. Funding is paid at the given rates; without them seeded accounts pay a
    fixed one.

    Raises:
        profiles.UnknownProfile: the accounts name a profile that is not shipped.
    """
    base = base_currency_of(market.pairs)
    usable = {
        symbol: pair
        for symbol, pair in market.pairs.items()
        if tables is not None and pair.currency == base and pair.name in tables
    }
    # The directory and the accounts are of one source, numbered one after the other.
    source, numbers = _source_of(market, accounts, tables, rates), count(1)
    at_ns = market.started_ns
    yield from listings(market, source, numbers)
    for symbol, pair in sorted(usable.items(), key=lambda row: row[1].name):
        yield perpetual_books.listing(pair, market.scales.get(symbol, 0), source, next(numbers), at_ns)
    if tables is not None:
        used = {pair.name: tables[pair.name] for pair in usable.values()}
        yield perpetual_books.activation(base, used, source, next(numbers), at_ns, "importer")
    ticks = market_events(market) if tables is None else _with_perpetuals(market, usable)
    if rates:
        ticks = _with_funding(ticks, {pair.name: perpetual_name(pair) for pair in usable.values()}, rates, source)
    if accounts is None:
        yield from ticks
        return
    yield from _with_books(
        ticks,
        market,
        accounts,
        base,
        usable,
        tables if accounts.within_margin else None,
        source,
        numbers,
        seeded=not rates,
    )


def _source_of(market: MarketFile, accounts: Accounts | None, tables: Tables | None, rates: Sequence[Funding]) -> str:
    """Return a name that differs where the events do."""
    name = f"{market.source}/book"
    if accounts is not None:
        parts = (accounts.count, accounts.seed, "+".join(accounts.profiles), accounts.cover_low, accounts.cover_high)
        name += "/" + "-".join(map(str, parts)) + "/within-margin" * accounts.within_margin
    if tables is not None:
        content = msgspec.json.encode({pair: list(tables[pair]) for pair in sorted(tables)})
        name += f"/brackets@{sha256(content).hexdigest()[:12]}"
    if rates:
        name += f"/rates@{sha256(msgspec.json.encode(rates)).hexdigest()[:12]}"
    return name


def _with_perpetuals(market: MarketFile, usable: Mapping[str, Pair]) -> Iterator[AnyInput]:
    """Yield the market's events, each tick of a usable pair followed by one of its perpetual; these come from a feed of
    their own."""
    named = {pair.name: perpetual_name(pair) for pair in usable.values()}
    source, numbers = f"{market.source}/perpetual", count(1)
    for event in market_events(market):
        yield event
        if isinstance(event, PriceTicked) and event.instrument in named:
            yield PriceTicked(
                source=source,
                source_seq=next(numbers),
                event_time=event.event_time,
                instrument=named[event.instrument],
                price=event.price,
            )


def _with_funding(
    ticks: Iterator[AnyInput], names: Mapping[str, str], rates: Sequence[Funding], source: str
) -> Iterator[AnyInput]:
    """Yield the ticks with funding behind the first clock at or past its time, once its perpetual has a mark; what fell
    due before that is of another day.

    Args:
        names: pair -> its perpetual; rates of other symbols are passed over.
        rates: in order of time.
        source: of the day.
    """
    numbers, place = count(1), 0
    marked: set[str] = set()
    for event in ticks:
        yield event
        if isinstance(event, PriceTicked):
            marked.add(event.instrument)
        elif isinstance(event, ClockTicked):
            while place < len(rates) and rates[place].time_ns <= event.time:
                due = rates[place]
                place += 1
                name = names.get(due.symbol)
                if name in marked:
                    yield FundingPaid(
                        source=f"{source}/funding",
                        source_seq=next(numbers),
                        event_time=due.time_ns,
                        instrument=str(name),
                        rate=parse_pair(due.rate),
                    )


def _with_books(
    ticks: Iterator[AnyInput],
    market: MarketFile,
    accounts: Accounts,
    base: str,
    usable: Mapping[str, Pair],
    tables: Tables | None,
    source: str,
    numbers: Iterator[int],
    *,
    seeded: bool,
) -> Iterator[AnyInput]:
    """Yield the ticks with the accounts' openings before them, their books behind the first moment, and funding at its
    hours."""
    at_ns = market.started_ns
    names = accounts.profiles
    spot = [name for name in names if name != USDM]
    plan = books.BookPlan(
        accounts.count,
        accounts.seed,
        profiles.load(spot[0] if spot else names[0]),
        base,
        cover_low=accounts.cover_low,
        cover_high=accounts.cover_high,
    )
    if spot:
        yield books.activation(market.pairs, plan, source, next(numbers), at_ns)
    yield from books.openings(plan, source, numbers, at_ns, names)
    at_first = {market.pairs[bar.symbol].name: bar.open for bar in market.bars if bar.opened_ns == at_ns}
    perpetuals = perpetual_books.perpetuals_of(usable, market.scales, at_first, tables)
    funded = [perpetual.name for perpetual in perpetuals] if seeded else []
    funding_ns = (at_ns // FUNDING_EVERY_NS + 1) * FUNDING_EVERY_NS
    clocks = 0
    for event in ticks:
        if isinstance(event, ClockTicked):
            clocks += 1
            if clocks == 2:
                for place, name in enumerate(names):
                    mine = [books.account_id(number) for number in range(place + 1, accounts.count + 1, len(names))]
                    if name == USDM:
                        yield from perpetual_books.opening_books(
                            mine, accounts.seed, base, perpetuals, source, numbers, at_ns
                        )
                    else:
                        assets = books.quoted_assets(market.pairs, at_first, plan)
                        yield from books.opening_books(plan, assets, source, numbers, at_ns, mine)
        yield event
        if isinstance(event, ClockTicked) and funded and clocks >= 2 and event.time >= funding_ns:
            yield from perpetual_books.funding(funded, funding_ns, f"{source}/funding")
            funding_ns += FUNDING_EVERY_NS
