"""What one check found."""

from __future__ import annotations

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """What one check found."""

    check: str
    """Its name: what it looked at, a dot, which part of it."""
    status: Literal["ok", "warning", "problem", "skipped"]
    found: str
    next: str = ""
    """What to do; empty where there is nothing to do."""


def ok(check: str, found: str) -> Finding:
    """Return: all is well."""
    return Finding(check, "ok", found)


def warning(check: str, found: str, to_do: str) -> Finding:
    """Return: it works, and somebody should know."""
    return Finding(check, "warning", found, to_do)


def problem(check: str, found: str, to_do: str) -> Finding:
    """Return: it will not work, or not as promised."""
    return Finding(check, "problem", found, to_do)


def skipped(check: str, why: str, to_do: str = "") -> Finding:
    """Return: it was not looked at, and that is no harm."""
    return Finding(check, "skipped", why, to_do)
