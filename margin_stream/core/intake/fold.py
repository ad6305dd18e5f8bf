"""The intake fold: the one order. Drops duplicates, refuses what is not valid, numbers the rest, turns quotes into marks, routes by group.

A position is the number of an item after duplicates are dropped. It is given here and nowhere else, so it is the same however often
inputs were sent and however records were cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from hashlib import sha256
from typing import Any, assert_never

import msgspec

from margin_stream.core.checks import check
from margin_stream.core.directory import Instrument
from margin_stream.core.effect_book import EffectBook
from margin_stream.core.intake.account_index import AccountIndex, Entry
from margin_stream.core.intake.identity import IDENTITY_WINDOW, FeedSource, Seen
from margin_stream.core.intake.sources import MIXED, Sources
from margin_stream.core.market import Market
from margin_stream.core.model import ParameterError, profile_of
from margin_stream.core.positions import SIDES
from margin_stream.core.quotes import Quote, QuoteGuard
from margin_stream.core.routed import (
    FUNDING_SCALE,
    Activated,
    Answered,
    AnyRouted,
    Batch,
    Changed,
    Clocked,
    EngineMoved,
    Funded,
    Listed,
    Marked,
    Moved,
    Opened,
    Received,
    Traded,
)
from schemas import effects
from schemas.binary import encode
from schemas.columns import ABSENT, TickColumns, unpack
from schemas.decimals import POWERS_OF_TEN, DecimalPair, format_scaled, scaled
from schemas.engines import LATEST
from schemas.inputs import (
    AccountChanged,
    AccountOpened,
    AnyInput,
    ClockTicked,
    CollateralMoved,
    EffectAnswered,
    EngineActivated,
    FundingPaid,
    InstrumentListed,
    PositionChanged,
    PriceTicked,
    ProfileActivated,
)
from schemas.refusals import Refusal

DAY_NS = 86_400_000_000_000
CLOCK_JUMP_LIMIT_NS = 8 * DAY_NS
PRICE_LIMIT = 2**62
AMOUNT_LIMIT = 2**96
ACCOUNT_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


class Verdict(Enum):
    """What became of an item."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


ACCEPTED, DUPLICATE, REFUSED = Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.REFUSED

Reason = tuple[Refusal, str]


class IntakeFold:
    """The intake of one store."""

    name = "intake"

    def __init__(self, partitions: int, *, rules_version: int, window: int = IDENTITY_WINDOW) -> None:
        self.partitions = partitions
        self.sources = Sources(window)
        self.market = Market(rules_version)
        self.book = EffectBook()
        """Shared with the folds of the whole store."""
        self.position = 0
        self.accepted = 0
        self.refused = 0
        self.last_refusal: Reason | None = None
        """Reason and detail of the last refusal, for the caller; not a fact."""
        self.guard = QuoteGuard()
        self.accounts = AccountIndex(partitions, rules_version)
        self._previous = 0
        self._routed: list[list[AnyRouted]] = [[] for _ in range(partitions)]
        self._whole: list[AnyRouted] = []
        """For the folds of the whole store."""
        self._received: dict[str, tuple[int, str, int, int, int]] = {}
        """Source -> the fields of its ``Received`` since the last ``take``."""

    # ---- offering items -------------------------------------------------------------------------------------------

    def offer(self, event: AnyInput, content: bytes) -> Verdict:
        """Take one event.

        Args:
            event: decoded.
            content: its canonical bytes (``schemas.binary.canonical_bytes``); read for events of books alone.
        """
        if type(event) is PriceTicked or type(event) is ClockTicked:
            feed = self.sources.feed(event.source, event.source_seq, self.market.rules_version)
            if feed is None:
                return DUPLICATE
            self._number(event)
            if feed is MIXED:
                return self._refuse(event, (Refusal.SOURCE_KIND_MIXED, f"source: {event.source} is a book"))
            reason = self._tick_event(event) if type(event) is PriceTicked else self._clock(event)  # type: ignore[arg-type]
        elif type(event) is EffectAnswered:
            if not self.sources.answer(event.source, event.effect, event.source_seq):
                return DUPLICATE
            self.position += 1
            reason = self._answer(event)
        else:
            seen = self.sources.book(event.source, event.source_seq, content)
            if seen is Seen.DUPLICATE:
                return DUPLICATE
            self._number(event)
            if seen is Seen.REUSED:
                return self._refuse(
                    event, (Refusal.IDENTITY_REUSED, f"source_seq: {event.source}#{event.source_seq} came before with another content")
                )
            if seen is Seen.MIXED:
                return self._refuse(event, (Refusal.SOURCE_KIND_MIXED, f"source: {event.source} is a feed"))
            reason = self._book_event(event)
        if reason is not None:
            return self._refuse(event, reason)
        self.accepted += 1
        return ACCEPTED

    def offer_undecodable(self, raw: bytes, refusal: Refusal, detail: str) -> Verdict:
        """Take an input that could not be decoded."""
        digest = self.sources.raw(raw)
        if digest is None:
            return DUPLICATE
        self.position += 1
        self.refused += 1
        self.last_refusal = (refusal, detail)
        self._emit(effects.INTAKE_GROUP, effects.InputRefused, reason=refusal.value, digest=digest.hex())
        return REFUSED

    def offer_columns(self, columns: TickColumns) -> tuple[int, int, int]:
        """Take ticks in columns, item by item; return how many were accepted, duplicate, refused."""
        duplicates = refused = accepted = 0
        source = columns.source
        names, exponents = columns.instruments, columns.exponents
        by_name = self.market.directory.instrument_by_name
        found: list[tuple[Instrument, int] | None] = []
        for name, exponent in zip(names, exponents, strict=True):
            instrument = by_name.get(name)
            shift = -1 if instrument is None else exponent + instrument.price_scale
            found.append((instrument, POWERS_OF_TEN[shift]) if instrument is not None and 0 <= shift < len(POWERS_OF_TEN) else None)
        bids = unpack("q", columns.bid) if columns.bid else None
        asks = unpack("q", columns.ask) if columns.ask else None
        rows = zip(unpack("H", columns.index), unpack("q", columns.sequence), unpack("q", columns.price), strict=True)
        times = unpack("q", columns.time)
        newest_ns, highest = 0, -1
        feed: FeedSource | None = None
        for n, (place, sequence, mantissa) in enumerate(rows):
            if feed is not None and feed is not MIXED:
                if sequence <= feed.highest:
                    duplicates += 1
                    continue
                feed.highest = sequence
            else:
                feed = self.sources.feed(source, sequence, self.market.rules_version)
                if feed is None:
                    duplicates += 1
                    continue
            self.position += 1
            if sequence > highest:
                highest = sequence
            if times[n] > newest_ns:
                newest_ns = times[n]
            bid = None if bids is None or bids[n] == ABSENT else bids[n]
            ask = None if asks is None or asks[n] == ABSENT else asks[n]
            known = found[place]
            reason: Reason | None
            if feed is MIXED:
                reason = (Refusal.SOURCE_KIND_MIXED, f"source: {source} is a book")
            elif known is None or bid is not None or ask is not None or not -PRICE_LIMIT < mantissa * known[1] < PRICE_LIMIT:
                exponent = exponents[place]
                reason = self._tick(
                    source,
                    names[place],
                    self._pair(mantissa, exponent),
                    None if bid is None else self._pair(bid, exponent),
                    None if ask is None else self._pair(ask, exponent),
                )
            elif self.market.clock_ns == 0:
                reason = _CLOCK_REQUIRED
            else:
                reason = None
                self._quote(known[0], mantissa * known[1], source, crossed=False)
            if reason is None:
                accepted += 1
            else:
                refused += 1
                self._refuse_identity(source, sequence, reason)
        self.accepted += accepted
        if accepted + refused:
            self._receive(source, highest, newest_ns)
        return accepted, duplicates, refused

    def _pair(self, mantissa: int, exponent: int) -> DecimalPair:
        """Return a quote of a column, whose exponent is that of the finest quote in it.

        Engine version 1 took it as it stands, and so refused a quote for the decimal places of its neighbour.
        """
        if self.market.rules_version >= 2:
            while exponent < 0 and mantissa and mantissa % 10 == 0:
                mantissa //= 10
                exponent += 1
        return mantissa, exponent

    def moves_clock(self, event: ClockTicked) -> bool:
        """Say whether a clock would be accepted now: new, of a feed, not backwards, no unconfirmed jump."""
        return self.sources.is_new_of_feed(event.source, event.source_seq) and self._clock_refusal(event) is None

    def take(self, *, market_digest: bool = False) -> list[Batch]:
        """Return what was routed since the last time, to the folds of the whole store and to each partition; start anew.

        Args:
            market_digest: let the partitions compare their copy of the market.
        """
        digest = self.market.digest() if market_digest else b""
        self._whole += [Received(*run) for run in self._received.values()]
        self._received.clear()
        batches = [Batch(self._previous, self.position, sorted(self._whole, key=_position))]
        batches += [Batch(self._previous, self.position, items, digest) for items in self._routed]
        self._previous, self._whole = self.position, []
        self._routed = [[] for _ in range(self.partitions)]
        return batches

    def _number(self, event: AnyInput) -> None:
        self.position += 1
        self._receive(event.source, event.source_seq, event.event_time)

    def _receive(self, source: str, number: int, event_time_ns: int) -> None:
        """Note for the folds of the whole store that an input of a source has this position."""
        before = self._received.get(source)
        if before is not None:
            number, event_time_ns = max(number, before[2]), max(event_time_ns, before[3])
        self._received[source] = (self.position, source, number, event_time_ns, self.market.clock_ns)

    # ---- validation and routing -----------------------------------------------------------------------------------

    def _refuse(self, event: AnyInput, reason: Reason) -> Verdict:
        self._refuse_identity(event.source, event.source_seq, reason)
        return REFUSED

    def _refuse_identity(self, source: str, sequence: int, reason: Reason) -> None:
        self.refused += 1
        self.last_refusal = reason
        self._emit(effects.INTAKE_GROUP, effects.InputRefused, reason=reason[0].value, source=source, source_seq=sequence)

    def _book_event(self, event: AnyInput) -> Reason | None:
        match event:
            case PositionChanged():
                return self._trade(event)
            case CollateralMoved():
                return self._move(event)
            case FundingPaid():
                return self._fund(event)
            case AccountOpened():
                return self._open(event)
            case AccountChanged():
                return self._change(event)
            case InstrumentListed():
                return self._list(event)
            case ProfileActivated():
                return self._activate(event)
            case EngineActivated():
                return self._engine(event)
            case PriceTicked() | ClockTicked() | EffectAnswered():
                raise AssertionError("not of a book")
            case _:
                assert_never(event)

    def _answer(self, event: EffectAnswered) -> Reason | None:
        if event.source[0] != "@" or event.source_seq < 1:
            return Refusal.ANSWER_INVALID, f"source: {event.source}#{event.source_seq} is no answer of an outbox"
        if self.market.clock_ns == 0:
            return _CLOCK_REQUIRED
        group = effects.group_of(event.effect)
        entry = self.accounts.entries.get(group)
        if entry is None and group[0] != "@":
            return Refusal.ACCOUNT_UNKNOWN, f"effect: account {group!r} is not open"
        routed = self._whole if entry is None else self._routed[entry.partition]
        routed.append(Answered(self.position, event.source, event.effect, event.source_seq, event.outcome, event.detail))
        return None

    def _trade(self, event: PositionChanged) -> Reason | None:
        market = self.market
        if market.clock_ns == 0:
            return _CLOCK_REQUIRED
        instrument = market.directory.instrument_by_name.get(event.instrument)
        if instrument is None:
            if event.instrument in market.directory.asset_by_name:
                return Refusal.NOT_TRADABLE, f"instrument: {event.instrument} is a currency"
            return Refusal.INSTRUMENT_UNKNOWN, f"instrument: {event.instrument!r} is not listed"
        entry = self.accounts.entries.get(event.account)
        if entry is None:
            return Refusal.ACCOUNT_UNKNOWN, f"account: {event.account!r} is not open"
        reason = self._margin_refusal(event, instrument, entry)
        if reason is not None:
            return reason
        quantity = scaled(event.quantity_delta, instrument.quantity_scale)
        if quantity is None:
            return Refusal.WRONG_SCALE, f"quantity_delta: {instrument.name} has {instrument.quantity_scale} decimal places"
        price = scaled(event.price, instrument.price_scale)
        if price is None:
            return Refusal.WRONG_SCALE, f"price: {instrument.name} has {instrument.price_scale} decimal places"
        fee = scaled(event.fee, instrument.currency.scale)
        if fee is None:
            return Refusal.WRONG_SCALE, f"fee: {instrument.currency.name} has {instrument.currency.scale} decimal places"
        margin = scaled(event.pocket_margin_delta, instrument.currency.scale)
        if margin is None:
            return Refusal.WRONG_SCALE, f"pocket_margin_delta: {instrument.currency.name} has {instrument.currency.scale} decimal places"
        if not 0 <= price < PRICE_LIMIT:
            return Refusal.OUT_OF_RANGE, "price: from 0 up to 2**62 units of the price scale"
        if not (-AMOUNT_LIMIT < quantity < AMOUNT_LIMIT and -AMOUNT_LIMIT < fee < AMOUNT_LIMIT):
            return Refusal.OUT_OF_RANGE, "quantity_delta, fee: within 2**96 units of their scale"
        if not -AMOUNT_LIMIT < margin < AMOUNT_LIMIT:
            return Refusal.OUT_OF_RANGE, "pocket_margin_delta: within 2**96 units of its scale"
        self._routed[entry.partition].append(
            Traded(
                self.position,
                event.account,
                instrument.number,
                _wire(quantity),
                price,
                _wire(fee),
                event.pocket,
                SIDES.index(event.position_side),
                _wire(margin),
                event.leverage,
            )
        )
        return None

    def _margin_refusal(self, event: PositionChanged, instrument: Instrument, entry: Entry) -> Reason | None:
        """Return why a trade does not fit the account's profile as it is in force, or None."""
        if self.market.rules_version < 2:
            return None
        profile = self.market.profiles.get(entry.profile)
        why = "" if profile is None else profile.terms.refuses(instrument)
        if profile is not None and why:
            return (
                Refusal.INSTRUMENT_NOT_MARGINED,
                f"instrument: {instrument.name}: {why} (profile {profile.name}, version {profile.version})",
            )
        if not instrument.perpetual and (event.pocket or event.position_side != "both" or event.pocket_margin_delta[0] or event.leverage):
            return Refusal.POCKET_INVALID, f"pocket, position_side, pocket_margin_delta, leverage: {instrument.name} is no perpetual"
        if event.pocket_margin_delta[0] and not event.pocket:
            return Refusal.POCKET_INVALID, "pocket_margin_delta: names no pocket"
        if event.pocket and profile is not None and not profile.terms.pockets:
            return Refusal.POCKET_INVALID, f"pocket: profile {profile.name} has no isolated pockets"
        return None

    def _move(self, event: CollateralMoved) -> Reason | None:
        if self.market.clock_ns == 0:
            return _CLOCK_REQUIRED
        asset = self.market.directory.asset_by_name.get(event.asset)
        if asset is None:
            return Refusal.ASSET_UNKNOWN, f"asset: {event.asset!r} is not listed"
        entry = self.accounts.entries.get(event.account)
        if entry is None:
            return Refusal.ACCOUNT_UNKNOWN, f"account: {event.account!r} is not open"
        if event.pocket or event.from_pocket is not None:
            profile = self.market.profiles.get(entry.profile)
            if profile is not None and not profile.terms.pockets:
                return Refusal.POCKET_INVALID, f"pocket, from_pocket: profile {profile.name} has no isolated pockets"
            if event.pocket == event.from_pocket:
                return Refusal.POCKET_INVALID, "from_pocket: the pocket itself"
        amount = scaled(event.amount_delta, asset.scale)
        if amount is None:
            return Refusal.WRONG_SCALE, f"amount_delta: {asset.name} has {asset.scale} decimal places"
        if not -AMOUNT_LIMIT < amount < AMOUNT_LIMIT:
            return Refusal.OUT_OF_RANGE, "amount_delta: within 2**96 units of the asset's scale"
        if event.from_pocket is not None and amount <= 0:
            return Refusal.OUT_OF_RANGE, "amount_delta: a transfer between pockets is positive"
        self._routed[entry.partition].append(
            Moved(self.position, event.account, asset.number, _wire(amount), event.call, event.pocket, event.from_pocket)
        )
        return None

    def _fund(self, event: FundingPaid) -> Reason | None:
        market = self.market
        if market.clock_ns == 0:
            return _CLOCK_REQUIRED
        instrument = market.directory.instrument_by_name.get(event.instrument)
        if instrument is None:
            return Refusal.INSTRUMENT_UNKNOWN, f"instrument: {event.instrument!r} is not listed"
        if not instrument.perpetual:
            return Refusal.NOT_TRADABLE, f"instrument: {event.instrument} is no perpetual"
        rate = scaled(event.rate, FUNDING_SCALE)
        if rate is None:
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
        self._route_to_all(Funded(self.position, instrument.number, rate, price))
        return None

    def _route_to_all(self, item: AnyRouted) -> None:
        self._whole.append(item)
        for routed in self._routed:
            routed.append(item)

    def _tick_event(self, event: PriceTicked) -> Reason | None:
        return self._tick(event.source, event.instrument, event.price, event.bid, event.ask)

    def _tick(self, source: str, name: str, price: DecimalPair, bid: DecimalPair | None, ask: DecimalPair | None) -> Reason | None:
        if self.market.clock_ns == 0:
            return _CLOCK_REQUIRED
        instrument = self.market.directory.instrument_by_name.get(name)
        if instrument is None:
            if name in self.market.directory.asset_by_name:
                return Refusal.NOT_TRADABLE, f"instrument: {name} is a currency"
            return Refusal.INSTRUMENT_UNKNOWN, f"instrument: {name!r} is not listed"
        units: list[int] = []
        for field, pair in (("price", price), ("bid", bid), ("ask", ask)):
            if pair is not None:
                amount = scaled(pair, instrument.price_scale)
                if amount is None:
                    return Refusal.WRONG_SCALE, f"{field}: {name} has {instrument.price_scale} decimal places"
                if not -PRICE_LIMIT < amount < PRICE_LIMIT:
                    return Refusal.OUT_OF_RANGE, f"{field}: within 2**62 units of the price scale"
                units.append(amount)
        crossed = bid is not None and ask is not None and units[1] > units[2]
        self._quote(instrument, units[0], source, crossed=crossed)
        return None

    def _quote(self, instrument: Instrument, price: int, source: str, *, crossed: bool) -> None:
        market = self.market
        judged = Quote.CROSSED if crossed else self.guard.judge(instrument, price, source, market)
        number = instrument.number
        if judged is not Quote.ACCEPTED:
            kind = effects.MarkReanchored if judged.marks else effects.MarkRefused
            self._emit(
                effects.MARKET_GROUP,
                kind,
                instrument=instrument.name,
                price=format_scaled(price, instrument.price_scale),
                mark=format_scaled(market.prices[number], instrument.price_scale),
                reason=judged.value,
            )
            if not judged.marks:
                return
        market.mark(number, price)
        item = Marked(self.position, number, price)
        for routed in self._routed:
            routed.append(item)

    def _clock_refusal(self, event: ClockTicked) -> Reason | None:
        clock_ns = self.market.clock_ns
        if event.time < clock_ns:
            return Refusal.CLOCK_BACKWARDS, "time: before the clock"
        if clock_ns and event.time - clock_ns > CLOCK_JUMP_LIMIT_NS and not event.confirmed_by:
            return Refusal.CLOCK_JUMP_UNCONFIRMED, "time: more than 8 days past the clock"
        if event.time == 0:
            return Refusal.OUT_OF_RANGE, "time: past 1970-01-01T00:00:00Z"
        return None

    def _clock(self, event: ClockTicked) -> Reason | None:
        market = self.market
        reason = self._clock_refusal(event)
        if reason is not None:
            return reason
        activated, gone_stale = market.tick_clock(event.time)
        for profile in activated:
            self._emit(effects.MARKET_GROUP, effects.ProfileTookEffect, profile=profile.name, version=profile.version)
        for number in gone_stale:
            instrument = market.directory.instruments[number]
            assert instrument is not None
            self._emit(
                effects.MARKET_GROUP,
                effects.FeedWentStale,
                instrument=instrument.name,
                mark=format_scaled(market.prices[number], instrument.price_scale),
                marked_at_ns=market.marked_at_ns[number],
            )
        self._route_to_all(Clocked(self.position, event.time))
        return None

    def _list(self, event: InstrumentListed) -> Reason | None:
        reason = self.market.directory.refusal(event)
        if reason is not None:
            return reason
        self.market.enlist(event)
        self._route_to_all(Listed(self.position, event))
        return None

    def _activate(self, event: ProfileActivated) -> Reason | None:
        try:
            profile = profile_of(event, self.market.directory, self.market.rules_version)
        except ParameterError as error:
            return Refusal.PROFILE_INVALID, str(error)
        known = self.accounts.profiles.get(event.profile)
        if known is not None:
            if event.version <= known[1]:
                return Refusal.PROFILE_VERSION_NOT_NEWER, f"version: {event.profile} has version {known[1]} already"
            if profile.terms.base != known[0]:
                return Refusal.PROFILE_INVALID, "parameters.base_currency: never changes"
        self.accounts.profiles[event.profile] = (profile.terms.base, event.version)
        self.market.waiting.append(event)
        self._route_to_all(Activated(self.position, event))
        return None

    def _engine(self, event: EngineActivated) -> Reason | None:
        now = self.market.rules_version
        if not now <= event.version <= LATEST:
            return Refusal.ENGINE_UNKNOWN, f"version: {event.version}; in force is {now}, the latest is {LATEST}"
        if event.version > now:
            self.market.rules_version = event.version
            self.accounts.adopt(event.version)
            self._route_to_all(EngineMoved(self.position, event.version))
        return None

    def _open(self, event: AccountOpened) -> Reason | None:
        name = event.account
        if not 1 <= len(name) <= 64 or not ACCOUNT_CHARACTERS.issuperset(name):
            return Refusal.ACCOUNT_INVALID, f"account: {name[:80]!r}"
        if event.margin_group not in ("", name):
            return Refusal.ACCOUNT_INVALID, "margin_group: the account itself"
        if name in self.accounts.entries:
            return Refusal.ACCOUNT_OPENED_ALREADY, f"account: {name} is open"
        base = self.market.directory.asset_by_name.get(event.base_currency)
        if base is None:
            return Refusal.ASSET_UNKNOWN, f"base_currency: {event.base_currency!r} is not listed"
        reason = self._profile_refusal(event.profile, base.number)
        if reason is not None:
            return reason
        entry = self.accounts.admit(name, base.number, event.profile)
        self._routed[entry.partition].append(Opened(self.position, name, base.number, event.profile, event.desk, event.contacts))
        return None

    def _profile_refusal(self, name: str, base: int) -> Reason | None:
        known = self.accounts.profiles.get(name)
        if known is None:
            return Refusal.PROFILE_UNKNOWN, f"profile: {name!r} was never activated"
        if known[0] != base:
            return Refusal.ACCOUNT_INVALID, f"profile: {name} has another base currency"
        return None

    def _change(self, event: AccountChanged) -> Reason | None:
        entry = self.accounts.entries.get(event.account)
        if entry is None:
            return Refusal.ACCOUNT_UNKNOWN, f"account: {event.account!r} is not open"
        if event.profile is not None:
            reason = self._profile_refusal(event.profile, entry.base)
            if reason is not None:
                return reason
            self.accounts.admit(event.account, entry.base, event.profile)
        self._routed[entry.partition].append(Changed(self.position, event.account, event.profile, event.desk, event.contacts))
        return None

    # ---- effects, digest, checkpoint ------------------------------------------------------------------------------

    def _emit(self, group: str, kind: type[effects.Effect], **fields: Any) -> None:
        number = self.book.next_number(group)
        effect = kind(id=f"{group}/{number}", position=self.position, at_ns=self.market.clock_ns, **fields)
        self.book.emit(self.position, group, encode(effect))

    def facts(self) -> list[Any]:
        """Return everything that is digested, large sets by their sums."""
        feeds, books, undecodable, *answers = self.sources.facts()
        return [
            self.position,
            self.market.digest(),
            self.accepted,
            self.refused,
            feeds,
            books,
            self.accounts.facts(),
            undecodable,
            [[number, quotes] for number, quotes in sorted(self.guard.refused.items())],
            self.book.head(effects.MARKET_GROUP)[0],
            self.book.head(effects.INTAKE_GROUP)[0],
            *answers,
        ]

    def digest(self) -> bytes:
        """Return the SHA-256 of the facts."""
        return sha256(encode(self.facts())).digest()

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows that changed since the last ``mark_stored``: key and value; the row ``meta`` comes last."""
        yield from self.accounts.rows()
        yield from self.sources.rows()
        yield b"meta", encode([self.facts(), self.market.packed(), self.accounts.profile_rows()])

    def mark_stored(self) -> None:
        """Take the changed rows for stored."""
        self.accounts.mark_stored()
        self.sources.mark_stored()

    def restore(self, position: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Set the whole state from its rows, in order of key. Compare the digest before using it.

        Raises:
            msgspec.DecodeError, KeyError, ValueError: the rows are not what ``rows`` yields.
        """
        meta = b""
        accounts: list[tuple[bytes, bytes]] = []
        identities: list[tuple[bytes, bytes]] = []
        for key, value in rows:
            if key.startswith(b"account/"):
                accounts.append((key, value))
            elif key == b"meta":
                meta = value
            else:
                identities.append((key, value))
        facts, market, versions = msgspec.msgpack.decode(meta)
        self.market = Market.unpacked(market)
        self.accounts = AccountIndex(self.partitions, self.market.rules_version)
        self.accounts.restore(accounts, versions)
        self.position, _, self.accepted, self.refused, feeds, books, _, undecodable, quotes, _, _, *answers = facts
        check(self.position == position, "the intake stands where its marker says", expected=position, got=self.position)
        self._previous = position
        self.sources.restore([feeds, books, undecodable, *answers], identities)
        self.guard.refused = {number: [(price, source) for price, source in row] for number, row in quotes}


_CLOCK_REQUIRED: Reason = (Refusal.CLOCK_REQUIRED, "no clock_ticked came yet")


def _position(item: AnyRouted) -> int:
    return item.position


def _wire(value: int) -> int | bytes:
    """Return an integer that msgpack can carry, or its bytes."""
    if -(2**63) <= value < 2**63:
        return value
    return value.to_bytes((value.bit_length() + 8) // 8, "big", signed=True)


__all__ = ["IntakeFold", "Verdict"]
