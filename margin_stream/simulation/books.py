"""Seeded accounts that fit the instruments of a market: collateral, positions bought on credit, some shorts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import msgspec

from margin_stream.importers.market import CURRENCY_SCALES, Pair, routes
from margin_stream.profiles import ProfileData
from margin_stream.schemas.decimals import canonical, parse_decimal
from margin_stream.schemas.inputs import AccountOpened, AnyInput, CollateralMoved, PositionChanged, ProfileActivated


@dataclass(frozen=True, slots=True)
class BookPlan:
    """How accounts are made."""

    accounts: int
    seed: int
    profile: ProfileData
    base_currency: str
    cover_low: int = 1450
    """Least V / D at the start, in thousandths."""
    cover_high: int = 3000
    largest: int = 2_000_000
    """Largest sum of positions of an account, in whole units of the base currency."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One instrument of a route, with its first price."""

    instrument: str
    price: str
    quantity_scale: int
    in_base: bool
    """It settles in the base currency."""


@dataclass(frozen=True, slots=True)
class Quoted:
    """An asset that an account can hold, with its first price in the base currency as a fraction."""

    asset: str
    legs: tuple[Leg, ...]
    numerator: int
    denominator: int
    keep: int
    """1 - haircut, in millionths."""

    @property
    def quantity_scale(self) -> int:
        """Decimal places of the quantities that are traded."""
        return self.legs[0].quantity_scale


def quoted_assets(pairs: Mapping[str, Pair], first_prices: Mapping[str, str], plan: BookPlan) -> list[Quoted]:
    """Return the assets that convert to the base currency at first prices, in order of name."""
    by_name = {pair.name: pair for pair in pairs.values()}
    found = []
    for asset, route in sorted(routes(pairs.values(), plan.base_currency).items()):
        if not all(leg in first_prices for leg in route):
            continue
        numerator = denominator = 1
        legs = []
        for leg in route:
            mantissa, exponent = parse_decimal(first_prices[leg])
            numerator *= mantissa * 10 ** max(exponent, 0)
            denominator *= 10 ** max(-exponent, 0)
            pair = by_name[leg]
            scale = 0 if pair.kind == "equity" else min(4, CURRENCY_SCALES.get(pair.base, 4))
            legs.append(Leg(leg, first_prices[leg], scale, pair.currency == plan.base_currency))
        mantissa, exponent = parse_decimal(plan.profile.haircut_of(asset))
        found.append(Quoted(asset, tuple(legs), numerator, denominator, 1_000_000 - mantissa * 10 ** (exponent + 6)))
    return found


def activation(pairs: Mapping[str, Pair], plan: BookPlan, source: str, sequence: int, at_ns: int) -> ProfileActivated:
    """Return the activation of the plan's profile for these instruments, in force from the first clock."""
    return ProfileActivated(
        source=source,
        source_seq=sequence,
        event_time=at_ns,
        profile=plan.profile.name,
        model=plan.profile.model,
        version=1,
        effective_from=0,
        approved_by="importer",
        parameters=plan.profile.parameters(plan.base_currency, routes(pairs.values(), plan.base_currency)),
    )


def account_id(number: int) -> str:
    """Return the id of a seeded account: ``A-000017``."""
    return f"A-{number:06d}"


def openings(
    plan: BookPlan, source: str, numbers: Iterator[int], at_ns: int, profiles: Sequence[str] = ()
) -> Iterator[AnyInput]:
    """Yield the openings of all accounts.

    Args:
        numbers: of the source, from the next one on.
        profiles: they take turns; left out, every account has the plan's.
    """
    for number in range(1, plan.accounts + 1):
        yield AccountOpened(
            source=source,
            source_seq=next(numbers),
            event_time=at_ns,
            account=account_id(number),
            base_currency=plan.base_currency,
            profile=profiles[(number - 1) % len(profiles)] if profiles else plan.profile.name,
            desk=f"desk-{number % 7}",
            contacts=(f"ops-{number}",),
        )


def opening_books(
    plan: BookPlan,
    assets: list[Quoted],
    source: str,
    numbers: Iterator[int],
    at_ns: int,
    accounts: Sequence[str] | None = None,
) -> Iterator[AnyInput]:
    """Yield the collateral and positions that every account starts with; its V / D lies between the plan's bounds.

    Long accounts buy 2-6 assets on credit; one in six sells one asset short against cash. Deposits come first.

    Args:
        numbers: of the source, from the next one on.
        accounts: their ids; left out, all of the plan's.
    """
    base = plan.base_currency
    scale = CURRENCY_SCALES.get(base, 8)
    for number in range(1, plan.accounts + 1) if accounts is None else [int(account[2:]) for account in accounts]:
        rng = Random(plan.seed * 1_000_003 + number)
        cover = rng.randint(plan.cover_low, plan.cover_high)
        size = log_uniform(rng, 2_000, plan.largest)
        account = account_id(number)
        events: list[AnyInput] = []
        if rng.randrange(6) == 0:
            asset = rng.choice(assets)
            quantity = max(1, size * 10**asset.quantity_scale * asset.denominator // asset.numerator)
            worth = quantity * asset.numerator * 10**scale // (asset.denominator * 10**asset.quantity_scale)
            cash = worth * (cover - 1000) // 1000 + 1
            events.append(deposit(account, base, cash, scale, at_ns))
            events.extend(_trades(account, asset, -quantity, 0, at_ns))
        else:
            held = rng.sample(assets, min(len(assets), rng.randint(2, 6)))
            worth = value = 0
            trades = []
            for asset in held:
                part = size * rng.randint(20, 100) // (60 * len(held))
                quantity = max(1, part * 10**asset.quantity_scale * asset.denominator // asset.numerator)
                money = quantity * asset.numerator * 10**scale // (asset.denominator * 10**asset.quantity_scale) + 1
                worth += money
                value += money * asset.keep // 1_000_000
                trades.extend(_trades(account, asset, quantity, money // 2000, at_ns))
                worth += money // 2000 + 1
            debit = value * 1000 // cover
            events.append(deposit(account, base, max(worth - debit, 0), scale, at_ns))
            events.extend(trades)
        for event in events:
            yield numbered(event, source, next(numbers))


def numbered(event: AnyInput, source: str, sequence: int) -> AnyInput:
    """Return an event under another identity."""
    return msgspec.structs.replace(event, source=source, source_seq=sequence)


def deposit(account: str, asset: str, amount: int, scale: int, at_ns: int) -> CollateralMoved:
    """Return the deposit of an amount, in units of a scale, that an account starts with."""
    return CollateralMoved(
        source="-",
        source_seq=0,
        event_time=at_ns,
        account=account,
        asset=asset,
        amount_delta=canonical(amount, -scale),
        reason="opening",
    )


def _trades(account: str, asset: Quoted, quantity: int, fee: int, at_ns: int) -> list[AnyInput]:
    """Return the trades that bring an asset in: what its pair settles in is bought with the base currency first, so
    nothing else is owed."""
    first = asset.legs[0]
    trades: list[AnyInput] = []
    if len(asset.legs) > 1:
        second = asset.legs[1]
        mantissa, exponent = parse_decimal(first.price)
        scale = first.quantity_scale - exponent
        needed = quantity * mantissa * 10**second.quantity_scale
        trades.append(_trade(account, second, -(-needed // 10**scale), 0, at_ns))
    trades.append(_trade(account, first, quantity, fee if first.in_base else 0, at_ns))
    return trades


def _trade(account: str, leg: Leg, quantity: int, fee: int, at_ns: int) -> PositionChanged:
    return PositionChanged(
        source="-",
        source_seq=0,
        event_time=at_ns,
        account=account,
        instrument=leg.instrument,
        quantity_delta=canonical(quantity, -leg.quantity_scale),
        price=parse_decimal(leg.price),
        fee=canonical(fee, -2),
        reason="opening",
    )


def log_uniform(rng: Random, low: int, high: int) -> int:
    """Return an integer whose logarithm is about uniform: a power of two at random, then a place in its octave."""
    octave = rng.randrange(low.bit_length(), high.bit_length())
    return min(high, max(low, rng.randrange(1 << octave, 2 << octave)))
