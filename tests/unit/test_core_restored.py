"""A fold that was just restored does what is due, without being asked for anything else; and accounts that only a tick
can reach."""

from __future__ import annotations

import pytest

from margin_stream.core.digests import slot_of
from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.rules_versions import LATEST
from tests.days import Day
from tests.folding import fold, readable
from tests.restoring import Rows


def taken_up(day: Day, then: int, *, boxes: bool = True) -> list[str]:
    """Fold all but the last lines, restore from rows, fold the rest; return what is said then."""
    system, rows = StoreFold(1, rules_version=LATEST), Rows(1)
    for line in day.lines[:-then]:
        system.admission.line(line)
    system.fold()
    rows.write(system)
    again = rows.restored(boxes=boxes)
    said = []
    for line in day.lines[-then:]:
        again.admission.line(line)
        _, part = again.fold(compare_markets=True)
        said += [readable(effect.data)["type"] for effect in part]
    assert again.digests() == fold(day.lines)[0]
    return said


def indebted(owed: str = "-30000") -> Day:
    day = Day().opened()
    day.account("A")
    day.money("A", "1", "BTC")
    day.money("A", owed)
    return day


@pytest.mark.parametrize("boxes", [True, False])
def test_a_deadline_and_a_wait_go_on_where_they_were(boxes: bool) -> None:
    day = indebted()
    day.clock(60)
    assert taken_up(day, 1, boxes=boxes) == ["margin_call_issued"]
    day.clock(60)
    day.clock(86_300)
    day.tick("BTCUSDT", "40000")
    day.clock(100)
    assert taken_up(day, 1, boxes=boxes) == ["call_expired", "margin_level_changed", "liquidation_due"]


@pytest.mark.parametrize("boxes", [True, False])
def test_a_tick_finds_whom_it_concerns(boxes: bool) -> None:
    day = indebted("-25000")
    day.tick("BTCUSDT", "38000")
    assert taken_up(day, 1, boxes=boxes) == ["margin_warned"]
    stale = indebted("-25000")
    stale.clock(301)
    stale.tick("BTCUSDT", "38000")
    assert taken_up(stale, 1, boxes=boxes) == ["margin_warned"]


def test_accounts_of_one_slot_are_summed_when_they_are_restored() -> None:
    seen: dict[int, str] = {}
    names = next(
        (seen[slot], name)
        for name in (f"n{k}" for k in range(10_000))
        if seen.setdefault(slot := slot_of(name), name) != name
    )
    day = Day().opened()
    for name in names:
        day.account(name)
        day.money(name, "1", "BTC")
        day.money(name, "-26000")
    day.clock(60)
    assert taken_up(day, 1) == []
    system, rows = StoreFold(1, rules_version=LATEST), Rows(1)
    for line in day.lines:
        system.admission.line(line)
    system.fold()
    rows.write(system)
    assert rows.restored().digests() == system.digests()
    assert system.sets[1].book.total == 2


@pytest.mark.parametrize("boxes", [True, False])
def test_who_owes_what_a_trade_settled_in_reads_its_price(boxes: bool) -> None:
    """Monero bought with borrowed bitcoins: when the bitcoin rises, the debt does."""
    day = Day().opened()
    day.account("A")
    day.money("A", "10000")
    day.trade("A", "XMRBTC", "30", "0.008")
    day.tick("XMRBTC", "0.0075")
    day.tick("XMRBTC", "0.007")
    day.tick("BTCUSDT", "43000")
    day.tick("BTCUSDT", "47000")
    day.tick("BTCUSDT", "51000")
    day.tick("BTCUSDT", "56000")
    system = StoreFold(1, boxes=boxes, rules_version=LATEST)
    said = []
    for line in day.lines:
        system.admission.line(line)
        said += [(readable(effect.data).get("level"), effect.sequence) for effect in system.fold()[1]]
    _, effects = fold(day.lines, boxes=not boxes)
    assert said == [(effect.get("level"), effect["sequence"]) for effect in effects if effect["id"].startswith("A/")]
    assert said
    assert all(position == len(day.lines) for _, position in said)


def test_two_effects_of_one_item_come_by_group_too() -> None:
    day = Day().opened()
    for name in ("z", "a"):
        day.account(name)
        day.money(name, "1", "BTC")
        day.money(name, "-25000")
    day.tick("BTCUSDT", "38000")
    system = StoreFold(1, rules_version=LATEST)
    for line in day.lines:
        system.admission.line(line)
    assert [effect.group for effect in system.fold()[1]] == ["a", "z"]


def test_the_smallest_deposit_pays_the_smallest_part() -> None:
    day = indebted()
    day.clock(60)
    day.money("A", "0.01")
    system = StoreFold(1, rules_version=LATEST)
    for line in day.lines:
        system.admission.line(line)
    system.fold()
    account = system.accounts[0].account("A")
    assert account is not None
    assert [call.paid for call in account.cross.calls] == [1]


def test_deposits_wait_each_for_its_own_mark() -> None:
    day = Day().opened(prices=False)
    day.tick("BTCUSDT", "40000")
    day.account("A")
    day.money("A", "1", "BTC")
    day.money("A", "-29000")
    day.clock(60)
    day.money("A", "0.1", "ETH")
    day.money("A", "0.00000001", "XMR")
    day.money("A", "0.5", "XMR")
    system = StoreFold(1, rules_version=LATEST)
    for line in day.lines:
        system.admission.line(line)
    system.fold()
    account = system.accounts[0].account("A")
    assert account is not None
    assert account.cross.pending_deposits == [(2, 0, 10_000_000, ""), (3, 0, 1, ""), (3, 1, 50_000_000, "")]
    for name, price, left, paid in (("ETHUSDT", "3000", 2, 255_00), ("XMRBTC", "0.01", 0, 255_00 + 140_00)):
        day.tick(name, price)
        system.admission.line(day.lines[-1])
        system.fold(compare_markets=True)
        assert len(account.cross.pending_deposits) == left
        assert account.cross.calls[0].paid == paid


def test_an_account_within_a_cell_of_a_level_is_hot() -> None:
    day = indebted("-25714.29")
    day.tick("BTCUSDT", "40000")
    day.tick("ETHUSDT", "3000")
    system = StoreFold(1, rules_version=LATEST)
    for line in day.lines:
        system.admission.line(line)
    system.fold()
    assert system.accounts[0].near_trigger_count == 1
