"""When accounts are to be looked at again: one timer an account, the next of its calls and conditions."""

from __future__ import annotations

import heapq


class Timers:
    """The next due time of each account that has one."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []
        self._armed: dict[int, int] = {}
        self._overdue: dict[int, None] = {}
        """Accounts with a timer that is due and was not decided; looked at again at every clock."""

    def arm(self, account: int, due_ns: int | None, clock_ns: int) -> None:
        """Set the timer of an account in place of the one before; None for none."""
        if due_ns is None:
            self._armed.pop(account, None)
            self._overdue.pop(account, None)
        elif due_ns <= clock_ns:
            # Due, and not fired: undecided, or armed by the item itself. The next clock asks again.
            self._armed.pop(account, None)
            self._overdue[account] = None
        elif self._armed.get(account) != due_ns:
            self._armed[account] = due_ns
            heapq.heappush(self._heap, (due_ns, account))

    def due(self, clock_ns: int) -> dict[int, None]:
        """Return the accounts whose timer is due; it is to be armed anew."""
        heap, overdue = self._heap, self._overdue
        while heap and heap[0][0] <= clock_ns:
            due_ns, account = heapq.heappop(heap)
            if self._armed.get(account) == due_ns:
                del self._armed[account]
                overdue[account] = None
        if overdue:
            self._overdue = {}
        return overdue
