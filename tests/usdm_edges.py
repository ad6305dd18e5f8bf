"""Seeded days in perpetuals that aim at edges: brackets met to the unit, equity exactly at a level, prices of one unit,
open marks.

To aim, a day is folded by the oracle while it is written. That cannot hide a fault: a wrong aim only misses.
"""

from __future__ import annotations

import json
from fractions import Fraction
from math import ceil, floor
from random import Random
from typing import Any

from tests.days import PARAMETERS, SECOND_NS, START_NS, text
from tests.oracle.usdm_oracle import Holder, Oracle, UsdmValuation
from tests.usdm_days import UsdmDay

RATES = (
    "0",
    "0.0005",
    "0.004",
    "0.01",
    "0.0125",
    "0.02",
    "0.05",
    "0.1",
    "0.125",
    "0.15",
    "0.25",
    "0.3333",
    "0.5",
    "0.75",
    "0.9999",
)
POCKETS = ("", "", "P", "a", "Q.1", "zz", "0")


def table(rng: Random, scale: int, step: int) -> list[dict[str, Any]]:
    """Return a random table that is continuous from 0; floors are multiples of a step in minor units of this scale."""
    count = rng.choice((1, 2, 3, 5))
    rates = sorted(rng.sample(RATES, count), key=Fraction)
    places = sorted(rng.sample(range(1, 12), count - 1))
    floors = [Fraction(0), *(Fraction(step * place * rng.choice((1, 10)), 10**scale) for place in places)]
    floors = sorted(set(floors))
    rates = rates[: len(floors)]
    rows: list[dict[str, Any]] = []
    amount = Fraction(0)
    leverages = sorted(rng.choices((1, 2, 7, 50, 125), k=len(floors)), reverse=True)
    for place, (floor_, rate) in enumerate(zip(floors, rates, strict=True)):
        if place:
            amount += floor_ * (Fraction(rate) - Fraction(rates[place - 1]))
        cap = None if place + 1 == len(floors) else decimal(floors[place + 1])
        row = {"floor": decimal(floor_), "cap": cap, "maintenance_rate": rate, "maintenance_amount": decimal(amount)}
        rows.append({**row, "max_leverage": str(leverages[place])})
    return rows


def decimal(value: Fraction) -> str:
    """Return the shortest decimal text of a fraction that has one."""
    places = next(n for n in range(40) if (value * 10**n).denominator == 1)
    return text(int(value * 10**places), places)


class EdgeDay:
    """Writes lines and knows where everything stands."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.lines: list[bytes] = []
        self.oracle = Oracle()
        self.now_ns = START_NS
        self.sequences = {"book": 0, "feed": 0}
        self.scale = rng.choice((0, 0, 2, 2, 2, 3, 8, 8))
        self.perpetuals: dict[str, tuple[int, int]] = {}
        self.versions = {"u": 0, "p": 0}
        self.tables: dict[str, list[dict[str, Any]]] = {}

    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    # --------------------------------------------------------------------------------------------------------- writing
    def say(self, type_: str, source: str = "book", **fields: Any) -> None:
        self.sequences[source] += 1
        row = {
            "type": type_,
            "source": source,
            "source_seq": self.sequences[source],
            "event_time": "2021-05-19T00:00:00Z",
            **fields,
        }
        self.lines.append(json.dumps(row, separators=(",", ":")).encode())
        self.oracle.feed(row)

    def clock(self, seconds: int) -> None:
        self.now_ns += seconds * SECOND_NS
        whole, rest = divmod(self.now_ns - START_NS, SECOND_NS)
        assert not rest
        day, second = divmod(whole, 86_400)
        stamp = f"2021-05-{19 + day:02d}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}Z"
        self.say("clock_ticked", "feed", time=stamp)

    def quote(self, name: str, price: int, times: int = 1) -> None:
        for _ in range(times):
            self.say(
                "price_ticked", "feed", instrument=name, price=text(price, self.oracle.instrument(name).price_scale)
            )

    def profile(self) -> None:
        rng = self.rng
        self.versions["u"] += 1
        names = [name for name in self.perpetuals if self.versions["u"] == 1 or rng.randrange(6)]
        for name in names:
            if name not in self.tables or rng.randrange(3) == 0:
                self.tables[name] = table(rng, self.scale, rng.choice((1, 7, 100, 1000, 10**6)))
        assets = {
            "C": {"haircut": "0", "route": []},
            "X": {"haircut": rng.choice(("0", "0.05", "0.333")), "route": ["XC"]},
        }
        if rng.randrange(2):
            assets["Y"] = {"haircut": rng.choice(("0", "0.2")), "route": ["YX", "XC"]}
        restore = rng.choice(("1", "1.25", "1.25", "1.0001", "3"))
        parameters = {
            "base_currency": "C",
            "warn": rng.choice(("1.25", "1", "2")),
            "restore": restore,
            "at_level": rng.choice(("safe", "breach")),
            "default_leverage": rng.choice((1, 3, 20, 125)),
            "liquidation_minimum": rng.choice(("0", "0", "10", "1")),
            "assets": assets,
            "brackets": {name: self.tables[name] for name in names},
        }
        parameters["warn"] = max((parameters["warn"], restore), key=Fraction)
        self._activate("u", "binance-usdm", parameters)

    def prime(self) -> None:
        self.versions["p"] += 1
        assets = {"C": {"haircut": "0", "route": []}, "X": {"haircut": "0.1", "route": ["XC"]}}
        amounts = {"minimum_transfer": "5", "rounding": "1", "tranche_step": "5", "liquidation_minimum": "1"}
        self._activate("p", "prime", {**PARAMETERS, "base_currency": "C", "assets": assets, **amounts})

    def _activate(self, name: str, model: str, parameters: dict[str, Any]) -> None:
        since = "2020-01-01T00:00:00Z"
        self.say(
            "profile_activated",
            profile=name,
            model=model,
            version=self.versions[name],
            effective_from=since,
            approved_by="risk",
            parameters=parameters,
        )

    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    #
    # ---------------------------------------------------------------------------------------------------------- aiming
    def move(self, holder: Holder, minor: int, asset: str = "C", **more: Any) -> None:
        scale = self.oracle.instrument(asset).scale
        fields = {"isolated": holder.pocket} if holder.pocket else {}
        self.say(
            "collateral_moved", account=holder.name, asset=asset, amount_delta=text(minor, scale), **fields, **more
        )

    def to_level(self, holder: Holder) -> None:
        """Bring the equity to a level, to the unit or one beside it; with open marks, the worst or the best of it."""
        rng, now = self.rng, self.oracle._value(holder)
        if not isinstance(now, UsdmValuation):
            return
        level = rng.choice(list(now.terms.levels.values()))
        gaps = [gap for gap in now._spread(level)[:2] if abs(gap) < 10**30]
        if not gaps:
            return
        gap = rng.choice(gaps)
        if abs(gap) > 2**62:
            return
        self.move(holder, -rng.choice((floor(gap), ceil(gap))) + rng.choice((-2, -1, 0, 0, 0, 0, 1, 2)))

    def trade(self, name: str, subaccount: str, account: str, quantity: int, **more: Any) -> None:
        instrument = self.oracle.instrument(name)
        price = max(0, (instrument.mark or 100) + self.rng.choice((0, 0, 0, 0, 1, -1, 50)))
        fields = {"isolated": subaccount} if subaccount else {}
        self.say(
            "position_changed",
            account=account,
            instrument=name,
            quantity_delta=text(quantity, instrument.scale),
            price=text(price, instrument.price_scale),
            **fields,
            **more,
        )

    def to_edge(self, name: str, subaccount: str, account: str) -> None:
        """Trade so that the notional lies at a bracket's floor, or one quantity unit off it."""
        rng, instrument = self.rng, self.oracle.instrument(name)
        holder = self.oracle.holder(account)
        holder = holder.isolated.get(subaccount, holder) if subaccount else holder
        side = rng.choice(("both", "both", "long", "short"))
        position = holder.positions_by_side.get((name, side))
        held = position.quantity if position and holder.pocket == subaccount else 0
        row = rng.choice(self.tables[name])
        mark = instrument.mark or 1
        aim = floor(Fraction(row["floor"]) * 10 ** (instrument.scale + instrument.price_scale) / mark)
        aim += rng.choice((-1, 0, 0, 0, 1, 2))
        if rng.randrange(8) == 0:
            aim = rng.choice((1, 2, 2**61, 2**62 + 1, 10**17))
        aim = min(max(aim, 0), 2**62 + 1)
        target = aim if side == "long" else -aim if side == "short" else rng.choice((aim, -aim))
        self.trade(
            name,
            subaccount,
            account,
            target - held,
            **({} if side == "both" else {"position_side": side}),
            **self._extras(subaccount),
        )

    def _extras(self, subaccount: str) -> dict[str, Any]:
        rng, extras = self.rng, {}
        if rng.randrange(3) == 0:
            extras["leverage"] = rng.choice((1, 3, 10, 125, 1000))
        if subaccount and rng.randrange(3) == 0:
            extras["isolated_margin_delta"] = text(rng.randrange(-100, 3000), self.scale)
        if rng.randrange(4) == 0:
            extras["fee"] = text(rng.randrange(-3, 30), self.scale)
        return extras

    def directory(self) -> None:
        rng = self.rng
        self.say("instrument_listed", instrument="C", kind="currency", quantity_scale=self.scale)
        self.say("instrument_listed", instrument="X", kind="currency", quantity_scale=8)
        self.say("instrument_listed", instrument="Y", kind="currency", quantity_scale=4)
        self.say(
            "instrument_listed", instrument="XC", kind="spot", base="X", currency="C", price_scale=2, quantity_scale=4
        )
        self.say(
            "instrument_listed", instrument="YX", kind="spot", base="Y", currency="X", price_scale=3, quantity_scale=4
        )
        for name in ("F", "G", "H"):
            self.perpetuals[name] = (rng.choice((0, 1, 2, 5, 8)), rng.choice((0, 0, 1, 3, 8)))
            price_scale, quantity_scale = self.perpetuals[name]
            self.say(
                "instrument_listed",
                instrument=name,
                kind="perpetual",
                currency="C",
                price_scale=price_scale,
                quantity_scale=quantity_scale,
                **({"band_maximum": rng.choice(("0.9", "0.01", "0.25"))} if rng.randrange(2) else {}),
            )
        self.profile()
        self.prime()
        self.clock(0)
        self.quote("XC", rng.choice((1, 777, 30000)))
        if rng.randrange(2):
            self.quote("YX", 1234)
        for name in self.perpetuals:
            if rng.randrange(5):
                self.quote(name, rng.choice((1, 2, 10, 99, 1000, 123456, 10**9)))


def edge_day(seed: int, steps: int = 70) -> list[bytes]:
    """Return the lines of a day."""
    rng = Random(seed)
    day = EdgeDay(rng)
    day.directory()
    accounts = ["A", "B", "Z"]
    for name in accounts:
        day.say("account_opened", account=name, base_currency="C", profile="p" if name == "Z" else "u")
        day.move(day.oracle.holder(name), rng.randrange(1, 3000))
    for _ in range(steps):
        step(rng, day, rng.choice(("A", "A", "B", "Z")))
    return day.lines


def step(rng: Random, day: EdgeDay, name: str) -> None:
    account, subaccount, perpetual = day.oracle.holder(name), rng.choice(POCKETS), rng.choice(list(day.perpetuals))
    instrument = day.oracle.instrument(perpetual)
    holder = rng.choice(account.holders())
    what = rng.randrange(100)
    if what < 24:
        day.to_edge(perpetual, subaccount, name)
    elif what < 30:
        day.trade(perpetual, subaccount, name, rng.choice((0, 1, -1, 5, -7)), **day._extras(subaccount))
    elif what < 36:
        # Close what stands, so that pockets are swept.
        for key, side, position in list(holder.open_positions()):
            day.trade(
                key, holder.pocket, name, -position.quantity, **({} if side == "both" else {"position_side": side})
            )
    elif what < 52:
        day.to_level(holder)
    elif what < 68:
        mark = instrument.mark or 10
        price = max(
            1, rng.choice((mark, mark + 1, mark - 1, mark * 101 // 100, mark * 95 // 100, mark * 2, mark // 2, 1))
        )
        day.quote(perpetual, price, 3 if rng.randrange(3) == 0 else 1)
    elif what < 71:
        day.quote(rng.choice(("XC", "YX")), rng.choice((1, 700, 800, 1234, 30000)), rng.choice((1, 3)))
    elif what < 78:
        day.clock(rng.choice((1, 61, 301, 301, 301, 4000)))
    elif what < 84:
        origin, amount = rng.choice(POCKETS), rng.choice((0, 1, 1, 17, 500, -3))
        whole = int(holder.balances.get("C", Fraction(0)) * 10**day.scale)
        if rng.randrange(2) and whole > 0:
            origin, amount = holder.pocket, whole
        fields: dict[str, Any] = {"isolated": subaccount} if subaccount else {}
        day.say(
            "collateral_moved",
            account=name,
            asset="C",
            amount_delta=text(amount, day.scale),
            from_isolated=origin,
            **fields,
        )
    elif what < 88:
        asset = rng.choice(("X", "Y", "Y"))
        day.move(holder, rng.choice((-1, 1)) * rng.choice((1, 20_000, 10**8)), asset)
    elif what < 92:
        price = {"price": text(rng.choice((0, 1, 500)), instrument.price_scale)} if rng.randrange(2) else {}
        rate = rng.choice(
            ("0.0001", "-0.0001", "0.000000000001", "0.999999999999", "-0.5", "0", "1", "-1", "0.0000000000001")
        )
        day.say("funding_paid", instrument=perpetual, rate=rate, **price)
    elif what < 94:
        day.profile()
        if rng.randrange(3):
            day.clock(0)
    elif what < 97:
        profile = rng.choice(("u", "p", "u"))
        day.say("account_changed", account=name, profile=profile)
    else:
        refused(rng, day, name, perpetual)


def refused(rng: Random, day: EdgeDay, name: str, perpetual: str) -> None:
    """Say something that is refused, or might be."""
    trade = {"account": name, "instrument": "XC", "quantity_delta": "1", "price": "2"}
    which = rng.randrange(8)
    if which == 0:
        day.say("position_changed", **trade)
    elif which == 1:
        fields = rng.choice(
            ({"isolated": "P"}, {"leverage": 3}, {"position_side": "long"}, {"isolated_margin_delta": "1"})
        )
        day.say("position_changed", **trade | {"account": "Z"}, **fields)
    elif which == 2:
        day.say("position_changed", **trade | {"instrument": perpetual, "isolated_margin_delta": "1"})
    elif which == 3:
        day.say("position_changed", **trade | {"instrument": perpetual, "account": "Z"})
    elif which == 4:
        day.say("position_changed", **trade | {"instrument": perpetual, "price": "1.0123456789"})
    elif which == 5:
        day.say("collateral_moved", account="Z", asset="C", amount_delta="1", isolated="P")
    elif which == 6:
        day.say("funding_paid", instrument="XC", rate="0.1")
    else:
        day.say(
            "position_changed", **trade | {"account": "nobody", "instrument": rng.choice(("nothing", perpetual, "X"))}
        )


def changing_day(seed: int, steps: int = 50) -> list[bytes]:
    """Return the lines of a day on which one account in debt goes from ``prime`` to ``binance-usdm`` and back, with
    calls and pockets."""
    rng, day, price = Random(seed), UsdmDay(), 4_000_000
    day.opened()
    day.account("A")
    day.money("A", "0.7", "BTC")
    day.money("A", "-20000")
    for _ in range(steps):
        what = rng.randrange(100)
        if what < 35:
            price = max(100, price * (1000 + rng.randint(-70, 60)) // 1000)
            day.tick("BTCUSDT", text(price, 2))
            day.tick("BTCUSDT-PERP", text(price, 2))
        elif what < 65:
            day.clock(rng.choice((30, 61, 61, 301, 3600, 30_000, 86_401)))
        elif what < 80:
            day.book("account_changed", account="A", profile=rng.choice(("prime", "binance-usdm")))
        elif what < 92:
            fields: dict[str, Any] = {"call": f"A/call/{rng.randint(1, 3)}"} if rng.randrange(2) else {}
            if rng.randrange(4) == 0:
                fields = {"from_isolated": rng.choice(("P", "")), "isolated": rng.choice(("P", ""))}
            elif rng.randrange(5) == 0:
                fields["isolated"] = rng.choice(("P", "BTCUSDT-PERP"))
            day.money("A", text(rng.randrange(-300_000, 700_000), 2), **fields)
        elif what < 97:
            fields = {"isolated": "P", "isolated_margin_delta": "100"} if rng.randrange(2) else {}
            day.perpetual("A", "BTCUSDT-PERP", text(rng.randrange(-400, 400), 3), text(price, 2), **fields)
        else:
            day.trade("A", "BTCUSDT", text(rng.randrange(-400, 400), 4), text(price, 2))
    return day.lines
