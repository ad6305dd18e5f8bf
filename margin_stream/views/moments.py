"""Moments as text, in the rows of every view."""

from __future__ import annotations

from typing import Any

from margin_stream.schemas.times import format_time


def moment(moment_ns: int) -> str | None:
    """Return a moment as RFC 3339; None for 0, which stands for none."""
    return format_time(moment_ns) if moment_ns else None


def with_moments(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the fields that end with ``_ns`` as text, named without it."""
    return {
        (name.removesuffix("_ns") if name.endswith("_ns") else name): (moment(value) if name.endswith("_ns") else value)
        for name, value in fields.items()
    }
