"""An account's facts."""

from __future__ import annotations

from margin_stream.core.accounts.position import instrument_of
from margin_stream.core.accounts.subaccount import Subaccount


class Account:
    """One account (and margin group, until regrouping exists): its cross subaccount, and any isolated ones."""

    __slots__ = ("base", "contacts", "cross", "desk", "effect_count", "id", "isolated", "liquidation_count", "profile")

    def __init__(self, identifier: str, base: int, profile: str, desk: str, contacts: list[str]) -> None:
        self.id = identifier
        self.base = base
        self.profile = profile
        self.desk = desk
        self.contacts = contacts
        self.liquidation_count = 0
        """Demands of all subaccounts."""
        self.effect_count = 0
        """Effects of the account fold."""
        self.cross = Subaccount()
        self.isolated: dict[str, Subaccount] = {}
        """Always in order of name."""

    def subaccounts(self) -> tuple[Subaccount, ...]:
        """Return every subaccount, cross first."""
        return (self.cross, *self.isolated.values()) if self.isolated else (self.cross,)

    def subaccount(self, name: str) -> Subaccount:
        """Return a subaccount, made where the account has none of the name; cross has none."""
        if not name:
            return self.cross
        found = self.isolated.get(name)
        if found is None:
            found = Subaccount(name)
            self.isolated = dict(sorted([*self.isolated.items(), (name, found)]))
        return found

    def holds_perpetual(self, instrument: int) -> bool:
        """Return whether some subaccount has a position in a perpetual."""
        return any(
            instrument_of(key) == instrument for subaccount in self.subaccounts() for key in subaccount.perpetuals
        )
