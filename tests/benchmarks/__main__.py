"""Benchmarks: JSON a line, medians of several runs, each beside a peer in the same run. ``make bench``; ``python -m
tests.benchmarks ingest``."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from margin_stream import Store
from margin_stream.core.store_fold import StoreFold
from margin_stream.host.embedded import Host
from margin_stream.native import SWITCH, form
from margin_stream.schemas.decimals import format_scaled
from margin_stream.schemas.rules_versions import LATEST
from tests.days import INSTRUMENTS, Day, random_day

RUNS = 5


def book_day(accounts: int, events: int, seed: int = 1) -> list[bytes]:
    """Account events on accounts with three positions: seven trades to one movement of money, one quote in a
    hundred."""
    rng = Random(seed)
    day = Day().opened()
    names = [f"A{n:06d}" for n in range(accounts)]
    for name in names:
        day.account(name)
        day.money(name, "5000000")
    instruments = sorted(INSTRUMENTS)
    prices = {"BTCUSDT": "40000.00", "ETHUSDT": "3000.00", "XMRBTC": "0.008000"}
    for n in range(events):
        name = rng.choice(names)
        if n % 100 == 99:
            day.tick("BTCUSDT", f"{40000 + rng.randrange(-50, 50)}.00")
        elif rng.randrange(8) == 0:
            day.money(name, format_scaled(rng.randrange(-10000, 20000), 2))
        else:
            instrument = rng.choice(instruments)
            scale = INSTRUMENTS[instrument][3]
            day.trade(
                name,
                instrument,
                format_scaled(rng.choice((-1, 1)) * rng.randrange(1, 3000), scale),
                prices[instrument],
                "0.10" if scale == 4 else "0",
            )
    return day.lines


def median_of(measure: Callable[[], float], runs: int = RUNS) -> dict[str, Any]:
    values = [measure() for _ in range(runs)]
    return {
        "median": round(statistics.median(values), 4),
        "lowest": round(min(values), 4),
        "highest": round(max(values), 4),
        "runs": runs,
    }


def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="bench-"))


def bench_ingest() -> dict[str, Any]:
    lines = book_day(1000, 120_000)

    def ours() -> float:
        path = folder()
        host = Host(path / "s")
        started = time.perf_counter()
        host.ingest(lines)
        spent = time.perf_counter() - started
        host.close()
        shutil.rmtree(path)
        return len(lines) / spent

    def peer() -> float:
        """The standard library alone: json.loads of each line, written out and synced in the same groups. No checks, no
        fold."""
        path = folder() / "log"
        started = time.perf_counter()
        with path.open("wb") as file:
            for start in range(0, len(lines), 2000):
                for line in lines[start : start + 2000]:
                    json.loads(line)
                    file.write(line)
                file.flush()
                os.fdatasync(file.fileno())
        return len(lines) / (time.perf_counter() - started)

    return {
        "unit": "events/s",
        "events": len(lines),
        "ours": median_of(ours),
        "peer_json_and_sync_only": median_of(peer),
        "target": 30_000,
    }


def bench_replay() -> dict[str, Any]:
    from margin_stream.replay.replay import replay

    lines = book_day(1000, 120_000)
    path = folder()
    with Host(path / "s") as host:
        host.ingest(lines)

    def ours() -> float:
        started = time.perf_counter()
        found = replay(path / "s")
        assert found.equal
        return found.events / (time.perf_counter() - started)

    def peer() -> float:
        """Only reading and decoding the same journal."""
        from margin_stream.schemas.binary import decode_payload, item_count
        from margin_stream.views.source import StoreReader

        started = time.perf_counter()
        count = sum(item_count(decode_payload(record.payload)) for record in StoreReader(path / "s").records())
        return count / (time.perf_counter() - started)

    row = {
        "unit": "events/s",
        "events": len(lines),
        "ours": median_of(ours),
        "peer_read_and_decode_only": median_of(peer),
        "target": 60_000,
    }
    shutil.rmtree(path)
    return row


def bench_append() -> dict[str, Any]:
    lines = book_day(1000, 60_000)
    setup = next(n for n, line in enumerate(lines) if b"position_changed" in line)

    def once() -> tuple[float, float]:
        path = folder()
        store = Store.open(path / "s", checkpoint_items=10**9)
        store.ingest(lines[:setup])
        todo = iter(lines[setup:])
        waits: list[float] = []

        async def caller() -> None:
            for line in todo:
                started = time.perf_counter()
                await store.append(line)
                waits.append(time.perf_counter() - started)

        async def everyone() -> None:
            await asyncio.gather(*(caller() for _ in range(64)))

        started = time.perf_counter()
        asyncio.run(everyone())
        spent = time.perf_counter() - started
        store.close()
        shutil.rmtree(path)
        waits.sort()
        return len(waits) / spent, waits[len(waits) * 99 // 100] * 1000

    rows = [once() for _ in range(RUNS)]
    return {
        "unit": "acknowledged/s",
        "callers": 64,
        "ours": round(statistics.median(rate for rate, _ in rows)),
        "p99_ms": round(statistics.median(wait for _, wait in rows), 2),
        "target": 20_000,
        "target_p99_ms": 10,
    }


def bench_ticks() -> dict[str, Any]:
    """Price boxes against valuing every holder at every tick, at 1,000 accounts."""
    rng = Random(3)
    day = Day().opened()
    for n in range(1000):
        name = f"A{n}"
        day.account(name)
        day.money(name, str(rng.randrange(20_000, 60_000)))
        for instrument, quantity, price in (("BTCUSDT", "1", "40000.00"), ("ETHUSDT", "5", "3000.00")):
            day.trade(name, instrument, quantity, price)
    setup = len(day.lines)
    prices = {"BTCUSDT": 4_000_000, "ETHUSDT": 300_000}
    for n in range(20_000):
        if n % 100 == 0:
            day.clock(1)
        instrument = rng.choice(("BTCUSDT", "ETHUSDT"))
        prices[instrument] += prices[instrument] * rng.randint(-30, 30) // 100_000
        day.tick(instrument, format_scaled(prices[instrument], 2))

    def run(boxes: bool, ticks: int) -> float:
        system = StoreFold(1, boxes=boxes, rules_version=LATEST)
        for line in day.lines[:setup]:
            system.admission.line(line)
        system.fold()
        started = time.perf_counter()
        for line in day.lines[setup : setup + ticks]:
            system.admission.line(line)
        system.fold()
        return ticks / (time.perf_counter() - started)

    ours, plain = median_of(lambda: run(True, 20_000)), median_of(lambda: run(False, 400))
    return {
        "unit": "ticks/s",
        "accounts": 1000,
        "boxes": ours,
        "peer_every_holder": plain,
        "ratio": round(ours["median"] / plain["median"], 1),
    }


_LOAD = """
import resource, sys, time
from pathlib import Path
from margin_stream.host.embedded import Host
def rss():
    return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()
Host(Path(sys.argv[1])).abandon()
before = rss()
started = time.perf_counter()
host = Host(Path(sys.argv[2]))
spent = time.perf_counter() - started
print(spent, (rss() - before) / len(host.system.intake.accounts), host.recovery.folded)
"""


def bench_start() -> dict[str, Any]:
    """100,000 accounts with ten positions from a checkpoint: time, and resident memory an account."""
    accounts = 100_000
    day = Day()
    day.directory()
    bases = [f"C{n}" for n in range(20)]
    for base in bases:
        day.book("instrument_listed", instrument=base, kind="currency", quantity_scale=8)
        day.book(
            "instrument_listed",
            instrument=f"{base}USDT",
            kind="spot",
            base=base,
            currency="USDT",
            price_scale=2,
            quantity_scale=4,
        )
    routes = {base: {"haircut": "0.3", "route": [f"{base}USDT"]} for base in bases}
    parameters = {**day.parameters, "assets": {**day.parameters["assets"], **routes}}
    day.book(
        "profile_activated",
        profile="wide",
        model="prime",
        version=1,
        effective_from="2020-01-01T00:00:00Z",
        approved_by="x",
        parameters=parameters,
    )
    day.clock()
    for base in bases:
        day.tick(f"{base}USDT", "100.00")
    rng = Random(1)
    path = folder()
    with Host(path / "empty"):
        pass
    with Host(path / "s", checkpoint_items=10**9) as host:
        host.ingest(day.lines)
        day.lines.clear()
        for n in range(accounts):
            name = f"A-{n:06d}"
            day.book("account_opened", account=name, base_currency="USDT", profile="wide")
            day.money(name, "3000")
            for base in rng.sample(bases, 10):
                day.trade(name, f"{base}USDT", format_scaled(rng.randrange(1000, 90000), 4), "100.00", "0.05")
            if len(day.lines) > 20_000:
                host.ingest(day.lines)
                day.lines.clear()
        host.ingest(day.lines)
    rows = []
    for _ in range(RUNS):
        command = [sys.executable, "-c", _LOAD, str(path / "empty"), str(path / "s")]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        seconds, size, folded = done.stdout.split()
        assert folded == "0"
        rows.append((float(seconds), float(size)))
    shutil.rmtree(path)
    return {
        "accounts": accounts,
        "positions": 10,
        "start_s": round(statistics.median(row[0] for row in rows), 2),
        "bytes_an_account": round(statistics.median(row[1] for row in rows)),
        "target_s": 2,
        "target_bytes": 1024,
    }


def bench_profile() -> dict[str, Any]:
    """Where the time of a fold goes: shares of the largest functions, in plain Python (a profile does not see into
    compiled ones)."""
    if form().compiled:
        env = {**os.environ, SWITCH: "0"}
        code = "import json; from tests.benchmarks.__main__ import bench_profile; print(json.dumps(bench_profile()))"
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    import cProfile
    import pstats

    lines = random_day(1, accounts=200, steps=20_000)
    system = StoreFold(1, rules_version=LATEST)

    def run() -> None:
        for line in lines:
            system.admission.line(line)
        system.fold()

    profile = cProfile.Profile()
    profile.runcall(run)
    stats = pstats.Stats(profile)
    total = stats.total_tt  # type: ignore[attr-defined]
    rows = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:10]  # type: ignore[attr-defined]
    return {f"{Path(where[0]).name}:{where[2]}": f"{100 * numbers[2] / total:.0f} %" for where, numbers in rows}


BENCHMARKS = {
    "ingest": bench_ingest,
    "replay": bench_replay,
    "append": bench_append,
    "ticks": bench_ticks,
    "start": bench_start,
    "profile": bench_profile,
}


def main() -> None:
    names = sys.argv[1:] or list(BENCHMARKS)
    machine = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "core": "compiled" if form().compiled else "plain",
    }
    results = Path("bench-results")
    results.mkdir(exist_ok=True)
    for name in names:
        row = {"benchmark": name, **machine, **BENCHMARKS[name]()}
        print(json.dumps(row), flush=True)
        (results / f"{name}.json").write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
