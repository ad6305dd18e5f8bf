"""What a subaccount is worth at the marks as they are, and what each guard states of it: exactly, or over all that open
marks leave open."""

from __future__ import annotations

from collections.abc import Callable

from margin_stream.core.accounts.subaccount import Subaccount
from margin_stream.core.margin.guards import NO_BOUND, Guard, GuardState, guard_state_of
from margin_stream.core.margin.model import MarginFigures, Profile
from margin_stream.core.market.market import Market


class Exact:
    """A valuation at fresh marks."""

    __slots__ = ("decided", "figures")

    def __init__(self, figures: MarginFigures) -> None:
        self.figures = figures
        self.decided = True

    def truth(self, guard: Guard) -> GuardState:
        """See ``lifecycle.Valuation``."""
        return GuardState.TRUE if guard.excess(self.figures.value, self.figures.debit) < 0 else GuardState.FALSE


class Banded:
    """A valuation where some mark is missing or stale: each guard is tested over all that the marks leave open."""

    __slots__ = ("_bounds", "_known", "decided", "figures")

    def __init__(self, figures: MarginFigures, bounds: Callable[[Guard], GuardState]) -> None:
        self.figures = figures
        self.decided = False
        self._bounds = bounds
        self._known: dict[Guard, GuardState] = {}

    def truth(self, guard: Guard) -> GuardState:
        """See ``lifecycle.Valuation``."""
        known = self._known.get(guard)
        if known is None:
            known = self._known[guard] = self._bounds(guard)
        return known


class Corners:
    """The least and greatest price of each instrument, written anew for each subaccount that is looked at."""

    __slots__ = ("highest", "lowest")

    def __init__(self) -> None:
        self.lowest: list[int] = [1]
        self.highest: list[int] = [1]

    def fit(self, market: Market) -> None:
        """Make room for every instrument of a market."""
        more = len(market.prices) - len(self.lowest)
        if more > 0:
            self.lowest += [0] * more
            self.highest += [0] * more

    def write(self, market: Market, subaccount: Subaccount, profile: Profile) -> None:
        """Write what the subaccount reads: the mark, the range that is open, or no bound."""
        lowest, highest, unfresh = self.lowest, self.highest, market.unfresh
        for number in profile.calculator.depends_on(subaccount):
            if number in unfresh:
                if market.prices[number]:
                    lowest[number], highest[number] = market.open_range(number)
                else:
                    lowest[number], highest[number] = 0, NO_BOUND
            else:
                lowest[number] = highest[number] = market.prices[number]


def reads_open_marks(market: Market, subaccount: Subaccount, profile: Profile, figures: MarginFigures) -> bool:
    """Say whether a subaccount's value reads a mark that is missing or stale, or owes what cannot be priced."""
    unfresh = market.unfresh
    return figures.unbounded or (bool(unfresh) and not unfresh.isdisjoint(profile.calculator.depends_on(subaccount)))


def value(market: Market, subaccount: Subaccount, profile: Profile, corners: Corners) -> Exact | Banded:
    """Return the valuation of a subaccount."""
    calculator = profile.calculator
    figures = calculator.evaluate(subaccount, market.prices)
    if not reads_open_marks(market, subaccount, profile, figures):
        return Exact(figures)

    def bounds(guard: Guard) -> GuardState:
        corners.write(market, subaccount, profile)
        return guard_state_of(calculator.open_bounds(subaccount, corners.lowest, corners.highest, (guard,))[0])

    return Banded(figures, bounds)


def guard_states(
    market: Market,
    subaccount: Subaccount,
    profile: Profile,
    guards: list[Guard],
    figures: MarginFigures,
    corners: Corners,
) -> list[GuardState]:
    """Return what each guard states of a subaccount whose figures are known."""
    if not reads_open_marks(market, subaccount, profile, figures):
        exact = Exact(figures)
        return [exact.truth(guard) for guard in guards]
    corners.write(market, subaccount, profile)
    return [
        guard_state_of(span)
        for span in profile.calculator.open_bounds(subaccount, corners.lowest, corners.highest, guards)
    ]
