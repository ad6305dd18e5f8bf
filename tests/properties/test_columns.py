"""Ticks in columns are the ticks one by one: verdicts, refusals, marks, positions, digests; and every way into a system
is the same way."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from margin_stream.core.intake.admission import COUNT_OF, Counts
from margin_stream.core.intake.fold import Verdict
from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.binary import canonical_bytes, encode
from margin_stream.schemas.columns import ABSENT, TickColumns, columns_of, pack, ticks_of
from margin_stream.schemas.decimals import canonical
from margin_stream.schemas.inputs import PriceTicked
from margin_stream.schemas.ndjson import decode_line
from margin_stream.schemas.rules_versions import LATEST
from tests.days import Day, random_day

NAMES = ("BTCUSDT", "ETHUSDT", "XMRBTC", "USDT", "NOPE")
USUAL = {"BTCUSDT": (4_000_000, -2), "ETHUSDT": (300_000, -2), "XMRBTC": (8_000, -6), "USDT": (1, 0), "NOPE": (1, 0)}


def prepared(clock: bool = True) -> StoreFold:
    day = Day()
    day.directory()
    if clock:
        day.clock()
    day.account("A")
    system = StoreFold(2, rules_version=LATEST)
    for line in day.lines:
        assert system.admission.line(line) is Verdict.ACCEPTED
    return system


def some_ticks(rng: Random, source: str) -> list[PriceTicked]:
    found = []
    number = rng.randrange(5)
    for _ in range(rng.randint(2, 40)):
        number += rng.choice((1, 1, 1, 2, 0, -1, -3))
        name = rng.choice(NAMES[: rng.choice((3, 3, 5))])
        mantissa, exponent = USUAL[name]
        price = canonical(mantissa * rng.choice((1000, 1010, 990, 1000, 1500, 0, -1000)) // 1000, exponent)
        if rng.randrange(12) == 0:
            price = canonical(rng.choice((2**62, 2**62 - 1, -(2**62), 2**60 + 7, 1)), exponent)
        quotes = {
            side: None if rng.randrange(5) else canonical(mantissa + rng.randint(-3, 3), exponent)
            for side in ("bid", "ask")
        }
        found.append(
            PriceTicked(
                source=source, source_seq=max(number, 0), event_time=number + 7, instrument=name, price=price, **quotes
            )
        )
    return found


def test_a_quote_with_too_many_places_leaves_the_others_of_its_batch_alone() -> None:
    first, second = prepared(), prepared()
    ticks = [
        PriceTicked(source="feed", source_seq=100 + n, event_time=0, instrument="BTCUSDT", price=price)
        for n, price in enumerate(((40_000, 0), (40_000_001, -3), (40_100, 0)))
    ]
    together = columns_of(ticks)
    assert together is not None
    assert one_by_one(second, ticks) == Counts(2, 0, 1)
    assert first.admission.item(together) == Counts(2, 0, 1)


def one_by_one(system: StoreFold, ticks: list[PriceTicked]) -> Counts:
    counts = Counts()
    for tick in ticks:
        counts = counts.plus(COUNT_OF[system.intake.offer(tick, canonical_bytes(tick))])
    return counts


def same(first: StoreFold, second: StoreFold) -> None:
    assert first.intake.digest() == second.intake.digest()
    assert (first.intake.accepted, first.intake.refused) == (second.intake.accepted, second.intake.refused)
    assert first.fold(compare_markets=True) == second.fold(compare_markets=True)
    assert first.digests() == second.digests()


@pytest.mark.slow(reason="many random days, each folded several times")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**9))
def test_columns_are_their_ticks_one_by_one(seed: int) -> None:
    rng = Random(seed)
    clock = rng.randrange(6) > 0
    columns_first, plain = prepared(clock), prepared(clock)
    for _ in range(3):
        # "book" is a book: its quotes are refused, each once.
        ticks = some_ticks(rng, rng.choice(("feed", "feed", "feed", "other", "book")))
        columns = columns_of(ticks)
        if columns is not None:
            assert ticks_of(columns) == ticks
            plain.intake.last_refusal = columns_first.intake.last_refusal = None
            assert columns_first.admission.item(columns) == one_by_one(plain, ticks)
            assert columns_first.intake.last_refusal == plain.intake.last_refusal
    same(columns_first, plain)


def columns(
    prices: list[int],
    exponent: int,
    *,
    name: str = "BTCUSDT",
    bids: list[int] | None = None,
    asks: list[int] | None = None,
) -> TickColumns:
    return TickColumns(
        source="feed",
        instruments=(name,),
        exponents=(exponent,),
        index=pack("H", [0] * len(prices)),
        sequence=pack("q", [100 + n for n in range(len(prices))]),
        time=pack("q", [0] * len(prices)),
        price=pack("q", prices),
        bid=pack("q", bids) if bids else b"",
        ask=pack("q", asks) if asks else b"",
    )


@pytest.mark.parametrize(
    ("prices", "exponent", "refused"),
    [
        ([4_000_000], -2, None),
        ([40_000], 0, None),
        ([4], 4, None),
        ([40_000_000], -3, None),
        ([40_000_001], -3, "price: BTCUSDT has 2 decimal places"),
        ([2**62], -2, "price: within 2**62 units of the price scale"),
        ([-(2**62)], -2, "price: within 2**62 units of the price scale"),
        ([2**62 - 1], -2, None),
        ([5 * 10**17], 0, "price: within 2**62 units of the price scale"),
        ([1], 70, "price: within 2**62 units of the price scale"),
    ],
)
def test_a_mantissa_and_an_exponent_are_the_price_that_they_spell(
    prices: list[int], exponent: int, refused: str | None
) -> None:
    system = prepared()
    if (prices, exponent) == ([40_000_000], -3):
        # A decimal with a trailing zero is not canonical, and never written so.
        prices, exponent = [4_000_000], -2
    accepted = system.intake.offer_columns(columns(prices, exponent))
    assert accepted == ((0, 0, 1) if refused else (1, 0, 0))
    if refused:
        assert system.intake.last_refusal is not None
        assert system.intake.last_refusal[1] == refused
    else:
        assert system.intake.market.prices[1] == (4_000_000 if prices[0] < 2**61 else prices[0])


@pytest.mark.parametrize(
    ("bids", "asks", "crossed"),
    [
        ([4_000_001], [4_000_000], True),
        ([4_000_000], [4_000_000], False),
        ([4_000_001], [ABSENT], False),
        ([ABSENT], [3_999_999], False),
        ([4_000_001], None, False),
        (None, [3_999_999], False),
    ],
)
def test_a_bid_above_the_ask_is_crossed_in_columns_as_elsewhere(
    bids: list[int] | None, asks: list[int] | None, crossed: bool
) -> None:
    system = prepared()
    assert system.intake.offer_columns(columns([4_000_000], -2, bids=bids, asks=asks)) == (1, 0, 0)
    own, *_ = system.fold()
    assert (b"crossed" in own[-1].data) is crossed
    assert system.intake.market.prices[1] == (0 if crossed else 4_000_000)


def test_columns_sent_again_are_duplicates_every_one() -> None:
    system = prepared()
    sent = columns([4_000_000, 4_000_100, 4_000_200], -2)
    assert system.admission.item(sent) == Counts(3, 0, 0)
    assert system.admission.item(sent) == Counts(0, 3, 0)
    assert system.intake.accepted == 3 + 10
    assert system.sequence == 3 + 10


def test_every_way_into_a_system_is_the_same_way() -> None:
    """Lines, decoded events, and raw items with their mark of format in front: of what can be decoded and what
    cannot."""
    lines = [*random_day(11, accounts=4, steps=60), b"not json", b"{}", b"not json"]
    by_line, by_event, by_raw = (
        StoreFold(2, rules_version=LATEST),
        StoreFold(2, rules_version=LATEST),
        StoreFold(2, rules_version=LATEST),
    )
    total = Counts()
    for line in lines:
        verdict = by_line.admission.line(line)
        total = total.plus(by_raw.admission.item(b"L" + line))
        if line[:5] in (b"not j", b"{}"):
            assert by_event.admission.item(b"L" + line) == COUNT_OF[verdict]
        else:
            assert by_event.admission.item(decode_line(line, LATEST)) == COUNT_OF[verdict]
    for system in (by_raw, by_event):
        assert system.intake.digest() == by_line.intake.digest()
    effects = [system.fold(compare_markets=True) for system in (by_line, by_event, by_raw)]
    assert effects[0] == effects[1] == effects[2]
    assert by_line.digests() == by_event.digests() == by_raw.digests()
    assert total == (by_line.intake.accepted, 1, by_line.intake.refused)
    assert by_line.sequence == sum(total) - 1


def test_foreign_items_are_taken_raw_and_those_that_are_none_are_known_by_their_bytes() -> None:
    system = prepared()
    tick = PriceTicked(source="feed", source_seq=500, event_time=0, instrument="BTCUSDT", price=(4_000_000, -2))
    for body, expected in (
        (encode(tick), Counts(1, 0, 0)),
        (encode(tick), Counts(0, 1, 0)),
        (encode(columns([1, 4_000_000], -2)), Counts(0, 2, 0)),
        (b"\xc1", Counts(0, 0, 1)),
        (b"\xc1", Counts(0, 1, 0)),
    ):
        assert system.admission.item(b"M" + body) == expected
    assert system.intake.sources.is_known_undecodable(b"\xc1")
    assert len(system.intake.sources.new_undecodable) == 1


def test_counts_add_up() -> None:
    assert Counts(1, 2, 3).plus(Counts(10, 20, 30)) == Counts(11, 22, 33)
    assert Counts() == (0, 0, 0)


def test_a_partition_ahead_of_the_intake_passes_over_what_it_has() -> None:
    """As after a crash between the checkpoints of the partitions and that of the intake."""
    lines = random_day(12, accounts=4, steps=60)
    whole, again = StoreFold(2, rules_version=LATEST), StoreFold(2, rules_version=LATEST)
    for line in lines[:80]:
        whole.admission.line(line)
    whole.fold()
    again.sets[1:] = whole.sets[1:]
    for n, line in enumerate(lines[:80]):
        again.admission.line(line)
        if n % 7 == 0:
            assert again.fold()[1:] == [[], []]
    assert again.fold()[1:] == [[], []]
    for line in lines[80:]:
        again.admission.line(line)
    again.fold(compare_markets=True)
    straight = StoreFold(1, rules_version=LATEST)
    for line in lines:
        straight.admission.line(line)
    straight.fold()
    assert again.digests() == straight.digests()
    assert again.sequence == straight.sequence == len(lines)
