"""Assets as collateral: haircuts and conversion routes, bound to a directory. Shared by the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from margin_stream.core.margin.formula import Amount
from margin_stream.core.margin.guards import Ratio
from margin_stream.core.margin.parameters import AssetParameters, ParameterError
from margin_stream.core.margin.ratios import ratio
from margin_stream.core.market.directory import UNIT, Directory

LEGS_LIMIT = 3


class AssetTerms(NamedTuple):
    """An asset's route and arithmetic. Value = balance * product of prices * keep // value_divisor; debit likewise //
    debit_divisor."""

    first: int
    second: int
    third: int
    """Instruments of the route, the unit instrument where it is shorter."""
    keep: int
    value_divisor: int
    debit_divisor: int
    keep_ratio: Ratio
    """1 - haircut."""


def amounts_of(table: dict[int, AssetTerms], balances: dict[int, int], *, lent: bool) -> tuple[list[Amount], bool]:
    """Return balances as terms of a formula, and whether a price bounds each.

    Args:
        table: of the assets that the profile names; others count nothing.
        balances: asset number -> units of its scale.
        lent: what is negative is a debit of its own; else it lowers the value.
    """
    found: list[Amount] = []
    bounded = True
    for asset, balance in balances.items():
        terms = table.get(asset)
        if terms is None:
            bounded = bounded and balance >= 0
            continue
        legs = tuple(leg for leg in terms[:3] if leg != UNIT)
        if balance > 0:
            found.append(Amount(legs, balance * terms.keep, terms.value_divisor, False))
        elif lent:
            found.append(Amount(legs, -balance, terms.debit_divisor, True))
        else:
            found.append(Amount(legs, balance, terms.debit_divisor, False))
    return found, bounded


def credited(terms: AssetTerms | None, before: int, delta: int, prices: Sequence[int]) -> int | None:
    """Return the value of an amount that moved: at face where it repays or draws a debit, the rest after haircut; each
    part rounded down.

    Args:
        terms: of the asset; None where the profile does not name it, which is worth 0.
        before: the balance before.
        delta: what moved, negative for what left.
        prices: of every instrument.

    Returns:
        Minor units of the base currency; None where the asset has no price yet.
    """
    if terms is None:
        return 0
    price = prices[terms.first] * prices[terms.second] * prices[terms.third]
    if price == 0:
        return None
    moved = abs(delta)
    at_face = min(moved, max(-before, 0)) if delta > 0 else moved - min(moved, max(before, 0))
    return at_face * price // terms.debit_divisor + (moved - at_face) * price * terms.keep // terms.value_divisor


def asset_terms(name: str, given: AssetParameters, base: str, directory: Directory) -> tuple[int, AssetTerms]:
    """Return the number and terms of an asset that a profile names.

    Raises:
        ParameterError: the asset or its route does not fit the directory.
    """
    field = f"parameters.assets.{name}"
    asset = directory.asset_by_name.get(name)
    if asset is None:
        raise ParameterError(f"{field}: {name!r} is not listed")
    if len(given.route) > LEGS_LIMIT:
        raise ParameterError(f"{field}.route: more than {LEGS_LIMIT} instruments")
    at, scale, legs = name, asset.scale, []
    for leg in given.route:
        instrument = directory.instrument_by_name.get(leg)
        if instrument is None:
            raise ParameterError(f"{field}.route: {leg!r} is not listed")
        if instrument.perpetual:
            raise ParameterError(f"{field}.route: {leg} is a perpetual, which converts nothing")
        if instrument.base.name != at:
            raise ParameterError(f"{field}.route: {leg} converts {instrument.base.name}, not {at}")
        at = instrument.currency.name
        scale += instrument.price_scale
        legs.append(instrument.number)
    if at != base:
        raise ParameterError(f"{field}.route: ends in {at}, not in the base currency {base}")
    haircut = ratio(given.haircut, f"assets.{name}.haircut", least=0)
    keep = Ratio(haircut.denominator - haircut.numerator, haircut.denominator)
    if keep.numerator < 0:
        raise ParameterError(f"{field}.haircut: above 1")
    # amount * price has asset scale + price scales decimal places; the result has those of the base currency.
    shift = scale - directory.asset_by_name[base].scale
    divisor = 10 ** max(shift, 0)
    multiplier = 10 ** max(-shift, 0)
    if multiplier != 1:
        raise ParameterError(f"{field}.route: {base} has more decimal places than {name} and its route together")
    while len(legs) < LEGS_LIMIT:
        legs.append(UNIT)
    return asset.number, AssetTerms(
        legs[0], legs[1], legs[2], keep.numerator, divisor * keep.denominator, divisor, keep
    )
