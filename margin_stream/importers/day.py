"""A whole day from market files: listings, profile, seeded accounts, clocks and ticks, in one stream of inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from margin_stream import profiles
from margin_stream.importers.market import MarketFile, base_currency_of, listings, market_events
from margin_stream.simulation import books
from schemas.inputs import AnyInput, ClockTicked


@dataclass(frozen=True, slots=True)
class Accounts:
    """The seeded accounts of an import."""

    count: int
    seed: int
    profile: str
    cover_low: int = 1450
    """Least V / D at the start, in thousandths."""
    cover_high: int = 3000


def day_events(market: MarketFile, accounts: Accounts | None) -> Iterator[AnyInput]:
    """Yield the inputs: the directory, then clocks and ticks; accounts open first and get their books after the first ticks.

    Positions are in instruments that tick at the first moment, so that every account has a value from the start.

    Raises:
        profiles.UnknownProfile: the accounts name a profile that is not shipped.
    """
    if accounts is None:
        yield from listings(market, f"{market.source}/book", 1)
        yield from market_events(market)
        return
    source = f"{market.source}/book/{accounts.count}-{accounts.seed}-{accounts.profile}-{accounts.cover_low}-{accounts.cover_high}"
    plan = books.BookPlan(
        accounts.count,
        accounts.seed,
        profiles.load(accounts.profile),
        base_currency_of(market.pairs),
        cover_low=accounts.cover_low,
        cover_high=accounts.cover_high,
    )
    at_ns = market.started_ns
    sequence = 0
    for listed in listings(market, source, 1):
        sequence += 1
        yield listed
    sequence += 1
    yield books.activation(market.pairs, plan, source, sequence, at_ns)
    for opened in books.openings(plan, source, sequence + 1, at_ns):
        sequence += 1
        yield opened
    at_first = {market.pairs[bar.symbol].name: bar.open for bar in market.bars if bar.opened_ns == at_ns}
    assets = books.quoted_assets(market.pairs, at_first, plan)
    clocks = 0
    for event in market_events(market):
        if isinstance(event, ClockTicked):
            clocks += 1
            if clocks == 2:
                yield from books.opening_books(plan, assets, source, sequence + 1, at_ns)
        yield event
