"""Small seeded days in perpetuals, for tests: cross and isolated subaccounts, hedge mode, funding, transfers, accounts of
``prime`` beside them."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.days import Day, text

TABLES: dict[str, list[dict[str, Any]]] = {
    "BTCUSDT-PERP": [
        {"floor": "0", "cap": "20000", "maintenance_rate": "0.004", "maintenance_amount": "0", "max_leverage": "125"},
        {
            "floor": "20000",
            "cap": "60000",
            "maintenance_rate": "0.01",
            "maintenance_amount": "120",
            "max_leverage": "50",
        },
        {
            "floor": "60000",
            "cap": "150000",
            "maintenance_rate": "0.05",
            "maintenance_amount": "2520",
            "max_leverage": "10",
        },
        {"floor": "150000", "cap": None, "maintenance_rate": "0.5", "maintenance_amount": "70020", "max_leverage": "1"},
    ],
    "ETHUSDT-PERP": [
        {"floor": "0", "cap": "10000", "maintenance_rate": "0.0065", "maintenance_amount": "0", "max_leverage": "75"},
        {"floor": "10000", "cap": None, "maintenance_rate": "0.025", "maintenance_amount": "185", "max_leverage": "25"},
    ],
    "DOGEUSDT-PERP": [
        {"floor": "0", "cap": None, "maintenance_rate": "0.05", "maintenance_amount": "0", "max_leverage": "10"}
    ],
}

USDM_PARAMETERS: dict[str, Any] = {
    "base_currency": "USDT",
    "warn": "1.25",
    "restore": "1.25",
    "at_level": "breach",
    "default_leverage": 20,
    "liquidation_minimum": "10",
    "assets": {"USDT": {"haircut": "0", "route": []}, "BTC": {"haircut": "0.05", "route": ["BTCUSDT"]}},
    "brackets": TABLES,
}

PERPETUALS = {"BTCUSDT-PERP": (2, 3, 4000000), "ETHUSDT-PERP": (2, 3, 300000), "DOGEUSDT-PERP": (5, 0, 30000)}
"""Name -> price scale, quantity scale, first price."""


class UsdmDay(Day):
    """A day whose directory also has perpetuals and an activated ``binance-usdm``."""

    def __init__(self, usdm: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.usdm = {**USDM_PARAMETERS, **(usdm or {})}

    def directory(self) -> None:
        super().directory()
        for name, (price_scale, quantity_scale, _) in PERPETUALS.items():
            self.book(
                "instrument_listed",
                instrument=name,
                kind="perpetual",
                currency="USDT",
                price_scale=price_scale,
                quantity_scale=quantity_scale,
            )
        self.activate(1)

    def activate(self, version: int, **parameters: Any) -> None:
        self.book(
            "profile_activated",
            profile="binance-usdm",
            model="binance-usdm",
            version=version,
            effective_from="2020-01-01T00:00:00Z",
            approved_by="risk",
            parameters={**self.usdm, **parameters},
        )

    def opened(self, prices: bool = True) -> UsdmDay:
        super().opened(prices)
        if prices:
            for name, (scale, _, price) in PERPETUALS.items():
                self.tick(name, text(price, scale))
        return self

    def usdm_account(self, name: str, deposit: str = "0") -> None:
        self.book("account_opened", account=name, base_currency="USDT", profile="binance-usdm")
        if deposit != "0":
            self.money(name, deposit)

    def perpetual(self, account: str, instrument: str, quantity: str, price: str, **more: Any) -> None:
        self.book(
            "position_changed",
            account=account,
            instrument=instrument,
            quantity_delta=quantity,
            price=price,
            reason="trade",
            **more,
        )


def random_usdm_day(seed: int, accounts: int = 8, steps: int = 150) -> list[bytes]:
    """Return the lines of a random day; every fourth account is one of ``prime``."""
    rng = Random(seed)
    day = UsdmDay()
    day.opened(prices=rng.randrange(5) > 0)
    prices = {name: row[2] for name, row in PERPETUALS.items()}
    names = [f"U{n}" for n in range(accounts)]
    for place, name in enumerate(names):
        if place % 4 == 3:
            day.account(name)
            day.money(name, "9000")
            day.trade(name, "BTCUSDT", "0.5", "40000.00")
            continue
        day.usdm_account(name, text(rng.randrange(50_000, 2_000_000), 2))
        if rng.randrange(3) == 0:
            day.money(name, "0.05", "BTC")
        for _ in range(rng.randint(1, 4)):
            _trade(rng, day, name, prices)
    usdm = [name for place, name in enumerate(names) if place % 4 != 3]
    drift = rng.choice((-12, -4, 0, 8))
    for _ in range(steps):
        what = rng.randrange(100)
        name = rng.choice(usdm)
        if what < 50:
            instrument = rng.choice(sorted(PERPETUALS))
            move = rng.randint(-60, 60) + drift
            if rng.randrange(25) == 0:
                move = rng.choice((-300, -150, 120, 300))
            prices[instrument] = max(40, prices[instrument] * (1000 + move) // 1000)
            day.tick(instrument, text(prices[instrument], PERPETUALS[instrument][0]))
            if instrument == "BTCUSDT-PERP" and rng.randrange(2):
                day.tick("BTCUSDT", text(prices[instrument], 2))
        elif what < 51:
            instrument = rng.choice(sorted(PERPETUALS))
            confirmed = text(prices[instrument], PERPETUALS[instrument][0])
            day.book("mark_confirmed", instrument=instrument, price=confirmed, actor="risk")
        elif what < 70:
            day.clock(
                rng.choice((1, 20, 60, 290, 400, 3600, 30_000)) if rng.randrange(3) == 0 else rng.choice((10, 30, 60))
            )
        elif what < 86:
            _trade(rng, day, name, prices)
        elif what < 94:
            amount = rng.randrange(-200_000, 500_000)
            subaccount = rng.choice(("", "", *PERPETUALS))
            if subaccount and rng.randrange(2):
                day.money(name, text(abs(amount) + 1, 2), isolated=subaccount, from_isolated="")
            elif subaccount and rng.randrange(2):
                day.money(name, text(abs(amount) // 8 + 1, 2), isolated="", from_isolated=subaccount)
            else:
                day.money(name, text(amount, 2), isolated=subaccount)
        elif what < 97:
            fields = {"price": "39000.5"} if rng.randrange(3) == 0 else {}
            day.book(
                "funding_paid",
                instrument="BTCUSDT-PERP",
                rate=rng.choice(("0.0001", "-0.00075", "0.012345678912")),
                **fields,
            )
        elif what < 98:
            tables = {
                **TABLES,
                "DOGEUSDT-PERP": [{**TABLES["DOGEUSDT-PERP"][0], "maintenance_rate": rng.choice(("0.02", "0.1"))}],
            }
            day.activate(2 + len(day.lines), brackets=tables)
        elif what < 99:
            day.trade(rng.choice(names), "ETHUSDT", "0.1", "3000.00")
        else:
            day.book("account_changed", account=name, profile=rng.choice(("binance-usdm", "prime", "binance-usdm")))
    return day.lines


def _trade(rng: Random, day: UsdmDay, name: str, prices: dict[str, int]) -> None:
    instrument = rng.choice(sorted(PERPETUALS))
    price_scale, quantity_scale, _ = PERPETUALS[instrument]
    worth = rng.choice((2_000, 15_000, 30_000, 90_000, 250_000))
    quantity = max(1, worth * 10 ** (price_scale + quantity_scale) // prices[instrument]) * rng.choice((1, 1, -1))
    more: dict[str, Any] = {}
    if rng.randrange(3) == 0:
        more["isolated"] = instrument
        if rng.randrange(2):
            more["isolated_margin_delta"] = text(rng.randrange(-20_000, 900_000), 2)
        if rng.randrange(4) == 0:
            quantity = 0
    if rng.randrange(4) == 0:
        more["position_side"] = rng.choice(("long", "short"))
    if rng.randrange(2):
        more["leverage"] = rng.choice((1, 5, 20, 125))
    if rng.randrange(3) == 0:
        more["fee"] = "1.23"
    day.perpetual(name, instrument, text(quantity, quantity_scale), text(prices[instrument], price_scale), **more)


def with_large_numbers(lines: list[bytes]) -> list[bytes]:
    """Return a day in which, a third through, an account and a subaccount get money beyond 64 bits."""
    day = UsdmDay()
    day._book = 1_000_000
    for _ in range(3):
        day.money("U0", "9" + "0" * 18)
        day.money("U1", "9" + "0" * 18, isolated="BTCUSDT-PERP")
    third = len(lines) // 3
    return [*lines[:third], *day.lines, *lines[third:]]
