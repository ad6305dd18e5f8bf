"""The account fold of one partition: routed items in, effects out. Pure: nothing but the items decides.

Accounts live as packed rows; those that were touched last are also kept unpacked. Ticks are driven through price boxes
(``margin_stream.core.revaluation.price_boxes``); the *plain* way, which values every holder at every tick, is kept as
the reference: both give the same effects and facts, item for item.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import ClassVar, assert_never

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.coverage import Coverage
from margin_stream.core.accounts.evaluator import Evaluator
from margin_stream.core.accounts.holders import Holders
from margin_stream.core.accounts.rows import AccountRows
from margin_stream.core.accounts.subaccount import NEVER, Subaccount
from margin_stream.core.accounts.timers import Timers
from margin_stream.core.accounts.transactions import Transactions
from margin_stream.core.checks import check
from margin_stream.core.digests import pack_sums
from margin_stream.core.effect_book import EffectBook, Emitted
from margin_stream.core.fold import FoldBase
from margin_stream.core.margin.valuation import Banded, Corners, Exact
from margin_stream.core.market.market import Market
from margin_stream.core.revaluation.filter import PriceBoxFilter, RevaluationFilter
from margin_stream.core.sequenced import (
    AccountItem,
    Activated,
    Changed,
    Clocked,
    Doubted,
    Funded,
    Listed,
    Marked,
    Moved,
    Opened,
    RulesMoved,
    Traded,
)

MARKET = b"\0market"
"""The key of the row that holds the market; it sorts before every account."""


class AccountFold(FoldBase):
    """One partition's accounts."""

    name = "accounts"
    reads: ClassVar[tuple[type, ...]] = AccountItem.__args__

    def __init__(
        self,
        book: EffectBook,
        *,
        rules_version: int,
        boxes: bool = True,
        only: str | None = None,
        price_filter: RevaluationFilter | None = None,
    ) -> None:
        """
        Args:
            book: that it emits into.
            rules_version: that is in force at the start.
            boxes: drive ticks through price boxes; False is the plain way.
            price_filter: drive ticks through another price filter.
            only: fold this account alone (to look at one account's past); every other is passed over.
        """
        self.market = Market(rules_version)
        self.book = book
        self.sequence = 0
        """Of the last item applied."""
        self._only = only
        self._corners = Corners()
        self._rows = AccountRows(self.market.directory)
        self._holders = Holders(self._rows)
        self._timers = Timers()
        found = price_filter or (PriceBoxFilter() if boxes else None)
        self._coverage = None if found is None else Coverage(found, self._rows, self._corners)
        self._evaluator = Evaluator(book, self._rows, self._timers, self._corners, self._coverage, self.market)
        self._transactions = Transactions(self._rows, self._holders, self._evaluator)

    # ---- the fold -------------------------------------------------------------------------------------------------

    def apply(self, item: AccountItem) -> None:
        """Fold one item."""
        self.sequence = self._evaluator.sequence = item.sequence
        match item:
            case Marked():
                self._mark(item.instrument, item.price)
            case Doubted():
                self.market.doubt(item.instrument, item.lowest, item.highest)
                for account in self._holders.depending_on(item.instrument, self.market):
                    self._evaluator.evaluate_to_rest(account)
            case Traded():
                if self._only is None or item.account == self._only:
                    self._transactions.trade(item)
            case Moved():
                if self._only is None or item.account == self._only:
                    self._transactions.move(item)
            case Clocked():
                self._clock(item.now_ns)
            case Opened():
                if self._only is None or item.account == self._only:
                    self._open(item)
            case Changed():
                if self._only is None or item.account == self._only:
                    self._change(item)
            case Listed():
                self._list(item)
            case Activated():
                self.market.wait(item.activation)
            case Funded():
                self._transactions.fund(item)
            case RulesMoved():
                self.market.rules_version = item.version
            case _:
                assert_never(item)

    def _list(self, item: Listed) -> None:
        self.market.enlist(item.listed)
        if len(self._corners.lowest) < len(self.market.prices):
            self._corners.fit(self.market)
            if self._coverage is not None:
                self._coverage.filter.add_instrument()

    def _mark(self, number: int, price: int) -> None:
        market, coverage, evaluator = self.market, self._coverage, self._evaluator
        if coverage is None:
            market.mark(number, price)
            for account in self._holders.depending_on(number, market):
                evaluator.evaluate_to_rest(account)
            return
        coverage.complete(market)
        fresh_again = market.mark(number, price)
        price_filter = coverage.filter
        reached = price_filter.reached(number, price)
        if fresh_again:
            anew = dict.fromkeys(self._holders.depending_on(number, market))
            for account in anew:
                evaluator.evaluate_to_rest(account)
            reached = [account for account in reached if account not in anew]
        for account in reached:
            if evaluator.evaluate(account, moved=number) or not price_filter.keeps(account):
                coverage.renew(account)

    def _clock(self, now_ns: int) -> None:
        activated, gone_stale = self.market.tick_clock(now_ns)
        if activated:
            names = {profile.name for profile in activated}
            for account in range(len(self._rows.ids)):
                touched = self._rows.account(account)
                if touched.profile in names:
                    for part in touched.subaccounts():
                        part.guard_states = None
                    self._evaluator.evaluate_to_rest(account)
        if gone_stale:
            concerned: dict[int, None] = {}
            for number in gone_stale:
                concerned.update(dict.fromkeys(self._holders.depending_on(number, self.market)))
            for account in concerned:
                self._evaluator.evaluate_to_rest(account)
        for account in self._timers.due(now_ns):
            self._evaluator.run_timers(account)

    def _open(self, item: Opened) -> None:
        number = self._admitted(self._rows.admit(item.account, b""))
        self._rows.keep(number, Account(item.account, item.base, item.profile, item.desk, list(item.contacts)))
        self._evaluator.touch(number)

    def _admitted(self, number: int) -> int:
        if self._coverage is not None:
            self._coverage.filter.add_account()
        return number

    def _change(self, item: Changed) -> None:
        number = self._rows.numbers[item.account]
        account = self._rows.account(number)
        if item.desk is not None:
            account.desk = item.desk
        if item.contacts is not None:
            account.contacts = list(item.contacts)
        if item.profile is not None:
            account.profile = item.profile
            account.cross.pricings = NEVER
            for part in account.subaccounts():
                part.guard_states = None
        self._evaluator.evaluate_to_rest(number)
        self._evaluator.touch(number)

    def rest_all(self) -> list[Emitted]:
        """Evaluate every account once more. At rest nothing is emitted; that is a law, and this is how it is tested."""
        for number in range(len(self._rows.ids)):
            self._evaluator.evaluate_to_rest(number)
        return self.book.drain()

    # ---- rows and digests -----------------------------------------------------------------------------------------

    def sums(self) -> dict[int, int]:
        """Return the sum of each slot's rows, brought up to date."""
        return self._rows.sums()

    def market_digest(self) -> bytes:
        """Return the digest of the partition's copy of the market."""
        return self.market.digest()

    def digest(self) -> bytes:
        """Return the SHA-256 over market and slot sums."""
        return sha256(self.market.digest() + pack_sums(self.sums())).digest()

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the market, and the row of each account that changed since the last ``mark_stored``."""
        yield MARKET, self.market.packed()
        yield from self._rows.changed()

    def mark_stored(self) -> None:
        """Take the changed rows for stored."""
        self._rows.mark_stored()

    def restore(self, position: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Set the whole state from the row of the market and those of the accounts behind it.

        Slot sums are recomputed from the rows, so a digest over them confirms every byte.
        """
        self.sequence = position
        given = iter(rows)
        key, packed = next(given, (b"", b""))
        if not key:
            return
        check(key == MARKET, "the row of the market comes first", key=key)
        market = self.market = self._evaluator.market = Market.unpacked(packed)
        self._rows.directory = market.directory
        self._corners.fit(market)
        coverage = self._coverage
        if coverage is not None:
            for number in range(1, len(market.prices)):
                coverage.filter.add_instrument()
                if market.prices[number]:
                    coverage.filter.place(number, market.prices[number])
            coverage.empty = True
        for key, row in given:
            if self._only is not None and key.decode() != self._only:
                continue
            number, account = self._rows.restored(row)
            self._admitted(number)
            self._holders.restore(number, account)
            if account.cross.pending_since_ns >= 0 or account.cross.calls:
                profile = market.profiles.get(account.profile)
                if profile is not None:
                    self._evaluator.arm(number, account, profile)

    # ---- what can be asked ----------------------------------------------------------------------------------------

    def accounts(self) -> Iterator[Account]:
        """Yield every account, in order of opening. Do not keep or change them."""
        return self._rows.all()

    def account(self, identifier: str) -> Account | None:
        """Return one account, or None."""
        number = self._rows.numbers.get(identifier)
        return None if number is None else self._rows.account(number)

    def valuation(self, account: Account, subaccount: Subaccount) -> Exact | Banded | None:
        """Return the valuation of a subaccount at the marks as they are; None where the account's profile has not taken
        effect."""
        profile = self.market.profiles.get(account.profile)
        return None if profile is None else self._evaluator.valuation(subaccount, profile)

    @property
    def account_count(self) -> int:
        """How many accounts the partition has."""
        return len(self._rows.ids)

    @property
    def evaluations(self) -> int:
        """Valuations made since the start; not a fact."""
        return self._evaluator.evaluations

    @property
    def near_trigger_count(self) -> int:
        """How many accounts are too close to a guard for a box."""
        return 0 if self._coverage is None else self._coverage.filter.near_trigger_count
