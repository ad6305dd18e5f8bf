"""The folds of one store joined, in one process: the intake with what the store has one of, and N partitions. The
folder host and replay drive this."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from margin_stream.core.accounts.fold import AccountFold
from margin_stream.core.digests import combined, merged
from margin_stream.core.effect_book import Emitted
from margin_stream.core.folds import accounts_of, partition_folds, store_folds
from margin_stream.core.intake.admission import Admission
from margin_stream.core.intake.fold import IntakeFold
from margin_stream.core.margin import models as _models  # noqa: F401  (importing it registers the margin models)
from margin_stream.core.revaluation.filter import RevaluationFilter


class Digests(NamedTuple):
    """State and effects at a sequence number, hexadecimal SHA-256."""

    sequence: int
    state: str
    effects: str


class StoreFold:
    """Intake and partitions of one store."""

    def __init__(
        self,
        partitions: int,
        *,
        rules_version: int,
        boxes: bool = True,
        only: str | None = None,
        price_filter: Callable[[], RevaluationFilter] | None = None,
    ) -> None:
        """
        Args:
            partitions: how many account folds.
            rules_version: that the store began with.
            boxes, only: see ``AccountFold``.
            price_filter: makes the revaluation filter of each partition.
        """
        self.intake = IntakeFold(partitions, rules_version=rules_version)
        self.admission = Admission(self.intake)
        """Of items that lie in a journal."""
        self.sets = [
            store_folds(self.intake),
            *(
                partition_folds(
                    rules_version=rules_version,
                    boxes=boxes,
                    only=only,
                    price_filter=price_filter() if price_filter else None,
                )
                for _ in range(partitions)
            ),
        ]
        """The intake's set of folds, then each partition's: what a checkpoint stores one by one, in the order of the
        effects logs."""

    @property
    def accounts(self) -> list[AccountFold]:
        """The accounts of each partition."""
        return [accounts_of(folds) for folds in self.sets[1:]]

    def fold(
        self, *, compare_markets: bool = False, spill: Callable[[int, list[Emitted]], None] | None = None
    ) -> list[list[Emitted]]:
        """Fold what was admitted since the last time; return the effects of the intake's set and of each partition,
        each list in order.

        Args:
            compare_markets: whether the partitions' copies of the market are compared with the intake's.
            spill: takes effects of a set, by its place, while its batch is folded; see ``FoldSet.apply``.
        """
        batches = self.intake.take(market_digest=compare_markets)
        # A set restored from a checkpoint ahead of the intake's has folded the first batches already: they are trimmed.
        return [
            []
            if batch.last <= folds.sequence and batch.last
            else folds.apply(batch, None if spill is None else partial(spill, place))
            for place, (folds, batch) in enumerate(zip(self.sets, batches, strict=True))
        ]

    def digests(self) -> Digests:
        """Return the digests at the current sequence number."""
        state = combined(self.intake.digest(), merged(folds.state_sums() for folds in self.sets))
        effects = combined(self.intake.book.top(), merged(folds.book.sums() for folds in self.sets))
        return Digests(self.intake.sequence, state, effects)

    @property
    def sequence(self) -> int:
        """The number of the last item."""
        return self.intake.sequence
