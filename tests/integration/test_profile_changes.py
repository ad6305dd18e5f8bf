"""A change of profile that an account's positions do not fit is refused; isolated money goes to cross where there are no
isolated subaccounts."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from margin_stream import Store
from tests.folding import fold
from tests.usdm_days import UsdmDay, random_usdm_day

BTC, ETH = "BTCUSDT-PERP", "ETHUSDT-PERP"


def opened() -> UsdmDay:
    day = UsdmDay().opened()
    day.usdm_account("U", "20000")
    return day


def refusals(day: UsdmDay) -> list[str]:
    digests, effects = fold(day.lines)
    for partitions in (2, 7):
        assert fold(day.lines, partitions, cuts=Random(partitions)) == (digests, effects)
    assert fold(day.lines, boxes=False) == (digests, effects)
    return [effect["reason"] for effect in effects if effect["type"] == "input_refused"]


def state_of(tmp_path: Path, day: UsdmDay, account: str = "U") -> dict[str, Any]:
    with Store.open(tmp_path / "s", partitions=2) as store:
        store.ingest(day.lines)
        return store.state(account)


@pytest.mark.parametrize("subaccount", ["", BTC])
def test_a_profile_that_margins_no_perpetuals_is_refused_while_one_is_held(subaccount: str, tmp_path: Path) -> None:
    day = opened()
    margin = {"isolated": subaccount, "isolated_margin_delta": "5000.00"} if subaccount else {}
    day.perpetual("U", BTC, "0.5", "40000.00", **margin)
    day.book("account_changed", account="U", profile="prime")
    assert refusals(day) == ["profile_does_not_fit"]
    assert state_of(tmp_path, day)["profile"] == "binance-usdm"
    # Once it is closed, the profile fits.
    day.perpetual("U", BTC, "-0.5", "40000.00", isolated=subaccount)
    day.book("account_changed", account="U", profile="prime")
    assert refusals(day) == ["profile_does_not_fit"]
    with Store.open(tmp_path / "s") as store:
        store.ingest(day.lines)
        assert store.state("U")["profile"] == "prime"


def test_a_profile_without_a_table_for_what_is_held_is_refused() -> None:
    day = opened()
    day.perpetual("U", ETH, "1", "3000.00")
    tables = {BTC: day.usdm["brackets"][BTC]}
    day.book(
        "profile_activated",
        profile="narrow",
        model="binance-usdm",
        version=1,
        effective_from="2020-01-01T00:00:00Z",
        approved_by="risk",
        parameters={**day.usdm, "brackets": tables},
    )
    day.book("account_changed", account="U", profile="narrow")
    day.clock(1)
    day.book("account_changed", account="U", profile="narrow")
    # Not in force yet, then without a table.
    assert refusals(day) == ["profile_does_not_fit"] * 2
    day.perpetual("U", ETH, "-1", "3000.00")
    day.book("account_changed", account="U", profile="narrow")
    assert refusals(day) == ["profile_does_not_fit"] * 2


def test_an_isolated_debt_goes_to_cross_and_is_called(tmp_path: Path) -> None:
    day = opened()
    day.money("U", "-19900")
    day.money("U", "1", asset="BTC")
    day.money("U", "-30000", isolated="old")
    day.book("account_changed", account="U", profile="prime")
    day.clock(1)
    day.clock(60)
    found = state_of(tmp_path, day)
    assert found["subaccounts"] == []
    # 36,000 + 100 against 30,000: 1.25 x 29,900 = 37,375.
    assert found["level"] == "DEFICIT"
    assert [row["outcome"] for row in found["calls"]] == ["OPEN"]


@pytest.mark.slow_after(1, reason="opens a store again and again")
@pytest.mark.parametrize("seed", range(4))
def test_what_the_intake_knows_of_holdings_survives_any_reopening(seed: int, tmp_path: Path) -> None:
    lines = random_usdm_day(seed, accounts=8, steps=120)
    rng = Random(seed)
    left = list(lines)
    while left:
        cut = rng.randrange(1, 40)
        part, left = left[:cut], left[cut:]
        with Store.open(tmp_path / "s", partitions=3) as store:
            store.ingest(part)
            index = store._host.system.intake.accounts
            for partition in store._host.system.accounts:
                for account in partition.accounts():
                    held = {
                        (subaccount.name, key >> 2, key & 3): position.quantity
                        for subaccount in account.subaccounts()
                        for key, position in subaccount.perpetuals.items()
                    }
                    assert index.perpetuals.get(account.id, {}) == held
            digests = store.digests()
    assert digests == fold(lines)[0]
