"""What the intake hands to the partitions: items that are valid, scaled and numbered.

Market items go to every partition, account items to the partition of their group. A batch states which sequence numbers
it covers and where the one before it ended, so a reader can trim what it has and notice a hole.
"""

from __future__ import annotations

import msgspec

from margin_stream.schemas.inputs import InstrumentListed, ProfileActivated


class RoutedItem(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An item at its sequence number."""

    sequence: int


class Marked(RoutedItem, frozen=True, tag=1):
    """A quote became the mark of an instrument."""

    instrument: int
    price: int


class Clocked(RoutedItem, frozen=True, tag=2):
    """The clock moved."""

    now_ns: int


class Traded(RoutedItem, frozen=True, tag=3):
    """A position changed."""

    account: str
    instrument: int
    quantity: int | bytes
    price: int
    fee: int | bytes
    subaccount: str = ""
    side: int = 0
    margin: int | bytes = 0
    """Moved from cross to the subaccount with the trade."""
    leverage: int = 0


class Moved(RoutedItem, frozen=True, tag=4):
    """Collateral moved."""

    account: str
    asset: int
    amount: int | bytes
    call: str
    subaccount: str = ""
    from_isolated: str | None = None


class Opened(RoutedItem, frozen=True, tag=5):
    """An account was opened."""

    account: str
    base: int
    profile: str
    desk: str
    contacts: tuple[str, ...]


class Changed(RoutedItem, frozen=True, tag=6):
    """An account was changed; None leaves a field as it is."""

    account: str
    profile: str | None
    desk: str | None
    contacts: tuple[str, ...] | None


class Listed(RoutedItem, frozen=True, tag=7):
    """An asset or instrument was listed."""

    listed: InstrumentListed


class Activated(RoutedItem, frozen=True, tag=8):
    """A version of a profile was accepted; it takes effect at a clock."""

    activation: ProfileActivated


class Funded(RoutedItem, frozen=True, tag=9):
    """Funding of a perpetual fell due."""

    instrument: int
    rate: int
    """In units of 10**-FUNDING_SCALE."""
    price: int


class RulesMoved(RoutedItem, frozen=True, tag=10):
    """A later engine version is in force from here on."""

    version: int


class Received(RoutedItem, frozen=True, tag=11):
    """Inputs of one source were numbered, accepted or refused, the last of them here. For the folds of the whole store.

    How many inputs one such item stands for depends on how the journal was cut: its fields are maxima, and a fold may
    only take maxima of them.
    """

    source: str
    number: int
    """The highest ``source_seq`` among them."""
    event_time_ns: int
    """The newest among them."""
    clock_ns: int
    """In force at the last of them."""


class Answered(RoutedItem, frozen=True, tag=12):
    """An outbox answered an effect: the first answer under this number. To the partition of its group, or to the folds
    of the whole store."""

    outbox: str
    """With its ``@``."""
    effect: str
    number: int
    """Of the answers to this effect, from 1."""
    outcome: str
    detail: str


class Doubted(RoutedItem, frozen=True, tag=13):
    """A quote was refused for its distance from the mark: until the next mark, holders are valued over everything
    between the mark and the quotes refused."""

    instrument: int
    lowest: int
    highest: int


FUNDING_SCALE = 18

AccountItem = Marked | Doubted | Clocked | Traded | Moved | Opened | Changed | Listed | Activated | Funded | RulesMoved
"""What the accounts read."""
PARTITION_ITEMS: tuple[type, ...] = (*AccountItem.__args__, Answered)
"""What the folds of a partition are given."""
STORE_ITEMS: tuple[type, ...] = (Clocked, Listed, Activated, Funded, RulesMoved, Received, Answered)
"""What the folds of the whole store are given; answers to effects of no margin group."""
AnySequenced = AccountItem | Received | Answered


class Batch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Routed items of one partition: those of the sequence numbers after ``previous`` up to ``last`` that concern
    it."""

    previous: int
    last: int
    items: list[AnySequenced]
    market_digest: bytes = b""
    """The intake's market after the batch; empty where it was not asked for."""
