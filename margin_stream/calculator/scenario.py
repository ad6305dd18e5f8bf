"""From a scenario to what the models take: directory, parameters, prices, a cross subaccount and isolated ones. Errors
name the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from margin_stream import profiles
from margin_stream.calculator.fields import ScenarioError, choice, decimal, known, mapping, places, rows, text, units
from margin_stream.calculator.instruments import DirectoryBuilder
from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.position import SIDES, Position, notional, position_key
from margin_stream.core.accounts.postings import price_shift
from margin_stream.core.accounts.subaccount import Subaccount
from margin_stream.core.margin import models as _models  # noqa: F401  (importing it registers the margin models)
from margin_stream.core.margin.brackets import bracket_of, faults_of, liquidating_at_once
from margin_stream.core.margin.model import MODELS, CallPolicy, MarginCalculator
from margin_stream.core.margin.parameters import BracketParameters, ParameterError
from margin_stream.core.market.directory import Directory, Instrument
from margin_stream.schemas.decimals import DecimalPair

_FIELDS = {
    "id", "profile", "mode", "base_currency", "prices", "positions", "collateral", "parameters", "instruments", "rounding",
}  # fmt: skip
_POSITION_FIELDS = {"instrument", "quantity", "entry_price", "isolated_margin", "leverage", "position_side"}


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
    together: dict[int, list[int]] = field(default_factory=dict)
    """Perpetual -> the instruments whose prices value collateral in its coin: they move together."""
    warnings: list[str] = field(default_factory=list)


def build(scenario: Mapping[str, Any]) -> Case:
    """Return the case of a scenario.

    Raises:
        ScenarioError: with code, field and message.
    """
    known(scenario, _FIELDS, "")
    name = text(scenario, "profile", "")
    try:
        data = profiles.load(name)
    except profiles.UnknownProfile as error:
        raise ScenarioError("profile_unknown", "profile", str(error)) from None
    mode = choice(scenario, "mode", ("cross", "isolated"), "cross")
    rounding = choice(scenario, "rounding", ("profile", "none"), "profile")
    base = text(scenario, "base_currency", "", "USDT")
    builder = DirectoryBuilder(scenario, base, perpetual=data.has_brackets, rounded=rounding == "profile")
    prices = {
        key: decimal(value, f"prices.{key}") for key, value in mapping(scenario.get("prices", {}), "prices").items()
    }
    positions = rows(scenario.get("positions", []), "positions")
    collateral = rows(scenario.get("collateral", []), "collateral")
    _look_at_scales(builder, mapping(scenario.get("prices", {}), "prices"), positions)
    builder.asset(base)
    for n, row in enumerate(collateral):
        known(row, {"asset", "amount"}, f"collateral[{n}]")
        builder.asset(text(row, "asset", f"collateral[{n}]"))
    for key in builder.defined:
        kind: object = mapping(builder.defined[key], f"instruments.{key}").get("kind")
        if kind == "currency":
            builder.asset(key)
        else:
            builder.instrument(key, f"instruments.{key}")
    for n, row in enumerate(positions):
        known(row, _POSITION_FIELDS, f"positions[{n}]")
        builder.instrument(text(row, "instrument", f"positions[{n}]"), f"positions[{n}].instrument")
    for key in prices:
        builder.instrument(key, f"prices.{key}")
    parameters, warnings = _parameters(data, scenario, builder, base)
    policy, calculator = _compiled(data.model, parameters, builder.directory)
    account = Account("-", builder.directory.asset_by_name[base].number, data.name, "", [])
    case = Case(
        builder.directory, calculator, policy, builder.directory.asset_by_name[base].scale, account, _prices(builder.directory, prices),
        rounding == "profile", [], {}, warnings,
    )  # fmt: skip
    for n, row in enumerate(collateral):
        asset = builder.directory.asset_by_name[row["asset"]]
        where = f"collateral[{n}].amount"
        account.cross.move(asset.number, units(decimal(row.get("amount"), where), asset.scale, where, asset.name))
    for n, row in enumerate(positions):
        case.held.append(
            _position(case, builder, row, f"positions[{n}]", isolated=mode == "isolated" or "isolated_margin" in row)
        )
    _warn_of_collateral(case, parameters.get("assets", {}))
    for leg in dict.fromkeys(leg for part in account.subaccounts() for leg in calculator.depends_on(part)):
        instrument = builder.directory.instruments[leg]
        if instrument is not None and not case.prices[leg]:
            raise ScenarioError("price_missing", f"prices.{instrument.name}", "the valuation needs it")
    return case


def _warn_of_collateral(case: Case, named: Mapping[str, Any]) -> None:
    """Name collateral that adds nothing, and collateral whose price moves with a position's."""
    assets = case.directory.assets
    for number, balance in sorted(case.account.cross.balances.items()):
        name = assets[number].name
        if balance > 0 and name not in named:
            case.warnings.append(f"collateral: {name} is not named by parameters.assets and adds nothing")
        for instrument in dict.fromkeys(held.instrument for held in case.held if not held.isolated):
            if balance and name in named and instrument.perpetual and coin_of(instrument) == name:
                case.warnings.append(
                    f"collateral: the price of {name} moves with {instrument.name}: liquidation_price and "
                    "bankruptcy_price are those at which the collateral keeps today's value; joint_liquidation_price "
                    "and joint_bankruptcy_price those at which both move alike"
                )
                legs = [case.directory.instrument_by_name[leg].number for leg in named[name]["route"]]
                # The last leg is what the coin costs; one of another coin before it is not of this price.
                case.together.setdefault(instrument.number, []).extend(legs[:1])


def coin_of(instrument: Instrument) -> str:
    """Return the coin that a perpetual is of, by its name: ``BTCUSDT-PERP``, ``BTC-USDT`` -> ``BTC``."""
    name = instrument.name
    for ending in ("PERP", "SWAP", instrument.currency.name):
        name = name.removesuffix(ending).rstrip("-_/:")
    return name


def _look_at_scales(builder: DirectoryBuilder, prices: Mapping[str, Any], positions: list[Mapping[str, Any]]) -> None:
    """Note how many decimal places the scenario itself uses, as it is written."""
    for key, value in prices.items():
        builder.places[key] = max(builder.places.get(key, 0), places(value))
    for n, row in enumerate(positions):
        name = row.get("instrument")
        if not isinstance(name, str):
            continue
        if row.get("entry_price") is not None:
            decimal(row["entry_price"], f"positions[{n}].entry_price")
            builder.places[name] = max(builder.places.get(name, 0), places(row["entry_price"]))
        if row.get("quantity") is not None:
            pair = builder.contracts(name, decimal(row["quantity"], f"positions[{n}].quantity"))
            builder.quantities[name] = max(builder.quantities.get(name, 0), -pair[1])


def _prices(directory: Directory, given: Mapping[str, DecimalPair]) -> list[int]:
    prices = [1] + [0] * (len(directory.instruments) - 1)
    for name, pair in given.items():
        instrument = directory.instrument_by_name[name]
        price = units(pair, instrument.price_scale, f"prices.{name}", name)
        if price <= 0:
            raise ScenarioError("bad_value", f"prices.{name}", "a price is positive")
        prices[instrument.number] = price
    return prices


def _parameters(
    data: profiles.ProfileData, scenario: Mapping[str, Any], builder: DirectoryBuilder, base: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the profile's parameters, overridden by the scenario's; and what is odd about its tables."""
    given = dict(mapping(scenario.get("parameters", {}), "parameters"))
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
            parameters[name] = {**parameters[name], **mapping(given.pop(name), f"parameters.{name}")}
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
    place = f"parameters.brackets.{name}"
    return [f"{place}[{k}].{where}: {what}" for k, where, what in faults_of(rows)] + [
        f"{place}[{k}]: {what}" for k, what in liquidating_at_once(rows)
    ]


def _compiled(model: str, parameters: Mapping[str, Any], directory: Directory) -> tuple[CallPolicy, MarginCalculator]:
    chosen = MODELS[model]
    try:
        return chosen.compile(parameters, directory, sound=False)
    except ParameterError as error:
        where, _, message = str(error).partition(": ")
        raise ScenarioError("profile_invalid", where, message) from None


def _position(case: Case, builder: DirectoryBuilder, row: Mapping[str, Any], where: str, *, isolated: bool) -> Held:
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
    pair = builder.contracts(instrument.name, decimal(row["quantity"], f"{where}.quantity"))
    quantity = units(pair, instrument.quantity_scale, f"{where}.quantity", instrument.name)
    price = case.prices[instrument.number]
    if not price:
        raise ScenarioError("price_missing", f"prices.{instrument.name}", "the position needs it")
    entry = _entry(row, where, instrument, price)
    side = SIDES.index(choice(row, "position_side", SIDES, "both", where))
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
    subaccount = case.account.cross
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
    entry = units(decimal(row["entry_price"], place), instrument.price_scale, place, instrument.name)
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
    return units(decimal(given, place), case.base_scale, place, "the base currency")


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
    cross = case.account.cross
    cross.hold(base.number, quantity * 10 ** (base.scale - instrument.quantity_scale))
    if row.get("entry_price") is not None:
        cross.move(instrument.currency.number, cash)
    return Held(instrument, position_key(instrument.number, 0), position, cross, isolated=False, quantity=pair)
