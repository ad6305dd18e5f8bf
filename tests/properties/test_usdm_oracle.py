"""Perpetuals and subaccounts against an oracle written from docs/rules.md without sight of the core: effects, refusals and
facts, to the unit."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, currently_in_test_context, event, example, given, settings
from hypothesis import strategies as st

from tests.comparing import differences
from tests.oracle import usdm_oracle
from tests.oracle.usdm_oracle import Holder, Oracle, UsdmValuation
from tests.usdm_days import UsdmDay, random_usdm_day
from tests.usdm_edges import changing_day, edge_day

# A seed says nothing about how large its day is, so smaller seeds are not sought.
DAYS = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=(Phase.explicit, Phase.generate),
)


def compare(lines: list[bytes]) -> Oracle:
    """Fail where they differ; say how often the page left two answers open and which of them the engine gave."""
    found, oracle, sharp = differences(lines)
    if currently_in_test_context():
        event("windows" if oracle.windows else "no window")
        event("a window answered sharply" if sharp else "no window answered sharply")
    assert not found, "\n".join(found)
    return oracle


@pytest.mark.slow(reason="many random days, each folded several times")
@DAYS
@given(st.integers(0, 10**9))
def test_random_days_in_perpetuals_are_what_the_oracle_says(seed: int) -> None:
    compare(random_usdm_day(seed))


@pytest.mark.slow(reason="many random days, each folded several times")
@DAYS
@example(4194304)  # A demand stands below a minimum that was raised since.
@given(st.integers(0, 10**9))
def test_days_aimed_at_edges_are_what_the_oracle_says(seed: int) -> None:
    compare(edge_day(seed))


@pytest.mark.slow(reason="many random days, each folded several times")
@settings(DAYS, max_examples=100)
@given(st.integers(0, 10**9))
def test_days_between_the_two_models_are_what_the_oracle_says(seed: int) -> None:
    compare(changing_day(seed))


@pytest.mark.slow(reason="many random days, each folded several times")
def test_the_page_leaves_hardly_any_random_day_open() -> None:
    """Two answers are accepted within the rounding of open positions alone; days that do not aim there (almost) never
    come there."""
    open_items = sum(compare(random_usdm_day(seed)).windows for seed in (11, 22, 33, 44, 55))
    assert open_items == 0


# -------------------------------------------------------------------------------------------------------------
# sentences of the page
def usdm(deposit: str = "0") -> UsdmDay:
    day = UsdmDay()
    day.opened()
    day.usdm_account("A", deposit)
    return day


def test_long_and_short_of_one_perpetual_are_open_at_the_same_price() -> None:
    """A hedged pair is worth the same at every price of a stale mark, so an equity of -500 is bankrupt whatever the
    price is."""
    day = usdm("100")
    day.perpetual("A", "ETHUSDT-PERP", "1.000", "3000.00", position_side="long")
    day.perpetual("A", "ETHUSDT-PERP", "-1.000", "3000.00", position_side="short")
    day.clock(301)
    day.money("A", "-600")
    compare(day.lines)


def free(day: UsdmDay, name: str, **listing: Any) -> None:
    """Activate a version in which a perpetual needs no margin, and let every mark become stale."""
    row = {"floor": "0", "cap": None, "maintenance_rate": "0", "maintenance_amount": "0", "max_leverage": "10"}
    day.activate(2, brackets={name: [row]})
    day.clock(1)
    day.clock(301)


def test_a_debt_without_a_requirement_is_bankrupt_though_marks_are_stale() -> None:
    day = usdm()
    free(day, "DOGEUSDT-PERP")
    day.money("A", "0.01")
    day.perpetual("A", "DOGEUSDT-PERP", "-1", "0.30000", fee="5.01")
    compare(day.lines)


def test_a_stale_price_is_at_least_one_unit() -> None:
    """At a mark of 1 the band reaches down to 1, not to 0: 800 short with an equity of -400 are bankrupt at every
    price."""
    day = usdm()
    day.book("instrument_listed", instrument="ONE", kind="perpetual", currency="USDT", price_scale=0, quantity_scale=0)
    row = {"floor": "0", "cap": None, "maintenance_rate": "0.004", "maintenance_amount": "0", "max_leverage": "10"}
    day.activate(2, brackets={"ONE": [row]})
    day.tick("ONE", "1")
    day.clock(1)
    day.perpetual("A", "ONE", "-800", "1")
    day.clock(301)
    day.money("A", "-400")
    compare(day.lines)


def test_money_pays_the_call_that_it_names_whatever_the_profile_is() -> None:
    """A call of the time under ``prime`` is CURED by the change; money that names it still pays it, as everything above
    the chapter holds."""
    day = usdm()
    day.account("P")
    day.money("P", "0.7", "BTC")
    day.money("P", "-20000")
    day.tick("BTCUSDT", "38000.00")
    day.clock(61)
    day.clock(61)
    day.book("account_changed", account="P", profile="binance-usdm")
    day.money("P", "100", call="P/call/1")
    oracle = compare(day.lines)
    kinds = [effect["type"] for effect in oracle.effects if effect.get("account") == "P"]
    assert kinds[-1] == "call_reduced"


def test_the_end_of_a_subaccount_that_held_nothing_leaves_the_demand_of_cross() -> None:
    """Prices alone never change a demand, and nothing came to cross: the subaccount had no position, and ended when its
    money left it."""
    day = usdm("1000")
    day.money("A", "5", isolated="P")
    day.perpetual("A", "DOGEUSDT-PERP", "100000", "0.30000")
    day.tick("DOGEUSDT-PERP", "0.30500")
    day.money("A", "-5", isolated="P")
    oracle = compare(day.lines)
    assert [effect["number"] for effect in oracle.effects if effect["type"] == "liquidation_due"] == [1]


@pytest.mark.parametrize("rate", ["0.9", "0.5"])
def test_what_holds_at_every_price_holds_though_there_was_never_one(rate: str) -> None:
    """Long 1 at 10 with 1 in cash and a warning at 2: E - 2 M = -9 + p (1 - 2 x rate), below 0 at every price p."""
    day = usdm("1")
    day.book("instrument_listed", instrument="NEW", kind="perpetual", currency="USDT", price_scale=2, quantity_scale=0)
    row = {"floor": "0", "cap": None, "maintenance_rate": rate, "maintenance_amount": "0", "max_leverage": "1"}
    day.activate(2, brackets={"NEW": [row]}, warn="2")
    day.clock(1)
    day.perpetual("A", "NEW", "1", "10.00")
    assert compare(day.lines).facts()["A"][""]["level"] == "WARNING"


@pytest.mark.parametrize(
    "fields",
    [
        {"instrument": "BTCUSDT", "account": "A", "isolated": "x"},
        {"instrument": "BTCUSDT", "account": "A", "leverage": 3},
        {"instrument": "DOGEUSDT-PERP", "account": "P", "isolated_margin_delta": "1"},
    ],
)
def test_of_two_refusals_the_first_of_the_catalogue_is_given(fields: dict[str, Any]) -> None:
    """``instrument_not_margined`` stands before ``isolated_invalid``."""
    day = usdm()
    day.account("P")
    day.book("position_changed", quantity_delta="1", price="1", **fields)
    oracle = compare(day.lines)
    assert [reason for _, reason in oracle.refusals] == ["instrument_not_margined"]


@pytest.mark.parametrize(
    ("cash", "level"),
    [
        ("3479.99", "LIQUIDATING"),
        ("3480.00", "LIQUIDATING"),
        ("3480.01", "WARNING"),
        ("4350.00", "WARNING"),
        ("4350.01", "HEALTHY"),
    ],
)
def test_a_level_is_reached_at_its_number_and_not_one_unit_above(cash: str, level: str) -> None:
    """3 BTC at 40,000: 120,000 x 0.05 - 2,520 = 3,480; times 1.25: 4,350."""
    day = usdm(cash)
    day.perpetual("A", "BTCUSDT-PERP", "3.000", "40000.00")
    facts = compare(day.lines).facts()["A"][""]
    assert (facts["debit"], facts["level"]) == ("3480.00", level)


# ------------------------------------------------------------------------------------------------- the comparison can
# fail: mutants
def _patched(owner: type, name: str, make: Callable[[Any], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda monkeypatch: monkeypatch.setattr(owner, name, make(getattr(owner, name)))


def _requirement_floored(original: Any) -> Any:
    def requirement(self: UsdmValuation, instrument: Any, quantity: int, price: int) -> int:
        notional = self.worth(instrument, quantity, price)
        row = self.terms.bracket(instrument.name, notional / self.minor)
        return int(max(notional * row.rate - row.amount * self.minor, Fraction(0)))

    return requirement


def _requirement_without_amount(original: Any) -> Any:
    def requirement(self: UsdmValuation, instrument: Any, quantity: int, price: int) -> int:
        notional = self.worth(instrument, quantity, price)
        return -int(-notional * self.terms.bracket(instrument.name, notional / self.minor).rate // 1)

    return requirement


def _lower_bracket_at_its_cap(original: Any) -> Any:
    def bracket(self: Any, instrument: str, notional: Fraction) -> Any:
        rows = self.tables[instrument]
        return [row for row in rows if row.floor < notional or row is rows[0]][-1]

    return bracket


def _never_swept(original: Any) -> Any:
    return lambda self, account, holder: None


def _subaccounts_by_age(original: Any) -> Any:
    return lambda self: [self, *self.isolated.values()]


def _subaccounts_first(original: Any) -> Any:
    return lambda self: [*(self.isolated[name] for name in sorted(self.isolated)), self]


def _realised_is_lost(original: Any) -> Any:
    def sweep(self: Oracle, account: Holder, holder: Holder) -> None:
        holder.positions_by_side.clear()
        original(self, account, holder)

    return sweep


def _any_mark_is_fresh(original: Any) -> Any:
    def spread(self: UsdmValuation, level: Fraction) -> Any:
        gap = self.v - level * self.d
        return gap, gap, 0

    return spread


def _subaccounts_fund_backwards(original: Any) -> Any:
    def fund(self: Oracle, event: dict[str, Any]) -> None:
        original(
            self,
            event | {"rate": event["rate"].removeprefix("-") if event["rate"].startswith("-") else "-" + event["rate"]},
        )

    return fund


def _demands_are_not_revised(original: Any) -> Any:
    return lambda self, account: None


def _one_more_is_closed(original: Any) -> Any:
    def sale(self: Oracle, account: Any, now: Any) -> Any:
        legs, total = original(self, account, now)
        return list(reversed(legs)), total

    return sale


MUTANTS = {
    "the requirement is floored": _patched(UsdmValuation, "requirement", _requirement_floored),
    "the maintenance amount is left out": _patched(UsdmValuation, "requirement", _requirement_without_amount),
    "a notional at a floor lies in the bracket below": _patched(
        usdm_oracle.UsdmProfile, "bracket", _lower_bracket_at_its_cap
    ),
    "an empty subaccount is not swept": _patched(Oracle, "_sweep", _never_swept),
    "subaccounts come in order of their making": _patched(Holder, "holders", _subaccounts_by_age),
    "subaccounts come before cross": _patched(Holder, "holders", _subaccounts_first),
    "a sweep forgets realised profit": _patched(Oracle, "_sweep", _realised_is_lost),
    "stale marks are taken for fresh": _patched(UsdmValuation, "_spread", _any_mark_is_fresh),
    "funding goes the other way": _patched(Oracle, "_fund", _subaccounts_fund_backwards),
    "a demand is never revised": _patched(Oracle, "_revise", _demands_are_not_revised),
    "legs come smallest first": _patched(Oracle, "_sale", _one_more_is_closed),
}


@pytest.mark.slow(reason="many random days, each folded several times")
@pytest.mark.parametrize("mutant", list(MUTANTS))
def test_the_comparison_notices(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a day on which both agree, a wrong oracle is found out: so a wrong engine would be."""
    days = (make(seed) for seed in range(60) for make in (edge_day, random_usdm_day))
    agreed = (lines for lines in days if not differences(lines)[0])
    for lines in agreed:
        with monkeypatch.context() as patch:
            MUTANTS[mutant](patch)
            if differences(lines)[0]:
                return
    pytest.fail(f"nobody noticed that {mutant}")
