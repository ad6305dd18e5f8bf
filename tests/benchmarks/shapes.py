"""Shapes of input that could cost more than their length: each at several sizes, with the exponent of its cost.

``python -m tests.benchmarks.shapes [SIZE ...]`` measures seconds of the fold and of what a checkpoint takes from it, at
three sizes. ``tests/unit/test_shapes.py`` counts steps at small sizes instead, which are the same on every machine.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator

from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.rules_versions import LATEST
from tests.days import Day

Shape = Callable[[int], list[bytes]]
GROUP = 500
SHAPES: dict[str, Shape] = {}
REASONS = {
    "short accounts that cross a level at each tick": "as many effects: each of n / 4 accounts at each of n / 4 ticks",
    "a liquidation request after each deposit": "as many legs: each request lists all that is to be sold",
    "activations for many accounts": "each activation may move every level of every account that has the profile",
    "many holders of what goes stale and comes back": "each holder's flag changes every time",
    "many assets in one account": "each deposit values the whole account, exactly",
}
"""Shapes that are allowed to cost more, and why."""


def shape(name: str) -> Callable[[Shape], Shape]:
    def kept(make: Shape) -> Shape:
        SHAPES[name] = make
        return make

    return kept


def priced() -> Day:
    day = Day().opened()
    day.account("A")
    return day


@shape("deposits, one after the other")
def control(n: int) -> list[bytes]:
    day = priced()
    for _ in range(n):
        day.money("A", "1.00")
    return day.lines


def numbered(numbers: Iterator[int], amounts: Callable[[int], int] = lambda _: 1) -> list[bytes]:
    day = priced()
    for n, number in enumerate(numbers):
        day._add("collateral_moved", "ledger", number, account="A", asset="USDT", amount_delta=f"{amounts(n)}.00")
    return day.lines


@shape("numbers far apart")
def sparse(n: int) -> list[bytes]:
    return numbered(iter(range(10**9, 10**9 + 1024 * n, 1024)))


@shape("numbers that fall")
def falling(n: int) -> list[bytes]:
    return numbered(iter(range(10**9, 10**9 - n, -1)))


@shape("one number, used again and again")
def reused(n: int) -> list[bytes]:
    return numbered(iter([5] * n), lambda k: k + 1)


@shape("a line with many keys, one of them twice")
def keys(n: int) -> list[bytes]:
    return [("{" + ",".join(f'"{k:06d}":1' for k in range(n)) + f',"{n - 1:06d}":1}}').encode()]


@shape("a long key above many numbers")
def long_key(n: int) -> list[bytes]:
    return [json.dumps({"type": "clock_ticked", "x" * n: [1] * n}).encode()]


@shape("many sources")
def sources(n: int) -> list[bytes]:
    day = priced()
    for k in range(n):
        day._add("collateral_moved", f"s{k}", 1, account="A", asset="USDT", amount_delta="1.00")
    return day.lines


@shape("deposits in an asset without a mark")
def unpriced(n: int) -> list[bytes]:
    day = Day().opened(prices=False)
    day.account("A")
    for _ in range(n):
        day.money("A", "1.00000000", "BTC", call="A/call/1")
    return day.lines


@shape("activations that wait for their time")
def waiting(n: int) -> list[bytes]:
    day = priced()
    for k in range(n // 2):
        activate(day, "p2", k + 1, "2029-01-01T00:00:00Z")
        day.clock()
    return day.lines


def activate(day: Day, profile: str, version: int, effective: str) -> None:
    day.book(
        "profile_activated",
        profile=profile,
        model="prime",
        version=version,
        effective_from=effective,
        approved_by="risk",
        parameters=day.parameters,
    )


@shape("activations for many accounts")
def activations(n: int) -> list[bytes]:
    day = priced()
    for k in range(n // 2):
        day.account(f"a{k}")
    for k in range(n // 4):
        activate(day, "prime", k + 2, "2020-01-01T00:00:00Z")
        day.clock(1)
    return day.lines


@shape("one asset bought and sold again and again")
def holders(n: int) -> list[bytes]:
    day = priced()
    for _ in range(n // 3):
        day.money("A", "1.00000000", "BTC")
        day.money("A", "-1.00000000", "BTC")
    for _ in range(n // 6):
        day.clock(301)
        day.tick("BTCUSDT", "40000.00")
    return day.lines


@shape("instruments with long limits, and many clocks")
def limits(n: int) -> list[bytes]:
    day = priced()
    for k in range(n // 3):
        more = {"kind": "spot", "base": "BTC", "currency": "USDT", "price_scale": 2, "quantity_scale": 4}
        day.book("instrument_listed", instrument=f"I{k}", stale_after_s=86_400, **more)
        day.tick(f"I{k}", "1.00")
    for _ in range(n // 3):
        day.clock(2)
    return day.lines


@shape("calls, cured again and again")
def calls(n: int) -> list[bytes]:
    day = priced()
    day.money("A", "100.00000000", "BTC")
    day.money("A", "-2800000.00")
    for _ in range(n // 5):
        day.tick("BTCUSDT", "38000.00")
        day.clock(61)
        day.tick("BTCUSDT", "44000.00")
        day.clock(86_401)
        day.tick("BTCUSDT", "44000.00")
    return day.lines


@shape("calls of many accounts, all due at once")
def timers(n: int) -> list[bytes]:
    day = priced()
    for k in range(n // 3):
        day.account(f"a{k}")
        day.money(f"a{k}", "100.00000000", "BTC")
        day.money(f"a{k}", "-2900000.00")
    for step in (61, 86_400, 1):
        day.clock(step)
    return day.lines


@shape("lines that are no events")
def refused(n: int) -> list[bytes]:
    return [*priced().lines, *(b"x%d" % k for k in range(n))]


@shape("short accounts that cross a level at each tick")
def crossing(n: int) -> list[bytes]:
    day = priced()
    for k in range(n // 4):
        day.account(f"a{k}")
        day.money(f"a{k}", "1.00000000", "BTC")
        day.money(f"a{k}", "-25714.28")
    for k in range(n // 4):
        day.tick("BTCUSDT", "39999.00" if k % 2 else "40001.00")
    return day.lines


@shape("many holders of what goes stale and comes back")
def stale(n: int) -> list[bytes]:
    day = priced()
    for k in range(n // 4):
        day.account(f"a{k}")
        day.money(f"a{k}", "1.00000000", "BTC")
    for _ in range(n // 8):
        day.clock(301)
        day.tick("BTCUSDT", "40000.00")
    return day.lines


def many_assets(count: int) -> Day:
    assets = {f"C{k}": {"haircut": "0.10", "route": [f"C{k}USDT"]} for k in range(count)}
    day = Day({"assets": {"USDT": {"haircut": "0", "route": []}, **assets}})
    day.book("instrument_listed", instrument="USDT", kind="currency", quantity_scale=2)
    for k in range(count):
        day.book("instrument_listed", instrument=f"C{k}", kind="currency", quantity_scale=8)
        more = {"base": f"C{k}", "currency": "USDT", "price_scale": 2, "quantity_scale": 8}
        day.book("instrument_listed", instrument=f"C{k}USDT", kind="spot", **more)
    activate(day, "prime", 1, "2020-01-01T00:00:00Z")
    day.clock()
    for k in range(count):
        day.tick(f"C{k}USDT", "100.00")
    day.account("A")
    for k in range(count):
        day.money("A", "1.00000000", f"C{k}")
    return day


@shape("many assets in one account")
def assets_of_one(n: int) -> list[bytes]:
    return many_assets(n // 5).lines


@shape("a liquidation request after each deposit")
def requests(n: int) -> list[bytes]:
    day = many_assets(n // 6)
    day.money("A", f"-{n // 6 * 88}.00")
    for _ in range(n // 6):
        day.money("A", "0.50")
    return day.lines


def run(lines: list[bytes]) -> int:
    """Fold lines as the folder's writer does, and take a checkpoint; return how many effects there were."""
    system = StoreFold(1, rules_version=LATEST)
    effects = 0
    for start in range(0, len(lines), GROUP):
        for line in lines[start : start + GROUP]:
            system.admission.line(line)
        effects += sum(map(len, system.fold()))
    system.digests()
    for folds in system.sets:
        for _ in folds.rows():
            pass
        folds.mark_stored()
    return effects


def exponent(sizes: list[int], costs: list[float]) -> float:
    """Return the exponent between the last two sizes."""
    return math.log(costs[-1] / costs[-2]) / math.log(sizes[-1] / sizes[-2])


def main() -> None:
    sizes = [int(word) for word in sys.argv[1:]] or [1000, 4000, 16_000]
    print(f"{'shape':52}" + "".join(f"{size:>9,} s" for size in sizes) + "  exponent")
    for name, make in SHAPES.items():
        costs = []
        for size in sizes if name not in REASONS else [size // 4 for size in sizes]:
            lines = make(size)
            started = time.perf_counter()
            run(lines)
            costs.append(time.perf_counter() - started)
        why = f"  {REASONS[name]} (sizes / 4)" if name in REASONS else ""
        row = "".join(f"{cost:11.3f}" for cost in costs)
        print(f"{name:52}{row}{exponent(sizes, costs):10.2f}{why}", flush=True)


if __name__ == "__main__":
    main()
