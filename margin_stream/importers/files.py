"""Readers of market data files: ``bars`` (CSV with a header) and ``binance-klines`` (Binance's own dumps)."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import IO, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from margin_stream.files import content
from margin_stream.importers.market import MINUTE_NS, Bar, ImportFault, MarketFile, RowLeftOut, ZoneUnknown
from margin_stream.schemas.decimals import DecimalError, parse_decimal
from margin_stream.schemas.times import LATEST_NS

Complain = Callable[[RowLeftOut], None]
"""Told of each row that is left out."""

FILE_LIMIT = 1 << 30
"""A market file has at most so many bytes as it lies on the disk."""
UNPACKED_LIMIT = 4 << 30
LINE_LIMIT = 64 << 10
"""A line of a market file has at most so many characters."""
PRICES = ("open", "high", "low", "close")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_market(
    form: str, paths: Sequence[Path], *, zone: str | None, label: str | None, complain: Complain
) -> MarketFile:
    """Read files of one format into a market.

    Args:
        form: ``bars`` or ``binance-klines``.
        paths: files; the result does not depend on their order.
        zone: of local times, such as ``America/New_York``; UTC if left out.
        label: ``open`` or ``close``: what the time of a bar names. Left out: ``open`` for ``ts_ms``, ``close`` for
            ``datetime``.
        complain: told of every row that is left out.

    Raises:
        ImportFault: a file cannot be read at all.
        ZoneUnknown: the zone is none.
    """
    digest = sha256(f"{form}|{zone}|{label}".encode())
    whole: dict[Path, bytes] = {}
    for path in sorted(paths, key=lambda path: path.name):
        try:
            whole[path] = content(path, FILE_LIMIT)
        except OSError as error:
            raise ImportFault(f"{path}: cannot be read: {error.strerror}", file=path) from None
        digest.update(sha256(whole[path]).digest())
    try:
        clock = ZoneInfo(zone) if zone else None
    except (ZoneInfoNotFoundError, ValueError):
        raise ZoneUnknown(f"--zone: {zone!r} is no time zone", option="--zone") from None
    bars: list[Bar] = []
    seen: dict[tuple[int, str], Bar] = {}
    for path in paths:
        rows = (
            _bars(path, whole[path], clock, label, complain) if form == "bars" else _klines(path, whole[path], complain)
        )
        for where, bar in rows:
            known = seen.get((bar.opened_ns, bar.symbol))
            if known is not None:
                if known != bar:
                    complain(_left_out(*where, f"a second bar of {bar.symbol} for the same minute, and another one"))
                continue
            seen[bar.opened_ns, bar.symbol] = bar
            bars.append(bar)
    if not bars:
        raise ImportFault(f"{', '.join(map(str, paths))}: no bar found", file=paths[0] if len(paths) == 1 else None)
    market = MarketFile(f"{form}@{digest.hexdigest()[:16]}", bars)
    market.prepare()
    return market


def _text(path: Path, data: bytes) -> Iterator[tuple[str, str]]:
    """Yield (name, line) of a plain, gz or zip file."""
    file = io.BytesIO(data)
    if path.suffix == ".zip":
        with zipfile.ZipFile(file) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > UNPACKED_LIMIT:
                raise ImportFault(f"{path}: unpacks to more than {UNPACKED_LIMIT >> 30} GiB", file=path)
            for entry in archive.infolist():
                with archive.open(entry) as packed:
                    yield from _within(f"{path}!{entry.filename}", packed)
    else:
        unpacked = gzip.GzipFile(fileobj=file) if data[:2] == b"\x1f\x8b" else file
        yield from _within(str(path), cast(IO[bytes], unpacked))


def _within(name: str, stream: IO[bytes]) -> Iterator[tuple[str, str]]:
    """Yield (name, line) of a stream, however much it would unpack to.

    Raises:
        ImportFault: a line, or the whole, is longer than such a file can be.
    """
    text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
    number = total = 0
    while line := text.readline(LINE_LIMIT):
        number += 1
        total += len(line)
        if len(line) >= LINE_LIMIT:
            what = f"{name}:{number}: the line has {LINE_LIMIT >> 10} KiB or more; is it a market file?"
            raise ImportFault(what, file=name, line=number)
        if total > UNPACKED_LIMIT:
            raise ImportFault(f"{name}: unpacks to more than {UNPACKED_LIMIT >> 30} GiB", file=name)
        yield name, line


def _lines(path: Path, data: bytes) -> Iterator[tuple[str, int, str]]:
    try:
        name, number = "", 0
        for here, line in _text(path, data):
            number = number + 1 if here == name else 1
            name = here
            yield name, number, line
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise ImportFault(f"{path}: cannot be read: {error}", file=path) from None


def _bars(
    path: Path, data: bytes, clock: ZoneInfo | None, label: str | None, complain: Complain
) -> Iterator[tuple[tuple[str, int], Bar]]:
    columns: dict[str, int] = {}
    for name, number, line in _lines(path, data):
        row = next(csv.reader([line]), [])
        if number == 1:
            columns = {title.strip().lower(): place for place, title in enumerate(row)}
            missing = [title for title in ("symbol", *PRICES) if title not in columns]
            if missing or not {"ts_ms", "datetime"} & columns.keys():
                wanted = ", ".join(missing) or "ts_ms or datetime"
                raise ImportFault(
                    f"{name}:1: the header lacks {wanted}; bars need ts_ms or datetime, symbol, open, high, low, close",
                    file=name,
                    line=1,
                )
            continue
        if not any(row):
            continue
        try:
            if "ts_ms" in columns:
                at = int(row[columns["ts_ms"]]) * 1_000_000
                closes = label == "close"
            else:
                moment = datetime.fromisoformat(row[columns["datetime"]])
                if moment.tzinfo is None:
                    moment = moment.replace(tzinfo=clock or UTC)
                at = (moment - _EPOCH) // timedelta(microseconds=1) * 1000
                closes = label != "open"
            bar = _bar(
                at - MINUTE_NS if closes else at, row[columns["symbol"]], [row[columns[title]] for title in PRICES]
            )
        except (ValueError, IndexError) as error:
            complain(_left_out(name, number, f"{error or 'a column is missing'}; the row is left out"))
            continue
        yield (name, number), bar


def _klines(path: Path, data: bytes, complain: Complain) -> Iterator[tuple[tuple[str, int], Bar]]:
    """Binance dumps: ``SYMBOL-1m-DATE.csv`` or ``.zip``, columns open time (ms, or us since 2025), open, high, low,
    close, ..."""
    for name, number, line in _lines(path, data):
        row = next(csv.reader([line]), [])
        if not row or (number == 1 and not row[0].isdigit()):
            continue
        symbol = Path(name.rpartition("!")[2]).name.partition("-")[0].upper()
        try:
            moment = int(row[0])
            at = moment * 1000 if moment > 10**14 else moment * 1_000_000
            bar = _bar(at, symbol, row[1:5])
        except (ValueError, IndexError) as error:
            complain(_left_out(name, number, f"{error or 'a column is missing'}; the row is left out"))
            continue
        yield (name, number), bar


def _left_out(file: str, line: int, what: str) -> RowLeftOut:
    return RowLeftOut(f"{file}:{line}: {what}", file=file, line=line)


def _bar(opened_ns: int, symbol: str, prices: Iterable[str]) -> Bar:
    if not 0 < opened_ns < LATEST_NS:
        raise ValueError("the time lies outside 1970..2116")
    symbol = symbol.strip()
    if (
        not symbol
        or not symbol.replace("_", "").replace("/", "").replace("-", "").replace(".", "").isalnum()
        or not symbol.isascii()
    ):
        raise ValueError(f"symbol: {symbol!r} is no symbol")
    texts = [_plain(price.strip()) for price in prices]
    if len(texts) != 4:
        raise ValueError("four prices are needed")
    values = []
    for title, text in zip(PRICES, texts, strict=True):
        try:
            mantissa, exponent = parse_decimal(text)
        except DecimalError as error:
            raise ValueError(f"{title}: {error}") from None
        if mantissa <= 0 or exponent < -12:
            raise ValueError(f"{title}: {text} is no price")
        values.append(mantissa * 10 ** (exponent + 18))
    if not values[2] <= min(values[0], values[3]) <= max(values[0], values[3]) <= values[1]:
        raise ValueError(f"open {texts[0]}, high {texts[1]}, low {texts[2]}, close {texts[3]} are not in order")
    return Bar(opened_ns, symbol, *texts)


def _plain(text: str) -> str:
    """Return a decimal without exponent: some files write ``4.665e-05``."""
    if "e" not in text and "E" not in text:
        return text
    mantissa, _, exponent = text.lower().partition("e")
    shift = int(exponent)
    if abs(shift) > 30:
        raise ValueError(f"{text} is no price")
    whole, _, fraction = mantissa.partition(".")
    digits = whole + fraction
    point = len(whole) + shift
    if point <= 0:
        return "0." + "0" * -point + digits
    if point >= len(digits):
        return digits.ljust(point, "0")
    return f"{digits[:point]}.{digits[point:]}"
