"""Price boxes beside a twin that remembers every box: an account is found when a price leaves its box, or is told hot,
and not before."""

from __future__ import annotations

from random import Random

import pytest

from margin_stream.core.margin.guards import NO_BOUND
from margin_stream.core.revaluation.price_boxes import CELL_BITS, REACH_BITS, REACH_LIMIT, Boxes, cell_edges, cell_of

INSTRUMENTS = 4
ACCOUNTS = 12
ONE = 1 << REACH_BITS


def test_cells_are_single_prices_at_first_and_double_with_the_price() -> None:
    assert [cell_of(price) for price in (1, 2, 4095, 4096, 8191)] == [1, 2, 4095, 4096, 8191]
    assert [cell_edges(cell) for cell in (1, 4096, 8191)] == [(1, 1), (4096, 4096), (8191, 8191)]
    assert cell_edges(8192) == (8192, 8193)
    assert [cell_of(price) for price in (8192, 8193, 8194, 16383, 16384)] == [8192, 8192, 8193, 12287, 12288]
    assert cell_edges(12288) == (16384, 16387)
    assert (CELL_BITS, REACH_BITS, REACH_LIMIT) == (12, 20, 4 << 20)
    previous = 0
    for cell in range(1, 40_000):
        low, high = cell_edges(cell)
        assert low == previous + 1
        assert cell_of(low) == cell_of(high) == cell
        previous = high


class Twin:
    """Every box as it was given out."""

    def __init__(self) -> None:
        self.boxes: dict[int, dict[int, tuple[int, int]]] = {}
        self.near_trigger: dict[int, list[int]] = {}

    def reached(self, number: int, price: int) -> set[int]:
        outside = {
            account
            for account, box in self.boxes.items()
            if number in box
            and not (box[number][0] <= price and (box[number][1] == NO_BOUND or price <= box[number][1]))
        }
        return outside | {account for account, numbers in self.near_trigger.items() if number in numbers}


def made(rng: Random) -> tuple[Boxes, list[int]]:
    boxes = Boxes()
    prices = [1]
    for number in range(1, INSTRUMENTS + 1):
        boxes.add_instrument()
        prices.append(rng.choice((3, 900, 5_000, 70_000, 4_000_000, 10**12)))
        boxes.place(number, prices[-1])
    for _ in range(ACCOUNTS):
        boxes.add_account()
    return boxes, prices


def box_somewhere(rng: Random, boxes: Boxes, twin: Twin, account: int, prices: list[int]) -> None:
    numbers = rng.sample(range(1, INSTRUMENTS + 1), rng.randint(1, INSTRUMENTS))
    ways = {number: rng.choice((-1, 0, 1)) for number in numbers}
    against, favourable = (
        rng.choice((0, 1, ONE // 50, ONE // 3, ONE - 1, ONE, 3 * ONE, REACH_LIMIT - 1, REACH_LIMIT)) for _ in range(2)
    )
    lowest, highest = [1] + [0] * INSTRUMENTS, [1] + [0] * INSTRUMENTS
    sides = boxes.box(ways, against, favourable, lowest, highest)
    box = {}
    for number, way in ways.items():
        down, up = {1: (against, favourable), -1: (favourable, against), 0: (min(against, favourable),) * 2}[way]
        low, high = cell_edges(cell_of(prices[number]))
        # The box holds the cell where the price is; it ends at whole cells, within the reach and one cell of it.
        assert lowest[number] <= low
        if down >= ONE:
            assert lowest[number] == 0
        else:
            # The cell behind the one that the reach ends in, or the price's own.
            outside = cell_of(low - (low * down >> REACH_BITS))
            assert lowest[number] == cell_edges(min(outside + 1, cell_of(prices[number])))[0]
        if up >= REACH_LIMIT:
            assert highest[number] == NO_BOUND
        else:
            outside = cell_of(low + (low * up >> REACH_BITS))
            assert highest[number] == cell_edges(max(outside - 1, cell_of(prices[number])))[1]
            assert highest[number] >= high
        box[number] = lowest[number], highest[number]
    boxes.certify(account, sides)
    twin.boxes[account] = box


@pytest.mark.parametrize("seed", range(25))
def test_an_account_is_found_exactly_when_a_price_leaves_its_box(seed: int) -> None:
    rng = Random(seed)
    boxes, prices = made(rng)
    twin = Twin()
    for _ in range(300):
        what = rng.randrange(10)
        account = rng.randrange(ACCOUNTS)
        if what < 3:
            boxes.forget(account)
            twin.boxes.pop(account, None)
            twin.near_trigger.pop(account, None)
            if what == 0:
                numbers = rng.sample(range(1, INSTRUMENTS + 1), rng.randint(1, 3))
                boxes.heat(account, numbers)
                twin.near_trigger[account] = numbers
            elif what == 1:
                box_somewhere(rng, boxes, twin, account, prices)
        else:
            number = rng.randint(1, INSTRUMENTS)
            move = rng.choice((1000, 1001, 999, 1010, 990, 1300, 700, 4000, 250, 10))
            price = max(1, prices[number] * move // 1000 + rng.choice((-1, 0, 1)))
            found = boxes.reached(number, price)
            prices[number] = price
            assert len(set(found)) == len(found)
            assert set(found) == twin.reached(number, price)
            # Whoever is found is looked at, and its box is forgotten (some stay as they are, as a hot account does).
            for other in found:
                if other in twin.boxes:
                    boxes.forget(other)
                    del twin.boxes[other]
        assert boxes.near_trigger_count == len(twin.near_trigger)
        # What decides when old marks are swept: how many there are, and how many of boxes that stand.
        marks = [
            entry
            for room in boxes._instruments
            for cells in (room.below, room.above)
            for row in cells.values()
            for entry in row
        ]
        assert boxes._entries == len(marks)
        assert boxes._live_total == sum(boxes._stamps[entry >> 24] == entry & 0xFFFFFF for entry in marks)


def test_a_hot_account_is_found_at_every_tick_of_its_instruments_until_it_is_forgotten() -> None:
    boxes, prices = made(Random(1))
    boxes.heat(3, iter((1, 2)))
    boxes.heat(5, (2,))
    assert boxes.reached(1, prices[1]) == [3]
    assert boxes.reached(2, prices[2]) == [3, 5]
    assert boxes.reached(3, prices[3]) == []
    boxes.forget(3)
    assert boxes.reached(1, prices[1]) == []
    assert boxes.reached(2, prices[2]) == [5]
    assert boxes.near_trigger_count == 1


def test_marks_of_boxes_that_are_gone_are_swept_in_time_and_those_that_stand_are_kept() -> None:
    """A hundred thousand marks of old boxes may lie about, not a million; a box that stands is still found
    afterwards."""
    boxes, prices = made(Random(2))
    prices[1] = 5_000
    boxes.place(1, 5_000)
    lowest, highest = [1] + [0] * INSTRUMENTS, [1] + [0] * INSTRUMENTS
    sides = boxes.box({1: 1}, ONE // 10, ONE // 10, lowest, highest)
    boxes.certify(7, sides)
    for _ in range(60_000):
        boxes.forget(2)
        boxes.certify(2, sides)
    room = boxes._instruments[1]
    kept = sum(len(marks) for cells in (room.below, room.above) for marks in cells.values())
    assert kept == boxes._entries < 100_000
    assert sorted(boxes.reached(1, highest[1] + 1)) == [2, 7]
    boxes.forget(2)
    boxes.forget(7)
    assert boxes._live_total == 0
    assert boxes.reached(1, lowest[1] - 1) == []
