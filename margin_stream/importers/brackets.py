"""Leverage brackets from files: what Binance's ``leverageBracket`` answers, or ccxt's market tiers, as JSON, gzipped or
not.

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
    "maintenance_amount": ("cum",),
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
            table = [_row(row, place) for place, row in enumerate(rows)]
            brackets = [bracket_of(row, f"[{place}]") for place, row in enumerate(table)]
            faults = [
                f"{symbol}: bracket {place + 1}: {name}{' ' if name else ''}{what}"
                for place, name, what in faults_of(brackets)
            ]
            notes = [f"{symbol}: bracket {place + 1}: {what}" for place, what in liquidating_at_once(brackets)]
        except (ParameterError, KeyError, TypeError, AttributeError, InvalidOperation) as error:
            faults, notes = [f"{symbol}: {str(error).removeprefix('parameters.')}"], []
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


def _row(row: dict[str, Any], place: int) -> BracketParameters:
    venue = {**row, **row.get("info", {})}
    fields: dict[str, str] = {}
    for name, candidates in _NAMES.items():
        key = next((candidate for candidate in candidates if venue.get(candidate) is not None), None)
        if key is None:
            raise KeyError(f"[{place}]: {candidates[0]} is missing")
        number = Decimal(venue[key])
        if not number.is_finite() or abs(number.adjusted()) > DIGITS_LIMIT:
            raise InvalidOperation(f"[{place}]: {key}: {str(number)[:40]} is out of range")
        fields[name] = f"{number:f}"
    return msgspec.convert({name: _plain(text) for name, text in fields.items()}, BracketParameters)


def _plain(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
