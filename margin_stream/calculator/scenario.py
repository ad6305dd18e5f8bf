"""From a scenario to what the models take: directory, parameters, prices, a cross subaccount and isolated ones. Errors
name the field.

One file, because it is one reading: each field is checked with what the fields before it have listed, and names itself
where it does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from margin_stream import profiles
from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.position import SIDES, Position, notional, position_key
from margin_stream.core.accounts.postings import price_shift
from margin_stream.core.accounts.subaccount import Subaccount
from margin_stream.core.margin.model import MODELS, CallPolicy, MarginCalculator, ParameterError
from margin_stream.core.margin.models.brackets import bracket_of, faults_of
from margin_stream.core.margin.models.parameters import BracketParameters
from margin_stream.core.market.directory import Directory, Instrument
from margin_stream.schemas.decimals import DecimalPair, scaled
from margin_stream.schemas.inputs import InstrumentListed
from margin_stream.schemas.objects import decimal_field
from margin_stream.schemas.refusals import Refusal, RefusedInput

MONEY_SCALES = {"USD": 2, "EUR": 2, "GBP": 2, "CHF": 2, "JPY": 0}
"""Decimal places of currencies that the scenario does not define; of any other, COIN_SCALE."""
COIN_SCALE = 8
FINEST_SCALE = 18
LEAST_PRICE_SCALE = 2
"""Decimal places of the price of an instrument that the scenario does not define, if its prices do not have more."""
_FIELDS = {
    "id", "profile", "mode", "base_currency", "prices", "positions", "collateral", "parameters", "instruments", "rounding",
}  # fmt: skip
_POSITION_FIELDS = {"instrument", "quantity", "entry_price", "isolated_margin", "leverage", "position_side"}
_INSTRUMENT_FIELDS = {"kind", "base", "currency", "price_scale", "quantity_scale"}


class ScenarioError(ValueError):
    """A scenario cannot be computed."""

    def __init__(self, code: str, where: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.field = where
        self.message = message


@dataclass(slots=True)
class Held:
    """A position of the scenario."""

    instrument: Instrument
    key: int
    position: Position
    subaccount: Subaccount
    isolated: bool
    quantity: DecimalPair


@dataclass(slots=True)
class Case:
    """A scenario, ready to be valued."""

    directory: Directory
    calculator: MarginCalculator
    policy: CallPolicy
    base_scale: int
    account: Account
    prices: list[int]
    rounded: bool
    held: list[Held] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def decimal(value: object, where: str) -> DecimalPair:
    """Return a decimal of a scenario: text, or an integer.

    Raises:
        ScenarioError: with the field.
    """
    if isinstance(value, (list, tuple, bool)):
        raise ScenarioError("bad_value", where, "expected a decimal in quotes")
    try:
        return decimal_field(value, where)
    except RefusedInput as refused:
        code = "float_not_allowed" if refused.refusal is Refusal.FLOAT_NOT_ALLOWED else "bad_value"
        raise ScenarioError(code, where, refused.detail.removeprefix(f"{where}: ")) from None


def _within(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _units(pair: DecimalPair, scale: int, where: str, what: str) -> int:
    """Return a decimal in units of a scale, that of ``what``; one with more places is an error."""
    units = scaled(pair, scale)
    if units is None:
        raise ScenarioError("wrong_scale", where, f"{what} has {scale} decimal places")
    return units


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ScenarioError("bad_value", where, "expected an object")
    return value


def _rows(value: object, where: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, (list, tuple)):
        raise ScenarioError("bad_value", where, "expected an array")
    return [_mapping(row, f"{where}[{n}]") for n, row in enumerate(value)]


def _known(fields: Mapping[str, Any], allowed: set[str], where: str) -> None:
    unknown = sorted(str(name) for name in fields if name not in allowed)
    if unknown:
        raise ScenarioError(
            "unknown_field", _within(where, unknown[0]), f"no such field; there are {', '.join(sorted(allowed))}"
        )


def _text(fields: Mapping[str, Any], name: str, where: str, default: str | None = None) -> str:
    place, value = _within(where, name), fields.get(name, default)
    if value is None:
        raise ScenarioError("missing_field", place, "it is needed")
    if not isinstance(value, str) or not value:
        raise ScenarioError("bad_value", place, "expected a text")
    return value


def _choice(fields: Mapping[str, Any], name: str, allowed: tuple[str, ...], default: str, where: str = "") -> str:
    value = fields.get(name, default)
    if value not in allowed:
        raise ScenarioError("bad_value", _within(where, name), f"one of {', '.join(allowed)}, not {value!r}")
    return str(value)


class _Builder:
    """Collects a scenario's directory as its parts need it."""

    def __init__(self, scenario: Mapping[str, Any], base: str, *, perpetual: bool, rounded: bool) -> None:
        self.directory = Directory()
        self.rounded = rounded
        self.base = base
        self.perpetual = perpetual
        self.defined = _mapping(scenario.get("instruments", {}), "instruments")
        self.places: dict[str, int] = {}
        """Instrument -> decimal places that its prices show."""
        self.quantities: dict[str, int] = {}

    def asset(self, name: str) -> None:
        """List an asset, unless it is."""
        if name in self.directory.asset_by_name:
            return
        given = _mapping(self.defined.get(name, {}), f"instruments.{name}")
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
        given = _mapping(self.defined.get(name, {}), place)
        _known(given, _INSTRUMENT_FIELDS, place)
        default = "perpetual" if self.perpetual else "spot"
        kind = _choice(given, "kind", ("spot", "perpetual", "equity"), default, place)
        currency = _text(given, "currency", place, self.base)
        base = ""
        if kind == "spot":
            guess = name.removesuffix(currency).rstrip("-_/")
            if "base" not in given and (not guess or guess == name):
                raise ScenarioError(
                    "instrument_unknown",
                    where,
                    f"{name!r} is not defined: give it in instruments, with kind, base, currency",
                )
            base = _text(given, "base", place, guess)
            self.asset(base)
        elif "base" in given:
            raise ScenarioError("bad_value", f"{place}.base", f"a {kind} has none")
        self.asset(currency)
        self._list(
            name,
            kind=kind,
            base=base,
            currency=currency,
            price_scale=_scale(given, "price_scale", max(self.places.get(name, 0), LEAST_PRICE_SCALE), place),
            quantity_scale=_scale(given, "quantity_scale", self.quantities.get(name, 0), place),
        )
        return self.directory.instrument_by_name[name]

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


def build(scenario: Mapping[str, Any]) -> Case:
    """Return the case of a scenario.

    Raises:
        ScenarioError: with code, field and message.
    """
    _known(scenario, _FIELDS, "")
    name = _text(scenario, "profile", "")
    try:
        data = profiles.load(name)
    except profiles.UnknownProfile as error:
        raise ScenarioError("profile_unknown", "profile", str(error)) from None
    mode = _choice(scenario, "mode", ("cross", "isolated"), "cross")
    rounding = _choice(scenario, "rounding", ("profile", "none"), "profile")
    base = _text(scenario, "base_currency", "", "USDT")
    builder = _Builder(scenario, base, perpetual=data.has_brackets, rounded=rounding == "profile")
    prices = {
        key: decimal(value, f"prices.{key}") for key, value in _mapping(scenario.get("prices", {}), "prices").items()
    }
    positions = _rows(scenario.get("positions", []), "positions")
    collateral = _rows(scenario.get("collateral", []), "collateral")
    _look_at_scales(builder, prices, positions)
    builder.asset(base)
    for n, row in enumerate(collateral):
        _known(row, {"asset", "amount"}, f"collateral[{n}]")
        builder.asset(_text(row, "asset", f"collateral[{n}]"))
    for key in builder.defined:
        kind: object = _mapping(builder.defined[key], f"instruments.{key}").get("kind")
        if kind == "currency":
            builder.asset(key)
        else:
            builder.instrument(key, f"instruments.{key}")
    for n, row in enumerate(positions):
        _known(row, _POSITION_FIELDS, f"positions[{n}]")
        builder.instrument(_text(row, "instrument", f"positions[{n}]"), f"positions[{n}].instrument")
    for key in prices:
        builder.instrument(key, f"prices.{key}")
    parameters, warnings = _parameters(data, scenario, builder, base)
    policy, calculator = _compiled(data.model, parameters, builder.directory)
    account = Account("-", builder.directory.asset_by_name[base].number, data.name, "", [])
    case = Case(
        builder.directory, calculator, policy, builder.directory.asset_by_name[base].scale, account, _prices(builder.directory, prices),
        rounding == "profile", [], warnings,
    )  # fmt: skip
    for n, row in enumerate(collateral):
        asset = builder.directory.asset_by_name[row["asset"]]
        where = f"collateral[{n}].amount"
        account.move(asset.number, _units(decimal(row.get("amount"), where), asset.scale, where, asset.name))
    for n, row in enumerate(positions):
        case.held.append(
            _position(case, row, f"positions[{n}]", isolated=mode == "isolated" or "isolated_margin" in row)
        )
    for leg in dict.fromkeys(leg for part in account.parts() for leg in calculator.depends_on(part)):
        instrument = builder.directory.instruments[leg]
        if instrument is not None and not case.prices[leg]:
            raise ScenarioError("price_missing", f"prices.{instrument.name}", "the valuation needs it")
    return case


def _look_at_scales(builder: _Builder, prices: Mapping[str, DecimalPair], positions: list[Mapping[str, Any]]) -> None:
    """Note how many decimal places the scenario itself uses."""
    for key, pair in prices.items():
        builder.places[key] = max(builder.places.get(key, 0), -pair[1])
    for n, row in enumerate(positions):
        name = row.get("instrument")
        if not isinstance(name, str):
            continue
        if row.get("entry_price") is not None:
            pair = decimal(row["entry_price"], f"positions[{n}].entry_price")
            builder.places[name] = max(builder.places.get(name, 0), -pair[1])
        if row.get("quantity") is not None:
            pair = decimal(row["quantity"], f"positions[{n}].quantity")
            builder.quantities[name] = max(builder.quantities.get(name, 0), -pair[1])


def _prices(directory: Directory, given: Mapping[str, DecimalPair]) -> list[int]:
    prices = [1] + [0] * (len(directory.instruments) - 1)
    for name, pair in given.items():
        instrument = directory.instrument_by_name[name]
        units = _units(pair, instrument.price_scale, f"prices.{name}", name)
        if units <= 0:
            raise ScenarioError("bad_value", f"prices.{name}", "a price is positive")
        prices[instrument.number] = units
    return prices


def _parameters(
    data: profiles.ProfileData, scenario: Mapping[str, Any], builder: _Builder, base: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the profile's parameters, overridden by the scenario's; and what is odd about its tables."""
    given = dict(_mapping(scenario.get("parameters", {}), "parameters"))
    routes = {
        instrument.base.name: [instrument.name]
        for instrument in builder.directory.instrument_by_name.values()
        if instrument.kind != "perpetual" and instrument.currency.name == base
    }
    if data.has_brackets:
        # Single-asset mode, unless the scenario gives assets their haircuts.
        routes = {}
    parameters = data.parameters(base, routes)
    warnings = []
    for name in ("assets", "brackets"):
        if name in given and name in parameters:
            parameters[name] = {**parameters[name], **_mapping(given.pop(name), f"parameters.{name}")}
    if unknown := sorted(key for key in given if key not in parameters):
        raise ScenarioError(
            "unknown_field", f"parameters.{unknown[0]}", f"{data.name} has {', '.join(sorted(parameters))}"
        )
    parameters.update(given)
    for name, table in parameters.get("brackets", {}).items():
        builder.instrument(name, f"parameters.brackets.{name}")
        warnings += _odd(name, table)
    return parameters, warnings


def _odd(name: str, table: Any) -> list[str]:
    try:
        rows = [
            bracket_of(msgspec.convert(row, BracketParameters), f"brackets.{name}[{k}]") for k, row in enumerate(table)
        ]
    except (msgspec.ValidationError, ParameterError, TypeError):
        return []
    return [f"parameters.brackets.{name}[{k}].{where}: {what}" for k, where, what in faults_of(rows)]


def _compiled(model: str, parameters: Mapping[str, Any], directory: Directory) -> tuple[CallPolicy, MarginCalculator]:
    chosen = MODELS[model]
    try:
        return chosen.compile(parameters, directory, sound=False)
    except ParameterError as error:
        where, _, message = str(error).partition(": ")
        raise ScenarioError("profile_invalid", where, message) from None


def _position(case: Case, row: Mapping[str, Any], where: str, *, isolated: bool) -> Held:
    instrument = case.directory.instrument_by_name[row["instrument"]]
    why = case.calculator.refuses(instrument)
    if why:
        code, place = (
            ("brackets_missing", f"parameters.brackets.{instrument.name}")
            if "brackets" in why
            else ("not_margined", f"{where}.instrument")
        )
        raise ScenarioError(code, place, f"{instrument.name}: {why}")
    if isolated and not case.calculator.subaccounts:
        raise ScenarioError("bad_value", "mode", "this profile has no isolated positions")
    if row.get("quantity") is None:
        raise ScenarioError("missing_field", f"{where}.quantity", "it is needed")
    pair = decimal(row["quantity"], f"{where}.quantity")
    quantity = _units(pair, instrument.quantity_scale, f"{where}.quantity", instrument.name)
    price = case.prices[instrument.number]
    if not price:
        raise ScenarioError("price_missing", f"prices.{instrument.name}", "the position needs it")
    entry = _entry(row, where, instrument, price)
    side = SIDES.index(_choice(row, "position_side", SIDES, "both", where))
    if not instrument.perpetual:
        return _spot(case, row, where, instrument, quantity, entry, pair)
    if (side == 1 and quantity < 0) or (side == 2 and quantity > 0):
        raise ScenarioError("bad_value", f"{where}.quantity", "a long is positive, a short negative")
    leverage = row.get("leverage", 0)
    if isinstance(leverage, str) and leverage.isdigit():
        leverage = int(leverage)
    if type(leverage) is not int or not 0 <= leverage <= 1000:
        raise ScenarioError("bad_value", f"{where}.leverage", "an integer from 1 to 1000")
    position = Position(leverage=leverage)
    position.trade(quantity, entry, price_shift(instrument))
    key = position_key(instrument.number, side)
    subaccount: Subaccount = case.account
    if isolated:
        # Each isolated position is a subaccount of its own.
        subaccount = case.account.subaccount(f"{where}/{instrument.name}")
        subaccount.move(case.account.base, _isolated_margin(case, row, where, instrument, position, entry))
    elif key in subaccount.positions:
        raise ScenarioError(
            "bad_value",
            f"{where}.instrument",
            f"{instrument.name} is given twice; give one net position, or long and short apart",
        )
    subaccount.positions[key] = position
    subaccount.hold_perpetual(key, position)
    return Held(instrument, key, position, subaccount, isolated, pair)


def _entry(row: Mapping[str, Any], where: str, instrument: Instrument, price: int) -> int:
    """Return the entry price, the mark where none is given."""
    if row.get("entry_price") is None:
        return price
    place = f"{where}.entry_price"
    entry = _units(decimal(row["entry_price"], place), instrument.price_scale, place, instrument.name)
    if entry < 0:
        raise ScenarioError("bad_value", place, "a price is not negative")
    return entry


def _isolated_margin(
    case: Case, row: Mapping[str, Any], where: str, instrument: Instrument, position: Position, entry: int
) -> int:
    """Return the margin of an isolated position: as given, else its initial margin at entry."""
    given = row.get("isolated_margin")
    if given is None:
        leverage = position.leverage or case.calculator.default_leverage
        return -(-notional(abs(position.quantity) * entry, price_shift(instrument)) // leverage)
    place = f"{where}.isolated_margin"
    return _units(decimal(given, place), case.base_scale, place, "the base currency")


def _spot(
    case: Case, row: Mapping[str, Any], where: str, instrument: Instrument, quantity: int, entry: int, pair: DecimalPair
) -> Held:
    """Hold a spot position: the asset, and, where an entry price is given, what was paid for it."""
    for name in ("isolated_margin", "leverage", "position_side"):
        if name in row:
            raise ScenarioError("bad_value", f"{where}.{name}", f"{instrument.name} is no perpetual")
    position = Position()
    cash = position.trade(quantity, entry, price_shift(instrument))
    base = instrument.base
    case.account.hold(base.number, quantity * 10 ** (base.scale - instrument.quantity_scale))
    if row.get("entry_price") is not None:
        case.account.move(instrument.currency.number, cash)
    return Held(instrument, position_key(instrument.number, 0), position, case.account, isolated=False, quantity=pair)
