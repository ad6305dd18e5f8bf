"""The memory of a book's numbers, against a plain one: any order, any window, and restored from the rows of any
checkpoints."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from margin_stream.core.intake import identity
from margin_stream.core.intake.fold import IntakeFold
from margin_stream.core.intake.identity import HASH_BYTES, BookSource, Seen, content_hash
from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.rules_versions import LATEST
from tests.counts import TIMES
from tests.days import Day

BLOCK = 4
"""Small, so that a run of numbers lies in several rows."""

arrivals = st.lists(
    st.tuples(st.integers(0, 79), st.sampled_from([b"first", b"first", b"first", b"other", b"third"]), st.booleans()),
    max_size=60,
)


class Plain:
    """What docs/rules.md and the design say: every number once; the contents seen under it, while it is remembered."""

    def __init__(self) -> None:
        self.contents: dict[int, set[bytes]] = {}
        self.first: dict[int, bytes] = {}

    def look(self, number: int, content: bytes) -> Seen:
        if number not in self.contents:
            return Seen.NEW
        return Seen.DUPLICATE if content in self.contents[number] else Seen.REUSED


class Rows:
    """The rows of a table: those that a book calls changed are written at a checkpoint, as the intake does."""

    def __init__(self) -> None:
        self.blocks: dict[int, bytes] = {}

    def write(self, book: BookSource) -> None:
        for block in sorted(book.changed):
            self.blocks[block] = book.block(block)
        book.changed.clear()

    def restored(self, book: BookSource) -> BookSource:
        again = BookSource(book.name, book.window)
        whole = b"".join(self.blocks[block] for block in sorted(self.blocks))
        assert len(whole) == HASH_BYTES * sum(held for _, _, held in book.intervals())
        again.restore(book.intervals(), whole, {number: dict(seen) for number, seen in book.others.items()}, book.total)
        return again


@pytest.mark.slow(reason="many random days, each folded several times")
@settings(max_examples=250 * TIMES, deadline=None)
@given(st.integers(0, 60), st.integers(0, 8), st.integers(1, 90), st.booleans(), arrivals)
def test_any_order_of_numbers_is_told_apart_and_survives_any_checkpoint(
    gap: int, late: int, window: int, often: bool, then: list[tuple[int, bytes, bool]]
) -> None:
    """Numbers in order but for a gap, then the gap in order, then anything."""
    missing = range(gap, gap + late)
    offered = (
        [(n, b"first", often) for n in range(80) if n not in missing] + [(n, b"first", True) for n in missing] + then
    )
    before, identity.BLOCK = identity.BLOCK, BLOCK
    try:
        book, plain, rows = BookSource("b", window), Plain(), Rows()
        for number, text, checkpoint in offered:
            content = content_hash(text)
            seen, expected = book.look(number, content), plain.look(number, content)
            if expected is Seen.DUPLICATE and content != plain.first[number]:
                # A further content under a number is always refused.
                expected = Seen.DUPLICATE_OF_REFUSED
            # What lies outside the window is known and not compared; nothing that is new is ever taken for known, or
            # the other way.
            assert seen is expected or (seen is Seen.NOT_COMPARED and expected is not Seen.NEW)
            if seen in (Seen.NEW, Seen.REUSED):
                book.take(number, content)
                plain.contents.setdefault(number, set()).add(content)
                plain.first.setdefault(number, content)
            held = sum(held for _, _, held in book.intervals())
            assert held <= window
            if checkpoint:
                rows.write(book)
                book = rows.restored(book)
        assert {n for start, count, _ in book.intervals() for n in range(start, start + count)} == set(plain.contents)
        if window >= 80:
            assert book.recomputed_total() == book.total
    finally:
        identity.BLOCK = before


def test_a_checkpoint_after_a_closed_gap_can_be_restored() -> None:
    """Numbers 1000 to 1029 come late, when the hashes above them are forgotten already; a checkpoint lies in between.

    The lower run forgot its hashes when the gap closed, and its row stood as it was: the checkpoint could not be loaded
    any more.
    """
    window = 2000
    day = Day()
    day.directory()
    day.clock()
    day.account("A")
    system = StoreFold(1, rules_version=LATEST)
    system.intake.sources.window = window
    rows: dict[bytes, bytes] = {}

    def checkpoint() -> None:
        rows.update(system.intake.rows())
        system.intake.mark_stored()

    def money(first: int, last: int) -> None:
        for number in range(first, last + 1):
            day._book = number - 1
            day.money("A", "1")
            assert system.admission.line(day.lines[-1]).value == "accepted"

    for line in day.lines:
        system.admission.line(line)
    money(day._book + 1, 999)
    money(1030, 5000)
    checkpoint()
    money(1000, 1023)
    checkpoint()
    money(1024, 1029)
    checkpoint()
    restored = IntakeFold(1, rules_version=LATEST, window=window)
    restored.restore(system.sequence, sorted(rows.items()))
    restored.book = system.intake.book
    assert restored.digest() == system.intake.digest()


def test_a_quote_of_a_book_under_a_forgotten_number_is_a_duplicate_however_often_it_comes() -> None:
    """It was refused anew each time, so the same file sent twice made the journal longer."""
    day = Day()
    day.directory()
    day.clock()
    day.account("A")
    day._add("price_ticked", "book", 900, instrument="BTCUSDT", price="40000")
    quote = day.lines[-1]
    day._book = 999
    for _ in range(60):
        day.money("A", "1")
    system = StoreFold(1, rules_version=LATEST)
    system.intake.sources.window = 16
    assert [system.admission.line(line).value for line in day.lines].count("refused") == 1
    position = system.sequence
    assert [system.admission.line(quote).value for _ in range(3)] == ["duplicate"] * 3
    assert system.intake.sources.not_compared == 3
    assert {system.admission.line(line).value for line in day.lines} == {"duplicate"}
    assert system.sequence == position
