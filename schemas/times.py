"""Moments: integers of nanoseconds since 1970-01-01T00:00:00Z inside, RFC 3339 in UTC at the boundary."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
LATEST_NS = 2**62
"""The latest moment that is read (year 2116); the earliest is 1970-01-01T00:00:00Z."""

_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(?:[Zz]|\+00:00)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TimeError(ValueError):
    """A text is not an RFC 3339 time in UTC."""


@lru_cache(maxsize=4096)
def _whole_seconds_ns(text: str) -> int:
    moment = datetime.strptime(text.upper(), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(seconds=1) * SECOND_NS


@lru_cache(maxsize=4096)
def parse_time(text: str) -> int:
    """Return nanoseconds since the epoch of ``"2021-05-19T12:30:00.123456789Z"``.

    Raises:
        TimeError: not RFC 3339, not UTC, a leap second, or outside 1970..2116.
    """
    match = _TIME.fullmatch(text) if len(text) <= 40 else None
    if match is None:
        raise TimeError(
            f"{text[:40]!r} is not a time; write RFC 3339 in UTC with up to nine decimals, such as "
            f'"2021-05-19T12:30:00Z"'
        )
    seconds, fraction = match.groups()
    try:
        moment = _whole_seconds_ns(seconds)
    except ValueError:
        raise TimeError(
            f"{text!r} names a moment that does not exist (leap seconds are not accepted; send the next second)"
        ) from None
    if fraction:
        moment += int(fraction.ljust(9, "0"))
    if not 0 <= moment < LATEST_NS:
        raise TimeError(f"{text!r} lies outside 1970..2116")
    return moment


def moment_ns(moment: datetime) -> int:
    """Return nanoseconds since 1970 of a ``datetime``.

    Raises:
        TimeError: it has no time zone.
    """
    if moment.tzinfo is None:
        raise TimeError(f"{moment.isoformat()} has no time zone: use an aware datetime, such as of timezone.utc")
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


@lru_cache(maxsize=4096)
def _format_seconds(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def format_time(moment_ns: int) -> str:
    """Return the RFC 3339 text, with as few decimals as hold the moment: ``0`` -> ``"1970-01-01T00:00:00Z"``."""
    seconds, fraction = divmod(moment_ns, SECOND_NS)
    text = _format_seconds(seconds)
    return f"{text}.{fraction:09d}".rstrip("0") + "Z" if fraction else text + "Z"
