"""What a pocket is worth at the marks as they are, and what each guard says of it: exactly, or over all that open marks leave open."""

from __future__ import annotations

from collections.abc import Callable

from margin_stream.core.accounts.subaccount import Pocket
from margin_stream.core.margin.model import NO_BOUND, Figures, Guard, Profile, Truth, truth_of
from margin_stream.core.market.market import Market


class Exact:
    """A valuation at fresh marks."""

    __slots__ = ("figures",)

    def __init__(self, figures: Figures) -> None:
        self.figures = figures

    def truth(self, guard: Guard) -> Truth:
        """See ``lifecycle.Valuation``."""
        return Truth.TRUE if guard.excess(self.figures.value, self.figures.debit) < 0 else Truth.FALSE


class Banded:
    """A valuation where some mark is missing or stale: each guard is tested over all that the marks leave open."""

    __slots__ = ("_bounds", "_known", "figures")

    def __init__(self, figures: Figures, bounds: Callable[[Guard], Truth]) -> None:
        self.figures = figures
        self._bounds = bounds
        self._known: dict[Guard, Truth] = {}

    def truth(self, guard: Guard) -> Truth:
        """See ``lifecycle.Valuation``."""
        known = self._known.get(guard)
        if known is None:
            known = self._known[guard] = self._bounds(guard)
        return known


class Corners:
    """The least and greatest price of each instrument, written anew for each pocket that is looked at."""

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

    def write(self, market: Market, pocket: Pocket, profile: Profile) -> None:
        """Write what the pocket reads: the mark, the stale band, or no bound."""
        lowest, highest, unfresh = self.lowest, self.highest, market.unfresh
        for number in profile.terms.depends_on(pocket):
            if number in unfresh:
                if market.stale[number]:
                    lowest[number], highest[number] = market.stale_band(number)
                else:
                    lowest[number], highest[number] = 0, NO_BOUND
            else:
                lowest[number] = highest[number] = market.prices[number]


def reads_open_marks(market: Market, pocket: Pocket, profile: Profile, figures: Figures) -> bool:
    """Say whether a pocket's value reads a mark that is missing or stale, or owes what cannot be priced."""
    unfresh = market.unfresh
    return figures.unbounded or (bool(unfresh) and not unfresh.isdisjoint(profile.terms.depends_on(pocket)))


def value(market: Market, pocket: Pocket, profile: Profile, corners: Corners) -> Exact | Banded:
    """Return the valuation of a pocket."""
    terms = profile.terms
    figures = terms.evaluate(pocket, market.prices)
    if not reads_open_marks(market, pocket, profile, figures):
        return Exact(figures)

    def bounds(guard: Guard) -> Truth:
        corners.write(market, pocket, profile)
        return truth_of(terms.open_bounds(pocket, corners.lowest, corners.highest, (guard,))[0])

    return Banded(figures, bounds)


def truths(market: Market, pocket: Pocket, profile: Profile, guards: list[Guard], figures: Figures, corners: Corners) -> list[Truth]:
    """Return what each guard says of a pocket whose figures are known."""
    if not reads_open_marks(market, pocket, profile, figures):
        exact = Exact(figures)
        return [exact.truth(guard) for guard in guards]
    corners.write(market, pocket, profile)
    return [truth_of(span) for span in profile.terms.open_bounds(pocket, corners.lowest, corners.highest, guards)]
