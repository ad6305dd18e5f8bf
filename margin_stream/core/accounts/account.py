"""An account's facts."""

from __future__ import annotations

from margin_stream.core.accounts.position import instrument_of
from margin_stream.core.accounts.subaccount import Subaccount


class Account(Subaccount):
    """One account (and margin group, until regrouping exists). The account itself is its cross subaccount."""

    __slots__ = ("base", "contacts", "desk", "effect_count", "id", "liquidation_count", "profile", "subaccounts")

    def __init__(self, identifier: str, base: int, profile: str, desk: str, contacts: list[str]) -> None:
        super().__init__()
        self.id = identifier
        self.base = base
        self.profile = profile
        self.desk = desk
        self.contacts = contacts
        self.liquidation_count = 0
        """Demands of all subaccounts."""
        self.effect_count = 0
        """Effects of the account fold."""
        self.subaccounts: dict[str, Subaccount] = {}
        """Isolated subaccounts, always in order of name."""

    def parts(self) -> tuple[Subaccount, ...]:
        """Return every subaccount, cross first."""
        return (self, *self.subaccounts.values()) if self.subaccounts else (self,)

    def subaccount(self, name: str) -> Subaccount:
        """Return a subaccount, made where the account has none of the name."""
        if not name:
            return self
        found = self.subaccounts.get(name)
        if found is None:
            found = Subaccount(name)
            self.subaccounts = dict(sorted([*self.subaccounts.items(), (name, found)]))
        return found

    def holds_perpetual(self, instrument: int) -> bool:
        """Say whether some subaccount has a position in a perpetual."""
        return any(instrument_of(key) == instrument for part in self.parts() for key in part.perpetuals)
