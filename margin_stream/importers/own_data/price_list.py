"""Prices: each row is a quote, and a clock comes before the first quote of each time."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter

from margin_stream.core.intake.validation import CLOCK_JUMP_LIMIT_NS
from margin_stream.core.store_fold import StoreFold
from margin_stream.importers.own_data.directory import Listings, too_fine
from margin_stream.importers.own_data.forms import Rows
from margin_stream.importers.own_data.plan import Plan
from margin_stream.schemas.decimals import parse_pair
from margin_stream.schemas.inputs import ClockTicked, PriceTicked
from margin_stream.schemas.times import DAY_NS, format_time


def plan_of(
    rows: Rows, folds: StoreFold, source: str, listings: Listings, *, now_ns: int, confirmed_by: str = ""
) -> Plan:
    """Return the quotes and clocks of some files of prices.

    Args:
        rows: of the files.
        folds: of the store.
        source: of the quotes; what it sent before is a duplicate.
        listings: takes the instruments that are new.
        now_ns: the present; a price of later than tomorrow is none.
        confirmed_by: who confirms that the clock moves by more than eight days at once.
    """
    plan = Plan(source)
    clock_ns = folds.intake.market.clock_ns
    again = source in folds.intake.sources.feeds
    taken = []
    for row in rows.rows:
        wrong = listings.instrument(row)
        if wrong is None:
            name = row.texts["instrument"]
            fine = [too_fine(row, column, listings.scales(name)[0], name) for column in ("price", "bid", "ask")]
            wrong = next(filter(None, fine), None)
        if wrong is None and row.time_ns > now_ns + DAY_NS:
            what = f"{format_time(row.time_ns)} lies in the future"
            wrong = row.wrong("time", what, "is day and month, the unit, or --zone another?")
        if wrong is None and row.time_ns < clock_ns and not again:
            what = f"{format_time(row.time_ns)} lies before the store's clock, {format_time(clock_ns)}"
            wrong = row.wrong("time", what, "import files in order of time; is --zone another?")
        if wrong is None:
            taken.append(row)
        else:
            plan.problems.append(wrong)
    plan.events += listings.events
    taken.sort(key=attrgetter("time_ns", "number"))
    sequence = 0
    for time_ns, group in groupby(taken, key=attrgetter("time_ns")):
        quotes = list(group)
        confirmed = ""
        if clock_ns and time_ns - clock_ns > CLOCK_JUMP_LIMIT_NS and not again:
            confirmed = confirmed_by
            if not confirmed:
                days = (time_ns - clock_ns) // DAY_NS
                what = f"{days} days after {format_time(clock_ns)}, the time before"
                how = "is day and month, or the unit, another? --confirmed-by NAME takes the gap"
                plan.problems.append(quotes[0].wrong("time", what, how))
        sequence += 1
        plan.add(
            ClockTicked(source=source, source_seq=sequence, event_time=time_ns, time=time_ns, confirmed_by=confirmed),
            quotes[0],
        )
        clock_ns = max(time_ns, clock_ns)
        for row in quotes:
            sequence += 1
            bid, ask = (parse_pair(row.numbers[one]) if one in row.numbers else None for one in ("bid", "ask"))
            plan.add(
                PriceTicked(
                    source=source,
                    source_seq=sequence,
                    event_time=time_ns,
                    instrument=row.texts["instrument"],
                    price=parse_pair(row.numbers["price"]),
                    bid=bid,
                    ask=ask,
                ),
                row,
            )
    plan.facts |= {"quotes": len(taken), "listed": len(listings.events)}
    if taken:
        plan.facts |= {"from": format_time(taken[0].time_ns), "to": format_time(taken[-1].time_ns)}
    return plan
