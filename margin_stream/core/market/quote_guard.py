"""The quote guard: which quotes become marks.

A quote must be positive and lie within a band around the last accepted mark; the band widens with the time since, up to
its maximum. A single print outside is refused and the mark stands; quotes outside that agree, or one from a second
source that agrees with the one before, re-anchor the mark: so a true crash after a gap is believed, and a wrong print
of a tenth is not.
"""

from __future__ import annotations

from enum import Enum

from margin_stream.core.market.directory import PPM, Instrument
from margin_stream.core.market.market import Market

SECOND_NS = 1_000_000_000


class Quote(Enum):
    """What becomes of a quote."""

    ACCEPTED = ""
    CONSECUTIVE = "consecutive"
    SECOND_SOURCE = "second_source"
    NOT_POSITIVE = "not_positive"
    CROSSED = "crossed"
    DEVIATION = "deviation"

    @property
    def marks(self) -> bool:
        """The quote becomes the mark."""
        return self in (Quote.ACCEPTED, Quote.CONSECUTIVE, Quote.SECOND_SOURCE)


class QuoteGuard:
    """Remembers, an instrument, the quotes refused in a row."""

    def __init__(self) -> None:
        self.refused: dict[int, list[tuple[int, str]]] = {}
        """Instrument -> (price, source) of the latest quotes refused for deviation, oldest first; emptied by an
        accepted one."""

    def judge(self, instrument: Instrument, price: int, source: str, market: Market) -> Quote:
        """Say what becomes of a quote; the market is not changed.

        Example: mark 100, 20 s old, band 10 % plus 0.1 % a second: 112 is accepted, 113 is not.
        """
        if price <= 0:
            return Quote.NOT_POSITIVE
        number = instrument.number
        mark = market.prices[number]
        if mark == 0:
            return Quote.ACCEPTED
        if market.stale[number]:
            band_ppm = instrument.band_maximum_ppm
        else:
            age_ns = market.clock_ns - market.marked_at_ns[number]
            band_ppm = instrument.band_ppm + instrument.band_per_second_ppm * age_ns // SECOND_NS
            if band_ppm > instrument.band_maximum_ppm:
                band_ppm = instrument.band_maximum_ppm
        if abs(price - mark) * PPM <= band_ppm * mark:
            if number in self.refused:
                del self.refused[number]
            return Quote.ACCEPTED
        row = self.refused.setdefault(number, [])
        agrees_with_last = bool(row) and _agree((row[-1][0], price), instrument.reanchor_ppm)
        if agrees_with_last and row[-1][1] != source:
            del self.refused[number]
            return Quote.SECOND_SOURCE
        row.append((price, source))
        del row[: -instrument.reanchor_quotes]
        if len(row) == instrument.reanchor_quotes and _agree([quote for quote, _ in row], instrument.reanchor_ppm):
            del self.refused[number]
            return Quote.CONSECUTIVE
        return Quote.DEVIATION


def _agree(prices: tuple[int, ...] | list[int], within_ppm: int) -> bool:
    lowest = min(prices)
    return (max(prices) - lowest) * PPM <= within_ppm * lowest
