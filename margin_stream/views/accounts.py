"""What a store says of accounts and calls, in the words and decimals of people: plain mappings, ready for JSON."""

from __future__ import annotations

from itertools import chain
from typing import Any

import msgspec

from margin_stream.core.accounts.account import NEVER, Account, Subaccount
from margin_stream.core.accounts.fold import AccountFold
from margin_stream.core.accounts.position import SIDES, notional, split_key
from margin_stream.core.calls.call import Call
from margin_stream.core.digests import partition_of, slot_of
from margin_stream.core.folds import registered
from margin_stream.core.market.market import Market
from margin_stream.core.store_fold import StoreFold
from margin_stream.errors import Error
from margin_stream.schemas.decimals import format_scaled
from margin_stream.schemas.effects import AnyEffect, Effect, decode_effect, group_of, split_id
from margin_stream.schemas.times import format_time, parse_time
from margin_stream.views.reader import EVERYTHING, Place, Until, fold_prefix, source_of


class AccountUnknown(Error, code="account_unknown"):
    """No such account at that place."""


class FoldUnknown(Error, code="fold_unknown"):
    """No fold of that name."""


class CallUnknown(Error, code="call_unknown"):
    """No such call at that place."""


def system_at(place: Place, until: Until = EVERYTHING, *, account: str | None = None) -> tuple[StoreFold, list[bytes]]:
    """Return the folds at a prefix and the effects of the account that were recomputed on the way.

    Without a prefix the newest checkpoint is used, and only what follows it is folded. With one and an account, only
    that account is
    folded: accounts are independent of each other.
    """
    reader = source_of(place)
    system, after = StoreFold(reader.partitions, only=account, rules_version=reader.rules_version), 0
    if until == EVERYTHING:
        loaded = reader.from_checkpoint()
        if loaded is not None:
            system, after = loaded
    tail: list[bytes] = []
    mark = f"{account}/".encode() if account else None
    for parts in fold_prefix(system, reader.items(after), until):
        if mark is not None:
            tail.extend(effect.data for part in parts[1:] for effect in part if mark in effect.data)
    return system, tail


def state_of(fold: AccountFold, account: str, position: int) -> dict[str, Any] | None:
    """Return facts and derived figures of one account of a partition that stands at a position; None where it is not
    open."""
    found = fold.account(account)
    if found is None:
        return None
    return {"sequence": position, "time": _time(fold.market.clock_ns), **describe_account(fold, found)}


def account_state(place: Place, account: str, until: Until = EVERYTHING) -> dict[str, Any]:
    """Return facts and derived figures of one account.

    Raises:
        AccountUnknown: the account was not open then.
    """
    system, _ = system_at(place, until, account=account)
    found = state_of(
        system.accounts[partition_of(slot_of(account), system.intake.partitions)], account, system.sequence
    )
    if found is None:
        raise AccountUnknown(
            f"account {account!r} is not open at sequence number {system.sequence}",
            account=account,
            sequence=system.sequence,
        )
    return found


def describe_account(fold: AccountFold, account: Account) -> dict[str, Any]:
    """Return an account as a mapping: facts, figures, positions, balances, calls."""
    market = fold.market
    profile = market.profiles.get(account.profile)
    return {
        "account": account.id,
        "margin_group": account.id,
        "profile": account.profile,
        "profile_version": None if profile is None else profile.version,
        "desk": account.desk,
        "contacts": account.contacts,
        "base_currency": market.directory.assets[account.base].name,
        **_describe_subaccount(fold, account, account),
        "pending_since": None if account.pending_since_ns == NEVER else _time(account.pending_since_ns),
        "marks": _marks(fold, account),
        "calls": [describe_call(market, account, call) for call in account.calls],
        "subaccounts": [
            {"subaccount": subaccount.name, **_describe_subaccount(fold, account, subaccount)}
            for subaccount in account.subaccounts.values()
        ],
        "effects": account.effect_count,
    }


def _describe_subaccount(fold: AccountFold, account: Account, subaccount: Subaccount) -> dict[str, Any]:
    """Return what is margined together: level, figures, balances, positions."""
    market = fold.market
    directory = market.directory
    base = directory.assets[account.base]
    profile = market.profiles.get(account.profile)
    valuation = fold.valuation(account, subaccount)
    flags = [
        name
        for name, holds in (
            ("STALE", subaccount.stale),
            ("REVIEW", subaccount.review),
            ("LIQUIDATING", subaccount.liquidating),
        )
        if holds
    ]
    shown: dict[str, str] = {}
    if profile is not None and valuation is not None:
        equity, initial, maintenance, terms = profile.calculator.statement(subaccount, market.prices)
        shortfall = max(profile.policy.shortfall(valuation.figures), 0)
        amounts = {
            "equity": equity,
            "requirement": maintenance,
            "initial": initial,
            "excess": equity - maintenance,
            "shortfall": shortfall,
        }
        shown = {name: format_scaled(amount, base.scale) for name, amount in (terms | amounts).items()}
    return {
        "level": subaccount.level.name,
        "flags": flags,
        **shown,
        "balances": [
            {"asset": directory.assets[asset].name, "amount": format_scaled(amount, directory.assets[asset].scale)}
            for asset, amount in sorted(subaccount.balances.items())
        ],
        "positions": [_position(market, key, subaccount) for key in sorted(subaccount.positions)],
        "liquidation_due": format_scaled(subaccount.liquidation_amount, base.scale)
        if subaccount.liquidation_amount
        else None,
    }


def _position(market: Market, key: int, subaccount: Subaccount) -> dict[str, Any]:
    number, side = split_key(key)
    instrument = market.directory.instruments[number]
    assert instrument is not None
    position = subaccount.positions[key]
    currency = instrument.currency
    shift = currency.scale - instrument.quantity_scale - instrument.price_scale
    price = market.prices[number]
    unrealised = notional(position.quantity * price, shift) - position.open_cost
    return {
        "instrument": instrument.name,
        "quantity": format_scaled(position.quantity, instrument.quantity_scale),
        "currency": currency.name,
        "open_cost": format_scaled(position.open_cost, currency.scale),
        "realised": format_scaled(position.realised, currency.scale),
        "unrealised": format_scaled(unrealised, currency.scale) if price else None,
        "fees": format_scaled(position.fees, currency.scale),
        "mark": format_scaled(price, instrument.price_scale) if price else None,
        **({"position_side": SIDES[side], "leverage": position.leverage or None} if instrument.perpetual else {}),
    }


def _marks(fold: AccountFold, account: Account) -> list[dict[str, Any]]:
    """Return how fresh each mark is that the account's value reads."""
    market = fold.market
    profile = market.profiles.get(account.profile)
    rows = []
    for number in (
        dict.fromkeys(n for subaccount in account.parts() for n in profile.calculator.depends_on(subaccount))
        if profile
        else ()
    ):
        instrument = market.directory.instruments[number]
        assert instrument is not None
        price = market.prices[number]
        rows.append(
            {
                "instrument": instrument.name,
                "mark": format_scaled(price, instrument.price_scale) if price else None,
                "marked_at": _time(market.marked_at_ns[number]) if price else None,
                "age_s": (market.clock_ns - market.marked_at_ns[number]) // 1_000_000_000 if price else None,
                "fresh": number not in market.unfresh,
            }
        )
    return rows


def describe_call(market: Market, account: Account, call: Call) -> dict[str, Any]:
    """Return a call as a mapping."""
    base = market.directory.assets[account.base]
    return {
        "call": f"{account.id}/call/{call.number}",
        "account": account.id,
        "currency": base.name,
        "amount": format_scaled(call.amount, base.scale),
        "paid": format_scaled(call.paid, base.scale),
        "unpaid": format_scaled(call.unpaid, base.scale),
        "issue": "ISSUED",
        "issued_at": _time(call.issued_at_ns),
        "due_at": _time(call.due_at_ns),
        "overdue": call.overdue,
        "deadline": call.deadline.name,
        "outcome": call.outcome.name,
        "tranche": call.tranche,
        "open": call.open,
    }


def calls_of(fold: AccountFold, *, account: str | None = None, open_only: bool = False) -> list[dict[str, Any]]:
    """Return the margin calls of a partition; ``by_deadline`` puts those of several in order."""
    accounts = fold.accounts() if account is None else [fold.account(account)]
    return [
        describe_call(fold.market, holder, call)
        for holder in accounts
        if holder
        for call in holder.calls
        if call.open or not open_only
    ]


def by_deadline(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return calls by deadline, account and number."""
    return sorted(rows, key=lambda row: (parse_time(row["due_at"]), row["account"], split_id(row["call"])))


def calls(
    place: Place, *, account: str | None = None, open_only: bool = False, until: Until = EVERYTHING
) -> list[dict[str, Any]]:
    """Return margin calls by deadline."""
    system, _ = system_at(place, until, account=account)
    return by_deadline(
        [row for fold in system.accounts for row in calls_of(fold, account=account, open_only=open_only)]
    )


def call_history(place: Place, call_id: str) -> dict[str, Any]:
    """Return one call with everything that happened to it.

    Raises:
        CallUnknown: the store has no such call.
    """
    account = call_id.partition("/")[0]
    found = next((row for row in calls(place, account=account) if row["call"] == call_id), None)
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
    for data in chain((data for data in recorded if mark in data), system_at(place, account=account)[1]):
        effect = decode_effect(data)
        if group_of(effect.id) == account:
            found.setdefault(effect.id, effect)
    return sorted(found.values(), key=lambda effect: split_id(effect.id))


def facts(place: Place, name: str, until: Until = EVERYTHING) -> list[dict[str, Any]]:
    """Return what a fold of the whole store knows, row by row.

    Raises:
        FoldUnknown: there is no such fold.
    """
    found = [fold for fold in system_at(place, until)[0].sets[0].folds if fold.name == name]
    if not found:
        raise FoldUnknown(f"no fold {name!r}; there are {', '.join(registered())}", fold=name)
    return [_with_times(row) for row in found[0].facts()]


def describe_effect(effect: Effect) -> dict[str, Any]:
    """Return an effect as a mapping, moments as text."""
    fields: dict[str, Any] = msgspec.to_builtins(effect)
    fields["type"] = str(fields["type"]).rpartition(".v")[0]
    return _with_times({"sequence" if name == "position" else name: value for name, value in fields.items()})


def _with_times(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        (name.removesuffix("_ns") if name.endswith("_ns") else name): (_time(value) if name.endswith("_ns") else value)
        for name, value in fields.items()
    }


def _time(moment_ns: int) -> str | None:
    return format_time(moment_ns) if moment_ns else None
