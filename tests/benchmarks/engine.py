"""The plain engine, vectorised: every holder at every tick, beside the pure core and price boxes in the same run.

``python -m tests.benchmarks.engine [accounts]``. Marks go through the account fold (``AccountFold.apply``), as they do
in every host; the intake is not in it. Books are filled row by row, so that making them costs seconds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.fold import MARKET
from margin_stream.core.accounts.position import Position, position_key
from margin_stream.core.accounts.row import packed
from margin_stream.core.folds import accounts_of, partition_folds
from margin_stream.core.margin import models as _models  # noqa: F401  (registers the models)
from margin_stream.core.market.market import Market
from margin_stream.core.revaluation.filter import PriceBoxFilter, RevaluationFilter
from margin_stream.core.sequenced import Batch, Marked
from margin_stream.revaluation.vectors import VectorFilter
from margin_stream.schemas.inputs import InstrumentListed, ProfileActivated
from margin_stream.schemas.rules_versions import LATEST
from tests.days import PARAMETERS
from tests.usdm_days import USDM_PARAMETERS

INSTRUMENTS = 500
POSITIONS = 10
TICKS = 20_000
RUNS = 3
COMMON = 1
"""The instrument that every account holds."""


def listed(name: str, **fields: Any) -> InstrumentListed:
    return InstrumentListed(source="b", source_seq=0, event_time=0, instrument=name, **fields)


def market_of(model: str) -> Market:
    """Return a market of 500 instruments with marks, and the model's profile in force."""
    market = Market(LATEST)
    market.enlist(listed("USDT", kind="currency", quantity_scale=2))
    market.tick_clock(1)
    names = [f"I{n:03d}" for n in range(1, INSTRUMENTS + 1)]
    for name in names:
        if model == "prime":
            market.enlist(listed(f"C{name}", kind="currency", quantity_scale=8))
            market.enlist(listed(name, kind="spot", base=f"C{name}", currency="USDT", quantity_scale=4, price_scale=2))
        else:
            market.enlist(listed(name, kind="perpetual", currency="USDT", quantity_scale=3, price_scale=2))
    if model == "prime":
        routes = {f"C{name}": {"haircut": "0.2", "route": [name]} for name in names}
        parameters = {**PARAMETERS, "assets": {"USDT": PARAMETERS["assets"]["USDT"], **routes}}
    else:
        table = [
            {"floor": "0", "cap": "5000", "maintenance_rate": "0.004", "maintenance_amount": "0"},
            {"floor": "5000", "cap": "20000", "maintenance_rate": "0.01", "maintenance_amount": "30"},
            {"floor": "20000", "cap": None, "maintenance_rate": "0.05", "maintenance_amount": "830"},
        ]
        parameters = {
            **USDM_PARAMETERS,
            "assets": {"USDT": {"haircut": "0", "route": []}},
            "brackets": dict.fromkeys(names, table),
        }
    market.wait(
        ProfileActivated(
            source="b",
            source_seq=0,
            event_time=0,
            profile=model,
            model=model,
            version=1,
            effective_from=0,
            approved_by="b",
            parameters=parameters,
        )
    )
    market.tick_clock(2)
    for number in range(1, INSTRUMENTS + 1):
        market.mark(number, 10_000)
    return market


def rows_of(model: str, accounts: int, rng: Random, *, quiescent: bool) -> list[tuple[bytes, bytes]]:
    """Return packed accounts: ten positions each, the first in the instrument that all hold.

    Calm: everyone is well away from a level, so that revaluing is all that is done. Otherwise they reach from just
    called to very safe, and about one tick in one causes an effect.
    """
    rows = []
    for number in range(accounts):
        account = Account(f"A{number:07d}", 0, model, "", [])
        held = [COMMON, *rng.sample(range(2, INSTRUMENTS + 1), POSITIONS - 1)]
        worth = 0
        for instrument in held:
            quantity = rng.randrange(1_000, 400_000)
            if model == "prime":
                cost = quantity
                account.cross.positions[position_key(instrument, 0)] = Position(quantity, cost)
            else:
                quantity *= rng.choice((-1, 1))
                cost = quantity * 10
                account.cross.positions[position_key(instrument, 0)] = Position(quantity, cost, leverage=10)
            worth += abs(cost)
        cover = rng.randint(35 if quiescent else 3, 95)
        account.cross.ledger[0] = -(worth * (100 - cover) // 140) if model == "prime" else worth * cover // 300
        account.cross.balances = dict(account.cross.ledger)
        rows.append((account.id.encode(), packed(account)))
    return rows


def walk(rng: Random, ticks: int, *, common: bool) -> list[Marked]:
    """Return marks: each moves its instrument by up to 0.5 %."""
    prices = dict.fromkeys(range(1, INSTRUMENTS + 1), 10_000)
    marks = []
    for n in range(ticks):
        number = COMMON if common else rng.randrange(2, INSTRUMENTS + 1)
        prices[number] = max(
            100, prices[number] + prices[number] * rng.randint(-500, 500) // 100_000 + rng.choice((-1, 0, 1))
        )
        marks.append(Marked(n + 1, number, prices[number]))
    return marks


def run(
    rows: list[tuple[bytes, bytes]], model: str, price_filter: RevaluationFilter | None, marks: list[Marked]
) -> tuple[float, int, str]:
    """Return ticks/s, effects, digest of the effects."""
    fold = partition_folds(rules_version=LATEST, boxes=False, price_filter=price_filter)
    fold.restore(0, [(b"accounts/" + key, row) for key, row in [(MARKET, market_of(model).packed()), *rows]])
    # The rows come to rest, and the first mark enrols every account: neither is part of the measurement.
    accounts_of(fold).rest_all()
    fold.apply(Batch(0, 1, [marks[0]]))
    started = time.perf_counter()
    effects = 0
    for start in range(1, len(marks), 500):
        part = marks[start : start + 500]
        effects += len(fold.apply(Batch(fold.sequence, part[-1].sequence, part)))
    spent = time.perf_counter() - started
    return (len(marks) - 1) / spent, effects, f"{sum(fold.book.sums().values()) % 2**64:x}"


def median(measure: Callable[[], float], runs: int = RUNS) -> dict[str, float]:
    values = [measure() for _ in range(runs)]
    return {
        "median": round(statistics.median(values)),
        "lowest": round(min(values)),
        "highest": round(max(values)),
        "runs": runs,
    }


def bench(model: str, accounts: int, *, quiescent: bool) -> dict[str, Any]:
    rng = Random(7)
    rows = rows_of(model, accounts, rng, quiescent=quiescent)
    marks, common = walk(rng, TICKS, common=False), walk(rng, 2_000, common=True)
    few = marks[: max(60, 6_000_000 // (accounts * 4))]
    said: dict[str, set[tuple[int, str]]] = {"vectors": set(), "boxes": set(), "few": set()}
    revalued = 0

    def vectors() -> float:
        nonlocal revalued
        price_filter = VectorFilter()
        speed, effects, digest = run(rows, model, price_filter, marks)
        said["vectors"].add((effects, digest))
        revalued = price_filter.revalued
        return speed

    def pure() -> float:
        speed, effects, digest = run(rows, model, None, few)
        said["few"].add((effects, digest))
        return speed

    def boxes() -> float:
        speed, effects, digest = run(rows, model, PriceBoxFilter(), marks)
        said["boxes"].add((effects, digest))
        return speed

    found = {
        "vectors": median(vectors),
        "vectors_common_asset": median(lambda: run(rows, model, VectorFilter(), common)[0], 1),
    }
    found["peer_pure_core"] = median(pure, 1)
    found["price_boxes"] = median(boxes, 1)
    same = run(rows, model, VectorFilter(), few)
    said["few"].add((same[1], same[2]))
    assert said["vectors"] == said["boxes"], "vectors and boxes say the same"
    assert len(said["few"]) == 1, "vectors and the pure core say the same"
    return {
        "benchmark": f"engine {model}{' calm' if quiescent else ''}",
        "unit": "ticks/s",
        "accounts": accounts,
        "positions": POSITIONS,
        "instruments": INSTRUMENTS,
        "effects": next(iter(said["vectors"]))[0],
        "holders_revalued_a_tick": round(revalued / TICKS),
        **found,
        "ratio_to_pure": round(found["vectors"]["median"] / found["peer_pure_core"]["median"], 1),
        "ratio_to_boxes": round(found["vectors"]["median"] / found["price_boxes"]["median"], 2),
        "target": {"prime": 25_000, "binance-usdm": 15_000}[model],
    }


def main() -> None:
    accounts = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    results = Path("bench-results")
    results.mkdir(exist_ok=True)
    for model in ("prime", "binance-usdm"):
        for quiescent in (True, False):
            row = bench(model, accounts, quiescent=quiescent)
            print(json.dumps(row), flush=True)
            (results / f"engine-{model}{'-calm' if quiescent else ''}.json").write_text(
                json.dumps(row, indent=1) + "\n"
            )


if __name__ == "__main__":
    main()
