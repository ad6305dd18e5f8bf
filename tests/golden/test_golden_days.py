"""Clocks and inputs gone wrong, a day each, worked out by hand in docs/golden-days.md from the rules alone, equal to
the last unit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from random import Random
from typing import Any

import pytest

from margin_stream.core.store_fold import Digests, StoreFold
from margin_stream.schemas.rules_versions import LATEST
from tests.folding import fold, of_groups
from tests.golden.golden_days import FOLDER, NAMES, GoldenDay, accounts_of, digests, load
from tests.oracle.prime_oracle import Oracle

every_day = pytest.mark.parametrize("name", NAMES)


@cache
def reference(name: str) -> tuple[Digests, list[dict[str, Any]]]:
    return fold(load(name).lines)


@every_day
def test_every_effect_is_the_one_on_paper(name: str) -> None:
    _, effects = reference(name)
    assert effects == load(name).effects


@every_day
def test_every_line_meets_the_verdict_on_paper(name: str) -> None:
    day = load(name)
    system = StoreFold(1, rules_version=LATEST)
    assert [system.admission.line(line).value for line in day.lines] == day.verdicts()
    assert system.sequence == day.positions()


@every_day
@pytest.mark.parametrize("partitions", [1, 2, 7, 16])
def test_every_account_ends_as_on_paper_in_any_partition_with_boxes_and_without(name: str, partitions: int) -> None:
    day = load(name)
    for boxes in (True, False):
        system = StoreFold(partitions, boxes=boxes, rules_version=LATEST)
        for line in day.lines:
            system.admission.line(line)
        system.fold(compare_markets=True)
        assert accounts_of(system) == day.accounts
        assert system.digests() == reference(name)[0]


@every_day
def test_partitions_boxes_and_cuts_change_nothing(name: str) -> None:
    lines = load(name).lines
    for n, partitions in enumerate((1, 2, 7, 16)):
        for boxes in (True, False):
            assert fold(lines, partitions, boxes=boxes, cuts=Random(n), extra=Random(n + 50)) == reference(name)


@every_day
def test_one_item_a_batch_is_the_same_day(name: str) -> None:
    system = StoreFold(2, rules_version=LATEST)
    for line in load(name).lines:
        system.admission.line(line)
        system.fold(compare_markets=True)
    assert system.digests() == reference(name)[0]


@every_day
def test_the_day_sent_again_changes_nothing(name: str) -> None:
    lines = load(name).lines
    system = StoreFold(2, rules_version=LATEST)
    for line in lines:
        system.admission.line(line)
    assert {system.admission.line(line).value for line in lines} == {"duplicate"}
    system.fold()
    assert system.digests() == reference(name)[0]


@every_day
def test_the_oracle_says_the_same(name: str) -> None:
    """It is fed what the paper says was accepted; a refused item only takes a position."""
    day = load(name)
    # What could not be decoded has no source.
    decoded = {effect["sequence"] for effect in day.effects if effect["type"] == "input_refused" and "source" in effect}
    oracle = Oracle()
    for line, verdict in zip(day.lines, day.verdicts(), strict=True):
        if verdict == "accepted":
            oracle.feed(json.loads(line))
        elif verdict == "refused":
            oracle.pass_over(json.loads(line) if oracle.position() + 1 in decoded else None)
    said = [
        {key: value for key, value in effect.items() if (key, value) != ("supersedes", 0)} for effect in oracle.effects
    ]
    assert said == of_groups(day.effects)


@pytest.mark.parametrize("rules_version", range(1, LATEST + 1))
def test_the_digests_are_those_recorded_for_every_rules_version(rules_version: int) -> None:
    """A version's digests never change: those of version 1 were recorded by the build that had no other."""
    assert json.loads((FOLDER / f"digests.v{rules_version}.json").read_text()) == digests(rules_version)


@pytest.mark.slow(reason="every mutant of the core folds golden days")
@pytest.mark.parametrize(("hash_seed", "zone"), [("0", "UTC"), ("77", "America/New_York"), ("4242", "Asia/Kathmandu")])
def test_hash_seed_and_time_zone_change_no_digest(hash_seed: str, zone: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": zone, "LC_ALL": "C"}
    command = [sys.executable, "-m", "tests.golden.golden_days"]
    done = subprocess.run(command, cwd=FOLDER.parents[2], env=environment, capture_output=True, check=True, timeout=60)
    assert done.stdout == (FOLDER / f"digests.v{LATEST}.json").read_bytes()


def test_what_the_days_show_does_happen_in_them() -> None:
    days: list[GoldenDay] = [load(name) for name in NAMES]
    kinds = {effect["type"] for day in days for effect in day.effects}
    assert {
        "margin_call_issued",
        "call_escalated",
        "call_expired",
        "call_cured",
        "call_reduced",
        "call_met",
        "liquidation_due",
        "feed_went_stale",
        "mark_refused",
        "mark_reanchored",
    } <= kinds
    reasons = {effect["reason"] for day in days for effect in day.effects if effect["type"] == "input_refused"}
    assert {"identity_reused", "source_kind_mixed", "clock_backwards", "clock_jump_unconfirmed", "bad_value"} <= reasons
    assert any(len(day.duplicates) > 50 for day in days)
