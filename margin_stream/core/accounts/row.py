"""An account as the one packed row that it is stored and digested as. Only this module knows the layout.

``docs/rows.md`` has it on a page: a fixed head, columns of integers, texts. Equal facts give equal bytes.
"""

from __future__ import annotations

from struct import Struct

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.position import Position, instrument_of
from margin_stream.core.accounts.subaccount import Level, Subaccount
from margin_stream.core.calls.call import Call
from margin_stream.core.checks import check
from margin_stream.core.market.directory import Directory
from margin_stream.schemas.columns import pack, unpack

LAYOUT = 2
HEAD = Struct("<BxxxIIIQQ")
"""Layout, base currency, how many subaccounts and texts, how many liquidation requests and effects so far."""
KINDS = {1: "b", 2: "h", 4: "i", 8: "q"}
"""Bytes of an integer in a column, and what ``array`` calls it; a column has the least that holds all of its integers.
Zeros alone take none, and what is wider than 8 takes 16 or 32."""
SPOT = -1
"""In the column of leverages: the position is no perpetual."""


def packed(account: Account) -> bytes:
    """Return the facts as one row; equal facts give equal bytes."""
    columns: list[bytes] = []
    texts = [account.id, account.profile, account.desk]
    parts = account.subaccounts()
    for subaccount in parts:
        _write(subaccount, columns, texts)
    texts += account.contacts
    written = [text.encode() for text in texts]
    head = HEAD.pack(LAYOUT, account.base, len(parts), len(texts), account.liquidation_count, account.effect_count)
    return b"".join([head, _column([len(text) for text in written]), *columns, *written])


def _write(subaccount: Subaccount, columns: list[bytes], texts: list[str]) -> None:
    """Add what a row has of a subaccount."""
    ledger, held = subaccount.ledger, subaccount.positions
    calls, deposits = subaccount.calls, subaccount.pending_deposits
    assets = [asset for asset in sorted(ledger) if ledger[asset]]
    texts.append(subaccount.name)
    columns += (
        _column(
            [
                *(int(subaccount.level), subaccount.flags, subaccount.call_count, subaccount.liquidation_number),
                *(len(assets), len(held), len(calls), len(deposits)),
            ]
        ),
        _column([subaccount.pending_since_ns]),
        _column([subaccount.liquidation_amount]),
    )
    if assets:
        columns += (_column(assets), _column([ledger[asset] for asset in assets]))
    if held:
        keys = sorted(held)
        positions = [held[key] for key in keys]
        columns += (
            _column(keys),
            _column([SPOT if position.leverage is None else position.leverage for position in positions]),
            _column([position.quantity for position in positions]),
            _column([position.open_cost for position in positions]),
            _column([position.realised for position in positions]),
            _column([position.fees for position in positions]),
        )
    if calls:
        columns += (
            _column([call.number for call in calls]),
            _column([call.amount for call in calls]),
            _column([call.paid for call in calls]),
            _column([call.issued_at_ns for call in calls]),
            _column([call.due_at_ns for call in calls]),
            _column([call.tranche for call in calls]),
            _column([int(call.deadline) for call in calls]),
            _column([int(call.outcome) for call in calls]),
        )
    if deposits:
        columns += (
            _column([asset for asset, _, _, _ in deposits]),
            _column([before for _, before, _, _ in deposits]),
            _column([amount for _, _, amount, _ in deposits]),
        )
        texts += [call for _, _, _, call in deposits]


def _column(values: list[int]) -> bytes:
    """Return a column: the bytes of one integer, then the integers."""
    low = high = values[0]
    for value in values:
        if value < low:
            low = value
        elif value > high:
            high = value
    if low >= 0 and high < 0x80:
        return b"\x01" + bytes(values) if high else b"\x00"
    if low >= -0x80 and high < 0x80:
        return b"\x01" + pack("b", values)
    if low >= -0x8000 and high < 0x8000:
        return b"\x02" + pack("h", values)
    if low >= -0x8000_0000 and high < 0x8000_0000:
        return b"\x04" + pack("i", values)
    try:
        return b"\x08" + pack("q", values)
    except OverflowError:
        width = 16 if low >= -(1 << 127) and high < 1 << 127 else 32
        return bytes([width]) + b"".join([value.to_bytes(width, "little", signed=True) for value in values])


def unpacked(row: bytes, directory: Directory) -> Account:
    """Return the account of a packed row.

    Raises:
        Exception: of any kind, where it is no row of this layout.
    """
    check(row[0] == LAYOUT, "an account row has a known layout", layout=row[0])
    _, base, subaccounts, texts, requests, effects = HEAD.unpack_from(row)
    reader = _Reader(row, texts)
    account = Account(reader.text(), base, reader.text(), reader.text(), [])
    account.liquidation_count = requests
    account.effect_count = effects
    parts = [_read(reader, directory) for _ in range(subaccounts)]
    account.cross = parts[0]
    account.isolated = {subaccount.name: subaccount for subaccount in parts[1:]}
    account.contacts = reader.rest()
    return account


class _Reader:
    """A row, read from the front."""

    def __init__(self, row: bytes, texts: int) -> None:
        self._row = row
        self._at = HEAD.size
        self._lengths = self.column(texts)
        self._text = 0
        """The next text."""
        self._text_at = self._texts_at = len(row) - sum(self._lengths)
        check(min(self._lengths) >= 0 and self._text_at >= self._at, "an account row has room for its texts")

    def column(self, count: int) -> list[int]:
        """Return the integers of the next column; there is none where nothing is to be read."""
        if not count:
            return []
        row, start = self._row, self._at + 1
        width = row[start - 1]
        end = self._at = start + width * count
        if not width:
            return [0] * count
        kind = KINDS.get(width)
        if kind is not None:
            return list(unpack(kind, row[start:end]))
        return [int.from_bytes(row[at : at + width], "little", signed=True) for at in range(start, end, width)]

    def text(self) -> str:
        """Return the next text."""
        start = self._text_at
        self._text_at = start + self._lengths[self._text]
        self._text += 1
        return self._row[start : self._text_at].decode()

    def rest(self) -> list[str]:
        """Return the texts that are left; every column has been read."""
        check(self._at == self._texts_at, "an account row has no gap", columns=self._at, texts=self._texts_at)
        return [self.text() for _ in range(self._text, len(self._lengths))]


def _read(reader: _Reader, directory: Directory) -> Subaccount:
    """Return the next subaccount of a row; see ``_write``."""
    column = reader.column
    subaccount = Subaccount(reader.text())
    level, flags, call_count, liquidation_number, assets, held, calls, deposits = column(8)
    subaccount.level = Level(level)
    subaccount.set_flags(flags)
    subaccount.call_count = call_count
    subaccount.liquidation_number = liquidation_number
    subaccount.pending_since_ns = column(1)[0]
    subaccount.liquidation_amount = column(1)[0]
    subaccount.ledger = dict(zip(column(assets), column(assets), strict=True))
    subaccount.balances = dict(subaccount.ledger)
    for key, leverage, quantity, cost, realised, fees in zip(*[column(held) for _ in range(6)], strict=True):
        spot = leverage == SPOT
        position = subaccount.positions[key] = Position(quantity, cost, realised, fees, None if spot else leverage)
        if not spot:
            subaccount.hold_perpetual(key, position)
        elif quantity:
            instrument = directory.instruments[instrument_of(key)]
            assert instrument is not None
            traded = instrument.base
            subaccount.hold(traded.number, quantity * 10 ** (traded.scale - instrument.quantity_scale))
    if calls:
        subaccount.calls = [Call(*values) for values in zip(*[column(calls) for _ in range(8)], strict=True)]
        subaccount.recount()
    if deposits:
        waiting = zip(*[column(deposits) for _ in range(3)], strict=True)
        subaccount.pending_deposits = [(asset, before, amount, reader.text()) for asset, before, amount in waiting]
    return subaccount
