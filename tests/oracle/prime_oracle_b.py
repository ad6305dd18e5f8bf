"""An independent oracle of the ``prime`` margin calls, written from docs/rules.md without sight of the engine.

Amounts are integers of minor units, ratios and parameters are Fractions; the innermost loop works on integers with explicit scales.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor, lcm

SECOND = 1_000_000_000
MILLION = 1_000_000
Tri = bool | None
"""A guard: true, false, or None for undecided."""
Json = dict[str, object]


def decimal(value: object) -> Fraction:
    return Fraction(str(value))


def integer(value: object) -> int:
    return int(str(value))


@lru_cache(maxsize=4096)
def whole_seconds(text: str) -> int:
    return int(datetime.fromisoformat(text.upper() + "+00:00").timestamp())


def moment(value: object) -> int:
    """RFC 3339 in UTC to nanoseconds."""
    if isinstance(value, int):
        return value
    text = str(value)
    rest = text[19:].upper().removesuffix("Z").removesuffix("+00:00")
    return whole_seconds(text[:19]) * SECOND + int(rest.lstrip(".").ljust(9, "0") or "0")


def text_of(amount: int, scale: int) -> str:
    if scale == 0:
        return str(amount)
    digits = str(abs(amount)).rjust(scale + 1, "0")
    return f"{'-' if amount < 0 else ''}{digits[:-scale]}.{digits[-scale:]}"


def both(left: Tri, right: Tri) -> Tri:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


@dataclass
class Instrument:
    name: str
    order: int
    kind: str
    scale: int
    base: str
    currency: str
    price_scale: int
    band: Fraction
    band_per_second: Fraction
    band_maximum: Fraction
    reanchor_quotes: int
    reanchor_within: Fraction
    stale_after: int
    mark: int = 0
    """In price units; 0 is never marked."""
    marked_at: int = 0
    stale: bool = False
    row: list[tuple[str, int]] = field(default_factory=list)
    """Refused quotes: source and price."""

    def agree(self, prices: list[int]) -> bool:
        return max(prices) - min(prices) <= self.reanchor_within * min(prices)


@dataclass
class View:
    """What one profile makes of one asset: integers so that value = floor(balance * number / denominator) in minor units of the base."""

    route: list[str]
    haircut: Fraction
    asset_scale: int
    base_scale: int
    named: bool
    marked: bool = False
    fresh: bool = False
    v: int = 0
    v_low: int = 0
    v_high: int | None = None
    v_den: int = 1
    d: int = 0
    d_low: int = 0
    d_high: int | None = None
    d_den: int = 1

    def refresh(self, instruments: dict[str, Instrument]) -> None:
        mark, low, high, places = 1, 1, 1, self.asset_scale
        bounded, self.marked, self.fresh = self.named, self.named, self.named
        if not self.named:
            mark = low = 0
        for name in self.route:
            one = instruments.get(name)
            if one is None or one.mark == 0:
                mark = low = 0
                self.marked = self.fresh = bounded = False
                continue
            places += one.price_scale
            mark *= one.mark
            if one.stale:
                self.fresh = False
                low *= floor(one.mark * (1 - one.band_maximum))
                high *= ceil(one.mark * (1 + one.band_maximum))
            else:
                low *= one.mark
                high *= one.mark
        up, keep = 10**self.base_scale, 1 - self.haircut
        self.d, self.d_low, self.d_high, self.d_den = mark * up, low * up, (high * up if bounded else None), 10**places
        factor = up * keep.numerator
        self.v, self.v_low, self.v_den = mark * factor, low * factor, self.d_den * keep.denominator
        self.v_high = high * factor if bounded else (0 if factor == 0 else None)

    def price(self) -> Fraction:
        """Minor units of the base for one minor unit of the asset, at the last accepted marks."""
        return Fraction(self.d, self.d_den)


class Profile:
    def __init__(self, event: Json) -> None:
        self.name, self.version = str(event["profile"]), integer(event["version"])
        self.effective = moment(event["effective_from"])
        given = event["parameters"]
        assert isinstance(given, dict)
        self.base = str(given["base_currency"])
        ratios = {name: decimal(given[name]) for name in ("warn", "call", "close_out", "restore")}
        self.k = lcm(*(ratio.denominator for ratio in ratios.values()))
        self.warn, self.call, self.close, self.restore = (int(ratio * self.k) for ratio in ratios.values())
        self.restore_ratio = ratios["restore"]
        self.level_tie = 1 if given["at_level"] == "breach" else 0
        self.restore_tie = 1 if given["at_restore"] == "short" else 0
        self.persistence = integer(given["call_persistence_s"]) * SECOND
        self.due_after = integer(given["due_after_s"]) * SECOND
        self.reopen_within = integer(given["reopen_within_s"]) * SECOND
        self.at_minimum = str(given["at_minimum"])
        self.amounts = {name: decimal(given[name]) for name in ("minimum_transfer", "rounding", "tranche_step", "liquidation_minimum")}
        self.assets: dict[str, tuple[Fraction, list[str]]] = {
            str(name): (decimal(asset["haircut"]), [str(leg) for leg in asset["route"]]) for name, asset in given["assets"].items()
        }
        self.views: dict[str, View] = {}
        self.minimum = self.rounding = self.step = self.sale_minimum = self.called_from = 0

    def settle_scale(self, scale: int) -> None:
        """Amounts in minor units, once the scale of the base currency is known."""
        self.minimum, self.rounding, self.step, self.sale_minimum = (ceil(amount * 10**scale) for amount in self.amounts.values())
        self.called_from = self.minimum + (1 if self.at_minimum == "suppressed" else 0)


@dataclass
class Call:
    number: int
    id: str
    amount: int
    unpaid: int
    issued: int
    due: int
    status: str = "open"  # open, met, cured
    deadline: str = "running"  # running, expired, escalated


@dataclass
class Worth:
    """Figures, and the least and greatest of V and D (None: no bound)."""

    v: int
    d: int
    v_low: int
    v_high: int | None
    d_low: int
    d_high: int | None


@dataclass
class Account:
    name: str
    base: str
    base_scale: int
    profile_name: str
    balances: dict[str, int] = field(default_factory=dict)
    positions: dict[str, Fraction] = field(default_factory=dict)
    profile: Profile | None = None
    holdings: list[tuple[int, View]] = field(default_factory=list)
    reads: set[str] = field(default_factory=set)
    level: str = "HEALTHY"
    liquidating: bool = False
    sale_wanted: bool = False
    suppressed: bool = False
    started: int | None = None
    """Clock at which persistence began."""
    calls: list[Call] = field(default_factory=list)
    sales: int = 0
    standing: tuple[int, int] | None = None
    """Number and amount of the demand to sell that stands."""
    pending: list[tuple[str, Fraction, Fraction, bool, str]] = field(default_factory=list)
    """Money without a mark: asset, part at face, rest, arriving, call named."""
    rest: tuple[Tri, ...] = ()
    quiet: bool = False
    short_at: int = 0
    next_timer: int = 2**63
    effects: int = 0

    def open_calls(self) -> list[Call]:
        return sorted((call for call in self.calls if call.status == "open"), key=lambda call: (call.due, call.number))

    def unpaid(self) -> int:
        return sum(call.unpaid for call in self.calls if call.status == "open")


def below(v: int | None, d: int | None, ratio: int, k: int, tie: int) -> bool:
    if d == 0 or v is None:
        return False
    return d is None or v * k < ratio * d + tie


def guard(worth: Worth, ratio: int, k: int, tie: int) -> Tri:
    if below(worth.v_high, worth.d_low, ratio, k, tie):
        return True
    return None if below(worth.v_low, worth.d_high, ratio, k, tie) else False


def shortfall(v: int, d: int, profile: Profile) -> int:
    return max(0, -((v * profile.k - profile.restore * d) // profile.k))


def short_of(worth: Worth, amount: int, profile: Profile) -> Tri:
    def holds(v: int | None, d: int | None) -> bool:
        if d == 0 or v is None:
            return False
        return d is None or shortfall(v, d, profile) >= amount

    if holds(worth.v_high, worth.d_low):
        return True
    return None if holds(worth.v_low, worth.d_high) else False


def worth_of(account: Account) -> Worth:
    v = d = v_low = d_low = 0
    v_high: int | None = 0
    d_high: int | None = 0
    for balance, view in account.holdings:
        if balance > 0:
            v += balance * view.v // view.v_den
            v_low += balance * view.v_low // view.v_den
            v_high = None if v_high is None or view.v_high is None else v_high + balance * view.v_high // view.v_den
        else:
            d -= balance * view.d // view.d_den
            d_low -= balance * view.d_low // view.d_den
            d_high = None if d_high is None or view.d_high is None else d_high - balance * view.d_high // view.d_den
    return Worth(v, d, v_low, v_high, d_low, d_high)


def guards(worth: Worth, profile: Profile, short_at: int) -> tuple[Tri, ...]:
    """warn, call, close-out, bankrupt, restore, short of U + step, short of the minimum."""
    k, tie = profile.k, profile.level_tie
    return (
        guard(worth, profile.warn, k, tie),
        guard(worth, profile.call, k, tie),
        guard(worth, profile.close, k, tie),
        guard(worth, k, k, tie),
        guard(worth, profile.restore, k, profile.restore_tie),
        short_of(worth, short_at, profile),
        short_of(worth, profile.called_from, profile),
    )


class Oracle:
    def __init__(self) -> None:
        self.effects: list[Json] = []
        self._position = 0
        self._clock = 0
        self._instruments: dict[str, Instrument] = {}
        self._accounts: dict[str, Account] = {}
        self._profiles: dict[str, Profile] = {}
        self._waiting: list[Profile] = []
        self._readers: dict[str, dict[str, Account]] = {}
        self._views: dict[str, list[View]] = {}
        self._market_effects = 0
        self._fresh: list[tuple[str, int, Json]] = []

    def position(self) -> int:
        return self._position

    def levels(self) -> dict[str, str]:
        return {name: account.level for name, account in self._accounts.items()}

    def feed(self, event: Json) -> None:
        self._position += 1
        kind = str(event["type"]).partition(".")[0]
        if kind == "price_ticked":
            self._quote(event)
        elif kind == "clock_ticked":
            self._tick(moment(event["time"]))
        elif kind == "collateral_moved":
            self._money(event)
        elif kind == "position_changed":
            self._trade(event)
        elif kind == "account_opened":
            name, base = str(event["account"]), str(event["base_currency"])
            account = Account(name, base, self._instruments[base].scale, str(event["profile"]))
            self._accounts[name] = account
            self._bind(account)
            self._evaluate(account)
        elif kind == "account_changed":
            account = self._accounts[str(event["account"])]
            if event.get("profile") is not None:
                account.profile_name = str(event["profile"])
                self._bind(account)
            self._wake(account)
        elif kind == "instrument_listed":
            self._list(event)
        elif kind == "profile_activated":
            self._waiting.append(Profile(event))
        elif kind != "engine_activated":
            raise ValueError(kind)
        if self._fresh:
            self._fresh.sort(key=lambda item: item[:2])
            self.effects.extend(effect for _, _, effect in self._fresh)
            self._fresh = []

    # Effects

    def _say_market(self, kind: str, **fields: object) -> None:
        self._market_effects += 1
        self._emit(kind, "@market", self._market_effects, fields)

    def _emit(self, kind: str, group: str, number: int, fields: Json) -> None:
        head: Json = {"type": kind, "id": f"{group}/{number}", "position": self._position, "at_ns": self._clock}
        self._fresh.append((group, number, head | fields))

    def _say(self, account: Account, kind: str, worth: Worth | None = None, /, **fields: object) -> None:
        """Integers among ``fields`` that are amounts arrive as text already."""
        account.effects += 1
        head: Json = {"account": account.name, "currency": account.base}
        if worth is not None:
            head |= {"value": text_of(worth.v, account.base_scale), "debit": text_of(worth.d, account.base_scale)}
        self._emit(kind, account.name, account.effects, head | fields)

    # The directory

    def _list(self, event: Json) -> None:
        name = str(event["instrument"])
        self._instruments[name] = Instrument(
            name=name,
            order=len(self._instruments),
            kind=str(event["kind"]),
            scale=integer(event["quantity_scale"]),
            base=str(event.get("base", "")),
            currency=str(event.get("currency", "")),
            price_scale=integer(event.get("price_scale", 0)),
            band=decimal(event.get("band", "0.1")),
            band_per_second=decimal(event.get("band_per_second", "0.001")),
            band_maximum=decimal(event.get("band_maximum", "0.5")),
            reanchor_quotes=integer(event.get("reanchor_quotes", 3)),
            reanchor_within=decimal(event.get("reanchor_within", "0.02")),
            stale_after=integer(event.get("stale_after_s", 300)) * SECOND,
        )

    def _bind(self, account: Account) -> None:
        """Take the profile in force and the balances anew: what the account holds, and which instruments it reads."""
        for name in account.reads:
            self._readers[name].pop(account.name, None)
        account.profile = profile = self._profiles.get(account.profile_name)
        account.holdings, account.reads = [], set()
        if profile is None:
            return
        for asset in {**account.balances, **{item[0]: 0 for item in account.pending}}:
            view, balance = self._view(profile, asset), account.balances.get(asset, 0)
            if balance < 0 or (balance > 0 and view.named):
                account.holdings.append((balance, view))
            if balance or any(item[0] == asset for item in account.pending):
                account.reads.update(view.route)
        for name in account.reads:
            self._readers.setdefault(name, {})[account.name] = account

    def _view(self, profile: Profile, asset: str) -> View:
        view = profile.views.get(asset)
        if view is None:
            haircut, route = profile.assets.get(asset, (Fraction(0), []))
            scales = self._instruments[asset].scale, self._instruments[profile.base].scale
            view = profile.views[asset] = View(route, haircut, *scales, named=asset in profile.assets)
            view.refresh(self._instruments)
            for name in set(route):
                self._views.setdefault(name, []).append(view)
        return view

    # Marks and the clock

    def _quote(self, event: Json) -> None:
        one = self._instruments[str(event["instrument"])]
        price = int(decimal(event["price"]) * 10**one.price_scale)
        bid, ask = event.get("bid"), event.get("ask")
        before = text_of(one.mark, one.price_scale) if one.mark else ""
        spoken = {"instrument": one.name, "price": text_of(price, one.price_scale), "mark": before}
        if bid is not None and ask is not None and decimal(bid) > decimal(ask):
            self._say_market("mark_refused", **spoken, reason="crossed")
            return
        if price <= 0:
            self._say_market("mark_refused", **spoken, reason="not_positive")
            return
        if one.mark:
            band = one.band_maximum * MILLION
            if not one.stale:
                grown = floor(one.band_per_second * MILLION * (self._clock - one.marked_at) / SECOND)
                band = min(band, one.band * MILLION + grown)
            if abs(price - one.mark) * MILLION > band * one.mark:
                source = str(event["source"])
                reason = ""
                if one.row and one.row[-1][0] != source and one.agree([one.row[-1][1], price]):
                    reason = "second_source"
                else:
                    one.row.append((source, price))
                    last = [quoted for _, quoted in one.row[-one.reanchor_quotes :]]
                    if len(last) == one.reanchor_quotes and one.agree(last):
                        reason = "consecutive"
                if not reason:
                    self._say_market("mark_refused", **spoken, reason="deviation")
                    return
                self._say_market("mark_reanchored", **spoken, reason=reason)
        one.row.clear()
        one.mark, one.marked_at, one.stale = price, self._clock, False
        for view in self._views.get(one.name, ()):
            view.refresh(self._instruments)
        for account in list(self._readers.get(one.name, {}).values()):
            if account.pending:
                self._wake(account)
            elif not self._unchanged(account):
                self._evaluate(account)

    def _unchanged(self, account: Account) -> bool:
        """Whether every guard is what it was when the account came to rest; then evaluating it again changes nothing."""
        profile = account.profile
        if profile is None:
            return True
        v = d = 0
        for balance, view in account.holdings:
            if not view.fresh:
                return guards(worth_of(account), profile, account.short_at) == account.rest
            if balance > 0:
                v += balance * view.v // view.v_den
            else:
                d -= balance * view.d // view.d_den
        if account.quiet and (d == 0 or v * profile.k > d * max(profile.warn, profile.call, profile.close, profile.restore, profile.k)):
            return True
        return guards(Worth(v, d, v, v, d, d), profile, account.short_at) == account.rest

    def _tick(self, now: int) -> None:
        self._clock = now
        touched: dict[str, Account] = {}
        arriving = sorted((p for p in self._waiting if p.effective <= now), key=lambda p: (p.effective, p.name, p.version))
        for profile in arriving:
            self._waiting.remove(profile)
            profile.settle_scale(self._instruments[profile.base].scale)
            self._profiles[profile.name] = profile
            self._say_market("profile_took_effect", profile=profile.name, version=profile.version)
        for one in self._instruments.values():
            if one.mark and not one.stale and now - one.marked_at > one.stale_after:
                one.stale = True
                mark = text_of(one.mark, one.price_scale)
                self._say_market("feed_went_stale", instrument=one.name, mark=mark, marked_at_ns=one.marked_at)
                for view in self._views.get(one.name, ()):
                    view.refresh(self._instruments)
                touched.update(self._readers.get(one.name, {}))
        for name in {profile.name for profile in arriving}:
            for account in self._accounts.values():
                if account.profile_name == name:
                    self._bind(account)
                    touched[account.name] = account
        for account in touched.values():
            self._wake(account)
        for account in self._accounts.values():
            if account.next_timer <= now:
                self._timers(account)

    # Money and trades

    def _trade(self, event: Json) -> None:
        account, one = self._accounts[str(event["account"])], self._instruments[str(event["instrument"])]
        delta, price, fee = (decimal(event.get(name, "0")) for name in ("quantity_delta", "price", "fee"))
        unit = 10 ** self._instruments[one.currency].scale
        held = account.positions.get(one.name, Fraction(0))
        crosses = held * delta < 0 and abs(delta) > abs(held)
        parts = [-held, delta + held] if crosses else [delta]
        cash = sum(floor(-part * price * unit) for part in parts) - ceil(fee * unit)
        account.positions[one.name] = held + delta
        asset = one.base if one.kind == "spot" else one.name
        added = int(delta * 10 ** self._instruments[asset].scale)
        account.balances[asset] = account.balances.get(asset, 0) + added
        account.balances[one.currency] = account.balances.get(one.currency, 0) + cash
        self._bind(account)
        self._evaluate(account, moved=True)

    def _money(self, event: Json) -> None:
        account, asset, named = self._accounts[str(event["account"])], str(event["asset"]), str(event.get("call", ""))
        delta = int(decimal(event["amount_delta"]) * 10 ** self._instruments[asset].scale)
        before = account.balances.get(asset, 0)
        account.balances[asset] = before + delta
        if account.calls or named:
            if named and all(call.id != named for call in account.calls):
                self._say(account, "call_reference_unmatched", call=named)
                named = ""
            face = min(delta, max(0, -before)) if delta > 0 else min(-delta, max(0, -delta - max(0, before)))
            account.pending.append((asset, Fraction(face), Fraction(abs(delta) - face), delta > 0, named))
        self._bind(account)
        self._settle(account)
        self._evaluate(account, moved=True)

    def _settle(self, account: Account) -> None:
        """Count the money whose asset has a mark."""
        profile, waiting = account.profile, account.pending
        if profile is None or not waiting:
            return
        account.pending = []
        for item in waiting:
            asset, face, rest, arriving, named = item
            view = self._view(profile, asset)
            if not view.marked:
                account.pending.append(item)
                continue
            value = floor(face * view.price()) + floor(rest * view.price() * (1 - view.haircut))
            if arriving:
                self._arrive(account, value, named)
            else:
                self._leave(account, profile, value)
        self._bind(account)

    def _arrive(self, account: Account, value: int, named: str) -> None:
        first = [call for call in account.calls if call.id == named and call.unpaid > 0]
        for call in first + [call for call in account.open_calls() if call not in first]:
            credited = min(value, call.unpaid)
            if credited == 0:
                continue
            value -= credited
            call.unpaid -= credited
            paid = text_of(credited, account.base_scale)
            if call.unpaid:
                self._say(account, "call_reduced", call=call.id, credited=paid, unpaid=text_of(call.unpaid, account.base_scale))
            else:
                call.status = "met"
                self._say(account, "call_met", call=call.id, credited=paid)

    def _leave(self, account: Account, profile: Profile, value: int) -> None:
        worth = worth_of(account)
        short = guard(worth, profile.restore, profile.k, profile.restore_tie)
        for call in sorted(account.calls, key=lambda call: (-call.due, -call.number)):
            taken = min(value, call.amount - call.unpaid)
            if taken == 0 or call.status == "cured":
                continue
            if call.status == "met":
                if short is not True or self._clock > call.issued + profile.reopen_within:
                    continue
                call.status = "open"
                call.unpaid += taken
                self._reopened(account, worth, call, "withdrawal")
            else:
                call.unpaid += taken
            value -= taken

    def _reopened(self, account: Account, worth: Worth, call: Call, reason: str) -> None:
        unpaid = text_of(call.unpaid, account.base_scale)
        self._say(account, "call_reopened", worth, call=call.id, unpaid=unpaid, due_at_ns=call.due, reason=reason)

    # What follows

    def _wake(self, account: Account) -> None:
        self._settle(account)
        self._evaluate(account)

    def _condition(self, account: Account, worth: Worth, profile: Profile) -> Tri:
        called = guard(worth, profile.call, profile.k, profile.level_tie)
        unpaid = account.unpaid()
        return both(called, short_of(worth, unpaid + profile.step, profile)) if unpaid else called

    def _evaluate(self, account: Account, moved: bool = False) -> None:
        profile = account.profile
        if profile is None:
            return
        worth = worth_of(account)
        became = False
        while True:
            state = (account.level, account.liquidating, account.suppressed, account.started, [c.status for c in account.calls])
            self._once(account, profile, worth)
            if account.sale_wanted:
                account.sale_wanted, became = False, True
                self._sell(account, profile, worth)
            if state == (account.level, account.liquidating, account.suppressed, account.started, [c.status for c in account.calls]):
                break
        if moved and account.liquidating and not became:
            self._sell(account, profile, worth)
        account.short_at = account.unpaid() + profile.step
        account.rest = guards(worth, profile, account.short_at)
        account.quiet = not any(one is not False for one in account.rest[:5])
        times = [call.due + 1 for call in account.calls if call.status == "open" and call.deadline == "running"]
        account.next_timer = min([*times, 2**63] if account.started is None else [*times, account.started + profile.persistence])

    def _once(self, account: Account, profile: Profile, worth: Worth) -> None:
        warn, call, close, bankrupt, restore, _, minimum = guards(worth, profile, 0)
        if restore is False:
            account.liquidating, account.standing = False, None
            for one in account.open_calls():
                one.status = "cured"
                self._say(account, "call_cured", worth, call=one.id, unpaid=text_of(one.unpaid, account.base_scale))
        if close is True and not account.liquidating:
            account.liquidating = account.sale_wanted = True
        if account.liquidating:
            account.started, account.suppressed = None, False
        elif call is False:
            account.started, account.suppressed = None, False
        elif account.suppressed:
            missing = shortfall(worth.v, worth.d, profile) - account.unpaid()
            if both(call, minimum) is True and missing > 0:
                account.suppressed = False
                self._issue(account, profile, worth, missing)
        else:
            condition = self._condition(account, worth, profile)
            if condition is False:
                account.started = None
            elif condition is True and account.started is None:
                account.started = self._clock
        if bankrupt is True:
            level = "BANKRUPT"
        elif account.liquidating:
            level = "LIQUIDATING"
        else:
            level = "DEFICIT" if call is True else "WARNING" if warn is True else "HEALTHY"
        if level != account.level:
            if (account.level, level) == ("HEALTHY", "WARNING"):
                self._say(account, "margin_warned", worth)
            else:
                self._say(account, "margin_level_changed", worth, level=level, previous=account.level)
            account.level = level

    def _issue(self, account: Account, profile: Profile, worth: Worth, missing: int) -> None:
        amount = -(-missing // profile.rounding) * profile.rounding if profile.rounding else missing
        number = len(account.calls) + 1
        call = Call(number, f"{account.name}/call/{number}", amount, amount, self._clock, self._clock + profile.due_after)
        tranche = 1 + len(account.open_calls())
        account.calls.append(call)
        whole = text_of(shortfall(worth.v, worth.d, profile), account.base_scale)
        fields: Json = {"call": call.id, "amount": text_of(amount, account.base_scale), "shortfall": whole}
        self._say(account, "margin_call_issued", worth, **fields, due_at_ns=call.due, tranche=tranche)

    def _timers(self, account: Account) -> None:
        while (profile := account.profile) is not None:
            worth = worth_of(account)
            running = [c for c in account.calls if c.status == "open" and c.deadline == "running" and self._clock > c.due]
            due: list[tuple[int, int, int]] = [(call.due, 0, call.number) for call in running]
            if account.started is not None and self._clock >= account.started + profile.persistence:
                if self._condition(account, worth, profile) is True:
                    due.append((account.started + profile.persistence, 1, 0))
            if not due:
                return
            _, kind, number = min(due)
            if kind == 0:
                call = account.calls[number - 1]
                restore = guard(worth, profile.restore, profile.k, profile.restore_tie)
                call.deadline = "escalated" if restore is None else "expired"
                unpaid = text_of(call.unpaid, account.base_scale)
                self._say(account, "call_" + call.deadline, worth, call=call.id, unpaid=unpaid)
                if restore is True and not account.liquidating:
                    account.liquidating = account.sale_wanted = True
            else:
                self._matured(account, profile, worth)
            self._evaluate(account)

    def _matured(self, account: Account, profile: Profile, worth: Worth) -> None:
        missing = shortfall(worth.v, worth.d, profile)
        for call in sorted(account.calls, key=lambda call: (call.due, call.number)):
            if call.status == "cured" and call.unpaid and call.issued + profile.reopen_within >= self._clock and missing > account.unpaid():
                call.status = "open"
                self._reopened(account, worth, call, "breach")
        unpaid = account.unpaid()
        if unpaid:
            if missing - unpaid >= profile.step:
                self._issue(account, profile, worth, missing - unpaid)
        elif missing < profile.called_from:
            account.suppressed = True
            texts = {"shortfall": text_of(missing, account.base_scale), "minimum": text_of(profile.minimum, account.base_scale)}
            self._say(account, "call_suppressed_below_minimum", worth, **texts)
        else:
            self._issue(account, profile, worth, missing)
        account.started = None

    def _sell(self, account: Account, profile: Profile, worth: Worth) -> None:
        """Demand a sale, or lower the one that stands."""
        gap = profile.restore_ratio * worth.d - worth.v
        legs: list[tuple[str, int]] = []
        held = [name for name, balance in account.balances.items() if balance > 0 and self._view(profile, name).marked]
        for name in sorted(held, key=lambda name: (self._view(profile, name).haircut, self._instruments[name].order)):
            if gap <= 0:
                break
            view = self._view(profile, name)
            gain = profile.restore_ratio - (1 - view.haircut)
            whole = floor(account.balances[name] * view.price())
            sold = min(ceil(gap / gain), whole) if gain > 0 else whole
            gap -= sold * gain
            if sold:
                legs.append((name, sold))
        total = sum(sold for _, sold in legs)
        supersedes = 0
        if account.standing is not None:
            supersedes, standing = account.standing
            if total >= standing:
                return
        if total < profile.sale_minimum:
            if not supersedes:
                return
            legs, total = [], 0
        account.sales += 1
        account.standing = (account.sales, total) if total else None
        fields: Json = {"number": account.sales, "amount": text_of(total, account.base_scale), "supersedes": supersedes}
        fields["legs"] = [{"asset": name, "amount": text_of(sold, account.base_scale)} for name, sold in legs]
        self._say(account, "liquidation_due", worth, **fields)


class Scene:
    """One account with 10 BTC (haircut 10 %) and a debit of USDT, for the worked examples below."""

    def __init__(self, debit: str = "60000", btc: str = "10") -> None:
        self.oracle, self.now, self.seen = Oracle(), 0, 0
        parameters: Json = {"base_currency": "USDT", "warn": "1.40", "call": "1.25", "close_out": "1.10", "restore": "1.40"}
        parameters |= {"initial": "0.40", "maintenance": "0.25", "at_level": "safe", "at_restore": "restored"}
        parameters |= {"call_persistence_s": 60, "due_after_s": 86400, "reopen_within_s": 86400, "at_minimum": "called"}
        parameters |= {"minimum_transfer": "1000", "rounding": "100", "tranche_step": "1000", "liquidation_minimum": "10"}
        parameters |= {"assets": {"USDT": {"haircut": "0", "route": []}, "BTC": {"haircut": "0.10", "route": ["BTCUSDT"]}}}
        self.feed("instrument_listed", instrument="USDT", kind="currency", quantity_scale=2)
        self.feed("instrument_listed", instrument="BTC", kind="currency", quantity_scale=8)
        pair: Json = {"instrument": "BTCUSDT", "kind": "spot", "quantity_scale": 8, "base": "BTC", "currency": "USDT", "price_scale": 2}
        self.feed("instrument_listed", **pair)
        zero = "1970-01-01T00:00:00Z"
        self.feed("profile_activated", profile="P", model="prime", version=1, effective_from=zero, approved_by="x", parameters=parameters)
        self.feed("account_opened", account="A", base_currency="USDT", profile="P")
        self.clock(0)
        self.price("10000")
        self.money("BTC", btc)
        self.money("USDT", "-" + debit)
        self.new()

    def feed(self, kind: str, /, **fields: object) -> None:
        self.oracle.feed({"type": kind, "source": "s", "source_seq": self.oracle.position(), "event_time": "1970-01-01T00:00:00Z"} | fields)

    def clock(self, seconds: int) -> None:
        """Seconds since the scene began."""
        self.now = seconds
        day, rest = divmod(seconds, 86400)
        self.feed("clock_ticked", time=f"2021-05-{19 + day:02d}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}Z")

    def price(self, price: str, source: str = "s") -> None:
        self.feed("price_ticked", instrument="BTCUSDT", price=price, source=source)

    def money(self, asset: str, amount: str, call: str = "") -> None:
        self.feed("collateral_moved", account="A", asset=asset, amount_delta=amount, call=call)

    def until(self, seconds: int, price: str) -> None:
        """Keep the mark fresh, to ``seconds``."""
        self.price(price)
        for now in range(self.now + 300, seconds, 300):
            self.clock(now)
            self.price(price)
        self.clock(seconds)

    def new(self) -> list[Json]:
        found = self.oracle.effects[self.seen :]
        self.seen = len(self.oracle.effects)
        return found

    def expect(self, *kinds: str, **fields: object) -> None:
        """These effects since last time; the last one has these fields."""
        found = self.new()
        assert [effect["type"] for effect in found] == list(kinds), found
        for name, value in fields.items():
            assert found[-1][name] == value, (name, value, found[-1])


def called() -> Scene:
    """V = 81,000, D = 65,000 (1.246): S = 91,000 - 81,000 = 10,000 after 60 s."""
    scene = Scene("65000")
    scene.price("9000")
    scene.expect("margin_level_changed", level="DEFICIT", previous="WARNING", value="81000.00", debit="65000.00")
    scene.clock(59)
    scene.expect()
    scene.clock(60)
    scene.expect("margin_call_issued", call="A/call/1", amount="10000.00", shortfall="10000.00", tranche=1)
    return scene


def check() -> None:
    scene = Scene("64000")  # 90,000 / 64,000 = 1.406: healthy; with 65,000 1.385: warned
    scene.expect()
    scene.money("USDT", "-1000")
    scene.expect("margin_warned", value="90000.00", debit="65000.00")
    assert scene.oracle.levels() == {"A": "WARNING"}

    scene = called()  # paid at face: 4,000 and then 6,000 of the debit; 81,000 / 55,000 = 1.473
    scene.money("USDT", "4000", "A/call/1")  # D = 61,000, 1.4 D = 85,400: not restored, but 1.328 is above the call level
    scene.expect("call_reduced", "margin_level_changed", level="WARNING", previous="DEFICIT")
    scene.money("USDT", "6000", "A/call/1")
    scene.expect("call_met", "margin_level_changed", level="HEALTHY")
    scene.money("USDT", "-5000")  # D = 60,000, 1.4 D = 84,000 > 81,000: short again, so the met call reopens
    scene.expect("call_reopened", "margin_warned")
    assert scene.oracle.effects[-2] | {"reason": "withdrawal", "unpaid": "5000.00"} == scene.oracle.effects[-2]
    scene.money("USDT", "1000", "A/call/9")
    scene.expect("call_reference_unmatched", "call_reduced", unpaid="4000.00")

    scene = called()  # tranche: 8,880 gives V = 79,920, S = 11,080, only 1,080 more than is unpaid
    scene.price("8880")
    scene.clock(119)
    scene.expect()
    scene.clock(120)
    scene.expect("margin_call_issued", call="A/call/2", amount="1100.00", shortfall="11080.00", tranche=2)

    scene = called()  # V = 91,080 restores; 9,000 again breaches, and after 60 s the same call is open again
    scene.price("9890")
    scene.price("10120")
    scene.expect("margin_level_changed", "call_cured", "margin_level_changed", level="HEALTHY", previous="WARNING")
    scene.price("9200")
    scene.price("9000")
    scene.expect("margin_warned", "margin_level_changed", level="DEFICIT")
    scene.clock(120)
    scene.expect("call_reopened", call="A/call/1", unpaid="10000.00", reason="breach")

    scene = called()  # the due instant itself is in time; one second later 10,000 / (1.4 - 0.9) = 20,000 is to be sold
    scene.until(86460, "9000")
    scene.expect()
    scene.price("9000")
    scene.clock(86461)
    scene.expect("call_expired", "margin_level_changed", "liquidation_due", amount="20000.00", number=1, supersedes=0)
    scene.money("USDT", "4000")  # S = 85,400 - 81,000 = 4,400: 8,800 is to be sold
    scene.expect("call_reduced", "liquidation_due", amount="8800.00", number=2, supersedes=1)
    scene.money("USDT", "3140")  # 1.4 x 61,000 - 81,000 = 4,400 = 1.4 x 3,142.86: S = 4: 8 is below 10
    scene.expect("call_reduced", "liquidation_due", amount="0.00", number=3, supersedes=2, legs=[])

    scene = called()  # stale at the due time: V between 40,500 and 121,500 around 91,000
    scene.clock(86461)
    scene.expect("feed_went_stale", "margin_level_changed", "call_escalated", unpaid="10000.00")
    assert scene.oracle.levels() == {"A": "HEALTHY"}

    scene = Scene("65000")  # 7,900: V = 71,100 = 1.094 D; G = 19,900, so 39,800 of BTC
    for price in ("9000", "8200", "7900"):
        scene.price(price)
    scene.expect("margin_level_changed", "margin_level_changed", "liquidation_due", amount="39800.00")
    assert scene.oracle.effects[-1]["legs"] == [{"asset": "BTC", "amount": "39800.00"}]
    scene.price("7200")  # V = 64,800 < D; prices alone do not change the demand
    scene.expect("margin_level_changed", level="BANKRUPT", previous="LIQUIDATING")

    scene = Scene("6500", btc="1")  # 9,000: S = 9,100 - 8,100 = 1,000, called; 9,001: 999.10, suppressed, then called at once
    scene.price("9001")
    scene.clock(60)
    scene.expect("margin_level_changed", "call_suppressed_below_minimum", shortfall="999.10", minimum="1000.00")
    scene.price("9000")
    scene.expect("margin_call_issued", amount="1000.00", tranche=1)

    scene = Scene("60000")
    scene.price("8999")  # outside 10 %
    scene.expect("mark_refused", reason="deviation", price="8999.00", mark="10000.00")
    scene.price("8950")
    scene.price("9000")  # on the edge: inside, and the row is emptied
    scene.price("9000.5", "t")
    scene.expect("mark_refused", "margin_warned")  # 81,000 / 60,000 = 1.35
    scene.price("7000")
    scene.price("7100")
    scene.price("7050")
    scene.expect("mark_refused", "mark_refused", "mark_reanchored", "margin_level_changed", "liquidation_due")
    scene.price("9400")
    scene.price("9500", "t")  # V = 85,500 = 1.425 D: restored, the sale ends
    scene.expect("mark_refused", "mark_reanchored", "margin_level_changed", level="HEALTHY", previous="LIQUIDATING")
    scene.price("-1")
    scene.expect("mark_refused", reason="not_positive")
    scene.feed("price_ticked", instrument="BTCUSDT", price="9100", bid="9101", ask="9100")
    scene.expect("mark_refused", reason="crossed")
    print("the worked examples agree")


if __name__ == "__main__":
    check()
