"""Readers of market data files: ``bars`` (CSV with a header) and ``binance-klines`` (Binance's own dumps)."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import IO, NamedTuple, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from margin_stream.files import content
from margin_stream.importers.market import (
    LENGTHS_S,
    MINUTE_NS,
    SECOND_NS,
    Bar,
    ImportFault,
    MarketFile,
    Pair,
    RowLeftOut,
    ZoneUnknown,
    pair_of,
)
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
    form: str,
    paths: Sequence[Path],
    *,
    zone: str | None,
    label: str | None,
    complain: Complain,
    interval_s: int | None = None,
    kind: str | None = None,
    quote: str | None = None,
) -> MarketFile:
    """Read files of one format into a market.

    Args:
        form: ``bars`` or ``binance-klines``.
        paths: files; the result does not depend on their order.
        zone: of local times, such as ``America/New_York``; UTC if left out.
        label: ``open`` or ``close``: what the time of a bar names. Left out: ``open`` for ``ts_ms``, ``close`` for
            ``datetime``.
        complain: told of every row that is left out.
        interval_s: how long a bar is; left out: as the bars lie, or as their file's name states.
        kind: ``spot`` or ``equity``: what a symbol is whose kind cannot be told.
        quote: the currency of such a symbol.

    Raises:
        ImportFault: a file cannot be read at all.
        ZoneUnknown: the zone is none.
    """
    digest = sha256("|".join(str(one) for one in _said(form, zone, label, interval_s, kind, quote)).encode())
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
    read: list[_Read] = []
    for path in paths:
        read += (
            _bars(path, whole[path], clock, label, complain) if form == "bars" else _klines(path, whole[path], complain)
        )
    pairs = _pairs(read, kind, quote, complain)
    read = [one for one in read if one.bar.symbol in pairs]
    if not read:
        raise ImportFault(f"{', '.join(map(str, paths))}: no bar found", file=paths[0] if len(paths) == 1 else None)
    length_ns = _length_ns(read, interval_s)
    bars: dict[tuple[int, str], Bar] = {}
    for where, bar, closes, _ in read:
        if closes:
            bar = replace(bar, opened_ns=bar.opened_ns - length_ns)
        known = bars.setdefault((bar.opened_ns, bar.symbol), bar)
        if known != bar:
            complain(_left_out(*where, f"a second bar of {bar.symbol} for the same time, and another one"))
    market = MarketFile(f"{form}@{digest.hexdigest()[:16]}", list(bars.values()), length_ns, pairs)
    market.prepare()
    return market


def _said(form: str, zone: str | None, label: str | None, *more: object) -> list[object]:
    """Return what a source's name depends on beside its files; what was not given adds nothing."""
    return [form, zone, label, *(one for one in more if one is not None)]


class _Read(NamedTuple):
    """A row that was read."""

    where: tuple[str, int]
    bar: Bar
    closes: bool
    """Its time is that of its end; the length of bars is to be taken off yet."""
    length_s: int | None
    """Of the bar, where the row or its file's name states it."""


def _pairs(read: list[_Read], kind: str | None, quote: str | None, complain: Complain) -> dict[str, Pair]:
    """Return the instrument of each symbol; one whose kind cannot be told is named, and left out."""
    pairs: dict[str, Pair] = {}
    unclear: set[str] = set()
    for one in read:
        symbol = one.bar.symbol
        if symbol in pairs or symbol in unclear:
            continue
        pair = pair_of(symbol) or pair_of(symbol, kind, quote)
        if pair is None:
            unclear.add(symbol)
            what = f"{symbol}: what it is cannot be told; give --kind equity, or --kind spot and --quote CURRENCY"
            complain(_left_out(*one.where, f"{what}; its rows are left out"))
        else:
            pairs[symbol] = pair
    return pairs


def _length_ns(read: list[_Read], interval_s: int | None) -> int:
    """Return how long the bars are.

    Raises:
        ImportFault: they are of different lengths, or of one that no bar has.
    """
    file = read[0].where[0]
    stated = {one.length_s for one in read}
    if interval_s is not None:
        return interval_s * SECOND_NS
    if None not in stated:
        if len(stated) > 1:
            shown = ", ".join(f"{length} s" for length in sorted(length for length in stated if length))
            raise ImportFault(f"{file}: bars of different lengths ({shown}): import them apart", file=file)
        return (stated.pop() or 60) * SECOND_NS
    opened: dict[str, set[int]] = {}
    for one in read:
        opened.setdefault(one.bar.symbol, set()).add(one.bar.opened_ns)
    gaps: Counter[int] = Counter()
    for times in opened.values():
        ordered = sorted(times)
        gaps.update(after - before for before, after in pairwise(ordered))
    if not gaps:
        return MINUTE_NS
    usual = gaps.most_common(1)[0][0]
    if usual % SECOND_NS or usual // SECOND_NS not in LENGTHS_S or min(gaps) < usual:
        text = f"{file}: bars lie {usual / SECOND_NS:g} s apart, some {min(gaps) / SECOND_NS:g} s; how long is one? --interval 1m"
        raise ImportFault(text, file=file)
    return usual


def _text(path: Path, data: bytes) -> Iterator[tuple[str, str]]:
    """Yield (name, line) of a plain, gz or zip file."""
    file = io.BytesIO(data)
    if path.suffix == ".zip":
        with zipfile.ZipFile(file) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > UNPACKED_LIMIT:
                raise ImportFault(f"{path}: unpacks to more than {UNPACKED_LIMIT >> 30} GiB", file=path)
            for entry in archive.infolist():
                name = entry.filename
                if entry.is_dir() or name.startswith("__MACOSX/") or Path(name).name.startswith("."):
                    continue  # What a Mac, or a file manager, adds.
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


def _bars(path: Path, data: bytes, clock: ZoneInfo | None, label: str | None, complain: Complain) -> Iterator[_Read]:
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
                at = unix_ns(row[columns["ts_ms"]])
                closes = label == "close"
            else:
                at = local_ns(row[columns["datetime"]], clock)
                closes = label != "open"
            bar = _bar(at, row[columns["symbol"]], [row[columns[title]] for title in PRICES])
        except (ValueError, IndexError) as error:
            complain(_left_out(name, number, f"{error or 'a column is missing'}; the row is left out"))
            continue
        yield _Read((name, number), bar, closes, None)


_UNITS = ((10**8, 10**11, SECOND_NS), (10**11, 10**14, 10**6), (10**14, 10**17, 10**3), (10**17, 10**20, 1))
"""From, below, nanoseconds: seconds, milliseconds, microseconds and nanoseconds since 1970 do not overlap after 1973."""


def unix_ns(text: str) -> int:
    """Return nanoseconds since 1970 of a count of seconds, milliseconds, microseconds or nanoseconds, told apart by its
    size.

    Raises:
        ValueError: it is no such count.
    """
    number = int(text)
    for least, beyond, unit in _UNITS:
        if least <= number < beyond:
            return number * unit
    raise ValueError(f"{text} is no time since 1970 in seconds, milliseconds, microseconds or nanoseconds")


def local_ns(text: str, zone: ZoneInfo | None) -> int:
    """Return nanoseconds since 1970 of an ISO 8601 time; one without an offset is local to the zone (UTC if None).

    Raises:
        ValueError: it is no time, or the zone's clock showed it twice, or never.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone or UTC)
        if moment.utcoffset() != moment.replace(fold=1).utcoffset():
            exists = moment.astimezone(UTC).astimezone(moment.tzinfo).replace(fold=0) == moment.replace(fold=0)
            what = "the clock showed it twice" if exists else "it does not exist, the clock was put forward"
            raise ValueError(f"{text} in {zone}: {what}; write it with its offset, such as {text}-05:00")
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


_KLINE_NAME = re.compile(r"([A-Z0-9]+(?:_[A-Z0-9]+)?)-(\d+)(s|m|h|d|w|mo)-\d{4}-\d{2}(?:-\d{2})?\.(?:csv|zip|csv\.gz)")
_LENGTH_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def _klines(path: Path, data: bytes, complain: Complain) -> Iterator[_Read]:
    """Binance dumps: ``SYMBOL-1m-DATE.csv``, ``.csv.gz`` or ``.zip``, columns open time (ms, or us since 2025), open,
    high, low, close, ..."""
    for name, number, line in _lines(path, data):
        row = next(csv.reader([line]), [])
        if not row or (number == 1 and not row[0].isdigit()):
            continue
        file = Path(name.rpartition("!")[2]).name
        found = _KLINE_NAME.fullmatch(file)
        if found is None or found.group(3) == "mo":
            text = f"{name}: its name is not SYMBOL-INTERVAL-DATE, such as BTCUSDT-1m-2021-05-19.csv"
            raise ImportFault(text, file=name)
        symbol, count, unit = found.group(1), int(found.group(2)), found.group(3)
        if "_" in symbol:
            text = f"{name}: {symbol} is a dated or coin-margined future; pairs and their linear perpetuals are read"
            raise ImportFault(text, file=name)
        try:
            bar = _bar(unix_ns(row[0]), symbol, row[1:5])
        except (ValueError, IndexError) as error:
            complain(_left_out(name, number, f"{error or 'a column is missing'}; the row is left out"))
            continue
        yield _Read((name, number), bar, False, count * _LENGTH_S[unit])


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
