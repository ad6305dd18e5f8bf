"""An independent oracle of the ``prime`` folds, written from ``docs/rules.md`` alone, without sight of the implementation.

It is fed valid, non-duplicate inputs one by one and says every effect of accounts and of ``@market``. Values are exact: Fractions where
they are rare, whole numbers with explicit denominators where every mark needs them. Nothing here shares code with the engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor

SECOND = 10**9
Guard = bool | None
"""True, false, or None: undecided."""
Bound = int | None
"""An amount in minor units; None has no bound."""
RATIOS = {"warn": "1.40", "call": "1.25", "close_out": "1.10", "restore": "1.40"}
AMOUNTS = {"minimum_transfer": "1000", "rounding": "100", "tranche_step": "1000", "liquidation_minimum": "10"}
SPANS = {"call_persistence_s": 60, "due_after_s": 86_400, "reopen_within_s": 86_400, "tranche_interval_s": 3_600}
DEPTH = {"HEALTHY": 0, "WARNING": 1, "DEFICIT": 2, "LIQUIDATING": 3, "BANKRUPT": 4}


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
    row: list[tuple[int, str, int]] = field(default_factory=list)  # quotes refused since the mark: price, source, clock
    readers: dict[str, Account] = field(default_factory=dict)
    feeds: list[AssetMark] = field(default_factory=list)

    @property
    def in_doubt(self) -> bool:
        return bool(self.row)

    def low(self) -> int:
        if self.mark is None:
            return 0
        least = floor(self.mark * (1 - Fraction(self.band_maximum, 10**6))) if self.stale else self.mark
        return min([least] + [quote for quote, _, _ in self.row])

    def high(self) -> Bound:
        if self.mark is None:
            return None
        greatest = ceil(self.mark * (1 + Fraction(self.band_maximum, 10**6))) if self.stale else self.mark
        return max([greatest] + [quote for quote, _, _ in self.row])

    def outside(self, price: Fraction | int, clock: int) -> bool:
        """Return whether a price (in price units) lies outside the band around the mark now."""
        assert self.mark is not None
        band = min(self.band_maximum, self.band + self.band_per_second * (clock - self.marked_at) // SECOND)
        if self.stale:
            band = self.band_maximum
        return abs(price - self.mark) * 10**6 > band * self.mark


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
        self.fresh = self.marked and not any(i.stale or i.in_doubt for i in self.route)
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
        self.highest = max(ratios.values())
        self.breach_at_level = parameters.get("at_level", "safe") == "breach"
        self.short_at_restore = parameters.get("at_restore", "restored") == "short"
        self.suppressed_at_minimum = parameters.get("at_minimum", "called") == "suppressed"
        self.amounts = {name: number(parameters.get(name, default)) for name, default in AMOUNTS.items()}
        self.initial, self.maintenance = (
            number(parameters.get("initial", "0.40")),
            number(parameters.get("maintenance", "0.25")),
        )
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
    deadline_runs: bool = True  # until it expired or escalated, once

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
    lines: list[tuple[AssetMark, int, int]] = field(
        default_factory=list
    )  # term = floor(mark * second / third), negative if owed
    owes_unknown: bool = False
    level: str = "HEALTHY"
    calls: list[Call] = field(default_factory=list)
    waiting: list[Money] = field(default_factory=list)
    persistence: int | None = None  # since when the condition of the next call holds
    suppressed: bool = False
    liquidating: bool = False
    sale_asked: bool = False  # became liquidating, the demand is not yet said
    demands: int = 0
    demand: tuple[int, int] | None = None  # number and amount of the standing demand
    quiet: bool = True  # HEALTHY and nothing runs

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

    def stale(self, liquidating: bool) -> bool:
        names = ["warn", "call", "bankrupt", "restore"] + ([] if liquidating else ["close_out"])
        return any(self.ratio(name) is None for name in names)

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
class Oracle:
    """Feed it inputs in the order of the journal; read ``effects``."""

    def __init__(self) -> None:
        self.effects: list[dict[str, object]] = []
        self.clock = 0
        self._position = 0
        self._versions: dict[str, int] = {}  # in force
        self._counts: dict[str, int] = {}
        self._said: list[tuple[str, dict[str, object]]] = []
        self._feeds: dict[str, tuple[int, bool]] = {}
        """Feed -> its highest number, and whether it numbers anew."""
        self._instruments: dict[str, Instrument] = {}
        self._activations: list[tuple[int, str, int, dict[str, object]]] = []
        self._profiles: dict[str, Profile] = {}
        self._accounts: dict[str, Account] = {}

    def position(self) -> int:
        return self._position

    def levels(self) -> dict[str, str]:
        return {account.name: account.level for account in self._accounts.values()}

    def pass_over(self, event: dict[str, object] | None = None) -> None:
        """Count a refused input: it has a position, and nothing follows from it but that a feed may number anew."""
        self._position += 1
        if event is not None and event.get("type") in ("price_ticked", "clock_ticked"):
            self._number(event)
            self.effects.extend(effect for _, effect in self._said)
            self._said.clear()

    def _number(self, event: dict[str, object]) -> None:
        """Follow the numbers of a feed; an item that comes here is no duplicate."""
        source, number_, time = (
            str(event.get("source", "")),
            int(str(event.get("source_seq", 0))),
            event.get("event_time"),
        )
        highest, anew = self._feeds.get(source, (-1, False))
        if time is None or number_ > highest:
            self._feeds[source] = (max(highest, number_), False)
            return
        if not anew:
            self._say("@market", "feed_numbers_restarted", source=source, number=number_, highest=highest)
        self._feeds[source] = (highest, True)

    def feed(self, event: dict[str, object]) -> None:
        """Take one valid input; its effects are appended in order of group and number."""
        self._position += 1
        kind = event["type"]
        if kind in ("price_ticked", "clock_ticked"):
            self._number(event)
        if kind == "price_ticked":
            self._price(event)
        elif kind == "feed_restarted":
            self._feeds[str(event["feed"])] = (-1, False)
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
            activation = (
                moment(event["effective_from"]),
                str(event["profile"]),
                int(str(event["version"])),
                parameters,
            )
            self._activations.append(activation)
        else:
            assert kind == "engine_activated", kind
        if self._said:
            self._said.sort(key=lambda said: said[0])  # stable: within a group by number
            self.effects.extend(effect for _, effect in self._said)
            self._said.clear()

    # ------------------------------------------------------------------------------------------------------------- saying effects
    def _say(self, group: str, kind: str, **fields: object) -> None:
        self._counts[group] = self._counts.get(group, 0) + 1
        envelope = {
            "type": kind,
            "id": f"{group}/{self._counts[group]}",
            "sequence": self._position,
            "at_ns": self.clock,
        }
        self._said.append((group, envelope | fields))

    def _tell(self, account: Account, kind: str, value: Valuation | None, **fields: object) -> None:
        """Say an effect on an account; whole numbers under amount names become texts."""
        for name in ("amount", "shortfall", "minimum", "credited", "unpaid"):
            amount = fields.get(name)
            if isinstance(amount, int):
                fields[name] = show(amount, account.scale)
        if value is not None:
            fields = {
                "equity": show(value.v - value.d, account.scale),
                "initial_requirement": show(ceil(value.profile.initial * value.d), account.scale),
                "maintenance_requirement": show(ceil(value.profile.maintenance * value.d), account.scale),
                "collateral_value": show(value.v, account.scale),
                "loan": show(value.d, account.scale),
            } | fields
        if account.profile is not None and self._value(account).stale(account.liquidating):
            fields = {"stale": True} | fields
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

    def _open(self, event: dict[str, object]) -> None:
        name, currency = str(event["account"]), str(event["base_currency"])
        account = Account(name, currency, self._instruments[currency].scale, str(event["profile"]))
        self._accounts[name] = account
        self._adopt(account)
        self._settle(account)

    def _change(self, event: dict[str, object]) -> None:
        account = self._accounts[str(event["account"])]
        if event.get("profile") is not None:
            account.profile_name = str(event["profile"])
            self._adopt(account)
        self._settle(account)

    def _adopt(self, account: Account) -> None:
        account.profile = self._profiles.get(account.profile_name)
        self._reread(account)

    def _reread(self, account: Account) -> None:
        """Note anew which balances are valued how, and which instruments the account reads."""
        for instrument in self._instruments.values():
            instrument.readers.pop(account.name, None)
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
            for instrument in asset.route:
                instrument.readers[account.name] = account

    # ---------------------------------------------------------------------------------------------------------------------- marks
    def _price(self, event: dict[str, object]) -> None:
        instrument = self._instruments[str(event["instrument"])]
        price, source = units(str(event["price"]), instrument.price_scale), str(event.get("source", ""))
        bid, ask = event.get("bid"), event.get("ask")
        if bid is not None and ask is not None and number(bid) > number(ask):
            return self._refuse(instrument, price, "crossed")
        if price <= 0:
            return self._refuse(instrument, price, "not_positive")
        mark = instrument.mark
        if mark is not None and instrument.outside(price, self.clock):
            reason, price = self._agreement(instrument, price, source)
            if not reason:
                self._refuse(instrument, price, "deviation")
                return self._doubted(instrument)
            self._reanchored(instrument, price, reason)
        self._mark(instrument, price)
        return None

    def _confirm(self, event: dict[str, object]) -> None:
        instrument = self._instruments[str(event["instrument"])]
        price = units(str(event["price"]), instrument.price_scale)
        self._reanchored(instrument, price, "confirmed")
        self._mark(instrument, price)

    def _reanchored(self, instrument: Instrument, price: int, reason: str) -> None:
        texts = {
            "price": show(price, instrument.price_scale),
            "mark": show(instrument.mark or 0, instrument.price_scale),
        }
        self._say("@market", "mark_reanchored", instrument=instrument.name, **texts, reason=reason)

    def _mark(self, instrument: Instrument, price: int) -> None:
        first = instrument.mark is None
        instrument.row.clear()
        instrument.mark, instrument.marked_at, instrument.stale = price, self.clock, False
        for asset in instrument.feeds:
            asset.refresh()
        self._marked(instrument, first)

    def _doubted(self, instrument: Instrument) -> None:
        """A quote was refused with ``deviation``: the mark is in doubt, perhaps over more than before."""
        for asset in instrument.feeds:
            asset.refresh()
        self._marked(instrument, first=False)

    def _marked(self, instrument: Instrument, first: bool) -> None:
        """A quote was accepted: whoever reads the instrument is evaluated."""
        if first:
            for account in self._accounts.values():
                self._settle(account)
        else:
            for account in instrument.readers.values():
                if not self._undisturbed(account):
                    self._evaluate(account)

    def _agreement(self, instrument: Instrument, price: int, source: str) -> tuple[str, int]:
        """Return why a quote outside the band moves the mark, or "", and the price that becomes the mark."""
        row, wanted, mark = instrument.row, instrument.reanchor_quotes, instrument.mark
        assert mark is not None

        def agree(prices: list[int]) -> bool:
            return max(prices) - min(prices) <= instrument.reanchor_within * min(prices)

        if row and row[-1][1] != source and agree([row[-1][0], price]):
            return "second_source", price
        row.append((price, source, self.clock))
        last = [quote for quote, _, _ in row[-wanted:]]
        if len(last) == wanted and agree(last):
            return "consecutive", price
        side: list[
            tuple[int, int]
        ] = []  # the last of the row that lie on the side of this one: price, clock of refusal
        for quote, _, refused in reversed(row):
            if (quote > mark) != (price > mark):
                break
            side.append((quote, refused))
        if len(side) >= wanted and self.clock - side[-1][1] >= instrument.stale_after:
            return "one_side", min((quote for quote, _ in side), key=lambda quote: abs(quote - mark))
        return "", price

    def _refuse(self, instrument: Instrument, price: int, reason: str) -> None:
        mark = show(instrument.mark or 0, instrument.price_scale)
        self._say(
            "@market",
            "mark_refused",
            instrument=instrument.name,
            price=show(price, instrument.price_scale),
            mark=mark,
            reason=reason,
        )

    # ---------------------------------------------------------------------------------------------------------------------- clock
    def _tick(self, time: int) -> None:
        self.clock = time
        due = sorted((a for a in self._activations if a[0] <= time), key=lambda a: a[:3])
        for activation in due:
            self._activations.remove(activation)
            _, name, version, parameters = activation
            if version < self._versions.get(name, 0):
                continue  # a newer one is in force already: the older is passed over
            self._versions[name] = version
            replaced = self._profiles.get(name)
            if replaced is not None:
                for instrument in self._instruments.values():
                    instrument.feeds = [a for a in instrument.feeds if a not in replaced.assets.values()]
            self._profiles[name] = Profile(parameters, self._instruments)
            for account in self._accounts.values():
                if account.profile_name == name:
                    self._adopt(account)
            self._say("@market", "profile_took_effect", profile=name, version=version)
        for instrument in self._instruments.values():
            if (
                instrument.mark is not None
                and not instrument.stale
                and time - instrument.marked_at > instrument.stale_after
            ):
                instrument.stale = True
                for asset in instrument.feeds:
                    asset.refresh()
                mark = show(instrument.mark, instrument.price_scale)
                self._say(
                    "@market",
                    "feed_went_stale",
                    instrument=instrument.name,
                    mark=mark,
                    marked_at_ns=instrument.marked_at,
                )
        for account in self._accounts.values():
            if due:
                self._settle(account)
            if not self._undisturbed(account):
                self._evaluate(account)
                self._timers(account)

    # ------------------------------------------------------------------------------------------------------------ money and trades
    def _money(self, event: dict[str, object]) -> None:
        account, asset = self._accounts[str(event["account"])], str(event["asset"])
        delta, named = number(event["amount_delta"]), str(event.get("call", ""))
        before = account.balances.get(asset, Fraction(0))
        account.balances[asset] = before + delta
        self._reread(account)
        if account.calls or named:
            call = next((c.number for c in account.calls if self._name(account, c) == named), 0)
            if named and not call and delta > 0:
                self._tell(account, "call_reference_unmatched", None, call=named)
            if delta > 0:
                repaid = min(delta, max(Fraction(0), -before))
            else:
                repaid = -delta - min(-delta, max(Fraction(0), before))
            account.waiting.append(Money(asset, repaid, abs(delta) - repaid, delta > 0, call))
        self._settle(account)
        self._revise(account)

    def _trade(self, event: dict[str, object]) -> None:
        account, instrument = self._accounts[str(event["account"])], self._instruments[str(event["instrument"])]
        quantity, price, fee = number(event["quantity_delta"]), number(event["price"]), number(event.get("fee", "0"))
        held = account.positions.get(instrument.name, Fraction(0))
        account.positions[instrument.name] = held + quantity
        parts = [-held, quantity + held] if held * quantity < 0 and abs(quantity) > abs(held) else [quantity]
        minor = 10 ** self._instruments[instrument.currency].scale
        cash = Fraction(sum(floor(-part * price * minor) for part in parts), minor) - fee
        base = instrument.base if instrument.kind == "spot" else instrument.name
        for asset, delta in ((base, quantity), (instrument.currency, cash)):
            account.balances[asset] = account.balances.get(asset, Fraction(0)) + delta
        self._reread(account)
        self._evaluate(account)
        self._revise(account)
        if instrument.mark is not None and instrument.outside(price * 10**instrument.price_scale, self.clock):
            texts = {"price": show(units(str(event["price"]), instrument.price_scale), instrument.price_scale)}
            texts["mark"] = show(instrument.mark, instrument.price_scale)
            self._tell(account, "trade_far_from_mark", None, instrument=instrument.name, **texts)

    def _settle(self, account: Account) -> None:
        """Count the money whose asset has a mark, in order of arrival; then evaluate."""
        if account.profile is not None:
            waiting, account.waiting = account.waiting, []
            for money in waiting:
                asset = account.profile.assets.get(money.asset)
                if asset is None:
                    continue  # the profile does not name it: it is worth nothing, and is not counted later
                if not asset.marked:
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
                self._tell(
                    account, "call_reduced", None, call=self._name(account, call), credited=credited, unpaid=call.unpaid
                )
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
            if call.state == "MET" and not (
                restore is True and call.issued + account.profile.spans["reopen_within_s"] >= self.clock
            ):
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
    def _undisturbed(self, account: Account) -> bool:
        """Return whether nothing can follow: HEALTHY, nothing runs, every mark fresh, and V clear above the highest ratio of D."""
        profile = account.profile
        if profile is None:
            return True
        if not account.quiet or account.owes_unknown:
            return False
        v = d = 0
        for asset, factor, divisor in account.lines:
            if not asset.fresh:
                return False
            if factor >= 0:
                v += asset.mark * factor // divisor
            else:
                d -= asset.mark * factor // divisor
        return d == 0 or v * profile.highest.denominator > d * profile.highest.numerator

    def _evaluate(self, account: Account) -> None:
        """Evaluate an account until nothing changes."""
        if account.profile is None:
            return
        now = self._value(account)
        before: object = None
        while True:
            state = (
                account.level,
                account.persistence,
                account.suppressed,
                account.liquidating,
                account.sale_asked,
                len(account.calls),
            )
            if state == before:
                break
            before = state
            self._pass(account, now)
        account.quiet = (
            account.level == "HEALTHY"
            and account.persistence is None
            and not account.suppressed
            and not account.liquidating
            and not any(c.state == "OPEN" for c in account.calls)
        )

    def _step(self, account: Account, unpaid: int) -> Fraction:
        """Return what the shortfall must exceed the unpaid by for an add-on call, in minor units."""
        assert account.profile is not None
        step = account.profile.amounts["tranche_step"] * 10**account.scale
        return max(step, Fraction(ceil(account.profile.tranche_share * unpaid)))

    def _interval_over(self, account: Account) -> int:
        """Return when the next add-on call may be issued."""
        assert account.profile is not None
        return account.calls[-1].issued + account.profile.spans["tranche_interval_s"] if account.calls else 0

    def _condition(self, account: Account, now: Valuation) -> Guard:
        """Return the condition of the next call."""
        assert account.profile is not None
        condition, unpaid = now.ratio("call"), account.unpaid()
        if unpaid > 0:
            step = self._step(account, unpaid)
            condition = both(condition, now.short_of(unpaid + step))
        return condition

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

        def holds(guard: str, level: str) -> bool:
            known = now.ratio(guard)
            return known is True or (known is None and DEPTH[account.level] >= DEPTH[level])

        if holds("bankrupt", "BANKRUPT"):
            level = "BANKRUPT"
        elif account.liquidating:
            level = "LIQUIDATING"
        elif holds("call", "DEFICIT"):
            level = "DEFICIT"
        else:
            level = "WARNING" if holds("warn", "WARNING") else "HEALTHY"
        if level != account.level:
            previous, account.level = account.level, level
            if (previous, level) == ("HEALTHY", "WARNING"):
                self._tell(account, "margin_warned", now)
            else:
                self._tell(account, "margin_level_changed", now, level=level, previous=previous)
        if account.sale_asked:
            account.sale_asked = False
            legs, total = self._sale(account, now)
            if total > 0 and total >= profile.amounts["liquidation_minimum"] * 10**account.scale:
                self._demand(account, now, legs, total)

    def _issue(self, account: Account, now: Valuation, amount: int) -> None:
        """Issue a call; ``amount`` is before rounding."""
        assert account.profile is not None
        rounding = account.profile.amounts["rounding"] * 10**account.scale
        rounded = ceil(ceil(amount / rounding) * rounding) if rounding else amount
        call = Call(len(account.calls) + 1, rounded, self.clock, self.clock + account.profile.spans["due_after_s"])
        tranche = 1 + len(account.open_calls())
        account.calls.append(call)
        fields: dict[str, object] = {
            "amount": rounded,
            "shortfall": now.shortfall,
            "due_at_ns": call.due,
            "tranche": tranche,
        }
        fields["call_type"] = "maintenance"
        self._tell(account, "margin_call_issued", now, call=self._name(account, call), **fields)

    # --------------------------------------------------------------------------------------------------------------------- timers
    def _timers(self, account: Account) -> None:
        if account.profile is None:
            return
        while True:
            due = [
                (c.due, "call_due", c.number) for c in account.open_calls() if c.deadline_runs and self.clock > c.due
            ]
            now = self._value(account)
            if account.persistence is not None:
                matures = account.persistence + account.profile.spans["call_persistence_s"]
                if account.unpaid() > 0:
                    matures = max(matures, self._interval_over(account))
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
        call.deadline_runs = False
        if now.ratio("restore") is None:
            self._tell(account, "call_escalated", now, call=self._name(account, call), unpaid=call.unpaid)
            return
        self._tell(account, "call_expired", now, call=self._name(account, call), unpaid=call.unpaid)
        if not account.liquidating:
            account.liquidating = account.sale_asked = True

    def _mature(self, account: Account, now: Valuation) -> None:
        profile, shortfall = account.profile, now.shortfall
        assert profile is not None
        cured = [
            c
            for c in account.calls
            if c.state == "CURED" and c.unpaid and c.issued + profile.spans["reopen_within_s"] >= self.clock
        ]
        for call in sorted(cured, key=lambda c: (c.due, c.number)):
            if shortfall > account.unpaid():
                self._reopen(account, now, call, "breach")
        account.persistence = None
        unpaid = account.unpaid()
        if unpaid > 0:
            if shortfall - unpaid >= self._step(account, unpaid) and self.clock >= self._interval_over(account):
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
        self._tell(
            account, "liquidation_due", now, number=account.demands, amount=total, legs=legs, supersedes=supersedes
        )

    def _revise(self, account: Account) -> None:
        """After money or a trade while liquidating: lower the standing demand, or make one where none stands."""
        if account.profile is None or not account.liquidating:
            return
        now = self._value(account)
        legs, total = self._sale(account, now)
        enough = total >= account.profile.amounts["liquidation_minimum"] * 10**account.scale
        if account.demand is None:
            if enough and total > 0:
                self._demand(account, now, legs, total)
        elif total < account.demand[1]:
            self._demand(account, now, legs if enough else [], total if enough else 0)


# ----------------------------------------------------------------------------------------------------- scenarios worked out by hand
class Scenario:
    """Account "a" owes USDT against 1 BTC (haircut 0.10): V = 0.9 x mark. Steps speak in seconds since the first clock."""

    start = 1_600_000_000

    def __init__(self, owed: int, mark: int) -> None:
        self.oracle, self.second, self.seen = Oracle(), 0, 0
        for name, scale in (("USDT", 2), ("BTC", 8)):
            self.oracle.feed(
                {"type": "instrument_listed", "instrument": name, "kind": "currency", "quantity_scale": scale}
            )
        pair: dict[str, object] = {"instrument": "BTCUSDT", "kind": "spot", "base": "BTC", "currency": "USDT"}
        self.oracle.feed({"type": "instrument_listed", "quantity_scale": 6, "price_scale": 1} | pair)
        assets = {"USDT": {"haircut": "0", "route": []}, "BTC": {"haircut": "0.10", "route": ["BTCUSDT"]}}
        parameters: dict[str, object] = {"base_currency": "USDT", "assets": assets}
        profile = {
            "profile": "p",
            "model": "prime",
            "version": 1,
            "approved_by": "x",
            "effective_from": "2020-01-01T00:00:00Z",
        }
        self.oracle.feed({"type": "profile_activated", "parameters": parameters} | profile)
        self.oracle.feed({"type": "account_opened", "account": "a", "base_currency": "USDT", "profile": "p"})
        self.at(0)
        self.price(mark)
        self.move("BTC", "1")
        self.move("USDT", str(-owed))

    def at(self, second: int, nanosecond: int = 0) -> None:
        self.second = second
        text = datetime.fromtimestamp(self.start + second, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{nanosecond:09d}Z"
        self.oracle.feed({"type": "clock_ticked", "time": text})

    def price(self, price: int, source: str = "feed") -> None:
        self.oracle.feed({"type": "price_ticked", "instrument": "BTCUSDT", "price": str(price), "source": source})

    def move(self, asset: str, amount: str, call: str = "") -> None:
        self.oracle.feed(
            {"type": "collateral_moved", "account": "a", "asset": asset, "amount_delta": amount, "call": call}
        )

    def trade(self, quantity: str, price: int) -> None:
        self.oracle.feed(
            {
                "type": "position_changed",
                "account": "a",
                "instrument": "BTCUSDT",
                "quantity_delta": quantity,
                "price": str(price),
            }
        )

    def said(self, *expected: str) -> None:
        """Compare what was said since the last look, each as "type key=value ..." with any of its fields."""
        new = self.oracle.effects[self.seen :]
        self.seen = len(self.oracle.effects)
        assert len(new) == len(expected), f"expected {expected}\nsaid {new}"
        for effect, text in zip(new, expected, strict=True):
            kind, *pairs = text.split()
            wrong = [pair for pair in pairs if str(effect[pair.split("=")[0]]) != pair.split("=")[1]]
            assert (effect["type"], wrong) == (kind, []), f"expected {text}\nsaid {effect}"


def due(second: int) -> int:
    """Return the due time of a call issued at this second."""
    return (Scenario.start + second + 86_400) * SECOND


def check_call_to_expiry() -> None:
    s = Scenario(20_000, 40_000)  # V 36,000; warn below 28,000, call below 25,000, close-out below 22,000
    s.said("profile_took_effect profile=p version=1 id=@market/1")
    s.at(200)  # the band is 10 % + 20 %
    s.price(30_000)  # V 27,000
    s.said(
        "margin_warned id=a/1 collateral_value=27000.00 loan=20000.00 equity=7000.00 initial_requirement=8000.00 maintenance_requirement=5000.00 account=a currency=USDT"
    )
    s.at(201)
    s.price(27_000)  # exactly 10 % less, inside 10.1 %; V 24,300
    s.said("margin_level_changed level=DEFICIT previous=WARNING")
    s.at(260)
    s.said()
    s.at(261)  # S = 28,000 - 24,300
    s.said(f"margin_call_issued call=a/call/1 amount=3700.00 shortfall=3700.00 due_at_ns={due(261)} tranche=1")
    s.price(25_800)  # V 23,220, S 4,780 = 3,700 + 1,080
    s.at(321)
    s.said()  # an hour must have passed since the call before
    s.at(3861)  # undecided: nothing matures, and the level stands
    s.said(f"feed_went_stale instrument=BTCUSDT mark=25800.0 marked_at_ns={(s.start + 261) * SECOND}")
    s.price(25_800)
    s.said()
    s.at(3862)
    s.said(f"margin_call_issued call=a/call/2 amount=1100.00 shortfall=4780.00 tranche=2 due_at_ns={due(3862)}")
    s.move("USDT", "3700", "a/call/1")  # D 16,300: 1.4 D = 22,820 <= 23,220, so the second call is cured
    s.said(
        "call_met call=a/call/1 credited=3700.00",
        "call_cured call=a/call/2 unpaid=1100.00 collateral_value=23220.00 loan=16300.00",
        "margin_level_changed level=HEALTHY previous=DEFICIT",
    )
    s.at(4000)
    s.price(22_600)  # V 20,340 < 20,375 = 1.25 D; S = 22,820 - 20,340 = 2,480
    s.said("margin_level_changed level=DEFICIT previous=HEALTHY")
    s.at(4060)  # reopened 1,100; 2,480 - 1,100 = 1,380 more, not within the hour
    s.said(f"call_reopened call=a/call/2 unpaid=1100.00 due_at_ns={due(3862)} reason=breach")
    s.at(7461)
    s.price(22_600)
    s.said("feed_went_stale")
    s.at(7462)
    s.said(f"margin_call_issued call=a/call/3 amount=1400.00 shortfall=2480.00 tranche=2 due_at_ns={due(7462)}")
    s.at(90_262)
    s.price(22_600)
    s.said(f"feed_went_stale instrument=BTCUSDT mark=22600.0 marked_at_ns={(s.start + 7461) * SECOND}")
    s.at(90_262, 1)  # G = 2,480; 2,480 / (1.4 - 0.9) = 4,960
    s.said(
        "call_expired call=a/call/2 unpaid=1100.00",
        "margin_level_changed level=LIQUIDATING previous=DEFICIT",
        "liquidation_due number=1 amount=4960.00 supersedes=0",
    )
    assert s.oracle.effects[-1]["legs"] == [{"asset": "BTC", "amount": "4960.00"}]
    s.at(93_800)
    s.price(22_600)
    s.said("feed_went_stale")
    s.at(93_863)
    s.said("call_expired call=a/call/3 unpaid=1400.00")  # liquidating already
    s.price(22_600)
    s.move("USDT", "500")  # pays call 2 in part; G = 22,120 - 20,340 = 1,780: 3,560
    s.said(
        "call_reduced call=a/call/2 credited=500.00 unpaid=600.00",
        "liquidation_due number=2 amount=3560.00 supersedes=1",
    )
    s.trade("-0.2", 22_600)  # 4,520 for BTC: D 11,280, V 16,272 >= 15,792: restored
    s.said(
        "call_cured call=a/call/2 unpaid=600.00",
        "call_cured call=a/call/3 unpaid=1400.00",
        "margin_level_changed level=HEALTHY previous=LIQUIDATING",
    )


def check_escalation() -> None:
    s = Scenario(20_000, 27_000)  # in deficit at once
    s.at(60)
    s.said(
        "profile_took_effect",
        "margin_level_changed level=DEFICIT previous=HEALTHY",
        "margin_call_issued amount=3700.00",
    )
    s.at(301)  # V between 12,150 and 36,450: every guard undecided, so no level is true
    s.said("feed_went_stale mark=27000.0")  # and the level stands
    s.at(86_460)
    s.said()
    s.at(86_460, 1)
    s.said("call_escalated call=a/call/1 unpaid=3700.00 collateral_value=24300.00 stale=True")
    s.price(27_000)
    s.said()
    s.at(86_461)
    s.said()  # a deadline escalates once


def check_deep() -> None:
    s = Scenario(20_000, 27_000)
    s.said("profile_took_effect", "margin_level_changed level=DEFICIT")
    s.price(24_400)  # V 21,960 < 22,000; G 6,040: 12,080
    s.said("margin_level_changed level=LIQUIDATING previous=DEFICIT", "liquidation_due amount=12080.00 number=1")
    s.price(22_200)  # V 19,980 < 20,000
    s.said("margin_level_changed level=BANKRUPT previous=LIQUIDATING collateral_value=19980.00")
    s.move("USDT", "13000")  # D 7,000: 9,800 <= 19,980
    s.said("margin_level_changed level=HEALTHY previous=BANKRUPT")


def check_small() -> None:
    s = Scenario(5_000, 6_900)  # V 6,210 < 6,250; S = 7,000 - 6,210 = 790
    s.at(60)
    s.said(
        "profile_took_effect", "margin_level_changed", "call_suppressed_below_minimum shortfall=790.00 minimum=1000.00"
    )
    s.at(200)
    s.said()  # once an entry
    s.price(6_600)  # V 5,940; S 1,060, at once
    s.said("margin_call_issued call=a/call/1 amount=1100.00 shortfall=1060.00 tranche=1")
    s.move("USDT", "1", "b/call/9")
    s.said("call_reference_unmatched call=b/call/9", "call_reduced credited=1.00 unpaid=1099.00")
    s.move("USDT", "1099")
    s.said("call_met call=a/call/1 credited=1099.00", "margin_level_changed level=HEALTHY")  # D 3,900: 5,460 <= 5,940
    s.move("USDT", "-1000")  # D 4,900: 6,860 > 5,940, V < 6,125: short
    s.said("call_reopened call=a/call/1 unpaid=1000.00 reason=withdrawal", "margin_level_changed level=DEFICIT")


def check_marks() -> None:
    s = Scenario(100, 10_000)
    s.price(11_000)  # the band's edge is inside
    s.said("profile_took_effect")
    s.price(20_000)
    s.price(0)
    s.price(20_100)
    s.said(
        "mark_refused price=20000.0 mark=11000.0 reason=deviation",
        "mark_refused reason=not_positive",
        "mark_refused price=20100.0",
    )
    s.price(20_400)  # 400 <= 2 % of 20,000
    s.said("mark_reanchored price=20400.0 mark=11000.0 reason=consecutive")
    s.price(30_000)
    s.price(30_600, "other")
    s.said("mark_refused price=30000.0", "mark_reanchored price=30600.0 mark=20400.0 reason=second_source")


if __name__ == "__main__":
    for check in (check_call_to_expiry, check_escalation, check_deep, check_small, check_marks):
        check()
        print(f"{check.__name__}: as worked out by hand")
