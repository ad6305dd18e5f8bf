"""Money and calls: what comes in pays calls, what goes out opens them again."""

from __future__ import annotations

from margin_stream.core.calls.call import Call, CallEvent, Outcome
from margin_stream.core.calls.case import Case
from margin_stream.core.calls.lifecycle import reopen
from margin_stream.core.margin.guards import GuardState
from margin_stream.schemas import effects


def named_call(case: Case, named: str) -> Call | None:
    """Return the call that an event names, None where it names none; a name that the account does not have is an effect."""
    if not named:
        return None
    found = next((call for call in case.subaccount.calls if case.call_id(call) == named), None)
    if found is None:
        case.emit_plain(effects.CallReferenceUnmatched, call=named)
    return found


def credit(case: Case, value: int, named: str) -> None:
    """Count money that settled: for the call that it names, then oldest due first.

    Args:
        value: minor units, after haircut or at face where it repaid a debit.
        named: the call id that the sender gave, or empty.
    """
    subaccount = case.subaccount
    target = named_call(case, named)
    order = sorted((call for call in subaccount.calls if call.open), key=lambda call: (call.due_at_ns, call.number))
    if target is not None and target.unpaid > 0:
        order = [target] + [call for call in order if call is not target]
    for call in order:
        part = min(value, call.unpaid)
        if part <= 0:
            continue
        value -= part
        call.paid += part
        if call.unpaid:
            call.happen(CallEvent.SETTLED_PART)
            case.emit_plain(
                effects.CallReduced,
                call=case.call_id(call),
                credited=case.money(part),
                unpaid=case.money(call.unpaid),
            )
        else:
            call.happen(CallEvent.SETTLED_WHOLE)
            case.emit_plain(effects.CallMet, call=case.call_id(call), credited=case.money(part))
    subaccount.recount()


def withdraw(case: Case, value: int) -> None:
    """Take money that left again off what it had paid, latest due first.

    A call that was met reopens if the account is short of its restore level and its reopening period runs.
    """
    subaccount, policy = case.subaccount, case.policy
    short = case.valuation.truth(policy.restore) is GuardState.TRUE
    for call in sorted(subaccount.calls, key=lambda call: (-call.due_at_ns, -call.number)):
        part = min(value, call.paid)
        if part <= 0:
            continue
        left = CallEvent.WITHDRAWN_PART if part < call.paid else CallEvent.WITHDRAWN_WHOLE
        if call.open:
            call.paid -= part
            call.happen(left)
        elif (
            call.outcome is Outcome.MET and short and case.now_ns <= call.issued_at_ns + case.call_type.reopen_within_ns
        ):
            call.paid -= part
            reopen(case, call, left, "withdrawal")
        else:
            continue
        value -= part
    subaccount.recount()
