"""Which accounts the price filter tracks, and which are to be given to it before the next mark."""

from __future__ import annotations

from collections.abc import Iterable

from margin_stream.core.accounts.rows import AccountRows
from margin_stream.core.calls import lifecycle
from margin_stream.core.margin.valuation import Corners, guard_states
from margin_stream.core.market.market import Market
from margin_stream.core.revaluation.filter import GuardTests, RevaluationFilter


class Coverage:
    """Keeps a price filter as the accounts are: what changed is forgotten at once, and tracked again in time."""

    def __init__(self, price_filter: RevaluationFilter, rows: AccountRows, corners: Corners) -> None:
        self.filter = price_filter
        self._rows = rows
        self._corners = corners
        self._waiting: dict[int, bool] = {}
        """Accounts that are to be tracked before the next mark; True where the filter was told to forget them."""
        self.empty = False
        """The filter tracks no account yet: all are to be given to it."""

    def forget(self, number: int) -> None:
        """Have an account tracked anew: what it holds, how that is valued, or which marks are fresh has changed."""
        if not self.empty and not self._waiting.get(number):
            self.filter.forget(number)
            self._waiting[number] = True

    def renew(self, number: int) -> None:
        """Have an account tracked by other guards; what it holds is valued as before."""
        self._waiting.setdefault(number, False)

    def complete(self, market: Market) -> None:
        """Give the filter every account that is to be tracked."""
        if not self._waiting and not self.empty:
            return
        accounts: Iterable[int] = range(len(self._rows.ids)) if self.empty else self._waiting
        self._waiting = {}
        self.empty = False
        for number in accounts:
            self._track(number, market)

    def _track(self, number: int, market: Market) -> None:
        """Give an account at rest to the filter."""
        account = self._rows.account(number)
        profile = market.profiles.get(account.profile)
        if profile is None:
            return
        calculator = profile.calculator
        tests: list[GuardTests] = []
        for subaccount in account.subaccounts():
            figures = subaccount.figures
            if figures is None:
                figures = subaccount.figures = calculator.evaluate(subaccount, market.prices)
            guards, known = subaccount.guards, subaccount.guard_states
            if known is None:
                guards = lifecycle.guards_of(subaccount, profile.policy)
                known = guard_states(market, subaccount, profile, guards, figures, self._corners)
            tests.append(GuardTests(subaccount, guards, known, figures))
        self.filter.track(number, profile, tests, market)
