"""The lifecycle of a pocket: what follows from a valuation, a payment, a clock. No arithmetic of margins is here, no I/O, no clock.

After every item an account is *at rest*: settling it again changes nothing and says nothing. Guards are true, false or undecided;
undecided neither starts, resets nor matures anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.subaccount import NEVER, Level, Pocket
from margin_stream.core.calls.call import Call, CallEvent, Deadline, Outcome
from margin_stream.core.checks import check
from margin_stream.core.margin.model import CallPolicy, Figures, Guard, Profile, Truth
from margin_stream.schemas import effects

Emit = Callable[..., None]
"""``emit(account, EffectType, **fields)``: the fold adds the envelope."""


class Valuation(Protocol):
    """What an account is worth, and what each guard says of it."""

    figures: Figures
    """At the last accepted marks; what was never marked counts 0."""

    def truth(self, guard: Guard) -> Truth:
        """Say whether a guard holds over all that the marks leave open."""


class Case:
    """One pocket of an account at one item: everything that the rules look at."""

    __slots__ = ("account", "emit", "money", "now_ns", "pocket", "policy", "sale", "valuation")

    def __init__(
        self,
        account: Account,
        pocket: Pocket,
        profile: Profile,
        valuation: Valuation,
        now_ns: int,
        emit: Emit,
        money: Callable[[int], str],
        sale: Callable[[], Sequence[tuple[int, effects.LiquidationLeg]]],
    ) -> None:
        self.account = account
        self.pocket = pocket
        self.policy: CallPolicy = profile.policy
        self.valuation = valuation
        self.now_ns = now_ns
        self.emit = emit
        self.money = money
        self.sale = sale
        """What would be sold now: (minor units of the base currency, the leg) in the order of sale."""

    def say(self, kind: type[effects.Valued], **fields: object) -> None:
        """Emit an effect that carries the valuation."""
        figures = self.valuation.figures
        self.emit(self.account, kind, value=self.money(figures.value), debit=self.money(figures.debit), pocket=self.pocket.name, **fields)

    def call_id(self, call: Call) -> str:
        """Return ``<group>/call/<n>``."""
        return f"{self.account.id}/call/{call.number}"

    @property
    def shortfall(self) -> int:
        """What is missing to the restore level, 0 or more."""
        return max(self.policy.shortfall(self.valuation.figures), 0)


def guards_of(pocket: Pocket, policy: CallPolicy) -> list[Guard]:
    """Return every guard whose flip could matter to the pocket as it stands: within a box where none flips, nothing happens."""
    if not policy.callable:
        guards = [policy.warn, policy.bankrupt, policy.restore]
        if not pocket.liquidating:
            guards.append(policy.close_out)
        return guards
    guards = [policy.warn, policy.call, policy.bankrupt, policy.restore]
    if not pocket.liquidating:
        guards.append(policy.close_out)
        unpaid = pocket.unpaid
        if unpaid:
            guards.append(policy.short_of(unpaid + policy.tranche_step))
        elif pocket.suppressed:
            guards.append(policy.reaches_minimum())
    return guards


def settle(case: Case) -> None:
    """Bring the account to rest under the valuation."""
    pocket, policy, truth = case.pocket, case.policy, case.valuation.truth
    was_liquidating = pocket.liquidating
    for _ in range(8):
        before = (pocket.liquidating, pocket.pending_since_ns, pocket.suppressed, pocket.call_count, pocket.unpaid)
        if truth(policy.restore) is Truth.FALSE:
            pocket.liquidating = False
            _cure(case)
        if not pocket.liquidating and truth(policy.close_out) is Truth.TRUE:
            pocket.liquidating = True
        if pocket.liquidating or not policy.callable:
            pocket.pending_since_ns, pocket.suppressed = NEVER, False
        else:
            _watch(case)
        if before == (pocket.liquidating, pocket.pending_since_ns, pocket.suppressed, pocket.call_count, pocket.unpaid):
            break
    else:
        check(False, "an account comes to rest", account=case.account.id)
    if was_liquidating and not pocket.liquidating:
        pocket.liquidation_amount = 0
    _set_level(case)
    pocket.guards = guards_of(pocket, policy)
    pocket.truths = [truth(guard) for guard in pocket.guards]
    pocket.stale = Truth.UNDECIDED in pocket.truths
    if pocket.liquidating and not was_liquidating:
        demand_sale(case)


def _cure(case: Case) -> None:
    if not case.pocket.open_calls:
        return
    for call in case.pocket.calls:
        if call.open:
            call.happen(CallEvent.RESTORED)
            case.say(effects.CallCured, call=case.call_id(call), unpaid=case.money(call.unpaid))
    case.pocket.recount()


def _watch(case: Case) -> None:
    """Start, keep or end the persistence of the next call; issue a suppressed one at the item that reaches the minimum."""
    pocket, policy, truth = case.pocket, case.policy, case.valuation.truth
    breached = truth(policy.call)
    if breached is Truth.FALSE:
        pocket.pending_since_ns, pocket.suppressed = NEVER, False
    elif pocket.suppressed:
        if breached is Truth.TRUE and truth(policy.reaches_minimum()) is Truth.TRUE:
            pocket.suppressed = False
            _issue(case, case.shortfall)
    else:
        condition = _condition(case)
        if condition is Truth.FALSE:
            pocket.pending_since_ns = NEVER
        elif condition is Truth.TRUE and pocket.pending_since_ns == NEVER:
            pocket.pending_since_ns = case.now_ns


def _condition(case: Case) -> Truth:
    """Say whether what the next call waits for holds: the call level, and with calls unpaid an uncovered step beyond them."""
    truth = case.valuation.truth
    breached = truth(case.policy.call)
    unpaid = case.pocket.unpaid
    if breached is Truth.FALSE or not unpaid:
        return breached
    uncovered = truth(case.policy.short_of(unpaid + case.policy.tranche_step))
    # Both must hold: one that is false decides, whatever the other.
    return breached if uncovered is Truth.TRUE else uncovered


def _set_level(case: Case) -> None:
    pocket, policy, truth = case.pocket, case.policy, case.valuation.truth
    if truth(policy.bankrupt) is Truth.TRUE:
        level = Level.BANKRUPT
    elif pocket.liquidating:
        level = Level.LIQUIDATING
    elif policy.callable and truth(policy.call) is Truth.TRUE:
        level = Level.DEFICIT
    elif truth(policy.warn) is Truth.TRUE:
        level = Level.WARNING
    else:
        level = Level.HEALTHY
    previous = pocket.level
    if level != previous:
        pocket.level = level
        if level is Level.WARNING and previous is Level.HEALTHY:
            case.say(effects.MarginWarned)
        else:
            case.say(effects.MarginLevelChanged, level=level.name, previous=previous.name)


def _issue(case: Case, uncovered: int) -> None:
    pocket, policy = case.pocket, case.policy
    pocket.call_count += 1
    call = Call(
        number=pocket.call_count,
        amount=policy.rounded(uncovered),
        paid=0,
        issued_at_ns=case.now_ns,
        due_at_ns=case.now_ns + policy.due_after_ns,
        tranche=1 + pocket.open_calls,
    )
    pocket.calls.append(call)
    pocket.recount()
    pocket.pending_since_ns = NEVER
    case.say(
        effects.MarginCallIssued,
        call=case.call_id(call),
        amount=case.money(call.amount),
        shortfall=case.money(case.shortfall),
        due_at_ns=call.due_at_ns,
        tranche=call.tranche,
    )


def next_timer(pocket: Pocket, policy: CallPolicy) -> int | None:
    """Return the first clock (in ns) at which a timer of the account can be due, or None."""
    times = [call.due_at_ns + 1 for call in pocket.calls if call.open and call.deadline is Deadline.RUNNING]
    if pocket.pending_since_ns != NEVER:
        times.append(pocket.pending_since_ns + policy.persistence_ns)
    return min(times) if times else None


def run_timers(case: Case) -> None:
    """Fire what is due at the clock, by (time, kind, id), settling after each, until nothing is due."""
    pocket, policy = case.pocket, case.policy
    for _ in range(4 + 2 * len(pocket.calls)):
        due: list[tuple[int, str, int]] = [
            (call.due_at_ns, "call_due", call.number)
            for call in pocket.calls
            if call.open and call.deadline is Deadline.RUNNING and call.due_at_ns < case.now_ns
        ]
        matured = pocket.pending_since_ns + policy.persistence_ns
        if pocket.pending_since_ns != NEVER and matured <= case.now_ns and _condition(case) is Truth.TRUE:
            due.append((matured, "persistence", 0))
        if not due:
            return
        _, kind, number = min(due)
        if kind == "call_due":
            _pass_due(case, next(call for call in pocket.calls if call.number == number))
        else:
            _mature(case)
        settle(case)
    check(False, "timers come to an end", account=case.account.id)


def _pass_due(case: Case, call: Call) -> None:
    pocket = case.pocket
    fields = {"call": case.call_id(call), "unpaid": case.money(call.unpaid)}
    if case.valuation.truth(case.policy.restore) is Truth.UNDECIDED:
        call.happen(CallEvent.DUE_PASSED_UNDECIDED)
        case.say(effects.CallEscalated, **fields)
        return
    call.happen(CallEvent.DUE_PASSED)
    case.say(effects.CallExpired, **fields)
    if not pocket.liquidating:
        pocket.liquidating = True
        pocket.pending_since_ns, pocket.suppressed = NEVER, False
        _set_level(case)
        demand_sale(case)


def _mature(case: Case) -> None:
    """The condition held for the period: reopen what a bounce had cured, then call what is not covered."""
    pocket, policy = case.pocket, case.policy
    shortfall = case.shortfall
    bounced = [
        call
        for call in pocket.calls
        if call.outcome is Outcome.CURED and call.unpaid > 0 and case.now_ns <= call.issued_at_ns + policy.reopen_within_ns
    ]
    for call in sorted(bounced, key=lambda call: (call.due_at_ns, call.number)):
        if shortfall > pocket.unpaid:
            reopen(case, call, CallEvent.BREACHED_AGAIN_PART_PAID if call.paid else CallEvent.BREACHED_AGAIN, "breach")
    pocket.pending_since_ns = NEVER
    unpaid = pocket.unpaid
    if unpaid:
        if shortfall - unpaid >= policy.tranche_step:
            _issue(case, shortfall - unpaid)
    elif policy.is_called(shortfall):
        _issue(case, shortfall)
    else:
        pocket.suppressed = True
        case.say(effects.CallSuppressedBelowMinimum, shortfall=case.money(shortfall), minimum=case.money(policy.minimum_transfer))


def reopen(case: Case, call: Call, event: CallEvent, reason: str) -> None:
    """Open a closed call again at its old due time."""
    call.happen(event)
    case.pocket.recount()
    case.say(effects.CallReopened, call=case.call_id(call), unpaid=case.money(call.unpaid), due_at_ns=call.due_at_ns, reason=reason)


def named_call(case: Case, named: str) -> Call | None:
    """Return the call that an event names, None where it names none; a name that the account does not have is said."""
    if not named:
        return None
    found = next((call for call in case.pocket.calls if case.call_id(call) == named), None)
    if found is None:
        case.emit(case.account, effects.CallReferenceUnmatched, call=named)
    return found


def credit(case: Case, value: int, named: str) -> None:
    """Count money that settled: for the call that it names, then oldest due first.

    Args:
        value: minor units, after haircut or at face where it repaid a debit.
        named: the call id that the sender gave, or empty.
    """
    pocket = case.pocket
    target = named_call(case, named)
    order = sorted((call for call in pocket.calls if call.open), key=lambda call: (call.due_at_ns, call.number))
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
            case.emit(case.account, effects.CallReduced, call=case.call_id(call), credited=case.money(part), unpaid=case.money(call.unpaid))
        else:
            call.happen(CallEvent.SETTLED_WHOLE)
            case.emit(case.account, effects.CallMet, call=case.call_id(call), credited=case.money(part))
    pocket.recount()


def withdraw(case: Case, value: int) -> None:
    """Take money that left again off what it had paid, latest due first.

    A call that was met reopens if the account is short of its restore level and its reopening period runs.
    """
    pocket, policy = case.pocket, case.policy
    short = case.valuation.truth(policy.restore) is Truth.TRUE
    for call in sorted(pocket.calls, key=lambda call: (-call.due_at_ns, -call.number)):
        part = min(value, call.paid)
        if part <= 0:
            continue
        left = CallEvent.WITHDRAWN_PART if part < call.paid else CallEvent.WITHDRAWN_WHOLE
        if call.open:
            call.paid -= part
            call.happen(left)
        elif call.outcome is Outcome.MET and short and case.now_ns <= call.issued_at_ns + policy.reopen_within_ns:
            call.paid -= part
            reopen(case, call, left, "withdrawal")
        else:
            continue
        value -= part
    pocket.recount()


def demand_sale(case: Case) -> None:
    """Demand a sale, or lower the one that stands; never raise it, never below the minimum, never where nothing can be sold."""
    account, pocket, policy = case.account, case.pocket, case.policy
    legs = case.sale()
    amount = sum(part for part, _ in legs)
    standing = pocket.liquidation_amount
    if standing:
        if amount >= standing:
            return
        if amount < policy.liquidation_minimum:
            amount, legs = 0, ()
    elif amount == 0 or amount < policy.liquidation_minimum:
        return
    superseded = pocket.liquidation_number if standing else 0
    account.liquidation_count += 1
    pocket.liquidation_number = account.liquidation_count
    pocket.liquidation_amount = amount
    case.say(
        effects.LiquidationDue,
        number=pocket.liquidation_number,
        amount=case.money(amount),
        legs=tuple(leg for _, leg in legs),
        supersedes=superseded,
    )
