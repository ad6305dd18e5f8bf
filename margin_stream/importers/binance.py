"""Binance's dumps of klines, trades and funding rates."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from margin_stream.files import content
from margin_stream.importers.market import (
    ImportFault,
)
from margin_stream.importers.text_files import (
    FILE_LIMIT,
    LENGTH_S,
    Complain,
    ReadBar,
    bar_of,
    left_out,
    numbered_lines,
    plain_decimal,
    unix_ns,
)
from margin_stream.schemas.decimals import parse_decimal

_DUMP_NAME = re.compile(
    r"([A-Z0-9]+(?:_[A-Z0-9]+)?)-(aggTrades|(\d+)(s|m|h|d|w|mo))-\d{4}-\d{2}(?:-\d{2})?\.(?:csv|zip|csv\.gz)"
)
_EXAMPLES = {
    "binance-klines": "SYMBOL-INTERVAL-DATE, such as BTCUSDT-1m-2021-05-19.csv",
    "binance-trades": "SYMBOL-aggTrades-DATE, such as BTCUSDT-aggTrades-2021-05-19.csv",
}


def dumps(form: str, path: Path, data: bytes, complain: Complain) -> Iterator[ReadBar]:
    """Binance's dumps, https://github.com/binance/binance-public-data: ``.csv``, ``.csv.gz`` or ``.zip``.

    Klines: open time (ms, or us since 2025), open, high, low, close, ... Trades (aggTrades): id, price, quantity, first
    and last trade, time, ...
    """
    trades = form == "binance-trades"
    for name, number, line in numbered_lines(path, data):
        row = next(csv.reader([line]), [])
        if not row or (number == 1 and not row[0].isdigit()):
            continue
        found = _DUMP_NAME.fullmatch(Path(name.rpartition("!")[2]).name)
        if found is None or (found.group(2) == "aggTrades") is not trades or found.group(4) == "mo":
            raise ImportFault(f"{name}: its name is not {_EXAMPLES[form]}", file=name)
        symbol = found.group(1)
        if "_" in symbol:
            text = f"{name}: {symbol} is a dated or coin-margined future; pairs and their linear perpetuals are read"
            raise ImportFault(text, file=name)
        try:
            bar = bar_of(unix_ns(row[5]), symbol, [row[1]] * 4) if trades else bar_of(unix_ns(row[0]), symbol, row[1:5])
        except (ValueError, IndexError) as error:
            complain(left_out(name, number, f"{error or 'a column is missing'}; the row is left out"))
            continue
        yield ReadBar((name, number), bar, False, None if trades else int(found.group(3)) * LENGTH_S[found.group(4)])


class Funding(NamedTuple):
    """A funding rate that fell due."""

    time_ns: int
    symbol: str
    rate: str


def read_funding(paths: Sequence[Path], complain: Complain) -> list[Funding]:
    """Read funding rates of Binance, in order of time: its dumps (``BTCUSDT-fundingRate-2021-05.csv``, zip, gz: calc_time,
    funding_interval_hours, last_funding_rate), or what its API returns as JSON (symbol, fundingTime, fundingRate).

    Source: GET /fapi/v1/fundingRate, https://developers.binance.com/docs/derivatives/usds-margined-futures/.

    Raises:
        ImportFault: a file is neither.
    """
    found: list[Funding] = []
    for path in paths:
        try:
            data = content(path, FILE_LIMIT)
        except OSError as error:
            raise ImportFault(f"{path}: cannot be read: {error.strerror}", file=path) from None
        found += (
            _funding_of_api(path, data, complain) if path.suffix == ".json" else _funding_dump(path, data, complain)
        )
    return sorted(set(found))


def _funding_of_api(path: Path, data: bytes, complain: Complain) -> Iterator[Funding]:
    try:
        rows = json.loads(data, parse_float=str, parse_int=str)
        if not isinstance(rows, list):
            raise ValueError("no list")
    except (ValueError, RecursionError) as error:
        raise ImportFault(f"{path}: no funding rates: {error}", file=path) from None
    for number, row in enumerate(rows, 1):
        try:
            yield _funding(row["symbol"], row["fundingTime"], row["fundingRate"])
        except (ValueError, KeyError, TypeError) as error:
            complain(left_out(str(path), number, f"{error}; the rate is left out"))


def _funding_dump(path: Path, data: bytes, complain: Complain) -> Iterator[Funding]:
    for name, number, line in numbered_lines(path, data):
        row = next(csv.reader([line]), [])
        if not row or (number == 1 and not row[0].isdigit()):
            continue
        file = re.fullmatch(
            r"([A-Z0-9]+)-fundingRate-\d{4}-\d{2}\.(?:csv|zip|csv\.gz)", Path(name.rpartition("!")[2]).name
        )
        if file is None:
            raise ImportFault(
                f"{name}: its name is not SYMBOL-fundingRate-MONTH, such as BTCUSDT-fundingRate-2021-05.csv", file=name
            )
        try:
            yield _funding(file.group(1), row[0], row[2])
        except (ValueError, IndexError) as error:
            complain(left_out(name, number, f"{error or 'a column is missing'}; the rate is left out"))


def _funding(symbol: str, time: str, rate: str) -> Funding:
    text = plain_decimal(str(rate).strip())
    parse_decimal(text)
    return Funding(unix_ns(str(time)), str(symbol), text)
