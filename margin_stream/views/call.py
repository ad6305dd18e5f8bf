"""A margin call as a mapping, and the calls of accounts by deadline."""

from __future__ import annotations

from typing import Any

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.fold import AccountFold
from margin_stream.core.calls.call import Call
from margin_stream.core.market.market import Market
from margin_stream.schemas.decimals import format_scaled
from margin_stream.schemas.effects import split_id
from margin_stream.schemas.times import parse_time
from margin_stream.views.moments import moment


def describe_call(market: Market, account: Account, call: Call) -> dict[str, Any]:
    """Return a call as a mapping."""
    base = market.directory.assets[account.base]
    return {
        "call": f"{account.id}/call/{call.number}",
        "account": account.id,
        "desk": account.desk,
        "currency": base.name,
        "amount": format_scaled(call.amount, base.scale),
        "paid": format_scaled(call.paid, base.scale),
        "unpaid": format_scaled(call.unpaid, base.scale),
        "issue": "ISSUED",
        "issued_at": moment(call.issued_at_ns),
        "due_at": moment(call.due_at_ns),
        "overdue": call.overdue,
        "deadline": call.deadline.name,
        "outcome": call.outcome.name,
        "tranche": call.tranche,
        "open": call.open,
    }


def calls_in(fold: AccountFold, *, account: str | None = None, open_only: bool = False) -> list[dict[str, Any]]:
    """Return the margin calls of a partition; ``by_deadline`` puts those of several in order."""
    accounts = fold.accounts() if account is None else [fold.account(account)]
    return [
        describe_call(fold.market, holder, call)
        for holder in accounts
        if holder
        for call in holder.cross.calls
        if call.open or not open_only
    ]


def by_deadline(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return calls by deadline, account and number."""
    return sorted(rows, key=lambda row: (parse_time(row["due_at"]), row["account"], split_id(row["call"])))
