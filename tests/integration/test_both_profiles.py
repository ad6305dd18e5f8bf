"""The recorded crash day with both profiles: half of the accounts in spot on credit, half in perpetuals, marks from the
same bars."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from margin_stream.core.folds import partition_folds
from margin_stream.core.intake.fold import IntakeFold, Verdict
from margin_stream.core.margin import models as _models  # noqa: F401  (importing it registers the margin models)
from margin_stream.importers.brackets import read_brackets
from margin_stream.importers.files import read_market
from margin_stream.replay.replay import replay
from margin_stream.revaluation.vectors import VectorFilter
from margin_stream.schemas.binary import canonical_bytes
from margin_stream.schemas.ndjson import encode_line
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.schemas.times import parse_time
from margin_stream.simulation.day import Accounts, day_events
from tests.folding import fold, recorded_data
from tests.integration.test_command_line import run

BARS = ("usdt_pairs_1m.csv.gz", "btc_pairs_1m.csv.gz")


def crash_hours(accounts: int) -> list[bytes]:
    """Return the hours around the low of 19 May 2021: 11:30 to 14:30 UTC."""
    market = read_market(
        "bars", [recorded_data("binance_2021-05-19_1m", name) for name in BARS], zone=None, label=None, complain=print
    )
    first, last = parse_time("2021-05-19T11:30:00Z"), parse_time("2021-05-19T14:30:00Z")
    market.bars = [bar for bar in market.bars if first <= bar.opened_ns < last]
    found = read_brackets(recorded_data("binance_leverage_tiers", "binance_leverage_tiers.json.gz"))
    tables = {pair: table for (pair, currency), table in found.sound.items() if currency == "USDT"}
    profiles = ("prime", "binance-usdm")
    return [encode_line(event).rstrip() for event in day_events(market, Accounts(accounts, 5, profiles), tables)]


@pytest.mark.slow(reason="folds three recorded hours three times")
def test_the_crash_with_both_profiles_is_the_same_for_partitions_and_engines() -> None:
    lines = crash_hours(150)
    reference = fold(lines)
    said = Counter(effect["type"] for effect in reference[1])
    assert said["margin_call_issued"] > 5
    assert said["liquidation_due"] > 20
    assert any(effect.get("isolated") for effect in reference[1])
    assert fold(lines, 7, cuts=Random(1)) == reference
    assert fold(lines, 2, price_filter=VectorFilter) == reference


@pytest.mark.slow(reason="imports a recorded day and replays it")
def test_a_day_is_imported_with_its_tables_and_replays(tmp_path: Path) -> None:
    bars = [str(recorded_data("binance_2021-05-19_1m", name)) for name in BARS]
    tiers = str(recorded_data("binance_leverage_tiers", "binance_leverage_tiers.json.gz"))
    done = run(
        "import",
        "bars",
        *bars,
        "--accounts",
        "20",
        "--profile",
        "prime",
        "--profile",
        "binance-usdm",
        "--brackets",
        tiers,
    )
    assert done.returncode == 0
    assert b"no table for BTTUSDT" in done.stderr
    lines = done.stdout.splitlines()[:9_000]
    activated = [json.loads(line) for line in lines[:200] if b"profile_activated" in line]
    usdm = next(event for event in activated if event["model"] == "binance-usdm")
    assert len(usdm["parameters"]["brackets"]) == 19
    kinds = Counter(json.loads(line)["kind"] for line in lines[:200] if b"instrument_listed" in line)
    assert kinds["perpetual"] == 19
    assert kinds["spot"] == 40
    store = str(tmp_path / "s")
    ingested = run("ingest", "-", "--store", store, "--json", data=b"\n".join(lines))
    assert json.loads(ingested.stdout)["refused"] == 0
    for revaluation in ("boxes", "vectors"):
        assert replay(tmp_path / "s", revaluation=revaluation).equal  # type: ignore[arg-type]
    state = json.loads(run("state", "--account", "A-000002", "--store", store, "--json").stdout)
    assert state["profile"] == "binance-usdm"
    assert {row["instrument"].rpartition("-")[2] for row in state["positions"]} == {"PERP"} or state["subaccounts"]
    assert run("verify", "--store", store).returncode == 0


def test_accounts_in_perpetuals_need_tables(tmp_path: Path) -> None:
    (tmp_path / "bars.csv").write_text("ts_ms,symbol,open,high,low,close\n1621382400000,BTC_USDT,1,1,1,1\n")
    done = run("import", "bars", str(tmp_path / "bars.csv"), "--accounts", "2", "--profile", "binance-usdm")
    assert done.returncode == 2
    assert b"--brackets FILE" in done.stderr


@pytest.mark.slow
def test_the_whole_day_is_the_same_item_for_item_for_every_engine() -> None:
    """One intake; each batch of it goes to the pure core, to price boxes and to vectors, which must say the same
    effects."""
    market = read_market(
        "bars", [recorded_data("binance_2021-05-19_1m", name) for name in BARS], zone=None, label=None, complain=print
    )
    found = read_brackets(recorded_data("binance_leverage_tiers", "binance_leverage_tiers.json.gz"))
    tables = {pair: table for (pair, currency), table in found.sound.items() if currency == "USDT"}
    intake = IntakeFold(1, rules_version=LATEST)
    folds = [
        partition_folds(rules_version=LATEST, boxes=boxes, price_filter=price_filter)
        for boxes, price_filter in ((False, None), (True, None), (False, VectorFilter()))
    ]
    said = 0

    def compare() -> None:
        nonlocal said
        _, batch = intake.take()
        plain, boxes, vectors = (each.apply(batch) for each in folds)
        assert boxes == plain
        assert vectors == plain
        said += len(plain)

    for place, event in enumerate(day_events(market, Accounts(40, 5, ("prime", "binance-usdm")), tables)):
        assert intake.offer(event, canonical_bytes(event)) is Verdict.ACCEPTED
        if place % 2000 == 1999:
            compare()
    compare()
    assert said > 1000
    assert folds[0].digest() == folds[1].digest() == folds[2].digest()
