"""The account fold of one partition: routed items in, effects out. Pure: nothing but the items decides.

Accounts live as packed rows; those that were touched last are also kept unpacked. Ticks are driven through price boxes
(``margin_stream.core.revaluation.price_boxes``); the *plain* way, which values every holder at every tick, is kept as
the reference: both give the same effects and facts, item for item.

It is one file of more than 400 lines because booking, holders, timers and evaluation share the accounts that are kept
unpacked and what is dirty of them; they part once an account has subaccounts that can be handed about on their own.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any, ClassVar, assert_never

from margin_stream.core.accounts.account import Account, unpacked
from margin_stream.core.accounts.position import SIDES, split_key
from margin_stream.core.accounts.postings import book_funding, book_move, book_perpetual, book_spot, integer, sweep
from margin_stream.core.accounts.subaccount import Subaccount
from margin_stream.core.calls import lifecycle, payments
from margin_stream.core.calls.case import Case
from margin_stream.core.checks import check
from margin_stream.core.digests import MODULUS, leaf, pack_sums, slot_of
from margin_stream.core.effect_book import EffectBook, Emitted
from margin_stream.core.fold import FoldBase
from margin_stream.core.margin.guards import GuardState
from margin_stream.core.margin.model import Profile, SaleLeg
from margin_stream.core.margin.valuation import Banded, Corners, Exact, guard_states, value
from margin_stream.core.market.market import Market
from margin_stream.core.revaluation.filter import GuardTests, PriceBoxFilter, RevaluationFilter
from margin_stream.core.sequenced import (
    AccountItem,
    Activated,
    Changed,
    Clocked,
    Funded,
    Listed,
    Marked,
    Moved,
    Opened,
    RulesMoved,
    Traded,
)
from margin_stream.schemas import effects
from margin_stream.schemas.decimals import format_scaled
from margin_stream.schemas.effects import AccountEffect

UNPACKED_LIMIT = 8192
"""So many accounts are kept unpacked; the oldest quarter is packed when there are more."""


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
            watch: drive ticks through another watch.
            only: fold this account alone (to look at one account's past); every other is passed over.
        """
        self.market = Market(rules_version)
        self.book = book
        self.sequence = 0
        """Of the last item applied."""
        self._only = only
        self._filter: RevaluationFilter | None = price_filter or (PriceBoxFilter() if boxes else None)
        self._ids: list[str] = []
        self._number: dict[str, int] = {}
        self._rows: list[bytes] = []
        self._unpacked: dict[int, Account] = {}
        self._dirty: set[int] = set()
        self._changed: set[int] = set()
        """Accounts whose stored row is out of date. Iterated sorted."""
        self._holders: dict[int, array[int]] = {}
        """Asset -> accounts that hold it or once did."""
        self._perpetual_holders: dict[int, array[int]] = {}
        """Instrument -> accounts that hold the perpetual or once did."""
        self._uncertified: dict[int, bool] = {}
        """Accounts that are to be given to the watch before the next mark; True where it was told to forget them."""
        self._unwatched = False
        """The watch knows no account yet: all are to be given to it."""
        self._timers: list[tuple[int, int]] = []
        self._armed: dict[int, int] = {}
        self._overdue: dict[int, None] = {}
        """Accounts with a timer that is due but undecided; looked at again at every clock."""
        self.state_sums: dict[int, int] = {}
        self._corners = Corners()
        self.evaluations = 0
        """Valuations made since the start; not a fact."""

    # ---- the fold -------------------------------------------------------------------------------------------------

    def apply(self, item: AccountItem) -> None:
        """Fold one item."""
        self.sequence = item.sequence
        match item:
            case Marked():
                self._mark(item.instrument, item.price)
            case Traded():
                if self._only is None or item.account == self._only:
                    self._trade(item)
            case Moved():
                if self._only is None or item.account == self._only:
                    self._move(item)
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
                self.market.waiting.append(item.activation)
            case Funded():
                self._fund(item)
            case RulesMoved():
                self.market.rules_version = item.version
            case _:
                assert_never(item)

    def _list(self, item: Listed) -> None:
        self.market.enlist(item.listed)
        if len(self._corners.lowest) < len(self.market.prices):
            self._corners.fit(self.market)
            if self._filter is not None:
                self._filter.add_instrument()

    def _mark(self, number: int, price: int) -> None:
        market = self.market
        price_filter = self._filter
        if price_filter is None:
            market.mark(number, price)
            for account in self._depending_on(number):
                self._rest(account)
            return
        if self._uncertified or self._unwatched:
            self._certify_all()
        fresh_again = market.mark(number, price)
        reached = price_filter.reached(number, price)
        if fresh_again:
            anew = dict.fromkeys(self._depending_on(number))
            for account in anew:
                self._rest(account)
            reached = [account for account in reached if account not in anew]
        for account in reached:
            if self._settled(account, moved=number) or not price_filter.keeps(account):
                self._uncertified.setdefault(account, False)

    def _clock(self, now_ns: int) -> None:
        activated, gone_stale = self.market.tick_clock(now_ns)
        if activated:
            names = {profile.name for profile in activated}
            for account in range(len(self._ids)):
                touched = self._account(account)
                if touched.profile in names:
                    for part in touched.parts():
                        part.guard_states = None
                    self._rest(account)
        if gone_stale:
            concerned: dict[int, None] = {}
            for number in gone_stale:
                concerned.update(dict.fromkeys(self._depending_on(number)))
            for account in concerned:
                self._rest(account)
        timers = self._timers
        overdue = self._overdue
        while timers and timers[0][0] <= now_ns:
            due_ns, account = heapq.heappop(timers)
            if self._armed.get(account) == due_ns:
                del self._armed[account]
                overdue[account] = None
        if overdue:
            self._overdue = {}
            for account in overdue:
                self._run_timers(account)

    def _open(self, item: Opened) -> None:
        number = len(self._ids)
        self._admit(item.account, b"")
        account = Account(item.account, item.base, item.profile, item.desk, list(item.contacts))
        self._keep(number, account)
        self._touch(number)

    def _change(self, item: Changed) -> None:
        number = self._number[item.account]
        account = self._account(number)
        if item.desk is not None:
            account.desk = item.desk
        if item.contacts is not None:
            account.contacts = list(item.contacts)
        if item.profile is not None:
            account.profile = item.profile
            for part in account.parts():
                part.guard_states = None
        self._rest(number)
        self._touch(number)

    def _trade(self, item: Traded) -> None:
        number = self._number[item.account]
        account = self._account(number)
        instrument = self.market.directory.instruments[item.instrument]
        assert instrument is not None
        self._hold(number, account, instrument.currency.number)
        ends = False
        if instrument.perpetual:
            self._hold_perpetual(number, account, instrument.number)
            book_perpetual(account, instrument, item)
            ends = bool(item.subaccount) and not account.subaccounts[item.subaccount].perpetuals
        else:
            self._hold(number, account, instrument.base.number)
            book_spot(account, instrument, item)
        self._rest(number, money=(item.subaccount, "") if item.margin else (item.subaccount,))
        if ends:
            self._sweep(number, account, item.subaccount)
        self._touch(number)

    def _move(self, item: Moved) -> None:
        number = self._number[item.account]
        account = self._account(number)
        self._hold(number, account, item.asset)
        if item.subaccount or item.from_pocket is not None:
            book_move(account, item)
            names = (item.subaccount,) if item.from_pocket is None else (item.subaccount, item.from_pocket)
            self._rest(number, money=names)
            for name in names:
                if name:
                    subaccount = account.subaccounts[name]
                    if subaccount.empty or (subaccount.positions and not subaccount.perpetuals):
                        self._sweep(number, account, name)
            self._touch(number)
            return
        amount = integer(item.amount)
        before = account.balances.get(item.asset, 0)
        account.move(item.asset, amount)
        profile = self.market.profiles.get(account.profile)
        if profile is not None and (account.calls or item.call):
            worth = profile.calculator.credit(item.asset, before, amount, self.market.prices)
            case = self._case(account, account, profile)
            if worth is None:
                if amount > 0:
                    named = payments.named_call(case, item.call)
                    account.pending_deposits.append((item.asset, before, amount, case.call_id(named) if named else ""))
            elif amount > 0:
                payments.credit(case, worth, item.call)
            else:
                payments.withdraw(case, worth)
        self._rest(number, money=("",))
        self._touch(number)

    def _fund(self, item: Funded) -> None:
        instrument = self.market.directory.instruments[item.instrument]
        assert instrument is not None
        for number in dict.fromkeys(self._perpetual_holders.get(item.instrument, ())):
            account = self._account(number)
            if account.holds_perpetual(item.instrument):
                self._hold(number, account, instrument.currency.number)
                concerned = book_funding(account, instrument, item.rate, item.price)
                self._rest(number, money=[subaccount.name for subaccount in concerned])
                self._touch(number)

    def _sweep(self, number: int, account: Account, name: str) -> None:
        subaccount = account.subaccounts.get(name)
        moves = subaccount is not None and bool(subaccount.balances)
        if sweep(account, name) and moves:
            self._rest(number, money=("",))

    # ---- accounts -------------------------------------------------------------------------------------------------

    def _admit(self, identifier: str, row: bytes) -> None:
        self._number[identifier] = len(self._ids)
        self._ids.append(identifier)
        self._rows.append(row)
        if self._filter is not None:
            self._filter.add_account()

    def _keep(self, number: int, account: Account) -> None:
        live = self._unpacked
        live[number] = account
        if len(live) > UNPACKED_LIMIT:
            for old in list(live)[: UNPACKED_LIMIT // 4]:
                if old in self._dirty:
                    self._pack(old)
                del live[old]

    def _account(self, number: int) -> Account:
        account = self._unpacked.get(number)
        if account is None:
            account = unpacked(self._rows[number], self.market.directory)
            self._keep(number, account)
        return account

    def _touch(self, number: int) -> None:
        self._dirty.add(number)
        self._forget(number)

    def _forget(self, number: int) -> None:
        """Have an account watched anew: what it holds, how that is valued, or which marks are fresh has changed."""
        price_filter = self._filter
        if price_filter is not None and not self._unwatched and not self._uncertified.get(number):
            price_filter.forget(number)
            self._uncertified[number] = True

    def _hold(self, number: int, account: Account, asset: int) -> None:
        if asset not in account.balances and not any(
            asset in subaccount.balances for subaccount in account.subaccounts.values()
        ):
            holders = self._holders.get(asset)
            if holders is None:
                holders = self._holders[asset] = array("I")
            holders.append(number)

    def _hold_perpetual(self, number: int, account: Account, instrument: int) -> None:
        if not account.holds_perpetual(instrument):
            holders = self._perpetual_holders.get(instrument)
            if holders is None:
                holders = self._perpetual_holders[instrument] = array("I")
            holders.append(number)

    def _depending_on(self, instrument: int) -> list[int]:
        """Return the accounts whose value reads the instrument's price, each once."""
        found: dict[int, None] = {}
        for name in sorted(self.market.profiles):
            profile = self.market.profiles[name]
            for asset in profile.calculator.routed_through(instrument):
                for number in self._holders.get(asset, ()):
                    if number not in found:
                        account = self._account(number)
                        if account.profile == name and (asset in account.balances or account.subaccounts):
                            found[number] = None
        for number in self._perpetual_holders.get(instrument, ()):
            if number not in found and self._account(number).holds_perpetual(instrument):
                found[number] = None
        return list(found)

    # ---- evaluation -----------------------------------------------------------------------------------------------

    def _valuation(self, subaccount: Subaccount, profile: Profile) -> Exact | Banded:
        self.evaluations += 1
        return value(self.market, subaccount, profile, self._corners)

    def _case(
        self, account: Account, subaccount: Subaccount, profile: Profile, valuation: Exact | Banded | None = None
    ) -> Case:
        scale = self.market.directory.assets[account.base].scale

        def sale() -> list[tuple[int, effects.LiquidationLeg]]:
            legs = profile.calculator.sale(subaccount, self.market.prices, profile.policy.restore)
            return [(leg.amount, self._leg(leg, scale)) for leg in legs]

        return Case(
            account,
            subaccount,
            profile,
            valuation if valuation is not None else self._valuation(subaccount, profile),
            self.market.clock_ns,
            self._emit,
            lambda amount: format_scaled(amount, scale),
            sale,
        )

    def _leg(self, leg: SaleLeg, scale: int) -> effects.LiquidationLeg:
        directory = self.market.directory
        amount = format_scaled(leg.amount, scale)
        if not leg.key:
            return effects.LiquidationLeg(asset=directory.assets[leg.asset].name, amount=amount)
        number, side = split_key(leg.key)
        instrument = directory.instruments[number]
        assert instrument is not None
        return effects.LiquidationLeg(
            asset=instrument.name,
            amount=amount,
            quantity=format_scaled(leg.quantity, instrument.quantity_scale),
            position_side=SIDES[side] if side else "",
        )

    def _rest(self, number: int, *, money: Collection[str] = ()) -> None:
        """Evaluate an account to rest, subaccount by subaccount, cross first.

        Args:
            number: the account.
            money: subaccounts in which money or a trade moved, which may lower a demand to sell (prices alone never
                do).
        """
        self._forget(number)
        self._settled(number, money)

    def _settled(self, number: int, money: Collection[str] = (), moved: int = 0) -> bool:
        """Evaluate an account to rest; say whether a guard that matters to it has come, gone or flipped (or whether
        that is not known).

        Args:
            number: the account.
            money: see ``_rest``.
            moved: the one instrument whose price has changed since the account came to rest; 0 where more may have.
        """
        account = self._account(number)
        profile = self.market.profiles.get(account.profile)
        if profile is None:
            return False
        if account.pending_deposits:
            self._value_deposits(number, account, profile)
        if not account.subaccounts:
            return self._evaluated_subaccount(number, account, account, profile, "" in money)
        changed = False
        routed = profile.calculator.routed_through(moved) if moved else ()
        for subaccount in account.parts():
            if moved and subaccount.guard_states is not None and not _reads(subaccount, moved, routed):
                continue
            if self._evaluated_subaccount(number, account, subaccount, profile, subaccount.name in money):
                changed = True
        return changed

    def _evaluated_subaccount(
        self, number: int, account: Account, subaccount: Subaccount, profile: Profile, money: bool
    ) -> bool:
        valuation = self._valuation(subaccount, profile)
        figures = subaccount.figures = valuation.figures
        if type(valuation) is Exact and not money:
            known = subaccount.guard_states
            if known is not None:
                worth, debit, _ = figures
                for guard, truth in zip(subaccount.guards, known, strict=True):
                    if (GuardState.TRUE if guard.excess(worth, debit) < 0 else GuardState.FALSE) is not truth:
                        break
                else:
                    return False
            elif subaccount.quiescent and profile.policy.quiescent.excess(figures.value, figures.debit) >= 0:
                return True
        facts_before = (
            subaccount.pending_since_ns,
            subaccount.liquidating,
            subaccount.suppressed,
            subaccount.stale,
            subaccount.level,
        )
        guards_before, truths_before = subaccount.guards, subaccount.guard_states
        case = self._case(account, subaccount, profile, valuation)
        lifecycle.evaluate(case)
        if money and subaccount.liquidating:
            lifecycle.demand_sale(case)
        if subaccount is account:
            self._arm(number, account, profile)
        if facts_before != (
            subaccount.pending_since_ns,
            subaccount.liquidating,
            subaccount.suppressed,
            subaccount.stale,
            subaccount.level,
        ):
            self._dirty.add(number)
        return subaccount.guard_states != truths_before or subaccount.guards != guards_before

    def _value_deposits(self, number: int, account: Account, profile: Profile) -> None:
        waiting: list[tuple[int, int, int, str]] = []
        for asset, before, amount, call in account.pending_deposits:
            worth = profile.calculator.credit(asset, before, amount, self.market.prices)
            if worth is None:
                waiting.append((asset, before, amount, call))
            else:
                account.guard_states = None
                payments.credit(self._case(account, account, profile), worth, call)
        if len(waiting) != len(account.pending_deposits):
            account.pending_deposits = waiting
            self._dirty.add(number)

    def _run_timers(self, number: int) -> None:
        account = self._account(number)
        profile = self.market.profiles.get(account.profile)
        if profile is None:
            return
        lifecycle.run_timers(self._case(account, account, profile))
        self._dirty.add(number)
        if self._filter is not None:
            self._uncertified.setdefault(number, False)
        self._arm(number, account, profile)

    def _arm(self, number: int, account: Account, profile: Profile) -> None:
        due_ns = lifecycle.next_timer(account, profile.policy)
        if due_ns is None:
            self._armed.pop(number, None)
            self._overdue.pop(number, None)
        elif due_ns <= self.market.clock_ns:
            # Due, and not fired: undecided, or armed by the item itself. The next clock asks again.
            self._armed.pop(number, None)
            self._overdue[number] = None
        elif self._armed.get(number) != due_ns:
            self._armed[number] = due_ns
            heapq.heappush(self._timers, (due_ns, number))

    def rest_all(self) -> list[Emitted]:
        """Evaluate every account once more. At rest nothing is emitted; that is a law, and this is how it is tested."""
        for number in range(len(self._ids)):
            self._rest(number)
        return self.book.drain()

    # ---- price boxes ----------------------------------------------------------------------------------------------

    def _certify_all(self) -> None:
        accounts: Iterable[int] = range(len(self._ids)) if self._unwatched else self._uncertified
        self._uncertified = {}
        self._unwatched = False
        for number in accounts:
            self._certify(number)

    def _certify(self, number: int) -> None:
        """Give an account at rest to the watch."""
        price_filter = self._filter
        assert price_filter is not None
        account = self._account(number)
        profile = self.market.profiles.get(account.profile)
        if profile is None:
            return
        market, calculator = self.market, profile.calculator
        tests: list[GuardTests] = []
        for subaccount in account.parts():
            figures = subaccount.figures
            if figures is None:
                figures = subaccount.figures = calculator.evaluate(subaccount, market.prices)
            guards, known = subaccount.guards, subaccount.guard_states
            if known is None:
                guards = lifecycle.guards_of(subaccount, profile.policy)
                known = guard_states(market, subaccount, profile, guards, figures, self._corners)
            tests.append(GuardTests(subaccount, guards, known, figures))
        price_filter.track(number, profile, tests, market)

    # ---- effects, rows, digests -----------------------------------------------------------------------------------

    def _emit(self, account: Account, kind: type[AccountEffect], **fields: Any) -> None:
        account.effect_count += 1
        currency = self.market.directory.assets[account.base].name
        self.book.emit(
            kind, self.sequence, self.market.clock_ns, account.id, account=account.id, currency=currency, **fields
        )
        self._dirty.add(self._number[account.id])

    def _pack(self, number: int) -> None:
        """Bring the stored row and the digests of one account up to date."""
        self._dirty.discard(number)
        account = self._unpacked[number]
        row = account.packed()
        old_row = self._rows[number]
        if row == old_row:
            return
        slot = slot_of(account.id)
        change = leaf(row) - (leaf(old_row) if old_row else 0)
        self.state_sums[slot] = (self.state_sums.get(slot, 0) + change) % MODULUS
        self._rows[number] = row
        self._changed.add(number)

    def sums(self) -> dict[int, int]:
        """Return the sum of each slot's rows, brought up to date."""
        for number in sorted(self._dirty):
            self._pack(number)
        return self.state_sums

    def market_digest(self) -> bytes:
        """Return the digest of the partition's copy of the market."""
        return self.market.digest()

    def digest(self) -> bytes:
        """Return the SHA-256 over market and slot sums."""
        return sha256(self.market.digest() + pack_sums(self.sums())).digest()

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the market, and the row of each account that changed since the last ``mark_stored``."""
        self.sums()
        yield MARKET, self.market.packed()
        for number in sorted(self._changed):
            yield self._ids[number].encode(), self._rows[number]

    def mark_stored(self) -> None:
        """Take the changed rows for stored."""
        self._changed.clear()

    def accounts(self) -> Iterator[Account]:
        """Yield every account, in order of opening. Do not keep or change them."""
        for number in range(len(self._ids)):
            account = self._unpacked.get(number)
            if account is None:
                account = unpacked(self._rows[number], self.market.directory)
            yield account

    def account(self, identifier: str) -> Account | None:
        """Return one account, or None."""
        number = self._number.get(identifier)
        return None if number is None else self._account(number)

    def valuation(self, account: Account, subaccount: Subaccount) -> Exact | Banded | None:
        """Return the valuation of a subaccount at the marks as they are; None where the account's profile has not taken
        effect."""
        profile = self.market.profiles.get(account.profile)
        return None if profile is None else self._valuation(subaccount, profile)

    @property
    def account_count(self) -> int:
        """How many accounts the partition has."""
        return len(self._ids)

    @property
    def near_trigger_count(self) -> int:
        """How many accounts are too close to a guard for a box."""
        return 0 if self._filter is None else self._filter.near_trigger_count

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
        market = self.market = Market.unpacked(packed)
        self._corners.fit(market)
        if self._filter is not None:
            for number in range(1, len(market.prices)):
                self._filter.add_instrument()
                if market.prices[number]:
                    self._filter.place(number, market.prices[number])
        directory = market.directory
        holders = self._holders
        state = self.state_sums
        for _, row in given:
            number = len(self._ids)
            account = unpacked(row, directory)
            identifier = account.id
            self._admit(identifier, row)
            slot = slot_of(identifier)
            state[slot] = state.get(slot, 0) + leaf(row)
            assets = (
                account.balances
                if not account.subaccounts
                else dict.fromkeys(a for part in account.parts() for a in part.balances)
            )
            for asset in assets:
                held = holders.get(asset)
                if held is None:
                    held = holders[asset] = array("I")
                held.append(number)
            for instrument in dict.fromkeys(key >> 2 for part in account.parts() for key in part.perpetuals):
                held = self._perpetual_holders.get(instrument)
                if held is None:
                    held = self._perpetual_holders[instrument] = array("I")
                held.append(number)
            if account.pending_since_ns >= 0 or account.calls:
                profile = market.profiles.get(account.profile)
                if profile is not None:
                    self._arm(number, account, profile)
        for slot in state:
            state[slot] %= MODULUS
        if self._filter is not None:
            self._unwatched = True


def _reads(subaccount: Subaccount, instrument: int, routed: Sequence[int]) -> bool:
    """Say whether a subaccount's value reads an instrument's price, which the value of some assets reads."""
    for key in subaccount.perpetuals:
        if key >> 2 == instrument:
            return True
    return any(asset in subaccount.balances for asset in routed)
