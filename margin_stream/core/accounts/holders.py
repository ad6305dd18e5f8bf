"""Who holds what: the accounts that a price can concern, by asset and by perpetual."""

from __future__ import annotations

from array import array

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.position import instrument_of
from margin_stream.core.accounts.rows import AccountRows
from margin_stream.core.market.market import Market


class Holders:
    """Accounts by what they hold, or once did; who holds it no more is passed over when asked for."""

    def __init__(self, rows: AccountRows) -> None:
        self._rows = rows
        self._of_asset: dict[int, array[int]] = {}
        self._of_perpetual: dict[int, array[int]] = {}

    def hold(self, number: int, account: Account, asset: int) -> None:
        """Note an account that is about to hold an asset."""
        for subaccount in account.subaccounts():
            if asset in subaccount.balances:
                return
        _add(self._of_asset, asset, number)

    def hold_perpetual(self, number: int, account: Account, instrument: int) -> None:
        """Note an account that is about to hold a perpetual."""
        if not account.holds_perpetual(instrument):
            _add(self._of_perpetual, instrument, number)

    def restore(self, number: int, account: Account) -> None:
        """Note all that an account holds."""
        parts = account.subaccounts()
        for asset in dict.fromkeys(asset for part in parts for asset in part.balances):
            _add(self._of_asset, asset, number)
        for instrument in dict.fromkeys(instrument_of(key) for part in parts for key in part.perpetuals):
            _add(self._of_perpetual, instrument, number)

    def of_perpetual(self, instrument: int) -> list[int]:
        """Return the accounts that hold a perpetual, each once."""
        rows = self._rows
        found = _each_once(self._of_perpetual, instrument)
        return [number for number in found if rows.account(number).holds_perpetual(instrument)]

    def depending_on(self, instrument: int, market: Market) -> list[int]:
        """Return the accounts whose value reads the instrument's price, each once."""
        rows = self._rows
        found: dict[int, None] = {}
        for name in sorted(market.profiles):
            for asset in market.profiles[name].calculator.routed_through(instrument):
                for number in _each_once(self._of_asset, asset):
                    if number not in found:
                        account = rows.account(number)
                        if account.profile == name and (asset in account.cross.balances or account.isolated):
                            found[number] = None
        for number in _each_once(self._of_perpetual, instrument):
            if number not in found and rows.account(number).holds_perpetual(instrument):
                found[number] = None
        return list(found)


def _each_once(holders: dict[int, array[int]], what: int) -> dict[int, None]:
    """Return who holds or held something, each once; an array that names most of them twice is made anew."""
    held = holders.get(what)
    if held is None:
        return {}
    found = dict.fromkeys(held)
    if len(held) > 2 * len(found):
        holders[what] = array("I", found)
    return found


def _add(holders: dict[int, array[int]], what: int, number: int) -> None:
    held = holders.get(what)
    if held is None:
        held = holders[what] = array("I")
    held.append(number)
