"""The accounts of a partition by number: each is a packed row; those that were touched last are also kept unpacked."""

from __future__ import annotations

from collections.abc import Iterator

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.row import packed, unpacked
from margin_stream.core.digests import MODULUS, leaf, slot_of
from margin_stream.core.market.directory import Directory

UNPACKED_LIMIT = 8192
"""So many accounts are kept unpacked; the oldest quarter is packed when there are more."""


class AccountRows:
    """Rows, and the sum of each slot's."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.ids: list[str] = []
        """In order of opening."""
        self.numbers: dict[str, int] = {}
        self.unpacked: dict[int, Account] = {}
        self.dirty: set[int] = set()
        """Accounts whose row is out of date."""
        self._packed: list[bytes] = []
        self._changed: set[int] = set()
        """Accounts whose stored row is out of date. Iterated sorted."""
        self._sums: dict[int, int] = {}

    def admit(self, identifier: str, row: bytes) -> int:
        """Take an account; return its number."""
        number = self.numbers[identifier] = len(self.ids)
        self.ids.append(identifier)
        self._packed.append(row)
        return number

    def restored(self, row: bytes) -> tuple[int, Account]:
        """Take the stored row of an account; return its number and the account."""
        account = unpacked(row, self.directory)
        number = self.admit(account.id, row)
        slot = slot_of(account.id)
        self._sums[slot] = (self._sums.get(slot, 0) + leaf(row)) % MODULUS
        return number, account

    def keep(self, number: int, account: Account) -> None:
        """Keep an account unpacked."""
        live = self.unpacked
        live[number] = account
        if len(live) > UNPACKED_LIMIT:
            for old in list(live)[: UNPACKED_LIMIT // 4]:
                if old in self.dirty:
                    self._pack(old)
                del live[old]

    def account(self, number: int) -> Account:
        """Return an account, to be changed."""
        account = self.unpacked.get(number)
        if account is None:
            account = unpacked(self._packed[number], self.directory)
            self.keep(number, account)
        return account

    def all(self) -> Iterator[Account]:
        """Yield every account, in order of opening. Do not keep or change them."""
        for number in range(len(self.ids)):
            account = self.unpacked.get(number)
            yield unpacked(self._packed[number], self.directory) if account is None else account

    def _pack(self, number: int) -> None:
        """Bring the row and the sum of one account up to date."""
        self.dirty.discard(number)
        # Also where it is what it was: between, it was another, and whoever has that one must be given this.
        self._changed.add(number)
        account = self.unpacked[number]
        row = packed(account)
        old_row = self._packed[number]
        if row == old_row:
            return
        slot = slot_of(account.id)
        change = leaf(row) - (leaf(old_row) if old_row else 0)
        self._sums[slot] = (self._sums.get(slot, 0) + change) % MODULUS
        self._packed[number] = row

    def sums(self) -> dict[int, int]:
        """Return the sum of each slot's rows, brought up to date."""
        for number in sorted(self.dirty):
            self._pack(number)
        return self._sums

    def changed(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the row of each account that changed since the last ``mark_stored``."""
        self.sums()
        for number in sorted(self._changed):
            yield self.ids[number].encode(), self._packed[number]

    def mark_stored(self) -> None:
        """Take the changed rows for stored."""
        self._changed.clear()
