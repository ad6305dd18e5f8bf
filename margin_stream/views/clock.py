"""A clock that stands: quotes come, by their own time ever later, and nothing falls due."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from margin_stream.core.intake.validation import CLOCK_JUMP_LIMIT_NS
from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.columns import TickColumns, ticks_of
from margin_stream.schemas.inputs import ClockTicked, PriceTicked
from margin_stream.schemas.times import SECOND_NS, format_time
from margin_stream.views.source import Items, Source

STANDING_S = 60
"""A clock stands where a quote is later than it by more than this."""


class StandingClock(NamedTuple):
    """A clock that stands."""

    clock_ns: int
    """0 where none came yet."""
    newest_ns: int
    """The newest event time of a quote since."""
    quotes: int
    """How many quotes came since."""

    def __str__(self) -> str:
        at = format_time(self.clock_ns) if self.clock_ns else "no moment: no clock_ticked came yet"
        return f"the clock stands at {at}, {self.quotes:,} quotes since, the newest of {format_time(self.newest_ns)}"


def newest_input_ns(folds: StoreFold) -> int:
    """Return the newest event time of any source."""
    feeds = next(fold for fold in folds.sets[0].folds if fold.name == "feeds")
    return max((int(row["newest_event_time_ns"]) for row in feeds.facts()), default=0)


def standing_clock(folds: StoreFold, source: Source) -> StandingClock | None:
    """Return the clock of a store if it stands.

    Args:
        folds: of the store.
        source: its journal, which is read only where something is later than the clock, from longer and longer ends
            until one has a clock in it.
    """
    clock_ns = folds.intake.market.clock_ns
    if newest_input_ns(folds) <= clock_ns + STANDING_S * SECOND_NS:
        return None
    reach = 4096
    while True:
        after = max(folds.sequence - reach, 0)
        found = _Scan()
        for part in source.parts(after):
            found.read(part.items)
        if found.clock_ns or after == 0:
            return found.standing()
        reach *= 4


def standing_in_journal(source: Source) -> StandingClock | None:
    """Return the clock of a store if it stands, from its journal alone: no table is opened."""
    found = _Scan()
    found.read(source.items())
    return found.standing()


class _Scan:
    """Reads a journal, or its end, for clocks and quotes."""

    def __init__(self) -> None:
        self.clock_ns = 0
        self.quotes = 0
        self.newest_ns = 0

    def read(self, records: Iterable[Items]) -> None:
        """Read records."""
        for item in (item for record in records for item in record.items):
            if isinstance(item, ClockTicked):
                self._clock(item)
            elif isinstance(item, PriceTicked | TickColumns):
                times = (
                    [tick.event_time for tick in ticks_of(item)] if isinstance(item, TickColumns) else [item.event_time]
                )
                self.quotes += len(times)
                self.newest_ns = max(self.newest_ns, *times)

    def _clock(self, item: ClockTicked) -> None:
        """Take a clock, unless it goes back or jumps unconfirmed: such a one was refused."""
        jump_ns = item.time - self.clock_ns
        if self.clock_ns == 0 or 0 <= jump_ns <= CLOCK_JUMP_LIMIT_NS or (jump_ns > 0 and item.confirmed_by):
            self.clock_ns, self.quotes, self.newest_ns = item.time, 0, 0

    def standing(self) -> StandingClock | None:
        """Return what was found, if the clock stands."""
        late = self.newest_ns > self.clock_ns + STANDING_S * SECOND_NS
        return StandingClock(self.clock_ns, self.newest_ns, self.quotes) if late else None
