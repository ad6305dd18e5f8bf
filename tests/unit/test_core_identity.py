"""The memory of a book's numbers, step by step beside a twin that keeps a plain list of runs; and the rows that are
written of it."""

from __future__ import annotations

from random import Random

import pytest

from margin_stream.core.intake import identity
from margin_stream.core.intake.identity import (
    BLOCK,
    HASH_BYTES,
    IDENTITY_WINDOW,
    BookSource,
    FeedSource,
    Seen,
    content_hash,
    flagged,
)

Run = list[int]
"""Start, count, and how many of the last hashes are held."""


def after(runs: list[Run], number: int, window: int) -> list[Run]:
    """Return the runs after a new number: joined where they touch, and never more hashes than the window."""
    lower = next((run for run in runs if run[0] + run[1] == number), None)
    upper = next((run for run in runs if run[0] == number + 1), None)
    whole = upper is not None and upper[1] == upper[2]
    if lower is not None and upper is not None:
        # Behind a gap in the hashes nothing is held: the lower run's are forgotten.
        made = [lower[0], lower[1] + 1 + upper[1], lower[2] + 1 + upper[2] if whole else upper[2]]
    elif lower is not None:
        made = [lower[0], lower[1] + 1, lower[2] + 1]
    elif upper is not None:
        made = [number, upper[1] + 1, upper[2] + 1 if whole else upper[2]]
    else:
        made = [number, 1, 1]
    found = sorted([[*run] for run in runs if run is not lower and run is not upper] + [made])
    surplus = sum(run[2] for run in found) - window
    if surplus > 0:
        surplus += window // 16
        for run in found:
            drop = min(run[2], surplus)
            run[2] -= drop
            surplus -= drop
    return found


def arrivals(seed: int) -> list[int]:
    """Return numbers, each once: rising with gaps, and some of the gaps filled late."""
    rng = Random(seed)
    late: list[int] = []
    found: list[int] = []
    for number in range(rng.randrange(3), 90):
        if rng.randrange(rng.choice((3, 9))) == 0:
            late.append(number)
        else:
            found.append(number)
        if late and rng.randrange(5) == 0:
            found.append(late.pop(rng.randrange(len(late))))
    rng.shuffle(late)
    return found + late + list(range(100, 130))


def content(number: int, other: int = 0) -> bytes:
    return content_hash(b"%d/%d" % (number, other))


def leaf(number: int, held: bytes) -> int:
    return int.from_bytes(held, "big") * (2 * number + 1)


@pytest.mark.parametrize("window", [1, 5, 16, 40, 64, 1000])
def test_runs_and_what_is_remembered_of_them_are_those_of_the_twin(window: int) -> None:
    for seed in range(12):
        book, runs, total = BookSource("b", window), [], 0
        seen: set[int] = set()
        for number in arrivals(seed):
            assert book.look(number, content(number)) is Seen.NEW
            book.take(number, content(number))
            runs = after(runs, number, window)
            seen.add(number)
            total += leaf(number, content(number))
            assert book.intervals() == [tuple(run) for run in runs]
            assert book.total == total
        held = {n for start, count, kept in runs for n in range(start + count - kept, start + count)}
        for number in range(140):
            known = Seen.DUPLICATE if number in held else Seen.NOT_COMPARED if number in seen else Seen.NEW
            assert book.look(number, content(number)) is known
            assert book.look(number, content(number, 1)) is (Seen.REUSED if known is Seen.DUPLICATE else known)
        assert book.recomputed_total() == (total if held == seen else None)


@pytest.mark.slow(reason="many cases, each folded anew")
@pytest.mark.parametrize("window", [5, 16, 40, 1000])
def test_every_row_that_differs_from_what_was_stored_is_written(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "BLOCK", 4)
    for seed in range(8):
        book = BookSource("b", window)
        stored: dict[int, bytes] = {}
        for n, number in enumerate(arrivals(seed)):
            book.take(number, content(number))
            rows = {block: book.block(block) for block in range(34)}
            held = sorted(
                k for start, count, kept in book.intervals() for k in range(start + count - kept, start + count)
            )
            for block, row in rows.items():
                assert row == b"".join(content(k) for k in held if k // 4 == block)
                assert block in book.changed or row == stored.get(block, b"")
            if n % 3 == 0:
                stored = rows
                book.changed.clear()
            else:
                stored = {block: stored.get(block, b"") for block in rows}
        restored = BookSource("b", window)
        restored.restore(book.intervals(), b"".join(book.block(block) for block in range(34)), {}, book.total)
        assert restored.intervals() == book.intervals()
        assert restored.total == book.total
        for number in range(130, 130 + 2 * min(window, 40)):
            restored.take(number, content(number))
            book.take(number, content(number))
            assert restored.intervals() == book.intervals()


def test_other_contents_of_a_number_are_kept_and_summed() -> None:
    book = BookSource("b")
    for number in (3, 4, 9):
        book.take(number, content(number))
    for number, other in ((3, 1), (9, 1), (3, 2)):
        assert book.look(number, content(number, other)) is Seen.REUSED
        book.take(number, content(number, other))
        assert book.look(number, content(number, other)) is Seen.DUPLICATE_OF_REFUSED
    assert {number: list(contents) for number, contents in book.others.items()} == {
        3: [flagged(content(3, 1)), flagged(content(3, 2))],
        9: [flagged(content(9, 1))],
    }
    assert book.intervals() == [(3, 2, 2), (9, 1, 1)]
    leaves = [leaf(number, content(number)) for number in (3, 4, 9)]
    leaves += [leaf(number, flagged(content(number, other))) for number, other in ((3, 1), (9, 1), (3, 2))]
    assert book.total == book.recomputed_total() == sum(leaves)


def test_a_fresh_source_has_seen_nothing() -> None:
    assert FeedSource("f").highest == -1
    assert FeedSource("f").name == BookSource("f").name == "f"
    book = BookSource("f")
    assert (book.intervals(), book.others, book.total, book.changed) == ([], {}, 0, set())
    assert (book.window, book.recomputed_total()) == (IDENTITY_WINDOW, 0)
    assert book.look(0, content(0)) is Seen.NEW
    book.take(0, content(0))
    assert book.intervals() == [(0, 1, 1)]
    assert (IDENTITY_WINDOW, BLOCK, HASH_BYTES) == (1_000_000, 1024, 16)
    assert len(content_hash(b"")) == 16


def test_numbers_go_to_rows_by_blocks_of_1024() -> None:
    book = BookSource("b")
    for number in (0, 1023, 1024, 5000):
        book.take(number, content(number))
    assert book.changed == {0, 1, 4}
    assert book.block(0) == content(0) + content(1023)
    assert book.block(1) == content(1024)
    assert book.block(2) == b""
