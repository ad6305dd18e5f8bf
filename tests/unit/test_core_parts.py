"""Small parts of the core, law by law."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from margin_stream.core.accounts.position import Position, notional
from margin_stream.core.calls.call import DEADLINE, OUTCOME, Call, CallEvent, Deadline, Outcome
from margin_stream.core.digests import SLOTS, partition_of, slot_of
from margin_stream.core.intake.identity import BookSource, Seen, content_hash
from tests.days import Day, random_day
from tests.folding import fold


@pytest.mark.slow(reason="many random sequences")
@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 10**6)), min_size=1, max_size=30), st.integers(-4, 2))
def test_realised_plus_unrealised_is_conserved(trades: list[tuple[int, int]], shift: int) -> None:
    position = Position()
    cash = 0
    for quantity, price in trades:
        cash += position.trade(quantity, price, shift)
        # What was paid is either still in the open cost, or was realised.
        assert cash == position.realised - position.open_cost
    assert position.quantity == sum(quantity for quantity, _ in trades)
    assert position.quantity != 0 or position.open_cost == 0


def test_a_partial_close_releases_its_share_rounded_down() -> None:
    position = Position()
    position.trade(3, 100, -2 + 2)
    position.open_cost = 100
    assert position.trade(-1, 40, 0) == 40
    assert (position.open_cost, position.realised) == (67, 7)


def test_notional_rounds_against_the_account() -> None:
    assert notional(-1005, -1) == -101
    assert notional(1005, -1) == 100


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("event", list(CallEvent))
def test_an_event_that_an_axis_does_not_list_changes_nothing_there(outcome: Outcome, event: CallEvent) -> None:
    call = Call(1, 100, 0, 0, 10, 1, Deadline.EXPIRED, outcome)
    moved = call.happen(event)
    assert call.deadline is Deadline.EXPIRED
    assert call.outcome is OUTCOME[outcome].get(event, outcome)
    assert moved is (event in OUTCOME[outcome])


def test_dead_ends_are_written_out() -> None:
    assert set(DEADLINE) == set(Deadline)
    assert set(OUTCOME) == set(Outcome)


def test_slots_map_to_partitions_by_range() -> None:
    for partitions in (1, 2, 7, 16):
        places = [partition_of(slot, partitions) for slot in range(SLOTS)]
        assert places == sorted(places)
        assert set(places) == set(range(partitions))
    assert all(0 <= slot_of(f"A-{n}") < SLOTS for n in range(1000))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**9))
def test_identities_are_what_a_plain_dictionary_says(seed: int) -> None:
    rng = Random(seed)
    book = BookSource("b", window=10**6)
    plain: dict[int, set[bytes]] = {}
    refused: set[tuple[int, bytes]] = set()
    for _ in range(400):
        sequence = rng.randrange(60)
        content = content_hash(bytes([rng.randrange(3)]))
        known = plain.get(sequence)
        expected = Seen.NEW if known is None else Seen.REUSED
        if known is not None and content in known:
            expected = Seen.DUPLICATE_OF_REFUSED if (sequence, content) in refused else Seen.DUPLICATE
        assert book.look(sequence, content) is expected
        if expected in (Seen.NEW, Seen.REUSED):
            book.take(sequence, content)
            plain.setdefault(sequence, set()).add(content)
            if expected is Seen.REUSED or rng.randrange(3) == 0:
                book.refuse(sequence, content)
                refused.add((sequence, content))
    assert book.recomputed_total() == book.total
    intervals = book.intervals()
    assert sorted(n for start, count, _ in intervals for n in range(start, start + count)) == sorted(plain)


def test_an_identity_older_than_the_window_is_a_duplicate_that_is_not_compared() -> None:
    book = BookSource("b", window=64)
    for sequence in range(200):
        book.take(sequence, content_hash(b"%d" % sequence))
    assert book.look(3, content_hash(b"other")) is Seen.NOT_COMPARED
    assert book.look(199, content_hash(b"other")) is Seen.REUSED
    assert book.look(199, content_hash(b"199")) is Seen.DUPLICATE


@pytest.mark.slow(reason="many random sequences")
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9))
def test_calls_balance(seed: int) -> None:
    """What is called is paid or unpaid, and never below zero; nothing is sold without a deficiency before."""
    _, effects = fold(random_day(seed, steps=200))
    called: dict[str, float] = {}
    for effect in effects:
        if effect["type"] == "margin_call_issued":
            called[effect["call"]] = float(effect["amount"])
        elif effect["type"] in ("call_reduced", "call_met"):
            called[effect["call"]] -= float(effect["credited"])
            if effect["type"] == "call_reduced":
                assert float(effect["unpaid"]) > 0
        if effect["type"] == "call_expired":
            assert effect["call"] in called


def test_a_deposit_never_hurts_and_money_for_a_call_is_counted_once() -> None:
    day = Day().opened()
    day.account("A")
    day.money("A", "20000")
    day.trade("A", "BTCUSDT", "1.5", "40000.00")
    day.tick("BTCUSDT", "36200.00")
    day.clock(60)
    day.money("A", "3000", call="A/call/1")
    day.money("A", "90000")
    _, effects = fold(day.lines)
    paid = [(e["type"], e.get("credited")) for e in effects if e["type"] in ("call_reduced", "call_met")]
    amount = next(e["amount"] for e in effects if e["type"] == "margin_call_issued")
    assert paid == [("call_reduced", "3000.00"), ("call_met", f"{float(amount) - 3000:.2f}")]
    assert effects[-1]["level"] == "HEALTHY"
