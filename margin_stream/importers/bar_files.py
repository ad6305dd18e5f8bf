"""Readers of bars: in columns (``bar_forms``), and ccxt's candles."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

from margin_stream.importers.bar_forms import BarForm, symbol_of, title_of, units_of
from margin_stream.importers.market import (
    ImportFault,
)
from margin_stream.importers.text_files import (
    LENGTH_S,
    Complain,
    ReadBar,
    bar_of,
    left_out,
    local_ns,
    numbered_lines,
    text_lines,
    unix_ns,
)


def columns(
    form: BarForm,
    path: Path,
    data: bytes,
    clock: ZoneInfo | None,
    label: str | None,
    symbol: str | None,
    complain: Complain,
) -> Iterator[ReadBar]:
    """Read bars in columns."""
    columns: dict[str, int] = {}
    file = ""
    for name, number, line in numbered_lines(path, data):
        row = next(csv.reader([line]), [])
        if number == 1:
            columns = {title_of(title): place for place, title in enumerate(row)}
            file = "" if _place(columns, form.symbol) is not None else _symbol_of_file(form, name, symbol)
            times = _place(columns, form.counted + form.local) is not None
            missing = [title for title in form.prices if title not in columns]
            missing += [] if file or _place(columns, form.symbol) is not None else ["symbol"]
            if missing or not times:
                text = f"{name}:1: the header lacks {', '.join(missing) or ' or '.join(form.counted + form.local)}"
                raise ImportFault(f"{text}; {form.name} need {', '.join(form.needed)}", file=name, line=1)
            continue
        if not any(row):
            continue
        try:
            at, closes = _time(form, columns, row, clock, label)
            place = _place(columns, form.symbol)
            found = symbol_of(form, file or row[place if place is not None else 0].strip())
            if not found:
                raise ValueError(
                    f"{row[place or 0]}: its kind or currency is not in the symbol; give --kind and --quote"
                )
            texts = [row[columns[title]] for title in form.prices]
            bar = bar_of(at, found, [units_of(text) for text in texts] if form.units else texts)
            length_s = None
            if form.lengths is not None and form.lengths[0] in columns:
                stated = row[columns[form.lengths[0]]]
                if stated not in form.lengths[1]:
                    raise ValueError(f"{form.lengths[0]}: {stated} is no length of a bar")
                length_s = form.lengths[1][stated]
        except (ValueError, IndexError) as error:
            complain(left_out(name, number, f"{error or 'a column is missing'}; the row is left out"))
            continue
        yield ReadBar((name, number), bar, closes, length_s)


def _place(columns: dict[str, int], titles: Sequence[str]) -> int | None:
    """Return the place of the first of some columns that is there."""
    return next((columns[title] for title in titles if title in columns), None)


def _symbol_of_file(form: BarForm, name: str, symbol: str | None) -> str:
    """Return the symbol of a file without a column for it; empty where nothing states it."""
    found = re.fullmatch(form.file_name, Path(name.rpartition("!")[2]).name) if form.file_name else None
    text = found.group(1) if found else ""
    return symbol or (text.replace("_", ".") if form.name == "stooq" else text)


def _time(
    form: BarForm, columns: dict[str, int], row: list[str], clock: ZoneInfo | None, label: str | None
) -> tuple[int, bool]:
    """Return a bar's time in nanoseconds, and whether it is that of its end.

    Raises:
        ValueError: it is none.
    """
    place = _place(columns, form.counted)
    if place is not None and row[place].strip().isdigit():
        return unix_ns(row[place]), label == "close"
    place = _place(columns, form.local)
    if place is None:
        raise ValueError(f"{row[_place(columns, form.counted) or 0]} counts nothing since 1970")
    text = row[place].strip()
    beside = _place(columns, form.clock)
    if beside is not None:
        time = row[beside].strip()
        text += f"T{time if ':' in time else time.rjust(6, '0')}"
    return local_ns(text, clock), (label or form.label) == "close"


def candles(path: Path, data: bytes, symbol: str | None, complain: Complain) -> Iterator[ReadBar]:
    """Candles as ccxt's fetch_ohlcv returns them, in a JSON file: lists of time (ms), open, high, low, close, volume."""
    name = str(path)
    found = re.match(r"([A-Z0-9]+[_-][A-Z0-9]+)-(\d+)([smhdw])[.-]", path.name)
    symbol = symbol or (found.group(1) if found else None)
    if symbol is None:
        what = "its name is not PAIR-INTERVAL.json, such as BTC_USDT-1m.json; name its pair: --symbol BTC/USDT"
        raise ImportFault(f"{path}: {what}", file=path)
    text = "".join(line for _, line in text_lines(path, data))
    try:
        rows = json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError) as error:
        raise ImportFault(f"{path}: no JSON: {error}", file=path) from None
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise ImportFault(f"{path}: no list of candles, each [time, open, high, low, close, volume]", file=path)
    length_s = int(found.group(2)) * LENGTH_S[found.group(3)] if found else None
    for number, row in enumerate(rows, 1):
        try:
            bar = bar_of(unix_ns(row[0]), symbol, [str(price) for price in row[1:5]])
        except (ValueError, IndexError, TypeError) as error:
            complain(left_out(name, number, f"{error or 'a number is missing'}; the candle is left out"))
            continue
        yield ReadBar((name, number), bar, False, length_s)
