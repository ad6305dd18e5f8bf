"""An account's facts, and the one packed row that they are stored and digested as."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgspec

from margin_stream.core.calls import Call
from margin_stream.core.checks import check
from margin_stream.core.digests import NO_CHAIN
from margin_stream.core.directory import Directory
from margin_stream.core.model import Figures, Guard, Truth
from margin_stream.core.positions import Position

ROW_LAYOUT = 1
WIDE_LAYOUT = 2
"""A row of this layout holds an integer beyond 64 bits; it is written as big-endian bytes."""

NEVER = -1
"""No moment."""


class Level(IntEnum):
    """How deep an account is in trouble; back edges and jumps are allowed."""

    HEALTHY = 0
    WARNING = 1
    DEFICIT = 2
    LIQUIDATING = 3
    BANKRUPT = 4


class Account:
    """One account (and margin group, until regrouping exists). Amounts of money are minor units of the base currency."""

    __slots__ = (
        "balances",
        "base",
        "call_count",
        "calls",
        "chain",
        "contacts",
        "desk",
        "effect_count",
        "figures",
        "guards",
        "id",
        "ledger",
        "level",
        "liquidating",
        "liquidation_amount",
        "liquidation_count",
        "open_calls",
        "pending_since_ns",
        "positions",
        "profile",
        "stale",
        "suppressed",
        "truths",
        "unpaid",
        "unvalued",
    )

    def __init__(self, identifier: str, base: int, profile: str, desk: str, contacts: list[str]) -> None:
        self.id = identifier
        self.base = base
        self.profile = profile
        self.desk = desk
        self.contacts = contacts
        self.level = Level.HEALTHY
        self.liquidating = False
        """Since a close-out or an unmet call, until the restore level."""
        self.stale = False
        """Some guard is undecided."""
        self.pending_since_ns = NEVER
        """The clock at which the condition of the next call first held; NEVER while it does not."""
        self.suppressed = False
        """A call matured below the minimum in this entry and was recorded."""
        self.call_count = 0
        self.calls: list[Call] = []
        self.liquidation_count = 0
        self.liquidation_amount = 0
        """The demand that stands, 0 where none does."""
        self.ledger: dict[int, int] = {}
        """Asset -> what was moved and settled, without what spot positions hold."""
        self.positions: dict[int, Position] = {}
        self.unvalued: list[tuple[int, int, int, str]] = []
        """Deposits in assets without a mark: asset, balance before, amount, call named. They count at the first mark."""
        self.effect_count = 0
        self.chain = NO_CHAIN
        self.balances: dict[int, int] = {}
        """Derived: asset -> ledger and spot holdings together; no zero is kept."""
        self.open_calls = 0
        """Derived: how many calls are open."""
        self.unpaid = 0
        """Derived: what open calls still demand."""
        self.guards: list[Guard] = []
        """Derived: the guards that matter to the account as it stands."""
        self.truths: list[Truth] | None = None
        """Derived: what they said when the account last came to rest; None where that is not known. While they say the same, and the account
        is not touched, it stays at rest."""
        self.figures: Figures | None = None
        """Derived: the last valuation."""

    def recount(self) -> None:
        """Bring what is derived from the calls up to date."""
        self.open_calls = sum(call.open for call in self.calls)
        self.unpaid = sum(call.unpaid for call in self.calls if call.open)

    @property
    def review(self) -> bool:
        """A person must decide: an open call was escalated."""
        return any(call.open and call.deadline == 2 for call in self.calls)

    @property
    def calm(self) -> bool:
        """Nothing of the lifecycle is under way."""
        return (
            self.level == 0
            and self.pending_since_ns < 0
            and not self.liquidating
            and not self.stale
            and not self.suppressed
            and not self.open_calls
        )

    def move(self, asset: int, delta: int) -> None:
        """Change the ledger of an asset."""
        self.ledger[asset] = self.ledger.get(asset, 0) + delta
        self.hold(asset, delta)

    def hold(self, asset: int, delta: int) -> None:
        """Change the derived balance of an asset."""
        balance = self.balances.get(asset, 0) + delta
        if balance:
            self.balances[asset] = balance
        else:
            self.balances.pop(asset, None)

    def packed(self) -> bytes:
        """Return the facts as one row; equal facts give equal bytes."""
        ledger: list[int] = []
        for asset in sorted(self.ledger):
            if self.ledger[asset]:
                ledger += (asset, self.ledger[asset])
        positions: list[int] = []
        for number in sorted(self.positions):
            position = self.positions[number]
            positions += (number, position.quantity, position.open_cost, position.realised, position.fees)
        flags = self.liquidating | self.stale << 1 | self.suppressed << 2
        row: list[Any] = [
            ROW_LAYOUT,
            self.id,
            self.base,
            self.profile,
            self.desk,
            self.contacts,
            int(self.level),
            flags,
            self.pending_since_ns,
            self.call_count,
            [call.row() for call in self.calls],
            self.liquidation_count,
            self.liquidation_amount,
            ledger,
            positions,
            self.unvalued,
            self.effect_count,
        ]
        try:
            return _encode(row)
        except OverflowError:
            row[0] = WIDE_LAYOUT
            return _encode(_narrowed(row))


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(
    tuple[
        int,
        str,
        int,
        str,
        str,
        list[str],
        int,
        int,
        int,
        int,
        list[list[int | bytes]],
        int,
        int | bytes,
        list[int | bytes],
        list[int | bytes],
        list[tuple[int, int | bytes, int | bytes, str]],
        int,
    ]
).decode


def _narrowed(value: Any) -> Any:
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return value.to_bytes((value.bit_length() + 8) // 8, "big", signed=True)
    if isinstance(value, (list, tuple)):
        return [_narrowed(item) for item in value]
    return value


def _widened(value: Any) -> Any:
    if isinstance(value, bytes):
        return int.from_bytes(value, "big", signed=True)
    if isinstance(value, (list, tuple)):
        return [_widened(item) for item in value]
    return value


def unpacked(row: bytes, chain: bytes, directory: Directory) -> Account:
    """Return the account of a packed row and its effect chain."""
    fields: Any = _decode(row)
    if fields[0] == WIDE_LAYOUT:
        fields = _widened(fields)
    else:
        check(fields[0] == ROW_LAYOUT, "an account row has a known layout", layout=fields[0])
    account = Account(fields[1], fields[2], fields[3], fields[4], fields[5])
    account.level = Level(fields[6])
    flags = fields[7]
    account.liquidating, account.stale, account.suppressed = bool(flags & 1), bool(flags & 2), bool(flags & 4)
    account.pending_since_ns = fields[8]
    account.call_count = fields[9]
    if fields[10]:
        account.calls = [Call(*values) for values in fields[10]]
        account.recount()
    account.liquidation_count = fields[11]
    account.liquidation_amount = fields[12]
    pairs = iter(fields[13])
    account.ledger = dict(zip(pairs, pairs, strict=True))
    account.balances = dict(account.ledger)
    flat = iter(fields[14])
    instruments = directory.instruments
    for number, quantity, cost, realised, fees in zip(flat, flat, flat, flat, flat, strict=True):
        account.positions[number] = Position(quantity, cost, realised, fees)
        if quantity:
            instrument = instruments[number]
            assert instrument is not None
            base = instrument.base
            account.hold(base.number, quantity * 10 ** (base.scale - instrument.quantity_scale))
    account.unvalued = [(asset, before, amount, call) for asset, before, amount, call in fields[15]]
    account.effect_count = fields[16]
    account.chain = chain
    return account


def row_id(row: bytes) -> str:
    """Return the account id of a packed row without unpacking the rest."""
    # array 16 (3 bytes), layout (1 byte), then the id as a msgpack string.
    mark = row[4]
    return row[5 : 5 + (mark & 31)].decode() if mark < 0xC0 else row[6 : 6 + row[5]].decode()
