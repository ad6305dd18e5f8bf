"""An account as the one packed row that it is stored and digested as. Only this module knows the layout.

A row is an array: layout, id, base currency, profile, desk, contacts, level, flags, start of persistence, number of
calls, calls, number of liquidation requests, amount of the one that stands, ledger, spot positions, pending deposits,
number of effects; with perpetuals or isolated subaccounts also the number of the standing request, perpetuals, and a
row of each subaccount. Equal facts give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import GenericAlias
from typing import Any

import msgspec

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.position import Position, instrument_of, position_key
from margin_stream.core.accounts.subaccount import Level, Subaccount
from margin_stream.core.calls.call import Call
from margin_stream.core.checks import check
from margin_stream.core.market.directory import Directory

ROW_LAYOUT = 1
LONG_LAYOUT = 2
"""A row of this layout holds an integer beyond 64 bits; it is written as big-endian bytes."""
SUBACCOUNT_LAYOUT = 3
"""A row with perpetuals or isolated subaccounts."""
LONG_SUBACCOUNT_LAYOUT = 4
"""The same, with an integer beyond 64 bits."""


def packed(account: Account) -> bytes:
    """Return the facts as one row; equal facts give equal bytes."""
    cross = account.cross
    spot: list[int] = []
    perpetual: list[int] = []
    for key in sorted(cross.positions):
        position = cross.positions[key]
        if position.leverage is None:
            spot += (instrument_of(key), position.quantity, position.open_cost, position.realised, position.fees)
        else:
            perpetual += _flat(key, position)
    wide = bool(perpetual or account.isolated)
    row: list[Any] = [
        SUBACCOUNT_LAYOUT if wide else ROW_LAYOUT,
        account.id,
        account.base,
        account.profile,
        account.desk,
        account.contacts,
        int(cross.level),
        cross.flags,
        cross.pending_since_ns,
        cross.call_count,
        [call.row() for call in cross.calls],
        account.liquidation_count,
        cross.liquidation_amount,
        _flat_ledger(cross),
        spot,
        cross.pending_deposits,
        account.effect_count,
    ]
    if wide:
        row += (
            cross.liquidation_number,
            perpetual,
            [_subaccount_row(subaccount) for subaccount in account.isolated.values()],
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


def _subaccount_row(subaccount: Subaccount) -> list[Any]:
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
_SUBACCOUNT_FIELDS: tuple[Any, ...] = (
    int,
    _Integers,
    list[tuple[str, int, int, int, int | bytes, _Integers, _Integers]],
)
"""What a row with perpetuals or isolated subaccounts has more."""
_decode: Any = msgspec.msgpack.Decoder(GenericAlias(tuple, _FIELDS)).decode
_decode_wide: Any = msgspec.msgpack.Decoder(GenericAlias(tuple, _FIELDS + _SUBACCOUNT_FIELDS)).decode
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
    check(ROW_LAYOUT <= layout <= LONG_SUBACCOUNT_LAYOUT, "an account row has a known layout", layout=layout)
    wide = layout >= SUBACCOUNT_LAYOUT
    fields: Any = _decode_wide(row) if wide else _decode(row)
    if layout in (LONG_LAYOUT, LONG_SUBACCOUNT_LAYOUT):
        fields = _widened(fields)
    (_, identifier, base, profile, desk, contacts, level, flags, pending_since_ns, call_count, calls) = fields[:11]
    (liquidation_count, liquidation_amount, ledger, spot, pending_deposits, effect_count) = fields[11:17]
    account = Account(identifier, base, profile, desk, contacts)
    account.liquidation_count = liquidation_count
    account.effect_count = effect_count
    cross = account.cross
    cross.level = Level(level)
    cross.set_flags(flags)
    cross.pending_since_ns = pending_since_ns
    cross.call_count = call_count
    if calls:
        cross.calls = [Call(*values) for values in calls]
        cross.recount()
    cross.liquidation_number = liquidation_count
    cross.liquidation_amount = liquidation_amount
    _fill_ledger(cross, ledger)
    flat = iter(spot)
    instruments = directory.instruments
    for number, quantity, cost, realised, fees in zip(flat, flat, flat, flat, flat, strict=True):
        cross.positions[position_key(number, 0)] = Position(quantity, cost, realised, fees)
        if quantity:
            instrument = instruments[number]
            assert instrument is not None
            traded = instrument.base
            cross.hold(traded.number, quantity * 10 ** (traded.scale - instrument.quantity_scale))
    cross.pending_deposits = [(asset, before, amount, call) for asset, before, amount, call in pending_deposits]
    if wide:
        cross.liquidation_number, perpetuals, isolated = fields[17:]
        _fill_perpetuals(cross, perpetuals)
        for name, own_level, own_flags, demand_number, demand, own_ledger, positions in isolated:
            subaccount = account.isolated[name] = Subaccount(name)
            subaccount.level = Level(own_level)
            subaccount.set_flags(own_flags)
            subaccount.liquidation_number, subaccount.liquidation_amount = demand_number, demand
            _fill_ledger(subaccount, own_ledger)
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
