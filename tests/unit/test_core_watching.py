"""The watch by boxes beside a model of one straight line: never named too late, and not named for what cannot concern
it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from margin_stream.core.accounts.subaccount import Subaccount
from margin_stream.core.margin.guards import NO_BOUND, NO_LIMIT, Guard, GuardState, Ratio, Span
from margin_stream.core.margin.model import CallPolicy, CallType, MarginFigures, Profile
from margin_stream.core.market.market import Market
from margin_stream.core.revaluation.filter import GuardTests, PriceBoxFilter
from margin_stream.core.revaluation.price_boxes import REACH_BITS, REACH_LIMIT
from margin_stream.schemas.inputs import ProfileActivated

PRICE = 1_000
"""Below 2**13 each price is a cell of its own, so edges are exact."""
ANY = Guard(Ratio(1, 1), 0, inclusive=False)
ACTIVATION = ProfileActivated(
    source="a",
    source_seq=1,
    event_time=0,
    profile="line",
    version=1,
    model="line",
    parameters={},
    effective_from=0,
    approved_by="somebody",
)
HALF = 1 << REACH_BITS - 1


class Line:
    """Terms of which only what a watch asks is there: a subaccount named ``up`` is worth the price, one named ``down`` what
    is left of a million."""

    def __init__(self, against: int, favourable: int) -> None:
        self._guess = against, favourable

    def directions(self, subaccount: Any) -> dict[int, int]:
        return {1: 1 if subaccount.name == "up" else -1}

    def depends_on(self, subaccount: Any) -> list[int]:
        return [1]

    def reach(self, *_: Any) -> tuple[int, int]:
        return self._guess

    def bounds(
        self, subaccount: Any, lowest: Sequence[int], highest: Sequence[int], guards: Sequence[Guard]
    ) -> list[Span]:
        top = None if highest[1] == NO_BOUND else highest[1]
        if subaccount.name == "up":
            return [(lowest[1] - guard.offset, None if top is None else top - guard.offset) for guard in guards]
        return [(None if top is None else guard.offset - top, guard.offset - lowest[1]) for guard in guards]


def watching(
    against: int, favourable: int, *subaccounts: tuple[str, int, GuardState], unfresh: bool = False
) -> PriceBoxFilter:
    """Watch an account whose subaccounts have a way, the price at which their guard's excess is 0, and what the guard says
    at PRICE."""
    market = Market(1)
    market.prices.append(PRICE)
    market.stale.append(False)
    market.marked_at_ns.append(0)
    if unfresh:
        market.unfresh.add(1)
    price_filter = PriceBoxFilter()
    price_filter.add_instrument()
    price_filter.add_account()
    price_filter.place(1, PRICE)
    kind = CallType("x", ANY, ANY, False, 0, 0, 0, 0, True, 1, 1)
    policy = CallPolicy(ANY, ANY, ANY, ANY, ANY, 0, (kind,))
    profile = Profile(ACTIVATION, policy, Line(against, favourable))  # type: ignore[arg-type]
    rows = [
        GuardTests(Subaccount(way), [Guard(Ratio(0, 1), at, inclusive=False)], [truth], MarginFigures(0, 0))
        for way, at, truth in subaccounts
    ]
    price_filter.track(0, profile, rows, market)
    return price_filter


def named(price_filter: PriceBoxFilter, price: int) -> bool:
    """Go straight to a price; say whether that named the account."""
    return price_filter.reached(1, price) == [0]


def guess_for(moved: int) -> int:
    """Return the least reach whose box goes as far as a price that much above PRICE."""
    return -(-((moved + 1) << REACH_BITS) // PRICE)


SIDES = [
    ("up", 900, GuardState.FALSE, -1),
    ("down", 1_100, GuardState.FALSE, 1),
    ("up", 1_101, GuardState.TRUE, 1),
    ("down", 899, GuardState.TRUE, -1),
]
"""A guard that flips behind 100 steps: at 899 or 1101."""


@pytest.mark.parametrize(("way", "at", "truth", "side"), SIDES)
@pytest.mark.parametrize(
    "guess", [0, 1 << 10, guess_for(99), guess_for(100), guess_for(101), HALF, 3 << REACH_BITS, REACH_LIMIT, NO_LIMIT]
)
def test_an_account_is_named_before_a_guard_flips_whatever_the_guess(
    way: str, at: int, truth: GuardState, side: int, guess: int
) -> None:
    for first in range(0, 101, 4):
        price_filter = watching(guess, guess, (way, at, truth))
        # Where the first step named it, it is the fold's to give it to the watch again.
        assert named(price_filter, PRICE + side * first) or named(price_filter, PRICE + side * 101)


@pytest.mark.parametrize(("way", "at", "truth", "side"), SIDES)
def test_a_box_may_end_where_the_guard_still_says_the_same(way: str, at: int, truth: GuardState, side: int) -> None:
    right = guess_for(100)
    assert not named(watching(right, right, (way, at, truth)), PRICE + side * 100)
    assert named(watching(right, right, (way, at, truth)), PRICE + side * 101)


@pytest.mark.parametrize(("way", "at", "truth", "side"), SIDES)
@pytest.mark.parametrize("wide", [HALF, NO_LIMIT])
def test_too_wide_a_guess_makes_a_narrower_box_on_its_side_alone(
    way: str, at: int, truth: GuardState, side: int, wide: int
) -> None:
    """Nobody is looked at on every tick, nor for a move the other way, because a guess of one side was bad."""
    other = guess_for(300)
    against, favourable = (wide, other) if truth is GuardState.FALSE else (other, wide)
    assert watching(against, favourable, (way, at, truth)).near_trigger_count == 0
    assert not named(watching(against, favourable, (way, at, truth)), PRICE + side * 20)
    assert not named(watching(against, favourable, (way, at, truth)), PRICE - side * 290)
    assert named(watching(against, favourable, (way, at, truth)), PRICE - side * 310)


def test_a_price_that_can_only_help_names_nobody_however_far_it_goes() -> None:
    assert not named(watching(guess_for(100), NO_LIMIT, ("up", 500, GuardState.FALSE)), 10**12)
    assert not named(
        watching(guess_for(100), NO_LIMIT, ("up", 500, GuardState.FALSE), ("up", 600, GuardState.FALSE)), 10**12
    )


def test_a_guess_that_is_wide_and_has_an_end_makes_a_box_that_has_one() -> None:
    for wide in (REACH_LIMIT - 1, REACH_LIMIT, REACH_LIMIT + 1, NO_LIMIT - 1):
        assert not named(watching(guess_for(100), wide, ("up", 500, GuardState.FALSE)), 4 * PRICE)
        assert named(watching(guess_for(100), wide, ("up", 500, GuardState.FALSE)), 5 * PRICE + 1)


@pytest.mark.parametrize("order", [1, -1])
def test_subaccounts_that_go_different_ways_are_watched_on_both_sides_and_not_at_every_tick(order: int) -> None:
    subaccounts = [("up", 500, GuardState.FALSE), ("down", 1_500, GuardState.FALSE)][::order]
    price_filter = watching(guess_for(100), NO_LIMIT, *subaccounts)
    assert price_filter.near_trigger_count == 0
    assert not named(price_filter, PRICE + 100)
    assert not named(price_filter, PRICE - 100)
    assert named(price_filter, PRICE - 501)
    assert named(watching(guess_for(100), NO_LIMIT, *subaccounts), PRICE + 501)


def test_what_is_undecided_is_looked_at_at_every_tick_until_it_is_forgotten() -> None:
    price_filter = watching(HALF, HALF, ("up", 500, GuardState.FALSE), ("up", 500, GuardState.UNDECIDED))
    assert price_filter.near_trigger_count == 1
    assert named(price_filter, PRICE)
    price_filter.forget(0)
    assert price_filter.near_trigger_count == 0
    assert not named(price_filter, 1)


def test_a_box_that_was_left_is_kept_for_nobody() -> None:
    assert not watching(HALF, HALF, ("up", 500, GuardState.FALSE)).keeps(0)
