"""A subaccount: what is margined together within an account. Every account has its cross subaccount; isolated ones come
and go."""

from __future__ import annotations

from enum import IntEnum

from margin_stream.core.accounts.position import Position
from margin_stream.core.calls.call import Call
from margin_stream.core.margin.guards import Guard, GuardState
from margin_stream.core.margin.model import MarginFigures

NEVER = -1
"""No moment."""


class Level(IntEnum):
    """How deep a subaccount is in trouble; back edges and jumps are allowed."""

    HEALTHY = 0
    WARNING = 1
    DEFICIT = 2
    LIQUIDATING = 3
    BANKRUPT = 4


class Subaccount:
    """Money and positions that stand for each other, and where their lifecycle is. Amounts of money are minor units of
    the base currency."""

    __slots__ = (
        "balances",
        "call_count",
        "calls",
        "figures",
        "guard_states",
        "guards",
        "ledger",
        "level",
        "liquidating",
        "liquidation_amount",
        "liquidation_number",
        "name",
        "open_calls",
        "pending_deposits",
        "pending_since_ns",
        "perpetuals",
        "positions",
        "pricings",
        "stale",
        "suppressed",
        "unpaid",
    )

    def __init__(self, name: str = "") -> None:
        self.name = name
        """Empty for cross."""
        self.level = Level.HEALTHY
        self.liquidating = False
        """Since a close-out or an unmet call, until the restore level."""
        self.stale = False
        """Some guard is undecided."""
        self.pending_since_ns = NEVER
        """The clock at which the condition of the next call first held; NEVER while it does not."""
        self.suppressed = False
        """A call matured below the minimum in this entry and was recorded."""
        self.call_count = 0
        self.calls: list[Call] = []
        self.liquidation_amount = 0
        """The demand that stands, 0 where none does."""
        self.liquidation_number = 0
        """The number of the last demand."""
        self.ledger: dict[int, int] = {}
        """Asset -> what was moved and settled, without what spot positions hold."""
        self.positions: dict[int, Position] = {}
        """By key; those of quantity 0 are kept for what they realised."""
        self.pending_deposits: list[tuple[int, int, int, str]] = []
        """Deposits in assets without a mark: asset, balance before, amount, call named. They count at the first
        mark."""
        self.pricings = NEVER
        """Derived: the count of ``Market.pricings`` at which pending deposits were last looked at."""
        self.balances: dict[int, int] = {}
        """Derived: asset -> ledger and spot holdings together; no zero is kept."""
        self.perpetuals: dict[int, Position] = {}
        """Derived: perpetuals with a quantity, by key."""
        self.open_calls = 0
        """Derived: how many calls are open."""
        self.unpaid = 0
        """Derived: what open calls still demand."""
        self.guards: list[Guard] = []
        """Derived: the guards that matter to the subaccount as it stands."""
        self.guard_states: list[GuardState] | None = None
        """Derived: their states when the subaccount was last at rest; None where that is not known. While they are the
        same, and the subaccount is not touched, it stays at rest."""
        self.figures: MarginFigures | None = None
        """Derived: the last valuation."""

    def recount(self) -> None:
        """Bring what is derived from the calls up to date."""
        self.open_calls = sum(call.open for call in self.calls)
        self.unpaid = sum(call.unpaid for call in self.calls if call.open)

    @property
    def review(self) -> bool:
        """A person must decide: an open call was escalated."""
        return any(call.open and call.deadline == 2 for call in self.calls)

    @property
    def quiescent(self) -> bool:
        """Nothing of the lifecycle is under way."""
        return (
            self.level == 0
            and self.pending_since_ns < 0
            and not self.liquidating
            and not self.stale
            and not self.suppressed
            and not self.open_calls
        )

    def move(self, asset: int, delta: int) -> None:
        """Change the ledger of an asset."""
        self.ledger[asset] = self.ledger.get(asset, 0) + delta
        self.hold(asset, delta)

    def hold(self, asset: int, delta: int) -> None:
        """Change the derived balance of an asset."""
        balance = self.balances.get(asset, 0) + delta
        if balance:
            self.balances[asset] = balance
        else:
            self.balances.pop(asset, None)

    def hold_perpetual(self, key: int, position: Position) -> None:
        """Bring the derived perpetuals up to date with one position."""
        if position.quantity:
            self.perpetuals[key] = position
        else:
            self.perpetuals.pop(key, None)

    @property
    def flags(self) -> int:
        """The flags as one integer, for a row."""
        return self.liquidating | self.stale << 1 | self.suppressed << 2

    @property
    def flag_names(self) -> list[str]:
        """The flags that people are shown."""
        flags = (("STALE", self.stale), ("REVIEW", self.review), ("LIQUIDATING", self.liquidating))
        return [name for name, holds in flags if holds]

    def set_flags(self, flags: int) -> None:
        """Take the flags of a row."""
        self.liquidating, self.stale, self.suppressed = bool(flags & 1), bool(flags & 2), bool(flags & 4)

    @property
    def empty(self) -> bool:
        """It holds neither money nor positions."""
        return not self.balances and not self.perpetuals
