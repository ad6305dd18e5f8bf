"""Identity: which inputs were seen before. Decided once, by the intake fold.

A feed rises: at or below its highest number an item is a duplicate, unless it is newer by its own time: then its source
numbers anew, and it is refused until a person confirms that. A book may have gaps and late arrivals: the numbers
that were seen are kept as intervals, each with a 16-byte hash of the content seen under it; a number outside the window
of hashes is a duplicate that is not compared.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from enum import Enum
from hashlib import sha256
from typing import Any

HASH_BYTES = 16
IDENTITY_WINDOW = 1_000_000
"""So many identities of a book keep their content hash; the lowest numbers lose theirs first."""

BLOCK = 1024
"""Numbers a row of the intake's table: rows are written a block at a time."""


REFUSED_HELD = 10_000
"""So many of the latest refused numbers of a feed are held."""


class Seen(Enum):
    """What is known of an identity."""

    NEW = 1
    DUPLICATE = 2
    NOT_COMPARED = 3
    REUSED = 4
    MIXED = 5
    """Its source is no book."""
    RESTARTED = 6
    """Its number is old and its time is new: the feed numbers anew."""
    DUPLICATE_OF_REFUSED = 7


class FeedSource:
    """A source of quotes and clocks: its numbers only rise.

    What a feed sent is also ordered by (time, number), the time being the source's own: whatever lies at or below the
    newest such pair came before, or came too late.
    """

    __slots__ = ("fence", "highest", "name", "newest", "refused", "restarted")

    def __init__(self, name: str) -> None:
        self.name = name
        self.highest = -1
        self.newest = (-1, -1)
        """The highest (event time, number) of anything that took a number, accepted or refused."""
        self.fence = (-1, -1)
        """Whatever lies at or below it is a duplicate, by any number: what came before numbers were last confirmed to
        begin anew."""
        self.restarted = False
        """Its numbers begin anew, and nobody confirmed it yet."""
        self.refused: dict[int, None] = {}
        """The latest numbers that were refused, oldest first."""

    def look(self, number: int, event_time_ns: int) -> Seen:
        """Return what is known of an item: NEW, DUPLICATE, DUPLICATE_OF_REFUSED or RESTARTED."""
        pair = (event_time_ns, number)
        if pair > self.fence:
            if number > self.highest:
                return Seen.NEW
            if pair > self.newest:
                return Seen.RESTARTED
        return Seen.DUPLICATE_OF_REFUSED if number in self.refused else Seen.DUPLICATE

    def take(self, number: int, event_time_ns: int) -> None:
        """Note an item that is no duplicate."""
        if number > self.highest:
            self.highest = number
            self.restarted = False
        self.newest = max(self.newest, (event_time_ns, number))

    def refuse(self, number: int) -> None:
        """Note that the item of a number was refused."""
        self.refused.pop(number, None)
        self.refused[number] = None
        if len(self.refused) > REFUSED_HELD:
            del self.refused[next(iter(self.refused))]

    def restart(self) -> None:
        """Let the numbers begin anew; what came before stays a duplicate."""
        self.fence, self.highest, self.restarted = self.newest, -1, False

    def row(self) -> list[Any]:
        """Return the facts; what is as in the beginning is left out."""
        row: list[Any] = [self.name, self.highest, *self.newest]
        if self.fence != (-1, -1) or self.restarted or self.refused:
            row += [*self.fence, int(self.restarted), list(self.refused)]
        return row

    @staticmethod
    def of_row(
        name: str,
        highest: int,
        newest_ns: int,
        newest: int,
        fence_ns: int = -1,
        fence: int = -1,
        restarted: int = 0,
        refused: Sequence[int] = (),
    ) -> FeedSource:
        """Return the feed of a row."""
        found = FeedSource(name)
        found.highest, found.newest, found.fence = highest, (newest_ns, newest), (fence_ns, fence)
        found.restarted, found.refused = bool(restarted), dict.fromkeys(refused)
        return found


class Run:
    """Consecutive numbers that were seen, from ``start``; ``hashes`` holds those of the last of them (a pruned run
    holds fewer)."""

    __slots__ = ("count", "hashes", "start")

    def __init__(self, start: int, count: int, hashes: bytearray) -> None:
        self.start = start
        self.count = count
        self.hashes = hashes


class BookSource:
    """A source of facts: its numbers may come in any order, each once."""

    __slots__ = ("_held", "_runs", "_starts", "changed", "name", "others", "total", "window")

    def __init__(self, name: str, window: int = IDENTITY_WINDOW) -> None:
        self.name = name
        self.window = window
        self._runs: list[Run] = []
        self._starts: list[int] = []
        self.others: dict[int, dict[bytes, None]] = {}
        """Further contents that came under a number already taken (each was refused once): their hashes, flagged."""
        self.total = 0
        """The sum modulo 2**256 of what every identity and content adds to the digest."""
        self._held = 0
        self.changed: set[int] = set()
        """Blocks of numbers whose stored row is out of date."""

    def look(self, sequence: int, content: bytes) -> Seen:
        """Say what is known of a number with this content hash (16 bytes)."""
        run = self._run_of(sequence)
        if run is None:
            return Seen.NEW
        place = self._hash_place(run, sequence)
        if place < 0:
            return Seen.NOT_COMPARED
        known = bytes(run.hashes[place : place + HASH_BYTES])
        if known == content:
            return Seen.DUPLICATE
        if known == flagged(content) or flagged(content) in self.others.get(sequence, {}):
            return Seen.DUPLICATE_OF_REFUSED
        return Seen.REUSED

    def refuse(self, sequence: int, content: bytes) -> None:
        """Note that what was taken last, under this number and with this content, was refused."""
        if sequence in self.others:
            return
        run = self._run_of(sequence)
        place = -1 if run is None else self._hash_place(run, sequence)
        if run is not None and place >= 0:
            run.hashes[place : place + HASH_BYTES] = flagged(content)
        self.total += _leaf(sequence, flagged(content)) - _leaf(sequence, content)
        self.changed.add(sequence // BLOCK)

    def take(self, sequence: int, content: bytes) -> None:
        """Record a new number, or another content under a number that is taken."""
        self.total += _leaf(sequence, content)
        self.changed.add(sequence // BLOCK)
        runs = self._runs
        if runs:
            last = runs[-1]
            if sequence == last.start + last.count:
                last.hashes += content
                last.count += 1
                self._held += 1
                if self._held > self.window:
                    self._prune()
                return
        if self._run_of(sequence) is not None:
            # It is refused, always.
            self.others.setdefault(sequence, {})[flagged(content)] = None
            self.total += _leaf(sequence, flagged(content)) - _leaf(sequence, content)
            return
        self._insert(sequence, content)
        self._held += 1
        if self._held > self.window:
            self._prune()

    def _run_of(self, sequence: int) -> Run | None:
        runs = self._runs
        if not runs:
            return None
        last = runs[-1]
        if sequence >= last.start:
            return last if sequence < last.start + last.count else None
        place = bisect_right(self._starts, sequence) - 1
        if place < 0:
            return None
        run = runs[place]
        return run if sequence < run.start + run.count else None

    @staticmethod
    def _hash_place(run: Run, sequence: int) -> int:
        """Return where the hash of a number lies in its run, negative where it was pruned."""
        return (sequence - run.start - run.count) * HASH_BYTES + len(run.hashes)

    def _insert(self, sequence: int, content: bytes) -> None:
        place = bisect_right(self._starts, sequence)
        runs = self._runs
        before = runs[place - 1] if place else None
        after = runs[place] if place < len(runs) else None
        joins_after = after is not None and after.start == sequence + 1
        if before is not None and before.start + before.count == sequence:
            before.hashes += content
            before.count += 1
            if after is not None and joins_after:
                self._join(before, after)
                del runs[place], self._starts[place]
        elif after is not None and joins_after:
            # A run whose own oldest hashes were pruned cannot take an older one in front of them.
            whole = len(after.hashes) == after.count * HASH_BYTES
            after.start = self._starts[place] = sequence
            after.count += 1
            if whole:
                after.hashes[:0] = content
            else:
                self._held -= 1
        else:
            runs.insert(place, Run(sequence, 1, bytearray(content)))
            self._starts.insert(place, sequence)

    def _join(self, before: Run, after: Run) -> None:
        if len(after.hashes) == after.count * HASH_BYTES:
            before.hashes += after.hashes
        else:
            # What the lower run still holds lies below a gap in the hashes now and is forgotten, so its stored rows are
            # out of date too.
            forgotten, end = len(before.hashes) // HASH_BYTES, before.start + before.count
            self.changed.update(range((end - forgotten) // BLOCK, (end - 1) // BLOCK + 1))
            self._held -= forgotten
            before.hashes = after.hashes
        before.count += after.count

    def _prune(self) -> None:
        """Forget the hashes of the lowest numbers, a sixteenth of the window at a time once it is over-full by one."""
        surplus = self._held - self.window + self.window // 16
        for run in self._runs:
            held = len(run.hashes) // HASH_BYTES
            drop = min(held, surplus)
            if drop:
                self.changed.update(range(run.start // BLOCK, (run.start + run.count) // BLOCK + 1))
                del run.hashes[: drop * HASH_BYTES]
                self._held -= drop
                surplus -= drop
            if surplus <= 0:
                return

    def intervals(self) -> list[tuple[int, int, int]]:
        """Return (start, count, hashes held) of every run, in order."""
        return [(run.start, run.count, len(run.hashes) // HASH_BYTES) for run in self._runs]

    def block(self, number: int) -> bytes:
        """Return the held hashes of one block of numbers, in order of number, for its stored row."""
        low, high = number * BLOCK, (number + 1) * BLOCK
        parts = []
        for place in range(max(0, bisect_right(self._starts, low) - 1), bisect_left(self._starts, high)):
            run = self._runs[place]
            first = max(low, run.start + run.count - len(run.hashes) // HASH_BYTES)
            last = min(high, run.start + run.count)
            if first < last:
                start = self._hash_place(run, first)
                parts.append(bytes(run.hashes[start : start + (last - first) * HASH_BYTES]))
        return b"".join(parts)

    def restore(
        self, intervals: list[tuple[int, int, int]], hashes: bytes, others: dict[int, dict[bytes, None]], total: int
    ) -> None:
        """Set the whole state: runs, and the held hashes of all of them in order of number."""
        place = 0
        self._runs, self._starts = [], []
        for start, count, held in intervals:
            end = place + held * HASH_BYTES
            self._runs.append(Run(start, count, bytearray(hashes[place:end])))
            self._starts.append(start)
            place = end
        self._held = sum(held for _, _, held in intervals)
        self.others = others
        self.total = total

    def recomputed_total(self) -> int | None:
        """Return the sum over all identities from the hashes held; None where hashes were pruned and it cannot be
        recomputed."""
        total = 0
        for run in self._runs:
            if len(run.hashes) != run.count * HASH_BYTES:
                return None
            for n in range(run.count):
                total += _leaf(run.start + n, bytes(run.hashes[n * HASH_BYTES : (n + 1) * HASH_BYTES]))
        return total + sum(
            _leaf(sequence, content) for sequence, contents in self.others.items() for content in contents
        )


def _leaf(sequence: int, content: bytes) -> int:
    return int.from_bytes(content, "big") * (2 * sequence + 1)


def content_hash(canonical: bytes) -> bytes:
    """Return the 16 bytes by which an input's content is compared; the last bit is 0."""
    found = sha256(canonical).digest()
    return found[: HASH_BYTES - 1] + bytes((found[HASH_BYTES - 1] & 0xFE,))


def flagged(content: bytes) -> bytes:
    """Return a content hash with the last bit 1: that of an input that was refused."""
    return content[:-1] + bytes((content[-1] | 1,))
