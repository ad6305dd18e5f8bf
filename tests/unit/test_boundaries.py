"""Boundary decisions: one below, exactly, one above; each is a parameter of the profile."""

from __future__ import annotations

from typing import Any

import pytest

from tests.days import Day
from tests.folding import fold


def levels(price: str, **parameters: Any) -> list[str]:
    """The effects of an account that owes 100,000.00 and holds 1 BTC without haircut, at a price of the BTC."""
    assets = {"USDT": {"haircut": "0", "route": []}, "BTC": {"haircut": "0", "route": ["BTCUSDT"]}}
    day = Day({"assets": assets, **parameters})
    day.directory()
    day.clock()
    day.tick("BTCUSDT", "150000.00")
    day.account("A")
    day.money("A", "50000")
    day.trade("A", "BTCUSDT", "1", "150000.00")
    day.believe("BTCUSDT", price)
    day.clock(60)
    _, effects = fold(day.lines)
    return [e.get("level", e["type"]) for e in effects if e["id"].startswith("A/")]


@pytest.mark.parametrize(
    ("price", "at_level", "expected"),
    [
        ("140000.01", "safe", []),
        ("140000.00", "safe", []),
        ("139999.99", "safe", ["margin_warned"]),
        ("140000.01", "breach", []),
        ("140000.00", "breach", ["margin_warned"]),
        ("139999.99", "breach", ["margin_warned"]),
        ("125000.01", "safe", ["margin_warned"]),
        ("125000.00", "safe", ["margin_warned"]),
        ("124999.99", "safe", ["DEFICIT", "margin_call_issued"]),
        ("125000.01", "breach", ["margin_warned"]),
        ("125000.00", "breach", ["DEFICIT", "margin_call_issued"]),
        ("110000.01", "safe", ["DEFICIT", "margin_call_issued"]),
        ("110000.00", "safe", ["DEFICIT", "margin_call_issued"]),
        ("109999.99", "safe", ["LIQUIDATING", "liquidation_due"]),
        ("110000.00", "breach", ["LIQUIDATING", "liquidation_due"]),
        ("100000.01", "safe", ["LIQUIDATING", "liquidation_due"]),
        ("100000.00", "safe", ["LIQUIDATING", "liquidation_due"]),
        ("99999.99", "safe", ["BANKRUPT", "liquidation_due"]),
        ("100000.00", "breach", ["BANKRUPT", "liquidation_due"]),
    ],
)
def test_exactly_at_a_level_is_what_the_profile_says(price: str, at_level: str, expected: list[str]) -> None:
    assert [row for row in levels(price, at_level=at_level) if row != "mark_refused"] == expected


@pytest.mark.parametrize(
    ("amount", "at_restore", "cured"), [(-1, "restored", False), (0, "restored", True), (1, "restored", True)]
)
def test_a_call_is_cured_exactly_at_the_restore_level(amount: int, at_restore: str, cured: bool) -> None:
    assert restored(amount, at_restore) is cured


@pytest.mark.parametrize(("amount", "cured"), [(-1, False), (0, False), (1, True)])
def test_or_only_above_it(amount: int, cured: bool) -> None:
    assert restored(amount, "short") is cured


def restored(cents: int, at_restore: str) -> bool:
    assets = {"USDT": {"haircut": "0", "route": []}, "BTC": {"haircut": "0", "route": ["BTCUSDT"]}}
    day = Day({"assets": assets, "at_restore": at_restore, "warn": "1.41"})
    day.directory()
    day.clock()
    day.tick("BTCUSDT", "150000.00")
    day.account("A")
    day.money("A", "50000")
    day.trade("A", "BTCUSDT", "1", "150000.00")
    day.believe("BTCUSDT", "124000.00")
    day.clock(60)
    day.believe("BTCUSDT", f"{(14_000_000 + cents) // 100}.{(14_000_000 + cents) % 100:02d}")
    _, effects = fold(day.lines)
    kinds = [e["type"] for e in effects]
    assert "margin_call_issued" in kinds
    return "call_cured" in kinds


@pytest.mark.parametrize(
    ("shortfall", "at_minimum", "amount"),
    [
        ("999.99", "called", None),
        ("1000.00", "called", "1000.00"),
        ("1000.01", "called", "1100.00"),
        ("1000.00", "suppressed", None),
        ("1000.01", "suppressed", "1100.00"),
    ],
)
def test_exactly_the_minimum_is_called_whole_or_not_as_the_profile_says(
    shortfall: str, at_minimum: str, amount: str | None
) -> None:
    # D = 6,000: the call level is 7,500, the restore level 8,400; V = 8,400 - shortfall.
    assets = {"USDT": {"haircut": "0", "route": []}, "BTC": {"haircut": "0", "route": ["BTCUSDT"]}}
    day = Day({"assets": assets, "at_minimum": at_minimum})
    day.directory()
    day.clock()
    day.tick("BTCUSDT", "9000.00")
    day.account("A")
    day.money("A", "3000")
    day.trade("A", "BTCUSDT", "1", "9000.00")
    cents = 840_000 - int(shortfall.replace(".", ""))
    day.believe("BTCUSDT", f"{cents // 100}.{cents % 100:02d}")
    day.clock(60)
    _, effects = fold(day.lines)
    calls = [e["amount"] for e in effects if e["type"] == "margin_call_issued"]
    assert calls == ([amount] if amount else [])
    assert [e["type"] for e in effects].count("call_suppressed_below_minimum") == (0 if amount else 1)


@pytest.mark.parametrize(("seconds", "issued"), [(59, False), (60, True), (61, True)])
def test_persistence_matures_at_a_clock_at_or_past_its_period(seconds: int, issued: bool) -> None:
    day = Day().opened()
    day.account("A")
    day.money("A", "20000")
    day.trade("A", "BTCUSDT", "1.5", "40000.00")
    day.tick("BTCUSDT", "36200.00")
    day.clock(seconds)
    _, effects = fold(day.lines)
    assert any(e["type"] == "margin_call_issued" for e in effects) is issued


@pytest.mark.parametrize(("late_ns", "kind"), [(0, "call_met"), (1, "call_expired")])
def test_the_due_time_itself_is_in_time(late_ns: int, kind: str) -> None:
    day = Day().opened()
    day.account("A")
    day.money("A", "20000")
    day.trade("A", "BTCUSDT", "1.5", "40000.00")
    day.tick("BTCUSDT", "36200.00")
    day.clock(60)
    for _ in range(4):
        day.clock(86400 // 4 - 100)
        day.tick("BTCUSDT", "36200.00")
    day.clock(400)
    day.tick("BTCUSDT", "36200.00")
    day.now_ns += late_ns
    if late_ns:
        day.feed("clock_ticked", time=f"2021-05-20T00:01:00.{late_ns:09d}Z")
    day.money("A", "60000", call="A/call/1")
    _, effects = fold(day.lines)
    kinds = [e["type"] for e in effects if e.get("call") == "A/call/1"]
    assert kinds[1] == kind


@pytest.mark.parametrize(("seconds", "stale"), [(299, False), (300, False), (301, True)])
def test_a_mark_is_stale_strictly_after_its_limit(seconds: int, stale: bool) -> None:
    day = Day().opened()
    day.clock(seconds)
    _, effects = fold(day.lines)
    assert any(e["type"] == "feed_went_stale" for e in effects) is stale


@pytest.mark.parametrize(
    ("price", "accepted"), [("44800.00", True), ("44800.01", False), ("35200.00", True), ("35199.99", False)]
)
def test_a_quote_exactly_on_the_band_is_accepted(price: str, accepted: bool) -> None:
    # 20 seconds after a mark of 40,000: 10 % and 2 %.
    day = Day().opened()
    day.clock(20)
    day.tick("BTCUSDT", price)
    _, effects = fold(day.lines)
    assert any(e["type"] == "mark_refused" for e in effects) is not accepted
