"""The directory of a scenario: assets and instruments are listed as its parts name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from margin_stream.calculator.fields import ScenarioError, choice, decimal, known, mapping, text
from margin_stream.core.market.directory import Directory, Instrument
from margin_stream.schemas.decimals import DecimalPair, canonical, packed, whole
from margin_stream.schemas.inputs import InstrumentListed

MONEY_SCALES = {"USD": 2, "EUR": 2, "GBP": 2, "CHF": 2, "JPY": 0}
"""Decimal places of currencies that the scenario does not define; of any other, COIN_SCALE."""
COIN_SCALE = 8
FINEST_SCALE = 18
LEAST_PRICE_SCALE = 2
"""Decimal places of the price of an instrument that the scenario does not define, if its prices do not have more."""
_INSTRUMENT_FIELDS = {"multiplier", "kind", "base", "currency", "price_scale", "quantity_scale"}


class DirectoryBuilder:
    """Collects a scenario's directory as its parts need it."""

    def __init__(self, scenario: Mapping[str, Any], base: str, *, perpetual: bool, rounded: bool) -> None:
        self.directory = Directory()
        self.rounded = rounded
        self.base = base
        self.perpetual = perpetual
        self.defined = mapping(scenario.get("instruments", {}), "instruments")
        self.places: dict[str, int] = {}
        """Instrument -> decimal places that its prices show."""
        self.quantities: dict[str, int] = {}

    def asset(self, name: str) -> None:
        """List an asset, unless it is."""
        if name in self.directory.asset_by_name:
            return
        given = mapping(self.defined.get(name, {}), f"instruments.{name}")
        # Where nothing is to be rounded, costs are kept as finely as can be.
        default = MONEY_SCALES.get(name, COIN_SCALE) if self.rounded else FINEST_SCALE
        scale = _scale(given, "quantity_scale", default, f"instruments.{name}")
        self._list(name, kind="currency", quantity_scale=scale)

    def instrument(self, name: str, where: str) -> Instrument:
        """Return an instrument, listed as it is defined, else as its name and the profile say."""
        found = self.directory.instrument_by_name.get(name)
        if found is not None:
            return found
        place = f"instruments.{name}"
        given = mapping(self.defined.get(name, {}), place)
        known(given, _INSTRUMENT_FIELDS, place)
        default = "perpetual" if self.perpetual else "spot"
        kind = choice(given, "kind", ("spot", "perpetual", "equity"), default, place)
        currency = text(given, "currency", place, self.base)
        base = ""
        if kind == "spot":
            guess = name.removesuffix(currency).rstrip("-_/")
            if "base" not in given and (not guess or guess == name):
                raise ScenarioError(
                    "instrument_unknown",
                    where,
                    f"{name!r} is not defined: give it in instruments, with kind, base, currency",
                )
            base = text(given, "base", place, guess)
            self.asset(base)
            if "multiplier" in given:
                raise ScenarioError("bad_value", f"{place}.multiplier", "a spot pair has none")
        elif "base" in given:
            raise ScenarioError("bad_value", f"{place}.base", f"a {kind} has none")
        self.asset(currency)
        self._list(
            name,
            kind=kind,
            base=base,
            currency=currency,
            price_scale=_scale(given, "price_scale", max(self.places.get(name, 0), LEAST_PRICE_SCALE), place),
            quantity_scale=self._quantity_scale(given, name, place),
        )
        return self.directory.instrument_by_name[name]

    def multiplier(self, name: str) -> DecimalPair:
        """Return what one contract of an instrument counts, 1 where nothing is stated."""
        given = mapping(self.defined.get(name, {}), f"instruments.{name}")
        where = f"instruments.{name}.multiplier"
        pair = decimal(given.get("multiplier", "1"), where)
        if whole(pair[0]) <= 0:
            raise ScenarioError("bad_value", where, "a multiplier is positive")
        return pair

    def contracts(self, name: str, pair: DecimalPair) -> DecimalPair:
        """Return a number of contracts as the quantity of the underlying that they stand for."""
        times = self.multiplier(name)
        mantissa, exponent = canonical(whole(pair[0]) * whole(times[0]), pair[1] + times[1])
        return packed(mantissa), exponent

    def _quantity_scale(self, given: Mapping[str, Any], name: str, place: str) -> int:
        """Return the decimal places of a quantity: as stated of a contract, or as the scenario has them."""
        scale = _scale(given, "quantity_scale", self.quantities.get(name, 0), place)
        return min(18, scale + max(-self.multiplier(name)[1], 0)) if "quantity_scale" in given else scale

    def _list(self, name: str, **fields: Any) -> None:
        try:
            listed = msgspec.convert(
                {
                    "type": "instrument_listed.v1",
                    "source": "-",
                    "source_seq": 0,
                    "event_time": 0,
                    "instrument": name,
                    **fields,
                },
                InstrumentListed,
            )
        except msgspec.ValidationError as error:
            raise ScenarioError("bad_value", f"instruments.{name}", str(error)) from None
        refusal = self.directory.refusal(listed)
        if refusal is not None:
            raise ScenarioError("bad_value", f"instruments.{name}", refusal[1])
        self.directory.enlist(listed)


def _scale(given: Mapping[str, Any], name: str, default: int, where: str) -> int:
    value = given.get(name, default)
    if type(value) is not int or not 0 <= value <= 18:
        raise ScenarioError("bad_value", f"{where}.{name}", "an integer from 0 to 18")
    return value
