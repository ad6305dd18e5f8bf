"""The intake fold: the one order. Drops duplicates, refuses what is not valid, numbers the rest, turns quotes into
marks, routes by group.

A sequence number is the number of an item after duplicates are dropped. It is given here and nowhere else, so it is the
same however often inputs were sent and however records were cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from hashlib import sha256
from typing import Any, assert_never

import msgspec

from margin_stream.core.checks import check
from margin_stream.core.effect_book import EffectBook
from margin_stream.core.intake import validation
from margin_stream.core.intake.account_index import AccountIndex
from margin_stream.core.intake.identity import IDENTITY_WINDOW, FeedSource, Seen
from margin_stream.core.intake.quotes import Quotes
from margin_stream.core.intake.routes import Routes
from margin_stream.core.intake.sources import MIXED, RESTARTED, Sources
from margin_stream.core.intake.validation import PRICE_LIMIT, Reason, column_pair
from margin_stream.core.market.market import Market
from margin_stream.core.sequenced import (
    Activated,
    Batch,
    Changed,
    Clocked,
    Listed,
    Opened,
    RulesMoved,
    Traded,
)
from margin_stream.schemas import effects
from margin_stream.schemas.binary import encode
from margin_stream.schemas.columns import ABSENT, TickColumns, unpack
from margin_stream.schemas.decimals import format_scaled, whole
from margin_stream.schemas.inputs import (
    AccountChanged,
    AccountOpened,
    AnyInput,
    ClockTicked,
    CollateralMoved,
    EffectAnswered,
    EngineActivated,
    FeedRestarted,
    FundingPaid,
    InstrumentListed,
    MarkConfirmed,
    PositionChanged,
    PriceTicked,
    ProfileActivated,
)
from margin_stream.schemas.refusals import Refusal


class Verdict(Enum):
    """What became of an item."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


ACCEPTED, DUPLICATE, REFUSED = Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.REFUSED


class IntakeFold:
    """The intake of one store."""

    name = "intake"

    def __init__(self, partitions: int, *, rules_version: int, window: int = IDENTITY_WINDOW) -> None:
        self.routes = Routes(partitions)
        self.sources = Sources(window)
        self.market = Market(rules_version)
        self.book = EffectBook()
        """Shared with the folds of the whole store."""
        self.sequence = 0
        self.accepted = 0
        self.refused = 0
        self.last_refusal: Reason | None = None
        """Reason and detail of the last refusal, for the caller; not a fact."""
        self.refused_ticks: list[tuple[int, int, Reason]] = []
        """Position, place and reason of what the last ``offer_columns`` refused, for the caller; not a fact."""
        self.quotes = Quotes(self.market, self.routes, self.book)
        self.accounts = AccountIndex(partitions)

    # ---- offering items -------------------------------------------------------------------------------------------

    def offer(self, event: AnyInput, content: bytes) -> Verdict:
        """Take one event.

        Args:
            event: decoded.
            content: its canonical bytes (``schemas.binary.canonical_bytes``); read for events of books alone.
        """
        source, sequence = event.source, event.source_seq
        reason: Reason | None
        if type(event) is PriceTicked or type(event) is ClockTicked:
            content = b""
            feed = self.sources.feed(source, sequence, event.event_time)
            if feed is None:
                return DUPLICATE
            self.sequence += 1
            self._receive(source, sequence, event.event_time)
            if feed is MIXED:
                reason = (Refusal.SOURCE_KIND_MIXED, f"source: {source} is a book")
            elif feed is RESTARTED:
                reason = self._restarted(source, sequence)
            elif isinstance(event, PriceTicked):
                prices = (event.price, event.bid, event.ask)
                reason = self.quotes.tick(self.sequence, source, event.instrument, prices)
            else:
                reason = self._clock(event)
        elif type(event) is EffectAnswered:
            if not self.sources.answer(source, event.effect, sequence):
                return DUPLICATE
            self.sequence += 1
            entry = self.accounts.entries.get(effects.group_of(event.effect))
            reason = self.routes.to_account(entry, validation.answer(event, self.sequence, self.market, entry))
        else:
            seen = self.sources.book(source, sequence, event.event_time, content)
            if seen is Seen.DUPLICATE:
                return DUPLICATE
            self.sequence += 1
            self._receive(source, sequence, event.event_time)
            if seen is Seen.REUSED:
                reason = (Refusal.IDENTITY_REUSED, f"source_seq: {source}#{sequence} came before with another content")
            elif seen is Seen.MIXED:
                reason = (Refusal.SOURCE_KIND_MIXED, f"source: {source} is a feed")
            else:
                reason = self._book_event(event)
        if reason is not None:
            if type(event) is not EffectAnswered:
                self.sources.refuse(source, sequence, content)
            return self._refuse(reason, source=source, source_seq=sequence)
        self.accepted += 1
        return ACCEPTED

    def offer_undecodable(self, raw: bytes, refusal: Refusal, detail: str) -> Verdict:
        """Take an input that could not be decoded."""
        if (digest := self.sources.raw(raw)) is None:
            return DUPLICATE
        self.sequence += 1
        return self._refuse((refusal, detail), digest=digest.hex())

    def offer_columns(self, columns: TickColumns) -> tuple[int, int, int]:
        """Take ticks in columns, item by item; return how many were accepted, duplicate, refused."""
        duplicates = refused = accepted = 0
        self.refused_ticks.clear()
        source = columns.source
        names, exponents = columns.instruments, columns.exponents
        found = validation.column_scales(names, exponents, self.market)
        bids = unpack("q", columns.bid) if columns.bid else None
        asks = unpack("q", columns.ask) if columns.ask else None
        rows = zip(unpack("H", columns.index), unpack("q", columns.sequence), unpack("q", columns.price), strict=True)
        times = unpack("q", columns.time)
        newest_ns, highest = 0, -1
        feed: FeedSource | None = None
        for n, (place, sequence, mantissa) in enumerate(rows):
            event_time_ns = times[n]
            if (
                feed is not None
                and feed is not MIXED
                and feed is not RESTARTED
                and sequence > feed.highest
                and event_time_ns > feed.newest[0]
            ):
                feed.highest, feed.newest = sequence, (event_time_ns, sequence)
            else:
                feed = self.sources.feed(source, sequence, event_time_ns)
                if feed is None:
                    duplicates += 1
                    continue
            self.sequence += 1
            if sequence > highest:
                highest = sequence
            if event_time_ns > newest_ns:
                newest_ns = event_time_ns
            bid = None if bids is None or bids[n] == ABSENT else bids[n]
            ask = None if asks is None or asks[n] == ABSENT else asks[n]
            known = found[place]
            reason: Reason | None
            if feed is MIXED:
                reason = (Refusal.SOURCE_KIND_MIXED, f"source: {source} is a book")
            elif feed is RESTARTED:
                reason = self._restarted(source, sequence)
            elif (
                known is None
                or bid is not None
                or ask is not None
                or not -PRICE_LIMIT < mantissa * known[1] < PRICE_LIMIT
            ):
                exponent = exponents[place]
                prices = (
                    column_pair(mantissa, exponent),
                    None if bid is None else column_pair(bid, exponent),
                    None if ask is None else column_pair(ask, exponent),
                )
                reason = self.quotes.tick(self.sequence, source, names[place], prices)
            else:
                reason = None
                self.quotes.take(self.sequence, known[0], mantissa * known[1], source, crossed=False)
            if reason is None:
                accepted += 1
            else:
                refused += 1
                self.refused_ticks.append((self.sequence, n, reason))
                self.sources.refuse(source, sequence, b"")
                self._refuse(reason, source=source, source_seq=sequence)
        self.accepted += accepted
        if accepted + refused:
            self._receive(source, highest, newest_ns)
        return accepted, duplicates, refused

    def _receive(self, source: str, number: int, event_time_ns: int) -> None:
        self.routes.receive(self.sequence, source, number, event_time_ns, self.market.clock_ns)

    def moves_clock(self, event: ClockTicked) -> bool:
        """Return whether a clock would be accepted now: new, of a feed, not backwards, no unconfirmed jump."""
        return self.sources.is_new_of_feed(event.source, event.source_seq, event.event_time) and isinstance(
            validation.clock(event, 0, self.market), Clocked
        )

    def take(self, *, market_digest: bool = False) -> list[Batch]:
        """Return what was routed since the last time, to the folds of the whole store and to each partition; start
        anew.

        Args:
            market_digest: let the partitions compare their copy of the market.
        """
        return self.routes.take(self.sequence, self.market.digest() if market_digest else b"")

    # ---- books ----------------------------------------------------------------------------------------------------

    def _refuse(self, reason: Reason, **identity: Any) -> Verdict:
        self.refused += 1
        self.last_refusal = reason
        self._emit(effects.INTAKE_GROUP, effects.InputRefused, reason=reason[0].value, **identity)
        return REFUSED

    def _book_event(self, event: AnyInput) -> Reason | None:
        sequence, market, accounts = self.sequence, self.market, self.accounts
        match event:
            case PositionChanged():
                entry = accounts.entries.get(event.account)
                traded = validation.trade(event, sequence, market, entry)
                if isinstance(traded, Traded):
                    instrument = market.directory.instruments[traded.instrument]
                    if instrument is not None and instrument.perpetual:
                        held = (traded.subaccount, traded.instrument, traded.side)
                        accounts.trade(traded.account, held, whole(traded.quantity))
                return self.routes.to_account(entry, traded, event.account)
            case CollateralMoved():
                entry = accounts.entries.get(event.account)
                return self.routes.to_account(entry, validation.move(event, sequence, market, entry), event.account)
            case FundingPaid():
                return self.routes.to_all(validation.funding(event, sequence, market))
            case AccountOpened():
                opened = validation.opening(event, sequence, market, accounts)
                if isinstance(opened, Opened):
                    accounts.admit(event.account, opened.base, event.profile)
                return self.routes.to_account(accounts.entries.get(event.account), opened, event.account)
            case AccountChanged():
                changed = validation.change(event, sequence, market, accounts)
                if isinstance(changed, Changed) and event.profile is not None:
                    accounts.admit(event.account, accounts.entries[event.account].base, event.profile)
                return self.routes.to_account(accounts.entries.get(event.account), changed, event.account)
            case InstrumentListed():
                reason = market.directory.refusal(event)
                if reason is None:
                    market.enlist(event)
                return self.routes.to_all(reason or Listed(sequence, event))
            case ProfileActivated():
                return self._activate(event)
            case EngineActivated():
                moved = validation.rules(event, sequence, market)
                if isinstance(moved, RulesMoved):
                    if moved.version == market.rules_version:
                        return None
                    market.rules_version = moved.version
                return self.routes.to_all(moved)
            case MarkConfirmed():
                return self.quotes.confirm(self.sequence, event)
            case FeedRestarted():
                feed = self.sources.feeds.get(event.feed)
                if feed is None:
                    return Refusal.FEED_UNKNOWN, f"feed: {event.feed!r} sent nothing yet"
                feed.restart()
                return None
            case PriceTicked() | ClockTicked() | EffectAnswered():
                raise AssertionError("not of a book")
            case _:
                assert_never(event)

    def _activate(self, event: ProfileActivated) -> Reason | None:
        if isinstance(profile := validation.activation(event, self.market, self.accounts), tuple):
            return profile
        self.accounts.profiles[event.profile] = (profile.calculator.base, event.version)
        self.market.wait(event)
        return self.routes.to_all(Activated(self.sequence, event))

    # ---- feeds and the clock ---------------------------------------------------------------------------------------

    def _restarted(self, source: str, sequence: int) -> Reason:
        """Return why an item of a feed is refused that numbers anew; the first of them is an effect."""
        feed = self.sources.feeds[source]
        if not feed.restarted:
            feed.restarted = True
            self._emit(
                effects.MARKET_GROUP,
                effects.FeedNumbersRestarted,
                source=source,
                number=sequence,
                highest=feed.highest,
            )
        return (
            Refusal.FEED_NUMBERS_RESTARTED,
            f"source_seq: {sequence} is not above {feed.highest}, though event_time is newer: {source!r} numbers anew",
        )

    def _clock(self, event: ClockTicked) -> Reason | None:
        market = self.market
        if isinstance(clocked := validation.clock(event, self.sequence, market), tuple):
            return clocked
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
        return self.routes.to_all(clocked)

    # ---- effects, digest, checkpoint ------------------------------------------------------------------------------

    def _emit(self, group: str, kind: type[effects.Effect], **fields: Any) -> None:
        self.book.emit(kind, self.sequence, self.market.clock_ns, group, **fields)

    def facts(self) -> list[Any]:
        """Return everything that is digested, large sets by their sums."""
        feeds, books, undecodable, *answers = self.sources.facts()
        return [
            self.sequence,
            self.market.digest(),
            self.accepted,
            self.refused,
            feeds,
            books,
            self.accounts.facts(),
            undecodable,
            self.quotes.facts(),
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

    def restore(self, sequence: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Set the whole state from its rows, in order of key. Compare the digest before using it.

        Raises:
            msgspec.DecodeError, KeyError, ValueError: the rows are not what ``rows`` yields.
        """
        rows = list(rows)
        facts, market, profiles = msgspec.msgpack.decode(next((value for key, value in rows if key == b"meta"), b""))
        self.market = Market.unpacked(market)
        self.accounts = AccountIndex(self.routes.partitions)
        self.accounts.restore(rows, profiles)
        self.sequence, _, self.accepted, self.refused, feeds, books, _, undecodable, quotes, _, _, *answers = facts
        check(
            self.sequence == sequence, "the intake stands where its marker states", expected=sequence, got=self.sequence
        )
        self.routes.previous = sequence
        self.sources.restore([feeds, books, undecodable, *answers], rows)
        self.quotes.restore(self.market, quotes)
