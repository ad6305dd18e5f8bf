"""What a trade, a transfer and funding do to an account's money and positions. Facts only: nothing is valued here."""

from __future__ import annotations

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.position import Position, instrument_of, notional, position_key
from margin_stream.core.accounts.subaccount import Subaccount
from margin_stream.core.market.directory import Instrument
from margin_stream.core.sequenced import FUNDING_SCALE, Moved, Traded
from margin_stream.schemas.decimals import whole


def price_shift(instrument: Instrument) -> int:
    """Return the decimal places of the currency less those of quantity times price."""
    return instrument.currency.scale - instrument.quantity_scale - instrument.price_scale


def book_spot(account: Account, instrument: Instrument, item: Traded) -> None:
    """Book a trade in a spot pair or a share: cash moves in the settlement currency, the base asset is held."""
    key = position_key(instrument.number, 0)
    cross = account.cross
    position = cross.positions.get(key)
    if position is None:
        position = cross.positions[key] = Position()
    quantity, fee = whole(item.quantity), whole(item.fee)
    cash = position.trade(quantity, item.price, price_shift(instrument))
    position.fees += fee
    base = instrument.base
    cross.move(instrument.currency.number, cash - fee)
    cross.hold(base.number, quantity * 10 ** (base.scale - instrument.quantity_scale))


def book_perpetual(account: Account, instrument: Instrument, item: Traded) -> None:
    """Book a trade in a perpetual: what it realises, less the fee, goes to the subaccount; margin may come along from
    cross."""
    subaccount = account.subaccount(item.subaccount)
    currency = instrument.currency.number
    key = position_key(instrument.number, item.side)
    position = subaccount.positions.get(key)
    if position is None:
        position = subaccount.positions[key] = Position(leverage=0)
    quantity, fee, margin = whole(item.quantity), whole(item.fee), whole(item.margin)
    realised = position.realised
    position.trade(quantity, item.price, price_shift(instrument))
    position.fees += fee
    if item.leverage:
        position.leverage = item.leverage
    subaccount.hold_perpetual(key, position)
    subaccount.move(currency, position.realised - realised - fee)
    if margin:
        account.cross.move(currency, -margin)
        subaccount.move(currency, margin)


def book_move(account: Account, item: Moved) -> None:
    """Book money that arrived, left, or went from one subaccount to another."""
    amount = whole(item.amount)
    if item.from_isolated is not None:
        account.subaccount(item.from_isolated).move(item.asset, -amount)
    account.subaccount(item.subaccount).move(item.asset, amount)


def book_funding(account: Account, instrument: Instrument, rate: int, price: int) -> list[Subaccount]:
    """Book funding of every position in a perpetual; return the subaccounts that it concerned.

    Each position moves ``floor(-quantity * price * rate)`` in minor units of the settlement currency, against the
    account.

    Args:
        account: the account.
        instrument: the perpetual.
        rate: in units of ``10**-FUNDING_SCALE``.
        price: in units of the price scale.
    """
    concerned = []
    for subaccount in account.subaccounts():
        moved = 0
        held = [key for key in sorted(subaccount.perpetuals) if instrument_of(key) == instrument.number]
        for key in held:
            moved += notional(
                -subaccount.perpetuals[key].quantity * price * rate, price_shift(instrument) - FUNDING_SCALE
            )
        if held:
            subaccount.move(instrument.currency.number, moved)
            concerned.append(subaccount)
    return concerned


def sweep(account: Account, name: str) -> bool:
    """Close an isolated subaccount that has no position any more: what is left goes to cross. Return whether it was
    closed.

    What is owed stays where it is: an isolated subaccount never draws on cross by itself. A position's realised profit
    and fees are kept, in cross.
    """
    subaccount = account.isolated.get(name)
    if subaccount is None or subaccount.perpetuals or any(amount < 0 for amount in subaccount.balances.values()):
        return False
    _close(account, name)
    return True


def join_cross(account: Account) -> bool:
    """Close every isolated subaccount without a position, debts included: for a profile that has none. Return whether
    one was closed."""
    ended = [name for name, subaccount in account.isolated.items() if not subaccount.perpetuals]
    for name in ended:
        _close(account, name)
    return bool(ended)


def _close(account: Account, name: str) -> None:
    subaccount, cross = account.isolated[name], account.cross
    for asset in sorted(subaccount.balances):
        cross.move(asset, subaccount.balances[asset])
    for key in sorted(subaccount.positions):
        closed = subaccount.positions[key]
        kept = cross.positions.get(key)
        if kept is None:
            kept = cross.positions[key] = Position(leverage=0)
        kept.realised += closed.realised
        kept.fees += closed.fees
    del account.isolated[name]
