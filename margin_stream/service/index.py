"""Which accounts have calls and which are short: what lists of calls and counts need, so that no question looks at every
account.

It is kept by the effects: an account's level, and what becomes of its calls, changes only with an effect of that
account. What a row shows is read from the folds when it is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from margin_stream.core.accounts.account import Account
from margin_stream.core.effect_book import Emitted
from margin_stream.core.store_fold import StoreFold
from margin_stream.views.accounts import SHORT


class Index:
    """Of a store that is open for writing."""

    def __init__(self, folds: StoreFold) -> None:
        """Look at every account, once."""
        self._folds = folds
        self.short: dict[str, None] = {}
        """Accounts at the level of calls or deeper."""
        self.called: dict[str, None] = {}
        """Accounts that have calls."""
        self.open: dict[str, None] = {}
        """Accounts that have open calls."""
        self.counts: Counter[str] = Counter()
        """As ``views.summary`` counts."""
        self.desks: set[str] = set()
        self._counted: dict[str, Counter[str]] = {}
        for part in folds.accounts:
            for account in part.accounts():
                self.desks.add(account.desk)
                self._take(account)

    def emitted(self, effects: Iterable[Emitted]) -> None:
        """Look again at the accounts of effects."""
        entries = self._folds.intake.accounts.entries
        for name in dict.fromkeys(effect.group for effect in effects):
            entry = entries.get(name)
            account = None if entry is None else self._folds.accounts[entry.partition].account(name)
            if account is not None:
                self._take(account)

    def has_desk(self, desk: str) -> bool:
        """Return whether an account is of a desk; where it is not known, every account is looked at once more: one may
        have been opened or changed."""
        if desk not in self.desks:
            self.desks = {account.desk for part in self._folds.accounts for account in part.accounts()}
        return desk in self.desks

    def _take(self, account: Account) -> None:
        name, calls = account.id, account.cross.calls
        is_short = any(part.level >= SHORT for part in account.subaccounts())
        counted = Counter(
            accounts_short=int(is_short),
            calls_open=sum(call.open for call in calls),
            calls_overdue=sum(call.open and call.overdue for call in calls),
            calls_met=sum(call.outcome.name == "MET" for call in calls),
            calls_cured=sum(call.outcome.name == "CURED" for call in calls),
        )
        if before := self._counted.pop(name, None):
            self.counts.subtract(before)
        if is_short or calls:
            self._counted[name] = counted
            self.counts.update(counted)
        for held, holds in ((self.short, is_short), (self.called, bool(calls)), (self.open, counted["calls_open"] > 0)):
            if holds:
                held[name] = None
            else:
                held.pop(name, None)
