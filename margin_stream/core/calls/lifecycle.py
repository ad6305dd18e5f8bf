"""The lifecycle of a subaccount: what follows from a valuation, a payment, a clock. No arithmetic of margins is here,
no I/O, no clock.

After every item an account is *at rest*: evaluating it again changes nothing and emits nothing. Guards are true, false or
undecided; undecided neither starts, resets nor matures anything, and leaves the level as it is.
"""

from __future__ import annotations

from margin_stream.core.accounts.subaccount import NEVER, Level, Subaccount
from margin_stream.core.calls.call import Call, CallEvent, Deadline, Outcome
from margin_stream.core.calls.case import Case, level_guards
from margin_stream.core.checks import check
from margin_stream.core.margin.guards import Guard, GuardState
from margin_stream.core.margin.model import CallPolicy, CallType
from margin_stream.schemas import effects


def guards_of(subaccount: Subaccount, policy: CallPolicy) -> list[Guard]:
    """Return every guard whose flip could matter to the subaccount as it stands: within a box where none flips, nothing
    happens."""
    call_type = policy.call_types[0]
    guards = level_guards(subaccount, policy)
    if call_type.callable and not subaccount.liquidating:
        if subaccount.unpaid:
            guards.append(call_type.next_call_at(subaccount.unpaid))
        elif subaccount.suppressed:
            guards.append(call_type.reaches_minimum())
    return guards


def evaluate(case: Case) -> None:
    """Bring the account to rest under the valuation."""
    subaccount, policy, truth = case.subaccount, case.policy, case.valuation.truth
    was_liquidating = subaccount.liquidating
    for _ in range(8):
        before = (
            subaccount.liquidating,
            subaccount.pending_since_ns,
            subaccount.suppressed,
            subaccount.call_count,
            subaccount.unpaid,
        )
        if truth(policy.restore) is GuardState.FALSE:
            subaccount.liquidating = False
            _cure(case)
        if not subaccount.liquidating and truth(policy.close_out) is GuardState.TRUE:
            subaccount.liquidating = True
        if subaccount.liquidating or not case.call_type.callable:
            subaccount.pending_since_ns, subaccount.suppressed = NEVER, False
        else:
            _watch(case)
        if before == (
            subaccount.liquidating,
            subaccount.pending_since_ns,
            subaccount.suppressed,
            subaccount.call_count,
            subaccount.unpaid,
        ):
            break
    else:
        check(False, "an account comes to rest", account=case.account.id)
    if was_liquidating and not subaccount.liquidating:
        subaccount.liquidation_amount = 0
    _set_level(case)
    subaccount.guards = guards_of(subaccount, policy)
    subaccount.guard_states = [truth(guard) for guard in subaccount.guards]
    subaccount.stale = case.stale
    if subaccount.liquidating and not was_liquidating:
        demand_sale(case)


def _cure(case: Case) -> None:
    if not case.subaccount.open_calls:
        return
    for call in case.subaccount.calls:
        if call.open:
            call.happen(CallEvent.RESTORED)
            case.emit(effects.CallCured, call=case.call_id(call), unpaid=case.money(call.unpaid))
    case.subaccount.recount()


def _watch(case: Case) -> None:
    """Start, keep or end the persistence of the next call; issue a suppressed one at the item that reaches the
    minimum."""
    subaccount, truth = case.subaccount, case.valuation.truth
    breached = truth(case.call_type.trigger)
    if breached is GuardState.FALSE:
        subaccount.pending_since_ns, subaccount.suppressed = NEVER, False
    elif subaccount.suppressed:
        if breached is GuardState.TRUE and truth(case.call_type.reaches_minimum()) is GuardState.TRUE:
            subaccount.suppressed = False
            _issue(case, case.shortfall)
    else:
        condition = _condition(case)
        if condition is GuardState.FALSE:
            subaccount.pending_since_ns = NEVER
        elif condition is GuardState.TRUE and subaccount.pending_since_ns == NEVER:
            subaccount.pending_since_ns = case.now_ns


def _condition(case: Case) -> GuardState:
    """Say whether what the next call waits for holds: the call level, and with calls unpaid an uncovered step beyond
    them."""
    truth = case.valuation.truth
    breached = truth(case.call_type.trigger)
    unpaid = case.subaccount.unpaid
    if breached is GuardState.FALSE or not unpaid:
        return breached
    uncovered = truth(case.call_type.next_call_at(unpaid))
    # Both must hold: one that is false decides, whatever the other.
    return breached if uncovered is GuardState.TRUE else uncovered


def _holds(case: Case, level: Level, guard: Guard) -> bool:
    """Return whether a level is entered or kept: entered where its guard is true, left where it is false for certain."""
    found = case.valuation.truth(guard)
    return found is GuardState.TRUE or (found is GuardState.UNDECIDED and case.subaccount.level >= level)


def _set_level(case: Case) -> None:
    subaccount, policy = case.subaccount, case.policy
    if _holds(case, Level.BANKRUPT, policy.bankrupt):
        level = Level.BANKRUPT
    elif subaccount.liquidating:
        level = Level.LIQUIDATING
    elif case.call_type.callable and _holds(case, Level.DEFICIT, case.call_type.trigger):
        level = Level.DEFICIT
    elif _holds(case, Level.WARNING, policy.warn):
        level = Level.WARNING
    else:
        level = Level.HEALTHY
    previous = subaccount.level
    if level != previous:
        subaccount.level = level
        if level is Level.WARNING and previous is Level.HEALTHY:
            case.emit(effects.MarginWarned)
        else:
            case.emit(effects.MarginLevelChanged, level=level.name, previous=previous.name)


def _issue(case: Case, uncovered: int) -> None:
    subaccount = case.subaccount
    subaccount.call_count += 1
    call = Call(
        number=subaccount.call_count,
        amount=case.call_type.rounded(uncovered),
        paid=0,
        issued_at_ns=case.now_ns,
        due_at_ns=case.now_ns + case.call_type.due_after_ns,
        tranche=1 + subaccount.open_calls,
    )
    subaccount.calls.append(call)
    subaccount.recount()
    subaccount.pending_since_ns = NEVER
    case.emit(
        effects.MarginCallIssued,
        call=case.call_id(call),
        amount=case.money(call.amount),
        shortfall=case.money(case.shortfall),
        due_at_ns=call.due_at_ns,
        call_type=case.call_type.name,
        tranche=call.tranche,
    )


def next_timer(subaccount: Subaccount, policy: CallPolicy) -> int | None:
    """Return the first clock (in ns) at which a timer of the account can be due, or None."""
    call_type = policy.call_types[0]
    times = [call.due_at_ns + 1 for call in subaccount.calls if call.open and call.deadline is Deadline.RUNNING]
    if subaccount.pending_since_ns != NEVER:
        times.append(_matures_at(subaccount, call_type))
    return min(times) if times else None


def _matures_at(subaccount: Subaccount, call_type: CallType) -> int:
    """Return the first clock at which the next call can be issued."""
    matured = subaccount.pending_since_ns + call_type.persistence_ns
    return max(matured, _add_on_from(subaccount, call_type)) if subaccount.unpaid else matured


def _add_on_from(subaccount: Subaccount, call_type: CallType) -> int:
    """Return the first clock of an add-on call: the interval after the call that was issued last."""
    return subaccount.calls[-1].issued_at_ns + call_type.tranche_interval_ns


def run_timers(case: Case) -> None:
    """Fire what is due at the clock, by (time, kind, id), evaluating after each, until nothing is due."""
    subaccount = case.subaccount
    for _ in range(4 + 2 * len(subaccount.calls)):
        due: list[tuple[int, str, int]] = [
            (call.due_at_ns, "call_due", call.number)
            for call in subaccount.calls
            if call.open and call.deadline is Deadline.RUNNING and call.due_at_ns < case.now_ns
        ]
        matured = _matures_at(subaccount, case.call_type)
        if subaccount.pending_since_ns != NEVER and matured <= case.now_ns and _condition(case) is GuardState.TRUE:
            due.append((matured, "persistence", 0))
        if not due:
            return
        _, kind, number = min(due)
        if kind == "call_due":
            _pass_due(case, next(call for call in subaccount.calls if call.number == number))
        else:
            _mature(case)
        evaluate(case)
    check(False, "timers come to an end", account=case.account.id)


def _pass_due(case: Case, call: Call) -> None:
    subaccount = case.subaccount
    fields = {"call": case.call_id(call), "unpaid": case.money(call.unpaid)}
    if case.valuation.truth(case.policy.restore) is GuardState.UNDECIDED:
        call.happen(CallEvent.DUE_PASSED_UNDECIDED)
        case.emit(effects.CallEscalated, **fields)
        return
    call.happen(CallEvent.DUE_PASSED)
    case.emit(effects.CallExpired, **fields)
    if not subaccount.liquidating:
        subaccount.liquidating = True
        subaccount.pending_since_ns, subaccount.suppressed = NEVER, False
        _set_level(case)
        demand_sale(case)


def _mature(case: Case) -> None:
    """The condition held for the period: reopen what a bounce had cured, then call what is not covered."""
    subaccount = case.subaccount
    shortfall = case.shortfall
    bounced = [
        call
        for call in subaccount.calls
        if call.outcome is Outcome.CURED
        and call.unpaid > 0
        and case.now_ns <= call.issued_at_ns + case.call_type.reopen_within_ns
    ]
    for call in sorted(bounced, key=lambda call: (call.due_at_ns, call.number)):
        if shortfall > subaccount.unpaid:
            reopen(case, call, CallEvent.BREACHED_AGAIN_PART_PAID if call.paid else CallEvent.BREACHED_AGAIN, "breach")
    subaccount.pending_since_ns = NEVER
    unpaid = subaccount.unpaid
    if unpaid:
        if shortfall - unpaid >= case.call_type.step(unpaid) and case.now_ns >= _add_on_from(
            subaccount, case.call_type
        ):
            _issue(case, shortfall - unpaid)
    elif case.call_type.is_called(shortfall):
        _issue(case, shortfall)
    else:
        subaccount.suppressed = True
        case.emit(
            effects.CallSuppressedBelowMinimum,
            shortfall=case.money(shortfall),
            minimum=case.money(case.call_type.minimum_transfer),
        )


def reopen(case: Case, call: Call, event: CallEvent, reason: str) -> None:
    """Open a closed call again at its old due time."""
    call.happen(event)
    case.subaccount.recount()
    case.emit(
        effects.CallReopened,
        call=case.call_id(call),
        unpaid=case.money(call.unpaid),
        due_at_ns=call.due_at_ns,
        reason=reason,
    )


def demand_sale(case: Case) -> None:
    """Demand a sale, or lower the one that stands; never raise it, never below the minimum, never where nothing can be
    sold."""
    account, subaccount, policy = case.account, case.subaccount, case.policy
    legs = case.sale()
    amount = sum(part for part, _ in legs)
    standing = subaccount.liquidation_amount
    if standing:
        if amount >= standing:
            return
        if amount < policy.liquidation_minimum:
            amount, legs = 0, ()
    elif amount == 0 or amount < policy.liquidation_minimum:
        return
    superseded = subaccount.liquidation_number if standing else 0
    account.liquidation_count += 1
    subaccount.liquidation_number = account.liquidation_count
    subaccount.liquidation_amount = amount
    case.emit(
        effects.LiquidationDue,
        number=subaccount.liquidation_number,
        amount=case.money(amount),
        legs=tuple(leg for _, leg in legs),
        supersedes=superseded,
    )
