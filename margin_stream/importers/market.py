"""What every importer of bars does: instruments with fixed scales, a stream of ticks and clocks in one order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from margin_stream.errors import Error
from margin_stream.schemas.decimals import DecimalPair, parse_decimal
from margin_stream.schemas.inputs import AnyInput, ClockTicked, InstrumentListed, PriceTicked

FIAT = ("USD", "EUR", "GBP", "JPY", "CHF", "AUD", "CAD", "NZD", "TRY", "BRL", "ZAR", "PLN", "UAH", "ARS", "MXN")
STABLE = ("USDT", "BUSD", "USDC", "TUSD", "FDUSD", "DAI")
QUOTES = (*STABLE, "BTC", "ETH", "BNB", *FIAT)
"""Currencies that a pair without a separator may end in, tried in this order."""
CURRENCY_SCALES = {**dict.fromkeys((*FIAT, *STABLE), 2), "JPY": 0}
COIN_SCALE = 8
_SHARE = re.compile(r"[A-Z]{1,5}(?:[.-][A-Z]{1,2})?")
"""A share's symbol, with or without its class: AAPL, BRK-B."""
SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
LENGTHS_S = (1, 5, 10, 15, 30, *(60 * n for n in (1, 2, 3, 5, 10, 15, 30, 60, 120, 240, 360, 480, 720, 1440, 10080)))
"""How long bars are, in seconds: a second to a week."""
STALE_AFTER_S = 300


def offsets_ns(length_ns: int) -> tuple[int, int, int, int]:
    """Return when a bar's four prices come, from its opening: in thirds, and a millisecond before its end."""
    return 0, length_ns // 3, 2 * length_ns // 3, length_ns - 1_000_000


class ZoneUnknown(Error, code="time_zone_unknown"):
    """There is no such time zone."""


class ImportFault(Error, code="import_failed"):
    """A file cannot be imported; the text names the file and what to do."""


class RowLeftOut(Error, code="row_left_out"):
    """A row of a file is left out; the import goes on."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its opening (ns since 1970), its symbol, four prices as decimal texts."""

    opened_ns: int
    symbol: str
    open: str
    high: str
    low: str
    close: str

    def ticks(self) -> tuple[str, str, str, str]:
        """Return the four prices in the order in which they are taken to have come: an up bar went down first."""
        if _value(self.close) > _value(self.open):
            return self.open, self.low, self.high, self.close
        return self.open, self.high, self.low, self.close


def _value(text: str) -> int:
    mantissa, exponent = parse_decimal(text)
    return int(mantissa * 10 ** (exponent + 18))


@dataclass(frozen=True, slots=True)
class Pair:
    """An instrument of a market file."""

    name: str
    kind: str
    base: str
    currency: str


def pair_of(symbol: str, kind: str | None = None, quote: str | None = None) -> Pair | None:
    """Return the instrument of a symbol; None where what it is cannot be told.

    ``AAVE_BTC``, ``AAVE/BTC``, ``AAVEBTC`` are pairs where the second is a currency that is known; up to five letters,
    perhaps with a class (``BRK-B``), are a share in USD.

    Args:
        symbol: as the file has it.
        kind: ``spot`` or ``equity``, where the user states it.
        quote: the currency that it is quoted in, where the user states it.
    """
    known = (quote,) if quote else QUOTES
    if kind == "equity":
        return Pair(symbol, "equity", symbol, quote or "USD")
    for separator in ("_", "/", "-"):
        base, found, currency = symbol.partition(separator)
        if found and base and (currency in known or kind == "spot"):
            return Pair(base + currency, "spot", base, currency)
    for currency in known:
        if symbol.isalnum() and symbol.endswith(currency) and len(symbol) > len(currency) + 1:
            return Pair(symbol, "spot", symbol.removesuffix(currency), currency)
    if kind is None and _SHARE.fullmatch(symbol):
        return Pair(symbol, "equity", symbol, quote or "USD")
    return None


@dataclass(slots=True)
class MarketFile:
    """Bars of some instruments, with what must be known before the first tick."""

    source: str
    bars: list[Bar]
    length_ns: int = MINUTE_NS
    """Of each bar; 0 where each is one trade."""
    pairs: dict[str, Pair] = field(default_factory=dict)
    """By symbol."""
    scales: dict[str, int] = field(default_factory=dict)
    """Decimal places of prices, by symbol."""
    first_prices: dict[str, str] = field(default_factory=dict)
    """The first opening price of each symbol, by instrument name."""

    def prepare(self) -> None:
        """Fix the scale of every instrument and put the bars in order."""
        self.bars.sort(key=lambda bar: (bar.opened_ns, bar.symbol))
        for bar in self.bars:
            self.first_prices.setdefault(self.pairs[bar.symbol].name, bar.open)
            scale = max(-parse_decimal(text)[1] for text in (bar.open, bar.high, bar.low, bar.close))
            if scale > self.scales.get(bar.symbol, 0):
                self.scales[bar.symbol] = scale

    @property
    def started_ns(self) -> int:
        """The opening of the first bar."""
        return self.bars[0].opened_ns


def listings(market: MarketFile, source: str, numbers: Iterator[int]) -> Iterator[InstrumentListed]:
    """Yield the listings, numbered in turn: currencies first, then instruments, each in order of name."""
    pairs = sorted(market.pairs.items(), key=lambda row: row[1].name)
    currencies = sorted({p.currency for _, p in pairs} | {p.base for _, p in pairs if p.kind == "spot"})
    at = market.started_ns
    for name in currencies:
        scale = CURRENCY_SCALES.get(name, COIN_SCALE)
        yield InstrumentListed(
            source=source,
            source_seq=next(numbers),
            event_time=at,
            instrument=name,
            kind="currency",
            quantity_scale=scale,
        )
    for symbol, pair in pairs:
        spot = pair.kind == "spot"
        yield InstrumentListed(
            source=source,
            source_seq=next(numbers),
            event_time=at,
            instrument=pair.name,
            kind="spot" if spot else "equity",
            quantity_scale=min(6, CURRENCY_SCALES.get(pair.base, COIN_SCALE)) if spot else 0,
            base=pair.base if spot else "",
            currency=pair.currency,
            price_scale=market.scales.get(symbol, 0),
            # A mark is not stale before the next bar can move it.
            stale_after_s=max(STALE_AFTER_S, market.length_ns // SECOND_NS),
        )


def routes(pairs: Iterable[Pair], base_currency: str) -> dict[str, list[str]]:
    """Return how each asset converts to the base currency: directly where a pair does, else through a second one."""
    ordered = sorted(pairs, key=lambda pair: pair.name)
    direct = {pair.base: [pair.name] for pair in ordered if pair.currency == base_currency}
    whole = dict(direct)
    for pair in ordered:
        if pair.base not in whole and pair.base != base_currency and pair.currency in direct:
            whole[pair.base] = [pair.name, *direct[pair.currency]]
    return whole


def base_currency_of(pairs: Mapping[str, Pair]) -> str:
    """Return the currency that most instruments are quoted in, the first by name of equals."""
    counts = Counter(pair.currency for pair in pairs.values())
    # A conversion chain ends in a currency that is no base of another pair, if there is one.
    bases = {pair.base for pair in pairs.values()}
    ends = [name for name in counts if name not in bases] or list(counts)
    return max(sorted(ends), key=lambda name: counts[name])


def market_events(market: MarketFile) -> Iterator[AnyInput]:
    """Yield clocks and ticks, ordered by time then symbol; a clock comes before the first tick of each distinct
    time."""
    numbers = count(1)
    bars = market.bars
    start = 0
    while start < len(bars):
        opened = bars[start].opened_ns
        end = start
        while end < len(bars) and bars[end].opened_ns == opened:
            end += 1
        minute = [
            (market.pairs[bar.symbol].name, [parse_decimal(text) for text in bar.ticks()]) for bar in bars[start:end]
        ]
        for place, offset in enumerate(offsets_ns(market.length_ns) if market.length_ns else (0,)):
            now = opened + offset
            yield ClockTicked(source=market.source, source_seq=next(numbers), event_time=now, time=now)
            for name, prices in minute:
                price: DecimalPair = prices[place]
                yield PriceTicked(
                    source=market.source, source_seq=next(numbers), event_time=now, instrument=name, price=price
                )
        start = end
