"""An independent oracle of days with perpetuals and subaccounts, written from ``docs/rules.md`` alone, without sight of the implementation.

It stands on its own: the rules that both models share and the calls of ``prime`` come first (they are wanted where an account changes its
profile), then the chapter "Perpetuals and subaccounts": the model ``binance-usdm``, isolated subaccounts, hedge mode, funding, transfers,
sweeps, and the refusals of the fold. It says every effect of accounts and of ``@market``, every refusal with its reason, and the final
facts of every account. Nothing here shares code with the engine, nor with the oracle of ``prime``.

With marks open (stale, missing, or in doubt) the engine might call a guard undecided that lies within the rounding of an open position of
its level. Such a place is a *window*. ``Oracle.windows`` counts them, and ``answers`` says for each of an item's whether this oracle calls
it undecided (it does where nothing is said) or takes the sharp answer. Everywhere else there is one answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from functools import lru_cache
from itertools import islice, product
from math import ceil, floor
from typing import Any

SECOND = 10**9
Guard = bool | None
"""True, false, or None: undecided."""
Bound = int | None
"""An amount in minor units; None has no bound."""
RATIOS = {"warn": "1.40", "call": "1.25", "close_out": "1.10", "restore": "1.40"}
AMOUNTS = {"minimum_transfer": "1000", "rounding": "100", "tranche_step": "1000", "liquidation_minimum": "10"}
DEPTH = ("HEALTHY", "WARNING", "DEFICIT", "LIQUIDATING", "BANKRUPT")
SPANS = {"call_persistence_s": 60, "due_after_s": 86_400, "reopen_within_s": 86_400, "tranche_interval_s": 3_600}


# ---------------------------------------------------------------------------------------------------------------- texts and numbers
def show(amount: int, scale: int) -> str:
    """Return ``amount * 10**-scale`` with all its decimal places."""
    sign, digits = ("-" if amount < 0 else ""), str(abs(amount)).rjust(scale + 1, "0")
    return sign + (f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits)


def number(value: object) -> Fraction:
    """Return the exact number of a decimal text (or JSON integer)."""
    return Fraction(str(value))


@lru_cache(maxsize=65536)
def units(text: str, scale: int) -> int:
    """Return a decimal text as a count of ``10**-scale``."""
    exact = Fraction(text) * 10**scale
    assert exact.denominator == 1, f"{text} has more than {scale} decimal places"
    return int(exact.numerator)


@lru_cache(maxsize=1024)
def whole_seconds(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp())


def moment(value: object) -> int:
    """Return nanoseconds since 1970 of an RFC 3339 text in UTC."""
    text = str(value).upper().removesuffix("Z").removesuffix("+00:00")
    seconds, _, fraction = text.partition(".")
    return whole_seconds(seconds) * SECOND + int(fraction.ljust(9, "0") or "0")


# ------------------------------------------------------------------------------------------------------------------------ the state
@dataclass(eq=False)
class Instrument:
    name: str
    kind: str
    scale: int
    base: str
    currency: str
    price_scale: int
    band: int  # in millionths, as the two below
    band_per_second: int
    band_maximum: int
    reanchor_quotes: int
    reanchor_within: Fraction
    stale_after: int
    order: int
    mark: int | None = None  # in price units
    marked_at: int = 0
    stale: bool = False
    row: list[tuple[int, str, int]] = field(default_factory=list)
    """Quotes refused with ``deviation`` since the mark was made: price, source, clock. While there are any, the mark is in doubt."""
    feeds: list[AssetMark] = field(default_factory=list)

    @property
    def fresh(self) -> bool:
        """Whether there is one price: marked, not stale, not in doubt."""
        return self.mark is not None and not self.stale and not self.row

    def low(self) -> int:
        if self.mark is None:
            return 0
        end = floor(self.mark * (1 - Fraction(self.band_maximum, 10**6))) if self.stale else self.mark
        return min([end, *(price for price, _, _ in self.row)])

    def high(self) -> Bound:
        if self.mark is None:
            return None
        end = ceil(self.mark * (1 + Fraction(self.band_maximum, 10**6))) if self.stale else self.mark
        return max([end, *(price for price, _, _ in self.row)])

    def inside(self, price: int, clock: int) -> bool:
        """Whether a price lies inside the band around the mark as it is at this clock."""
        assert self.mark is not None
        band = min(self.band_maximum, self.band + self.band_per_second * (clock - self.marked_at) // SECOND)
        if self.stale:
            band = self.band_maximum
        return abs(price - self.mark) * 10**6 <= band * self.mark


class AssetMark:
    """One asset of a profile: its haircut, and the product of the marks along its route."""

    def __init__(self, haircut: Fraction, route: list[Instrument]) -> None:
        self.haircut, self.route = haircut, route
        self.scale = sum(i.price_scale for i in route)
        self.mark, self.low = 1, 1
        self.high: Bound = 1
        self.marked = self.fresh = True
        self.refresh()

    def refresh(self) -> None:
        self.marked = all(i.mark is not None for i in self.route)
        self.fresh = all(i.fresh for i in self.route)
        self.mark, self.low, self.high = 1, 1, 1
        for i in self.route:
            self.mark *= i.mark or 0
            self.low *= i.low()
            top = i.high()
            self.high = None if self.high is None or top is None else self.high * top

    def price(self) -> Fraction:
        return Fraction(self.mark, 10**self.scale)


class Profile:
    """The parameters of one version; amounts stay in whole currency until an account's scale is known."""

    def __init__(self, parameters: dict[str, object], instruments: dict[str, Instrument]) -> None:
        ratios = {name: number(parameters.get(name, default)) for name, default in RATIOS.items()}
        ratios["bankrupt"] = number(parameters.get("bankrupt", "1"))
        self.ratios = ratios
        self.initial, self.maintenance = number(parameters.get("initial", "0.40")), number(parameters.get("maintenance", "0.25"))
        self.breach_at_level = parameters.get("at_level", "safe") == "breach"
        self.short_at_restore = parameters.get("at_restore", "restored") == "short"
        self.suppressed_at_minimum = parameters.get("at_minimum", "called") == "suppressed"
        self.amounts = {name: number(parameters.get(name, default)) for name, default in AMOUNTS.items()}
        self.tranche_share = number(parameters.get("tranche_share", "0"))
        self.spans = {name: int(str(parameters.get(name, default))) * SECOND for name, default in SPANS.items()}
        self.assets: dict[str, AssetMark] = {}
        assets = parameters["assets"]
        assert isinstance(assets, dict)
        for name, entry in assets.items():
            route = [instruments[step] for step in entry.get("route", [])]
            self.assets[name] = AssetMark(number(entry.get("haircut", "0")), route)
            for instrument in route:
                instrument.feeds.append(self.assets[name])


@dataclass
class Call:
    number: int
    amount: int
    issued: int
    due: int
    paid: int = 0
    state: str = "OPEN"  # OPEN, MET, CURED
    overdue: bool = False

    @property
    def unpaid(self) -> int:
        return self.amount - self.paid


@dataclass
class Money:
    """Money in an asset that has no mark yet: it counts when the first one comes."""

    asset: str
    repaid: Fraction  # the part at face
    rest: Fraction
    arriving: bool
    call: int


@dataclass(eq=False)
class Account:
    name: str
    currency: str
    scale: int
    profile_name: str
    profile: Profile | None = None
    balances: dict[str, Fraction] = field(default_factory=dict)
    positions: dict[str, Fraction] = field(default_factory=dict)
    lines: list[tuple[AssetMark, int, int]] = field(default_factory=list)  # term = floor(mark * second / third), negative if owed
    owes_unknown: bool = False
    level: str = "HEALTHY"
    calls: list[Call] = field(default_factory=list)
    waiting: list[Money] = field(default_factory=list)
    persistence: int | None = None  # since when the condition of the next call holds
    suppressed: bool = False
    liquidating: bool = False
    sale_asked: bool = False  # became liquidating, the request is not yet emitted
    demands: int = 0
    demand: tuple[int, int] | None = None  # number and amount of the open request

    def open_calls(self) -> list[Call]:
        return sorted((c for c in self.calls if c.state == "OPEN"), key=lambda c: (c.due, c.number))

    def unpaid(self) -> int:
        return sum(c.unpaid for c in self.calls if c.state == "OPEN")


class Valuation:
    """V and D of an account now: the figures, and their least and greatest values."""

    def __init__(self, account: Account) -> None:
        assert account.profile is not None
        self.profile = account.profile
        self.guards: dict[str, Guard] = {}
        self.v = self.d = self.v_low = self.d_low = 0
        self.v_high: Bound = 0
        self.d_high: Bound = 0
        for asset, factor, divisor in account.lines:
            figure = asset.mark * factor // divisor
            low = figure
            high: Bound = figure
            if not asset.fresh:
                low = asset.low * factor // divisor
                high = (None if factor else 0) if asset.high is None else asset.high * factor // divisor
            if factor >= 0:
                self.v += figure
                self.v_low += low
                self.v_high = None if self.v_high is None or high is None else self.v_high + high
            else:
                self.d -= figure
                self.d_low -= low
                self.d_high = None if self.d_high is None or high is None else self.d_high - high
        if account.owes_unknown:
            self.d_high = None

    def ratio(self, name: str) -> Guard:
        """Return the guard V < ratio x D of this name."""
        if name not in self.guards:
            self.guards[name] = self._ratio(name)
        return self.guards[name]

    def _ratio(self, name: str) -> Guard:
        level = self.profile.ratios[name]
        equal = self.profile.short_at_restore if name == "restore" else self.profile.breach_at_level

        def holds(v: Bound, d: Bound) -> bool:
            if d == 0 or v is None:
                return False
            if d is None:
                return True
            left, right = v * level.denominator, d * level.numerator
            return left < right or (equal and left == right)

        if holds(self.v_high, self.d_low):
            return True
        return None if holds(self.v_low, self.d_high) else False

    def stale(self, liquidating: bool) -> bool:
        """Whether a guard that matters is undecided."""
        names = ("warn", "call", "bankrupt", "restore") + (() if liquidating else ("close_out",))
        return any(self.ratio(name) is None for name in names)

    def fields(self, scale: int) -> dict[str, object]:
        """Return the figures as an effect has them."""
        figures = {"equity": self.v - self.d, "initial_requirement": ceil(self.d * self.profile.initial)}
        figures |= {"maintenance_requirement": ceil(self.d * self.profile.maintenance), "collateral_value": self.v, "loan": self.d}
        return {name: show(figure, scale) for name, figure in figures.items()}

    def shortfall_of(self, v: Bound, d: Bound) -> Bound:
        if v is None:
            return 0
        if d is None:
            return None
        level = self.profile.ratios["restore"]
        return max(0, -((v * level.denominator - d * level.numerator) // level.denominator))

    @property
    def shortfall(self) -> int:
        """Return S at the figures."""
        result = self.shortfall_of(self.v, self.d)
        assert result is not None
        return result

    def short_of(self, amount: Fraction, strictly: bool = False) -> Guard:
        """Return the guard "shortfall >= amount", the amount in minor units."""

        def holds(v: Bound, d: Bound) -> bool:
            if d == 0:
                return False
            shortfall = self.shortfall_of(v, d)
            return shortfall is None or shortfall > amount or (not strictly and shortfall == amount)

        if holds(self.v_high, self.d_low):
            return True
        return None if holds(self.v_low, self.d_high) else False


def both(first: Guard, second: Guard) -> Guard:
    if first is False or second is False:
        return False
    return True if first and second else None


# ----------------------------------------------------------------------------------------------------------------------- the oracle
class PrimeOracle:
    """What both models share: marks, balances, and the calls of ``prime``."""

    def __init__(self) -> None:
        self.effects: list[dict[str, object]] = []
        self.clock = 0
        self._position = 0
        self._versions: dict[str, int] = {}  # in force
        self._counts: dict[str, int] = {}
        self._said: list[tuple[str, dict[str, object]]] = []
        self._instruments: dict[str, Instrument] = {}
        self._activations: list[tuple[int, str, int, dict[str, object]]] = []
        self._profiles: dict[str, Profile] = {}
        self._accounts: dict[str, Account] = {}

    def position(self) -> int:
        return self._position

    def feed(self, event: dict[str, object]) -> None:
        """Take one valid input; its effects are appended in order of group and number."""
        self._position += 1
        kind = event["type"]
        if kind == "price_ticked":
            self._price(event)
        elif kind == "mark_confirmed":
            self._confirm(event)
        elif kind == "clock_ticked":
            self._tick(moment(event["time"]))
        elif kind == "position_changed":
            self._trade(event)
        elif kind == "collateral_moved":
            self._money(event)
        elif kind == "account_opened":
            self._open(event)
        elif kind == "account_changed":
            self._change(event)
        elif kind == "instrument_listed":
            self._list(event)
        elif kind == "profile_activated":
            parameters = event["parameters"]
            assert isinstance(parameters, dict)
            activation = (moment(event["effective_from"]), str(event["profile"]), int(str(event["version"])), parameters)
            self._activations.append(activation)
        else:
            assert kind in ("engine_activated", "feed_restarted"), kind
        if self._said:
            self._said.sort(key=lambda said: said[0])  # stable: within a group by number
            self.effects.extend(effect for _, effect in self._said)
            self._said.clear()

    # ------------------------------------------------------------------------------------------------------------- saying effects
    def _say(self, group: str, kind: str, **fields: object) -> None:
        self._counts[group] = self._counts.get(group, 0) + 1
        envelope = {"type": kind, "id": f"{group}/{self._counts[group]}", "sequence": self._position, "at_ns": self.clock}
        self._said.append((group, envelope | fields))

    def _tell(self, account: Account, kind: str, value: Valuation | None, **fields: object) -> None:
        """Say an effect on an account; whole numbers under amount names become texts."""
        for name in ("amount", "shortfall", "minimum", "credited", "unpaid"):
            amount = fields.get(name)
            if isinstance(amount, int):
                fields[name] = show(amount, account.scale)
        if value is not None:
            fields = value.fields(account.scale) | fields
        if account.profile is not None and self._value(account).stale(account.liquidating):
            fields["stale"] = True
        self._say(account.name, kind, account=account.name, currency=account.currency, **fields)

    def _value(self, account: Account) -> Valuation:
        return Valuation(account)

    def _name(self, account: Account, call: Call) -> str:
        return f"{account.name}/call/{call.number}"

    # ------------------------------------------------------------------------------------------------------------------ directory
    def _list(self, event: dict[str, object]) -> None:
        name = str(event["instrument"])

        def millionths(key: str, default: str) -> int:
            return floor(number(event.get(key, default)) * 10**6)

        self._instruments[name] = Instrument(
            name=name,
            kind=str(event["kind"]),
            scale=int(str(event["quantity_scale"])),
            base=str(event.get("base", "")),
            currency=str(event.get("currency", "")),
            price_scale=int(str(event.get("price_scale", 0))),
            band=millionths("band", "0.1"),
            band_per_second=millionths("band_per_second", "0.001"),
            band_maximum=millionths("band_maximum", "0.5"),
            reanchor_quotes=int(str(event.get("reanchor_quotes", 3))),
            reanchor_within=number(event.get("reanchor_within", "0.02")),
            stale_after=int(str(event.get("stale_after_s", 300))) * SECOND,
            order=len(self._instruments),
        )

    # ---------------------------------------------------------------------------------------------------------------------- marks
    def _price(self, event: dict[str, object]) -> None:
        instrument = self._instruments[str(event["instrument"])]
        price, source = units(str(event["price"]), instrument.price_scale), str(event.get("source", ""))
        bid, ask = event.get("bid"), event.get("ask")
        if bid is not None and ask is not None and number(bid) > number(ask):
            return self._refuse(instrument, price, "crossed")
        if price <= 0:
            return self._refuse(instrument, price, "not_positive")
        if instrument.mark is not None and not instrument.inside(price, self.clock):
            before = (instrument.low(), instrument.high())
            reason, price = self._agreement(instrument, price, source)
            if not reason:
                self._refuse(instrument, price, "deviation")
                if (instrument.low(), instrument.high()) != before:
                    self._refresh(instrument)
                    self._marked(instrument, False)
                return None
            self._reanchor(instrument, price, reason)
        self._accept(instrument, price)
        return None

    def _confirm(self, event: dict[str, object]) -> None:
        instrument = self._instruments[str(event["instrument"])]
        price = units(str(event["price"]), instrument.price_scale)
        self._reanchor(instrument, price, "confirmed")
        self._accept(instrument, price)

    def _reanchor(self, instrument: Instrument, price: int, reason: str) -> None:
        texts = {"price": show(price, instrument.price_scale), "mark": show(instrument.mark or 0, instrument.price_scale)}
        self._say("@market", "mark_reanchored", instrument=instrument.name, **texts, reason=reason)

    def _accept(self, instrument: Instrument, price: int) -> None:
        first = instrument.mark is None
        instrument.row.clear()
        instrument.mark, instrument.marked_at, instrument.stale = price, self.clock, False
        self._refresh(instrument)
        self._marked(instrument, first)

    @staticmethod
    def _refresh(instrument: Instrument) -> None:
        for asset in instrument.feeds:
            asset.refresh()

    def _marked(self, instrument: Instrument, first: bool) -> None:
        """A price or a doubt changed: whoever reads the instrument is evaluated."""
        raise NotImplementedError

    def _agreement(self, instrument: Instrument, price: int, source: str) -> tuple[str, int]:
        """Return why a quote outside the band is accepted (or nothing), and the price that becomes the mark."""

        def agree(prices: list[int]) -> bool:
            return max(prices) - min(prices) <= instrument.reanchor_within * min(prices)

        row, mark, many = instrument.row, instrument.mark, instrument.reanchor_quotes
        assert mark is not None
        if row and row[-1][1] != source and agree([row[-1][0], price]):
            return "second_source", price
        row.append((price, source, self.clock))
        last = [quote for quote, _, _ in row[-many:]]
        if len(last) == many and agree(last):
            return "consecutive", price
        side = []
        for quote, _, clock in reversed(row):
            if (quote > mark) != (price > mark):
                break
            side.append((quote, clock))
        if len(side) >= many and self.clock - side[-1][1] >= instrument.stale_after:
            return "one_side", min((quote for quote, _ in side), key=lambda quote: abs(quote - mark))
        return "", price

    def _refuse(self, instrument: Instrument, price: int, reason: str) -> None:
        mark = show(instrument.mark or 0, instrument.price_scale)
        self._say(
            "@market", "mark_refused", instrument=instrument.name, price=show(price, instrument.price_scale), mark=mark, reason=reason
        )

    # ------------------------------------------------------------------------------------------------------------ money and trades
    def _settle(self, account: Account) -> None:
        """Count the money whose asset has a mark, in order of arrival; then evaluate."""
        if account.profile is not None:
            waiting, account.waiting = account.waiting, []
            for money in waiting:
                asset = account.profile.assets.get(money.asset)
                if asset is None or not asset.marked:
                    account.waiting.append(money)
                    continue
                minor = asset.price() * 10**account.scale
                value = floor(money.repaid * minor) + floor(money.rest * minor * (1 - asset.haircut))
                if money.arriving:
                    self._credit(account, value, money.call)
                else:
                    self._withdraw(account, value)
        self._evaluate(account)

    def _credit(self, account: Account, value: int, named: int) -> None:
        first = [c for c in account.calls if c.number == named and c.unpaid and c.state in ("OPEN", "CURED")]
        for call in first + [c for c in account.open_calls() if c not in first]:
            credited = min(value, call.unpaid)
            if credited == 0:
                continue
            value -= credited
            call.paid += credited
            if call.unpaid:
                self._tell(account, "call_reduced", None, call=self._name(account, call), credited=credited, unpaid=call.unpaid)
            else:
                call.state = "MET"
                self._tell(account, "call_met", None, call=self._name(account, call), credited=credited)

    def _withdraw(self, account: Account, value: int) -> None:
        assert account.profile is not None
        now = self._value(account)
        restore = now.ratio("restore")
        for call in sorted(account.calls, key=lambda c: (c.due, c.number), reverse=True):
            taken = min(value, call.paid)
            if taken == 0 or call.state == "CURED":
                continue
            if call.state == "MET" and not (restore is True and call.issued + account.profile.spans["reopen_within_s"] >= self.clock):
                continue
            value -= taken
            call.paid -= taken
            if call.state == "MET":
                self._reopen(account, now, call, "withdrawal")

    def _reopen(self, account: Account, now: Valuation, call: Call, reason: str) -> None:
        call.state = "OPEN"
        name = self._name(account, call)
        self._tell(account, "call_reopened", now, call=name, unpaid=call.unpaid, due_at_ns=call.due, reason=reason)

    # ----------------------------------------------------------------------------------------------------------------- evaluation
    def _evaluate(self, account: Account) -> None:
        """Evaluate an account until nothing changes."""
        if account.profile is None:
            return
        now = self._value(account)
        before: object = None
        while True:
            state = (account.level, account.persistence, account.suppressed, account.liquidating, account.sale_asked, len(account.calls))
            if state == before:
                break
            before = state
            self._pass(account, now)

    def _condition(self, account: Account, now: Valuation) -> Guard:
        """Return the condition of the next call."""
        assert account.profile is not None
        condition, unpaid = now.ratio("call"), account.unpaid()
        if unpaid > 0:
            condition = both(condition, now.short_of(unpaid + self._step(account, unpaid)))
        return condition

    @staticmethod
    def _step(account: Account, unpaid: int) -> Fraction:
        """Return by how much the shortfall must exceed what is unpaid before one more call is issued."""
        profile = account.profile
        assert profile is not None
        return max(profile.amounts["tranche_step"] * 10**account.scale, Fraction(ceil(profile.tranche_share * unpaid)))

    @staticmethod
    def _interval_ends(account: Account) -> int:
        """Return from when on an add-on call may be issued."""
        profile = account.profile
        assert profile is not None
        return account.calls[-1].issued + profile.spans["tranche_interval_s"]

    @staticmethod
    def _holds(account: Account, guard: Guard, level: str) -> bool:
        """Whether a level's guard holds: it is true, or undecided while the account is there or deeper."""
        return guard is True or (guard is None and DEPTH.index(account.level) >= DEPTH.index(level))

    def _pass(self, account: Account, now: Valuation) -> None:
        profile = account.profile
        assert profile is not None
        if now.ratio("restore") is False:
            account.liquidating, account.sale_asked, account.demand = False, False, None
            for call in account.calls:
                if call.state == "OPEN":
                    call.state = "CURED"
                    self._tell(account, "call_cured", now, call=self._name(account, call), unpaid=call.unpaid)
        if now.ratio("close_out") is True and not account.liquidating:
            account.liquidating = account.sale_asked = True
        breach = now.ratio("call")
        if account.liquidating:
            account.persistence = None
        elif breach is False:
            account.persistence, account.suppressed = None, False
        elif account.suppressed:
            minimum = profile.amounts["minimum_transfer"] * 10**account.scale
            if both(breach, now.short_of(minimum, strictly=profile.suppressed_at_minimum)) is True:
                account.suppressed = False
                self._issue(account, now, now.shortfall)
        else:
            condition = self._condition(account, now)
            if condition is False:
                account.persistence = None
            elif condition is True and account.persistence is None:
                account.persistence = self.clock
        if self._holds(account, now.ratio("bankrupt"), "BANKRUPT"):
            level = "BANKRUPT"
        elif account.liquidating:
            level = "LIQUIDATING"
        elif self._holds(account, breach, "DEFICIT"):
            level = "DEFICIT"
        else:
            level = "WARNING" if self._holds(account, now.ratio("warn"), "WARNING") else "HEALTHY"
        if level != account.level:
            previous, account.level = account.level, level
            if (previous, level) == ("HEALTHY", "WARNING"):
                self._tell(account, "margin_warned", now)
            else:
                self._tell(account, "margin_level_changed", now, level=level, previous=previous)
        if account.sale_asked:
            account.sale_asked = False
            legs, total = self._sale(account, now)
            if total >= profile.amounts["liquidation_minimum"] * 10**account.scale:
                self._demand(account, now, legs, total)

    def _issue(self, account: Account, now: Valuation, amount: int) -> None:
        """Issue a call; ``amount`` is before rounding."""
        assert account.profile is not None
        rounding = account.profile.amounts["rounding"] * 10**account.scale
        rounded = ceil(ceil(amount / rounding) * rounding) if rounding else amount
        call = Call(len(account.calls) + 1, rounded, self.clock, self.clock + account.profile.spans["due_after_s"])
        tranche = 1 + len(account.open_calls())
        account.calls.append(call)
        fields: dict[str, object] = {"amount": rounded, "shortfall": now.shortfall, "due_at_ns": call.due, "call_type": "maintenance", "tranche": tranche}
        self._tell(account, "margin_call_issued", now, call=self._name(account, call), **fields)

    # --------------------------------------------------------------------------------------------------------------------- timers
    def _timers(self, account: Account) -> None:
        if account.profile is None:
            return
        while True:
            due = [(c.due, "call_due", c.number) for c in account.open_calls() if not c.overdue and self.clock > c.due]
            now = self._value(account)
            if account.persistence is not None:
                matures = account.persistence + account.profile.spans["call_persistence_s"]
                if account.unpaid() > 0:
                    matures = max(matures, self._interval_ends(account))
                if self.clock >= matures and self._condition(account, now) is True:
                    due.append((matures, "persistence", 0))
            if not due:
                return
            _, kind, call_number = min(due)
            if kind == "persistence":
                self._mature(account, now)
            else:
                self._fall_due(account, now, account.calls[call_number - 1])
            self._evaluate(account)

    def _fall_due(self, account: Account, now: Valuation, call: Call) -> None:
        call.overdue = True
        if now.ratio("restore") is None:
            self._tell(account, "call_escalated", now, call=self._name(account, call), unpaid=call.unpaid)
            return
        self._tell(account, "call_expired", now, call=self._name(account, call), unpaid=call.unpaid)
        if not account.liquidating:
            account.liquidating = account.sale_asked = True

    def _mature(self, account: Account, now: Valuation) -> None:
        profile, shortfall = account.profile, now.shortfall
        assert profile is not None
        cured = [c for c in account.calls if c.state == "CURED" and c.unpaid and c.issued + profile.spans["reopen_within_s"] >= self.clock]
        for call in sorted(cured, key=lambda c: (c.due, c.number)):
            if shortfall > account.unpaid():
                self._reopen(account, now, call, "breach")
        account.persistence = None
        unpaid = account.unpaid()
        if unpaid > 0:
            if shortfall - unpaid >= self._step(account, unpaid) and self.clock >= self._interval_ends(account):
                self._issue(account, now, shortfall - unpaid)
            return
        minimum = profile.amounts["minimum_transfer"] * 10**account.scale
        if shortfall < minimum or (shortfall == minimum and profile.suppressed_at_minimum):
            account.suppressed = True
            self._tell(account, "call_suppressed_below_minimum", now, shortfall=shortfall, minimum=ceil(minimum))
        else:
            self._issue(account, now, shortfall)

    # ----------------------------------------------------------------------------------------------------------------------- sale
    def _sale(self, account: Account, now: Valuation) -> tuple[list[dict[str, str]], int]:
        """Return the legs of the sale that would restore the account now, and their sum in minor units."""
        assert account.profile is not None
        restore = account.profile.ratios["restore"]
        gap = restore * now.d - now.v
        assets = [(account.profile.assets[a].haircut, self._instruments[a].order, a) for a in account.profile.assets]
        legs: list[dict[str, str]] = []
        total = 0
        for haircut, _, name in sorted(assets):
            asset, balance = account.profile.assets[name], account.balances.get(name, Fraction(0))
            gained = restore - (1 - haircut)
            if gap <= 0 or balance <= 0 or not asset.marked or gained <= 0:
                continue
            sold = min(ceil(gap / gained), floor(balance * asset.price() * 10**account.scale))
            if sold > 0:
                gap -= sold * gained
                total += sold
                legs.append({"asset": name, "amount": show(sold, account.scale)})
        return legs, total

    def _demand(self, account: Account, now: Valuation, legs: list[dict[str, str]], total: int) -> None:
        supersedes = account.demand[0] if account.demand else 0
        account.demands += 1
        account.demand = (account.demands, total) if total else None
        self._tell(account, "liquidation_due", now, number=account.demands, amount=total, legs=legs, supersedes=supersedes)

    def _revise(self, account: Account) -> None:
        """After money or a trade while liquidating: lower the standing demand, or make one where none stands."""
        if account.profile is None or not account.liquidating:
            return
        now = self._value(account)
        legs, total = self._sale(account, now)
        enough = total >= account.profile.amounts["liquidation_minimum"] * 10**account.scale
        if account.demand is None:
            if enough:
                self._demand(account, now, legs, total)
        elif total < account.demand[1]:
            self._demand(account, now, legs if enough else [], total if enough else 0)


# ==================================================================================================== perpetuals and subaccounts
SIDES = ("both", "long", "short")
BOUNDLESS = 10**90
"""A price (in price units) above every bound that a level could ask for: the greatest price of what was never marked."""
SPANLESS = 10**400
"""More than any amount at any price: what an unbounded requirement or debit may come to."""
DAY = 86_400 * 10**9


@dataclass
class Position:
    """One of the three positions of an instrument in a subaccount. Money in minor units of the settlement currency."""

    quantity: int = 0  # in quantity units
    cost: int = 0
    realised: int = 0
    fees: int = 0
    leverage: int = 0
    delivers: bool = False  # spot and equity: what is held is among the balances


@dataclass(eq=False)
class Holder(Account):
    """One subaccount of an account: cross if ``pocket`` is empty."""

    pocket: str = ""
    whole: Any = None
    """The cross subaccount of the same account."""
    positions_by_side: dict[tuple[str, str], Position] = field(default_factory=dict)
    isolated: dict[str, Holder] = field(default_factory=dict)
    traded: bool = False

    def holders(self) -> list[Holder]:
        """Return cross, then the isolated subaccounts by name."""
        return [self, *(self.isolated[name] for name in sorted(self.isolated))]

    def open_positions(self) -> list[tuple[str, str, Position]]:
        return [(name, side, p) for (name, side), p in self.positions_by_side.items() if p.quantity and not p.delivers]


class Bracket:
    """One row of a table, in whole currency."""

    def __init__(self, row: dict[str, object]) -> None:
        self.floor = number(row["floor"])
        self.rate = number(row["maintenance_rate"])
        self.amount = number(row["maintenance_amount"])
        self.max_leverage = number(row["max_leverage"])


class UsdmProfile(Profile):
    def __init__(self, parameters: dict[str, object], instruments: dict[str, Instrument]) -> None:
        super().__init__(parameters | {"liquidation_minimum": parameters.get("liquidation_minimum", "0")}, instruments)
        self.levels = {
            "warn": number(parameters.get("warn", "1.25")),
            "close_out": Fraction(1),
            "restore": number(parameters.get("restore", "1.25")),
            "bankrupt": Fraction(0),
        }
        self.breach_at_level = parameters.get("at_level", "breach") == "breach"
        self.default_leverage = int(str(parameters.get("default_leverage", 20)))
        tables = parameters["brackets"]
        assert isinstance(tables, dict)
        self.known_margins: dict[tuple[str, int, int, int], int] = {}
        self.known_turns: dict[tuple[object, ...], list[Fraction]] = {}
        self.tables = {name: [Bracket(row) for row in rows] for name, rows in tables.items()}

    def bracket(self, instrument: str, notional: Fraction) -> Bracket:
        """Return the last bracket whose floor is at or below the notional (in whole currency)."""
        return [row for row in self.tables[instrument] if row.floor <= notional][-1]


class UsdmValuation(Valuation):
    """Equity and maintenance margin of a subaccount now, and its guards."""

    def __init__(self, holder: Holder, oracle: Oracle) -> None:
        assert isinstance(holder.profile, UsdmProfile)
        self.holder, self.oracle, self.terms = holder, oracle, holder.profile
        self.guards = {}
        self.minor = 10**holder.scale
        self.v = sum(asset.mark * factor // divisor for asset, factor, divisor in holder.lines)
        self.d = 0
        for name, _, position in holder.open_positions():
            instrument = oracle.instrument(name)
            if instrument.mark is not None and name in self.terms.tables:
                self.v += self.profit(instrument, position, instrument.mark)
                self.d += self.requirement(instrument, abs(position.quantity), instrument.mark)

    def stale(self, liquidating: bool) -> bool:
        """Whether a guard that matters is undecided (nothing is called here)."""
        names = ("warn", "bankrupt", "restore") + (() if liquidating else ("close_out",))
        return any(self.ratio(name) is None for name in names)

    def fields(self, scale: int) -> dict[str, object]:
        figures = {"equity": self.v, "initial_requirement": self.initial(), "maintenance_requirement": self.d}
        return {name: show(figure, scale) for name, figure in figures.items()}

    def worth(self, instrument: Instrument, quantity: int, price: int) -> Fraction:
        """Return quantity times price in minor units, exactly."""
        return Fraction(quantity * price * self.minor, 10 ** (instrument.scale + instrument.price_scale))

    def profit(self, instrument: Instrument, position: Position, price: int) -> int:
        return position.quantity * price * self.minor // 10 ** (instrument.scale + instrument.price_scale) - position.cost

    def requirement(self, instrument: Instrument, quantity: int, price: int) -> int:
        """Return the maintenance margin of so much of a perpetual. (Asked often for the same, so what was found is kept.)"""
        key, known = (instrument.name, quantity, price, self.minor), self.terms.known_margins
        if key not in known:
            notional = self.worth(instrument, quantity, price)
            row = self.terms.bracket(instrument.name, notional / self.minor)
            known[key] = ceil(max(notional * row.rate - row.amount * self.minor, Fraction(0)))
        return known[key]

    def initial(self) -> int:
        total = 0
        for name, _, position in self.holder.open_positions():
            instrument = self.oracle.instrument(name)
            if instrument.mark is None or name not in self.terms.tables:
                continue
            notional = self.worth(instrument, abs(position.quantity), instrument.mark)
            most = self.terms.bracket(name, notional / self.minor).max_leverage
            total += ceil(notional / min(Fraction(position.leverage or self.terms.default_leverage), most))
        return total

    # ----------------------------------------------------------------------------------------------------------------- the guards
    def _ratio(self, name: str) -> Guard:
        if name == "call":
            return False
        level = self.terms.levels[name]
        equal = name != "bankrupt" and self.terms.breach_at_level

        def holds(gap: Fraction | int) -> bool:
            return gap < 0 or (equal and gap == 0)

        least, most, required = self._spread(level)
        if not required:
            equal = False  # nothing is required at any price: with an equity of 0 none is true
        return self._decide(holds(least), holds(most))

    @staticmethod
    def _decide(at_least: bool, at_most: bool) -> Guard:
        """A gap between two bounds: true if it holds even at the greatest, false if it fails even at the least."""
        return True if at_most else None if at_least else False

    def _spread(self, level: Fraction) -> tuple[Fraction, Fraction, bool]:
        """Return the least and the greatest of E - level x M over all prices that are left open, and whether anything is required at any of them."""
        least, most = (Fraction(value) for value in self._collateral())
        required = False
        by_instrument: dict[str, list[Position]] = {}
        for name, _, position in self.holder.open_positions():
            if name in self.terms.tables:
                by_instrument.setdefault(name, []).append(position)
            else:
                least, most, required = least - SPANLESS, most + SPANLESS, True
        for name, positions in by_instrument.items():
            instrument = self.oracle.instrument(name)
            if instrument.fresh:
                mark = instrument.mark
                assert mark is not None
                profit = sum(self.profit(instrument, p, mark) for p in positions)
                margins = [Fraction(sum(self.requirement(instrument, abs(p.quantity), mark) for p in positions))]
                gaps = [profit - level * margins[0]]
            else:
                # Not rounded: straight lines between the kinks.
                turns = self._turns(instrument, positions)
                margins = [sum((self._margin(instrument, p, price) for p in positions), Fraction(0)) for price in turns]
                profits = [sum(self._unrounded(instrument, p.quantity, price) - p.cost for p in positions) for price in turns]
                gaps = [profit - level * margin for profit, margin in zip(profits, margins, strict=True)]
            required = required or any(margins)
            least, most = least + min(gaps), most + max(gaps)
        if self.holder.owes_unknown:
            least -= SPANLESS
        return least, most, required

    def _unrounded(self, instrument: Instrument, quantity: int, price: Fraction) -> Fraction:
        """Return quantity times price in minor units, exactly."""
        return price * Fraction(quantity * self.minor, 10 ** (instrument.scale + instrument.price_scale))

    def _margin(self, instrument: Instrument, position: Position, price: Fraction) -> Fraction:
        """Return the maintenance margin of a position, exactly."""
        notional = self._unrounded(instrument, abs(position.quantity), price)
        row = self.terms.bracket(instrument.name, notional / self.minor)
        return max(notional * row.rate - row.amount * self.minor, Fraction(0))

    def _turns(self, instrument: Instrument, positions: list[Position]) -> list[Fraction]:
        """Return the prices between which the gap runs straight: the ends, and every kink."""
        low = max(1, instrument.low())
        high = instrument.high()
        high = BOUNDLESS if high is None else max(1, high)
        key = (instrument.name, low, high, *(abs(position.quantity) for position in positions))
        if key in self.terms.known_turns:
            return self.terms.known_turns[key]
        kinks = [Fraction(low), Fraction(high)]
        for position in positions:
            unit = Fraction(abs(position.quantity), 10 ** (instrument.scale + instrument.price_scale))
            kinks += [row.floor / unit for row in self.terms.tables[instrument.name]]
        self.terms.known_turns[key] = sorted({price for price in kinks if low <= price <= high})
        return self.terms.known_turns[key]

    def _collateral(self) -> tuple[int, int]:
        """Return least and greatest value of the balances, asset by asset."""
        least = most = 0
        for asset, factor, divisor in self.holder.lines:
            low = high = 1
            for instrument in asset.route:
                end = instrument.high()
                if instrument.fresh and instrument.mark is not None:
                    low, high = low * instrument.mark, high * instrument.mark
                else:
                    low *= max(1, instrument.low())
                    high *= BOUNDLESS if end is None else max(1, end)
            ends = (low * factor // divisor, high * factor // divisor)
            least, most = least + min(ends), most + max(ends)
        return least, most


class Oracle(PrimeOracle):
    """Feed it inputs in the order of the journal; read ``effects``, ``refusals``, ``facts()``."""

    def __init__(self, answers: dict[int, tuple[bool, ...]] | None = None) -> None:
        super().__init__()
        self._answers = answers or {}
        self.windows_of_item = 0
        self.refusals: list[tuple[int, str]] = []
        self.windows = 0
        self._versions: dict[str, int] = {}
        self._models: dict[tuple[str, int], str] = {}
        self._took_effect: dict[str, int] = {}
        self._feeds: set[str] = set()

    def instrument(self, name: str) -> Instrument:
        return self._instruments[name]

    def window(self, sharp: Guard) -> Guard:
        """A guard within the rounding of its level: the sharp answer or undecided."""
        answers, place = self._answers.get(self._position, ()), self.windows_of_item
        self.windows += 1
        self.windows_of_item += 1
        return sharp if place < len(answers) and answers[place] else None

    def feed(self, event: dict[str, Any]) -> None:
        self.windows_of_item = 0
        if event["type"] in ("price_ticked", "clock_ticked"):
            self._feeds.add(str(event.get("source", "")))
        reason = self._refusal(event)
        if reason:
            self._position += 1
            self.refusals.append((self._position, reason))
            return
        if event["type"] == "funding_paid":
            self._position += 1
            self._fund(event)
            self._said.sort(key=lambda said: said[0])
            self.effects.extend(effect for _, effect in self._said)
            self._said.clear()
            return
        if event["type"] == "profile_activated":
            self._versions[event["profile"]] = event["version"]
            self._models[event["profile"], event["version"]] = event["model"]
        super().feed(event)

    def holder(self, name: object) -> Holder:
        account = self._accounts[str(name)]
        assert isinstance(account, Holder)
        return account

    # ------------------------------------------------------------------------------------------------------------------- refusals
    def _refusal(self, event: dict[str, Any]) -> str:
        """Return why an input of a valid form is refused, or nothing."""
        kind = event["type"]
        if kind == "clock_ticked":
            time = moment(event["time"])
            if self.clock and time < self.clock:
                return "clock_backwards"
            return "clock_jump_unconfirmed" if self.clock and time > self.clock + 8 * DAY and not event.get("confirmed_by") else ""
        if not self.clock and kind in ("price_ticked", "mark_confirmed", "feed_restarted", "position_changed", "collateral_moved", "funding_paid"):
            return "clock_required"
        if kind == "instrument_listed":
            return "instrument_listed_already" if event["instrument"] in self._instruments else ""
        if kind == "profile_activated":
            return "profile_version_not_newer" if event["version"] <= self._versions.get(event["profile"], 0) else ""
        if kind == "account_opened":
            if event["account"] in self._accounts:
                return "account_opened_already"
            return "" if event["profile"] in self._versions else "profile_unknown"
        if kind == "account_changed":
            if event["account"] not in self._accounts:
                return "account_unknown"
            if event.get("profile") is None:
                return ""
            if event["profile"] not in self._versions:
                return "profile_unknown"
            account = self.holder(event["account"])
            if event["profile"] == account.profile_name:  # no change
                return ""
            return "" if self._suits(account, str(event["profile"])) else "profile_does_not_fit"
        if kind == "feed_restarted":
            return "" if event["feed"] in self._feeds else "feed_unknown"
        if kind in ("price_ticked", "mark_confirmed", "position_changed", "funding_paid"):
            instrument = self._instruments.get(event["instrument"])
            if instrument is None:
                return "instrument_unknown"
            if instrument.kind == "currency" or (kind == "funding_paid" and instrument.kind != "perpetual"):
                return "not_tradable"
            if kind == "price_ticked":
                return "" if fits(event, instrument.price_scale, "price", "bid", "ask") else "wrong_scale"
            if kind == "mark_confirmed":
                if not fits(event, instrument.price_scale, "price"):
                    return "wrong_scale"
                return "out_of_range" if not 0 < number(event["price"]) * 10**instrument.price_scale < 2**62 else ""
            if kind == "funding_paid":
                return self._refused_funding(event, instrument)
            return self._refused_trade(event, instrument)
        if kind == "collateral_moved":
            return self._refused_money(event)
        return ""

    def _suits(self, account: Holder, name: str) -> bool:
        """Whether a profile, as it is in force, margins every open position in a perpetual."""
        perpetuals = {perpetual for holder in account.holders() for perpetual, _, _ in holder.open_positions()}
        profile = self._profiles.get(name)
        return not perpetuals or (isinstance(profile, UsdmProfile) and perpetuals <= profile.tables.keys())

    def _refused_trade(self, event: dict[str, Any], instrument: Instrument) -> str:
        if event["account"] not in self._accounts:
            return "account_unknown"
        profile = self.holder(event["account"]).profile
        perpetual = instrument.kind == "perpetual"
        if isinstance(profile, UsdmProfile):
            if not perpetual or instrument.name not in profile.tables:
                return "instrument_not_margined"
        elif profile is not None and perpetual:
            return "instrument_not_margined"
        margin = number(event.get("isolated_margin_delta", "0"))
        name = event.get("isolated", "")
        if not perpetual and (name or margin or event.get("leverage", 0) or event.get("position_side", "both") != "both"):
            return "isolated_invalid"
        if margin and not name:
            return "isolated_invalid"
        money = self._instruments[instrument.currency].scale
        if number(event["price"]) < 0 or not all(
            abs(number(event.get(name, "0"))) * 10**scale < 2 ** (62 if name == "price" else 127)
            for name, scale in (
                ("quantity_delta", instrument.scale),
                ("price", instrument.price_scale),
                ("fee", money),
                ("isolated_margin_delta", money),
            )
        ):
            out = "out_of_range"
        else:
            out = ""
        if not (
            fits(event, instrument.scale, "quantity_delta")
            and fits(event, instrument.price_scale, "price")
            and fits(event, money, "fee", "isolated_margin_delta")
        ):
            return "wrong_scale"
        return out

    def _refused_money(self, event: dict[str, Any]) -> str:
        asset = self._instruments.get(event["asset"])
        if asset is None or asset.kind not in ("currency", "equity"):
            return "asset_unknown"
        if event["account"] not in self._accounts:
            return "account_unknown"
        profile = self.holder(event["account"]).profile
        name, origin = event.get("isolated", ""), event.get("from_isolated")
        prime = profile is not None and not isinstance(profile, UsdmProfile)
        if origin == name or (prime and (name or origin)):
            return "isolated_invalid"
        if not fits(event, asset.scale, "amount_delta"):
            return "wrong_scale"
        if abs(number(event["amount_delta"])) * 10**asset.scale >= 2**127:
            return "out_of_range"
        return "out_of_range" if origin is not None and number(event["amount_delta"]) <= 0 else ""

    @staticmethod
    def _refused_funding(event: dict[str, Any], instrument: Instrument) -> str:
        if not fits(event, instrument.price_scale, "price") or not fits(event, 18, "rate"):
            return "wrong_scale"
        if abs(number(event["rate"])) >= 1 or not 0 <= number(event.get("price") or "0") * 10**instrument.price_scale < 2**62:
            return "out_of_range"
        return "mark_required" if event.get("price") is None and instrument.mark is None else ""

    # --------------------------------------------------------------------------------------------------------- accounts, profiles
    def _open(self, event: dict[str, object]) -> None:
        name, currency = str(event["account"]), str(event["base_currency"])
        account = Holder(name, currency, self._instruments[currency].scale, str(event["profile"]))
        account.whole = account
        self._accounts[name] = account
        self._adopt(account)
        self._settle(account)

    def _change(self, event: dict[str, object]) -> None:
        account = self.holder(event["account"])
        if event.get("profile") is not None:
            account.profile_name = str(event["profile"])
            self._adopt(account)
        self._settle(account)

    def _adopt(self, account: Account) -> None:
        assert isinstance(account, Holder)
        for holder in account.whole.holders():
            holder.profile = self._profiles.get(account.profile_name)
            self._reread(holder)
        if account.whole.profile is not None and not isinstance(account.whole.profile, UsdmProfile):
            for holder in account.whole.holders():
                if holder.pocket and not holder.open_positions():
                    self._end(account.whole, holder)

    def _reread(self, account: Account) -> None:
        """Note anew which balances are valued how. (Every account is looked at, so nobody is kept as a reader.)"""
        assert isinstance(account, Holder)
        account.lines, account.owes_unknown = [], False
        if account.profile is None:
            return
        for name, balance in account.balances.items():
            asset = account.profile.assets.get(name)
            if balance == 0:
                continue
            if asset is None:
                account.owes_unknown = account.owes_unknown or balance < 0
                continue
            kept = balance * (1 - asset.haircut) if balance > 0 else balance
            factor = kept * Fraction(10**account.scale, 10**asset.scale)
            account.lines.append((asset, factor.numerator, factor.denominator))
        if account.open_positions() and not isinstance(account.profile, UsdmProfile):
            # Like an asset that the profile does not name: it adds nothing, and owes without bound.
            account.owes_unknown = True

    def _value(self, account: Account) -> Valuation:
        assert isinstance(account, Holder)
        if isinstance(account.profile, UsdmProfile):
            return UsdmValuation(account, self)
        value = Valuation(account)
        if account.open_positions():
            # What a perpetual is worth is not known under this profile, either way.
            value.v_high = None
        return value

    def _tick(self, time: int) -> None:
        self.clock = time
        due = sorted((a for a in self._activations if a[0] <= time), key=lambda a: a[:3])
        for activation in due:
            self._activations.remove(activation)
            _, name, version, parameters = activation
            if version < self._took_effect.get(name, 0):
                continue
            self._took_effect[name] = version
            replaced = self._profiles.get(name)
            if replaced is not None:
                for instrument in self._instruments.values():
                    instrument.feeds = [a for a in instrument.feeds if a not in replaced.assets.values()]
            make = UsdmProfile if self._models[name, version] == "binance-usdm" else Profile
            self._profiles[name] = make(parameters, self._instruments)
            for account in self._accounts.values():
                if account.profile_name == name:
                    self._adopt(account)
            self._say("@market", "profile_took_effect", profile=name, version=version)
        for instrument in self._instruments.values():
            if instrument.mark is not None and not instrument.stale and time - instrument.marked_at > instrument.stale_after:
                instrument.stale = True
                for asset in instrument.feeds:
                    asset.refresh()
                mark = show(instrument.mark, instrument.price_scale)
                self._say("@market", "feed_went_stale", instrument=instrument.name, mark=mark, marked_at_ns=instrument.marked_at)
        for account in self._accounts.values():
            self._settle(account)
            self._timers(account)

    def _marked(self, instrument: Instrument, first: bool) -> None:
        for account in self._accounts.values():
            assert isinstance(account, Holder)
            if first or any(self._reads(holder, instrument) for holder in account.holders()):
                self._settle(account)

    @staticmethod
    def _reads(holder: Holder, instrument: Instrument) -> bool:
        """A holder that reads nothing of an instrument is worth what it was."""
        held = any(name == instrument.name for name, _, _ in holder.open_positions())
        return held or any(instrument in asset.route for asset, _, _ in holder.lines)

    # ------------------------------------------------------------------------------------------------------------------- bookings
    def _subaccount(self, account: Holder, name: object) -> Holder:
        """Return a subaccount of the account; one that is named for the first time is made."""
        if not name:
            return account
        if str(name) not in account.isolated:
            made = Holder(account.name, account.currency, account.scale, account.profile_name, account.profile)
            made.pocket, made.whole = str(name), account
            account.isolated[str(name)] = made
        return account.isolated[str(name)]

    def _book(self, holder: Holder, asset: str, delta: Fraction) -> None:
        holder.balances[asset] = holder.balances.get(asset, Fraction(0)) + delta
        self._reread(holder)

    def _money(self, event: dict[str, object]) -> None:
        account = self.holder(event["account"])
        if not event.get("isolated") and event.get("from_isolated") is None:
            asset, named = str(event["asset"]), str(event.get("call", ""))
            before, delta = account.balances.get(asset, Fraction(0)), number(event["amount_delta"])
            self._book(account, asset, delta)
            if account.calls or named:
                self._count(account, asset, before, delta, named)
            self._follow(account, [account])
            return
        target = self._subaccount(account, event.get("isolated", ""))
        delta = number(event["amount_delta"])
        touched = [target]
        if event.get("from_isolated") is not None:
            origin = self._subaccount(account, event["from_isolated"])
            self._book(origin, str(event["asset"]), -delta)
            touched.append(origin)
        self._book(target, str(event["asset"]), delta)
        self._follow(account, touched)

    def _count(self, account: Holder, asset: str, before: Fraction, delta: Fraction, named: str) -> None:
        """Note money that may answer a call; it is credited when the account is settled."""
        call = next((c.number for c in account.calls if self._name(account, c) == named), 0)
        if named and not call and delta > 0:
            self._tell(account, "call_reference_unmatched", None, call=named)
        if delta > 0:
            repaid = min(delta, max(Fraction(0), -before))
        else:
            repaid = -delta - min(-delta, max(Fraction(0), before))
        account.waiting.append(Money(asset, repaid, abs(delta) - repaid, delta > 0, call))

    def _trade(self, event: dict[str, object]) -> None:
        account, instrument = self.holder(event["account"]), self._instruments[str(event["instrument"])]
        holder = self._subaccount(account, event.get("isolated", ""))
        quantity, price = units(str(event["quantity_delta"]), instrument.scale), units(str(event["price"]), instrument.price_scale)
        money = self._instruments[instrument.currency].scale
        fee = units(str(event.get("fee", "0")), money)
        far = instrument.mark is not None and not instrument.inside(price, self.clock)
        position = holder.positions_by_side.setdefault((instrument.name, str(event.get("position_side", "both"))), Position())
        position.leverage = int(str(event.get("leverage", 0))) or position.leverage
        held = position.quantity
        parts = [-held, quantity + held] if held * quantity < 0 and abs(quantity) > abs(held) else [quantity]
        cash = realised = 0
        for part in parts:
            paid = floor(Fraction(-part * price * 10**money, 10 ** (instrument.scale + instrument.price_scale)))
            cash += paid
            if position.quantity * part < 0:
                released = floor(Fraction(position.cost * abs(part), abs(position.quantity)))
                position.cost -= released
                realised += paid - released
            else:
                position.cost -= paid
            position.quantity += part
        position.realised += realised
        position.fees += fee
        touched = [holder]
        if instrument.kind == "perpetual":
            holder.traded = True
            self._book(holder, instrument.currency, Fraction(realised - fee, 10**money))
            margin = number(event.get("isolated_margin_delta", "0"))
            if margin:
                self._book(account, instrument.currency, -margin)
                self._book(holder, instrument.currency, margin)
                touched.append(account)
        else:
            position.delivers = True
            self._book(holder, instrument.base if instrument.kind == "spot" else instrument.name, number(event["quantity_delta"]))
            self._book(holder, instrument.currency, Fraction(cash - fee, 10**money))
        self._settle(account, touched)
        if far:
            texts = {"price": show(price, instrument.price_scale), "mark": show(instrument.mark or 0, instrument.price_scale)}
            self._tell(holder, "trade_far_from_mark", None, instrument=instrument.name, **texts)
        self._leave(account, touched)

    def _fund(self, event: dict[str, Any]) -> None:
        instrument = self._instruments[event["instrument"]]
        price = instrument.mark if event.get("price") is None else units(str(event["price"]), instrument.price_scale)
        assert price is not None
        money = self._instruments[instrument.currency].scale
        shift = Fraction(10**money, 10 ** (instrument.scale + instrument.price_scale))
        for account in self._accounts.values():
            assert isinstance(account, Holder)
            touched = []
            for holder in account.holders():
                positions = [p for name, _, p in holder.open_positions() if name == instrument.name]
                if positions:
                    moved = sum(floor(-p.quantity * price * number(event["rate"]) * shift) for p in positions)
                    self._book(holder, instrument.currency, Fraction(moved, 10**money))
                    touched.append(holder)
            if touched:
                self._follow(account, touched)

    # --------------------------------------------------------------------------------------------------------------- what follows
    def _follow(self, account: Holder, touched: list[Holder]) -> None:
        """After a booking: everything is evaluated, with the demands of the touched subaccounts; empty subaccounts end."""
        self._settle(account, touched)
        self._leave(account, touched)

    def _leave(self, account: Holder, touched: list[Holder]) -> None:
        """End the touched subaccounts that have nothing left to hold."""
        for holder in [h for h in account.holders() if h in touched and h.pocket]:
            if holder.open_positions():
                continue
            if not holder.traded:
                if not any(holder.balances.values()):
                    del account.isolated[holder.pocket]
                continue
            if any(balance < 0 for balance in holder.balances.values()):
                continue
            self._sweep(account, holder)

    def _sweep(self, account: Holder, holder: Holder) -> None:
        if self._end(account, holder):
            self._settle(account, [account])

    def _end(self, account: Holder, holder: Holder) -> bool:
        """End a subaccount; return whether it left anything."""
        del account.isolated[holder.pocket]
        for key, position in holder.positions_by_side.items():
            kept = account.positions_by_side.setdefault(key, Position())
            kept.realised += position.realised
            kept.fees += position.fees
        if any(holder.balances.values()):
            for asset, balance in holder.balances.items():
                self._book(account, asset, balance)
            return True
        return False

    def _settle(self, account: Account, touched: Iterable[Holder] = ()) -> None:
        """Evaluate cross, then subaccounts by name; where there was money, a trade or funding, a demand is the last part of it."""
        assert isinstance(account, Holder)
        super()._settle(account)  # cross
        for holder in account.holders():
            if holder.pocket and isinstance(account.profile, UsdmProfile):
                self._evaluate(holder)
            if holder in touched and (not holder.pocket or isinstance(account.profile, UsdmProfile)):
                self._revise(holder)

    def _evaluate(self, account: Account) -> None:
        if not isinstance(account.profile, UsdmProfile):
            super()._evaluate(account)
            return
        now = self._value(account)
        account.persistence, account.suppressed = None, False
        if now.ratio("restore") is False:
            account.liquidating, account.sale_asked, account.demand = False, False, None
            for call in account.calls:  # issued under another profile
                if call.state == "OPEN":
                    call.state = "CURED"
                    self._tell(account, "call_cured", now, call=self._name(account, call), unpaid=call.unpaid)
        if now.ratio("close_out") is True and not account.liquidating:
            account.liquidating = account.sale_asked = True
        if self._holds(account, now.ratio("bankrupt"), "BANKRUPT"):
            level = "BANKRUPT"
        elif account.liquidating:
            level = "LIQUIDATING"
        else:
            level = "WARNING" if self._holds(account, now.ratio("warn"), "WARNING") else "HEALTHY"
        if level != account.level:
            previous, account.level = account.level, level
            if (previous, level) == ("HEALTHY", "WARNING"):
                self._tell(account, "margin_warned", now)
            else:
                self._tell(account, "margin_level_changed", now, level=level, previous=previous)
        if account.sale_asked:
            account.sale_asked = False
            legs, total = self._sale(account, now)
            if total and self._enough(account, total):
                self._demand(account, now, legs, total)

    def _tell(self, account: Account, kind: str, value: Valuation | None, **fields: object) -> None:
        assert isinstance(account, Holder)
        if account.pocket:
            fields["isolated"] = account.pocket
        super()._tell(account, kind, value, **fields)

    # ----------------------------------------------------------------------------------------------------------------------- sale
    @staticmethod
    def _enough(account: Account, total: int) -> bool:
        assert account.profile is not None
        return total >= account.profile.amounts["liquidation_minimum"] * 10**account.scale

    def _sale(self, account: Account, now: Valuation) -> tuple[list[dict[str, str]], int]:
        if not isinstance(now, UsdmValuation):
            return super()._sale(account, now)
        held = []
        for name, side, position in now.holder.open_positions():
            instrument = self._instruments[name]
            if instrument.mark is not None and name in now.terms.tables:
                margin = now.requirement(instrument, abs(position.quantity), instrument.mark)
                held.append((-margin, instrument.order, SIDES.index(side), instrument, position))
        held.sort(key=lambda row: row[:3])
        level, equal = now.terms.levels["restore"], now.terms.breach_at_level
        legs: list[dict[str, str]] = []
        total, required = 0, now.d

        def short(margin: int) -> bool:
            if margin == 0 and now.v >= 0:
                return False
            return now.v < level * margin or (equal and now.v == level * margin)

        for margin, _, side, instrument, position in held:
            if not short(required):
                break
            assert instrument.mark is not None
            size, others = abs(position.quantity), required + margin
            low, high = 0, size  # short after closing low; the least enough is at most high, or all of it
            while high - low > 1:
                middle = (low + high) // 2
                if short(others + now.requirement(instrument, size - middle, instrument.mark)):
                    low = middle
                else:
                    high = middle
            required = others + now.requirement(instrument, size - high, instrument.mark)
            amount = floor(now.worth(instrument, high, instrument.mark))
            total += amount
            leg = {"asset": instrument.name, "amount": show(amount, account.scale)}
            leg["quantity"] = show(-high if position.quantity > 0 else high, instrument.scale)
            if SIDES[side] != "both":
                leg["position_side"] = SIDES[side]
            legs.append(leg)
        return legs, total

    def _demand(self, account: Account, now: Valuation, legs: list[dict[str, str]], total: int) -> None:
        assert isinstance(account, Holder)
        supersedes = account.demand[0] if account.demand else 0
        account.whole.demands += 1
        number_ = account.whole.demands
        account.demand = (number_, total) if total else None
        self._tell(account, "liquidation_due", now, number=number_, amount=total, legs=legs, supersedes=supersedes)

    def _revise(self, account: Account) -> None:
        if not isinstance(account.profile, UsdmProfile):
            super()._revise(account)
            return
        if not account.liquidating:
            return
        now = self._value(account)
        legs, total = self._sale(account, now)
        if account.demand is None:
            if total and self._enough(account, total):
                self._demand(account, now, legs, total)
        elif total < account.demand[1]:
            if self._enough(account, total):
                self._demand(account, now, legs, total)
            else:
                self._demand(account, now, [], 0)

    # ---------------------------------------------------------------------------------------------------------------------- facts
    def facts(self) -> dict[str, dict[str, Any]]:
        """Return what every account holds in the end, per subaccount ("" is cross), empty entries left out."""
        return {
            name: {holder.pocket: self._facts(holder) for holder in self.holder(name).holders()}
            | {
                "calls": [
                    (self._name(account, c), show(c.amount, account.scale), show(c.paid, account.scale), c.state == "OPEN")
                    for c in account.calls
                ]
            }
            for name, account in self._accounts.items()
        }

    def _facts(self, holder: Holder) -> dict[str, Any]:
        positions = {}
        for (name, side), p in sorted(holder.positions_by_side.items()):
            instrument = self._instruments[name]
            money = self._instruments[instrument.currency].scale
            row = (show(p.quantity, instrument.scale), show(p.cost, money), show(p.realised, money), show(p.fees, money), p.leverage)
            if p.quantity or p.cost or p.realised or p.fees or p.leverage:
                positions[f"{name} {side}"] = row
        facts: dict[str, Any] = {
            "level": holder.level,
            "liquidating": holder.liquidating,
            "balances": {
                asset: show(int(balance * 10 ** self._instruments[asset].scale), self._instruments[asset].scale)
                for asset, balance in sorted(holder.balances.items())
                if balance
            },
            "positions": positions,
            "demand": show(holder.demand[1], holder.scale) if holder.demand else None,
        }
        if holder.profile is not None:
            now = self._value(holder)
            facts["value"], facts["debit"] = show(now.v, holder.scale), show(now.d, holder.scale)
            initial = now.initial() if isinstance(now, UsdmValuation) else ceil(now.d * now.profile.initial)
            facts["initial"] = show(initial, holder.scale)
        return facts


def fits(event: dict[str, Any], scale: int, *names: str) -> bool:
    """Return whether the named decimals have no more places than that."""
    return all((number(event[name]) * 10**scale).denominator == 1 for name in names if event.get(name) is not None)


def run(lines: Iterable[bytes], answers: dict[int, tuple[bool, ...]] | None = None) -> Oracle:
    """Return the oracle after a day of lines of valid form without duplicates."""
    oracle = Oracle(answers)
    for line in lines:
        oracle.feed(json.loads(line))
    return oracle


def run_beside(
    lines: list[bytes], said: list[dict[str, Any]], facts_after: Callable[[int], dict[str, Any]]
) -> tuple[Oracle, int]:
    """Return the oracle after a day, and at how many items it took the sharp answer in a window because the engine did.

    Args:
        said: the engine's effects.
        facts_after: the engine's facts after so many lines. Both are looked at only at items with windows, to learn which of the two
            answers it took there; after an item at which no answer agrees, nothing is looked at any more.
    """
    answers: dict[int, tuple[bool, ...]] = {}
    oracle, lost = Oracle(), False
    by_position: dict[int, list[dict[str, Any]]] = {}
    for effect in said:
        by_position.setdefault(effect["sequence"], []).append(effect)
    for count, line in enumerate(lines, 1):
        before = len(oracle.effects)
        oracle.feed(json.loads(line))
        if lost or not oracle.windows_of_item:
            continue
        expected, facts = by_position.get(oracle.position(), []), facts_after(count)
        if said_by(oracle, before) == expected and oracle.facts() == facts:
            continue
        lost = True
        for pattern in islice(product((True, False), repeat=min(oracle.windows_of_item, 6)), 64):
            other = run(lines[:count], answers | {oracle.position(): pattern})
            if said_by(other, before) == expected and other.facts() == facts:
                answers[oracle.position()] = pattern
                oracle, lost = other, False
                oracle._answers = answers
                break
    return oracle, len(answers)


def said_by(oracle: Oracle, since: int = 0) -> list[dict[str, Any]]:
    """Return effects as they are written: what is at its default is left out."""
    return [{name: value for name, value in effect.items() if (name, value) != ("supersedes", 0)} for effect in oracle.effects[since:]]
