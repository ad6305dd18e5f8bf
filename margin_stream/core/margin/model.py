"""The seam between the lifecycle and margin arithmetic: what a margin model gives, and what it is given.

A model turns a portfolio and prices into two integers in minor units of the base currency: a *value* and a *debit* that
it must cover (for another rule book: equity and requirement). Every test of the lifecycle is a ``Guard`` over the two.
``bounds`` is what makes ticks cheap: from the lowest and highest price of each instrument it gives the least and
greatest excess of each guard, with the law that every evaluation at prices inside lies within them. Wider is allowed,
wrong is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from margin_stream.core.accounts.position import Position
from margin_stream.core.margin.brackets import BracketTable
from margin_stream.core.margin.formula import Formula
from margin_stream.core.margin.guards import Guard, GuardState, Ratio, Span
from margin_stream.core.margin.parameters import ParameterError
from margin_stream.core.market.directory import Directory, Instrument
from margin_stream.schemas.inputs import ProfileActivated


class MarginFigures(NamedTuple):
    """One valuation, in minor units of the base currency."""

    value: int
    debit: int
    unbounded: bool = False
    """Something is owed that the model cannot price at any mark."""


class Portfolio(Protocol):
    """What a model may look at of an account."""

    balances: dict[int, int]
    """Asset number -> amount in units of the asset's scale: what was moved and settled, and what spot positions
    hold."""
    perpetuals: dict[int, Position]
    """Key of a position (``position.position_key``) -> perpetuals that are held; none has a quantity of 0."""


class SaleLeg(NamedTuple):
    """Part of a sale: ``amount`` is value at the mark before haircut, in minor units of the base currency."""

    asset: int
    """Number of the asset to be sold, or of the base currency where a perpetual is to be closed."""
    amount: int
    key: int = 0
    """Key of the position that is to be closed, 0 where an asset is sold."""
    quantity: int = 0
    """What the closing trade changes the position by, in units of the instrument's quantity scale."""


class Statement(NamedTuple):
    """What a desk reads, in minor units of the base currency."""

    equity: int
    initial: int
    maintenance: int
    terms: dict[str, int]
    """What the equity is made of, by the rule book's own names, in the order of its formula."""


class MarginCalculator(Protocol):
    """A margin model with its parameters bound to a directory."""

    base: int
    """Asset number of the base currency."""
    subaccounts: bool
    """Accounts may have isolated subaccounts."""
    default_leverage: int
    """Of a position for which none was chosen; 1 where the model knows no leverage."""
    tables: dict[int, BracketTable]
    """The bracket table of each perpetual that it margins; empty where it margins none by tables."""

    def refuses(self, instrument: Instrument) -> str:
        """Return why positions in an instrument are not margined, or an empty text."""

    def statement(self, portfolio: Portfolio, prices: Sequence[int]) -> Statement:
        """Return equity, requirements and the terms of the equity at the given prices."""

    def formula(self, portfolio: Portfolio) -> Formula | None:
        """Return the valuation without rounding as a sum of terms; None for a model that has none.

        With it the model is revalued by vectors, and the calculator has exact figures and liquidation prices for it.
        """

    def depends_on(self, portfolio: Portfolio) -> Iterable[int]:
        """Return the instruments whose prices the valuation reads, each once, in a fixed order."""

    def routed_through(self, instrument: int) -> Sequence[int]:
        """Return the assets whose value reads the instrument's price."""

    def evaluate(self, portfolio: Portfolio, prices: Sequence[int]) -> MarginFigures:
        """Return the valuation at the given prices; what has no price counts 0."""

    def bounds(
        self, portfolio: Portfolio, lowest: Sequence[int], highest: Sequence[int], guards: Sequence[Guard]
    ) -> list[Span]:
        """Return least and greatest excess of each guard over all prices between lowest and highest, both included."""

    def open_bounds(
        self, portfolio: Portfolio, lowest: Sequence[int], highest: Sequence[int], guards: Sequence[Guard]
    ) -> list[Span]:
        """Return least and greatest excess of each guard over marks that are open. This decides what is undecided, so
        it is exact as the rules say."""

    def directions(self, portfolio: Portfolio) -> dict[int, int]:
        """Return, for each instrument that the valuation reads, 1 where a rise of its price only helps, -1 where it
        only harms, else 0."""

    def reach(
        self,
        portfolio: Portfolio,
        prices: Sequence[int],
        guards: Sequence[Guard],
        guard_states: Sequence[GuardState],
        figures: MarginFigures,
    ) -> tuple[int, int]:
        """Return a guess, in 2**-20 of the price, of how far all prices may move against the portfolio, and for it,
        without flipping a guard.

        NO_LIMIT where no guard could flip that way. ``bounds`` has the last word.
        """

    def credit(self, asset: int, before: int, delta: int, prices: Sequence[int]) -> int | None:
        """Return the value of an amount that moved, given the balance before: after haircut, at face where it repays or
        draws a debit.

        Minor units, 0 or more, rounded down. None where the asset has no price yet.
        """

    def sale(self, portfolio: Portfolio, prices: Sequence[int], restore: Guard) -> list[SaleLeg]:
        """Return what is to be sold, or closed, so that the guard no longer breaches, in the order of sale."""


class CallType(NamedTuple):
    """What makes calls of one type: when, for how much, until when. Amounts in minor units of the base currency."""

    name: str
    trigger: Guard
    """A breach of it, for the period, is called."""
    restore: Guard
    """A call restores to it."""
    callable: bool
    """False where the venue liquidates on breach and nothing is called."""
    persistence_ns: int
    due_after_ns: int
    reopen_within_ns: int
    minimum_transfer: int
    minimum_is_called: bool
    rounding: int
    tranche_step: int
    """An add-on call is of at least this, beyond what open calls leave unpaid,"""
    tranche_share: Ratio = Ratio(0, 1)
    """and of at least this share of that,"""
    tranche_interval_ns: int = 0
    """and not before so long after the call before it."""

    def next_call_at(self, unpaid: int) -> Guard:
        """Return the guard that holds where the shortfall is enough for an add-on call, beyond what is unpaid."""
        return self.short_of(unpaid + self.step(unpaid))

    def step(self, unpaid: int) -> int:
        """Return the least amount of an add-on call."""
        numerator, denominator = self.tranche_share
        return max(self.tranche_step, -(-unpaid * numerator // denominator))

    def shortfall(self, figures: MarginFigures) -> int:
        """Return what is missing to the restore level, rounded up to minor units; negative or 0 where nothing is."""
        numerator, denominator = self.restore.ratio
        return -((figures.value * denominator - numerator * figures.debit) // denominator)

    def short_of(self, amount: int) -> Guard:
        """Return the guard that holds where the shortfall is at least the amount."""
        return Guard(self.restore.ratio, 1 - amount, inclusive=False)

    def reaches_minimum(self) -> Guard:
        """Return the guard that holds where the shortfall is enough to be called."""
        return self.short_of(self.minimum_transfer if self.minimum_is_called else self.minimum_transfer + 1)

    def is_called(self, shortfall: int) -> bool:
        """Return whether a shortfall is enough to be called, at the figures."""
        return shortfall > self.minimum_transfer or (shortfall == self.minimum_transfer and self.minimum_is_called)

    def rounded(self, amount: int) -> int:
        """Return the amount rounded up."""
        return -(-amount // self.rounding) * self.rounding


class CallPolicy(NamedTuple):
    """The lifecycle's parameters: the levels of an account, and the types of its calls."""

    warn: Guard
    close_out: Guard
    bankrupt: Guard
    restore: Guard
    """LIQUIDATING is left here, and a sale restores to it."""
    quiescent: Guard
    """The widest of warn, the triggers and restore: an account in no state that passes it has nothing to do."""
    liquidation_minimum: int
    """Minor units of the base currency."""
    call_types: tuple[CallType, ...]
    """At least one. The lifecycle keeps calls of the first; more need a call's type in its row."""


class Profile:
    """A margin profile in force: the activation, its lifecycle parameters and its model."""

    __slots__ = ("activation", "calculator", "name", "policy", "version")

    def __init__(self, activation: ProfileActivated, policy: CallPolicy, calculator: MarginCalculator) -> None:
        self.activation = activation
        self.name = activation.profile
        self.version = activation.version
        self.policy = policy
        self.calculator = calculator


class MarginModel(Protocol):
    """A rule book: turns parameters into lifecycle parameters and terms."""

    name: str
    since: int
    """The first rules version that knows it."""

    def compile(
        self, parameters: Mapping[str, object], directory: Directory, *, sound: bool = True
    ) -> tuple[CallPolicy, MarginCalculator]:
        """Return policy and calculator.

        Args:
            parameters: of the profile.
            directory: what is listed.
            sound: refuse tables with gaps, overlaps, falling rates or jumps; a what-if takes them as they are.

        Raises:
            ParameterError: a parameter is missing, unknown, out of range, or names what is not listed.
        """


MODELS: dict[str, MarginModel] = {}
"""Every model by name; a model file registers its own."""


def profile_of(event: ProfileActivated, directory: Directory, rules_version: int) -> Profile:
    """Return the profile that an activation describes, for a rules version.

    Raises:
        ParameterError: the model is unknown or does not take the parameters.
    """
    model = MODELS.get(event.model)
    if model is None or model.since > rules_version:
        known = sorted(name for name in MODELS if MODELS[name].since <= rules_version)
        raise ParameterError(
            f"model: {event.model!r} is unknown to rules version {rules_version}; known are {', '.join(known)}"
        )
    policy, calculator = model.compile(event.parameters, directory)
    return Profile(event, policy, calculator)
