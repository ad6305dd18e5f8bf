"""Cells: numbers, moments and names as people write them. Where a text has two readings, neither is taken."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from margin_stream.importers.own_data.problems import WrongCell
from margin_stream.importers.text_files import unix_ns
from margin_stream.schemas.decimals import DecimalError, parse_decimal
from margin_stream.schemas.times import LATEST_NS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DOUBLE_DIGITS = 15
"""A double keeps so many digits for certain."""
_EXPONENT = re.compile(r"([+-]?)(\d+)(?:\.(\d+))?[eE]([+-]?\d{1,3})")


@dataclass(frozen=True, slots=True)
class Reading:
    """How cells are read."""

    decimal_comma: bool = False
    date_format: str | None = None
    """Of ``strptime``; None for ISO 8601."""
    zone: ZoneInfo | None = None
    """Of times without an offset."""
    time_of_day: str | None = None
    """``HH:MM`` or ``HH:MM:SS``, of days without a time."""
    negative_is_loan: bool = False
    """A negative amount of collateral is what the account owes."""


def number(text: str, reading: Reading) -> str:
    """Return a number as a plain decimal: ``1,234.50`` -> ``1234.50``, and with a decimal comma ``1.234,50`` and
    ``1.234`` too: who states the comma states what a point is. Without that, ``1,234`` has two readings.

    Raises:
        WrongCell: it is none, or has two readings.
    """
    point, comma = (",", ".") if reading.decimal_comma else (".", ",")
    bare = text.replace("\u00a0", "").replace("\u202f", "").replace(" ", "").replace("'", "")
    if found := _EXPONENT.fullmatch(bare):
        bare = _plain(*found.groups())
        point, comma = ".", ","
    if not re.fullmatch(r"[+-]?[\d.,]*\d[\d.,]*", bare):
        raise WrongCell("not a number", _form_of(bare, point))
    sign, digits = bare[:1].strip("+0123456789.,"), bare.lstrip("+-")
    whole, dot, fraction = digits.partition(point)
    if comma in digits:
        groups = whole.split(comma)
        grouped = len(groups) > 1 and all(len(group) == 3 for group in groups[1:]) and 1 <= len(groups[0]) <= 3
        if comma in fraction or not grouped:
            other = (
                "--decimal-comma reads a comma as the decimal point" if comma == "," else "leave out --decimal-comma"
            )
            raise WrongCell(f"a {_word(comma)} in a number", f"write {_swapped(digits, comma, point)}, or {other}")
        if len(groups) == 2 and not dot and not reading.decimal_comma:
            plain = "".join(groups)
            what = f"{plain}, or {groups[0]}.{groups[1]}? both can be meant"
            raise WrongCell(what, f"write {plain}, or give --decimal-comma where a comma is the decimal point")
        whole = "".join(groups)
    if point in fraction or (dot and not fraction):
        raise WrongCell("not a number", "write digits with one decimal point, such as 1234.50")
    plain = f"{sign}{whole.lstrip('0') or '0'}" + (f".{fraction}" if fraction else "")
    try:
        parse_decimal(plain)
    except DecimalError as error:
        raise WrongCell(str(error), "write fewer digits") from None
    return plain


def _plain(sign: str, whole: str, fraction: str | None, exponent: str) -> str:
    """Return a number with an exponent written out."""
    fraction = fraction or ""
    shift = int(exponent)
    if abs(shift) > 30:
        raise WrongCell("out of range", "write it without an exponent")
    digits, place = whole + fraction, len(whole) + shift
    digits = "0" * max(-place, 0) + digits
    place = max(place, 0)
    digits = digits.ljust(place, "0")
    return f"{sign}{digits[:place] or '0'}" + (f".{digits[place:]}" if digits[place:] else "")


def _form_of(text: str, point: str) -> str:
    """Return the right form of what is no number."""
    if re.fullmatch(r"\([\d.,]+\)", text):
        return f"write -{text[1:-1]}"
    if re.fullmatch(r"[\d.,]+-", text):
        return f"write -{text[:-1]}"
    if text[:1] in "\u2212\u2013\u2014" and text:
        return f"write it with a hyphen: -{text[1:]}"
    if found := re.fullmatch(r"[^\d+-]*([+-]?[\d.,]+)[^\d]*", text):
        return f"write the number alone: {found.group(1)}"
    return f"write digits, such as 1234{point}50"


def _word(character: str) -> str:
    return "comma" if character == "," else "point"


def _swapped(digits: str, comma: str, point: str) -> str:
    """Return digits whose last separator is the decimal point that is expected."""
    head, _, tail = digits.rpartition(comma)
    return f"{head.replace(comma, '').replace(point, '')}{point}{tail}"


def moment_ns(text: str, reading: Reading) -> int:
    """Return nanoseconds since 1970 of a moment: ISO 8601, by the date format, or a count since 1970.

    Raises:
        WrongCell: it is none, or has two readings.
    """
    if reading.date_format is None and re.fullmatch(r"\d{6,20}(\.0+)?", text):
        return _within(_count(text.partition(".")[0]))
    if reading.time_of_day and re.fullmatch(r"\d{4}-\d{2}-\d{2}( 00:00:00)?", text):
        text = f"{text[:10]} {reading.time_of_day}"
    try:
        if reading.date_format:
            moment = datetime.strptime(text, reading.date_format)  # noqa: DTZ007 (the zone follows)
        else:
            moment = datetime.fromisoformat(text)
    except ValueError:
        raise _not_a_moment(text, reading) from None
    if reading.date_format is None and re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", text):
        raise WrongCell("a day without a time", f"write {text} 16:00, or give --time-of-day 16:00")
    if moment.tzinfo is not None:
        return _within((moment - _EPOCH) // timedelta(microseconds=1) * 1000)
    if reading.zone is None:
        raise WrongCell("a time without a zone", "give --zone, such as --zone America/New_York or --zone UTC")
    local = moment.replace(tzinfo=reading.zone)
    if local.utcoffset() != local.replace(fold=1).utcoffset():
        exists = local.astimezone(UTC).astimezone(reading.zone).replace(fold=0) == local
        what = "the clock showed it twice" if exists else "no such time: the clock was put forward"
        offset = local.strftime("%z")
        raise WrongCell(
            f"in {reading.zone} {what}", f"write it with its offset, such as {text}{offset[:3]}:{offset[3:]}"
        )
    return _within((local - _EPOCH) // timedelta(microseconds=1) * 1000)


def _count(text: str) -> int:
    try:
        return unix_ns(text)
    except ValueError:
        unit = "write seconds, milliseconds, microseconds or nanoseconds since 1970, or 2024-03-01T14:30:00Z"
        raise WrongCell("no time since 1970", unit) from None


def _within(moment: int) -> int:
    if not 0 < moment < LATEST_NS:
        raise WrongCell("outside of 1970 to 2116", "is the unit another? write the year with four digits")
    return moment


def _not_a_moment(text: str, reading: Reading) -> WrongCell:
    if reading.date_format:
        return WrongCell("not a time", f"--date-format {reading.date_format} expects {_example(reading.date_format)}")
    if found := re.match(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})", text):
        first, mark, second = int(found.group(1)), found.group(2), int(found.group(3))
        rest = " %H:%M:%S" if text.count(":") == 2 else " %H:%M" if ":" in text else ""
        day_first, month_first = f"%d{mark}%m{mark}%Y{rest}", f"%m{mark}%d{mark}%Y{rest}"
        if first > 12 >= second or second > 12 >= first:
            known = day_first if first > 12 else month_first
            return WrongCell("not ISO 8601", f"give --date-format '{known}'")
        what = "day or month first? both can be meant"
        return WrongCell(what, f"give --date-format '{day_first}' or '{month_first}'")
    return WrongCell("not a time", "write it such as 2024-03-01T14:30:00Z, or give --date-format")


def _example(form: str) -> str:
    try:
        return datetime(2024, 3, 1, 14, 30, tzinfo=UTC).strftime(form)
    except ValueError:
        return "another form"


def unit_of(text: str) -> str | None:
    """Return the unit of a count since 1970, in words; None for what is none."""
    if not re.fullmatch(r"\d{6,20}(\.0+)?", text):
        return None
    digits = len(text.partition(".")[0])
    return (
        "seconds"
        if digits <= 11
        else "milliseconds"
        if digits <= 14
        else "microseconds"
        if digits <= 17
        else "nanoseconds"
    )


def has_offset(text: str) -> bool:
    """Return whether a time states its offset from UTC."""
    return bool(re.search(r"(Z|[+-]\d{2}:?\d{2})$", text.strip(), re.IGNORECASE)) and ":" in text


def digits_of(text: str) -> int:
    """Return how many digits of a number carry value."""
    return len(text.lstrip("+-").replace(".", "").strip("0"))
