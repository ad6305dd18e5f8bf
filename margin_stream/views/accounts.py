"""Accounts side by side, those that are short first."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.fold import AccountFold
from margin_stream.core.accounts.subaccount import Level, Subaccount
from margin_stream.core.margin.valuation import reads_open_marks
from margin_stream.schemas.decimals import format_scaled

SHORT = Level.DEFICIT
"""An account at this level or a deeper one is short."""


def accounts_in(fold: AccountFold, name: str | None = None) -> list[dict[str, Any]]:
    """Return one row for each subaccount of a partition, or of one account of it."""
    accounts = fold.accounts() if name is None else [fold.account(name)]
    return [_row(fold, account, part) for account in accounts if account for part in account.subaccounts()]


def _row(fold: AccountFold, account: Account, part: Subaccount) -> dict[str, Any]:
    market = fold.market
    base = market.directory.assets[account.base]
    profile = market.profiles.get(account.profile)
    row: dict[str, Any] = {
        "account": account.id,
        "subaccount": part.name,
        "desk": account.desk,
        "profile": account.profile,
        "level": part.level.name,
        "short": part.level >= SHORT,
        "flags": part.flag_names,
        "stale": False,
        "currency": base.name,
        "equity": None,
        "requirement": None,
        "shortfall": None,
        "above_trigger": None,
        "open_calls": part.open_calls,
    }
    if profile is not None:
        figures = profile.calculator.evaluate(part, market.prices)
        equity, _, maintenance, _ = profile.calculator.statement(part, market.prices)
        call_type = profile.policy.call_types[0]
        shortfall = max(call_type.shortfall(figures), 0) if row["short"] else 0
        level = Fraction(*call_type.trigger.ratio) * figures.debit
        row |= {
            "stale": reads_open_marks(market, part, profile, figures),
            "equity": format_scaled(equity, base.scale),
            "requirement": format_scaled(maintenance, base.scale),
            "shortfall": format_scaled(shortfall, base.scale),
            # Whole hundredths of a percent, rounded down.
            "above_trigger": format_scaled((figures.value - level) * 10_000 // level, 2) if level > 0 else None,
        }
    return row


def shortest_first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return accounts by level, the deepest first, then by shortfall, the largest first, then by how near they are to
    the level of calls (or of close-out, where nothing is called), then by name."""

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        above = row["above_trigger"]
        return (
            -Level[row["level"]],
            -Fraction(row["shortfall"] or 0),
            above is None,
            Fraction(above or 0),
            row["account"],
            row["subaccount"],
        )

    return sorted(rows, key=place)
