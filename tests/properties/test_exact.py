"""The first promise: the same journal gives the same bytes, however it is cut, spread, repeated or evaluated."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.days import Day, random_day
from tests.folding import fold
from tests.usdm_days import random_usdm_day

SEEDS = st.integers(0, 10**9)
LAW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.slow(reason="many random days, each folded several times")
@LAW
@given(SEEDS)
def test_partitions_and_cuts_change_nothing(seed: int) -> None:
    lines = random_day(seed, noisy=True)
    reference = fold(lines, 1)
    for partitions in (2, 7, 16):
        assert fold(lines, partitions, cuts=Random(seed + partitions)) == reference


@pytest.mark.slow(reason="many random days, each folded several times")
@LAW
@given(SEEDS)
def test_price_boxes_give_what_valuing_every_holder_at_every_tick_gives(seed: int) -> None:
    lines = random_day(seed, accounts=6, steps=250)
    assert fold(lines, boxes=True) == fold(lines, boxes=False)


@pytest.mark.slow(reason="many random days, each folded several times")
@LAW
@given(SEEDS)
def test_inputs_sent_again_from_any_prefix_change_nothing(seed: int) -> None:
    rng = Random(seed)
    lines = random_day(seed, noisy=True)
    again: list[bytes] = []
    for _ in range(rng.randint(1, 4)):
        again += lines[: rng.randint(0, len(lines))]
    assert fold(again + lines, rng.choice((1, 7)), cuts=rng) == fold(lines)


@pytest.mark.slow(reason="many random days, each folded several times")
@LAW
@given(SEEDS)
def test_an_extra_evaluation_anywhere_says_nothing(seed: int) -> None:
    lines = random_day(seed)
    assert fold(lines, 2, extra=Random(seed)) == fold(lines, 2)


def test_order_matters_and_each_order_is_the_same_everywhere() -> None:
    def day(order: str) -> list[bytes]:
        made = Day().opened()
        made.account("A")
        made.money("A", "20000")
        made.trade("A", "BTCUSDT", "1.5", "40000.00")
        made.clock(30)
        for step in order:
            if step == "d":
                made.money("A", "9000")
            else:
                made.tick("BTCUSDT", "36500.00" if step == "m" else "33500.00")
        return made.lines

    first, second = day("mdM"), day("mMd")
    assert fold(first)[0] != fold(second)[0]
    for lines in (first, second):
        assert fold(lines, 1) == fold(lines, 16, cuts=Random(1))


@pytest.mark.slow(reason="many random days, each folded several times")
@pytest.mark.parametrize("partitions", [1, 2, 7, 16])
def test_a_longer_day_is_equal_for_partitions(partitions: int) -> None:
    lines = random_day(99, accounts=40, steps=1500, noisy=True)
    assert fold(lines, partitions, cuts=Random(partitions)) == fold(lines, 1, boxes=False)


@pytest.mark.slow(reason="many random days, each folded several times")
@LAW
@given(SEEDS)
def test_perpetuals_and_subaccounts_are_the_same_for_partitions_cuts_and_extra_evaluations(seed: int) -> None:
    lines = random_usdm_day(seed)
    reference = fold(lines, 1)
    for partitions in (2, 7, 16):
        assert fold(lines, partitions, cuts=Random(seed + partitions), extra=Random(seed)) == reference


@pytest.mark.slow(reason="many random days, each folded several times")
@LAW
@given(SEEDS)
def test_price_boxes_over_perpetuals_give_what_the_plain_way_gives(seed: int) -> None:
    lines = random_usdm_day(seed, accounts=6, steps=250)
    assert fold(lines, boxes=True) == fold(lines, boxes=False)
