"""The accounts that the intake knows, and the profiles that they may name: where an account's items go, and whether
they may.

Of a profile only its base currency and latest version are kept here; what is in force is the market's. Of an account's
holdings only the quantities of open perpetuals are kept: another profile must be able to margin them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from margin_stream.core.digests import MODULUS, leaf, partition_of, slot_of
from margin_stream.schemas.binary import encode
from margin_stream.schemas.decimals import packed, whole

_ACCOUNT = b"account/"

HeldKey = tuple[str, int, int]
"""Of a position: isolated subaccount (empty for cross), instrument, side."""


class Entry(NamedTuple):
    """What the intake knows of an account."""

    partition: int
    base: int
    """Asset number of the base currency."""
    profile: str


class AccountIndex:
    """Every account that is open."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self.entries: dict[str, Entry] = {}
        """Equal entries are one object."""
        self.profiles: dict[str, tuple[int, int]] = {}
        """Base currency and latest version of each profile that was ever accepted."""
        self.perpetuals: dict[str, dict[HeldKey, int]] = {}
        """Account -> quantity of each open position in a perpetual; no zero is kept."""
        self._shared: dict[Entry, Entry] = {}
        self._total = 0
        """The sum modulo 2**256 of what every account adds to the digest, but for those in ``_apart``."""
        self._apart: dict[str, None] = {}
        """Accounts whose holdings changed since the last ``facts``."""
        self._changed: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def admit(self, name: str, base: int, profile: str) -> Entry:
        """Open an account, or give an open one another profile; return its entry."""
        if name in self.entries:
            self._take_apart(name)
        entry = Entry(partition_of(slot_of(name), self._partitions), base, profile)
        self.entries[name] = entry = self._shared.setdefault(entry, entry)
        self._apart[name] = None
        self._changed[name] = None
        return entry

    def trade(self, name: str, held: HeldKey, quantity: int) -> None:
        """Change the quantity of a position in a perpetual."""
        if not quantity:
            return
        self._take_apart(name)
        self._changed[name] = None
        positions = self.perpetuals.setdefault(name, {})
        positions[held] = positions.get(held, 0) + quantity
        if not positions[held]:
            del positions[held]
            if not positions:
                del self.perpetuals[name]

    def _take_apart(self, name: str) -> None:
        """Take what an account adds off the sum, until the next ``facts``."""
        if name not in self._apart:
            self._total -= self._leaf(name)
            self._apart[name] = None

    def _leaf(self, name: str) -> int:
        """Return what an account adds to the digest of the intake."""
        entry = self.entries[name]
        return leaf(f"{name}\0{entry.base}\0{entry.profile}".encode() + self._held(name))

    def _held(self, name: str) -> bytes:
        """Return an account's holdings as bytes; empty where it has none."""
        positions = self.perpetuals.get(name)
        return b"\0" + encode([[*key, packed(positions[key])] for key in sorted(positions)]) if positions else b""

    def facts(self) -> list[Any]:
        """Return what is digested: how many accounts there are, and their sum."""
        for name in self._apart:
            self._total += self._leaf(name)
        self._apart.clear()
        self._total %= MODULUS
        return [len(self.entries), self._total.to_bytes(32, "big")]

    def profile_rows(self) -> list[list[Any]]:
        """Return name, base currency and version of each profile, as ``restore`` takes them."""
        return [[name, *self.profiles[name]] for name in sorted(self.profiles)]

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows that changed since the last ``mark_stored``, in the order of their first change."""
        for name in self._changed:
            entry = self.entries[name]
            yield _ACCOUNT + name.encode(), entry.base.to_bytes(4, "big") + entry.profile.encode() + self._held(name)

    def mark_stored(self) -> None:
        """Take the changed rows for stored."""
        self._changed.clear()

    def restore(self, rows: Iterable[tuple[bytes, bytes]], profiles: Iterable[Any]) -> None:
        """Set the whole state from the accounts among the rows, and from ``profile_rows``."""
        for key, value in rows:
            if key.startswith(_ACCOUNT):
                name = key[len(_ACCOUNT) :].decode()
                profile, _, held = value[4:].partition(b"\0")
                self.admit(name, int.from_bytes(value[:4], "big"), profile.decode())
                if held:
                    self.perpetuals[name] = {
                        (subaccount, instrument, side): whole(quantity)
                        for subaccount, instrument, side, quantity in msgspec.msgpack.decode(held)
                    }
        self._changed.clear()
        self.profiles = {name: (base, version) for name, base, version in profiles}
