"""Moments: as text in the rows of every view, and as what a question names."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from margin_stream.schemas.times import TimeError, format_time, moment_ns, parse_time
from margin_stream.views.source import EVERYTHING, Until

At = datetime | str | int | None
"""The end of a prefix of the journal: a moment, a day, a sequence number (``"#1200"``, or an integer), or all of it."""


def until_of(at: At) -> Until:
    """Return the prefix that ends at a moment (RFC 3339, or an aware ``datetime``), at the last moment of a day, or at a
    sequence number.

    Raises:
        TimeError: it is none of them.
    """
    if at is None:
        return EVERYTHING
    if isinstance(at, int):
        return Until(sequence=at)
    if isinstance(at, datetime):
        return Until(time_ns=moment_ns(at))
    if at.startswith("#"):
        if not at[1:].isdigit():
            raise TimeError("no sequence number; write #N, such as #1200")
        return Until(sequence=int(at[1:]))
    day = re.fullmatch(r"\d{4}-\d{2}-\d{2}", at)
    try:
        return Until(time_ns=parse_time(f"{at}T23:59:59.999999999Z" if day else at))
    except TimeError as error:
        raise TimeError(f"{error}; or a sequence number such as #1200") from None


def moment(moment_ns: int) -> str | None:
    """Return a moment as RFC 3339; None for 0, which stands for none."""
    return format_time(moment_ns) if moment_ns else None


def with_moments(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the fields that end with ``_ns`` as text, named without it."""
    return {
        (name.removesuffix("_ns") if name.endswith("_ns") else name): (moment(value) if name.endswith("_ns") else value)
        for name, value in fields.items()
    }
