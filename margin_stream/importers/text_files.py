"""Market data files as lines of text: plain, gz or zip; their times and prices."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, NamedTuple, cast
from zoneinfo import ZoneInfo

from margin_stream.importers.market import (
    SECOND_NS,
    Bar,
    ImportFault,
    RowLeftOut,
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
DAMAGED = (OSError, EOFError, zlib.error, zipfile.BadZipFile, ValueError, RuntimeError, OverflowError, struct.error)
"""What is raised of a file that cannot be read, or of an archive that is damaged or packed as nothing unpacks here."""
PRICES = ("open", "high", "low", "close")
LENGTH_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ReadBar(NamedTuple):
    """A row that was read."""

    where: tuple[str, int]
    bar: Bar
    closes: bool
    """Its time is that of its end; the length of bars is to be taken off yet."""
    length_s: int | None
    """Of the bar, where the row or its file's name states it."""


def text_lines(path: Path, data: bytes) -> Iterator[tuple[str, str]]:
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


def numbered_lines(path: Path, data: bytes) -> Iterator[tuple[str, int, str]]:
    try:
        name, number = "", 0
        for here, line in text_lines(path, data):
            number = number + 1 if here == name else 1
            name = here
            yield name, number, line
    except DAMAGED as error:
        raise ImportFault(f"{path}: cannot be read: {error}", file=path) from None


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


def left_out(file: str, line: int, what: str) -> RowLeftOut:
    return RowLeftOut(f"{file}:{line}: {what}", file=file, line=line)


def bar_of(opened_ns: int, symbol: str, prices: Iterable[str]) -> Bar:
    if not 0 < opened_ns < LATEST_NS:
        raise ValueError("the time lies outside 1970..2116")
    symbol = symbol.strip()
    if (
        not symbol
        or not symbol.replace("_", "").replace("/", "").replace("-", "").replace(".", "").isalnum()
        or not symbol.isascii()
    ):
        raise ValueError(f"symbol: {symbol!r} is no symbol")
    texts = [plain_decimal(price.strip()) for price in prices]
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


def plain_decimal(text: str) -> str:
    """Return a decimal without exponent: some files write ``4.665e-05``."""
    if "e" not in text and "E" not in text:
        return text
    sign, text = ("-", text[1:]) if text.startswith("-") else ("", text)
    mantissa, _, exponent = text.lower().partition("e")
    shift = int(exponent)
    if abs(shift) > 30:
        raise ValueError(f"{text} is no price")
    whole, _, fraction = mantissa.partition(".")
    digits = whole + fraction
    point = len(whole) + shift
    if point <= 0:
        return f"{sign}0." + "0" * -point + digits
    if point >= len(digits):
        return sign + digits.ljust(point, "0")
    return f"{sign}{digits[:point]}.{digits[point:]}"
