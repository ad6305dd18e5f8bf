"""``binance-usdm``: linear perpetuals with leverage brackets, cross and isolated, liquidated on breach; after Binance's USDS-M futures.

Of a pocket: equity is the collateral (assets after haircut, debits in full) plus unrealised profit, requirement the sum of the maintenance
margins of its positions. Liquidation is due where equity <= requirement; the warning before it is guidance, nothing is called. Each
position's profit is rounded down and its margin up, to minor units. A long and a short of one instrument (hedge mode) are two positions.

Collateral is as in ``prime``: an asset's mark is the product along its route; with the base currency alone this is single-asset mode, with
haircuts multi-assets mode.

Sources: the formulas and edges of DOMAIN 2 (Binance's "Leverage and Margin" and "Liquidation" pages, freqtrade's tests, recomputed).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from margin_stream.core.directory import UNIT, Directory, Instrument
from margin_stream.core.model import (
    MODELS,
    NO_BOUND,
    NO_LIMIT,
    CallPolicy,
    Figures,
    Guard,
    ParameterError,
    Portfolio,
    Ratio,
    SaleLeg,
    Span,
    Statement,
    Truth,
)
from margin_stream.core.models.brackets import BracketParameters, BracketTable, bracket_of, faults_of
from margin_stream.core.models.collateral import AssetParameters, AssetTerms, amount, asset_terms, less, ratio
from margin_stream.core.positions import Position, notional

SHARE_BITS = 20


class UsdmParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every parameter of the model. Decimals are texts."""

    base_currency: str
    warn: str
    """Warning level: equity <= warn * maintenance margin."""
    restore: str
    """LIQUIDATING is left above this; a sale brings the pocket there."""
    at_level: Literal["safe", "breach"]
    """What holds exactly at a level."""
    default_leverage: int
    """Where none was chosen for a position."""
    liquidation_minimum: str
    assets: dict[str, AssetParameters]
    brackets: dict[str, list[BracketParameters]]
    """Instrument -> its table."""


class UsdmTerms:
    """The model bound to a directory; see ``margin_stream.core.model.Terms``."""

    def __init__(self, base: int, default_leverage: int, assets: dict[int, AssetTerms], tables: dict[int, BracketTable]) -> None:
        self.base = base
        self.pockets = True
        self.default_leverage = default_leverage
        self.assets = assets
        self.tables = tables
        """Instrument number -> table."""
        self._legs = {asset: tuple(leg for leg in terms[:3] if leg != UNIT) for asset, terms in sorted(assets.items())}
        self._routed: dict[int, list[int]] = {}
        for asset, legs in self._legs.items():
            for leg in legs:
                self._routed.setdefault(leg, []).append(asset)

    def refuses(self, instrument: Instrument) -> str:
        """See ``Terms.refuses``."""
        if not instrument.perpetual:
            return "binance-usdm margins perpetuals only"
        return "" if instrument.number in self.tables else "it has no table of leverage brackets"

    def statement(self, portfolio: Portfolio, prices: Sequence[int]) -> Statement:
        """See ``Terms.statement``. Initial margin is notional by chosen leverage, as far as the bracket allows it."""
        value, debit, _ = self.evaluate(portfolio, prices)
        initial = 0
        for key, position in portfolio.perpetuals.items():
            table = self.tables.get(key >> 2)
            if table is not None:
                initial += table.initial(abs(position.quantity) * prices[key >> 2], position.leverage or self.default_leverage)
        return Statement(value, initial, debit)

    def depends_on(self, portfolio: Portfolio) -> dict[int, None]:
        """See ``Terms.depends_on``."""
        found = {leg: None for asset in portfolio.balances for leg in self._legs.get(asset, ())}
        for key in portfolio.perpetuals:
            found[key >> 2] = None
        return found

    def routed_through(self, instrument: int) -> Sequence[int]:
        """See ``Terms.routed_through``."""
        return self._routed.get(instrument, ())

    def evaluate(self, portfolio: Portfolio, prices: Sequence[int]) -> Figures:
        """See ``Terms.evaluate``. A perpetual that was never marked counts 0."""
        value = debit = 0
        unbounded = False
        for asset, balance in portfolio.balances.items():
            terms = self.assets.get(asset)
            if terms is None:
                unbounded = unbounded or balance < 0
            else:
                value += _worth(terms, balance, prices)
        for key, position in portfolio.perpetuals.items():
            table = self.tables.get(key >> 2)
            if table is None:
                unbounded = True
                continue
            price = prices[key >> 2]
            if price:
                product = position.quantity * price
                value += notional(product, table.shift) - position.open_cost
                debit += table.maintenance(abs(product))
        return Figures(value, debit, unbounded)

    def bounds(self, portfolio: Portfolio, lowest: Sequence[int], highest: Sequence[int], guards: Sequence[Guard]) -> list[Span]:
        """See ``Terms.bounds``.

        Profit and margin of one position move together, so each position is bounded as a whole, for each guard: without rounding, what it adds to
        an excess is concave in its price (margin is convex as long as rates do not fall), least at an end of the box and greatest at an end or
        an edge between brackets; rounding takes off less than one unit of each. Collateral rises with every price.
        """
        least_value = greatest_value = 0
        value_open = False
        broken = False
        for asset, balance in portfolio.balances.items():
            terms = self.assets.get(asset)
            if terms is None:
                broken = broken or balance < 0
                continue
            unbounded = NO_BOUND in (highest[terms.first], highest[terms.second], highest[terms.third])
            low = _worth(terms, balance, lowest)
            high = 0 if unbounded else _worth(terms, balance, highest)
            if balance > 0:
                least_value += low
                greatest_value += high
                value_open = value_open or (unbounded and terms.keep > 0)
            else:
                greatest_value += low
                least_value += high
                broken = broken or unbounded
        held: list[_Ends] = []
        least_debit = 0
        for key, position in portfolio.perpetuals.items():
            table = self.tables.get(key >> 2)
            if table is None:
                return [(None, None)] * len(guards)
            ends = _Ends(position, table, lowest[key >> 2], highest[key >> 2])
            held.append(ends)
            # A price is at least 1, whatever the band says.
            least_debit += ends.low_margin or table.maintenance(ends.size)
        spans: list[Span] = []
        for guard in guards:
            (numerator, denominator), offset, inclusive = guard
            if not held:
                # Nothing is required; the excess rises with the value alone.
                bottom = None if broken else guard.excess(least_value, 0)
                top = None if value_open else guard.excess(greatest_value, 0)
                spans.append((bottom, top))
                continue
            shift = offset * denominator + inclusive
            least: int | None = None if broken else least_value * denominator - shift
            greatest: int | None = None if value_open else greatest_value * denominator - shift
            for ends in held:
                bottom, top = ends.span(numerator, denominator)
                least = None if least is None or bottom is None else least + bottom
                greatest = None if greatest is None or top is None else greatest + top
            if least_debit == 0 and greatest is not None and greatest < 0:
                # At a requirement of 0 the guard holds back as long as the value is not negative.
                greatest = 0
            spans.append((least, greatest))
        return spans

    def directions(self, portfolio: Portfolio) -> dict[int, int]:
        """See ``Terms.directions``."""
        found: dict[int, int] = {}
        for asset, balance in portfolio.balances.items():
            way = 1 if balance > 0 else -1
            for leg in self._legs.get(asset, ()):
                found[leg] = way if found.get(leg, way) == way else 0
        for key, position in portfolio.perpetuals.items():
            way = 1 if position.quantity > 0 else -1
            found[key >> 2] = way if found.get(key >> 2, way) == way else 0
        return found

    def reach(
        self, portfolio: Portfolio, prices: Sequence[int], guards: Sequence[Guard], truths: Sequence[Truth], figures: Figures
    ) -> tuple[int, int]:
        """See ``Terms.reach``. Every position's profit moves by its notional, its margin by the rate of its bracket."""
        moving = margin = 0
        for key, position in portfolio.perpetuals.items():
            table = self.tables.get(key >> 2)
            if table is not None:
                size = abs(position.quantity) * prices[key >> 2]
                moving += notional(size, table.shift)
                margin += size * table.rates[table.place(size)] // table.divisor
        for asset, balance in portfolio.balances.items():
            legs = self._legs.get(asset)
            if legs:
                moving += 2 * len(legs) * abs(_worth(self.assets[asset], balance, prices))
        against = favourable = NO_LIMIT
        for ((numerator, denominator), offset, inclusive), truth in zip(guards, truths, strict=True):
            excess = figures.value * denominator - numerator * figures.debit - offset * denominator - inclusive
            swing = moving * denominator + margin * numerator
            if swing > 0:
                if truth is Truth.FALSE:
                    against = min(against, (excess << SHARE_BITS) // swing)
                else:
                    favourable = min(favourable, (-excess << SHARE_BITS) // swing)
        # A little less, for rounding and brackets ahead.
        if against < NO_LIMIT:
            against -= against >> 8
        if favourable < NO_LIMIT:
            favourable -= favourable >> 8
        return against, favourable

    def credit(self, asset: int, before: int, delta: int, prices: Sequence[int]) -> int | None:
        """See ``Terms.credit``. Nothing is called, so nothing is ever credited."""
        return 0

    def sale(self, portfolio: Portfolio, prices: Sequence[int], restore: Guard) -> list[SaleLeg]:
        """See ``Terms.sale``. Positions are closed at the mark: the largest maintenance margin first, then in order of listing.

        Closing at the mark leaves the equity and takes margin away, so of each position the least is closed after which the guard holds back.
        """
        value, debit, _ = self.evaluate(portfolio, prices)
        rows = []
        for key, position in portfolio.perpetuals.items():
            table = self.tables.get(key >> 2)
            if table is not None and prices[key >> 2]:
                rows.append((-table.maintenance(abs(position.quantity) * prices[key >> 2]), key, position, table))
        rows.sort(key=lambda row: row[:2])
        legs: list[SaleLeg] = []
        for minus, key, position, table in rows:
            if restore.excess(value, debit) >= 0:
                break
            price, held = prices[key >> 2], abs(position.quantity)
            others = debit + minus
            low, high = 0, held
            while low < high:
                # The least closed quantity that is enough; all of it where none is.
                middle = (low + high) // 2
                if restore.excess(value, others + table.maintenance((held - middle) * price)) >= 0:
                    high = middle
                else:
                    low = middle + 1
            debit = others + table.maintenance((held - low) * price)
            legs.append(SaleLeg(self.base, notional(low * price, table.shift), key, -low if position.quantity > 0 else low))
        return legs


def _worth(terms: AssetTerms, balance: int, prices: Sequence[int]) -> int:
    """Return what a balance adds to equity: after haircut and rounded down, or owed in full and rounded up."""
    product = balance * prices[terms.first] * prices[terms.second] * prices[terms.third]
    return product * terms.keep // terms.value_divisor if balance > 0 else product // terms.debit_divisor


class _Ends:
    """One position at both ends of a box: profit and margin there, and in which brackets."""

    __slots__ = ("high", "high_margin", "high_profit", "low", "low_margin", "low_profit", "position", "size", "table")

    def __init__(self, position: Position, table: BracketTable, low: int, high: int) -> None:
        self.position = position
        self.table = table
        self.low = low
        self.high = high
        quantity, cost = position.quantity, position.open_cost
        self.size = abs(quantity)
        self.low_profit = notional(quantity * low, table.shift) - cost
        self.low_margin = table.maintenance(self.size * low)
        if high in (low, NO_BOUND):
            self.high_profit, self.high_margin = self.low_profit, self.low_margin
        else:
            self.high_profit = notional(quantity * high, table.shift) - cost
            self.high_margin = table.maintenance(self.size * high)

    def span(self, numerator: int, denominator: int) -> Span:
        """Return least and greatest of ``denominator * profit - numerator * margin`` between the ends."""
        first = denominator * self.low_profit - numerator * self.low_margin
        if self.low == self.high:
            return first, first
        slack = denominator + numerator
        table = self.table
        opened = self.high == NO_BOUND
        last = denominator * self.high_profit - numerator * self.high_margin
        # Per unit of size, profit moves by 10**shift minor units and margin by rate / divisor: compared as integers.
        gain = denominator * table.scale_up * table.divisor
        loss = numerator * table.scale_down
        if self.position.quantity < 0 or gain < loss * table.rates[table.place(self.size * self.low)]:
            # It falls all the way: concave, and falling at the start.
            return None if opened else last - slack, first + slack
        k_high = len(table.edges) - 1 if opened else table.place(self.size * self.high)
        if gain >= loss * table.rates[k_high]:
            return first - slack, None if opened else last + slack
        # It rises, then falls: the top is next to an edge between brackets.
        top = first
        for edge in table.edges[table.place(self.size * self.low) + 1 : k_high + 1]:
            for price in (edge // self.size, -(-edge // self.size)):
                if self.low <= price and (opened or price <= self.high):
                    profit = notional(self.position.quantity * price, table.shift) - self.position.open_cost
                    top = max(top, denominator * profit - numerator * table.maintenance(self.size * price))
        return (None, top + slack) if opened else (min(first, last) - slack, max(top, last) + slack)


class BinanceUsdm:
    """The model; see ``margin_stream.core.model.MarginModel``."""

    name = "binance-usdm"
    since = 2

    def compile(self, parameters: Mapping[str, object], directory: Directory) -> tuple[CallPolicy, UsdmTerms]:
        """See ``MarginModel.compile``."""
        return self.compiled(parameters, directory, sound=True)

    def compiled(self, parameters: Mapping[str, object], directory: Directory, *, sound: bool) -> tuple[CallPolicy, UsdmTerms]:
        """Return policy and terms.

        Args:
            sound: refuse tables with gaps, overlaps, falling rates or jumps; a what-if may take them as they are.

        Raises:
            ParameterError: see ``MarginModel.compile``.
        """
        try:
            given = msgspec.convert(dict(parameters), UsdmParameters)
        except msgspec.ValidationError as error:
            raise ParameterError(f"parameters: {error}") from None
        base = directory.asset_by_name.get(given.base_currency)
        if base is None:
            raise ParameterError(f"parameters.base_currency: {given.base_currency!r} is not listed")
        one = Ratio(1, 1)
        warn, restore = ratio(given.warn, "warn"), ratio(given.restore, "restore")
        for name, level in (("warn", warn), ("restore", restore)):
            if less(level, one):
                raise ParameterError(f"parameters.{name}: below 1, the level of liquidation")
        if not 1 <= given.default_leverage <= 1000:
            raise ParameterError("parameters.default_leverage: from 1 to 1000")
        breach = given.at_level == "breach"
        liquidate = Guard(one, 0, breach)
        policy = CallPolicy(
            warn=Guard(warn, 0, breach),
            call=liquidate,
            close_out=liquidate,
            bankrupt=Guard(Ratio(0, 1), 0, inclusive=False),
            restore=Guard(restore, 0, breach),
            callable=False,
            calm=Guard(restore if less(warn, restore) else warn, 0, breach),
            persistence_ns=0,
            due_after_ns=0,
            reopen_within_ns=0,
            minimum_transfer=0,
            minimum_is_called=False,
            rounding=1,
            tranche_step=1,
            liquidation_minimum=amount(given.liquidation_minimum, "liquidation_minimum", base.scale, least=0),
        )
        assets = {}
        for name in sorted(given.assets):
            number, terms = asset_terms(name, given.assets[name], base.name, directory)
            assets[number] = terms
        if base.number not in assets:
            raise ParameterError(f"parameters.assets: {base.name}, the base currency, is missing")
        tables = {}
        for name in sorted(given.brackets):
            table = _table(name, given.brackets[name], base.name, directory, sound=sound)
            tables[table.number] = table
        return policy, UsdmTerms(base.number, given.default_leverage, assets, tables)


def _table(name: str, given: list[BracketParameters], base: str, directory: Directory, *, sound: bool) -> BracketTable:
    field = f"brackets.{name}"
    instrument = directory.instrument_by_name.get(name)
    if instrument is None:
        raise ParameterError(f"parameters.{field}: {name!r} is not listed")
    if not instrument.perpetual:
        raise ParameterError(f"parameters.{field}: {name} is no perpetual")
    if instrument.currency.name != base:
        raise ParameterError(f"parameters.{field}: {name} settles in {instrument.currency.name}, not in the base currency {base}")
    brackets = [bracket_of(row, f"{field}[{k}]") for k, row in enumerate(given)]
    faults = faults_of(brackets)
    if faults and (sound or not brackets):
        k, where, what = faults[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ParameterError(f"parameters.{field}[{k}].{where}: {what}{more}".replace("].:", "]:"))
    return BracketTable(brackets, instrument)


MODELS[BinanceUsdm.name] = BinanceUsdm()
