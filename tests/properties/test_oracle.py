"""Against an independent oracle in fractions, written from docs/rules.md without sight of the core: every effect, to
the last unit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from margin_stream.importers.files import read_market
from margin_stream.schemas.inputs import AnyInput
from margin_stream.schemas.ndjson import encode_line
from margin_stream.simulation.day import Accounts, day_events
from tests.days import random_day
from tests.folding import fold, of_groups, recorded_data
from tests.oracle.prime_oracle import Oracle


def compare(lines: list[bytes]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    oracle = Oracle()
    for line in lines:
        oracle.feed(json.loads(line))
    _, effects = fold(lines)
    return of_groups(effects), [
        {name: value for name, value in effect.items() if (name, value) != ("supersedes", 0)}
        for effect in oracle.effects
    ]


@pytest.mark.slow(reason="many random days, each folded several times")
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**9))
def test_random_days_are_what_the_oracle_says(seed: int) -> None:
    ours, theirs = compare(random_day(seed))
    assert ours == theirs


def market_lines(
    paths: list[Path], accounts: Accounts, zone: str | None = None, bars: int | None = None
) -> list[bytes]:
    market = read_market("bars", paths, zone=zone, label=None, complain=lambda _: None)
    if bars is not None:
        market.bars = market.bars[-bars:]
    events: list[AnyInput] = list(day_events(market, accounts))
    return [encode_line(event) for event in events]


@pytest.mark.slow
def test_the_crash_day_is_what_the_oracle_says() -> None:
    folder = recorded_data("binance_2021-05-19_1m")
    paths = sorted(folder.glob("*_1m.csv.gz"))
    lines = market_lines(paths, Accounts(100, 7, ("prime",)))
    ours, theirs = compare(lines)
    kinds = {effect["type"] for effect in ours}
    assert {"margin_call_issued", "call_cured", "call_expired", "liquidation_due", "call_reopened"} <= kinds
    assert ours == theirs


@pytest.mark.slow
def test_the_quiet_week_calls_nobody_and_the_oracle_agrees() -> None:
    path = recorded_data("us_equities_2019-02_1m", "eqker_1min.csv.gz")
    lines = market_lines([path], Accounts(200, 7, ("prime",), 2000, 5000), zone="America/New_York")
    ours, theirs = compare(lines)
    assert ours == theirs
    assert {effect["type"] for effect in ours} <= {
        "profile_took_effect",
        "feed_went_stale",
        "mark_refused",
        "mark_reanchored",
    }
