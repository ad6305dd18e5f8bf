"""``demo``: the main job from start to end, on the embedded host, with a kill in the middle."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import orjson
from cyclopts import Parameter

from margin_stream.cli.errors import DONE, FAILED
from margin_stream.cli.output import Common, print_json, show_rows
from margin_stream.cli.signals import as_python_does
from margin_stream.cli.simulate import tables_for
from margin_stream.cli.usage import UsageError
from margin_stream.simulation import DEFAULT_PROFILES

if TYPE_CHECKING:
    from margin_stream.schemas.inputs import AnyInput


class Steps:
    """Numbers the steps, and reports what each took."""

    def __init__(self, common: Common) -> None:
        self._common = common
        self._began = self._started = time.monotonic()
        self._number = 0
        self._on = not common.quiet and sys.stderr.isatty()
        self.facts: dict[str, Any] = {}

    def doing(self, text: str) -> None:
        """Show on a terminal what runs now; ``done`` removes it."""
        if self._on:
            print(f"\r{text} ...", end="", file=sys.stderr, flush=True)

    def done(self, name: str, text: str, **facts: object) -> None:
        """Report what was done, and keep the facts of it by name."""
        now = time.monotonic()
        self._number += 1
        if self._on:
            print("\r" + " " * 70 + "\r", end="", file=sys.stderr, flush=True)
        self.facts[name] = {**facts, "seconds": round(now - self._started, 2)}
        if not self._common.json:
            print(f"{self._number}. {text}  [{now - self._started:.1f} s]", flush=True)
        self._started = now

    def total(self) -> float:
        """Return the seconds of all steps so far."""
        return time.monotonic() - self._began


def demo(
    *,
    market: Annotated[
        Path | None,
        Parameter(
            help="Bars of a real day (a file or a folder) instead of the simulated crash; perpetuals only with "
            "--brackets."
        ),
    ] = None,
    brackets: Annotated[
        Path | None, Parameter(help="A venue's leverage brackets (JSON, gz too) instead of synthetic ones.")
    ] = None,
    accounts: Annotated[int, Parameter(help="How many accounts.")] = 1000,
    seed: int = 1,
    keep: Annotated[Path | None, Parameter(help="Keep the store in this new folder, to examine it.")] = None,
    common: Common = Common(),  # noqa: B008 (frozen)
) -> int:
    """Run the main job: a crash day, 1,000 accounts, margin calls, liquidations, answers; killed, recovered, replayed,
    verified.

    One account in five holds perpetuals (binance-usdm), the others spot on credit (prime).
    Prices, accounts, answers and, without --brackets, leverage brackets are synthetic, made from the seed.

    Try:
      margin-stream demo
      margin-stream demo --keep ./demo-store
      margin-stream demo --market usdt_pairs_1m.csv.gz --brackets tiers.json.gz
    """
    if keep is not None and keep.exists():
        raise UsageError(f"--keep {keep}: exists already; name a new folder", option="--keep")
    if not 1 <= accounts <= 100_000:
        raise UsageError(f"--accounts {accounts}: from 1 to 100,000", option="--accounts")
    as_python_does()
    folder = Path(tempfile.mkdtemp(prefix="margin-stream-demo-"))
    try:
        return _run(common, Steps(common), folder, keep or folder / "store", _Day(market, brackets, accounts, seed))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Day(NamedTuple):
    """What the inputs are made from."""

    market: Path | None
    brackets: Path | None
    accounts: int
    seed: int

    def note(self) -> str:
        """Return which figures are made up."""
        prices = "Prices, accounts" if self.market is None else "Accounts"
        tables = ", fees and leverage brackets" if self.market is None and self.brackets is None else " and fees"
        made = f"made from seed {self.seed}; the margins of prime are illustrative."
        return f"{prices}, answers{tables} are synthetic, {made}"

    def events(self, common: Common) -> tuple[str, Iterator[AnyInput]]:
        """Return a title, and the inputs."""
        from margin_stream.importers.files import read_market
        from margin_stream.simulation.answers import with_answers
        from margin_stream.simulation.day import Accounts, day_events
        from margin_stream.simulation.scenarios import MIXED_PROFILES, pairs, simulate
        from margin_stream.simulation.venue import Venue

        if self.market is None:
            tables = None if self.brackets is None else tables_for(common, pairs(), self.brackets)[0]
            return "a simulated crash day (BTC -30 %, ETH -44 %)", simulate(
                "crash", self.accounts, self.seed, MIXED_PROFILES, tables
            )
        paths = (
            sorted(p for p in self.market.iterdir() if p.name.endswith((".csv", ".csv.gz")) and "SOURCE" not in p.name)
            if self.market.is_dir()
            else [self.market]
        )
        bars = read_market("bars", paths, zone=None, label=None, complain=lambda text: print(text, file=sys.stderr))
        tables = None if self.brackets is None else tables_for(common, bars.pairs, self.brackets)[0]
        profiles = DEFAULT_PROFILES if tables is None else MIXED_PROFILES
        venue = None if tables is None else Venue(f"{bars.source}/venue/{self.seed}", self.seed)
        day = day_events(bars, Accounts(self.accounts, self.seed, profiles, within_margin=True), tables)
        return f"{len(bars.bars):,} recorded bars, seeded accounts", with_answers(
            day, self.seed, f"{bars.source}/answers/{self.seed}", venue
        )


def _run(common: Common, steps: Steps, folder: Path, store: Path, made: _Day) -> int:
    from margin_stream import views
    from margin_stream.cli.demo_report import (
        Inputs,
        by_profile,
        explain,
        explanation_lines,
        largest_isolated,
        profile_lines,
    )
    from margin_stream.replay.replay import replay
    from margin_stream.replay.verification import verify
    from margin_stream.schemas.ndjson import encode_line

    day = folder / "day.ndjson"
    steps.doing("making the inputs")
    title, events = made.events(common)
    inputs = Inputs()
    with day.open("wb") as file:
        for event in events:
            inputs.note(event)
            file.write(encode_line(event))
    members = ", ".join(f"{count:,} accounts under {profile}" for profile, count in inputs.members().most_common())
    steps.done(
        "input", f"{title}, {members}: {inputs.count:,} inputs", inputs=inputs.count, accounts=dict(inputs.members())
    )

    steps.doing("ingesting, to be killed")
    killed_at = _ingest_and_kill(store, day)
    steps.done(
        "killed", f"ingesting; kill -9 when {killed_at:,} bytes of journal were written", journal_bytes=killed_at
    )

    steps.doing("ingesting again")
    run = subprocess.run(
        [sys.executable, "-m", "margin_stream.cli", "ingest", str(day), "--store", str(store), "--json"],
        capture_output=True,
        check=False,
    )
    if run.returncode != 0:
        sys.stderr.buffer.write(run.stderr)
        return FAILED
    summary = orjson.loads(run.stdout)
    text = f"run again: recovered, {summary['duplicate']:,} inputs were duplicates, {summary['accepted']:,} were new"
    steps.done("recovered", text, **summary)

    effects = list(views.effects(store))
    counts = by_profile(inputs, effects)
    steps.done(
        "effects",
        f"{len(effects):,} effects, among them:",
        **Counter(row["type"] for row in effects),
        by_profile=counts,
    )
    if not common.json:
        print("\n".join(["", *profile_lines(counts), ""]), flush=True)

    steps.doing("replaying from the start")
    replayed = replay(store)
    same = "equal" if replayed.equal else f"NOT EQUAL: {replayed.first_difference}"
    steps.done(
        "replayed",
        f"replayed {replayed.events:,} items from the start: {same}, state {replayed.state_digest[:16]}...",
        equal=replayed.equal,
    )

    steps.doing("verifying")
    verified = verify(store, fold=False)
    what = "no damage" if verified.ok else f"{len(verified.problems)} problems"
    steps.done(
        "verified",
        f"verified {verified.records:,} records, {verified.effects:,} effects, tables: {what}",
        ok=verified.ok,
    )

    due = largest_isolated(effects)
    explained = None if due is None else explain(store, due, inputs)
    open_calls = views.calls(store, open_only=True)
    if common.json:
        print_json(
            {
                **steps.facts,
                "explained": explained,
                "open_calls": len(open_calls),
                "store": str(store) if store.parent != folder else None,
            }
        )
    else:
        if explained is not None:
            print("\nWhy was it liquidated? The largest isolated subaccount:\n")
            print("\n".join(explanation_lines(explained)))
        if open_calls:
            print(f"\n{len(open_calls):,} calls are still open; the first by deadline:\n")
            show_rows(
                common,
                open_calls[:8],
                ("call", "amount", "unpaid", "currency", "due_at", "overdue", "outcome"),
                empty="",
            )
        else:
            print("\nNo call is open any more.")
        if store.parent != folder:
            print(f"\nThe store is in {store}. Look around:")
            if open_calls:
                print(f"  margin-stream call {open_calls[0]['call']} --store {store}")
            account = open_calls[0]["account"] if open_calls else next(iter(inputs.profile_of))
            print(f"  margin-stream state --account {account} --store {store}")
            if explained is not None:
                print(
                    f"  margin-stream state --account {explained['account']} --at '#{explained['sequence']}' --store "
                    f"{store}"
                )
        else:
            print("\nThe store is gone again; --keep FOLDER keeps it to look around in.")
        print(f"{made.note()} {steps.total():.0f} s in all.")
    return DONE if replayed.equal and verified.ok else FAILED


def _ingest_and_kill(store: Path, day: Path) -> int:
    """Start an ingest and kill it once it has written a third of what the day will take; return the journal's size
    then."""
    from margin_stream.journal.layout import Layout

    # The journal takes about a third of the lines' bytes.
    target = day.stat().st_size // 9
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
    process.kill()
    process.wait()
    return size
