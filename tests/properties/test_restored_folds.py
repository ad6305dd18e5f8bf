"""A checkpoint and the items behind it give what the whole journal gives: state, effects, and what is on its way."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.rules_versions import LATEST
from tests.days import Day, random_day
from tests.folding import fold
from tests.restoring import Rows
from tests.usdm_days import UsdmDay, random_usdm_day

LAW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def with_checkpoints(lines: list[bytes], rng: Random, partitions: int, often: int = 25) -> None:
    """Fold lines with checkpoints at random; now and then the system is forgotten and restored. Nothing may come out
    otherwise."""
    system = StoreFold(partitions, rules_version=LATEST)
    rows = Rows(partitions)
    said: list[tuple[int, str, int, bytes]] = []
    for line in lines:
        system.admission.line(line)
        if rng.randrange(often) == 0:
            said += [effect for part in system.fold(compare_markets=True) for effect in part]
            rows.write(system)
            before = system.digests()
            if rng.randrange(2):
                system = rows.restored(boxes=bool(rng.randrange(4)))
                assert system.digests() == before
                assert all(part.rest_all() == [] for part in system.accounts)
    said += [effect for part in system.fold(compare_markets=True) for effect in part]
    whole = StoreFold(1, rules_version=LATEST)
    for line in lines:
        whole.admission.line(line)
    expected = [effect for part in whole.fold() for effect in part]
    assert system.digests() == whole.digests()
    assert sorted(said) == sorted(expected)
    assert (system.intake.accepted, system.intake.refused) == (whole.intake.accepted, whole.intake.refused)


@pytest.mark.slow(reason="many random days, each folded several times")
@LAW
@given(st.integers(0, 10**9))
def test_random_days_go_on_from_any_checkpoints(seed: int) -> None:
    rng = Random(seed)
    with_checkpoints(random_day(seed, accounts=6, noisy=True), rng, rng.choice((1, 2, 5)))


@pytest.mark.slow(reason="many random days, each folded several times")
@LAW
@given(st.integers(0, 10**9))
def test_random_days_of_perpetuals_go_on_from_any_checkpoints(seed: int) -> None:
    rng = Random(seed)
    with_checkpoints(random_usdm_day(seed, accounts=5), rng, rng.choice((1, 2, 5)))


def wide(amount: str = "70000000000000000.01") -> Day:
    """A day with amounts beyond 64 bits of minor units, on either side of zero, and calls of such sizes."""
    day = Day().opened()
    for name in ("A", "B", "C"):
        day.account(name)
    for _ in range(3):
        day.money("A", amount)
        day.money("B", "-" + amount)
        day.money("B", "6000000000", "BTC")
    for _ in range(4):
        day.trade("C", "BTCUSDT", "700000000000", "40000.00", "12345678.90")
    day.money("C", "-" + amount)
    day.tick("BTCUSDT", "39000")
    return day


def test_amounts_beyond_64_bits_are_kept_to_the_last_unit() -> None:
    day = wide()
    system = StoreFold(1, rules_version=LATEST)
    rows = Rows(1)
    for line in day.lines:
        assert system.admission.line(line).value == "accepted"
    system.fold()
    rows.write(system)
    for these in (system, rows.restored()):
        account = these.accounts[0].account("A")
        assert account is not None
        assert account.cross.ledger == {0: 3 * 7_000_000_000_000_000_001}
        account = these.accounts[0].account("B")
        assert account is not None
        assert account.cross.ledger[0] == -3 * 7_000_000_000_000_000_001
        account = these.accounts[0].account("C")
        assert account is not None
        (position,) = account.cross.positions.values()
        assert position.open_cost == 4 * 700_000_000_000 * 40_000 * 100
        assert position.fees == 4 * 1_234_567_890
    with_checkpoints(day.lines, Random(1), 1, often=5)


@pytest.mark.parametrize("beyond", [False, True])
def test_subaccounts_with_amounts_beyond_64_bits_are_kept(beyond: bool) -> None:
    day = UsdmDay().opened()
    day.usdm_account("U")
    amount = "90000000000000000" if beyond else "90000"
    for _ in range(4):
        day.money("U", amount)
    for _ in range(3):
        day.perpetual(
            "U",
            "BTCUSDT-PERP",
            "-9000000" if beyond else "-1",
            "40000",
            isolated="x",
            isolated_margin_delta=amount,
            fee="-1",
        )
    day.perpetual("U", "ETHUSDT-PERP", "3", "3000", position_side="short", leverage=7, isolated="b")
    day.money("U", "17", isolated="a", from_isolated="")
    day.clock(60)
    with_checkpoints(day.lines, Random(3), 2, often=3)
    _, effects = fold(day.lines)
    assert {effect["type"] for effect in effects if effect["id"].startswith("U/")} >= {"margin_level_changed"}


def test_timers_stale_marks_and_waiting_deposits_survive_a_checkpoint() -> None:
    """One checkpoint between each two items of a day on which all of that is under way."""
    day = Day().opened(prices=False)
    for name in ("A", "B"):
        day.account(name)
    day.tick("BTCUSDT", "40000")
    day.tick("ETHUSDT", "3000")
    day.money("A", "1", "BTC")
    day.money("A", "-30000")
    day.clock(61)
    day.money("A", "3", "XMR", call="A/call/1")
    day.money("A", "1", "XMR", call="A/call/7")
    day.clock(400)
    day.tick("BTCUSDT", "39999")
    day.tick("XMRBTC", "0.008")
    day.book("account_changed", account="B", desk="new", contacts=["a", "b"])
    day.clock(86_400)
    day.clock(60)
    day.tick("BTCUSDT", "41000")
    for often in (1, 2):
        with_checkpoints(day.lines, Random(often), 2, often=often)
    kinds = {effect["type"] for effect in fold(day.lines)[1]}
    assert {"margin_call_issued", "call_reduced", "call_reference_unmatched", "call_escalated"} <= kinds
