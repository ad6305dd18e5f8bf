"""``binance-usdm``: linear perpetuals with leverage brackets, cross and isolated, liquidated on breach; after Binance's
USDS-M futures.

Of a subaccount: equity is the collateral (assets after haircut, debits in full) plus unrealised profit, requirement the
sum of the maintenance margins of its positions. Liquidation is due where equity <= requirement; the warning before it
is guidance, nothing is called. Each position's profit is rounded down and its margin up, to minor units. A long and a
short of one instrument (hedge mode) are two positions.

Collateral is as in ``prime``: an asset's mark is the product along its route; with the base currency alone this is
single-asset mode, with haircuts multi-assets mode.

Sources: the formulas and edges of DOMAIN 2 (Binance's "Leverage and Margin" and "Liquidation" pages, freqtrade's tests,
recomputed).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from margin_stream.core.accounts.position import notional
from margin_stream.core.margin.brackets import BracketTable, bracket_of, faults_of
from margin_stream.core.margin.collateral import AssetTerms, amounts_of, asset_terms, credited
from margin_stream.core.margin.formula import Formula, Margined
from margin_stream.core.margin.guards import NO_BOUND, NO_LIMIT, Guard, GuardState, Ratio, Span
from margin_stream.core.margin.model import MODELS, CallPolicy, CallType, MarginFigures, Portfolio, SaleLeg, Statement
from margin_stream.core.margin.models.usdm_bounds import CollateralSpan, Holding, excess_of, priced, total, worth
from margin_stream.core.margin.parameters import BracketParameters, ParameterError, UsdmParameters
from margin_stream.core.margin.ratios import amount, less, ratio
from margin_stream.core.market.directory import UNIT, Directory, Instrument

SHARE_BITS = 20


class UsdmCalculator:
    """The model bound to a directory; see ``margin_stream.core.margin.model.MarginCalculator``."""

    def __init__(
        self, base: int, default_leverage: int, assets: dict[int, AssetTerms], tables: dict[int, BracketTable]
    ) -> None:
        self.base = base
        self.subaccounts = True
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
        """See ``MarginCalculator.refuses``."""
        if not instrument.perpetual:
            return "binance-usdm margins perpetuals only"
        return "" if instrument.number in self.tables else "it has no table of leverage brackets"

    def statement(self, portfolio: Portfolio, prices: Sequence[int]) -> Statement:
        """See ``MarginCalculator.statement``. Initial margin is notional by chosen leverage, as far as the bracket
        allows it."""
        value, debit, _ = self.evaluate(portfolio, prices)
        wallet = sum(
            worth(self.assets[asset], held, prices)
            for asset, held in portfolio.balances.items()
            if asset in self.assets
        )
        initial = 0
        for key, position in portfolio.perpetuals.items():
            table = self.tables.get(key >> 2)
            if table is not None:
                initial += table.initial(
                    abs(position.quantity) * prices[key >> 2], position.leverage or self.default_leverage
                )
        return Statement(value, initial, debit, {"wallet_balance": wallet, "unrealised": value - wallet})

    def formula(self, portfolio: Portfolio) -> Formula:
        """See ``MarginCalculator.formula``."""
        amounts, bounded = amounts_of(self.assets, portfolio.balances, lent=False)
        positions = []
        for key, position in portfolio.perpetuals.items():
            table = self.tables.get(key >> 2)
            if table is None:
                bounded = False
            else:
                positions.append(Margined(key, position, table, position.leverage or self.default_leverage))
        return Formula(amounts, positions, None, bounded)

    def depends_on(self, portfolio: Portfolio) -> dict[int, None]:
        """See ``MarginCalculator.depends_on``."""
        found = {leg: None for asset in portfolio.balances for leg in self._legs.get(asset, ())}
        for key in portfolio.perpetuals:
            found[key >> 2] = None
        return found

    def routed_through(self, instrument: int) -> Sequence[int]:
        """See ``MarginCalculator.routed_through``."""
        return self._routed.get(instrument, ())

    def evaluate(self, portfolio: Portfolio, prices: Sequence[int]) -> MarginFigures:
        """See ``MarginCalculator.evaluate``. A perpetual that was never marked counts 0."""
        value = debit = 0
        unbounded = False
        for asset, balance in portfolio.balances.items():
            terms = self.assets.get(asset)
            if terms is None:
                unbounded = unbounded or balance < 0
            else:
                value += worth(terms, balance, prices)
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
        return MarginFigures(value, debit, unbounded)

    def bounds(
        self, portfolio: Portfolio, lowest: Sequence[int], highest: Sequence[int], guards: Sequence[Guard]
    ) -> list[Span]:
        """See ``MarginCalculator.bounds``.

        Profit and margin of one instrument move together, so each instrument is bounded as a whole, for each guard:
        without rounding, what its positions add to an excess is concave in its price (margin is convex as long as rates
        do not fall), least at an end and greatest at an end or an edge between brackets. Rounding only takes away, less
        than one unit of each position's profit and margin. Collateral is bounded asset by asset; it rises with every
        price. A price is at least 1.
        """
        return self._spans(portfolio, lowest, highest, guards, sharp=False)

    def open_bounds(
        self, portfolio: Portfolio, lowest: Sequence[int], highest: Sequence[int], guards: Sequence[Guard]
    ) -> list[Span]:
        """See ``MarginCalculator.open_bounds``: as ``bounds``, with what an instrument of open price adds taken without
        rounding, exactly."""
        return self._spans(portfolio, lowest, highest, guards, sharp=True)

    def _spans(
        self,
        portfolio: Portfolio,
        lowest: Sequence[int],
        highest: Sequence[int],
        guards: Sequence[Guard],
        *,
        sharp: bool,
    ) -> list[Span]:
        collateral = self._collateral(portfolio, lowest, highest)
        held: dict[int, Holding] = {}
        for key, position in portfolio.perpetuals.items():
            number = key >> 2
            table = self.tables.get(number)
            if table is None:
                return [(None, None)] * len(guards)
            moving = held.get(number)
            if moving is None:
                moving = held[number] = Holding(table, max(lowest[number], 1), highest[number])
            moving.add(position)
        movings = list(held.values())
        # Nothing is required at any price that is left open, or at some.
        never = all(moving.margin_at_most_zero for moving in movings)
        perhaps = all(moving.margin_zero_at_least for moving in movings)
        spans: list[Span] = []
        for guard in guards:
            numerator, denominator = guard.ratio
            least = None if collateral.least is None else (collateral.least * denominator, 1)
            greatest = None if collateral.greatest is None else (collateral.greatest * denominator, 1)
            for moving in movings:
                bottom, top = moving.span(numerator, denominator, sharp=sharp)
                least = None if least is None or bottom is None else total(least, bottom)
                greatest = None if greatest is None or top is None else total(greatest, top)
            low = None if least is None else excess_of(least, guard, never)
            high = None if greatest is None else excess_of(greatest, guard, never)
            if perhaps and not never and not sharp and high is not None and high < 0:
                high = 0
            spans.append((low, high))
        return spans

    def _collateral(self, portfolio: Portfolio, lowest: Sequence[int], highest: Sequence[int]) -> CollateralSpan:
        least_value = greatest_value = 0
        falls = rises = False
        for asset, balance in portfolio.balances.items():
            terms = self.assets.get(asset)
            if terms is None:
                falls = falls or balance < 0
                continue
            legs = (terms.first, terms.second, terms.third)
            low = priced(terms, balance, *(max(lowest[leg], 1) for leg in legs))
            opened = any(highest[leg] == NO_BOUND for leg in legs)
            high = low if opened else priced(terms, balance, *(max(highest[leg], 1) for leg in legs))
            if balance > 0:
                least_value, greatest_value = least_value + low, greatest_value + high
                rises = rises or (opened and terms.keep > 0)
            else:
                least_value, greatest_value = least_value + high, greatest_value + low
                falls = falls or opened
        return CollateralSpan(None if falls else least_value, None if rises else greatest_value)

    def directions(self, portfolio: Portfolio) -> dict[int, int]:
        """See ``MarginCalculator.directions``."""
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
        self,
        portfolio: Portfolio,
        prices: Sequence[int],
        guards: Sequence[Guard],
        guard_states: Sequence[GuardState],
        figures: MarginFigures,
    ) -> tuple[int, int]:
        """See ``MarginCalculator.reach``. Every position's profit moves by its notional, its margin by the rate of its
        bracket."""
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
                moving += 2 * len(legs) * abs(worth(self.assets[asset], balance, prices))
        against = favourable = NO_LIMIT
        for ((numerator, denominator), offset, inclusive), truth in zip(guards, guard_states, strict=True):
            excess = figures.value * denominator - numerator * figures.debit - offset * denominator - inclusive
            swing = moving * denominator + margin * numerator
            if swing > 0:
                if truth is GuardState.FALSE:
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
        """See ``MarginCalculator.credit``. Nothing is called, but calls of an earlier profile may be open."""
        return credited(self.assets.get(asset), before, delta, prices)

    def sale(self, portfolio: Portfolio, prices: Sequence[int], restore: Guard) -> list[SaleLeg]:
        """See ``MarginCalculator.sale``. Positions are closed at the mark: the largest maintenance margin first, then
        in order of listing.

        Closing at the mark leaves the equity and takes margin away, so of each position the least is closed after which
        the guard holds back.
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
            legs.append(
                SaleLeg(self.base, notional(low * price, table.shift), key, -low if position.quantity > 0 else low)
            )
        return legs


class BinanceUsdm:
    """The model; see ``margin_stream.core.margin.model.MarginModel``."""

    name = "binance-usdm"
    since = 1

    def compile(
        self, parameters: Mapping[str, object], directory: Directory, *, sound: bool = True
    ) -> tuple[CallPolicy, UsdmCalculator]:
        """See ``MarginModel.compile``."""
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
            close_out=liquidate,
            bankrupt=Guard(Ratio(0, 1), 0, inclusive=False),
            restore=Guard(restore, 0, breach),
            quiescent=Guard(restore if less(warn, restore) else warn, 0, breach),
            liquidation_minimum=amount(given.liquidation_minimum, "liquidation_minimum", base.scale, least=0),
            call_types=(
                CallType(
                    name="maintenance",
                    trigger=liquidate,
                    restore=Guard(restore, 0, breach),
                    callable=False,
                    persistence_ns=0,
                    due_after_ns=0,
                    reopen_within_ns=0,
                    minimum_transfer=0,
                    minimum_is_called=False,
                    rounding=1,
                    tranche_step=1,
                ),
            ),
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
        return policy, UsdmCalculator(base.number, given.default_leverage, assets, tables)


def _table(name: str, given: list[BracketParameters], base: str, directory: Directory, *, sound: bool) -> BracketTable:
    field = f"brackets.{name}"
    instrument = directory.instrument_by_name.get(name)
    if instrument is None:
        raise ParameterError(f"parameters.{field}: {name!r} is not listed")
    if not instrument.perpetual:
        raise ParameterError(f"parameters.{field}: {name} is no perpetual")
    if instrument.currency.name != base:
        raise ParameterError(
            f"parameters.{field}: {name} settles in {instrument.currency.name}, not in the base currency {base}"
        )
    brackets = [bracket_of(row, f"{field}[{k}]") for k, row in enumerate(given)]
    faults = faults_of(brackets)
    if faults and (sound or not brackets):
        k, where, what = faults[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ParameterError(f"parameters.{field}[{k}].{where}: {what}{more}".replace("].:", "]:"))
    return BracketTable(brackets, instrument)


BINANCE_USDM = BinanceUsdm()
MODELS[BINANCE_USDM.name] = BINANCE_USDM
