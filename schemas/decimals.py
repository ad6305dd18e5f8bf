"""Decimals as integers: a value is ``mantissa * 10**exponent``, always in one spelling.

Binary floats never enter. At the boundary a decimal is a string (or a JSON integer); inside, it is the pair of integers
below. The pair is canonical: the mantissa carries no trailing zero, zero is ``(0, 0)``, and a mantissa beyond 64 bits,
for which msgpack has no integer, is held as its bytes. So equal numbers are equal pairs, however they were spelled.
"""

from __future__ import annotations

import re
from functools import lru_cache

DecimalPair = tuple[int | bytes, int]
"""``(mantissa, exponent)`` in canonical form; the value is ``mantissa * 10**exponent``. A mantissa at or beyond 2**63
either way is held as big-endian two's complement, as few bytes as hold it."""

MANTISSA_LIMIT = 2**127
"""Mantissas lie strictly between ``-MANTISSA_LIMIT`` and ``MANTISSA_LIMIT``."""
EXPONENT_LIMIT = 18
"""Exponents lie in ``-EXPONENT_LIMIT..EXPONENT_LIMIT``."""
TEXT_LIMIT = 60
"""The longest decimal text that is read, in characters."""

POWERS_OF_TEN: tuple[int, ...] = tuple(10**n for n in range(80))

_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")


class DecimalError(ValueError):
    """A text is not a decimal, or lies outside the declared range."""


def whole(mantissa: int | bytes) -> int:
    """Return a mantissa as an integer."""
    return mantissa if isinstance(mantissa, int) else int.from_bytes(mantissa, "big", signed=True)


def packed(mantissa: int) -> int | bytes:
    """Return an integer as msgpack can hold it: itself, or its bytes."""
    if -(2**63) <= mantissa < 2**63:
        return mantissa
    return mantissa.to_bytes((mantissa.bit_length() + 8) // 8, "big", signed=True)


@lru_cache(maxsize=16384)
def parse_pair(text: str) -> DecimalPair:
    """Return the canonical pair of a decimal text, as events hold it; see ``parse_decimal``."""
    mantissa, exponent = parse_decimal(text)
    return packed(mantissa), exponent


@lru_cache(maxsize=16384)
def parse_decimal(text: str) -> tuple[int, int]:
    """Return the mantissa and the exponent of a decimal text such as ``"38000.10"``.

    Exponents (``1e5``), a leading ``+``, a bare point and thousands separators are refused: one number, one grammar.

    Raises:
        DecimalError: the text is not a decimal, or its mantissa or exponent is out of range.

    Example: ``"38000.10"`` -> ``(380001, -1)``; ``"1000"`` -> ``(1, 3)``.
    """
    if len(text) > TEXT_LIMIT:
        raise DecimalError(f"a decimal has at most {TEXT_LIMIT} characters, this one has {len(text)}")
    if _DECIMAL.fullmatch(text) is None:
        raise DecimalError(
            f'{text!r} is not a decimal; write digits with an optional "-" and point, such as "38000.10"'
        )
    whole, _, fraction = text.partition(".")
    return canonical(int(whole + fraction), -len(fraction))


def canonical(mantissa: int, exponent: int) -> tuple[int, int]:
    """Return ``mantissa * 10**exponent`` without trailing zeros in the mantissa.

    Raises:
        DecimalError: out of range even without trailing zeros.
    """
    if mantissa == 0:
        return (0, 0)
    while mantissa % 10 == 0:
        mantissa //= 10
        exponent += 1
    if not (-MANTISSA_LIMIT < mantissa < MANTISSA_LIMIT and -EXPONENT_LIMIT <= exponent <= EXPONENT_LIMIT):
        raise DecimalError(
            f"a decimal holds a mantissa below 2**127 and {EXPONENT_LIMIT} places on either side of the point; this one "
            f"does not fit"
        )
    return (mantissa, exponent)


@lru_cache(maxsize=16384)
def format_decimal(pair: DecimalPair) -> str:
    """Return the shortest text of a pair: ``(380001, -1)`` -> ``"38000.1"``."""
    mantissa, exponent = whole(pair[0]), pair[1]
    if exponent >= 0:
        return str(mantissa * POWERS_OF_TEN[exponent])
    return format_scaled(mantissa, -exponent)


def format_scaled(amount: int, scale: int) -> str:
    """Return ``amount * 10**-scale`` with exactly ``scale`` digits after the point: ``(-1205, 2)`` -> ``"-12.05"``."""
    if scale == 0:
        return str(amount)
    sign = "-" if amount < 0 else ""
    digits = str(abs(amount)).rjust(scale + 1, "0")
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}"


def scaled(pair: DecimalPair, scale: int) -> int | None:
    """Return the pair as an integer count of ``10**-scale``, or None where it has more decimal places than that."""
    shift = pair[1] + scale
    if shift < 0:
        return None
    return whole(pair[0]) * POWERS_OF_TEN[shift]
