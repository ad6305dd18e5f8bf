"""The fold of a partition as its callers see it: continuity, one account alone, rows that come and go, what it says of
itself."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from margin_stream.core.accounts import rows
from margin_stream.core.accounts.fold import MARKET, AccountFold, Emitted
from margin_stream.core.accounts.row import packed
from margin_stream.core.checks import Fault
from margin_stream.core.effect_book import EffectBook
from margin_stream.core.folds import partition_folds
from margin_stream.core.margin.guards import GuardState
from margin_stream.core.margin.valuation import Banded, Corners, Exact, guard_states, value
from margin_stream.core.sequenced import Batch, Clocked
from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.rules_versions import LATEST
from tests.days import Day, random_day
from tests.folding import fold, readable
from tests.restoring import Rows
from tests.usdm_days import UsdmDay, random_usdm_day


def folded(lines: list[bytes], **options: Any) -> tuple[StoreFold, list[Emitted]]:
    system = StoreFold(1, **options, rules_version=LATEST)
    for line in lines:
        system.admission.line(line)
    own, part = system.fold(compare_markets=True)
    return system, [*own, *part]


def test_batches_follow_each_other_or_are_a_fault() -> None:
    part = partition_folds(rules_version=LATEST)
    assert part.apply(Batch(0, 3, [Clocked(2, 10)])) == []
    assert part.sequence == 3
    with pytest.raises(Fault) as caught:
        part.apply(Batch(2, 5, []))
    assert str(caught.value) == "not so: batches follow each other (expected=3, got=2)"
    part.apply(Batch(3, 5, []))
    with pytest.raises(Fault) as caught:
        part.apply(Batch(5, 6, [], b"another market"))
    assert str(caught.value) == "not so: a partition's market is the intake's (sequence=6)"


@pytest.mark.parametrize("lines", [random_day(21, accounts=6, steps=120), random_usdm_day(22, accounts=6, steps=120)])
def test_one_account_alone_says_and_holds_what_it_does_among_others(lines: list[bytes]) -> None:
    whole, said = folded(lines)
    for name in [account.id for account in whole.accounts[0].accounts()]:
        alone, heard = folded(lines, only=name)
        assert [effect for effect in heard if effect.group[0] != "@"] == [
            effect for effect in said if effect.group == name
        ]
        assert [account.id for account in alone.accounts[0].accounts()] == [name]
        one, other = alone.accounts[0].account(name), whole.accounts[0].account(name)
        assert one is not None
        assert other is not None
        assert packed(one) == packed(other)
        assert alone.sets[1].book.head(name) == whole.sets[1].book.head(name)


@pytest.mark.slow(reason="many cases, each folded anew")
@pytest.mark.parametrize("lines", [random_day(23, accounts=12, steps=150), random_usdm_day(24, accounts=12, steps=150)])
def test_how_many_accounts_are_kept_unpacked_changes_nothing(
    lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fold(lines)
    monkeypatch.setattr(rows, "UNPACKED_LIMIT", 4)
    assert fold(lines) == expected
    assert fold(lines, 2, boxes=False, cuts=Random(1), extra=Random(2)) == expected
    system, _ = folded(lines)
    part = system.accounts[0]
    assert len(part._rows.unpacked) <= 4
    assert [account.id for account in part.accounts()] == part._rows.ids
    assert system.digests() == expected[0]


def test_effects_of_an_item_come_by_group_and_those_of_a_group_by_number() -> None:
    day = Day().opened()
    for name in ("z", "a", "m", "B"):
        day.account(name)
        day.money(name, "1", "BTC")
        day.money(name, "-25000")
    day.tick("BTCUSDT", "36000")
    _, said = folded(day.lines)
    found = [(effect.sequence, effect.group, effect.number) for effect in said if effect.group[0] != "@"]
    assert found == sorted(found)
    last = [effect for effect in said if effect.sequence == len(day.lines)]
    assert [effect.group for effect in last] == ["B", "a", "m", "z"]
    for effect in last:
        fields = readable(effect.data)
        assert fields["id"] == f"{effect.group}/{effect.number}"
        assert (fields["account"], fields["sequence"], fields["currency"]) == (effect.group, len(day.lines), "USDT")


def test_a_fold_knows_its_accounts_and_says_how_many_and_how_much() -> None:
    day = Day().opened()
    for name in ("A", "B"):
        day.account(name)
    day.money("A", "1", "BTC")
    day.money("A", "-25000")
    day.tick("BTCUSDT", "36000")
    day.tick("BTCUSDT", "35990")
    system, said = folded(day.lines)
    part = system.accounts[0]
    assert part.account_count == 2
    assert part.account("C") is None
    account = part.account("A")
    assert account is not None
    found = part.valuation(account, account.cross)
    assert isinstance(found, Exact)
    assert found.figures == (35_990 * 90, 2_500_000, False)
    assert part.book.total == len([effect for effect in said if effect.group == "A"]) == account.effect_count
    assert [key for key, _ in part.rows()] == [MARKET, b"A", b"B"]
    part.mark_stored()
    assert [key for key, _ in part.rows()] == [MARKET]
    part.sums()
    assert [key for key, _ in part.rows()] == [MARKET]
    account.profile = "nothing"
    assert part.valuation(account, account.cross) is None
    assert AccountFold(EffectBook(), rules_version=LATEST, boxes=False).near_trigger_count == 0


def test_an_account_too_near_to_a_level_is_looked_at_at_every_tick_and_one_far_away_is_not() -> None:
    day = Day().opened()
    day.account("near")
    day.account("far")
    for name, owed in (("near", "-25714.29"), ("far", "-10")):
        day.money(name, "1", "BTC")
        day.money(name, owed)
    day.tick("BTCUSDT", "40000")
    day.tick("BTCUSDT", "40000")
    system, _ = folded(day.lines)
    part = system.accounts[0]
    before = part.evaluations
    for n in range(50):
        day.tick("BTCUSDT", f"{40_000 + n}")
        system.admission.line(day.lines[-1])
    system.fold()
    # The far one is not looked at; the near one a few times a tick at most.
    assert part.evaluations - before <= 4 * 50
    plain, _ = folded(day.lines, boxes=False)
    assert plain.digests() == system.digests()
    assert plain.accounts[0].evaluations > part.evaluations // 2


def test_a_tick_that_concerns_nobody_costs_no_valuation() -> None:
    """What price boxes are for: a thousand ticks inside the boxes of safe accounts, and nobody is valued."""
    day = Day().opened()
    for n in range(5):
        day.account(f"A{n}")
        day.money(f"A{n}", "1", ("BTC", "ETH", "XMR")[n % 3])
        day.money(f"A{n}", "-5")
    day.tick("BTCUSDT", "40000")
    usdm = UsdmDay().opened()
    for n in range(5):
        usdm.usdm_account(f"U{n}", "100000")
        usdm.perpetual(f"U{n}", "BTCUSDT-PERP", "0.1" if n % 2 else "-0.1", "40000")
    usdm.tick("BTCUSDT-PERP", "40000")
    for made, name in ((day, "BTCUSDT"), (usdm, "BTCUSDT-PERP")):
        system, _ = folded(made.lines)
        part = system.accounts[0]
        assert part.near_trigger_count == 0
        before = part.evaluations
        for n in range(200):
            made.tick(name, f"{40_000 + n % 7 * 10}")
            system.admission.line(made.lines[-1])
        system.fold()
        assert part.evaluations == before


# ---- valuations
# -------------------------------------------------------------------------------------------------------------------


def test_a_guard_over_open_marks_is_asked_once_and_remembered() -> None:
    day = Day().opened()
    day.account("A")
    day.money("A", "1", "BTC")
    day.money("A", "-25000")
    system, _ = folded(day.lines)
    asked: list[object] = []

    def bounds(guard: object) -> GuardState:
        asked.append(guard)
        return GuardState.UNDECIDED

    profile = system.accounts[0].market.profiles["prime"]
    banded = Banded(
        profile.calculator.evaluate(system.accounts[0].account("A").cross, system.accounts[0].market.prices), bounds
    )  # type: ignore[arg-type]
    for _ in range(3):
        assert banded.truth(profile.policy.call_types[0].trigger) is GuardState.UNDECIDED
        assert banded.truth(profile.policy.warn) is GuardState.UNDECIDED
    assert asked == [profile.policy.call_types[0].trigger, profile.policy.warn]


@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.parametrize("owed", ["-25000", "-100", "-60000", "-28000"])
def test_guards_one_by_one_and_together_say_the_same(owed: str, stale: bool) -> None:
    """``truths`` is what the boxes ask, ``value`` what the lifecycle asks."""
    day = Day().opened()
    for name, asset in (("A", "BTC"), ("B", "XMR"), ("C", "USDT")):
        day.account(name)
        day.money(name, "1" if asset == "BTC" else "125", asset)
        day.money(name, owed)
    if stale:
        day.clock(100)
        day.tick("XMRBTC", "0.0081")
        day.clock(201)
    system, _ = folded(day.lines)
    part = system.accounts[0]
    market = part.market
    profile = market.profiles["prime"]
    policy = profile.policy
    guards = [
        policy.warn,
        policy.call_types[0].trigger,
        policy.close_out,
        policy.bankrupt,
        policy.restore,
        policy.call_types[0].short_of(10**6),
    ]
    for name in ("A", "B", "C"):
        account = part.account(name)
        assert account is not None
        corners = Corners()
        corners.fit(market)
        valuation = value(market, account.cross, profile, corners)
        open_marks = stale and name != "C"
        assert isinstance(valuation, Banded if open_marks else Exact)
        one_by_one = [valuation.truth(guard) for guard in guards]
        corners = Corners()
        corners.fit(market)
        assert guard_states(market, account.cross, profile, guards, valuation.figures, corners) == one_by_one
        if not open_marks:
            assert GuardState.UNDECIDED not in one_by_one
        if open_marks and name == "A":
            # 40,000 could be 20,000 or 60,000; after the haircut 18,000 to 54,000.
            for guard, truth in zip(guards[:5], one_by_one, strict=False):
                debit = -int(float(owed) * 100)
                levels = [
                    worth * guard.ratio.denominator - guard.ratio.numerator * debit for worth in (1_800_000, 5_400_000)
                ]
                expected = (
                    GuardState.TRUE
                    if max(levels) < 0
                    else GuardState.FALSE
                    if min(levels) >= 0
                    else GuardState.UNDECIDED
                )
                assert truth is expected


def test_a_mark_that_never_came_leaves_a_guard_open_upwards_alone() -> None:
    day = Day().opened(prices=False)
    day.tick("BTCUSDT", "40000")
    day.account("A")
    day.money("A", "1", "ETH")
    day.money("A", "-100")
    day.account("B")
    day.money("B", "1000")
    day.money("B", "-1", "ETH")
    day.account("C")
    day.money("C", "-100")
    day.account("D")
    day.money("D", "0.001", "BTC")
    day.money("D", "-1000")
    system, _ = folded(day.lines)
    part = system.accounts[0]
    policy = part.market.profiles["prime"].policy
    expected = {"A": GuardState.UNDECIDED, "B": GuardState.UNDECIDED, "C": GuardState.TRUE, "D": GuardState.TRUE}
    for name, truth in expected.items():
        account = part.account(name)
        assert account is not None
        valuation = part.valuation(account, account.cross)
        assert valuation is not None
        assert valuation.truth(policy.close_out) is truth
        assert account.cross.stale is (truth is GuardState.UNDECIDED)


def test_room_for_instruments_grows_with_the_market_and_never_shrinks() -> None:
    day = Day().opened()
    system, _ = folded(day.lines)
    corners = Corners()
    assert (corners.lowest, corners.highest) == ([1], [1])
    for _ in range(2):
        corners.fit(system.intake.market)
        assert len(corners.lowest) == len(corners.highest) == len(system.intake.market.prices) == 4
    corners.fit(StoreFold(1, rules_version=LATEST).intake.market)
    assert len(corners.lowest) == 4


def test_a_change_of_profile_is_looked_at_at_once_and_the_next_version_at_its_clock() -> None:
    day = Day().opened()
    day.account("A")
    day.money("A", "1", "BTC")
    day.money("A", "-26500")
    strict = {**day.parameters, "call": "1.39", "warn": "1.40"}
    for name, version, effective in (("strict", 1, "2020-01-01T00:00:00Z"), ("prime", 2, "2021-05-19T00:02:00Z")):
        fields = {"model": "prime", "approved_by": "r", "parameters": strict, "effective_from": effective}
        day.book("profile_activated", profile=name, version=version, **fields)
    day.clock(60)
    lines = list(day.lines)
    day.book("account_changed", account="A", profile="strict", desk="desk", contacts=["x"])
    _, said = folded(day.lines)
    assert [readable(effect.data).get("level") for effect in said if effect.sequence == len(day.lines)] == ["DEFICIT"]
    day.lines = lines
    day.clock(59)
    before = len(day.lines)
    day.clock(1)
    system, said = folded(day.lines)
    found = {effect.sequence: readable(effect.data) for effect in said if effect.group == "A"}
    assert before not in found
    assert found[before + 1]["level"] == "DEFICIT"
    account = system.accounts[0].account("A")
    assert account is not None
    assert (account.profile, account.desk, account.contacts) == ("prime", "", [])


def test_an_account_whose_profile_never_took_effect_is_not_valued() -> None:
    day = Day()
    day.directory()
    fields = {"model": "prime", "version": 1, "approved_by": "r", "parameters": day.parameters}
    day.book("profile_activated", profile="later", effective_from="2021-05-19T01:00:00Z", **fields)
    day.clock()
    day.tick("BTCUSDT", "40000")
    day.book("account_opened", account="A", base_currency="USDT", profile="later")
    day.money("A", "1", "BTC")
    day.money("A", "-60000")
    day.tick("BTCUSDT", "39990")
    day.clock(60)
    system, said = folded(day.lines)
    assert [effect for effect in said if effect.group == "A"] == []
    for line_day in (3540,):
        day.clock(line_day)
    rows = Rows(1)
    rows.write(system)
    restored = rows.restored()
    for these in (system, restored):
        these.admission.line(day.lines[-1])
        _, part = these.fold()
        assert readable(part[0].data)["level"] == "BANKRUPT"
    assert restored.digests() == system.digests()


def test_what_changes_without_an_effect_is_stored_all_the_same() -> None:
    """With a call unpaid, the wait for a further tranche begins and ends in silence."""
    day = Day().opened()
    day.account("A")
    day.money("A", "1", "BTC")
    day.money("A", "-29000")
    day.clock(1)
    day.clock(60)
    system, _ = folded(day.lines)
    part = system.accounts[0]
    account = part.account("A")
    assert account is not None
    assert len(account.cross.calls) == 1
    rows = Rows(1)
    rows.write(system)
    for price, waiting in (("37500", True), ("39990", False)):
        day.tick("BTCUSDT", price)
        before = account.effect_count
        system.admission.line(day.lines[-1])
        system.fold()
        assert account.effect_count == before
        assert (account.cross.pending_since_ns >= 0) is waiting
        rows.write(system)
        assert rows.restored().digests() == system.digests()
        again = rows.restored().accounts[0].account("A")
        assert again is not None
        assert again.cross.pending_since_ns == account.cross.pending_since_ns


@pytest.mark.parametrize(("named", "paid"), [("A/call/2", [0, 1]), ("", [1, 0]), ("A/call/9", [1, 0])])
def test_a_deposit_without_a_mark_pays_at_its_first_mark_the_call_that_it_named(named: str, paid: list[int]) -> None:
    day = Day().opened(prices=False)
    day.tick("BTCUSDT", "40000")
    day.account("A")
    day.money("A", "1", "BTC")
    day.money("A", "-29000")
    day.clock(60)
    day.tick("BTCUSDT", "37000")
    day.clock(120)
    day.money("A", "0.1", "XMR", **({"call": named} if named else {}))
    day.tick("ETHUSDT", "3000")
    before = len(day.lines)
    day.tick("XMRBTC", "0.01")
    system, said = folded(day.lines)
    account = system.accounts[0].account("A")
    assert account is not None
    # 0.1 * 0.01 * 37,000 * 0.7 = 25.90
    assert [call.paid for call in account.cross.calls] == [2590 * share for share in paid]
    assert account.cross.pending_deposits == []
    kinds = [(effect.sequence > before, readable(effect.data)["type"]) for effect in said if effect.group == "A"]
    assert kinds.count((True, "call_reduced")) == 1
    assert kinds.count((False, "call_reference_unmatched")) == (named == "A/call/9")
    assert (True, "call_reference_unmatched") not in kinds


def test_money_that_a_sweep_brings_lowers_the_demand_that_stands() -> None:
    day = UsdmDay().opened()
    day.usdm_account("U", "500")
    day.money("U", "20", isolated="iso")
    day.perpetual("U", "ETHUSDT-PERP", "0.01", "3000", isolated="iso")
    day.perpetual("U", "BTCUSDT-PERP", "0.5", "40000")
    day.tick("BTCUSDT-PERP", "39100")
    system, _ = folded(day.lines)
    account = system.accounts[0].account("U")
    assert account is not None
    assert account.cross.liquidating
    demanded = account.cross.liquidation_amount
    day.perpetual("U", "ETHUSDT-PERP", "-0.01", "3000", isolated="iso")
    system.admission.line(day.lines[-1])
    _, said = system.fold()
    assert account.isolated == {}
    assert account.cross.liquidating
    assert 0 < account.cross.liquidation_amount < demanded
    assert [(row["type"], row.get("supersedes")) for row in map(readable, (effect.data for effect in said))] == [
        ("liquidation_due", 1)
    ]
