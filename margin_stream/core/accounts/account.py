"""An account's facts, and the one packed row that they are stored and digested as."""

from __future__ import annotations

from collections.abc import Iterator
from types import GenericAlias
from typing import Any

import msgspec

from margin_stream.core.accounts.position import Position, position_key
from margin_stream.core.accounts.subaccount import NEVER, Level, Subaccount
from margin_stream.core.calls.call import Call
from margin_stream.core.checks import check
from margin_stream.core.market.directory import Directory

ROW_LAYOUT = 1
WIDE_LAYOUT = 2
"""A row of this layout holds an integer beyond 64 bits; it is written as big-endian bytes."""
POCKET_LAYOUT = 3
"""A row with perpetuals or isolated subaccounts."""
WIDE_POCKET_LAYOUT = 4
"""The same, with an integer beyond 64 bits."""


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
        return any(key >> 2 == instrument for part in self.parts() for key in part.perpetuals)

    def packed(self) -> bytes:
        """Return the facts as one row; equal facts give equal bytes."""
        spot: list[int] = []
        perpetual: list[int] = []
        for key in sorted(self.positions):
            position = self.positions[key]
            if position.leverage is None:
                spot += (key >> 2, position.quantity, position.open_cost, position.realised, position.fees)
            else:
                perpetual += _flat(key, position)
        wide = bool(perpetual or self.subaccounts)
        row: list[Any] = [
            POCKET_LAYOUT if wide else ROW_LAYOUT,
            self.id,
            self.base,
            self.profile,
            self.desk,
            self.contacts,
            int(self.level),
            self.flags,
            self.pending_since_ns,
            self.call_count,
            [call.row() for call in self.calls],
            self.liquidation_count,
            self.liquidation_amount,
            _flat_ledger(self),
            spot,
            self.pending_deposits,
            self.effect_count,
        ]
        if wide:
            row += (
                self.liquidation_number,
                perpetual,
                [_pocket_row(subaccount) for subaccount in self.subaccounts.values()],
            )
        try:
            return _encode(row)
        except OverflowError:
            row[0] += 1
            return _encode(_narrowed(row))


def _flat_ledger(subaccount: Subaccount) -> list[int]:
    flat: list[int] = []
    for asset in sorted(subaccount.ledger):
        if subaccount.ledger[asset]:
            flat += (asset, subaccount.ledger[asset])
    return flat


def _flat(key: int, position: Position) -> tuple[int, ...]:
    return key, position.quantity, position.open_cost, position.realised, position.fees, position.leverage or 0


def _pocket_row(subaccount: Subaccount) -> list[Any]:
    positions: list[int] = []
    for key in sorted(subaccount.positions):
        positions += _flat(key, subaccount.positions[key])
    return [
        subaccount.name,
        int(subaccount.level),
        subaccount.flags,
        subaccount.liquidation_number,
        subaccount.liquidation_amount,
        _flat_ledger(subaccount),
        positions,
    ]


_Integers = list[int | bytes]
_encode = msgspec.msgpack.Encoder().encode
_FIELDS: tuple[Any, ...] = (
    *(int, str, int, str, str, list[str], int, int, int, int),
    *(list[_Integers], int, int | bytes, _Integers, _Integers),
    *(list[tuple[int, int | bytes, int | bytes, str]], int),
)
"""Of a row without subaccounts."""
_POCKET_FIELDS: tuple[Any, ...] = (int, _Integers, list[tuple[str, int, int, int, int | bytes, _Integers, _Integers]])
"""What a row with perpetuals or isolated subaccounts has more."""
_decode: Any = msgspec.msgpack.Decoder(GenericAlias(tuple, _FIELDS)).decode
_decode_pockets: Any = msgspec.msgpack.Decoder(GenericAlias(tuple, _FIELDS + _POCKET_FIELDS)).decode
_LAYOUT_AT = 3
"""Where a row says its layout: behind the head of an array of 16 or more."""


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


def unpacked(row: bytes, directory: Directory) -> Account:
    """Return the account of a packed row."""
    layout = row[_LAYOUT_AT]
    check(ROW_LAYOUT <= layout <= WIDE_POCKET_LAYOUT, "an account row has a known layout", layout=layout)
    fields: Any = _decode(row) if layout < POCKET_LAYOUT else _decode_pockets(row)
    if layout in (WIDE_LAYOUT, WIDE_POCKET_LAYOUT):
        fields = _widened(fields)
    account = Account(fields[1], fields[2], fields[3], fields[4], fields[5])
    account.level = Level(fields[6])
    account.set_flags(fields[7])
    account.pending_since_ns = fields[8]
    account.call_count = fields[9]
    if fields[10]:
        account.calls = [Call(*values) for values in fields[10]]
        account.recount()
    account.liquidation_count = account.liquidation_number = fields[11]
    account.liquidation_amount = fields[12]
    _fill_ledger(account, fields[13])
    flat = iter(fields[14])
    instruments = directory.instruments
    for number, quantity, cost, realised, fees in zip(flat, flat, flat, flat, flat, strict=True):
        account.positions[position_key(number, 0)] = Position(quantity, cost, realised, fees)
        if quantity:
            instrument = instruments[number]
            assert instrument is not None
            base = instrument.base
            account.hold(base.number, quantity * 10 ** (base.scale - instrument.quantity_scale))
    account.pending_deposits = [(asset, before, amount, call) for asset, before, amount, call in fields[15]]
    account.effect_count = fields[16]
    if layout >= POCKET_LAYOUT:
        account.liquidation_number = fields[17]
        _fill_perpetuals(account, fields[18])
        for name, level, flags, number, amount, ledger, positions in fields[19]:
            subaccount = account.subaccounts[name] = Subaccount(name)
            subaccount.level = Level(level)
            subaccount.set_flags(flags)
            subaccount.liquidation_number, subaccount.liquidation_amount = number, amount
            _fill_ledger(subaccount, ledger)
            _fill_perpetuals(subaccount, positions)
    return account


def _fill_ledger(subaccount: Subaccount, flat: list[int]) -> None:
    pairs = iter(flat)
    subaccount.ledger = dict(zip(pairs, pairs, strict=True))
    subaccount.balances = dict(subaccount.ledger)


def _fill_perpetuals(subaccount: Subaccount, flat: list[int]) -> None:
    values: Iterator[int] = iter(flat)
    for key, quantity, cost, realised, fees, leverage in zip(*[values] * 6, strict=True):
        position = subaccount.positions[key] = Position(quantity, cost, realised, fees, leverage)
        subaccount.hold_perpetual(key, position)


__all__ = ["NEVER", "Account", "Level", "Subaccount", "unpacked"]
