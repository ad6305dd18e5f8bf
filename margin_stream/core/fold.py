"""What a fold is, and the folds that stand together: whoever drives folds (folder, topics, replay) knows only this.

A fold takes sequenced items in order and emits effects; nothing else decides. It declares what it reads: kinds of
items, or the effects that earlier folds of its set emitted at the same sequence number, or both. At one number the
folds of a set run in the order in which they are registered (``margin_stream.core.folds``): each gets the item, then
the effects of the folds before it, by group and number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import groupby
from typing import Any, ClassVar, Protocol

from margin_stream.core.checks import check
from margin_stream.core.digests import merged
from margin_stream.core.effect_book import EffectBook, Emitted
from margin_stream.core.sequenced import AnySequenced, Batch

Row = tuple[bytes, bytes]
"""Key and value."""
Spill = Callable[[list[Emitted]], None]
SPILL_EFFECTS = 10_000
"""So many effects of a batch are held before they are spilled, where they can be."""


class Rows(Protocol):
    """What a checkpoint stores: rows under a name."""

    @property
    def name(self) -> str:
        """Under which its rows are stored; lower-case letters, one of its kind in a set."""

    def rows(self) -> Iterator[Row]:
        """Yield the rows that changed since the last ``mark_stored``."""

    def mark_stored(self) -> None:
        """Take the changed rows for stored."""

    def restore(self, sequence: int, rows: Iterable[Row]) -> None:
        """Set the whole state from all rows, in order of key; only on a new one.

        Raises:
            Exception: of any kind, where the rows are not what ``rows`` yields.
        """

    def digest(self) -> bytes:
        """Return a digest of all that ``restore`` sets."""


class Fold(Rows, Protocol):
    """A pure fold."""

    @property
    def reads(self) -> tuple[type, ...]:
        """The kinds of sequenced items that ``apply`` takes."""

    @property
    def reads_effects(self) -> bool:
        """Whether ``follow`` takes the effects of earlier folds."""

    def apply(self, item: Any) -> None:
        """Fold one item of a kind that it reads; effects go into the book of its set."""

    def follow(self, effect: Emitted) -> None:
        """Fold an effect that an earlier fold emitted at the sequence number at which the set stands."""

    def market_digest(self) -> bytes:
        """Return the digest of the fold's copy of the market; empty where it keeps none."""

    def sums(self) -> Mapping[int, int]:
        """Return the slot sums that the state digest counts; empty for a fold outside it."""

    @property
    def measures(self) -> dict[str, str]:
        """The fields of ``facts`` that are numbers to be watched, and what each is; the first field of a row labels
        it."""

    def facts(self) -> Iterator[dict[str, Any]]:
        """Yield what can be asked of it, row by row; fields that end with ``_ns`` are moments."""


class FoldBase:
    """A fold that declares nothing; what a fold does not have it takes from here."""

    reads: ClassVar[tuple[type, ...]] = ()
    reads_effects: ClassVar[bool] = False
    measures: ClassVar[dict[str, str]] = {}

    def follow(self, effect: Emitted) -> None:
        """Nothing: it reads no effects."""

    def market_digest(self) -> bytes:
        """Return nothing: it keeps no market."""
        return b""

    def sums(self) -> Mapping[int, int]:
        """Return nothing: it is outside the state digest."""
        return {}

    def facts(self) -> Iterator[dict[str, Any]]:
        """Yield nothing."""
        return iter(())


class FoldSet:
    """Folds that stand at one sequence number and share a book; driven, stored and restored as one."""

    def __init__(
        self, folds: Sequence[Fold], book: EffectBook, given: Sequence[type] = (), source: Rows | None = None
    ) -> None:
        """
        Args:
            folds: in the order in which they run at one number.
            book: that they emit into.
            given: the kinds of items that the set is given.
            source: where the items come from, if it is stored with them and emits into the same book.
        """
        self.sequence = 0
        """The last sequence number folded."""
        self.book = book
        self.folds = tuple(folds)
        self.parts: tuple[Rows, ...] = (book, *folds) if source is None else (book, source, *folds)
        self._takers: dict[type, Callable[[Any], None]] = {}
        for fold in folds:
            for kind in fold.reads:
                check(kind in given, "a fold reads what its set is given", fold=fold.name, kind=kind.__name__)
                before = self._takers.get(kind)
                self._takers[kind] = fold.apply if before is None else _both(before, fold.apply)
        self._followed = any(fold.reads_effects for fold in folds)

    def apply(self, batch: Batch, spill: Spill | None = None) -> list[Emitted]:
        """Fold a batch and return the effects by (sequence number, group, number), those that are in the book already
        among them.

        Args:
            batch: of items.
            spill: takes effects, in order, while the batch is folded: a small batch may have very many. What is
                returned follows them.

        Raises:
            Fault: batches do not follow each other, or a copy of the market differs from the intake's.
        """
        check(batch.previous == self.sequence, "batches follow each other", expected=self.sequence, got=batch.previous)
        book = self.book
        earlier = book.drain()
        earlier.reverse()
        out = book.out
        takers = self._takers
        for item in batch.items:
            self.sequence = item.sequence
            start = len(out)
            if earlier or self._followed:
                self._close_earlier(earlier, item.sequence)
                start = len(out)
                while earlier and earlier[-1].sequence == item.sequence:
                    out.append(earlier.pop())
            if self._followed:
                self._step(item, start)
            else:
                take = takers.get(type(item))
                if take is not None:
                    take(item)
            if len(out) - start > 1:
                # A group's own effects are in order already; the sort is stable.
                out[start:] = sorted(out[start:], key=_by_group)
            if spill is not None and len(out) >= SPILL_EFFECTS:
                spill(book.drain())
                out = book.out
        self.sequence = batch.last
        if earlier:
            self._close_earlier(earlier, batch.last + 1)
        if batch.market_digest:
            same = all(fold.market_digest() in (b"", batch.market_digest) for fold in self.folds)
            check(same, "a partition's market is the intake's", sequence=self.sequence)
        return book.drain()

    def _close_earlier(self, earlier: list[Emitted], before: int) -> None:
        """Take up what the source emitted at numbers at which no item is; ``earlier`` has it, last first."""
        out = self.book.out
        while earlier and earlier[-1].sequence < before:
            start, sequence = len(out), earlier[-1].sequence
            while earlier and earlier[-1].sequence == sequence:
                out.append(earlier.pop())
            if self._followed:
                self._step(None, start)
            out[start:] = sorted(out[start:], key=_by_group)

    def _step(self, item: AnySequenced | None, start: int) -> None:
        """Run every fold at one number; the effects of this number begin at ``start``."""
        out = self.book.out
        for fold in self.folds:
            before = sorted(out[start:], key=_by_group) if fold.reads_effects else ()
            if item is not None and type(item) in fold.reads:
                fold.apply(item)
            for effect in before:
                fold.follow(effect)

    def state_sums(self) -> dict[int, int]:
        """Return the slot sums of all folds together."""
        return merged(fold.sums() for fold in self.folds)

    # ---- as a checkpoint stores it --------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """What it holds; a checkpoint of other folds is not one of these."""
        return [part.name for part in self.parts]

    def rows(self) -> Iterator[Row]:
        """Yield the changed rows of all parts, each under its name."""
        for part in self.parts:
            prefix = part.name.encode() + b"/"
            for key, value in part.rows():
                yield prefix + key, value

    def mark_stored(self) -> None:
        """Take the changed rows for stored."""
        for part in self.parts:
            part.mark_stored()

    def restore(self, sequence: int, rows: Iterable[Row]) -> None:
        """Set the whole state from rows in order of key; only on a new set. Compare the digest before using it.

        Raises:
            ValueError: rows of no part. What a part raises.
        """
        left = {part.name: part for part in self.parts}
        for name, found in groupby(rows, _name_of):
            if name not in left:
                raise ValueError(f"rows of {name[:40]!r}, which nothing here reads")
            left.pop(name).restore(sequence, ((key[len(name) + 1 :], value) for key, value in found))
        for part in left.values():
            part.restore(sequence, ())
        self.sequence = sequence

    def digest(self) -> bytes:
        """Return the digest over the sequence number and everything stored."""
        whole = sha256(self.sequence.to_bytes(8, "big"))
        for part in self.parts:
            whole.update(part.name.encode() + b"\0" + part.digest())
        return whole.digest()


def _both(first: Callable[[Any], None], second: Callable[[Any], None]) -> Callable[[Any], None]:
    def take(item: Any) -> None:
        first(item)
        second(item)

    return take


def _by_group(emitted: Emitted) -> str:
    return emitted.group


def _name_of(row: Row) -> str:
    return row[0].partition(b"/")[0].decode(errors="replace")
