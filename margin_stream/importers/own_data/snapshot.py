"""Against what a file is compared: the folds of a store at a sequence number, and a moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from margin_stream.core.accounts.account import Account
from margin_stream.core.store_fold import StoreFold
from margin_stream.importers.own_data.forms import Row
from margin_stream.schemas.decimals import DecimalPair, canonical, packed
from margin_stream.schemas.inputs import (
    AnyInput,
)

SHOWN = 5
"""So many rows of a note are named."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Against what a file is compared."""

    folds: StoreFold
    source: str
    at_ns: int
    """The moment of the snapshot."""

    @property
    def clock_ns(self) -> int:
        """The store's clock."""
        return self.folds.intake.market.clock_ns

    def accounts(self) -> Iterator[Account]:
        """Yield the accounts that are open."""
        for part in self.folds.accounts:
            yield from part.accounts()


Booked = Iterator[tuple[AnyInput, Row | None]]
Moved = Counter[tuple[str, str, str]]
"""(Account, subaccount, asset) -> what trades move of it, in units of its scale."""


def pair_of_units(units: int, scale: int) -> DecimalPair:
    """Return an integer of a scale as an input has it."""
    mantissa, exponent = canonical(units, -scale)
    return packed(mantissa), exponent
