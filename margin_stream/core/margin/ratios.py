"""Ratios and amounts of parameters: exact, from decimal texts."""

from __future__ import annotations

from margin_stream.core.margin.guards import Ratio
from margin_stream.core.margin.parameters import ParameterError
from margin_stream.schemas.decimals import DecimalError, parse_decimal


def ratio(text: str, name: str, least: int = 0) -> Ratio:
    """Return the fraction of a decimal text.

    Raises:
        ParameterError: it is no decimal, or below the least.
    """
    try:
        mantissa, exponent = parse_decimal(text)
    except DecimalError as error:
        raise ParameterError(f"parameters.{name}: {error}") from None
    if mantissa < least:
        raise ParameterError(f"parameters.{name}: {text} is below {least}")
    return Ratio(mantissa * 10 ** max(exponent, 0), 10 ** max(-exponent, 0))


def less(left: Ratio, right: Ratio) -> bool:
    """Say whether one fraction is less than another."""
    return left.numerator * right.denominator < right.numerator * left.denominator


def amount(text: str, name: str, scale: int, least: int) -> int:
    """Return a decimal text in minor units.

    Raises:
        ParameterError: it has more decimal places than the currency, or is below the least.
    """
    fraction = ratio(text, name)
    multiplier: int = 10**scale
    units, rest = divmod(fraction.numerator * multiplier, fraction.denominator)
    if rest or units < least:
        raise ParameterError(
            f"parameters.{name}: {text} is no amount of the base currency, at least {least} minor units"
        )
    return units


def per_billion(ratio: Ratio) -> int:
    """Return a fraction in billionths, rounded down: for ordering."""
    return ratio.numerator * 10**9 // ratio.denominator
