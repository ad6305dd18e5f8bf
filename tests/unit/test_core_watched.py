"""What the fold tells a watch, held to the words of ``Watch`` by one that remembers all of it; and edges that only a
tick reaches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from margin_stream.core.accounts.fold import AccountFold
from margin_stream.core.margin.model import Profile
from margin_stream.core.market.market import Market
from margin_stream.core.revaluation.filter import GuardTests
from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.rules_versions import LATEST
from tests.days import Day, random_day
from tests.folding import fold, readable
from tests.restoring import Rows
from tests.usdm_days import UsdmDay, random_usdm_day


class Remembering:
    """Names every account at every tick, and holds the fold to what it has to say in between."""

    def __init__(self, keeps: Callable[[int], bool]) -> None:
        self._keeps = keeps
        self.accounts = 0
        self.given: dict[int, int] = {}
        self._known: dict[int, tuple[list[Any], list[Any]]] = {}
        self._forgotten: set[int] = set()

    def add_instrument(self) -> None:
        pass

    def add_account(self) -> None:
        self.accounts += 1

    def place(self, number: int, price: int) -> None:
        pass

    def reached(self, number: int, price: int) -> list[int]:
        for account, (_, said) in self._known.items():
            assert account not in self._forgotten
            # What the fold holds of a subaccount (None: nothing that would have to be remembered) is what it said.
            assert all(
                subaccount.guard_states is None
                or (subaccount.guards, subaccount.guard_states) == (guards, guard_states)
                for subaccount, guards, guard_states in said
            )
        return list(range(self.accounts))

    def keeps(self, account: int) -> bool:
        return self._keeps(account)

    def forget(self, account: int) -> None:
        self._forgotten.add(account)

    def track(self, account: int, profile: Profile, subaccounts: list[GuardTests], market: Market) -> None:
        holds = [
            profile.version,
            *(
                (row.subaccount.name, dict(row.subaccount.balances), repr(row.subaccount.perpetuals))
                for row in subaccounts
            ),
        ]
        if account in self._known and account not in self._forgotten:
            assert self._known[account][0] == holds, "what was not forgotten is valued as before"
        self._forgotten.discard(account)
        self._known[account] = (
            holds,
            [(row.subaccount, list(row.guards), list(row.guard_states)) for row in subaccounts],
        )
        self.given[account] = self.given.get(account, 0) + 1

    @property
    def near_trigger_count(self) -> int:
        return self.accounts


DAYS = {
    **{f"prime {seed}": random_day(seed, accounts=5, steps=150) for seed in (31, 32)},
    **{f"perpetuals {seed}": random_usdm_day(seed, accounts=5, steps=150) for seed in (33, 34, 35)},
}


@pytest.mark.slow_after(3, reason="many cases, each folded anew")
@pytest.mark.parametrize("name", DAYS)
@pytest.mark.parametrize("keeps", [lambda account: True, lambda account: account % 2 == 0, lambda account: False])
def test_a_watch_hears_of_all_that_changes_what_it_was_given(name: str, keeps: Callable[[int], bool]) -> None:
    assert fold(DAYS[name], price_filter=lambda: Remembering(keeps)) == fold(DAYS[name], boxes=False)


def folded(day: Day, **options: Any) -> tuple[AccountFold, list[str]]:
    system = StoreFold(1, **options, rules_version=LATEST)
    for line in day.lines:
        system.admission.line(line)
    _, said = system.fold(compare_markets=True)
    return system.accounts[0], [readable(effect.data)["type"] for effect in said]


def indebted(owed: str) -> Day:
    day = Day().opened()
    day.account("A")
    day.money("A", "1", "BTC")
    day.money("A", owed)
    return day


@pytest.mark.parametrize("boxes", [True, False])
def test_a_warning_ends_at_its_level_exactly(boxes: bool) -> None:
    """At 35000 a coin counts 31500, which is 1.4 of what is owed: safe again, not one cent later."""
    day = indebted("-22500")
    day.believe("BTCUSDT", "34999.99")
    assert folded(day, boxes=boxes)[1] == ["margin_warned"]
    day.tick("BTCUSDT", "35000")
    assert folded(day, boxes=boxes)[1] == ["margin_warned", "margin_level_changed"]


@pytest.mark.parametrize("boxes", [True, False])
def test_a_coin_that_came_beside_an_isolated_subaccount_is_found_by_its_price(boxes: bool) -> None:
    """The subaccount holds no coin; the cross position stands on one, and its price alone takes it away."""
    day = UsdmDay().opened()
    day.usdm_account("A", "1000")
    day.money("A", "100", isolated="ETHUSDT-PERP", from_isolated="")
    day.perpetual("A", "ETHUSDT-PERP", "0.1", "3000", isolated="ETHUSDT-PERP")
    day.money("A", "0.1", "BTC")
    day.perpetual("A", "DOGEUSDT-PERP", "200000", "0.30000")
    part, quiet = folded(day, boxes=boxes)
    account = part.account("A")
    assert account is not None
    assert list(account.isolated) == ["ETHUSDT-PERP"]
    day.believe("BTCUSDT", "20000")
    assert folded(day, boxes=boxes)[1] != quiet
    assert folded(day, boxes=boxes)[1] == folded(day, boxes=not boxes)[1]


def test_an_account_that_says_the_same_is_not_given_again_where_the_watch_kept_it() -> None:
    day = indebted("-22500")
    day.believe("BTCUSDT", "34999.99")
    made: list[Remembering] = []

    def make() -> Remembering:
        made.append(Remembering(lambda account: True))
        return made[-1]

    folded(day, price_filter=make)
    for price in ("34990", "34980", "34970", "34960"):
        day.tick("BTCUSDT", price)
    folded(day, price_filter=make)
    # Once more for what the last tick of the first day said.
    assert made[1].given[0] == made[0].given[0] + 1


def test_boxes_are_used_unless_the_plain_way_is_asked_for() -> None:
    """The plain way is what boxes are compared with, so it must not be they."""
    day = indebted("-10000")
    for price in ("40001", "40002", "40003", "40004"):
        day.tick("BTCUSDT", price)
    by_boxes = folded(day)[0].evaluations
    assert folded(day, boxes=False)[0].evaluations >= by_boxes + 4


def test_an_account_whose_timer_ran_and_that_then_trades_is_forgotten_before_it_is_given_again() -> None:
    day = indebted("-30000")
    day.tick("BTCUSDT", "40001")
    day.clock(60)
    day.money("A", "100")
    day.tick("BTCUSDT", "40002")
    assert folded(day, price_filter=lambda: Remembering(lambda account: True))[1] == folded(day, boxes=False)[1]


@pytest.mark.parametrize("boxes", [True, False])
def test_a_coin_in_an_isolated_subaccount_is_found_by_its_price_behind_a_checkpoint(boxes: bool) -> None:
    day = UsdmDay().opened()
    day.usdm_account("A", "10")
    day.money("A", "0.01", "BTC", isolated="ETHUSDT-PERP")
    day.perpetual("A", "ETHUSDT-PERP", "1", "3000", isolated="ETHUSDT-PERP")
    system, rows = StoreFold(1, rules_version=LATEST), Rows(1)
    for line in day.lines:
        system.admission.line(line)
    system.fold()
    rows.write(system)
    again = rows.restored(boxes=boxes)
    before = len(day.lines)
    day.believe("BTCUSDT", "500")
    for line in day.lines[before:]:
        again.admission.line(line)
    _, said = again.fold(compare_markets=True)
    assert [readable(effect.data)["type"] for effect in said] == ["margin_level_changed", "liquidation_due"]
    assert again.digests() == fold(day.lines)[0]
