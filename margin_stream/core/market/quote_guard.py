"""The quote guard: which quotes become marks.

A quote must be positive and lie within a band around the last accepted mark; the band widens with the time since, up to
its maximum. A single print outside is refused and the mark stands, in doubt; quotes outside that agree, or one from a
second source that agrees with the one before, re-anchor the mark: so a true crash after a gap is followed, and a wrong
print of a tenth is not. Quotes that do not agree and stay on one side for the staleness limit re-anchor it too, at the
one of them nearest to it.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from margin_stream.core.market.directory import PPM, Instrument
from margin_stream.core.market.market import Market

SECOND_NS = 1_000_000_000


class Quote(Enum):
    """What becomes of a quote."""

    ACCEPTED = ""
    CONSECUTIVE = "consecutive"
    SECOND_SOURCE = "second_source"
    ONE_SIDE = "one_side"
    NOT_POSITIVE = "not_positive"
    CROSSED = "crossed"
    DEVIATION = "deviation"

    @property
    def marks(self) -> bool:
        """A price becomes the mark."""
        return self in (Quote.ACCEPTED, Quote.CONSECUTIVE, Quote.SECOND_SOURCE, Quote.ONE_SIDE)


class Refused:
    """The quotes of one instrument that were refused for their distance, since the last that was accepted."""

    __slots__ = ("count", "nearest", "quotes", "since_ns", "upper")

    def __init__(self) -> None:
        self.quotes: list[tuple[int, str]] = []
        """(price, source) of the latest, oldest first: as many as must agree."""
        self.upper = False
        """The latest lie above the mark."""
        self.count = 0
        """How many in a row lie on this side."""
        self.since_ns = 0
        """The clock at the first of them."""
        self.nearest = 0
        """The one of them nearest to the mark."""

    def add(self, price: int, source: str, mark: int, clock_ns: int, kept: int) -> None:
        """Take a refused quote."""
        upper = price > mark
        if not self.count or upper is not self.upper:
            self.upper, self.count, self.since_ns, self.nearest = upper, 0, clock_ns, price
        self.count += 1
        self.nearest = min(self.nearest, price) if upper else max(self.nearest, price)
        self.quotes.append((price, source))
        del self.quotes[:-kept]

    def row(self) -> list[object]:
        """Return the facts."""
        return [self.quotes, int(self.upper), self.count, self.since_ns, self.nearest]

    @staticmethod
    def of_row(quotes: list[Any], upper: int, count: int, since_ns: int, nearest: int) -> Refused:
        """Return what has these facts."""
        found = Refused()
        found.quotes = [(price, source) for price, source in quotes]
        found.upper, found.count, found.since_ns, found.nearest = bool(upper), count, since_ns, nearest
        return found


class QuoteGuard:
    """Remembers, an instrument, the quotes refused in a row."""

    def __init__(self) -> None:
        self.refused: dict[int, Refused] = {}
        """By instrument; emptied by an accepted quote."""

    def judge(self, instrument: Instrument, price: int, source: str, market: Market) -> tuple[Quote, int]:
        """Return what becomes of a quote, and the price that becomes the mark if one does; the market is not changed.

        Example: mark 100, 20 s old, band 10 % plus 0.1 % a second: 112 is accepted, 113 is not.
        """
        if price <= 0:
            return Quote.NOT_POSITIVE, 0
        number = instrument.number
        mark = market.prices[number]
        if mark == 0:
            return Quote.ACCEPTED, price
        if within_band(instrument, price, market):
            if number in self.refused:
                del self.refused[number]
            return Quote.ACCEPTED, price
        refused = self.refused.get(number)
        if refused is None:
            refused = self.refused[number] = Refused()
        last = refused.quotes[-1:]
        refused.add(price, source, mark, market.clock_ns, instrument.reanchor_quotes)
        found, accepted = Quote.DEVIATION, 0
        if last and last[0][1] != source and _agree([last[0], (price, source)], instrument.reanchor_ppm):
            found, accepted = Quote.SECOND_SOURCE, price
        elif len(refused.quotes) == instrument.reanchor_quotes and _agree(refused.quotes, instrument.reanchor_ppm):
            found, accepted = Quote.CONSECUTIVE, price
        elif (
            refused.count >= instrument.reanchor_quotes
            and market.clock_ns - refused.since_ns >= instrument.stale_after_ns
        ):
            found, accepted = Quote.ONE_SIDE, refused.nearest
        if accepted:
            del self.refused[number]
        return found, accepted


def within_band(instrument: Instrument, price: int, market: Market) -> bool:
    """Return whether a price lies within the band around the mark, as wide as it is now."""
    number = instrument.number
    mark = market.prices[number]
    if market.stale[number]:
        band_ppm = instrument.band_maximum_ppm
    else:
        age_ns = market.clock_ns - market.marked_at_ns[number]
        band_ppm = instrument.band_ppm + instrument.band_per_second_ppm * age_ns // SECOND_NS
        if band_ppm > instrument.band_maximum_ppm:
            band_ppm = instrument.band_maximum_ppm
    return abs(price - mark) * PPM <= band_ppm * mark


def _agree(quotes: list[tuple[int, str]], within_ppm: int) -> bool:
    prices = [price for price, _ in quotes]
    lowest = min(prices)
    return (max(prices) - lowest) * PPM <= within_ppm * lowest
