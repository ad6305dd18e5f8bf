"""Positions with open cost, so that realised and unrealised profit together are conserved to the last unit."""

from __future__ import annotations

from typing import Literal

from margin_stream.schemas.decimals import POWERS_OF_TEN

SIDES: tuple[Literal["both", "long", "short"], ...] = ("both", "long", "short")


def instrument_of(key: int) -> int:
    """Return the number of the instrument of a position."""
    return key >> 2


def position_key(instrument: int, side: int) -> int:
    """Return the key of a position: instrument number and side, the index in SIDES."""
    return instrument << 2 | side


def split_key(key: int) -> tuple[int, int]:
    """Return instrument number and side of a position's key."""
    return key >> 2, key & 3


class Position:
    """A holding in one instrument. Money is in minor units of the settlement currency.

    ``open_cost`` is signed like the quantity: what was paid for a long, what was received for a short (negative).
    """

    __slots__ = ("fees", "leverage", "open_cost", "quantity", "realised")

    def __init__(
        self, quantity: int = 0, open_cost: int = 0, realised: int = 0, fees: int = 0, leverage: int | None = None
    ) -> None:
        self.leverage = leverage
        """Of a perpetual, as chosen; 0 where none was. None for what is no perpetual."""
        self.quantity = quantity
        self.open_cost = open_cost
        self.realised = realised
        self.fees = fees

    def trade(self, quantity: int, price: int, shift: int) -> int:
        """Apply a trade and return the cash that it moves, fees apart: minor units, negative for a buy.

        A partial close releases ``floor(open_cost * closed / quantity)``; the rest stays. Crossing zero closes, then
        opens.

        Args:
            quantity: in units of the quantity scale, negative for a sell.
            price: in units of the price scale.
            shift: decimal places of the currency less those of quantity times price.

        Example: long 3 at a cost of 100, sell 1 at 40 -> cash 40, open cost 67, realised 7.
        """
        held = self.quantity
        if held * quantity >= 0:
            cash = notional(-quantity * price, shift)
            self.open_cost -= cash
            self.quantity = held + quantity
            return cash
        closing = quantity if abs(quantity) <= abs(held) else -held
        cash = notional(-closing * price, shift)
        released = self.open_cost * abs(closing) // abs(held)
        self.open_cost -= released
        self.realised += cash - released
        self.quantity = held + closing
        opening = quantity - closing
        if opening:
            opened = notional(-opening * price, shift)
            self.open_cost -= opened
            self.quantity = opening
            cash += opened
        return cash


def notional(product: int, shift: int) -> int:
    """Return quantity times price in minor units of the currency, rounded down (against the account: it pays more, or
    receives less)."""
    if shift >= 0:
        return product * POWERS_OF_TEN[shift]
    return product // POWERS_OF_TEN[-shift]
