"""The vectorised engine gives what the pure core gives, item for item, and says what it could not decide."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from margin_stream.revaluation import vectors
from margin_stream.revaluation.vectors import VectorFilter
from tests.days import Day, random_day
from tests.folding import fold
from tests.usdm_days import UsdmDay, random_usdm_day

SEEDS = st.integers(0, 10**9)
LAW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.slow(reason="many random days, each folded several times")
@LAW
@given(SEEDS)
def test_the_vectors_give_what_the_pure_core_gives_for_prime(seed: int) -> None:
    lines = random_day(seed, accounts=6, steps=250)
    assert fold(lines, price_filter=VectorFilter) == fold(lines, boxes=False)


@pytest.mark.slow(reason="many random days, each folded several times")
@LAW
@given(SEEDS)
def test_the_vectors_give_what_the_pure_core_gives_for_perpetuals(seed: int) -> None:
    lines = random_usdm_day(seed, accounts=6, steps=250)
    assert fold(lines, 2, cuts=Random(seed), price_filter=VectorFilter) == fold(lines, boxes=False)


@pytest.mark.slow(reason="many random days, each folded several times")
@LAW
@given(SEEDS)
def test_rows_made_anew_after_few_ticks_and_compacted_often_change_nothing(seed: int) -> None:
    lines = random_usdm_day(seed, accounts=5, steps=200)
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(vectors, "TICKS_LIMIT", 7)
        patched.setattr(vectors, "_DEAD_LIMIT", 3)
        found = fold(lines, price_filter=VectorFilter)
    assert found == fold(lines, boxes=False)


def grown(factor: int) -> list[bytes]:
    """A day on which a price rises by a factor, in steps that the quote guard believes."""
    day = UsdmDay()
    day.opened()
    day.usdm_account("S", "50000")
    day.perpetual("S", "ETHUSDT-PERP", "-1.000", "3000.00")
    price = 3000
    while price < 3000 * factor:
        price = price * 13 // 10
        day.believe("ETHUSDT-PERP", f"{price}.00")
    return day.lines


def test_a_price_that_grows_thirtyfold_is_followed() -> None:
    lines = grown(30)
    reference = fold(lines, boxes=False)
    assert any(effect["type"] == "liquidation_due" for effect in reference[1])
    assert fold(lines, price_filter=VectorFilter) == reference


def test_what_floats_cannot_hold_goes_to_the_exact_path_and_is_counted() -> None:
    day = UsdmDay()
    day.opened()
    watches: list[VectorFilter] = []

    def made() -> VectorFilter:
        watches.append(VectorFilter())
        return watches[-1]

    huge = "5" + "0" * 17
    day.usdm_account("small", "50000")
    day.perpetual("small", "BTCUSDT-PERP", "0.100", "40000.00")
    for name in ("U", "V"):
        day.usdm_account(name)
        for _ in range(3):
            day.money(name, huge)
        day.perpetual(name, "BTCUSDT-PERP", huge, "40000.00")
    for step in range(40):
        day.tick("BTCUSDT-PERP", f"{40000 + 13 * step}.00")
    reference = fold(day.lines, boxes=False)
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        # As if a float ended where these begin.
        patched.setattr(vectors, "LARGEST", 1e19)
        assert fold(day.lines, price_filter=made) == reference
    assert watches[0].exact_named >= 2 * 39
    assert fold(day.lines, price_filter=VectorFilter) == reference


@pytest.mark.plain_core
def test_a_tolerance_of_nothing_is_found_out() -> None:
    """The comparison can fail: without the margin for rounding, an account exactly at a level is passed over."""
    day = Day().opened()
    day.account("A")
    # V = 0.9 * 40,000 = 36,000 and 1.25 * D = 36,000 at a debit of 28,800: exactly at the call level, which is safe.
    day.money("A", "1", asset="BTC")
    day.money("A", "-28800")
    for price in ("40000.01", "40000.00", "39999.99", "40000.00"):
        day.tick("BTCUSDT", price)
    reference = fold(day.lines, boxes=False)
    assert [effect["level"] for effect in reference[1] if effect["type"] == "margin_level_changed"] != []
    assert fold(day.lines, price_filter=VectorFilter) == reference
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(vectors, "limits_of", lambda guards, guard_states, tolerance: [])
        assert fold(day.lines, price_filter=VectorFilter) != reference


@pytest.mark.plain_core
def test_rows_whose_tests_are_not_written_anew_are_found_out() -> None:
    """The comparison can fail: once a call is issued, a step beyond it is a tranche, which the tests from before the
    call cannot know."""
    day = Day().opened()
    day.account("A")
    day.money("A", "1", asset="BTC")
    day.money("A", "-30000")
    # V = 36,000 and 1.25 D = 37,500: a call once it was held. At 38,000, V is 34,200 and close-out still 1,200 away.
    for seconds, price in ((1, "40000.00"), (120, "39900.00"), (180, "38000.00"), (300, "38000.00")):
        day.clock(seconds)
        day.tick("BTCUSDT", price)
    day.clock(301)
    reference = fold(day.lines, boxes=False)
    assert [effect["tranche"] for effect in reference[1] if effect["type"] == "margin_call_issued"] == [1, 2]
    assert fold(day.lines, price_filter=VectorFilter) == reference
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(VectorFilter, "_renewed", lambda self, account, subaccounts: account in self._units)
        assert fold(day.lines, price_filter=VectorFilter) != reference
