"""Validation: whether an event can stand, in the market as it is and for the account as the intake knows it. Nothing is
changed here.

Each function returns what becomes of its event (where that is one, the item that is routed), or the first reason
against it. The order of the checks decides which reason an input gets where several hold, so a change of it is a new
rules version.
"""

from __future__ import annotations

from collections.abc import Iterable

from margin_stream.core.accounts.position import SIDES
from margin_stream.core.intake.account_index import AccountIndex, Entry
from margin_stream.core.margin.model import Profile, profile_of
from margin_stream.core.margin.parameters import ParameterError
from margin_stream.core.market.directory import Instrument
from margin_stream.core.market.market import Market
from margin_stream.core.sequenced import (
    FUNDING_SCALE,
    Answered,
    Changed,
    Clocked,
    Funded,
    Moved,
    Opened,
    RulesMoved,
    Traded,
)
from margin_stream.schemas.decimals import POWERS_OF_TEN, DecimalPair, packed, scaled
from margin_stream.schemas.effects import group_of
from margin_stream.schemas.inputs import (
    AccountChanged,
    AccountOpened,
    ClockTicked,
    CollateralMoved,
    EffectAnswered,
    EngineActivated,
    FundingPaid,
    PositionChanged,
    ProfileActivated,
)
from margin_stream.schemas.refusals import Refusal
from margin_stream.schemas.rules_versions import latest

CLOCK_JUMP_LIMIT_NS = 8 * 86_400_000_000_000
PRICE_LIMIT = 2**62
AMOUNT_LIMIT = 2**127
ACCOUNT_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
CONTACT_CHARACTERS = ACCOUNT_CHARACTERS | {"."}
CONTACTS_LIMIT = 16

Reason = tuple[Refusal, str]
"""Why an input is refused, and what of it."""
_CLOCK_REQUIRED: Reason = (Refusal.CLOCK_REQUIRED, "no clock_ticked came yet")


class Quoted:
    """A quote in units of its instrument's price scale."""

    __slots__ = ("crossed", "instrument", "price")

    def __init__(self, instrument: Instrument, price: int, crossed: bool) -> None:
        self.instrument = instrument
        self.price = price
        self.crossed = crossed
        """Its bid lies above its ask."""


# ---- feeds -----------------------------------------------------------------------------------------------------------


def tick(
    name: str, price: DecimalPair, bid: DecimalPair | None, ask: DecimalPair | None, market: Market
) -> Quoted | Reason:
    """Return the quote of an instrument, however it came."""
    if isinstance(instrument := _instrument(name, market), tuple):
        return instrument
    units: list[int] = []
    for field, pair in (("price", price), ("bid", bid), ("ask", ask)):
        if pair is not None:
            amount = scaled(pair, instrument.price_scale)
            if amount is None:
                return Refusal.WRONG_SCALE, f"{field}: {name} has {instrument.price_scale} decimal places"
            if not -PRICE_LIMIT < amount < PRICE_LIMIT:
                return Refusal.OUT_OF_RANGE, f"{field}: within 2**62 units of the price scale"
            units.append(amount)
    return Quoted(instrument, units[0], bid is not None and ask is not None and units[1] > units[2])


def column_scales(
    names: Iterable[str], exponents: Iterable[int], market: Market
) -> list[tuple[Instrument, int] | None]:
    """Return each instrument of a column, and what its mantissas are multiplied by; None where ``tick`` is to say what
    holds."""
    found: list[tuple[Instrument, int] | None] = []
    for name, exponent in zip(names, exponents, strict=True):
        instrument = market.directory.instrument_by_name.get(name)
        shift = -1 if instrument is None or market.clock_ns == 0 else exponent + instrument.price_scale
        found.append(
            (instrument, POWERS_OF_TEN[shift]) if instrument is not None and 0 <= shift < len(POWERS_OF_TEN) else None
        )
    return found


def column_pair(mantissa: int, exponent: int) -> DecimalPair:
    """Return a quote of a column, whose exponent is that of the finest quote in it."""
    while exponent < 0 and mantissa and mantissa % 10 == 0:
        mantissa //= 10
        exponent += 1
    return mantissa, exponent


def clock(event: ClockTicked, sequence: int, market: Market) -> Clocked | Reason:
    """Return the clock: not backwards, and no unconfirmed jump."""
    clock_ns = market.clock_ns
    if event.time < clock_ns:
        return Refusal.CLOCK_BACKWARDS, "time: before the clock"
    if clock_ns and event.time - clock_ns > CLOCK_JUMP_LIMIT_NS and not event.confirmed_by:
        return Refusal.CLOCK_JUMP_UNCONFIRMED, "time: more than 8 days past the clock"
    if event.time == 0:
        return Refusal.OUT_OF_RANGE, "time: past 1970-01-01T00:00:00Z"
    return Clocked(sequence, event.time)


# ---- books of accounts -----------------------------------------------------------------------------------------------


def trade(event: PositionChanged, sequence: int, market: Market, entry: Entry | None) -> Traded | Reason:
    """Return the trade of an account, which fits its profile as it is in force."""
    if isinstance(instrument := _instrument(event.instrument, market), tuple):
        return instrument
    if entry is None:
        return Refusal.ACCOUNT_UNKNOWN, f"account: {event.account!r} is not open"
    if (reason := _margin_refusal(event, market, instrument, entry)) is not None:
        return reason
    if (quantity := scaled(event.quantity_delta, instrument.quantity_scale)) is None:
        return Refusal.WRONG_SCALE, f"quantity_delta: {instrument.name} has {instrument.quantity_scale} decimal places"
    if (price := scaled(event.price, instrument.price_scale)) is None:
        return Refusal.WRONG_SCALE, f"price: {instrument.name} has {instrument.price_scale} decimal places"
    if (fee := scaled(event.fee, instrument.currency.scale)) is None:
        return Refusal.WRONG_SCALE, f"fee: {instrument.currency.name} has {instrument.currency.scale} decimal places"
    if (margin := scaled(event.isolated_margin_delta, instrument.currency.scale)) is None:
        return (
            Refusal.WRONG_SCALE,
            f"isolated_margin_delta: {instrument.currency.name} has {instrument.currency.scale} decimal places",
        )
    if not 0 <= price < PRICE_LIMIT:
        return Refusal.OUT_OF_RANGE, "price: from 0 up to 2**62 units of the price scale"
    if not (-AMOUNT_LIMIT < quantity < AMOUNT_LIMIT and -AMOUNT_LIMIT < fee < AMOUNT_LIMIT):
        return Refusal.OUT_OF_RANGE, "quantity_delta, fee: within 2**127 units of their scale"
    if not -AMOUNT_LIMIT < margin < AMOUNT_LIMIT:
        return Refusal.OUT_OF_RANGE, "isolated_margin_delta: within 2**127 units of its scale"
    return Traded(
        sequence,
        event.account,
        instrument.number,
        packed(quantity),
        price,
        packed(fee),
        event.isolated,
        SIDES.index(event.position_side),
        packed(margin),
        event.leverage,
    )


def _margin_refusal(event: PositionChanged, market: Market, instrument: Instrument, entry: Entry) -> Reason | None:
    """Return why a trade does not fit the account's profile as it is in force, or None."""
    profile = market.profiles.get(entry.profile)
    why = "" if profile is None else profile.calculator.refuses(instrument)
    if profile is not None and why:
        return (
            Refusal.INSTRUMENT_NOT_MARGINED,
            f"instrument: {instrument.name}: {why} (profile {profile.name}, version {profile.version})",
        )
    if not instrument.perpetual and (
        event.isolated or event.position_side != "both" or event.isolated_margin_delta[0] or event.leverage
    ):
        return (
            Refusal.ISOLATED_INVALID,
            f"isolated, position_side, isolated_margin_delta, leverage: {instrument.name} is no perpetual",
        )
    if event.isolated_margin_delta[0] and not event.isolated:
        return Refusal.ISOLATED_INVALID, "isolated_margin_delta: names no subaccount"
    if event.isolated and profile is not None and not profile.calculator.subaccounts:
        return Refusal.ISOLATED_INVALID, f"isolated: profile {profile.name} has no isolated subaccounts"
    return None


def move(event: CollateralMoved, sequence: int, market: Market, entry: Entry | None) -> Moved | Reason:
    """Return the collateral that an account moved."""
    if market.clock_ns == 0:
        return _CLOCK_REQUIRED
    if (asset := market.directory.asset_by_name.get(event.asset)) is None:
        return Refusal.ASSET_UNKNOWN, f"asset: {event.asset!r} is not listed"
    if entry is None:
        return Refusal.ACCOUNT_UNKNOWN, f"account: {event.account!r} is not open"
    if event.isolated or event.from_isolated is not None:
        profile = market.profiles.get(entry.profile)
        if profile is not None and not profile.calculator.subaccounts:
            return (
                Refusal.ISOLATED_INVALID,
                f"isolated, from_isolated: profile {profile.name} has no isolated subaccounts",
            )
        if event.isolated == event.from_isolated:
            return Refusal.ISOLATED_INVALID, "from_isolated: the subaccount itself"
    if (amount := scaled(event.amount_delta, asset.scale)) is None:
        return Refusal.WRONG_SCALE, f"amount_delta: {asset.name} has {asset.scale} decimal places"
    if not -AMOUNT_LIMIT < amount < AMOUNT_LIMIT:
        return Refusal.OUT_OF_RANGE, "amount_delta: within 2**127 units of the asset's scale"
    if event.from_isolated is not None and amount <= 0:
        return Refusal.OUT_OF_RANGE, "amount_delta: a transfer between subaccounts is positive"
    return Moved(sequence, event.account, asset.number, packed(amount), event.call, event.isolated, event.from_isolated)


def opening(event: AccountOpened, sequence: int, market: Market, accounts: AccountIndex) -> Opened | Reason:
    """Return the account that is to be opened."""
    name = event.account
    if not 1 <= len(name) <= 64 or not ACCOUNT_CHARACTERS.issuperset(name):
        return Refusal.ACCOUNT_INVALID, f"account: {name[:80]!r}"
    if event.margin_group not in ("", name):
        return Refusal.ACCOUNT_INVALID, "margin_group: the account itself"
    if name in accounts.entries:
        return Refusal.ACCOUNT_OPENED_ALREADY, f"account: {name} is open"
    if (reason := _contact_refusal(event.contacts)) is not None:
        return reason
    if (base := market.directory.asset_by_name.get(event.base_currency)) is None:
        return Refusal.ASSET_UNKNOWN, f"base_currency: {event.base_currency!r} is not listed"
    if (reason := _profile_refusal(event.profile, base.number, accounts)) is not None:
        return reason
    return Opened(sequence, name, base.number, event.profile, event.desk, event.contacts)


def change(event: AccountChanged, sequence: int, market: Market, accounts: AccountIndex) -> Changed | Reason:
    """Return the change of an account; another profile must be able to margin the perpetuals that it holds."""
    if (entry := accounts.entries.get(event.account)) is None:
        return Refusal.ACCOUNT_UNKNOWN, f"account: {event.account!r} is not open"
    if event.contacts is not None and (reason := _contact_refusal(event.contacts)) is not None:
        return reason
    reason = None if event.profile is None else _profile_refusal(event.profile, entry.base, accounts)
    if reason is None and event.profile not in (None, entry.profile):
        reason = _fit_refusal(event.account, str(event.profile), market, accounts)
    if reason is not None:
        return reason
    return Changed(sequence, event.account, event.profile, event.desk, event.contacts)


def _contact_refusal(contacts: tuple[str, ...]) -> Reason | None:
    """Return why contacts are not references, or None. The contact itself is not in the reason: it may be an
    address."""
    if len(contacts) > CONTACTS_LIMIT:
        return Refusal.CONTACT_INVALID, f"contacts: at most {CONTACTS_LIMIT}, not {len(contacts)}"
    for number, contact in enumerate(contacts):
        if not 1 <= len(contact) <= 64 or not CONTACT_CHARACTERS.issuperset(contact):
            return Refusal.CONTACT_INVALID, f"contacts[{number}]: not a reference"
    return None


def _fit_refusal(account: str, name: str, market: Market, accounts: AccountIndex) -> Reason | None:
    """Return why a profile cannot margin what an account holds, or None."""
    profile = market.profiles.get(name)
    for subaccount, number, _ in sorted(accounts.perpetuals.get(account, ())):
        instrument = market.directory.instruments[number]
        assert instrument is not None
        if profile is None:
            why = f"{name} is not in force yet"
        elif subaccount and not profile.calculator.subaccounts:
            why = f"{name} has no isolated subaccounts"
        else:
            why = profile.calculator.refuses(instrument)
        if why:
            where = f" in {subaccount}" if subaccount else ""
            return Refusal.PROFILE_DOES_NOT_FIT, f"profile: {account} holds {instrument.name}{where}: {why}"
    return None


def _profile_refusal(name: str, base: int, accounts: AccountIndex) -> Reason | None:
    """Return why an account of this base currency cannot have a profile, or None."""
    if (known := accounts.profiles.get(name)) is None:
        return Refusal.PROFILE_UNKNOWN, f"profile: {name!r} was never activated"
    if known[0] != base:
        return Refusal.ACCOUNT_INVALID, f"profile: {name} has another base currency"
    return None


def answer(event: EffectAnswered, sequence: int, market: Market, entry: Entry | None) -> Answered | Reason:
    """Return the answer to an effect: of the account of the effect's group, or of a group of the whole store."""
    if event.source[0] != "@" or event.source_seq < 1:
        return Refusal.ANSWER_INVALID, f"source: {event.source}#{event.source_seq} is no answer of an outbox"
    if market.clock_ns == 0:
        return _CLOCK_REQUIRED
    group = group_of(event.effect)
    if entry is None and group[0] != "@":
        return Refusal.ACCOUNT_UNKNOWN, f"effect: account {group!r} is not open"
    return Answered(sequence, event.source, event.effect, event.source_seq, event.outcome, event.detail)


# ---- what concerns all -----------------------------------------------------------------------------------------------


def funding(event: FundingPaid, sequence: int, market: Market) -> Funded | Reason:
    """Return the funding of a perpetual, at its own price or at the mark."""
    if market.clock_ns == 0:
        return _CLOCK_REQUIRED
    if (instrument := market.directory.instrument_by_name.get(event.instrument)) is None:
        return Refusal.INSTRUMENT_UNKNOWN, f"instrument: {event.instrument!r} is not listed"
    if not instrument.perpetual:
        return Refusal.NOT_TRADABLE, f"instrument: {event.instrument} is no perpetual"
    if (rate := scaled(event.rate, FUNDING_SCALE)) is None:
        return Refusal.WRONG_SCALE, f"rate: at most {FUNDING_SCALE} decimal places"
    price = market.prices[instrument.number] if event.price is None else scaled(event.price, instrument.price_scale)
    if price is None:
        return Refusal.WRONG_SCALE, f"price: {instrument.name} has {instrument.price_scale} decimal places"
    if not -POWERS_OF_TEN[FUNDING_SCALE] < rate < POWERS_OF_TEN[FUNDING_SCALE]:
        return Refusal.OUT_OF_RANGE, "rate: between -1 and 1"
    if not 0 <= price < PRICE_LIMIT:
        return Refusal.OUT_OF_RANGE, "price: from 0 up to 2**62 units of the price scale"
    if event.price is None and price == 0:
        return Refusal.MARK_REQUIRED, f"price: {instrument.name} has no mark yet"
    return Funded(sequence, instrument.number, rate, price)


def activation(event: ProfileActivated, market: Market, accounts: AccountIndex) -> Profile | Reason:
    """Return the version of a profile that an activation brings: newer, and of the base currency that the profile
    always had."""
    try:
        found = profile_of(event, market.directory, market.rules_version)
    except ParameterError as error:
        return Refusal.PROFILE_INVALID, str(error)
    if (known := accounts.profiles.get(event.profile)) is not None:
        if event.version <= known[1]:
            return Refusal.PROFILE_VERSION_NOT_NEWER, f"version: {event.profile} has version {known[1]} already"
        if found.calculator.base != known[0]:
            return Refusal.PROFILE_INVALID, "parameters.base_currency: never changes"
    return found


def rules(event: EngineActivated, sequence: int, market: Market) -> RulesMoved | Reason:
    """Return the rules version that is to be in force: this one or a later one."""
    now = market.rules_version
    if not now <= event.version <= latest():
        return Refusal.ENGINE_UNKNOWN, f"version: {event.version}; in force is {now}, the latest is {latest()}"
    return RulesMoved(sequence, event.version)


def _instrument(name: str, market: Market) -> Instrument | Reason:
    if market.clock_ns == 0:
        return _CLOCK_REQUIRED
    if (instrument := market.directory.instrument_by_name.get(name)) is not None:
        return instrument
    if name in market.directory.asset_by_name:
        return Refusal.NOT_TRADABLE, f"instrument: {name} is a currency"
    return Refusal.INSTRUMENT_UNKNOWN, f"instrument: {name!r} is not listed"
