"""Leverage brackets from files, as JSON, gzipped or not: what Binance's ``leverageBracket`` answers, or the leverage
tiers that ccxt returns (of Binance, Bybit and others whose tiers are notionals).

Tables that do not fit are named, with bracket and number, and left out; nothing is repaired.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec

from margin_stream.core.margin.brackets import bracket_of, faults_of, liquidating_at_once
from margin_stream.core.margin.parameters import BracketParameters, ParameterError
from margin_stream.files import content, read_within
from margin_stream.importers.market import ImportFault

_NAMES = {
    "floor": ("notionalFloor", "minNotional"),
    "cap": ("notionalCap", "maxNotional"),
    "maintenance_rate": ("maintMarginRatio", "maintenanceMarginRate"),
    "maintenance_amount": ("cum", "mmDeduction"),
    "max_leverage": ("initialLeverage", "maxLeverage"),
}
"""Our name -> the venue's, the first that is there."""


FILE_LIMIT = 64 << 20
"""A file of tables has at most so many bytes, packed or not."""
DIGITS_LIMIT = 30
"""A number of a table has at most so many digits before or behind the point."""


@dataclass(slots=True)
class BracketFile:
    """The tables of a file, by pair and settlement currency: ``("BTCUSDT", "USDT")``."""

    digest: str
    """SHA-256 of the file's bytes, hexadecimal."""
    sound: dict[tuple[str, str], list[BracketParameters]] = field(default_factory=dict)
    faults: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """What is wrong with the others, each in words."""
    notes: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """What should be known of a table, sound or not."""


def read_brackets(path: Path) -> BracketFile:
    """Read a file of tables.

    Raises:
        ImportFault: it cannot be read, or is none.
    """
    try:
        data = content(path, FILE_LIMIT)
        text = data
        if data[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=BytesIO(data)) as packed:
                text = read_within(packed, FILE_LIMIT, str(path))
        loaded = json.loads(text, parse_float=str, parse_int=str)
    except RecursionError:
        raise ImportFault(f"{path}: no leverage brackets: nested too deep", file=path) from None
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ImportFault(f"{path}: no leverage brackets: {error}", file=path) from None
    found = BracketFile(sha256(data).hexdigest())
    for symbol, rows, coefficient in _tables(path, loaded):
        key = _key(symbol)
        if key is None:
            continue
        try:
            if any(_is_of_contracts(row) for row in rows):
                raise KeyError(
                    "its tiers count contracts (minSz, maxSz), as OKX publishes them; brackets are notionals"
                )
            amounts = all(_first(row, "maintenance_amount") is None for row in rows)
            table = [_row(row, place) for place, row in enumerate(_with_amounts(rows) if amounts else rows)]
            brackets = [bracket_of(row, f"[{place}]") for place, row in enumerate(table)]
            faults = [
                f"{symbol}: bracket {place + 1}: {name}{' ' if name else ''}{what}"
                for place, name, what in faults_of(brackets)
            ]
            notes = [f"{symbol}: bracket {place + 1}: {what}" for place, what in liquidating_at_once(brackets)]
            if amounts:
                notes.append(f"{symbol}: the file has no maintenance amounts: those that leave no jump are taken")
        except (ParameterError, KeyError, TypeError, AttributeError, InvalidOperation) as error:
            what = error.args[0] if isinstance(error, KeyError) else error
            faults, notes = [f"{symbol}: {str(what).removeprefix('parameters.')}"], []
        if coefficient not in (None, "1", "1.0"):
            notes.append(
                f"{symbol}: notionalCoef {coefficient}: these brackets are those of one account, not the venue's"
            )
        found.notes[key] = notes
        if faults:
            found.faults[key] = faults
        else:
            found.sound[key] = table
    if not found.sound and not found.faults:
        expected = "expected Binance's leverageBracket or ccxt's tiers as JSON"
        raise ImportFault(f"{path}: holds no table of leverage brackets; {expected}", file=path)
    return found


def _tables(path: Path, loaded: Any) -> list[tuple[str, list[Any], str | None]]:
    """Return (symbol, rows, notionalCoef) of either shape."""
    try:
        if isinstance(loaded, dict) and {"symbol", "brackets"} <= loaded.keys():
            loaded = [loaded]
        if isinstance(loaded, dict):
            return [(str(symbol), list(rows), None) for symbol, rows in loaded.items()]
        return [(str(entry["symbol"]), list(entry["brackets"]), entry.get("notionalCoef")) for entry in loaded]
    except (TypeError, KeyError, AttributeError):
        raise ImportFault(f"{path}: no leverage brackets: expected tables by symbol", file=path) from None


def _key(symbol: str) -> tuple[str, str] | None:
    """Return pair and settlement currency of ``BTC/USDT:USDT`` or ``BTCUSDT``; None for what is no perpetual in its
    quote currency."""
    pair, _, settled = symbol.partition(":")
    base, slash, quote = pair.partition("/")
    if slash:
        return (base + quote, quote) if settled in ("", quote) else None
    for currency in ("USDT", "USDC", "BUSD", "FDUSD"):
        if symbol.endswith(currency):
            return symbol, currency
    return None


def _first(row: dict[str, Any], name: str) -> Any:
    """Return what a row of either shape has for one of our names; None where it has nothing."""
    venue = {**row, **(row.get("info") or {})}
    return next((venue[key] for key in _NAMES[name] if venue.get(key) not in (None, "")), None)


def _is_of_contracts(row: dict[str, Any]) -> bool:
    info = row.get("info") or {}
    return {"minSz", "maxSz"} <= info.keys()


def _with_amounts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with the maintenance amounts that leave no jump between brackets: ``amount += floor * rate's step``."""
    found, amount, before = [], Decimal(0), Decimal(0)
    for place, row in enumerate(rows):
        rate, floor = (Decimal(str(_first(row, name))) for name in ("maintenance_rate", "floor"))
        amount += floor * (rate - before) if place else 0
        before = rate
        found.append({**row, "info": {**(row.get("info") or {}), "cum": f"{amount:f}"}})
    return found


def _row(row: dict[str, Any], place: int) -> BracketParameters:
    fields: dict[str, str] = {}
    for name, candidates in _NAMES.items():
        value = _first(row, name)
        if value is None:
            raise KeyError(f"[{place}]: {candidates[0]} is missing")
        number = Decimal(value)
        if not number.is_finite() or abs(number.adjusted()) > DIGITS_LIMIT:
            raise InvalidOperation(f"[{place}]: {name}: {str(number)[:40]} is out of range")
        fields[name] = f"{number:f}"
    return msgspec.convert({name: _plain(text) for name, text in fields.items()}, BracketParameters)


def _plain(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
