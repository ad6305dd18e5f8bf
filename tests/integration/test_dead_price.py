"""A mark whose feed died or whose quotes are all refused: no account reads healthy on it, a wrong print calls nobody."""

from __future__ import annotations

from typing import Any

import pytest

from tests.days import PARAMETERS, Day
from tests.folding import fold

DUE = {"due_after_s": 7200, "tranche_interval_s": 3600}


def day_of(owed: str) -> Day:
    day = Day({**PARAMETERS, **DUE}).opened()
    day.account("A")
    day.money("A", "1", asset="BTC")
    day.money("A", f"-{owed}")
    return day


def of_account(day: Day) -> list[dict[str, Any]]:
    digests, effects = fold(day.lines)
    for partitions in (2, 7):
        assert fold(day.lines, partitions=partitions) == (digests, effects)
    assert fold(day.lines, boxes=False) == (digests, effects)
    return [effect for effect in effects if effect["id"].startswith(("A/", "@market/"))]


def kinds(effects: list[dict[str, Any]]) -> list[str]:
    return [effect["type"] for effect in effects if effect["id"].startswith("A/")]


def test_an_account_that_was_short_stays_short_when_its_feed_dies() -> None:
    day = day_of("30000")
    # V = 36,000 < 37,500.
    day.clock(60)
    for _ in range(30):
        day.clock(300)
    effects = of_account(day)
    assert kinds(effects) == ["margin_level_changed", "margin_call_issued", "call_escalated"]
    assert [effect.get("stale", False) for effect in effects if effect["id"].startswith("A/")] == [False, False, True]


def test_a_crash_beyond_the_band_is_followed_within_the_staleness_limit() -> None:
    """Every quote lies 40 % and more below the mark, and no two agree."""
    day = day_of("25000")
    for n in range(31):
        day.clock(10)
        day.tick("BTCUSDT", f"{24000 - n * 700}.00")
    effects = of_account(day)
    moved = [effect for effect in effects if effect["type"] == "mark_reanchored"]
    assert [(effect["reason"], effect["price"]) for effect in moved] == [("one_side", "24000.00")]
    # Until then it is undecided: healthy as before, and flagged.
    assert [
        (effect["level"], effect["sequence"]) for effect in effects if effect["type"] == "margin_level_changed"
    ] == [("BANKRUPT", len(day.lines))]


@pytest.mark.parametrize("print_", ["4000.00", "400000.00"])
def test_a_single_wrong_print_calls_nobody_and_is_forgotten_at_the_next_quote(print_: str) -> None:
    day = day_of("20000")
    day.clock(60)
    day.tick("BTCUSDT", "40000.00")
    day.tick("BTCUSDT", print_)
    day.clock(200)
    day.tick("BTCUSDT", "40001.00")
    day.clock(600)
    assert kinds(of_account(day)) == []


def test_a_wrong_print_followed_by_silence_moves_nothing() -> None:
    day = day_of("20000")
    day.tick("BTCUSDT", "4000.00")
    for _ in range(20):
        day.clock(300)
    effects = of_account(day)
    assert kinds(effects) == []
    assert [effect["type"] for effect in effects].count("mark_reanchored") == 0


def test_a_person_moves_the_mark_at_once() -> None:
    day = day_of("20000")
    day.tick("BTCUSDT", "20000.00")
    day.book("mark_confirmed", instrument="BTCUSDT", price="20000.00", actor="risk")
    effects = of_account(day)
    assert [(e["reason"], e["price"], e["mark"]) for e in effects if e["type"] == "mark_reanchored"] == [
        ("confirmed", "20000.00", "40000.00")
    ]
    assert kinds(effects) == ["margin_level_changed", "liquidation_due"]


@pytest.mark.parametrize(("price", "reported"), [("36000.00", 0), ("35999.99", 1), ("44000.01", 1)])
def test_a_trade_outside_the_band_is_booked_and_reported(price: str, reported: int) -> None:
    day = day_of("100")
    day.trade("A", "BTCUSDT", "0.1", price)
    effects = [effect for effect in of_account(day) if effect["type"] == "trade_far_from_mark"]
    assert len(effects) == reported
    for effect in effects:
        assert (effect["price"], effect["mark"]) == (price, "40000.00")
