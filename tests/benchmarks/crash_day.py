"""The recorded crash day with both profiles, from CSV to verified calls: ``python -m tests.benchmarks.crash_day
[accounts]``.

Two cores, three processes: ``import``, ``ingest --revaluation vectors --verify``, and the replay beside it. The peer in
the same run folds nothing: the import alone, and reading the finished journal alone.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from margin_stream.native import form
from margin_stream.views.source import StoreReader
from tests.folding import DATA

RUNS = 3
CORES = 2
TARGET_S = 90
BARS = ("usdt_pairs_1m.csv.gz", "btc_pairs_1m.csv.gz")
COMMAND = (sys.executable, "-m", "margin_stream.cli")


def importing(accounts: int) -> list[str]:
    """Return the command that prints the day."""
    bars = [str(DATA / "binance_2021-05-19_1m" / name) for name in BARS]
    tiers = str(DATA / "binance_leverage_tiers" / "binance_leverage_tiers.json.gz")
    profiles = ["--profile", "prime", "--profile", "binance-usdm", "--brackets", tiers]
    return [*COMMAND, "import", "bars", *bars, "--accounts", str(accounts), "--seed", "5", *profiles, "--quiet"]


def once(accounts: int, folder: Path) -> tuple[float, dict[str, Any]]:
    """Make the store; return seconds from the first command to the verified result, and the result."""
    began = time.perf_counter()
    with subprocess.Popen(importing(accounts), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as source:
        ingest = [
            *COMMAND,
            "ingest",
            "-",
            "--store",
            str(folder),
            "--revaluation",
            "vectors",
            "--verify",
            "--json",
            "--quiet",
        ]
        done = subprocess.run(ingest, stdin=source.stdout, capture_output=True, check=True)
    seconds = time.perf_counter() - began
    found = json.loads(done.stdout)
    assert found["verified"]["equal"], found["verified"]["first_difference"]
    return seconds, found


def seconds_of_import(accounts: int) -> float:
    """Return how long the import takes alone."""
    began = time.perf_counter()
    subprocess.run(importing(accounts), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def seconds_of_reading(folder: Path) -> float:
    """Return how long reading and decoding the journal takes alone."""
    began = time.perf_counter()
    for record in StoreReader(folder).items():
        assert record.items
    return time.perf_counter() - began


def main() -> None:
    """Measure, print JSON, and keep it in ``bench-results/``."""
    accounts = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    if not DATA.joinpath("binance_2021-05-19_1m").exists():
        print(f"recorded market data is not here: {DATA} (set MARGIN_STREAM_DATA)", file=sys.stderr)
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    rows: list[float] = []
    found: dict[str, Any] = {}
    place = Path(tempfile.mkdtemp(prefix="crash-day-"))
    try:
        for run in range(RUNS):
            seconds, found = once(accounts, place / str(run))
            rows.append(seconds)
        reading = seconds_of_reading(place / "0")
    finally:
        shutil.rmtree(place)
    row = {
        "benchmark": "crash_day",
        "python": platform.python_version(),
        "cores": CORES,
        "core": "compiled" if form().compiled else "plain",
        "accounts": accounts,
        "inputs": found["accepted"],
        "effects": found["effects"],
        "seconds": round(statistics.median(rows), 1),
        "lowest": round(min(rows), 1),
        "highest": round(max(rows), 1),
        "target_s": TARGET_S,
        "peer_import_alone_s": round(seconds_of_import(accounts), 1),
        "peer_reading_the_journal_s": round(reading, 1),
        "state_digest": found["state_digest"],
    }
    print(json.dumps(row), flush=True)
    Path("bench-results").mkdir(exist_ok=True)
    Path("bench-results/crash_day.json").write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
