"""What a store knows of accounts and calls: from the folds of its writer, or from a store that is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import chain
from typing import Any

from margin_stream.core.accounts.fold import AccountFold
from margin_stream.core.digests import partition_of, slot_of
from margin_stream.core.folds import accounts_of, registered
from margin_stream.core.store_fold import StoreFold
from margin_stream.errors import Error
from margin_stream.schemas.effects import AnyEffect, decode_effect, group_of, split_id
from margin_stream.views.account import account_in
from margin_stream.views.accounts import SHORT, accounts_in, shortest_first
from margin_stream.views.call import by_deadline, calls_in
from margin_stream.views.effect import describe_effect
from margin_stream.views.moments import moment, with_moments
from margin_stream.views.source import EVERYTHING, Place, Until, fold_prefix, source_of

View = Place | StoreFold
"""A store that is read, or folds at hand: what they know now."""


class AccountUnknown(Error, code="account_unknown"):
    """No such account at that place."""


class DeskUnknown(Error, code="desk_unknown"):
    """No account is of that desk."""


class FoldUnknown(Error, code="fold_unknown"):
    """No fold of that name."""


class CallUnknown(Error, code="call_unknown"):
    """No such call at that place."""


def folds_at(view: View, until: Until = EVERYTHING, *, account: str | None = None) -> StoreFold:
    """Return the folds at the end of a prefix.

    Folds at hand are returned as they are. Of a store that is read, the newest checkpoint within the prefix is used, and
    only what follows it is folded. With a prefix and an account, only that account is folded: accounts are independent
    of each other.
    """
    return view if isinstance(view, StoreFold) else _read(view, until, account)[0]


def _read(place: Place, until: Until, account: str | None) -> tuple[StoreFold, list[bytes]]:
    """Return folds filled from a store, and the effects of the account that were recomputed on the way."""
    reader = source_of(place)
    folds, after = StoreFold(reader.partitions, only=account, rules_version=reader.rules_version), 0
    loaded = reader.from_checkpoint(until, account)
    if loaded is not None:
        folds, after = loaded
    tail: list[bytes] = []
    mark = f"{account}/".encode() if account else None
    for parts in fold_prefix(folds, reader.items(after), until):
        if mark is not None:
            tail.extend(effect.data for part in parts[1:] for effect in part if mark in effect.data)
    return folds, tail


def account_state(view: View, account: str, until: Until = EVERYTHING) -> dict[str, Any]:
    """Return facts and derived figures of one account.

    Raises:
        AccountUnknown: the account was not open then.
    """
    folds = folds_at(view, until, account=account)
    partition = folds.sets[1 + partition_of(slot_of(account), folds.intake.routes.partitions)]
    found = account_in(accounts_of(partition), account, partition.sequence)
    if found is None:
        raise account_unknown(account, partition.sequence)
    return found


def calls(
    view: View,
    *,
    account: str | None = None,
    open_only: bool = False,
    overdue: bool = False,
    desk: str | None = None,
    until: Until = EVERYTHING,
    among: Iterable[str] | None = None,
) -> list[dict[str, Any]]:
    """Return margin calls by deadline.

    Args:
        view: folds at hand, or a store.
        account: only of this account.
        open_only, overdue: only such calls.
        desk: only those of this desk.
        until: the prefix.
        among: the accounts that can have such calls, where that is known; no other is looked at, and ``desk`` is not
            checked.

    Raises:
        AccountUnknown, DeskUnknown: there is none, so an empty answer would be a wrong one.
    """
    folds = folds_at(view, until, account=account)
    if account is not None and account not in folds.intake.accounts.entries:
        raise account_unknown(account, folds.sequence)
    if among is not None:
        rows = [row for part, name in _parts(folds, among) for row in calls_in(part, account=name, open_only=open_only)]
    else:
        if desk is not None:
            _check_desk(folds, desk)
        rows = [row for part in folds.accounts for row in calls_in(part, account=account, open_only=open_only)]
    return by_deadline([row for row in rows if desk in (None, row["desk"]) and (row["overdue"] or not overdue)])


def _parts(folds: StoreFold, names: Iterable[str]) -> Iterator[tuple[AccountFold, str]]:
    """Yield accounts by name, each with its partition."""
    entries, parts = folds.intake.accounts.entries, folds.accounts
    return ((parts[entries[name].partition], name) for name in names)


def account_unknown(account: str, sequence: int) -> AccountUnknown:
    """Return the error of an account that is not open."""
    what = f"account {account!r} is not open at sequence number {sequence}"
    return AccountUnknown(what, account=account, sequence=sequence)


def _check_desk(folds: StoreFold, desk: str) -> None:
    desks = sorted({account.desk for part in folds.accounts for account in part.accounts() if account.desk})
    if desk not in desks:
        shown = ", ".join(desks[:8]) + (", ..." if len(desks) > 8 else "")
        raise DeskUnknown(f"no account is of the desk {desk!r}; there are: {shown or 'none'}", desk=desk)


COUNTED = ("calls_open", "calls_overdue", "calls_met", "calls_cured", "accounts_short")


def summary(folds: StoreFold, counts: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Return what a person asks first: how many calls are open, overdue, met, resolved by price move, how many accounts
    are short, and the clock.

    Args:
        folds: of the store.
        counts: where they are known; else every account is looked at.
    """
    if counts is None:
        counts = _counted(folds)
    clock_ns = folds.intake.market.clock_ns
    return {**{name: counts[name] for name in COUNTED}, "clock": moment(clock_ns) if clock_ns else None}


def _counted(folds: StoreFold) -> dict[str, int]:
    short = open_ = overdue = 0
    outcomes: dict[str, int] = {}
    for part in folds.accounts:
        for account in part.accounts():
            short += any(subaccount.level >= SHORT for subaccount in account.subaccounts())
            for call in account.cross.calls:
                open_ += call.open
                overdue += call.open and call.overdue
                outcomes[call.outcome.name] = outcomes.get(call.outcome.name, 0) + 1
    return {
        "calls_open": open_,
        "calls_overdue": overdue,
        "calls_met": outcomes.get("MET", 0),
        "calls_cured": outcomes.get("CURED", 0),
        "accounts_short": short,
    }


def accounts(
    view: View,
    *,
    short: bool = False,
    stale: bool = False,
    level: str | None = None,
    desk: str | None = None,
    near: str | None = None,
    until: Until = EVERYTHING,
    among: Iterable[str] | None = None,
) -> list[dict[str, Any]]:
    """Return accounts, one row a subaccount: the deepest level first, then the largest shortfall.

    Args:
        view: folds at hand, or a store.
        short: only those in DEFICIT or deeper.
        stale: only those that a mark concerns which is missing, old or in doubt.
        level: only those at this level.
        desk: only those of this desk.
        near: only those that are not short, and less than so many percent above the level of calls (or of close-out,
            where nothing is called); a decimal.
        until: the prefix.
        among: see ``calls``.
    """
    folds = folds_at(view, until)
    if among is not None:
        rows = [row for part, name in _parts(folds, among) for row in accounts_in(part, name)]
    else:
        if desk is not None:
            _check_desk(folds, desk)
        rows = [row for part in folds.accounts for row in accounts_in(part)]
    limit = None if near is None else Fraction(near)
    return shortest_first(
        [
            row
            for row in rows
            if (row["short"] or not short)
            and (row["stale"] or not stale)
            and level in (None, row["level"])
            and desk in (None, row["desk"])
            and (limit is None or _is_near(row, limit))
        ]
    )


def _is_near(row: dict[str, Any], limit: Fraction) -> bool:
    above = row["above_trigger"]
    return above is not None and not row["short"] and Fraction(above) < limit


def facts(view: View, name: str, until: Until = EVERYTHING) -> list[dict[str, Any]]:
    """Return what a fold of the whole store knows, row by row; of one that each partition has, the rows of all, with
    their ``partition``.

    Raises:
        FoldUnknown: there is no such fold, or it has no facts.
    """
    if name not in registered():
        raise FoldUnknown(f"no fold {name!r}; there are {', '.join(registered())}", fold=name)
    whole, *partitions = (
        [row for fold in folds.folds if fold.name == name for row in fold.facts()]
        for folds in folds_at(view, until).sets
    )
    rows = whole + [{**row, "partition": n} for n, part in enumerate(partitions) for row in part]
    return [with_moments(row) for row in rows]


def call_history(place: Place, call_id: str) -> dict[str, Any]:
    """Return one call with everything that happened to it.

    Raises:
        CallUnknown: the store has no such call.
    """
    account = call_id.partition("/")[0]
    try:
        found = next((row for row in calls(place, account=account) if row["call"] == call_id), None)
    except AccountUnknown:
        found = None
    if found is None:
        raise CallUnknown(f"no call {call_id!r}", call=call_id, account=account)
    history = [
        describe_effect(effect)
        for effect in account_effects(place, account)
        if getattr(effect, "call", None) == call_id
    ]
    return {**found, "history": history}


def account_effects(place: Place, account: str) -> list[AnyEffect]:
    """Return every effect of an account: what is recorded, and what follows the record from the fold."""
    reader = source_of(place)
    mark = f"{account}/".encode()
    recorded = reader.effects(1 + partition_of(slot_of(account), reader.partitions))
    found: dict[str, AnyEffect] = {}
    for data in chain((data for data in recorded if mark in data), _read(place, EVERYTHING, account)[1]):
        effect = decode_effect(data)
        if group_of(effect.id) == account:
            found.setdefault(effect.id, effect)
    return sorted(found.values(), key=lambda effect: split_id(effect.id))
