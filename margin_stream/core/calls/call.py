"""Margin calls: one small table an axis, dead ends written out, and what a call remembers.

The axes are independent: a call is *expired* on one and can still be *met* on another. An event that an axis does not
list for a state is illegal there: it changes nothing.
"""

from __future__ import annotations

from enum import IntEnum


class CallEvent(IntEnum):
    """What can happen to a call after its issue."""

    SETTLED_PART = 1
    """Money that settled paid part of what is unpaid."""
    SETTLED_WHOLE = 2
    """Money that settled paid all that is unpaid."""
    RESTORED = 3
    """The account is back at its restore level."""
    BREACHED_AGAIN = 4
    """The account breached again within the reopening period of the issue; nothing of the call is paid."""
    BREACHED_AGAIN_PART_PAID = 5
    """The same, and part of the call is paid."""
    WITHDRAWN_PART = 6
    """Some of the money that had paid the call was withdrawn again."""
    WITHDRAWN_WHOLE = 7
    """All of the money that had paid the call was withdrawn again."""
    DUE_PASSED = 8
    """The due time passed and the shortfall is decided."""
    DUE_PASSED_UNDECIDED = 9
    """The due time passed and the shortfall is undecided."""


class Deadline(IntEnum):
    """The axis of the due time."""

    RUNNING = 0
    EXPIRED = 1
    ESCALATED = 2


class Outcome(IntEnum):
    """The axis of what came of the call."""

    OPEN = 0
    PARTIALLY_MET = 1
    MET = 2
    CURED = 3


DEADLINE: dict[Deadline, dict[CallEvent, Deadline]] = {
    Deadline.RUNNING: {CallEvent.DUE_PASSED: Deadline.EXPIRED, CallEvent.DUE_PASSED_UNDECIDED: Deadline.ESCALATED},
    Deadline.EXPIRED: {},
    Deadline.ESCALATED: {},
}

OUTCOME: dict[Outcome, dict[CallEvent, Outcome]] = {
    Outcome.OPEN: {
        CallEvent.SETTLED_PART: Outcome.PARTIALLY_MET,
        CallEvent.SETTLED_WHOLE: Outcome.MET,
        CallEvent.RESTORED: Outcome.CURED,
    },
    Outcome.PARTIALLY_MET: {
        CallEvent.SETTLED_PART: Outcome.PARTIALLY_MET,
        CallEvent.SETTLED_WHOLE: Outcome.MET,
        CallEvent.RESTORED: Outcome.CURED,
        CallEvent.WITHDRAWN_PART: Outcome.PARTIALLY_MET,
        CallEvent.WITHDRAWN_WHOLE: Outcome.OPEN,
    },
    Outcome.MET: {
        CallEvent.WITHDRAWN_PART: Outcome.PARTIALLY_MET,
        CallEvent.WITHDRAWN_WHOLE: Outcome.OPEN,
    },
    Outcome.CURED: {
        CallEvent.BREACHED_AGAIN: Outcome.OPEN,
        CallEvent.BREACHED_AGAIN_PART_PAID: Outcome.PARTIALLY_MET,
        CallEvent.SETTLED_PART: Outcome.CURED,
        CallEvent.SETTLED_WHOLE: Outcome.MET,
    },
}


class Call:
    """One margin call. Amounts are minor units of the account's base currency."""

    __slots__ = ("amount", "deadline", "due_at_ns", "issued_at_ns", "number", "outcome", "paid", "tranche")

    def __init__(
        self,
        number: int,
        amount: int,
        paid: int,
        issued_at_ns: int,
        due_at_ns: int,
        tranche: int,
        deadline: int = Deadline.RUNNING,
        outcome: int = Outcome.OPEN,
    ) -> None:
        self.number = number
        self.amount = amount
        self.paid = paid
        self.issued_at_ns = issued_at_ns
        self.due_at_ns = due_at_ns
        self.tranche = tranche
        self.deadline = Deadline(deadline)
        self.outcome = Outcome(outcome)

    @property
    def open(self) -> bool:
        """The call still demands something, whatever became of its due time."""
        return self.outcome <= Outcome.PARTIALLY_MET

    @property
    def overdue(self) -> bool:
        """The call still demands something, and its due time has passed."""
        return self.open and self.deadline is not Deadline.RUNNING

    @property
    def unpaid(self) -> int:
        """What is left of the amount after the money that settled."""
        return self.amount - self.paid

    def happen(self, event: CallEvent) -> bool:
        """Move each axis that lists the event; return whether any does."""
        deadline = DEADLINE[self.deadline].get(event)
        outcome = OUTCOME[self.outcome].get(event)
        if deadline is not None:
            self.deadline = deadline
        if outcome is not None:
            self.outcome = outcome
        return deadline is not None or outcome is not None
