"""``demo``: the main job from start to end, on the embedded host, with a kill in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import orjson
from cyclopts import Parameter

from margin_stream.cli.output import DONE, FAILED, Common, print_json, show_rows
from margin_stream.cli.usage import UsageError
from margin_stream.importers.day import Accounts, day_events
from margin_stream.importers.files import read_market
from margin_stream.journal.layout import Layout
from margin_stream.simulation.answers import with_answers
from margin_stream.simulation.scenarios import simulate
from replay import browsing, views
from replay.replaying import replay
from replay.verifying import verify
from schemas.ndjson import encode_line


class _Steps:
    """Numbers the steps, and says what each took."""

    def __init__(self, common: Common) -> None:
        self._common = common
        self._started = time.monotonic()
        self._number = 0
        self.facts: dict[str, Any] = {}

    def done(self, name: str, text: str, **facts: object) -> None:
        now = time.monotonic()
        self._number += 1
        self.facts[name] = {**facts, "seconds": round(now - self._started, 2)}
        if not self._common.json:
            print(f"{self._number}. {text}  [{now - self._started:.1f} s]", flush=True)
        self._started = now


def demo(
    *,
    market: Annotated[Path | None, Parameter(help="Bars of a real day (a file or a folder) instead of the simulated crash.")] = None,
    accounts: Annotated[int, Parameter(help="How many accounts.")] = 1000,
    seed: int = 1,
    keep: Annotated[Path | None, Parameter(help="Keep the store in this new folder, to look around in.")] = None,
    common: Common = Common(),  # noqa: B008 (frozen)
) -> int:
    """Run the main job: a crash day, 1,000 accounts, margin calls, answers; killed, recovered, replayed, verified.

    Try:
      margin-stream demo
      margin-stream demo --keep ./demo-store
      margin-stream demo --market usdt_pairs_1m.csv.gz
    """
    if keep is not None and keep.exists():
        raise UsageError(f"--keep {keep}: exists already; name a new folder", option="--keep")
    if not 1 <= accounts <= 100_000:
        raise UsageError(f"--accounts {accounts}: from 1 to 100,000", option="--accounts")
    folder = Path(tempfile.mkdtemp(prefix="margin-stream-demo-"))
    try:
        return _run(common, _Steps(common), folder, keep or folder / "store", market, accounts, seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(common: Common, steps: _Steps, folder: Path, store: Path, market: Path | None, accounts: int, seed: int) -> int:
    day = folder / "day.ndjson"
    if market is None:
        events = simulate("crash", accounts, seed)
        title = f"a simulated crash day (BTC -30 %, ETH -44 %), {accounts:,} accounts"
    else:
        paths = (
            sorted(p for p in market.iterdir() if p.name.endswith((".csv", ".csv.gz")) and "SOURCE" not in p.name)
            if market.is_dir()
            else [market]
        )
        bars = read_market("bars", paths, zone=None, label=None, complain=lambda text: print(text, file=sys.stderr))
        events = with_answers(day_events(bars, Accounts(accounts, seed, ("prime",))), seed, f"{bars.source}/answers/{seed}")
        title = f"{len(bars.bars):,} recorded bars, {accounts:,} seeded accounts"
    count = 0
    with day.open("wb") as file:
        for count, event in enumerate(events, start=1):  # noqa: B007 (the count is kept)
            file.write(encode_line(event))
    steps.done("input", f"{title}: {count:,} inputs", inputs=count)

    killed_at = _ingest_and_kill(store, day)
    steps.done("killed", f"ingesting; kill -9 when {killed_at:,} bytes of journal were written", journal_bytes=killed_at)

    run = subprocess.run(
        [sys.executable, "-m", "margin_stream.cli", "ingest", str(day), "--store", str(store), "--json"],
        capture_output=True,
        check=False,
    )
    if run.returncode != 0:
        sys.stderr.buffer.write(run.stderr)
        return FAILED
    summary = orjson.loads(run.stdout)
    text = f"run again: recovered, {summary['duplicate']:,} inputs were there already, {summary['accepted']:,} came new"
    steps.done("recovered", text, **summary)

    kinds = Counter(row["type"] for row in browsing.effects(store))
    shown = ("margin_warned", "margin_call_issued", "call_reduced", "call_met", "call_cured", "call_expired", "liquidation_due")
    steps.done("effects", "what was decided: " + ", ".join(f"{kinds[kind]:,} {kind}" for kind in shown), **kinds)

    replayed = replay(store)
    same = "equal" if replayed.equal else f"NOT EQUAL: {replayed.first_difference}"
    steps.done(
        "replayed", f"replayed {replayed.events:,} items from nothing: {same}, state {replayed.state_digest[:16]}...", equal=replayed.equal
    )

    verified = verify(store, fold=False)
    what = "sound" if verified.ok else f"{len(verified.problems)} problems"
    steps.done("verified", f"verified {verified.records:,} records, {verified.effects:,} effects, tables: {what}", ok=verified.ok)

    open_calls = views.calls(store, open_only=True)
    if common.json:
        print_json({**steps.facts, "open_calls": len(open_calls), "store": str(store) if store.parent != folder else None})
    else:
        print(f"\n{len(open_calls):,} calls are still open; the first by deadline:\n")
        show_rows(common, open_calls[:8], ("call", "amount", "unpaid", "currency", "due_at", "deadline", "outcome"), empty="")
        example = open_calls[0]["call"] if open_calls else "A-000001/call/1"
        if store.parent != folder:
            print(f"\nThe store is in {store}. Look around:\n  margin-stream call {example} --store {store}")
            print(f"  margin-stream state --account {example.partition('/')[0]} --store {store}")
        else:
            print("\nThe store is gone again; --keep FOLDER keeps it to look around in.")
    return DONE if replayed.equal and verified.ok else FAILED


def _ingest_and_kill(store: Path, day: Path) -> int:
    """Start an ingest and kill it once it has written a third of what the day will take; return the journal's size then."""
    target = day.stat().st_size // 16
    journal = Layout(store).journal
    process = subprocess.Popen(
        [sys.executable, "-m", "margin_stream.cli", "ingest", str(day), "--store", str(store), "--quiet"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    size = 0
    while process.poll() is None:
        size = sum(path.stat().st_size for path in journal.glob("*.seg")) if journal.exists() else 0
        if size >= target:
            break
        time.sleep(0.005)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return size
