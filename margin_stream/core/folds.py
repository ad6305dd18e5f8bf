"""The folds of a store: a fold is added here and nowhere else.

A fold is a file of its own with a class that keeps ``margin_stream.core.fold.Fold``; its place in a tuple is its place
in the order of one sequence number.
"""

from __future__ import annotations

from collections.abc import Callable

from margin_stream.core.accounts.fold import AccountFold
from margin_stream.core.effect_book import EffectBook
from margin_stream.core.feed_monitor import FeedMonitor
from margin_stream.core.fold import Fold, FoldSet
from margin_stream.core.intake.fold import IntakeFold
from margin_stream.core.revaluation.filter import RevaluationFilter
from margin_stream.core.sequenced import PARTITION_ITEMS, STORE_ITEMS

STORE_FOLDS: tuple[Callable[[EffectBook], Fold], ...] = (FeedMonitor,)
"""One of each in a store: what spans margin groups. They stand with the intake."""
PARTITION_FOLDS: tuple[Callable[[EffectBook], Fold], ...] = ()
"""One of each in a partition, behind its accounts: what belongs to one margin group."""


def store_folds(intake: IntakeFold) -> FoldSet:
    """Return the intake's set: what one store has one of."""
    return FoldSet([make(intake.book) for make in STORE_FOLDS], intake.book, STORE_ITEMS, intake)


def registered() -> list[str]:
    """Return the names of the folds that have facts: those of which a store has one, then those of a partition."""
    return [make(EffectBook()).name for make in (*STORE_FOLDS, *PARTITION_FOLDS)]


def partition_folds(
    *, rules_version: int, boxes: bool = True, only: str | None = None, price_filter: RevaluationFilter | None = None
) -> FoldSet:
    """Return the set of one partition; its accounts come first. See ``AccountFold`` for the arguments."""
    book = EffectBook()
    accounts = AccountFold(book, rules_version=rules_version, boxes=boxes, only=only, price_filter=price_filter)
    return FoldSet([accounts, *(make(book) for make in PARTITION_FOLDS)], book, PARTITION_ITEMS)


def accounts_of(folds: FoldSet) -> AccountFold:
    """Return the accounts of a partition."""
    accounts = folds.folds[0]
    assert isinstance(accounts, AccountFold)
    return accounts
