"""The lifecycle by itself, on facts that are set up by hand: each rule of docs/rules.md one below, exactly at, and one
above its edge."""

from __future__ import annotations

from typing import Any

import pytest

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.subaccount import NEVER, Level
from margin_stream.core.calls import lifecycle, payments
from margin_stream.core.calls.call import Call, CallEvent, Deadline, Outcome
from margin_stream.core.calls.case import Case
from margin_stream.core.calls.lifecycle import demand_sale, evaluate, guards_of, next_timer, run_timers
from margin_stream.core.calls.payments import credit, withdraw
from margin_stream.core.checks import Fault
from margin_stream.core.margin.guards import Guard, GuardState, Ratio
from margin_stream.core.margin.model import CallPolicy, CallType, MarginFigures, Profile, Statement
from margin_stream.core.margin.valuation import Exact
from margin_stream.schemas import effects
from margin_stream.schemas.inputs import ProfileActivated

POLICY = CallPolicy(
    warn=Guard(Ratio(140, 100), 0, inclusive=False),
    close_out=Guard(Ratio(110, 100), 0, inclusive=False),
    bankrupt=Guard(Ratio(1, 1), 0, inclusive=False),
    restore=Guard(Ratio(140, 100), 0, inclusive=False),
    quiescent=Guard(Ratio(140, 100), 0, inclusive=False),
    liquidation_minimum=10,
    call_types=(
        CallType(
            name="maintenance",
            trigger=Guard(Ratio(125, 100), 0, inclusive=False),
            restore=Guard(Ratio(140, 100), 0, inclusive=False),
            callable=True,
            persistence_ns=60,
            due_after_ns=1000,
            reopen_within_ns=500,
            minimum_transfer=100,
            minimum_is_called=True,
            rounding=10,
            tranche_step=50,
        ),
    ),
)
MAINTENANCE = POLICY.call_types[0]
ENVELOPE: dict[str, Any] = {"source": "s", "source_seq": 1, "event_time": 0}
"""Of the activation that a profile carries along."""


def with_type(policy: CallPolicy = POLICY, **fields: Any) -> CallPolicy:
    """Return the policy with fields of its call type changed."""
    return policy._replace(call_types=(policy.call_types[0]._replace(**fields),))


LIQUIDATING_VENUE = with_type(callable=False)
DEBIT = 10_000
"""Owed in every test: levels are at 14,000, 12,500, 11,000 and 10,000."""


class Said:
    """A valuation whose guards say what a test wants."""

    def __init__(self, value: int, **guard_states: GuardState) -> None:
        self.figures = MarginFigures(value, DEBIT)
        self.decided = GuardState.UNDECIDED not in guard_states.values()
        guards = {**POLICY._asdict(), "call": POLICY.call_types[0].trigger}
        self._truths = {guards[name]: truth for name, truth in guard_states.items()}

    def truth(self, guard: Guard) -> GuardState:
        return self._truths.get(guard, Exact(self.figures).truth(guard))


class Desk:
    """An account, and what was said of it."""

    def __init__(self, policy: CallPolicy = POLICY, sale: list[int] | None = None) -> None:
        self.account = Account("A", 0, "p", "", [])
        self.cross = self.account.cross
        self.policy = policy
        self.said: list[dict[str, Any]] = []
        self.sale = sale if sale is not None else [700]

    def case(self, value: int, now: int = 10_000, **guard_states: GuardState) -> Case:
        def emit(account: Account, kind: type[effects.AccountEffect], **fields: Any) -> None:
            self.said.append({"kind": kind.__name__, **fields})

        legs = [(part, effects.LiquidationLeg(asset="X", amount=str(part))) for part in self.sale]
        activation = ProfileActivated(
            profile="p", model="prime", version=1, parameters={}, effective_from=0, approved_by="x", **ENVELOPE
        )
        statement = Statement(value - DEBIT, 4_000, 2_500, {"collateral_value": value, "loan": DEBIT, "other": 1})
        profile = Profile(activation, self.policy, None)  # type: ignore[arg-type]
        return Case(
            self.account,
            self.cross,
            profile,
            Said(value, **guard_states),
            now,
            emit,
            str,
            lambda: legs,
            lambda: statement,
        )  # type: ignore[arg-type]

    def call(
        self, number: int, amount: int, *, paid: int = 0, issued: int = 9_800, due: int = 10_800, **more: int
    ) -> Call:
        call = Call(number, amount, paid, issued, due, 1, **more)
        self.cross.calls.append(call)
        self.cross.call_count = max(self.cross.call_count, number)
        self.cross.recount()
        return call

    def kinds(self) -> list[str]:
        found = [row["kind"] for row in self.said]
        self.said.clear()
        return found

    def of(self, kind: str, *names: str) -> list[tuple[Any, ...]]:
        return [tuple(row[name] for name in names) for row in self.said if row["kind"] == kind]


def opened(outcome: Outcome, **more: int) -> dict[str, int]:
    return {"outcome": outcome, **more}


# ---- levels and guards ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "level"),
    [
        (14_000, Level.HEALTHY),
        (13_999, Level.WARNING),
        (12_500, Level.WARNING),
        (12_499, Level.DEFICIT),
        (11_000, Level.DEFICIT),
        (10_999, Level.LIQUIDATING),
        (10_000, Level.LIQUIDATING),
        (9_999, Level.BANKRUPT),
    ],
)
def test_each_level_begins_one_below_its_edge(value: int, level: Level) -> None:
    desk = Desk()
    evaluate(desk.case(value))
    assert desk.cross.level is level
    assert desk.cross.liquidating is (value < 11_000)
    assert desk.cross.pending_since_ns == (10_000 if 11_000 <= value < 12_500 else NEVER)
    evaluate(desk.case(value))
    assert len(desk.said) == {Level.HEALTHY: 0, Level.WARNING: 1, Level.DEFICIT: 1}.get(level, 2)


def test_where_nothing_is_called_there_is_no_deficit_and_no_persistence() -> None:
    desk = Desk(LIQUIDATING_VENUE)
    evaluate(desk.case(12_000))
    assert desk.cross.level is Level.WARNING
    assert desk.cross.pending_since_ns == NEVER
    assert desk.cross.suppressed is False


def test_every_guard_that_could_matter_is_watched_and_no_other() -> None:
    account = Account("A", 0, "p", "", [])
    always = [POLICY.warn, MAINTENANCE.trigger, POLICY.bankrupt, POLICY.restore]
    assert guards_of(account.cross, POLICY) == [*always, POLICY.close_out]
    account.cross.suppressed = True
    assert guards_of(account.cross, POLICY) == [*always, POLICY.close_out, MAINTENANCE.short_of(100)]
    account.cross.unpaid = 300
    assert guards_of(account.cross, POLICY) == [*always, POLICY.close_out, MAINTENANCE.short_of(350)]
    account.cross.liquidating = True
    assert guards_of(account.cross, POLICY) == always
    # A venue that calls nothing has no level of calls; once it liquidates, the close-out is behind it.
    assert guards_of(account.cross, LIQUIDATING_VENUE) == [POLICY.warn, POLICY.bankrupt, POLICY.restore]
    account.cross.liquidating = False
    assert guards_of(account.cross, LIQUIDATING_VENUE) == [
        POLICY.warn,
        POLICY.bankrupt,
        POLICY.restore,
        POLICY.close_out,
    ]


def test_an_undecided_guard_leaves_things_as_they_are_and_flags_the_account() -> None:
    undecided = dict.fromkeys(("warn", "call", "close_out", "restore", "bankrupt"), GuardState.UNDECIDED)
    desk = Desk()
    evaluate(desk.case(12_000, 10_000))
    evaluate(desk.case(12_000, 10_030, **undecided))
    assert desk.cross.pending_since_ns == 10_000
    assert desk.cross.stale
    evaluate(desk.case(12_000, 10_031))
    assert not desk.cross.stale


@pytest.mark.parametrize(
    ("value", "level"), [(12_000, Level.DEFICIT), (13_000, Level.WARNING), (9_000, Level.BANKRUPT)]
)
def test_a_level_stands_while_it_is_undecided_and_every_effect_says_so(value: int, level: Level) -> None:
    undecided = dict.fromkeys(("warn", "call", "close_out", "restore", "bankrupt"), GuardState.UNDECIDED)
    desk = Desk()
    evaluate(desk.case(value))
    assert [row["stale"] for row in desk.said] == [False] * len(desk.said)
    desk.said.clear()
    evaluate(desk.case(value, 10_030, **undecided))
    assert desk.cross.level is level
    assert desk.said == []
    # Of what is known for certain the level takes note: it is left for the deepest that still holds or is undecided.
    if level is Level.BANKRUPT:
        evaluate(desk.case(value, 10_031, **(undecided | {"bankrupt": GuardState.FALSE})))
        assert desk.of("MarginLevelChanged", "level", "previous", "stale") == [("LIQUIDATING", "BANKRUPT", True)]
        return
    evaluate(desk.case(value, 10_031, **(undecided | {"call": GuardState.FALSE})))
    assert desk.cross.level is Level.WARNING
    assert desk.of("MarginLevelChanged", "stale") == ([(True,)] if level is Level.DEFICIT else [])
    evaluate(desk.case(value, 10_032, **(undecided | {name: GuardState.FALSE for name in ("call", "warn", "restore")})))
    assert desk.cross.level is Level.HEALTHY


def test_an_undecided_guard_enters_no_level() -> None:
    desk = Desk()
    for name in ("warn", "call", "bankrupt"):
        evaluate(desk.case(14_000, **{name: GuardState.UNDECIDED}))
        assert desk.cross.level is Level.HEALTHY
    assert desk.said == []


def test_restoring_ends_a_sale_and_cures_what_is_open() -> None:
    desk = Desk()
    calls = [
        desk.call(1, 300),
        desk.call(2, 200, paid=50, outcome=Outcome.PARTIALLY_MET),
        desk.call(3, 80, paid=80, outcome=Outcome.MET),
    ]
    desk.cross.liquidating, desk.cross.liquidation_amount = True, 700
    evaluate(desk.case(13_999))
    assert (desk.cross.liquidating, desk.cross.liquidation_amount) == (True, 700)
    evaluate(desk.case(14_000))
    assert (desk.cross.liquidating, desk.cross.liquidation_amount) == (False, 0)
    assert [call.outcome for call in calls] == [Outcome.CURED, Outcome.CURED, Outcome.MET]
    assert desk.of("CallCured", "call", "unpaid") == [("A/call/1", "300"), ("A/call/2", "150")]
    assert (desk.cross.open_calls, desk.cross.unpaid) == (0, 0)


def test_an_effect_of_an_isolated_subaccount_names_it() -> None:
    desk = Desk(LIQUIDATING_VENUE)
    desk.cross.name = "iso"
    evaluate(desk.case(12_000))
    assert desk.of("MarginWarned", "isolated", "equity", "initial_requirement", "maintenance_requirement") == [
        ("iso", "2000", "4000", "2500")
    ]
    assert desk.of("MarginWarned", "collateral_value", "loan") == [("12000", "10000")]
    assert "other" not in desk.said[0]


@pytest.mark.plain_core
def test_an_account_that_does_not_come_to_rest_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()

    def restless(case: Case) -> None:
        case.subaccount.call_count += 1

    monkeypatch.setattr(lifecycle, "_watch", restless)
    with pytest.raises(Fault) as caught:
        evaluate(desk.case(12_000))
    assert str(caught.value) == "not so: an account comes to rest (account=A)"


# ---- persistence, issue, suppression -------------------------------------------------------------------------------


def test_the_next_tranche_waits_for_a_whole_step_beyond_what_is_unpaid() -> None:
    """Unpaid 2,000, step 50: at a shortfall of 2,050 (value 11,950) the condition holds, at 2,049 it does not."""
    for value, pending in ((11_951, NEVER), (11_950, 10_000), (11_949, 10_000)):
        desk = Desk()
        desk.call(1, 2_000)
        evaluate(desk.case(value))
        assert desk.cross.pending_since_ns == pending


def test_a_call_is_issued_once_the_period_is_over_and_the_account_is_watched_anew() -> None:
    desk = Desk()
    evaluate(desk.case(12_341))
    assert next_timer(desk.cross, POLICY) == 10_060
    run_timers(desk.case(12_341, 10_059))
    assert desk.cross.calls == []
    run_timers(desk.case(12_341, 10_060))
    assert desk.of("MarginCallIssued", "call", "amount", "shortfall", "due_at_ns", "tranche") == [
        ("A/call/1", "1660", "1659", 11_060, 1)
    ]
    call = desk.cross.calls[0]
    assert (call.issued_at_ns, call.due_at_ns, call.paid, call.amount) == (10_060, 11_060, 0, 1_660)
    assert desk.cross.pending_since_ns == NEVER
    assert next_timer(desk.cross, POLICY) == 11_061


@pytest.mark.parametrize(
    ("step", "share", "least"), [(50, Ratio(0, 1), 50), (50, Ratio(1, 3), 667), (700, Ratio(1, 3), 700)]
)
def test_an_add_on_call_is_of_the_step_and_of_the_share_of_what_is_unpaid(step: int, share: Ratio, least: int) -> None:
    policy = with_type(tranche_step=step, tranche_share=share)
    assert policy.call_types[0].step(2000) == least
    for short, issued in ((least - 1, 0), (least, 1)):
        desk = Desk(policy)
        desk.call(1, 2000)
        desk.cross.pending_since_ns = 9_000
        run_timers(desk.case(14_000 - 2000 - short))
        assert len(desk.of("MarginCallIssued", "call")) == issued


def test_an_add_on_call_waits_for_the_interval_and_merges_what_came_meanwhile() -> None:
    desk = Desk(with_type(tranche_interval_ns=500))
    desk.call(1, 1000, issued=10_000, due=20_000)
    evaluate(desk.case(12_400, 10_001))
    assert desk.cross.pending_since_ns == 10_001
    assert next_timer(desk.cross, desk.policy) == 10_500
    run_timers(desk.case(12_400, 10_499))
    assert desk.of("MarginCallIssued", "call") == []
    run_timers(desk.case(12_200, 10_500))
    # 14,000 - 12,200 - 1,000, once.
    assert desk.of("MarginCallIssued", "amount", "due_at_ns", "tranche") == [("800", 11_500, 2)]
    # With nothing unpaid a call does not wait.
    desk = Desk(with_type(tranche_interval_ns=500))
    desk.call(1, 1000, paid=1000, issued=10_000, due=20_000, outcome=Outcome.MET)
    evaluate(desk.case(12_400, 10_001))
    assert next_timer(desk.cross, desk.policy) == 10_061


def test_a_tranche_covers_what_is_not_covered_and_counts_the_open_calls() -> None:
    for value, issued in (
        (11_951, []),
        (11_950, [("A/call/8", "50", "2050", 2)]),
        (11_949, [("A/call/8", "60", "2051", 2)]),
    ):
        desk = Desk()
        desk.call(7, 2_000)
        desk.cross.pending_since_ns = 9_940
        lifecycle._mature(desk.case(value))
        assert desk.of("MarginCallIssued", "call", "amount", "shortfall", "tranche") == issued
        assert desk.cross.pending_since_ns == NEVER


def small(**more: Any) -> CallPolicy:
    """A call level close to the restore level, so that a shortfall can be less than the minimum of 100."""
    return with_type(trigger=Guard(Ratio(1399, 1000), 0, inclusive=False), **more)


def test_a_shortfall_below_the_minimum_is_recorded_once_and_called_at_the_item_that_reaches_it() -> None:
    desk = Desk(small())
    evaluate(desk.case(13_920))
    run_timers(desk.case(13_920, 10_060))
    assert desk.of("CallSuppressedBelowMinimum", "shortfall", "minimum") == [("80", "100")]
    assert desk.cross.suppressed is True
    assert desk.cross.pending_since_ns == NEVER
    evaluate(desk.case(13_901, 10_061))
    assert desk.cross.calls == []
    evaluate(desk.case(13_900, 10_062))
    assert desk.cross.suppressed is False
    assert desk.of("MarginCallIssued", "amount", "due_at_ns") == [("100", 11_062)]


@pytest.mark.parametrize(
    ("value", "called", "exactly"),
    [(13_901, False, True), (13_900, True, True), (13_900, False, False), (13_899, True, False)],
)
def test_exactly_the_minimum_is_called_as_the_profile_says(value: int, called: bool, exactly: bool) -> None:
    for suppressed in (False, True):
        desk = Desk(small(minimum_is_called=exactly))
        desk.cross.suppressed = suppressed
        if suppressed:
            evaluate(desk.case(value))
        else:
            desk.cross.pending_since_ns = 9_000
            run_timers(desk.case(value))
        assert [row["kind"] for row in desk.said].count("MarginCallIssued") == called


def test_a_suppressed_entry_ends_where_the_call_level_is_reached_again() -> None:
    desk = Desk(small())
    desk.cross.suppressed = True
    evaluate(desk.case(13_990))
    assert desk.cross.suppressed is False
    assert desk.cross.pending_since_ns == NEVER


# ---- timers ----------------------------------------------------------------------------------------------------------


def test_the_first_timer_is_the_earliest_of_deadlines_that_run_and_the_persistence() -> None:
    desk = Desk()
    assert next_timer(desk.cross, POLICY) is None
    desk.call(1, 100, due=10_800)
    desk.call(2, 100, due=10_700)
    desk.call(3, 100, due=10_100, deadline=Deadline.EXPIRED)
    desk.call(4, 100, due=10_100, deadline=Deadline.ESCALATED)
    desk.call(5, 100, due=10_100, outcome=Outcome.CURED)
    desk.call(6, 100, paid=100, due=10_100, outcome=Outcome.MET)
    assert next_timer(desk.cross, POLICY) == 10_701
    desk.cross.pending_since_ns = 10_640
    assert next_timer(desk.cross, POLICY) == 10_700
    desk.cross.pending_since_ns = 10_642
    assert next_timer(desk.cross, POLICY) == 10_701


@pytest.mark.parametrize(("late", "fired"), [(-1, False), (0, False), (1, True)])
def test_the_due_time_itself_is_in_time(late: int, fired: bool) -> None:
    desk = Desk()
    call = desk.call(1, 2_000, due=10_000)
    run_timers(desk.case(12_000, 10_000 + late))
    assert call.deadline is (Deadline.EXPIRED if fired else Deadline.RUNNING)
    assert desk.cross.liquidating is fired
    assert desk.kinds() == (["CallExpired", "MarginLevelChanged", "LiquidationDue"] if fired else [])


def test_deadlines_expire_by_due_time_and_number_and_one_sale_is_demanded() -> None:
    desk = Desk()
    for number, due in ((1, 9_990), (2, 9_980), (3, 9_980)):
        desk.call(number, 600, due=due)
    desk.cross.suppressed, desk.cross.pending_since_ns = True, 9_999
    run_timers(desk.case(12_000))
    assert desk.of("CallExpired", "call", "unpaid") == [("A/call/2", "600"), ("A/call/3", "600"), ("A/call/1", "600")]
    assert desk.kinds().count("LiquidationDue") == 1
    assert (desk.cross.suppressed, desk.cross.pending_since_ns) == (False, NEVER)


def test_at_one_moment_a_due_call_goes_before_the_persistence() -> None:
    """Both fall due at 9,990. The call expires, the account liquidates, so nothing more is called."""
    desk = Desk()
    desk.call(1, 1_000, due=9_990)
    desk.cross.pending_since_ns = 9_930
    run_timers(desk.case(11_950))
    assert desk.kinds() == ["CallExpired", "MarginLevelChanged", "LiquidationDue"]


def test_what_matured_earlier_goes_first() -> None:
    desk = Desk()
    desk.call(1, 1_000, due=9_990)
    desk.cross.pending_since_ns = 9_929
    run_timers(desk.case(11_950))
    assert desk.kinds() == [
        "MarginCallIssued",
        "MarginLevelChanged",
        "CallExpired",
        "MarginLevelChanged",
        "LiquidationDue",
    ]


def test_a_due_time_that_passes_undecided_is_for_a_person_and_sells_nothing() -> None:
    desk = Desk()
    call = desk.call(1, 2_000, due=9_990)
    run_timers(desk.case(12_000, restore=GuardState.UNDECIDED))
    assert call.deadline is Deadline.ESCALATED
    assert desk.of("CallEscalated", "call", "unpaid") == [("A/call/1", "2000")]
    assert not desk.cross.liquidating
    assert desk.cross.review


@pytest.mark.plain_core
def test_timers_that_never_end_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    desk.cross.pending_since_ns = 9_000
    monkeypatch.setattr(lifecycle, "_mature", lambda case: None)
    with pytest.raises(Fault) as caught:
        run_timers(desk.case(12_000))
    assert str(caught.value) == "not so: timers come to an end (account=A)"


# ---- reopening
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "reopened"), [(499, True), (500, True), (501, False)])
def test_a_cured_call_reopens_within_its_period_to_the_last_moment(age: int, reopened: bool) -> None:
    desk = Desk()
    call = desk.call(1, 400, issued=10_000 - age, outcome=Outcome.CURED)
    desk.cross.pending_since_ns = 9_000
    lifecycle._mature(desk.case(12_000))
    assert (call.outcome is Outcome.OPEN) is reopened
    assert desk.of("CallReopened", "call", "unpaid", "due_at_ns", "reason") == (
        [("A/call/1", "400", 10_800, "breach")] if reopened else []
    )
    assert desk.of("MarginCallIssued", "shortfall", "tranche") == [("2000", 2 if reopened else 1)]


def test_cured_calls_reopen_oldest_due_first_until_the_shortfall_is_covered() -> None:
    desk = Desk()
    calls = {
        1: desk.call(1, 900, due=10_900, outcome=Outcome.CURED),
        2: desk.call(2, 700, due=10_800, outcome=Outcome.CURED),
        3: desk.call(3, 1_300, due=10_800, outcome=Outcome.CURED),
        4: desk.call(4, 500, paid=500, due=10_700, outcome=Outcome.CURED),
    }
    lifecycle._mature(desk.case(12_000))
    # 700 + 1,300 are the shortfall: enough. The call of 500 has nothing unpaid.
    assert desk.of("CallReopened", "call") == [("A/call/2",), ("A/call/3",)]
    assert [calls[n].outcome for n in calls] == [Outcome.CURED, Outcome.OPEN, Outcome.OPEN, Outcome.CURED]
    assert "MarginCallIssued" not in desk.kinds()


def test_a_call_that_is_paid_in_part_reopens_as_such_down_to_the_last_unit() -> None:
    desk = Desk()
    part = desk.call(1, 400, paid=399, outcome=Outcome.CURED)
    whole = desk.call(2, 400, outcome=Outcome.CURED)
    lifecycle._mature(desk.case(12_000))
    assert part.outcome is Outcome.PARTIALLY_MET
    assert whole.outcome is Outcome.OPEN


# ---- money
# ------------------------------------------------------------------------------------------------------------


def test_money_pays_the_named_call_first_and_then_the_oldest_due() -> None:
    desk = Desk()
    first = desk.call(1, 100, due=10_900)
    second = desk.call(2, 100, due=10_800)
    third = desk.call(3, 100, due=10_800)
    credit(desk.case(12_000), 201, "A/call/1")
    assert [call.paid for call in (first, second, third)] == [100, 100, 1]
    assert desk.of("CallMet", "call", "credited") == [("A/call/1", "100"), ("A/call/2", "100")]
    assert desk.of("CallReduced", "call", "credited", "unpaid") == [("A/call/3", "1", "99")]
    assert [call.outcome for call in (first, second, third)] == [Outcome.MET, Outcome.MET, Outcome.PARTIALLY_MET]
    assert desk.cross.unpaid == 99


def test_a_named_call_is_paid_though_it_was_cured_unless_it_has_nothing_unpaid() -> None:
    for paid, credited in ((0, 100), (99, 1), (100, 0)):
        desk = Desk()
        cured = desk.call(1, 100, paid=paid, outcome=Outcome.CURED)
        other = desk.call(2, 1_000)
        credit(desk.case(12_000), 500, "A/call/1")
        assert (cured.paid - paid, other.paid) == (credited, 500 - credited)
        assert desk.of("CallMet", "call", "credited") == ([("A/call/1", str(credited))] if credited else [])


def test_an_open_call_without_anything_unpaid_takes_nothing_and_leaves_the_rest_to_others() -> None:
    desk = Desk()
    empty = desk.call(1, 100, paid=100, due=10_700, outcome=Outcome.PARTIALLY_MET)
    other = desk.call(2, 100)
    credit(desk.case(12_000), 100, "")
    assert (empty.paid, other.paid) == (100, 100)
    assert desk.of("CallMet", "call") == [("A/call/2",)]


def test_a_name_that_the_account_does_not_have_is_said_and_counts_as_none() -> None:
    desk = Desk()
    call = desk.call(1, 100)
    credit(desk.case(12_000), 100, "A/call/9")
    assert desk.of("CallReferenceUnmatched", "call") == [("A/call/9",)]
    assert call.outcome is Outcome.MET
    desk.said.clear()
    assert payments.named_call(desk.case(12_000), "") is None
    assert desk.said == []


def test_a_withdrawal_takes_from_the_latest_due_first_and_says_nothing_of_open_calls() -> None:
    desk = Desk()
    calls = [
        desk.call(1, 100, paid=90, due=10_700, outcome=Outcome.PARTIALLY_MET),
        desk.call(2, 100, paid=90, due=10_900, outcome=Outcome.PARTIALLY_MET),
        desk.call(3, 100, due=10_900),
        desk.call(4, 100, paid=90, due=10_900, outcome=Outcome.PARTIALLY_MET),
    ]
    withdraw(desk.case(12_000), 120)
    assert [call.paid for call in calls] == [90, 60, 0, 0]
    assert [call.outcome for call in calls] == [
        Outcome.PARTIALLY_MET,
        Outcome.PARTIALLY_MET,
        Outcome.OPEN,
        Outcome.OPEN,
    ]
    assert desk.said == []
    assert desk.cross.unpaid == 400 - 150
    withdraw(desk.case(12_000), 151)
    assert [call.paid for call in calls] == [0, 0, 0, 0]
    assert all(call.outcome is Outcome.OPEN for call in calls)


@pytest.mark.parametrize(("age", "reopened"), [(499, True), (500, True), (501, False)])
def test_a_met_call_reopens_when_its_money_leaves_within_its_period(age: int, reopened: bool) -> None:
    desk = Desk()
    call = desk.call(1, 100, paid=100, issued=10_000 - age, outcome=Outcome.MET)
    withdraw(desk.case(12_000), 1)
    assert call.paid == 100 - reopened
    assert call.outcome is (Outcome.PARTIALLY_MET if reopened else Outcome.MET)
    assert desk.of("CallReopened", "unpaid", "due_at_ns", "reason") == (
        [("1", 10_800, "withdrawal")] if reopened else []
    )
    whole = Desk()
    call = whole.call(1, 100, paid=100, outcome=Outcome.MET)
    withdraw(whole.case(12_000), 100)
    assert call.outcome is Outcome.OPEN


@pytest.mark.parametrize(
    ("value", "restore", "reopened"),
    [(13_999, None, True), (14_000, None, False), (13_999, GuardState.UNDECIDED, False)],
)
def test_a_met_call_reopens_only_of_an_account_that_is_short_for_certain(
    value: int, restore: GuardState | None, reopened: bool
) -> None:
    desk = Desk()
    call = desk.call(1, 100, paid=100, outcome=Outcome.MET)
    withdraw(desk.case(value, **({"restore": restore} if restore else {})), 30)
    assert call.paid == (70 if reopened else 100)


def test_a_withdrawal_passes_over_what_is_cured_and_goes_on_with_the_next() -> None:
    desk = Desk()
    cured = desk.call(1, 100, paid=50, due=10_900, outcome=Outcome.CURED)
    late = desk.call(2, 100, paid=100, issued=9_000, due=10_850, outcome=Outcome.MET)
    met = desk.call(3, 100, paid=100, due=10_800, outcome=Outcome.MET)
    part = desk.call(4, 100, paid=20, due=10_700, outcome=Outcome.PARTIALLY_MET)
    withdraw(desk.case(12_000), 110)
    assert [call.paid for call in (cured, late, met, part)] == [50, 100, 0, 10]


# ---- sales
# -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("parts", "demanded"), [([9], 0), ([10], 10), ([4, 7], 11), ([], 0)])
def test_a_sale_of_at_least_the_minimum_is_demanded(parts: list[int], demanded: int) -> None:
    desk = Desk(sale=parts)
    demand_sale(desk.case(10_500))
    assert desk.cross.liquidation_amount == demanded
    assert desk.account.liquidation_count == (1 if demanded else 0)
    expected = [(1, str(demanded), [str(part) for part in parts], 0)] if demanded else []
    found = desk.of("LiquidationDue", "number", "amount", "legs", "supersedes")
    assert [(number, amount, [leg.amount for leg in legs], old) for number, amount, legs, old in found] == expected


def test_nothing_to_sell_is_no_demand_even_without_a_minimum() -> None:
    for parts, demanded in (([], 0), ([1], 1)):
        desk = Desk(POLICY._replace(liquidation_minimum=0), sale=parts)
        demand_sale(desk.case(10_500))
        assert desk.account.liquidation_count == demanded


@pytest.mark.parametrize(
    ("amount", "now", "legs"), [(701, 700, None), (700, 700, None), (699, 699, 1), (10, 10, 1), (9, 0, 0), (0, 0, 0)]
)
def test_a_demand_that_stands_is_lowered_or_withdrawn_but_never_raised(amount: int, now: int, legs: int | None) -> None:
    desk = Desk(sale=[amount])
    desk.cross.liquidation_amount, desk.cross.liquidation_number, desk.account.liquidation_count = (
        700,
        3,
        4,
    )
    demand_sale(desk.case(10_500))
    assert desk.cross.liquidation_amount == now
    found = desk.of("LiquidationDue", "number", "amount", "supersedes", "legs")
    if legs is None:
        assert found == []
    else:
        assert [(number, text, old, len(rows)) for number, text, old, rows in found] == [(5, str(now), 3, legs)]
        assert desk.cross.liquidation_number == 5


@pytest.mark.parametrize("value", [13_999, 14_000, 14_001])
def test_what_is_missing_to_the_restore_level_is_never_negative(value: int) -> None:
    assert Desk().case(value).shortfall == max(14_000 - value, 0)


def test_money_that_was_taken_off_one_call_reopens_no_other() -> None:
    desk = Desk()
    part = desk.call(1, 100, paid=20, due=10_900, outcome=Outcome.PARTIALLY_MET)
    met = desk.call(2, 100, paid=100, due=10_800, outcome=Outcome.MET)
    withdraw(desk.case(12_000), 20)
    assert (part.paid, met.paid, met.outcome) == (0, 100, Outcome.MET)
    withdraw(desk.case(12_000), 0)
    assert met.outcome is Outcome.MET
    assert desk.said == []


@pytest.mark.parametrize(
    ("breached", "uncovered", "expected"),
    [
        (
            breached,
            uncovered,
            min((breached, uncovered), key=[GuardState.FALSE, GuardState.UNDECIDED, GuardState.TRUE].index),
        )
        for breached in GuardState
        for uncovered in GuardState
    ],
)
def test_of_two_guards_that_must_hold_one_that_is_false_decides(
    breached: GuardState, uncovered: GuardState, expected: GuardState
) -> None:
    desk = Desk()
    desk.call(1, 2_000)
    case = desk.case(12_000, call=breached)
    case.valuation._truths[MAINTENANCE.short_of(2_050)] = uncovered  # type: ignore[attr-defined]
    assert lifecycle._condition(case) is expected
    desk.cross.unpaid = 0
    assert lifecycle._condition(case) is breached


@pytest.mark.parametrize("kind", [CallEvent, Deadline, Outcome, Level, GuardState])
def test_no_two_names_of_an_axis_are_one(kind: type[Any]) -> None:
    assert len(kind.__members__) == len(list(kind))
