"""``prime``: a callable cross-collateral loan account, as crypto prime brokers write them.

V is the sum of ``floor(balance * mark * (1 - haircut))`` over positive balances, D the sum of ``ceil(debit * mark)``
over negative ones, both in minor units of the base currency. A spot position is a balance of its base asset. An asset's
mark is the product of the marks along its conversion route, multiplied exactly and rounded once an asset. An asset that
the profile does not name has no collateral value, and a debit in it leaves the account undecided.

Figures of the shipped profile are illustrative; every one is a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from margin_stream.core.margin.brackets import BracketTable
from margin_stream.core.margin.collateral import AssetTerms, amounts_of, asset_terms, credited
from margin_stream.core.margin.formula import Formula, Loan
from margin_stream.core.margin.guards import NO_BOUND, NO_LIMIT, Guard, GuardState, Ratio, Span
from margin_stream.core.margin.model import MODELS, CallPolicy, CallType, MarginFigures, Portfolio, SaleLeg, Statement
from margin_stream.core.margin.parameters import ParameterError, PrimeParameters
from margin_stream.core.margin.ratios import amount, less, per_billion, ratio
from margin_stream.core.market.directory import UNIT, Directory, Instrument

SECOND_NS = 1_000_000_000


class PrimeCalculator:
    """The model bound to a directory; see ``margin_stream.core.margin.model.MarginCalculator``."""

    def __init__(self, base: int, initial: Ratio, maintenance: Ratio, table: dict[int, AssetTerms]) -> None:
        self.base = base
        self.initial = initial
        self.maintenance = maintenance
        self.subaccounts = False
        self.default_leverage = 1
        self.tables: dict[int, BracketTable] = {}
        self.table = table
        self._routed: dict[int, list[int]] = {}
        self._legs: dict[int, tuple[int, ...]] = {}
        self._long_routes: dict[int, int] = {}
        """Asset -> legs beyond the first, of the routes that have any."""
        for asset, terms in sorted(table.items()):
            legs = tuple(leg for leg in terms[:3] if leg != UNIT)
            self._legs[asset] = legs
            if len(legs) > 1:
                self._long_routes[asset] = len(legs) - 1
            for leg in legs:
                self._routed.setdefault(leg, []).append(asset)

    def refuses(self, instrument: Instrument) -> str:
        """See ``MarginCalculator.refuses``. A spot position is a balance, whether or not the profile names its
        asset."""
        return "prime margins no perpetuals" if instrument.perpetual else ""

    def statement(self, portfolio: Portfolio, prices: Sequence[int]) -> Statement:
        """See ``MarginCalculator.statement``. Requirements are fractions of the debit, rounded up."""
        value, debit, _ = self.evaluate(portfolio, prices)
        initial, maintenance = (
            -(-debit * share.numerator // share.denominator) for share in (self.initial, self.maintenance)
        )
        return Statement(value - debit, initial, maintenance, {"collateral_value": value, "loan": debit})

    def formula(self, portfolio: Portfolio) -> Formula:
        """See ``MarginCalculator.formula``."""
        amounts, bounded = amounts_of(self.table, portfolio.balances, lent=True)
        return Formula(amounts, [], Loan(self.initial, self.maintenance), bounded and not portfolio.perpetuals)

    def depends_on(self, portfolio: Portfolio) -> dict[int, None]:
        """See ``MarginCalculator.depends_on``."""
        legs = self._legs
        return {leg: None for asset in portfolio.balances for leg in legs.get(asset, ())}

    def routed_through(self, instrument: int) -> Sequence[int]:
        """See ``MarginCalculator.routed_through``."""
        return self._routed.get(instrument, ())

    def evaluate(self, portfolio: Portfolio, prices: Sequence[int]) -> MarginFigures:
        """See ``MarginCalculator.evaluate``."""
        value = debit = 0
        unbounded = bool(portfolio.perpetuals)
        table = self.table
        for asset, balance in portfolio.balances.items():
            terms = table.get(asset)
            if terms is None:
                unbounded = unbounded or balance < 0
                continue
            first, second, third, keep, value_divisor, debit_divisor, _ = terms
            if balance > 0:
                value += balance * prices[first] * prices[second] * prices[third] * keep // value_divisor
            else:
                # Floor division of a negative number rounds away from zero: this is ceil(debit * mark).
                debit -= balance * prices[first] * prices[second] * prices[third] // debit_divisor
        return MarginFigures(value, debit, unbounded)

    def bounds(
        self, portfolio: Portfolio, lowest: Sequence[int], highest: Sequence[int], guards: Sequence[Guard]
    ) -> list[Span]:
        """See ``MarginCalculator.bounds``. Value and debit rise with every price, so their corners are exact; a guard
        joins opposite corners."""
        low_value = high_value = low_debit = high_debit = 0
        value_open = debit_open = bool(portfolio.perpetuals)
        table = self.table
        for asset, balance in portfolio.balances.items():
            terms = table.get(asset)
            if terms is None:
                debit_open = debit_open or balance < 0
                continue
            first, second, third, keep, value_divisor, debit_divisor, _ = terms
            low = balance * lowest[first] * lowest[second] * lowest[third]
            top_first, top_second, top_third = highest[first], highest[second], highest[third]
            unbounded = NO_BOUND in (top_first, top_second, top_third)
            if balance > 0:
                low_value += low * keep // value_divisor
                if not unbounded:
                    high_value += balance * top_first * top_second * top_third * keep // value_divisor
                else:
                    value_open = value_open or keep > 0
            else:
                low_debit -= low // debit_divisor
                if unbounded:
                    debit_open = True
                else:
                    high_debit -= balance * top_first * top_second * top_third // debit_divisor
        spans: list[Span] = []
        for (numerator, denominator), offset, inclusive in guards:
            shift = offset * denominator + inclusive
            least: int | None = None
            if not debit_open:
                least = low_value * denominator - numerator * high_debit - shift
                if high_debit == 0 and least < 0:
                    least = 0
            greatest: int | None = None
            if not value_open:
                greatest = high_value * denominator - numerator * low_debit - shift
                if low_debit == 0 and greatest < 0:
                    greatest = 0
            spans.append((least, greatest))
        return spans

    def open_bounds(
        self, portfolio: Portfolio, lowest: Sequence[int], highest: Sequence[int], guards: Sequence[Guard]
    ) -> list[Span]:
        """See ``MarginCalculator.open_bounds``. The corners of ``bounds`` are exact, term by term."""
        return self.bounds(portfolio, lowest, highest, guards)

    def directions(self, portfolio: Portfolio) -> dict[int, int]:
        """See ``MarginCalculator.directions``."""
        found: dict[int, int] = {}
        legs = self._legs
        for asset, balance in portfolio.balances.items():
            way = 1 if balance > 0 else -1
            for leg in legs.get(asset, ()):
                found[leg] = way if found.get(leg, way) == way else 0
        return found

    def reach(
        self,
        portfolio: Portfolio,
        prices: Sequence[int],
        guards: Sequence[Guard],
        guard_states: Sequence[GuardState],
        figures: MarginFigures,
    ) -> tuple[int, int]:
        """See ``MarginCalculator.reach``. Value and debit move in proportion to prices, twice as fast through two legs;
        the base currency does not."""
        value, debit, _ = figures
        balance = portfolio.balances.get(self.base, 0)
        moving_value = value - balance if balance > 0 else value
        moving_debit = debit if balance > 0 else debit + balance
        curved = False
        for asset, more_legs in self._long_routes.items():
            held = portfolio.balances.get(asset)
            if held:
                terms = self.table[asset]
                curved = True
                product = abs(held) * prices[terms.first] * prices[terms.second] * prices[terms.third] * more_legs
                if held > 0:
                    moving_value += product * terms.keep // terms.value_divisor
                else:
                    moving_debit += product // terms.debit_divisor
        against = favourable = NO_LIMIT
        for ((numerator, denominator), offset, inclusive), truth in zip(guards, guard_states, strict=True):
            excess = value * denominator - numerator * debit - offset * denominator - inclusive
            swing = moving_value * denominator + moving_debit * numerator
            if swing > 0:
                if truth is GuardState.FALSE:
                    near = (excess << 20) // swing
                    if near < against:
                        against = near
                else:
                    near = (-excess << 20) // swing
                    if near < favourable:
                        favourable = near
        if curved:
            # A product of prices moves a little more than the sum of the moves.
            if against < NO_LIMIT:
                against = min(against, 1 << 20)
                against -= against * against >> 22
            if favourable < NO_LIMIT:
                favourable = min(favourable, 1 << 20)
                favourable -= favourable * favourable >> 21
        # A little less, for what rounding does to each term.
        if against < NO_LIMIT:
            against -= against >> 10
        if favourable < NO_LIMIT:
            favourable -= favourable >> 10
        return against, favourable

    def credit(self, asset: int, before: int, delta: int, prices: Sequence[int]) -> int | None:
        """See ``MarginCalculator.credit``."""
        return credited(self.table.get(asset), before, delta, prices)

    def sale(self, portfolio: Portfolio, prices: Sequence[int], restore: Guard) -> list[SaleLeg]:
        """See ``MarginCalculator.sale``. Lowest haircut first, then in order of listing.

        Selling value x of an asset takes x * (1 - haircut) from V and x from D, so the gap ``restore * D - V`` shrinks
        by ``x * (restore - (1 - haircut))``.
        """
        figures = self.evaluate(portfolio, prices)
        # The gap as a fraction gap / scale, so that each leg is rounded once.
        level = restore.ratio
        scale = level.denominator
        gap = level.numerator * figures.debit - figures.value * scale
        held = [
            (terms.keep_ratio, asset, terms)
            for asset, terms in self.table.items()
            if portfolio.balances.get(asset, 0) > 0
        ]
        held.sort(key=lambda row: (-per_billion(row[0]), row[1]))
        legs: list[SaleLeg] = []
        for keep, asset, terms in held:
            if gap <= 0:
                break
            price = prices[terms.first] * prices[terms.second] * prices[terms.third]
            everything = portfolio.balances[asset] * price // terms.debit_divisor
            gain = level.numerator * keep.denominator - keep.numerator * level.denominator
            if everything <= 0 or gain <= 0:
                continue
            gain_scale = level.denominator * keep.denominator
            needed = -(-gap * gain_scale // (scale * gain))
            sold = min(needed, everything)
            legs.append(SaleLeg(asset, sold))
            gap, scale = gap * gain_scale - sold * gain * scale, scale * gain_scale
        return legs


class Prime:
    """The model; see ``margin_stream.core.margin.model.MarginModel``."""

    name = "prime"
    since = 1

    def compile(
        self, parameters: Mapping[str, object], directory: Directory, *, sound: bool = True
    ) -> tuple[CallPolicy, PrimeCalculator]:
        """See ``MarginModel.compile``."""
        try:
            given = msgspec.convert(dict(parameters), PrimeParameters)
        except msgspec.ValidationError as error:
            raise ParameterError(f"parameters: {error}") from None
        base = directory.asset_by_name.get(given.base_currency)
        if base is None:
            raise ParameterError(f"parameters.base_currency: {given.base_currency!r} is not listed")
        levels = {name: ratio(getattr(given, name), name) for name in ("warn", "call", "close_out", "restore")}
        for higher, lower in (("warn", "call"), ("call", "close_out"), ("restore", "call")):
            if less(levels[higher], levels[lower]):
                raise ParameterError(f"parameters.{higher}: below {lower}")
        if less(levels["close_out"], Ratio(1, 1)):
            raise ParameterError("parameters.close_out: below 1")
        breach = given.at_level == "breach"
        warn, call, close_out = (Guard(levels[name], 0, breach) for name in ("warn", "call", "close_out"))
        restore = Guard(levels["restore"], 0, given.at_restore == "short")
        policy = CallPolicy(
            warn=warn,
            close_out=close_out,
            bankrupt=Guard(Ratio(1, 1), 0, breach),
            restore=restore,
            quiescent=Guard(max(levels["warn"], levels["restore"], key=per_billion), 0, breach or restore.inclusive),
            liquidation_minimum=amount(given.liquidation_minimum, "liquidation_minimum", base.scale, least=0),
            call_types=(
                CallType(
                    name="maintenance",
                    trigger=call,
                    restore=restore,
                    callable=True,
                    persistence_ns=given.call_persistence_s * SECOND_NS,
                    due_after_ns=given.due_after_s * SECOND_NS,
                    reopen_within_ns=given.reopen_within_s * SECOND_NS,
                    minimum_transfer=amount(given.minimum_transfer, "minimum_transfer", base.scale, least=0),
                    minimum_is_called=given.at_minimum == "called",
                    rounding=amount(given.rounding, "rounding", base.scale, least=1),
                    tranche_step=amount(given.tranche_step, "tranche_step", base.scale, least=1),
                    tranche_share=ratio(given.tranche_share, "tranche_share"),
                    tranche_interval_ns=given.tranche_interval_s * SECOND_NS,
                ),
            ),
        )
        table = {}
        for name in sorted(given.assets):
            number, terms = asset_terms(name, given.assets[name], base.name, directory)
            table[number] = terms
        if base.number not in table:
            raise ParameterError(f"parameters.assets: {base.name}, the base currency, is missing")
        initial, maintenance = ratio(given.initial, "initial"), ratio(given.maintenance, "maintenance")
        return policy, PrimeCalculator(base.number, initial, maintenance, table)


PRIME = Prime()
MODELS[PRIME.name] = PRIME
