"""What every importer of bars does: instruments with fixed scales, a stream of ticks and clocks in one order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from margin_stream.errors import Error
from margin_stream.schemas.decimals import DecimalPair, parse_decimal
from margin_stream.schemas.inputs import AnyInput, ClockTicked, InstrumentListed, PriceTicked

QUOTES = ("USDT", "BUSD", "USDC", "TUSD", "FDUSD", "DAI", "BTC", "ETH", "BNB", "EUR", "TRY", "USD")
"""Currencies that a pair without a separator may end in, tried in this order."""
CURRENCY_SCALES = {"USD": 2, "EUR": 2, "USDT": 2, "USDC": 2, "BUSD": 2, "TUSD": 2, "FDUSD": 2, "DAI": 2}
COIN_SCALE = 8
MINUTE_NS = 60_000_000_000
BAR_OFFSETS_NS = (0, 20_000_000_000, 40_000_000_000, 59_999_000_000)
"""When a bar's four prices come, from the opening of its minute."""


class ZoneUnknown(Error, code="time_zone_unknown"):
    """There is no such time zone."""


class ImportFault(Error, code="import_failed"):
    """A file cannot be imported; the text names the file and what to do."""


class RowLeftOut(Error, code="row_left_out"):
    """A row of a file is left out; the import goes on."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: the opening of its minute (ns since 1970), its symbol, four prices as decimal texts."""

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


def pair_of(symbol: str) -> Pair:
    """Return the instrument of a symbol: ``AAVE_BTC``, ``AAVE/BTC``, ``AAVEBTC`` are pairs, anything else a share in
    USD."""
    for separator in ("_", "/", "-"):
        base, found, currency = symbol.partition(separator)
        if found:
            return Pair(base + currency, "spot", base, currency)
    for currency in QUOTES:
        if symbol.endswith(currency) and len(symbol) > len(currency) + 1:
            return Pair(symbol, "spot", symbol.removesuffix(currency), currency)
    return Pair(symbol, "equity", symbol, "USD")


@dataclass(slots=True)
class MarketFile:
    """Bars of some instruments, with what must be known before the first tick."""

    source: str
    bars: list[Bar]
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
            pair = self.pairs.get(bar.symbol)
            if pair is None:
                pair = self.pairs[bar.symbol] = pair_of(bar.symbol)
                self.first_prices[pair.name] = bar.open
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
        for place, offset in enumerate(BAR_OFFSETS_NS):
            now = opened + offset
            yield ClockTicked(source=market.source, source_seq=next(numbers), event_time=now, time=now)
            for name, prices in minute:
                price: DecimalPair = prices[place]
                yield PriceTicked(
                    source=market.source, source_seq=next(numbers), event_time=now, instrument=name, price=price
                )
        start = end
