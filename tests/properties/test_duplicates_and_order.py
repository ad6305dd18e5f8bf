"""What a sender may do to the order of its items, and what comes of it.

*Copies* behind their original change nothing at all, down to the digests. *Feeds* only rise: of any order, what counts
is each item above all before it. *Books* may come in any order with any gaps: numbers decide nothing but identity.
Items of different accounts commute; so do all items of accounts that decide nothing (deposits without debt), across
quotes and clocks. A state digest is then the same, effects differ in nothing but their positions. What does not commute
is at the end: it shows that the laws are not empty.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.rules_versions import LATEST
from tests.counts import TIMES
from tests.days import INSTRUMENTS, Day, random_day, text
from tests.folding import fold, of_groups

seeds = st.integers(0, 10**9)


def law(examples: int) -> settings:
    return settings(max_examples=examples * TIMES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def a_day(seed: int, *, noisy: bool = True) -> list[bytes]:
    return random_day(seed, accounts=5, steps=60, noisy=noisy)


def source_of(line: bytes) -> tuple[str, int]:
    try:
        row = json.loads(line)
        return row["source"], row["source_seq"]
    except (ValueError, KeyError):
        return "", 0


def account_of(line: bytes) -> str:
    return str(json.loads(line).get("account", "")) if line.startswith(b"{") else ""


def without_positions(effects: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the effects of each group, in order, without where they were said."""
    found: dict[str, list[dict[str, Any]]] = {}
    for effect in of_groups(effects):
        found.setdefault(effect["id"].rpartition("/")[0], []).append(
            {k: v for k, v in effect.items() if k != "sequence"}
        )
    return found


@pytest.mark.slow(reason="many random days, each folded several times")
@law(300)
@given(seeds, seeds, st.integers(1, 10), st.sampled_from([1, 2, 7]))
def test_any_copies_behind_their_original_change_nothing(seed: int, how: int, most: int, partitions: int) -> None:
    """One to ten copies, of any line that came before: good or refused, of a feed or a book, or no event at all."""
    rng = Random(how)
    lines = a_day(seed)
    sent: list[bytes] = []
    for n, line in enumerate(lines):
        sent.append(line)
        for _ in range(rng.randint(1, most) if rng.randrange(4) == 0 else 0):
            sent.append(lines[rng.randint(0, n)])
    assert fold(sent, partitions, cuts=rng) == fold(lines)


@pytest.mark.slow(reason="many random days, each folded several times")
@law(150)
@given(seeds, seeds)
def test_of_a_feed_in_any_order_what_rises_counts(seed: int, how: int) -> None:
    """Exactly: the items above all that came before them. The others leave no trace."""
    rng = Random(how)
    lines = a_day(seed)
    for _ in range(rng.randint(1, 30)):
        line = lines.pop(rng.randrange(len(lines)))
        lines.insert(rng.randint(0, len(lines)), line)
    highest: dict[str, int] = {}
    rising = []
    for line in lines:
        source, number = source_of(line)
        if source in ("feed", "noise"):
            if number <= highest.get(source, -1):
                continue
            highest[source] = number
        rising.append(line)
    assert fold(lines) == fold(rising)


@pytest.mark.slow(reason="many random days, each folded several times")
@law(50)
@given(seeds, seeds)
def test_the_numbers_of_a_book_decide_nothing(seed: int, how: int) -> None:
    """Rising, falling, with gaps or without: the same accounts, the same effects at the same positions.

    (The directory keeps its numbers here: listings and activations are facts of the market as they came, numbers and
    all.)
    """
    rng = Random(how)
    lines = a_day(seed, noisy=False)
    numbers = iter(rng.sample(range(1000, 10**6), len(lines)))
    renumbered = [_renumbered(line, next(numbers)) if account_of(line) else line for line in lines]
    systems = [StoreFold(2, rules_version=LATEST), StoreFold(2, rules_version=LATEST)]
    for system, these in zip(systems, (lines, renumbered), strict=True):
        for line in these:
            system.admission.line(line)
        system.fold(compare_markets=True)
    first, second = (system.digests() for system in systems)
    assert first.effects == second.effects
    for one, other in zip(*(system.accounts for system in systems), strict=True):
        assert one.sums() == other.sums()
    assert systems[0].intake.market.digest() == systems[1].intake.market.digest()


def _renumbered(line: bytes, number: int) -> bytes:
    return json.dumps({**json.loads(line), "source_seq": number}).encode()


@pytest.mark.slow(reason="many random days, each folded several times")
@law(150)
@given(seeds, seeds)
def test_items_of_different_accounts_commute(seed: int, how: int) -> None:
    """Between two items of feeds or the directory, the accounts' items in any order that keeps each account's own."""
    rng = Random(how)
    shuffled: list[bytes] = []
    stretch: list[bytes] = []
    lines = a_day(seed, noisy=False)
    for line in lines:
        if account_of(line):
            stretch.append(line)
        else:
            shuffled += _interleaved(stretch, rng)
            stretch = []
            shuffled.append(line)
    shuffled += _interleaved(stretch, rng)
    (before, effects), (after, others) = fold(lines), fold(shuffled)
    assert after.state == before.state
    assert without_positions(others) == without_positions(effects)


def _interleaved(lines: list[bytes], rng: Random) -> list[bytes]:
    queues: dict[str, list[bytes]] = {}
    for line in lines:
        queues.setdefault(account_of(line), []).append(line)
    found = []
    while queues:
        name = rng.choice(sorted(queues))
        found.append(queues[name].pop(0))
        if not queues[name]:
            del queues[name]
    return found


@pytest.mark.slow(reason="many random days, each folded several times")
@law(100)
@given(seeds, seeds)
def test_deposits_without_debt_may_come_at_any_time(seed: int, how: int) -> None:
    """However late, across quotes, clocks and stale marks: nothing was decided without them."""
    day = Day()
    rng = Random(seed)
    day.opened(prices=bool(rng.randrange(4)))
    names = [f"A{n}" for n in range(4)]
    for name in names:
        day.account(name)
    start = len(day.lines)
    for _ in range(40):
        name, asset = rng.choice(names), rng.choice(("USDT", "BTC", "ETH", "XMR"))
        what = rng.randrange(4)
        if what < 2:
            day.money(name, text(rng.randrange(1, 10**6), 2), asset)
        elif what == 2:
            instrument = rng.choice(sorted(INSTRUMENTS))
            day.tick(instrument, text(rng.randrange(1, 10**7), INSTRUMENTS[instrument][2]))
        else:
            day.clock(rng.choice((1, 60, 400)))
    lines = day.lines
    feed = [line for line in lines[start:] if not account_of(line)]
    books = [line for line in lines[start:] if account_of(line)]
    rng = Random(how)
    rng.shuffle(books)
    merged = lines[:start]
    while feed or books:
        queue = feed if feed and (not books or rng.randrange(2)) else books
        merged.append(queue.pop(0))
    (before, effects), (after, others) = fold(lines), fold(merged)
    assert after.state == before.state
    assert without_positions(others) == without_positions(effects)


def opened() -> Day:
    day = Day().opened()
    day.account("A")
    return day


def test_under_one_number_the_first_content_counts() -> None:
    day = opened()
    day.money("A", "100")
    day._book -= 1
    day.money("A", "200")
    lines = [*day.lines[:-2], day.lines[-1], day.lines[-2]]
    assert fold(lines)[0].state != fold(day.lines)[0].state


def test_an_item_before_what_it_needs_is_refused_and_stays_refused() -> None:
    day = opened()
    day.account("B")
    day.money("B", "100")
    lines = [*day.lines[:-2], day.lines[-1], day.lines[-2]]
    system = StoreFold(1, rules_version=LATEST)
    assert [system.admission.line(line).value for line in lines][-2:] == ["refused", "accepted"]
    assert system.admission.line(day.lines[-1]).value == "duplicate"


def test_trades_of_one_account_do_not_commute() -> None:
    """Open cost is released in proportion and rounded down: which part was bought first shows."""
    day = opened()
    for quantity, price in (("0.3", "10000"), ("-0.1", "12000"), ("0.2", "11111.11")):
        day.trade("A", "BTCUSDT", quantity, price)
    lines = [*day.lines[:-2], day.lines[-1], day.lines[-2]]
    assert fold(lines)[0].state != fold(day.lines)[0].state


def test_an_item_that_is_late_past_a_decision_comes_too_late_for_it() -> None:
    """A deposit behind the clock at which a call matured does not undo the call: it pays it."""
    day = opened()
    day.money("A", "1", "BTC")
    day.money("A", "-25000")
    day.money("A", "5000")
    day.tick("BTCUSDT", "36000")
    day.tick("BTCUSDT", "34000")
    day.clock(60)
    at = next(n for n, line in enumerate(day.lines) if b'"5000"' in line)
    late = [*day.lines[:at], *day.lines[at + 1 :], day.lines[at]]
    kinds = [[effect["type"] for effect in fold(lines)[1]] for lines in (day.lines, late)]
    assert "margin_call_issued" not in kinds[0]
    assert kinds[1][-3:] == ["margin_call_issued", "call_met", "margin_level_changed"]
