"""Small seeded days for tests: everything that can happen, in few items. Prices move in large steps, so levels are
crossed often."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from margin_stream.schemas.times import format_time

SECOND_NS = 1_000_000_000
START_NS = 1_621_382_400 * SECOND_NS

PARAMETERS: dict[str, Any] = {
    "base_currency": "USDT",
    "warn": "1.40",
    "call": "1.25",
    "close_out": "1.10",
    "restore": "1.40",
    "initial": "0.40",
    "maintenance": "0.25",
    "at_level": "safe",
    "at_restore": "restored",
    "call_persistence_s": 60,
    "due_after_s": 86400,
    "reopen_within_s": 86400,
    "minimum_transfer": "1000",
    "at_minimum": "called",
    "rounding": "100",
    "tranche_step": "1000",
    "tranche_share": "0.20",
    "tranche_interval_s": 120,
    "liquidation_minimum": "10",
    "assets": {
        "USDT": {"haircut": "0", "route": []},
        "BTC": {"haircut": "0.10", "route": ["BTCUSDT"]},
        "ETH": {"haircut": "0.15", "route": ["ETHUSDT"]},
        "XMR": {"haircut": "0.30", "route": ["XMRBTC", "BTCUSDT"]},
    },
}

INSTRUMENTS = {"BTCUSDT": ("BTC", "USDT", 2, 4), "ETHUSDT": ("ETH", "USDT", 2, 4), "XMRBTC": ("XMR", "BTC", 6, 3)}
FIRST = {"BTCUSDT": 4000000, "ETHUSDT": 300000, "XMRBTC": 8000}


class Day:
    """Builds a day line by line; two sources, ``book`` and ``feed``, each numbered."""

    def __init__(self, parameters: dict[str, Any] | None = None) -> None:
        self.lines: list[bytes] = []
        self.now_ns = START_NS
        self._book = self._feed = 0
        self.parameters = {**PARAMETERS, **(parameters or {})}

    def _add(self, type_: str, source: str, sequence: int, **fields: Any) -> None:
        row = {
            "type": type_,
            "source": source,
            "source_seq": sequence,
            "event_time": format_time(self.now_ns),
            **fields,
        }
        self.lines.append(json.dumps(row, separators=(",", ":")).encode())

    def book(self, type_: str, **fields: Any) -> None:
        self._book += 1
        self._add(type_, "book", self._book, **fields)

    def feed(self, type_: str, **fields: Any) -> None:
        self._feed += 1
        self._add(type_, "feed", self._feed, **fields)

    def clock(self, seconds: int = 0) -> None:
        self.now_ns += seconds * SECOND_NS
        self.feed("clock_ticked", time=format_time(self.now_ns))

    def tick(self, instrument: str, price: str) -> None:
        self.feed("price_ticked", instrument=instrument, price=price)

    def believe(self, instrument: str, price: str) -> None:
        """Quote a price until it is the mark, however far it is."""
        for _ in range(3):
            self.tick(instrument, price)

    def directory(self) -> None:
        for asset, scale in (("USDT", 2), ("BTC", 8), ("ETH", 8), ("XMR", 8)):
            self.book("instrument_listed", instrument=asset, kind="currency", quantity_scale=scale)
        for name, (base, currency, price_scale, quantity_scale) in INSTRUMENTS.items():
            self.book(
                "instrument_listed",
                instrument=name,
                kind="spot",
                base=base,
                currency=currency,
                price_scale=price_scale,
                quantity_scale=quantity_scale,
            )
        self.book(
            "profile_activated",
            profile="prime",
            model="prime",
            version=1,
            effective_from="2020-01-01T00:00:00Z",
            approved_by="risk",
            parameters=self.parameters,
        )

    def account(self, name: str) -> None:
        self.book("account_opened", account=name, base_currency="USDT", profile="prime")

    def money(self, account: str, amount: str, asset: str = "USDT", **more: Any) -> None:
        self.book("collateral_moved", account=account, asset=asset, amount_delta=amount, **more)

    def trade(self, account: str, instrument: str, quantity: str, price: str, fee: str = "0") -> None:
        self.book(
            "position_changed",
            account=account,
            instrument=instrument,
            quantity_delta=quantity,
            price=price,
            fee=fee,
            reason="trade",
        )

    def opened(self, prices: bool = True) -> Day:
        """Directory, clock, and first prices."""
        self.directory()
        self.clock()
        if prices:
            for name, price in FIRST.items():
                self.tick(name, text(price, INSTRUMENTS[name][2]))
        return self


def opened_day() -> Day:
    """Return a day with a short account whose feed goes up to number 7."""
    day = Day().opened()
    day.account("A")
    day.money("A", "1", asset="BTC")
    day.money("A", "-25000")
    day.clock(60)
    day.clock(10)
    day.clock(10)
    return day


def restart(day: Day, ticks: int, price: int = 39000) -> None:
    """Let the feed number anew and send a clock and a tick so often."""
    day._feed = 0
    for n in range(ticks):
        day.clock(10)
        day.tick("BTCUSDT", f"{price - 500 * n}.00")


def text(amount: int, scale: int) -> str:
    sign = "-" if amount < 0 else ""
    digits = str(abs(amount)).rjust(scale + 1, "0")
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else sign + digits


def random_day(seed: int, accounts: int = 8, steps: int = 150, *, noisy: bool = False) -> list[bytes]:
    """Return the lines of a random day. Noisy: with refusals, wrong prints, duplicates and late book items among
    them."""
    rng = Random(seed)
    day = Day()
    day.directory()
    if rng.randrange(4):
        day.clock()
        unmarked = rng.choice([None, None, "XMRBTC"])
    else:
        day.clock()
        unmarked = "ETHUSDT"
    prices = dict(FIRST)
    for name in INSTRUMENTS:
        if name != unmarked:
            day.tick(name, text(prices[name], INSTRUMENTS[name][2]))
    names = [f"A{n}" for n in range(accounts)]
    for name in names:
        day.account(name)
        day.money(name, text(rng.randrange(100, 3_000_000), 2))
        for instrument in rng.sample(sorted(INSTRUMENTS), rng.randint(1, 3)):
            _, currency, price_scale, quantity_scale = INSTRUMENTS[instrument]
            worth = rng.randrange(200, 60_000)
            usdt = prices[instrument] / 10**price_scale * (1 if currency == "USDT" else 40_000)
            quantity = max(1, int(worth / usdt * 10**quantity_scale)) * rng.choice((1, 1, 1, -1))
            day.trade(name, instrument, text(quantity, quantity_scale), text(prices[instrument], price_scale))
    drift = rng.choice((-12, -6, 0, 5))
    calls = 0
    for _ in range(steps):
        what = rng.randrange(100)
        name = rng.choice(names)
        instrument = rng.choice(sorted(INSTRUMENTS))
        if what < 55:
            move = rng.randint(-60, 60) + drift
            if rng.randrange(25) == 0:
                move = rng.choice((-300, -150, 120, 300))
            prices[instrument] = max(50, prices[instrument] * (1000 + move) // 1000)
            day.tick(instrument, text(prices[instrument], INSTRUMENTS[instrument][2]))
        elif what < 56:
            confirmed = text(prices[instrument] * rng.choice((1, 1, 2)), INSTRUMENTS[instrument][2])
            day.book("mark_confirmed", instrument=instrument, price=confirmed, actor="risk")
        elif what < 80:
            day.clock(
                rng.choice((1, 20, 60, 61, 200, 290, 400, 3600, 30_000, 86_400))
                if rng.randrange(3) == 0
                else rng.choice((10, 30, 60))
            )
        elif what < 90:
            _, _, price_scale, quantity_scale = INSTRUMENTS[instrument]
            quantity = rng.choice((-1, 1)) * rng.randrange(1, 4000)
            day.trade(
                name,
                instrument,
                text(quantity, quantity_scale),
                text(prices[instrument], price_scale),
                rng.choice(("0", "0.01")),
            )
        else:
            calls += 1
            more = {"call": f"{name}/call/{rng.randint(1, 3)}"} if rng.randrange(2) else {}
            asset = rng.choice(("USDT", "USDT", "USDT", "BTC", "XMR"))
            amount = rng.randrange(-400_000, 900_000)
            day.money(name, text(amount, 2) if asset == "USDT" else text(amount * 20, 8), asset, **more)
    lines = day.lines
    if noisy:
        lines = list(lines)
        for _ in range(steps // 15):
            # Book items that come late: their numbers leave gaps that are filled afterwards.
            at = rng.randrange(15, len(lines) - 9)
            if b'"source":"book"' in lines[at]:
                lines.insert(at + 8, lines.pop(at))
        for _ in range(max(3, steps // 10)):
            at = rng.randrange(15, len(lines))
            lines.insert(
                at,
                rng.choice(
                    (
                        b"not json %d" % rng.randrange(1000),
                        b'{"type":"price_ticked","source":"noise","source_seq":%d,"event_time":"2021-05-19T00:00:00Z",'
                        b'"instrument":"NOPE","price":"1"}' % rng.randrange(10**6),
                        b'{"type":"collateral_moved","source":"other","source_seq":%d,"event_time":"2021-05-19T00:00:00Z",'
                        b'"account":"nobody","asset":"USDT","amount_delta":"1"}' % rng.randrange(10**6),
                        lines[rng.randrange(at)],
                    )
                ),
            )
    return lines
