"""Trades, transfers and funding: each is booked, and the account is evaluated to rest."""

from __future__ import annotations

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.evaluator import Evaluator
from margin_stream.core.accounts.holders import Holders
from margin_stream.core.accounts.postings import book_funding, book_move, book_perpetual, book_spot, sweep
from margin_stream.core.accounts.rows import AccountRows
from margin_stream.core.calls import payments
from margin_stream.core.sequenced import Funded, Moved, Traded
from margin_stream.schemas.decimals import whole


class Transactions:
    """Applies what moves money and positions to the accounts of a partition."""

    def __init__(self, rows: AccountRows, holders: Holders, evaluator: Evaluator) -> None:
        self._rows = rows
        self._holders = holders
        self._evaluator = evaluator

    def trade(self, item: Traded) -> None:
        """Book a trade; an isolated subaccount whose last position it closed is closed too."""
        number = self._rows.numbers[item.account]
        account = self._rows.account(number)
        instrument = self._evaluator.market.directory.instruments[item.instrument]
        assert instrument is not None
        self._holders.hold(number, account, instrument.currency.number)
        ends = False
        if instrument.perpetual:
            self._holders.hold_perpetual(number, account, instrument.number)
            book_perpetual(account, instrument, item)
            ends = bool(item.subaccount) and not account.isolated[item.subaccount].perpetuals
        else:
            self._holders.hold(number, account, instrument.base.number)
            book_spot(account, instrument, item)
        self._evaluator.evaluate_to_rest(number, money=(item.subaccount, "") if item.margin else (item.subaccount,))
        self._evaluator.report_trade(account, instrument, item.price, item.subaccount)
        if ends:
            self._sweep(number, account, item.subaccount)
        self._evaluator.touch(number)

    def move(self, item: Moved) -> None:
        """Book money that arrived, left, or went from one subaccount to another; it pays calls or opens them again."""
        number = self._rows.numbers[item.account]
        account = self._rows.account(number)
        self._holders.hold(number, account, item.asset)
        if item.subaccount or item.from_isolated is not None:
            book_move(account, item)
            names = (item.subaccount,) if item.from_isolated is None else (item.subaccount, item.from_isolated)
            self._evaluator.evaluate_to_rest(number, money=names)
            for name in names:
                if name:
                    subaccount = account.isolated[name]
                    if subaccount.empty or (subaccount.positions and not subaccount.perpetuals):
                        self._sweep(number, account, name)
            self._evaluator.touch(number)
            return
        amount = whole(item.amount)
        cross = account.cross
        before = cross.balances.get(item.asset, 0)
        cross.move(item.asset, amount)
        profile = self._evaluator.market.profiles.get(account.profile)
        if profile is not None and (cross.calls or item.call):
            worth = profile.calculator.credit(item.asset, before, amount, self._evaluator.market.prices)
            case = self._evaluator.case(account, cross, profile)
            if worth is None:
                if amount > 0:
                    named = payments.named_call(case, item.call)
                    cross.pending_deposits.append((item.asset, before, amount, case.call_id(named) if named else ""))
            elif amount > 0:
                payments.credit(case, worth, item.call)
            else:
                payments.withdraw(case, worth)
        self._evaluator.evaluate_to_rest(number, money=("",))
        self._evaluator.touch(number)

    def fund(self, item: Funded) -> None:
        """Book funding for every holder of a perpetual."""
        instrument = self._evaluator.market.directory.instruments[item.instrument]
        assert instrument is not None
        for number in self._holders.of_perpetual(item.instrument):
            account = self._rows.account(number)
            self._holders.hold(number, account, instrument.currency.number)
            concerned = book_funding(account, instrument, item.rate, item.price)
            self._evaluator.evaluate_to_rest(number, money=[subaccount.name for subaccount in concerned])
            self._evaluator.touch(number)

    def _sweep(self, number: int, account: Account, name: str) -> None:
        subaccount = account.isolated.get(name)
        moves = subaccount is not None and bool(subaccount.balances)
        if sweep(account, name) and moves:
            self._evaluator.evaluate_to_rest(number, money=("",))
