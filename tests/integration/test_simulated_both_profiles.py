"""The simulated crash with both profiles, on every way of folding; `simulate` and `demo` as a user runs them."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from hashlib import sha256
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from margin_stream.revaluation.vectors import VectorFilter
from margin_stream.schemas.ndjson import encode_line
from margin_stream.simulation.scenarios import simulate
from margin_stream.simulation.synthetic_brackets import synthetic_brackets
from tests.folding import fold
from tests.integration.test_command_line import run

BOTH = ("--profile", "prime", "--profile", "binance-usdm")


@pytest.mark.slow
def test_the_simulated_day_folds_equal_however_it_is_folded() -> None:
    lines = [
        encode_line(event).rstrip() for event in islice(simulate("crash", 60, 3, ("prime", "binance-usdm")), 54_000)
    ]
    reference = fold(lines)
    said = Counter(effect["type"] for effect in reference[1])
    assert said["input_refused"] == 0
    assert said["margin_call_issued"] > 10
    assert any(effect["type"] == "liquidation_due" and effect.get("isolated") for effect in reference[1])
    assert any(effect["type"] == "liquidation_due" and effect["legs"][0].get("quantity") for effect in reference[1])
    assert fold(lines, 2, cuts=Random(1)) == reference
    assert fold(lines, 7) == reference
    assert fold(lines, price_filter=VectorFilter) == reference
    assert fold(lines, 7, price_filter=VectorFilter) == reference
    assert fold(lines, 2, boxes=False) == reference


@pytest.mark.slow(reason="simulates whole days by the command")
def test_simulate_without_options_prints_the_bytes_it_always_did() -> None:
    done = run("simulate", "--scenario", "crash", "--accounts", "5", "--seed", "3")
    assert sha256(done.stdout).hexdigest() == "df90949e09239a749f3d421eeab66f564bb1a4821fff2480a524c76bff05287e"
    named = run("simulate", "--scenario", "crash", "--accounts", "5", "--seed", "3", "--profile", "prime")
    assert named.stdout == done.stdout


@pytest.mark.slow(reason="simulates whole days by the command")
def test_simulate_takes_profiles_and_brackets_as_import_does(tmp_path: Path) -> None:
    tables = synthetic_brackets({"BTCUSDT": 0, "ETHUSDT": 0}, 4)
    names = {"maintenance_rate": "maintMarginRatio", "maintenance_amount": "cum", "max_leverage": "initialLeverage"}
    entries = [
        {
            "symbol": pair,
            "brackets": [
                {"notionalFloor": row["floor"], "notionalCap": row["cap"] or "999999999999"}
                | {names[key]: row[key] for key in names}
                for row in msgspec.to_builtins(table)
            ],
        }
        for pair, table in tables.items()
    ]
    (tmp_path / "tiers.json").write_text(json.dumps(entries))
    done = run("simulate", "--scenario", "quiet", "--accounts", "6", *BOTH, "--brackets", str(tmp_path / "tiers.json"))
    assert done.returncode == 0, done.stderr
    assert b"no table for ADAUSDT" in done.stderr
    lines = done.stdout.splitlines()[:60]
    listed = [json.loads(line).get("instrument", "") for line in lines if b"instrument_listed" in line]
    assert [name for name in listed if name.endswith("-PERP")] == ["BTCUSDT-PERP", "ETHUSDT-PERP"]
    ingested = run("ingest", "-", "--store", str(tmp_path / "s"), "--json", data=done.stdout)
    said = json.loads(ingested.stdout)
    assert (said["refused"], said["duplicate"]) == (0, 0)


@pytest.mark.slow(reason="simulates whole days by the command")
def test_an_unknown_profile_is_named(tmp_path: Path) -> None:
    done = run("simulate", "--profile", "binance-usd")
    assert done.returncode == 2
    assert b"did you mean" in done.stderr
    assert b"binance-usdm" in done.stderr
    for words in (("simulate",), ("import", "bars", "x.csv")):
        assert run(*words, "--empty-profile").returncode == 2
    done = run("simulate", "--brackets", str(tmp_path / "none.json"))
    assert done.returncode != 0
    assert b"none.json" in done.stderr


def explained_adds_up(facts: dict[str, Any]) -> None:
    """The figures of an explanation follow from each other."""
    (position,) = facts["positions"]
    quantity, mark = Decimal(position["quantity"]), Decimal(position["mark"])
    profit = Decimal(position["unrealised"])
    cent = Decimal("0.01")
    assert 0 <= quantity * mark - Decimal(position["open_cost"]) - profit < cent
    assert Decimal(facts["money"]) + profit == Decimal(facts["equity"])
    assert abs(quantity) * mark == Decimal(position["notional"])
    assert Decimal(position["floor"]) <= Decimal(position["notional"]) < Decimal(position["cap"])
    margin = Decimal(position["notional"]) * Decimal(position["maintenance_rate"]) - Decimal(
        position["maintenance_amount"]
    )
    assert 0 <= Decimal(facts["maintenance_margin"]) - margin < cent
    assert Decimal(facts["equity"]) <= Decimal(facts["maintenance_margin"])
    (trade,) = facts["closed"]["trades"]
    assert Decimal(trade["quantity"]) == -quantity
    assert facts["closed"]["ended"]


@pytest.mark.slow
def test_the_demo_counts_by_profile_and_explains_a_subaccount(tmp_path: Path) -> None:
    done = run("demo", "--accounts", "100", "--json", "--keep", str(tmp_path / "s"))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["replayed"]["equal"]
    assert said["verified"]["ok"]
    assert said["input"]["accounts"] == {"prime": 80, "binance-usdm": 20}
    counts = said["effects"]["by_profile"]
    assert counts["prime"]["margin_call_issued"]["times"] > counts["prime"]["call_met"]["times"] > 10
    assert counts["binance-usdm"]["margin_call_issued"] == {"times": 0, "accounts": 0}
    assert counts["binance-usdm"]["liquidation_due"]["accounts"] > 3
    assert counts["binance-usdm"]["liquidation_due_isolated"]["times"] > 0
    for kind in ("margin_warned", "call_expired", "liquidation_due"):
        assert sum(row[kind]["times"] for row in counts.values()) == said["effects"][kind]
    explained_adds_up(said["explained"])
    # What the demo says is what the store says.
    words = (
        "state",
        "--account",
        said["explained"]["account"],
        "--at",
        f"#{said['explained']['sequence']}",
        "--store",
        str(tmp_path / "s"),
    )
    state = json.loads(run(*words, "--json").stdout)
    subaccount = next(row for row in state["subaccounts"] if row["subaccount"] == said["explained"]["subaccount"])
    assert (subaccount["level"], subaccount["equity"]) == ("LIQUIDATING", said["explained"]["equity"])


@pytest.mark.slow
def test_the_demo_is_readable() -> None:
    done = run("demo", "--accounts", "60")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    for part in (
        "48 accounts under prime, 12 accounts under binance-usdm",
        "margin_call_issued",
        "liquidation_due",
        "Why was it liquidated?",
    ):
        assert part in text
    for part in (
        "maintenance margin",
        "leverage bracket",
        "were moved to the cross subaccount",
        "synthetic",
        "replayed",
        ": equal,",
    ):
        assert part in text
    assert all(len(line) <= 160 for line in text.splitlines())


def bars_of_a_fall(path: Path) -> None:
    """Write an hour of two pairs: quiet, then a fall by a third, minute by minute."""
    rows = ["ts_ms,symbol,open,high,low,close"]
    for minute in range(60):
        share = 1000 - max(0, minute - 20) * 12 if minute < 48 else 664
        for symbol, price in (("BTC_USDT", 40_000), ("ETH_USDT", 3_000)):
            here = f"{price * share / 1000:.2f}"
            rows.append(f"{1621382400000 + minute * 60_000},{symbol},{here},{here},{here},{here}")
    path.write_text("\n".join(rows) + "\n")


@pytest.mark.slow
def test_the_demo_of_a_real_day_has_both_profiles_only_with_brackets(tmp_path: Path) -> None:
    bars_of_a_fall(tmp_path / "bars.csv")
    alone = run("demo", "--market", str(tmp_path / "bars.csv"), "--accounts", "40", "--json")
    assert alone.returncode == 0, alone.stderr
    said = json.loads(alone.stdout)
    assert said["input"]["accounts"] == {"prime": 40}
    assert said["explained"] is None
    tables = msgspec.to_builtins(synthetic_brackets({"BTC/USDT:USDT": 0, "ETH/USDT:USDT": 0}, 4))
    names = {
        "floor": "minNotional",
        "cap": "maxNotional",
        "maintenance_rate": "maintenanceMarginRate",
        "max_leverage": "maxLeverage",
        "maintenance_amount": "cum",
    }
    for symbol in tables:
        tables[symbol] = [{names[key]: row[key] or "999999999999" for key in names} for row in tables[symbol]]
    (tmp_path / "tiers.json").write_text(json.dumps(tables))
    words = (
        "--market",
        str(tmp_path / "bars.csv"),
        "--accounts",
        "60",
        "--brackets",
        str(tmp_path / "tiers.json"),
        "--json",
    )
    both = run("demo", *words)
    assert both.returncode == 0, both.stderr
    said = json.loads(both.stdout)
    assert said["input"]["accounts"] == {"prime": 48, "binance-usdm": 12}
    assert said["effects"]["by_profile"]["binance-usdm"]["liquidation_due"]["accounts"] > 0
    assert said["replayed"]["equal"]
