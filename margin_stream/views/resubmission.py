"""What a feed that began its numbers anew sent before a person confirmed it: refused, kept, and here made ready to be
sent again.

An item that was refused as ``feed_numbers_restarted`` at sequence number P, and confirmed by the ``feed_restarted`` at
N, is sent as ``S@N`` with the number P: so whoever sends it again sends a duplicate. What the store has newer stays
where it is: a quote older than the one behind its instrument's mark, a clock that is not later than the clock.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

import msgspec

from margin_stream.core.sequenced import Marked
from margin_stream.core.store_fold import StoreFold
from margin_stream.errors import Error
from margin_stream.schemas.inputs import AnyInput, ClockTicked, FeedRestarted, MarkConfirmed, PriceTicked
from margin_stream.schemas.refusals import Refusal
from margin_stream.views.source import Place, source_of


class RestartNotConfirmed(Error, code="restart_not_confirmed"):
    """A feed numbers anew, and no ``feed_restarted`` followed."""


class Resubmission(NamedTuple):
    """What is to be sent again, and what is not."""

    events: list[AnyInput]
    """To be sent, in the order in which they came."""
    kept: int
    """How many inputs of the source were refused because it numbered anew."""
    older: int
    """Of them: the store has a newer quote or clock."""
    unconfirmed: int
    """Of them: no ``feed_restarted`` followed yet."""


def resubmission(place: Place, source: str) -> Resubmission:
    """Return what a source sent while its numbers were refused, ready to be sent again.

    Args:
        place: the store.
        source: the feed's name.

    Raises:
        RestartNotConfirmed: something is kept, and nothing of it was confirmed.
    """
    reader = source_of(place)
    folds = StoreFold(1, only="", rules_version=reader.rules_version)
    intake = folds.intake
    kept: list[tuple[int, PriceTicked | ClockTicked]] = []
    restarts: list[int] = []
    quoted_ns: dict[int, int] = {}
    """Instrument -> event time of what became its mark."""
    for record in reader.items():
        times: dict[int, int] = {}
        for item in record.items:
            for event, single in folds.admission.singles(item):
                counts = folds.admission.item(single)
                if counts.accepted and isinstance(event, PriceTicked | MarkConfirmed):
                    times[intake.sequence] = event.event_time
                elif counts.accepted and isinstance(event, FeedRestarted) and event.feed == source:
                    restarts.append(intake.sequence)
                elif counts.refused and isinstance(event, PriceTicked | ClockTicked) and event.source == source:
                    assert intake.last_refusal is not None
                    if intake.last_refusal[0] is Refusal.FEED_NUMBERS_RESTARTED:
                        kept.append((intake.sequence, event))
        for routed in intake.take()[1].items:
            if isinstance(routed, Marked):
                quoted_ns[routed.instrument] = times[routed.sequence]
        intake.book.drain()
    found = Resubmission([], len(kept), 0, 0)
    if kept and (not restarts or restarts[-1] < kept[0][0]):
        raise RestartNotConfirmed(f"{source}: no feed_restarted followed what was refused", input=source)
    directory = intake.market.directory
    for sequence, event in kept:
        after = bisect_right(restarts, sequence)
        if after == len(restarts):
            found = found._replace(unconfirmed=found.unconfirmed + 1)
            continue
        if isinstance(event, ClockTicked):
            older = event.time <= intake.market.clock_ns
        else:
            instrument = directory.instrument_by_name.get(event.instrument)
            older = instrument is not None and event.event_time < quoted_ns.get(instrument.number, -1)
        if older:
            found = found._replace(older=found.older + 1)
        else:
            found.events.append(
                msgspec.structs.replace(
                    event,
                    source=f"{source}@{restarts[after]}",
                    source_seq=sequence,
                    corrects=f"{source}#{event.source_seq}",
                )
            )
    return found
