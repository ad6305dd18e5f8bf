"""How clients answer margin calls: a seeded script keyed by call id and clock. It drives a store's folds in memory to
see the calls.

With a venue, perpetuals are traded and liquidated too.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import count

from margin_stream.core.effect_book import Emitted
from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.decimals import canonical, parse_decimal
from margin_stream.schemas.effects import MarginCallIssued, decode_effect
from margin_stream.schemas.inputs import AnyInput, ClockTicked, CollateralMoved
from margin_stream.schemas.rules_versions import latest
from margin_stream.simulation.venue import Venue

MINUTE_NS = 60_000_000_000


def answers_to(call: MarginCallIssued, seed: int) -> list[tuple[int, str, bool]]:
    """Return how a call is answered: (when, amount, whether the call is named), in order of time; empty for no answer.

    Of a hundred calls about 40 are paid in full within ten hours, 15 in full without naming the call, 15 in two parts,
    10 too little, 8 too late, 12 not at all.
    """
    dice = int.from_bytes(sha256(f"{seed}/{call.call}".encode()).digest()[:8], "big")
    kind, dice = dice % 100, dice // 100
    wait = call.at_ns + (5 + dice % 600) * MINUTE_NS
    mantissa, exponent = parse_decimal(call.amount)
    cents = mantissa * 10 ** (exponent + 2)

    def text(part: int) -> str:
        return f"{part // 100}.{part % 100:02d}"

    if kind < 40:
        return [(wait, text(cents), True)]
    if kind < 55:
        return [(wait, text(cents), False)]
    if kind < 70:
        return [(wait, text(cents // 2), True), (wait + 90 * MINUTE_NS, text(cents - cents // 2), True)]
    if kind < 80:
        return [(wait, text(cents // 3), True)]
    if kind < 88:
        return [(call.due_at_ns + (1 + dice % 120) * MINUTE_NS, text(cents), True)]
    return []


def with_answers(events: Iterable[AnyInput], seed: int, source: str, venue: Venue | None = None) -> Iterator[AnyInput]:
    """Yield the events, and after each clock the answers that have come due by then.

    Args:
        events: a whole day's inputs in order, all valid.
        seed: of the script.
        source: of the answers, numbered from 1 in their own order.
        venue: trades and liquidates perpetuals at each clock, before the answers.
    """
    system = StoreFold(1, rules_version=latest())
    market = system.intake.market
    waiting: list[tuple[int, str, int, str, str, bool]] = []
    numbers = count(1)

    def listen(emitted: list[list[Emitted]]) -> None:
        for part in emitted[1:]:
            for row in part:
                effect = decode_effect(row.data)
                if isinstance(effect, MarginCallIssued):
                    for n, (at_ns, amount, named) in enumerate(answers_to(effect, seed)):
                        heapq.heappush(waiting, (at_ns, effect.call, n, effect.account, amount, named))
                if venue is not None:
                    venue.note(effect)

    for event in events:
        yield event
        clock = isinstance(event, ClockTicked)
        if clock:
            listen(system.fold())
        system.admission.item(event)
        if clock:
            listen(system.fold())
            now = market.clock_ns
            for trade in venue.act(system.accounts[0], now) if venue is not None else ():
                yield trade
                system.admission.item(trade)
            while waiting and waiting[0][0] <= now:
                _, call, _, account, amount, named = heapq.heappop(waiting)
                answer = CollateralMoved(
                    source=source,
                    source_seq=next(numbers),
                    event_time=now,
                    account=account,
                    asset=market.directory.assets[system.intake.accounts.entries[account].base].name,
                    amount_delta=canonical(*parse_decimal(amount)),
                    reason="answer",
                    call=call if named else "",
                )
                yield answer
                system.admission.item(answer)
