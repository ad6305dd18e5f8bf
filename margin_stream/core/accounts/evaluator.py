"""Evaluation of an account to rest: valuation, lifecycle, effects, timers, subaccount by subaccount."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.coverage import Coverage
from margin_stream.core.accounts.position import SIDES, instrument_of, split_key
from margin_stream.core.accounts.postings import join_cross
from margin_stream.core.accounts.rows import AccountRows
from margin_stream.core.accounts.subaccount import Subaccount
from margin_stream.core.accounts.timers import Timers
from margin_stream.core.calls import lifecycle, payments
from margin_stream.core.calls.case import Case
from margin_stream.core.effect_book import EffectBook
from margin_stream.core.margin.guards import GuardState
from margin_stream.core.margin.model import Profile, SaleLeg
from margin_stream.core.margin.valuation import Banded, Corners, Exact, value
from margin_stream.core.market.directory import Instrument
from margin_stream.core.market.market import Market
from margin_stream.core.market.quote_guard import within_band
from margin_stream.schemas import effects
from margin_stream.schemas.decimals import format_scaled
from margin_stream.schemas.effects import AccountEffect


class Evaluator:
    """Evaluates the accounts of a partition."""

    def __init__(
        self,
        book: EffectBook,
        rows: AccountRows,
        timers: Timers,
        corners: Corners,
        coverage: Coverage | None,
        market: Market,
    ) -> None:
        self.market = market
        self.sequence = 0
        """Of the item at which accounts are evaluated."""
        self.evaluations = 0
        """Valuations made since the start; not a fact."""
        self._book = book
        self._rows = rows
        self._timers = timers
        self._corners = corners
        self._coverage = coverage

    def valuation(self, subaccount: Subaccount, profile: Profile) -> Exact | Banded:
        """Return the valuation of a subaccount at the marks as they are."""
        self.evaluations += 1
        return value(self.market, subaccount, profile, self._corners)

    def case(
        self, account: Account, subaccount: Subaccount, profile: Profile, valuation: Exact | Banded | None = None
    ) -> Case:
        """Return what the rules look at of a subaccount."""
        scale = self.market.directory.assets[account.base].scale

        def sale() -> list[tuple[int, effects.LiquidationLeg]]:
            legs = profile.calculator.sale(subaccount, self.market.prices, profile.policy.restore)
            return [(leg.amount, self._leg(leg, scale)) for leg in legs]

        return Case(
            account,
            subaccount,
            profile,
            valuation if valuation is not None else self.valuation(subaccount, profile),
            self.market.clock_ns,
            self._emit,
            lambda amount: format_scaled(amount, scale),
            sale,
            lambda: profile.calculator.statement(subaccount, self.market.prices),
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

    def evaluate_to_rest(self, number: int, *, money: Collection[str] = ()) -> None:
        """Evaluate an account to rest, subaccount by subaccount, cross first.

        Args:
            number: the account.
            money: subaccounts in which money or a trade moved, which may lower a demand to sell (prices alone never
                do).
        """
        if self._coverage is not None:
            self._coverage.forget(number)
        self.evaluate(number, money)

    def evaluate(self, number: int, money: Collection[str] = (), moved: int = 0) -> bool:
        """Evaluate an account to rest; return whether a guard that matters to it has come, gone or flipped (or whether
        that is not known).

        Args:
            number: the account.
            money: see ``evaluate_to_rest``.
            moved: the one instrument whose price has changed since the account was at rest; 0 where more may have.
        """
        account = self._rows.account(number)
        profile = self.market.profiles.get(account.profile)
        if profile is None:
            return False
        if account.isolated and not profile.calculator.subaccounts and join_cross(account):
            self._rows.dirty.add(number)
        if account.cross.pending_deposits and account.cross.pricings != self.market.pricings:
            self._value_deposits(number, account, profile)
        if not account.isolated:
            return self._evaluate_subaccount(number, account, account.cross, profile, "" in money)
        changed = False
        routed = profile.calculator.routed_through(moved) if moved else ()
        for subaccount in account.subaccounts():
            if moved and subaccount.guard_states is not None and not _reads(subaccount, moved, routed):
                continue
            if self._evaluate_subaccount(number, account, subaccount, profile, subaccount.name in money):
                changed = True
        return changed

    def _evaluate_subaccount(
        self, number: int, account: Account, subaccount: Subaccount, profile: Profile, money: bool
    ) -> bool:
        valuation = self.valuation(subaccount, profile)
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
        case = self.case(account, subaccount, profile, valuation)
        lifecycle.evaluate(case)
        if money and subaccount.liquidating:
            lifecycle.demand_sale(case)
        if subaccount is account.cross:
            self.arm(number, account, profile)
        if facts_before != (
            subaccount.pending_since_ns,
            subaccount.liquidating,
            subaccount.suppressed,
            subaccount.stale,
            subaccount.level,
        ):
            self._rows.dirty.add(number)
        return subaccount.guard_states != truths_before or subaccount.guards != guards_before

    def _value_deposits(self, number: int, account: Account, profile: Profile) -> None:
        cross = account.cross
        cross.pricings = self.market.pricings
        waiting: list[tuple[int, int, int, str]] = []
        for asset, before, amount, call in cross.pending_deposits:
            worth = profile.calculator.credit(asset, before, amount, self.market.prices)
            if worth is None:
                waiting.append((asset, before, amount, call))
            else:
                cross.guard_states = None
                payments.credit(self.case(account, cross, profile), worth, call)
        if len(waiting) != len(cross.pending_deposits):
            cross.pending_deposits = waiting
            self._rows.dirty.add(number)

    def run_timers(self, number: int) -> None:
        """Fire what is due of an account."""
        account = self._rows.account(number)
        profile = self.market.profiles.get(account.profile)
        if profile is None:
            return
        lifecycle.run_timers(self.case(account, account.cross, profile))
        self._rows.dirty.add(number)
        if self._coverage is not None:
            self._coverage.renew(number)
        self.arm(number, account, profile)

    def arm(self, number: int, account: Account, profile: Profile) -> None:
        """Set the account's timer to the next due time of its calls and conditions."""
        self._timers.arm(number, lifecycle.next_timer(account.cross, profile.policy), self.market.clock_ns)

    def report_trade(self, account: Account, instrument: Instrument, price: int, subaccount: str) -> None:
        """Emit an effect where a trade's price lies outside the band around the mark."""
        mark = self.market.prices[instrument.number]
        if mark and not within_band(instrument, price, self.market):
            self._emit(
                account,
                effects.TradeFarFromMark,
                instrument=instrument.name,
                price=format_scaled(price, instrument.price_scale),
                mark=format_scaled(mark, instrument.price_scale),
                isolated=subaccount,
                stale=account.subaccount(subaccount).stale,
            )

    def touch(self, number: int) -> None:
        """Note that an account's facts, or what it holds, have changed."""
        self._rows.dirty.add(number)
        if self._coverage is not None:
            self._coverage.forget(number)

    def _emit(self, account: Account, kind: type[AccountEffect], **fields: Any) -> None:
        account.effect_count += 1
        currency = self.market.directory.assets[account.base].name
        self._book.emit(
            kind, self.sequence, self.market.clock_ns, account.id, account=account.id, currency=currency, **fields
        )
        self._rows.dirty.add(self._rows.numbers[account.id])


def _reads(subaccount: Subaccount, instrument: int, routed: Sequence[int]) -> bool:
    """Say whether a subaccount's value reads an instrument's price, which the value of some assets reads."""
    for key in subaccount.perpetuals:
        if instrument_of(key) == instrument:
            return True
    return any(asset in subaccount.balances for asset in routed)
