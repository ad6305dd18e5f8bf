"""The account fold of one partition: routed items in, effects out. Pure: nothing but the items decides.

Accounts live as packed rows; those that were touched last are also kept unpacked. Ticks are driven through price boxes
(``margin_stream.core.boxes``); the *plain* way, which values every holder at every tick, is kept as the reference: both give the same
effects and facts, item for item.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, assert_never

from margin_stream.core import lifecycle
from margin_stream.core.account import Account, row_id, unpacked
from margin_stream.core.boxes import REACH_LIMIT, Boxes
from margin_stream.core.checks import check
from margin_stream.core.digests import MODULUS, NO_CHAIN, chained, effect_leaf, leaf, slot_of
from margin_stream.core.market import Market
from margin_stream.core.model import NO_BOUND, NO_LIMIT, Figures, Guard, Profile, Truth, truth_of
from margin_stream.core.positions import Position
from margin_stream.core.routed import (
    Activated,
    AnyRouted,
    Batch,
    Changed,
    Clocked,
    Listed,
    Marked,
    Moved,
    Opened,
    Traded,
)
from schemas.binary import encode
from schemas.decimals import format_scaled
from schemas.effects import AccountEffect

UNPACKED_LIMIT = 8192
"""So many accounts are kept unpacked; the oldest quarter is packed when there are more."""


NO_HEAD = (0, NO_CHAIN)


class Emitted(NamedTuple):
    """An effect as the fold says it."""

    position: int
    group: str
    number: int
    data: bytes
    """Canonical bytes."""


_NARROW = 64
"""A reach below this is not tried again but as 0."""


class _Exact:
    """A valuation at fresh marks."""

    __slots__ = ("figures",)

    def __init__(self, figures: Figures) -> None:
        self.figures = figures

    def truth(self, guard: Guard) -> Truth:
        return Truth.TRUE if guard.excess(self.figures.value, self.figures.debit) < 0 else Truth.FALSE


class _Banded:
    """A valuation where some mark is missing or stale: each guard is tested over all that the marks leave open."""

    __slots__ = ("_bounds", "_known", "figures")

    def __init__(self, figures: Figures, bounds: Callable[[Guard], Truth]) -> None:
        self.figures = figures
        self._bounds = bounds
        self._known: dict[Guard, Truth] = {}

    def truth(self, guard: Guard) -> Truth:
        known = self._known.get(guard)
        if known is None:
            known = self._known[guard] = self._bounds(guard)
        return known


class AccountFold:
    """One partition's accounts."""

    def __init__(self, *, boxes: bool = True, only: str | None = None) -> None:
        """
        Args:
            boxes: drive ticks through price boxes; False is the plain way.
            only: fold this account alone (to look at one account's past); every other is passed over.
        """
        self.market = Market()
        self.position = 0
        self._only = only
        self._boxes = Boxes() if boxes else None
        self._ids: list[str] = []
        self._number: dict[str, int] = {}
        self._rows: list[bytes] = []
        self._heads: dict[int, tuple[int, bytes]] = {}
        """Effect count and chain of the accounts that have effects, as of their packed row."""
        self._unpacked: dict[int, Account] = {}
        self._dirty: set[int] = set()
        self._changed: set[int] = set()
        """Accounts whose stored row is out of date. Iterated sorted."""
        self._holders: dict[int, array[int]] = {}
        """Asset -> accounts that hold it or once did."""
        self._uncertified: dict[int, None] = {}
        self._timers: list[tuple[int, int]] = []
        self._armed: dict[int, int] = {}
        self._overdue: dict[int, None] = {}
        """Accounts with a timer that is due but undecided; looked at again at every clock."""
        self.state_sums: dict[int, int] = {}
        self.effect_sums: dict[int, int] = {}
        self._out: list[Emitted] = []
        self._item_start = 0
        self._lowest: list[int] = [1]
        self._highest: list[int] = [1]
        self.evaluations = 0
        """Valuations made since the start; not a fact."""

    # ---- the fold -------------------------------------------------------------------------------------------------

    def apply(self, batch: Batch) -> list[Emitted]:
        """Fold a batch and return its effects by (position, group, number).

        Raises:
            Fault: positions are not continuous, or the copy of the market differs from the intake's.
        """
        check(batch.previous == self.position, "batches follow each other", expected=self.position, got=batch.previous)
        out: list[Emitted] = []
        self._out = out
        for item in batch.items:
            self.position = item.position
            self._item_start = len(out)
            self._apply(item)
            if len(out) - self._item_start > 1:
                # An account's own effects are in order already; the sort is stable.
                out[self._item_start :] = sorted(out[self._item_start :], key=_by_group)
        self.position = batch.last
        if batch.market_digest:
            check(self.market.digest() == batch.market_digest, "a partition's market is the intake's", position=self.position)
        return out

    def _apply(self, item: AnyRouted) -> None:
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
            case _:
                assert_never(item)

    def _list(self, item: Listed) -> None:
        self.market.enlist(item.listed)
        while len(self._lowest) < len(self.market.prices):
            self._lowest.append(0)
            self._highest.append(0)
            if self._boxes is not None:
                self._boxes.add_instrument()

    def _mark(self, number: int, price: int) -> None:
        market = self.market
        boxes = self._boxes
        if boxes is None:
            market.mark(number, price)
            for account in self._depending_on(number):
                self._rest(account)
            return
        if self._uncertified:
            self._certify_all()
        fresh_again = market.mark(number, price)
        reached = boxes.reached(number, price)
        if fresh_again:
            for account in self._depending_on(number):
                self._rest(account)
        elif reached:
            for account in reached:
                self._rest(account)

    def _clock(self, now_ns: int) -> None:
        activated, gone_stale = self.market.tick_clock(now_ns)
        if activated:
            names = {profile.name for profile in activated}
            for account in range(len(self._ids)):
                touched = self._account(account)
                if touched.profile in names:
                    touched.truths = None
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
            account.truths = None
        self._rest(number)
        self._touch(number)

    def _trade(self, item: Traded) -> None:
        number = self._number[item.account]
        account = self._account(number)
        instrument = self.market.directory.instruments[item.instrument]
        assert instrument is not None
        position = account.positions.get(item.instrument)
        if position is None:
            position = account.positions[item.instrument] = Position()
        quantity, fee = _integer(item.quantity), _integer(item.fee)
        currency, base = instrument.currency, instrument.base
        cash = position.trade(quantity, item.price, currency.scale - instrument.quantity_scale - instrument.price_scale)
        position.fees += fee
        self._hold(number, account, base.number)
        self._hold(number, account, currency.number)
        account.move(currency.number, cash - fee)
        account.hold(base.number, quantity * 10 ** (base.scale - instrument.quantity_scale))
        self._rest(number, money=True)
        self._touch(number)

    def _move(self, item: Moved) -> None:
        number = self._number[item.account]
        account = self._account(number)
        amount = _integer(item.amount)
        before = account.balances.get(item.asset, 0)
        self._hold(number, account, item.asset)
        account.move(item.asset, amount)
        profile = self.market.profiles.get(account.profile)
        if profile is not None and (account.calls or item.call):
            value = profile.terms.credit(item.asset, before, amount, self.market.prices)
            case = self._case(account, profile)
            if value is None:
                if amount > 0:
                    named = lifecycle.named_call(case, item.call)
                    account.unvalued.append((item.asset, before, amount, case.call_id(named) if named else ""))
            elif amount > 0:
                lifecycle.credit(case, value, item.call)
            else:
                lifecycle.withdraw(case, value)
        self._rest(number, money=True)
        self._touch(number)

    # ---- accounts -------------------------------------------------------------------------------------------------

    def _admit(self, identifier: str, row: bytes) -> None:
        self._number[identifier] = len(self._ids)
        self._ids.append(identifier)
        self._rows.append(row)
        if self._boxes is not None:
            self._boxes.add_account()

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
            account = unpacked(self._rows[number], self._heads.get(number, NO_HEAD)[1], self.market.directory)
            self._keep(number, account)
        return account

    def _touch(self, number: int) -> None:
        self._dirty.add(number)
        boxes = self._boxes
        if boxes is not None and number not in self._uncertified:
            boxes.forget(number)
            self._uncertified[number] = None

    def _hold(self, number: int, account: Account, asset: int) -> None:
        if asset not in account.balances:
            holders = self._holders.get(asset)
            if holders is None:
                holders = self._holders[asset] = array("I")
            holders.append(number)

    def _depending_on(self, instrument: int) -> list[int]:
        """Return the accounts whose value reads the instrument's price, each once."""
        found: dict[int, None] = {}
        for name in sorted(self.market.profiles):
            profile = self.market.profiles[name]
            for asset in profile.terms.routed_through(instrument):
                for number in self._holders.get(asset, ()):
                    if number not in found:
                        account = self._account(number)
                        if account.profile == name and asset in account.balances:
                            found[number] = None
        return list(found)

    # ---- evaluation -----------------------------------------------------------------------------------------------

    def _valuation(self, account: Account, profile: Profile) -> _Exact | _Banded:
        self.evaluations += 1
        market, terms = self.market, profile.terms
        figures = terms.evaluate(account, market.prices)
        if not self._open_marks(account, profile, figures):
            return _Exact(figures)

        def bounds(guard: Guard) -> Truth:
            lowest, highest = self._corners(account, profile)
            return truth_of(terms.bounds(account, lowest, highest, (guard,))[0])

        return _Banded(figures, bounds)

    def _open_marks(self, account: Account, profile: Profile, figures: Figures) -> bool:
        """Say whether the account's value reads a mark that is missing or stale, or owes what cannot be priced."""
        unfresh = self.market.unfresh
        return figures.unbounded or (bool(unfresh) and not unfresh.isdisjoint(profile.terms.depends_on(account)))

    def _corners(self, account: Account, profile: Profile) -> tuple[list[int], list[int]]:
        """Write the least and greatest price of each instrument that the account reads: its mark, its stale band, or no bound."""
        market, lowest, highest = self.market, self._lowest, self._highest
        depends = profile.terms.depends_on(account)
        unfresh = market.unfresh
        for number in depends:
            if number in unfresh:
                if market.stale[number]:
                    lowest[number], highest[number] = market.stale_band(number)
                else:
                    lowest[number], highest[number] = 0, NO_BOUND
            else:
                lowest[number] = highest[number] = market.prices[number]
        return lowest, highest

    def _case(self, account: Account, profile: Profile, valuation: _Exact | _Banded | None = None) -> lifecycle.Case:
        directory = self.market.directory
        scale = directory.assets[account.base].scale

        def sale() -> list[tuple[str, int]]:
            legs = profile.terms.sale(account, self.market.prices, profile.policy.restore.ratio)
            return [(directory.assets[leg.asset].name, leg.amount) for leg in legs]

        return lifecycle.Case(
            account,
            profile,
            valuation if valuation is not None else self._valuation(account, profile),
            self.market.clock_ns,
            self._emit,
            lambda amount: format_scaled(amount, scale),
            sale,
        )

    def _rest(self, number: int, *, money: bool = False) -> None:
        """Evaluate an account to rest.

        Args:
            number: the account.
            money: money or a trade moved, which may lower a demand to sell (prices alone never do).
        """
        account = self._account(number)
        boxes = self._boxes
        if boxes is not None and number not in self._uncertified:
            boxes.forget(number)
            self._uncertified[number] = None
        profile = self.market.profiles.get(account.profile)
        if profile is None:
            return
        if account.unvalued:
            self._value_deposits(number, account, profile)
        valuation = self._valuation(account, profile)
        figures = account.figures = valuation.figures
        if type(valuation) is _Exact and not money:
            known = account.truths
            if known is not None:
                value, debit, _ = figures
                for guard, truth in zip(account.guards, known, strict=True):
                    if (Truth.TRUE if guard.excess(value, debit) < 0 else Truth.FALSE) is not truth:
                        break
                else:
                    return
            elif account.calm and profile.policy.calm.excess(figures.value, figures.debit) >= 0:
                return
        effects_before = account.effect_count
        facts_before = (account.pending_since_ns, account.liquidating, account.suppressed, account.stale, account.level)
        case = self._case(account, profile, valuation)
        lifecycle.settle(case)
        if money and account.liquidating:
            lifecycle.demand_sale(case)
        self._arm(number, account, profile)
        if effects_before != account.effect_count or facts_before != (
            account.pending_since_ns,
            account.liquidating,
            account.suppressed,
            account.stale,
            account.level,
        ):
            self._dirty.add(number)

    def _value_deposits(self, number: int, account: Account, profile: Profile) -> None:
        waiting: list[tuple[int, int, int, str]] = []
        for asset, before, amount, call in account.unvalued:
            value = profile.terms.credit(asset, before, amount, self.market.prices)
            if value is None:
                waiting.append((asset, before, amount, call))
            else:
                account.truths = None
                lifecycle.credit(self._case(account, profile), value, call)
        if len(waiting) != len(account.unvalued):
            account.unvalued = waiting
            self._dirty.add(number)

    def _run_timers(self, number: int) -> None:
        account = self._account(number)
        profile = self.market.profiles.get(account.profile)
        if profile is None:
            return
        lifecycle.run_timers(self._case(account, profile))
        self._touch(number)
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
        """Evaluate every account once more. At rest nothing comes of it; that is a law, and this is how it is tested."""
        out: list[Emitted] = []
        self._out = out
        for number in range(len(self._ids)):
            self._rest(number)
        return out

    # ---- price boxes ----------------------------------------------------------------------------------------------

    def _certify_all(self) -> None:
        accounts, self._uncertified = self._uncertified, {}
        for number in accounts:
            self._certify(number)

    def _certify(self, number: int) -> None:
        """Find the widest box in which no guard of the account flips; the account is at rest and forgotten."""
        boxes = self._boxes
        assert boxes is not None
        account = self._account(number)
        profile = self.market.profiles.get(account.profile)
        if profile is None:
            return
        terms = profile.terms
        directions = terms.directions(account)
        unfresh = self.market.unfresh
        if unfresh and not unfresh.isdisjoint(directions):
            self._corners(account, profile)
            directions = {leg: way for leg, way in directions.items() if leg not in unfresh}
        figures = account.figures
        if figures is None:
            figures = account.figures = terms.evaluate(account, self.market.prices)
        guards, truths = account.guards, account.truths
        if truths is None:
            guards = lifecycle.guards_of(account, profile.policy)
            truths = self._truths(account, profile, guards, figures)
        if Truth.UNDECIDED not in truths:
            against, favourable = terms.reach(account, self.market.prices, guards, truths, figures)
            against, favourable = _capped(against), _capped(favourable)
            lowest, highest = self._lowest, self._highest
            while True:
                sides = boxes.box(directions, against, favourable, lowest, highest)
                spans = terms.bounds(account, lowest, highest, guards)
                for (least, greatest), truth in zip(spans, truths, strict=True):
                    if truth is Truth.FALSE:
                        if least is None or least < 0:
                            break
                    elif greatest is None or greatest >= 0:
                        break
                else:
                    boxes.certify(number, sides)
                    return
                if against in (0, REACH_LIMIT) and favourable in (0, REACH_LIMIT):
                    break
                # Too wide a guess: three quarters of it, and in the end the cell alone.
                against, favourable = (_narrowed(side) for side in (against, favourable))
        boxes.heat(number, directions)

    def _truths(self, account: Account, profile: Profile, guards: list[Guard], figures: Figures) -> list[Truth]:
        if not self._open_marks(account, profile, figures):
            exact = _Exact(figures)
            return [exact.truth(guard) for guard in guards]
        lowest, highest = self._corners(account, profile)
        return [truth_of(span) for span in profile.terms.bounds(account, lowest, highest, guards)]

    # ---- effects, rows, digests -----------------------------------------------------------------------------------

    def _emit(self, account: Account, kind: type[AccountEffect], **fields: Any) -> None:
        account.effect_count += 1
        effect = kind(
            id=f"{account.id}/{account.effect_count}",
            position=self.position,
            at_ns=self.market.clock_ns,
            account=account.id,
            currency=self.market.directory.assets[account.base].name,
            **fields,
        )
        data = encode(effect)
        account.chain = chained(account.chain, data)
        self._out.append(Emitted(self.position, account.id, account.effect_count, data))
        self._dirty.add(self._number[account.id])

    def _pack(self, number: int) -> None:
        """Bring the stored row and the digests of one account up to date."""
        self._dirty.discard(number)
        account = self._unpacked[number]
        row = account.packed()
        old_row = self._rows[number]
        old_count, old_chain = self._heads.get(number, NO_HEAD)
        if row == old_row:
            return
        slot = slot_of(account.id)
        change = leaf(row) - (leaf(old_row) if old_row else 0)
        self.state_sums[slot] = (self.state_sums.get(slot, 0) + change) % MODULUS
        if account.effect_count != old_count:
            change = effect_leaf(account.id, account.effect_count, account.chain) - effect_leaf(account.id, old_count, old_chain)
            self.effect_sums[slot] = (self.effect_sums.get(slot, 0) + change) % MODULUS
            self._heads[number] = (account.effect_count, account.chain)
        self._rows[number] = row
        self._changed.add(number)

    def flush(self) -> None:
        """Bring all stored rows and the slot sums up to date."""
        for number in sorted(self._dirty):
            self._pack(number)

    def changed_rows(self) -> Iterator[tuple[str, bytes, bytes]]:
        """Yield (account, row, chain) of what changed since the last ``mark_stored``, after ``flush``."""
        for number in sorted(self._changed):
            yield self._ids[number], self._rows[number], self._heads.get(number, NO_HEAD)[1]

    def mark_stored(self) -> None:
        """Take the changed rows for stored."""
        self._changed.clear()

    def accounts(self) -> Iterator[Account]:
        """Yield every account, in order of opening. Do not keep or change them."""
        for number in range(len(self._ids)):
            account = self._unpacked.get(number)
            if account is None:
                account = unpacked(self._rows[number], self._heads.get(number, NO_HEAD)[1], self.market.directory)
            yield account

    def account(self, identifier: str) -> Account | None:
        """Return one account, or None."""
        number = self._number.get(identifier)
        return None if number is None else self._account(number)

    def valuation(self, account: Account) -> _Exact | _Banded | None:
        """Return the valuation of an account at the marks as they are; None where its profile has not taken effect."""
        profile = self.market.profiles.get(account.profile)
        return None if profile is None else self._valuation(account, profile)

    @property
    def account_count(self) -> int:
        """How many accounts the partition has."""
        return len(self._ids)

    @property
    def effects_total(self) -> int:
        """Effects of all accounts since ever, after ``flush``."""
        return sum(count for count, _ in self._heads.values())

    @property
    def hot_count(self) -> int:
        """How many accounts are too close to a guard for a box."""
        return 0 if self._boxes is None else self._boxes.hot_count

    def restore(self, market: Market, position: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Set the whole state from a checkpoint: rows with their effect chains, in any order.

        Slot sums are recomputed from the rows, so a digest over them confirms every byte.
        """
        self.market = market
        self.position = position
        while len(self._lowest) < len(market.prices):
            self._lowest.append(0)
            self._highest.append(0)
            if self._boxes is not None:
                self._boxes.add_instrument()
        if self._boxes is not None:
            for number in range(1, len(market.prices)):
                if market.prices[number]:
                    self._boxes.place(number, market.prices[number])
        directory = market.directory
        holders = self._holders
        state, effects_ = self.state_sums, self.effect_sums
        for row, chain in rows:
            number = len(self._ids)
            account = unpacked(row, chain, directory)
            identifier = account.id
            self._admit(identifier, row)
            slot = slot_of(identifier)
            state[slot] = state.get(slot, 0) + leaf(row)
            if account.effect_count:
                self._heads[number] = (account.effect_count, chain)
                effects_[slot] = effects_.get(slot, 0) + effect_leaf(identifier, account.effect_count, chain)
            for asset in account.balances:
                held = holders.get(asset)
                if held is None:
                    held = holders[asset] = array("I")
                held.append(number)
            if account.pending_since_ns >= 0 or account.calls:
                profile = market.profiles.get(account.profile)
                if profile is not None:
                    self._arm(number, account, profile)
        for sums in (state, effects_):
            for slot in sums:
                sums[slot] %= MODULUS
        if self._boxes is not None:
            self._uncertified = dict.fromkeys(range(len(self._ids)))


def _capped(reach: int) -> int:
    """Return a reach below REACH_LIMIT, which itself stands for no limit: a wide box still has an end."""
    return REACH_LIMIT if reach >= NO_LIMIT else min(reach, REACH_LIMIT - 1)


def _narrowed(reach: int) -> int:
    if reach >= REACH_LIMIT:
        return reach
    return reach * 3 >> 2 if reach > _NARROW else 0


def _by_group(emitted: Emitted) -> str:
    return emitted.group


def _integer(value: int | bytes) -> int:
    return value if isinstance(value, int) else int.from_bytes(value, "big", signed=True)


__all__ = ["AccountFold", "Emitted", "row_id"]
