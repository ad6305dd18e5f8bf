"""Which accounts a tick can concern: the seam between the account fold and what watches prices for it.

A watch decides nothing: it names accounts that must be looked at, and the fold values them exactly. It may name too
many, never too few.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from margin_stream.core.accounts.subaccount import Subaccount
from margin_stream.core.margin.guards import NO_LIMIT, Guard, GuardState
from margin_stream.core.margin.model import MarginCalculator, MarginFigures, Profile
from margin_stream.core.margin.valuation import Corners
from margin_stream.core.market.market import Market
from margin_stream.core.revaluation.price_boxes import REACH_LIMIT, Boxes

_NARROW = 64
"""A reach below this is not tried again but as 0."""


class GuardTests(NamedTuple):
    """A subaccount at rest: the guards that matter to it, what they say, and its valuation at the marks."""

    subaccount: Subaccount
    guards: list[Guard]
    guard_states: list[GuardState]
    figures: MarginFigures


class RevaluationFilter(Protocol):
    """Watches prices for the accounts of a partition, by number."""

    def add_instrument(self) -> None:
        """Make room for one more instrument."""

    def add_account(self) -> None:
        """Make room for one more account."""

    def place(self, number: int, price: int) -> None:
        """Set where an instrument is, without asking whom it concerns."""

    def reached(self, number: int, price: int) -> list[int]:
        """Move an instrument to a price; return the accounts that it may concern, each once."""

    def keeps(self, account: int) -> bool:
        """Say whether an account that was named is still watched as before, so that it need not be given again where it
        states the same."""

    def forget(self, account: int) -> None:
        """Watch an account no more; what it holds, or how that is valued, has changed."""

    def track(self, account: int, profile: Profile, subaccounts: list[GuardTests], market: Market) -> None:
        """Watch an account from the prices as they are: it is to be named before any of its guards can flip.

        What was not forgotten is valued as before; only its guards and what they say may have changed.
        """

    @property
    def near_trigger_count(self) -> int:
        """How many accounts are named at every tick of their instruments."""


class PriceBoxFilter:
    """Watches by price boxes: what stays in an account's box cannot concern it."""

    def __init__(self) -> None:
        self._boxes = Boxes()
        self._corners = Corners()
        self.add_instrument = self._boxes.add_instrument
        self.add_account = self._boxes.add_account
        self.place = self._boxes.place
        self.reached = self._boxes.reached
        self.forget = self._boxes.forget

    def keeps(self, account: int) -> bool:
        """See ``RevaluationFilter.keeps``: a box that was left is of no more use."""
        return False

    def track(self, account: int, profile: Profile, subaccounts: list[GuardTests], market: Market) -> None:
        """Find the widest box in which no guard of the account flips."""
        self._boxes.forget(account)
        boxes, corners, calculator = self._boxes, self._corners, profile.calculator
        corners.fit(market)
        directions = (
            calculator.directions(subaccounts[0].subaccount)
            if len(subaccounts) == 1
            else _joined(calculator, (row.subaccount for row in subaccounts))
        )
        unfresh = market.unfresh
        if unfresh and not unfresh.isdisjoint(directions):
            for row in subaccounts:
                corners.write(market, row.subaccount, profile)
            directions = {leg: way for leg, way in directions.items() if leg not in unfresh}
        against = favourable = NO_LIMIT
        for subaccount, guards, known, figures in subaccounts:
            if GuardState.UNDECIDED in known:
                boxes.heat(account, directions)
                return
            down, up = calculator.reach(subaccount, market.prices, guards, known, figures)
            against, favourable = min(against, down), min(favourable, up)
        against, favourable = _capped(against), _capped(favourable)
        while True:
            sides = boxes.box(directions, against, favourable, corners.lowest, corners.highest)
            falls = rises = False
            for subaccount, guards, known, _ in subaccounts:
                for (least, greatest), truth in zip(
                    calculator.bounds(subaccount, corners.lowest, corners.highest, guards), known, strict=True
                ):
                    if truth is GuardState.FALSE:
                        falls = falls or least is None or least < 0
                    else:
                        rises = rises or greatest is None or greatest >= 0
            if not falls and not rises:
                boxes.certify(account, sides)
                return
            # Too wide a guess: three quarters of it on the side that failed, and in the end the cell alone.
            if (falls and against == 0) or (rises and favourable == 0):
                break
            against = _narrowed(against) if falls else against
            favourable = _narrowed(favourable) if rises else favourable
        boxes.heat(account, directions)

    @property
    def near_trigger_count(self) -> int:
        """See ``RevaluationFilter.hot_count``."""
        return self._boxes.near_trigger_count


def _joined(calculator: MarginCalculator, parts: Iterable[Subaccount]) -> dict[int, int]:
    """Return the directions of several subaccounts together; 0 where they differ."""
    found: dict[int, int] = {}
    for subaccount in parts:
        for number, way in calculator.directions(subaccount).items():
            found[number] = way if found.get(number, way) == way else 0
    return found


def _capped(reach: int) -> int:
    """Return a reach below REACH_LIMIT, which itself stands for no limit: a wide box still has an end."""
    return REACH_LIMIT if reach >= NO_LIMIT else min(reach, REACH_LIMIT - 1)


def _narrowed(reach: int) -> int:
    if reach >= REACH_LIMIT:
        return REACH_LIMIT >> 1
    return reach * 3 >> 2 if reach > _NARROW else 0
