"""An account as a mapping: facts, derived figures, positions, and how fresh each mark is."""

from __future__ import annotations

from typing import Any

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.fold import AccountFold
from margin_stream.core.accounts.position import SIDES, notional, split_key
from margin_stream.core.accounts.subaccount import NEVER, Subaccount
from margin_stream.core.market.market import Market
from margin_stream.schemas.decimals import format_scaled
from margin_stream.views.call import describe_call
from margin_stream.views.moments import moment


def account_in(fold: AccountFold, account: str, sequence: int) -> dict[str, Any] | None:
    """Return facts and derived figures of one account of a partition that stands at a sequence number; None where it is
    not open."""
    found = fold.account(account)
    if found is None:
        return None
    return {"sequence": sequence, "time": moment(fold.market.clock_ns), **describe_account(fold, found)}


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
        **_describe_subaccount(fold, account, account.cross),
        "pending_since": None if account.cross.pending_since_ns == NEVER else moment(account.cross.pending_since_ns),
        "marks": _marks(fold, account),
        "calls": [describe_call(market, account, call) for call in account.cross.calls],
        "subaccounts": [
            {"subaccount": subaccount.name, **_describe_subaccount(fold, account, subaccount)}
            for subaccount in account.isolated.values()
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
    shown: dict[str, str] = {}
    if profile is not None and valuation is not None:
        equity, initial, maintenance, terms = profile.calculator.statement(subaccount, market.prices)
        shortfall = max(profile.policy.call_types[0].shortfall(valuation.figures), 0)
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
        "flags": subaccount.flag_names,
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
    if profile is None:
        return []
    rows = []
    # In order of listing: what is held was booked in one order and is restored in another.
    for number in sorted({number for part in account.subaccounts() for number in profile.calculator.depends_on(part)}):
        instrument = market.directory.instruments[number]
        assert instrument is not None
        price = market.prices[number]
        rows.append(
            {
                "instrument": instrument.name,
                "mark": format_scaled(price, instrument.price_scale) if price else None,
                "valued_over": _open_range(market, number, instrument.price_scale),
                "marked_at": moment(market.marked_at_ns[number]) if price else None,
                "age_s": (market.clock_ns - market.marked_at_ns[number]) // 1_000_000_000 if price else None,
                "fresh": number not in market.unfresh,
            }
        )
    return rows


def _open_range(market: Market, number: int, scale: int) -> list[str] | None:
    """Return least and greatest price that an open mark leaves; None where it is fresh, or was never made."""
    if number not in market.unfresh or not market.prices[number]:
        return None
    return [format_scaled(price, scale) for price in market.open_range(number)]
