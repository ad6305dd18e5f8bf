"""Seeded accounts in perpetuals: a deposit, longs and shorts at chosen leverage, some of them in isolated
subaccounts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from margin_stream import profiles
from margin_stream.core.margin.parameters import BracketParameters
from margin_stream.importers.market import Pair
from margin_stream.schemas.decimals import canonical, parse_decimal
from margin_stream.schemas.inputs import AnyInput, FundingPaid, InstrumentListed, PositionChanged, ProfileActivated
from margin_stream.schemas.times import DAY_NS
from margin_stream.simulation.books import deposit, log_uniform, numbered

USDM = "binance-usdm"
"""The profile whose accounts hold perpetuals."""
Tables = Mapping[str, Sequence[BracketParameters]]
"""Pair's name -> leverage brackets of its perpetual."""
SUFFIX = "-PERP"
"""A perpetual is named as its pair, with this behind."""
QUANTITY_SCALE = 3
FUNDING_EVERY_NS = DAY_NS // 3
FUNDING_RATE = (1, -4)
"""The venue's baseline of 0.01 % every eight hours; rates of the day are not in the data."""
LEVERAGES = (3, 5, 10, 20, 50)
USED_SHARE = 90
"""Where tables are known, how much of a deposit initial margin takes at most, in hundredths."""


@dataclass(frozen=True, slots=True)
class Perpetual:
    """A perpetual on a pair, with its first price."""

    name: str
    price: str
    price_scale: int
    table: tuple[BracketParameters, ...] = ()
    """Its leverage brackets. With them books keep to what the venue allows: chosen leverage, and initial margin within
    the deposit."""

    def allowed(self, notional: int, leverage: int) -> int:
        """Return the chosen leverage, or the most that the bracket of a notional (whole units of the currency)
        allows."""
        for row in reversed(self.table):
            if row.max_leverage is not None and _at_most(row.floor, notional):
                return min(leverage, int(row.max_leverage.partition(".")[0]))
        return leverage


def _at_most(floor: str, notional: int) -> bool:
    mantissa, exponent = parse_decimal(floor)
    return bool(mantissa * 10 ** max(exponent, 0) <= notional * 10 ** max(-exponent, 0))


def perpetual_name(pair: Pair) -> str:
    """Return the name of the perpetual on a pair: ``BTCUSDT-PERP``."""
    return pair.name + SUFFIX


def listing(pair: Pair, price_scale: int, source: str, sequence: int, at_ns: int) -> InstrumentListed:
    """Return the listing of the perpetual on a pair."""
    return InstrumentListed(
        source=source,
        source_seq=sequence,
        event_time=at_ns,
        instrument=perpetual_name(pair),
        kind="perpetual",
        quantity_scale=QUANTITY_SCALE,
        currency=pair.currency,
        price_scale=price_scale,
    )


def activation(base: str, tables: Tables, source: str, sequence: int, at_ns: int, approved_by: str) -> ProfileActivated:
    """Return the activation of ``binance-usdm`` with tables for the perpetuals on these pairs, in force from the first
    clock."""
    data = profiles.load(USDM)
    return ProfileActivated(
        source=source,
        source_seq=sequence,
        event_time=at_ns,
        profile=data.name,
        model=data.model,
        version=1,
        effective_from=0,
        approved_by=approved_by,
        parameters=data.parameters(base, {}, {pair + SUFFIX: table for pair, table in tables.items()}),
    )


def opening_books(
    accounts: Sequence[str],
    seed: int,
    base_currency: str,
    perpetuals: Sequence[Perpetual],
    source: str,
    numbers: Iterator[int],
    at_ns: int,
) -> Iterator[AnyInput]:
    """Yield what every account starts with: one deposit, then 1-5 positions worth 1.5 to 9 times the deposit in all.

    A third of the positions are short, one in five sits in an isolated subaccount with a margin of notional by
    leverage, one account in eight holds a long and a short of one instrument (hedge mode).
    Perpetuals that bring their table are held at no more leverage than it allows, and in a size whose initial margin
    the deposit covers.
    """
    for account in accounts:
        rng = Random(f"{seed}/{account}")
        money = log_uniform(rng, 1_000, 1_000_000)
        total = money * rng.randint(150, 900) // 100
        events: list[AnyInput] = [deposit(account, base_currency, money, 0, at_ns)]
        held = rng.sample(range(len(perpetuals)), min(len(perpetuals), rng.randint(1, 5)))
        hedged = rng.randrange(8) == 0
        for place in held:
            perpetual = perpetuals[place]
            part = total * rng.randint(50, 100) // (100 * len(held))
            leverage = rng.choice(LEVERAGES)
            if perpetual.table:
                leverage = perpetual.allowed(part, leverage)
                # In hedge mode a third of it is held once more.
                part = min(part, money * USED_SHARE * leverage * 3 // (400 * len(held)))
            way = -1 if rng.randrange(3) == 0 else 1
            quantity = max(1, _quantity(part, perpetual))
            if hedged:
                events.append(_trade(account, perpetual, quantity, leverage, at_ns, side="long"))
                events.append(_trade(account, perpetual, -max(1, quantity // 3), leverage, at_ns, side="short"))
            elif rng.randrange(5) == 0:
                margin = max(1, part // leverage)
                events.append(
                    _trade(
                        account, perpetual, way * quantity, leverage, at_ns, subaccount=perpetual.name, margin=margin
                    )
                )
            else:
                events.append(_trade(account, perpetual, way * quantity, leverage, at_ns))
        for event in events:
            yield numbered(event, source, next(numbers))


def funding(names: Sequence[str], due_ns: int, source: str) -> Iterator[AnyInput]:
    """Yield funding of every perpetual at one of its hours; the number is that of the hour since 1970, so it is the
    same however it is sent."""
    hour = due_ns // FUNDING_EVERY_NS
    for place, name in enumerate(names):
        yield FundingPaid(
            source=source, source_seq=hour * 1000 + place, event_time=due_ns, instrument=name, rate=FUNDING_RATE
        )


def perpetuals_of(
    pairs: Mapping[str, Pair], scales: Mapping[str, int], first_prices: Mapping[str, str], tables: Tables | None = None
) -> list[Perpetual]:
    """Return the perpetuals on pairs that have a first price, in order of name.

    Args:
        pairs: by symbol.
        scales: decimal places of prices, by symbol.
        first_prices: by pair.
        tables: given, each perpetual brings its table, so that books keep to what it allows.
    """
    return [
        Perpetual(
            perpetual_name(pair),
            first_prices[pair.name],
            scales.get(symbol, 0),
            () if tables is None else tuple(tables[pair.name]),
        )
        for symbol, pair in sorted(pairs.items(), key=lambda row: row[1].name)
        if pair.name in first_prices
    ]


def _quantity(worth: int, perpetual: Perpetual) -> int:
    """Return the quantity, in units of its scale, of a position worth so many whole units of the currency."""
    mantissa, exponent = parse_decimal(perpetual.price)
    return int(worth * 10**QUANTITY_SCALE * 10 ** max(-exponent, 0) // (mantissa * 10 ** max(exponent, 0)))


def _trade(
    account: str,
    perpetual: Perpetual,
    quantity: int,
    leverage: int,
    at_ns: int,
    *,
    side: str = "both",
    subaccount: str = "",
    margin: int = 0,
) -> PositionChanged:
    return PositionChanged(
        source="-",
        source_seq=0,
        event_time=at_ns,
        account=account,
        instrument=perpetual.name,
        quantity_delta=canonical(quantity, -QUANTITY_SCALE),
        price=parse_decimal(perpetual.price),
        reason="opening",
        isolated=subaccount,
        position_side=side,  # type: ignore[arg-type]
        isolated_margin_delta=canonical(margin, 0),
        leverage=leverage,
    )
