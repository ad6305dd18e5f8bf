"""What the rules look at: one subaccount of an account at one item, with its valuation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.subaccount import Subaccount
from margin_stream.core.calls.call import Call
from margin_stream.core.margin.guards import Guard, GuardState
from margin_stream.core.margin.model import CallPolicy, CallType, MarginFigures, Profile, Statement
from margin_stream.schemas import effects

LENT = ("collateral_value", "loan")
"""The terms of a model that effects carry."""

Emit = Callable[..., None]
"""``emit(account, EffectType, **fields)``: the fold adds the envelope."""


class Valuation(Protocol):
    """What an account is worth, and what each guard states of it."""

    figures: MarginFigures
    """At the last accepted marks; what was never marked counts 0."""
    decided: bool
    """Every mark that it reads is fresh: no guard is undecided."""

    def truth(self, guard: Guard) -> GuardState:
        """Say whether a guard holds over all that the marks leave open."""


def level_guards(subaccount: Subaccount, policy: CallPolicy) -> list[Guard]:
    """Return the guards that the level follows from. The valuation is *stale* where one of them is undecided."""
    guards = [policy.warn, policy.bankrupt, policy.restore]
    if policy.call_types[0].callable:
        guards.insert(1, policy.call_types[0].trigger)
    if not subaccount.liquidating:
        guards.append(policy.close_out)
    return guards


class Case:
    """One subaccount of an account at one item: everything that the rules look at."""

    __slots__ = (
        "account",
        "call_type",
        "emit_effect",
        "money",
        "now_ns",
        "policy",
        "sale",
        "statement",
        "subaccount",
        "valuation",
    )

    def __init__(
        self,
        account: Account,
        subaccount: Subaccount,
        profile: Profile,
        valuation: Valuation,
        now_ns: int,
        emit: Emit,
        money: Callable[[int], str],
        sale: Callable[[], Sequence[tuple[int, effects.LiquidationLeg]]],
        statement: Callable[[], Statement],
    ) -> None:
        self.account = account
        self.subaccount = subaccount
        self.policy: CallPolicy = profile.policy
        self.call_type: CallType = profile.policy.call_types[0]
        self.valuation = valuation
        self.now_ns = now_ns
        self.emit_effect = emit
        self.money = money
        self.sale = sale
        """What would be sold now: (minor units of the base currency, the leg) in the order of sale."""
        self.statement = statement
        """Equity, requirements and the model's own terms, at the last accepted marks."""

    def emit(self, kind: type[effects.Valued], **fields: object) -> None:
        """Emit an effect that carries the valuation."""
        equity, initial, maintenance, terms = self.statement()
        lent = {name: self.money(terms[name]) for name in LENT if name in terms}
        self.emit_plain(
            kind,
            equity=self.money(equity),
            initial_requirement=self.money(initial),
            maintenance_requirement=self.money(maintenance),
            isolated=self.subaccount.name,
            **lent,
            **fields,
        )

    def emit_plain(self, kind: type[effects.AccountEffect], **fields: object) -> None:
        """Emit an effect that carries no valuation."""
        self.emit_effect(self.account, kind, stale=self.stale, **fields)

    @property
    def stale(self) -> bool:
        """A guard that the level follows from is undecided."""
        if self.valuation.decided:
            return False
        return any(
            self.valuation.truth(guard) is GuardState.UNDECIDED for guard in level_guards(self.subaccount, self.policy)
        )

    def call_id(self, call: Call) -> str:
        """Return ``<group>/call/<n>``."""
        return f"{self.account.id}/call/{call.number}"

    @property
    def shortfall(self) -> int:
        """What is missing to the restore level, 0 or more."""
        return max(self.call_type.shortfall(self.valuation.figures), 0)
