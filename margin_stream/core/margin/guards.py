"""Guards: the tests of the lifecycle over value and debit, and what is known of them where marks are open."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

NO_LIMIT = 1 << 40
"""As a reach: no guard can flip that way."""
NO_BOUND = -1
"""As a highest price: the instrument was never marked, so nothing bounds it from above."""


class GuardState(Enum):
    """Whether a guard holds; UNDECIDED where a mark is missing or stale and could flip it."""

    FALSE = 0
    TRUE = 1
    UNDECIDED = 2


class Ratio(NamedTuple):
    """An exact fraction, not negative."""

    numerator: int
    denominator: int


class Guard(NamedTuple):
    """A test that breaches where ``value < ratio * debit + offset`` (or ``<=`` if inclusive).

    Never with a debit of 0 and a value that is not negative: who owes nothing and needs nothing is safe.

    Its *excess* is ``value * denominator - numerator * debit - offset * denominator``, one less if inclusive:
    it breaches exactly where the excess is negative.
    """

    ratio: Ratio
    offset: int
    """Minor units of the base currency."""
    inclusive: bool

    def excess(self, value: int, debit: int) -> int:
        """Return the excess at one valuation; at least 0 where nothing is owed or required and the value is not
        negative."""
        numerator, denominator = self.ratio
        excess = value * denominator - numerator * debit - self.offset * denominator - self.inclusive
        return max(excess, 0) if debit == 0 and value >= 0 else excess


Span = tuple[int | None, int | None]
"""Least and greatest excess; None where there is no bound."""


def guard_state_of(span: Span) -> GuardState:
    """Return what a span of excess states of its guard."""
    least, greatest = span
    if greatest is not None and greatest < 0:
        return GuardState.TRUE
    if least is not None and least >= 0:
        return GuardState.FALSE
    return GuardState.UNDECIDED
