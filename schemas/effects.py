"""What the folds emit: one frozen struct an effect, in the past tense, with its version in the tag.

An effect belongs to a *group*: a margin group, or ``@market`` or ``@intake`` for what concerns no account. Its id is
``<group>/<number>``; numbers count the group's effects. Amounts are decimal texts with all decimal places of their
currency.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import msgspec

MARKET_GROUP = "@market"
INTAKE_GROUP = "@intake"


class Effect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    """The envelope of every effect."""

    alert: ClassVar[bool] = False
    """A risk desk is alerted to effects of this type."""
    id: str
    """``<group>/<number>``, derived from the group and its own counter: a replay gives the same."""
    sequence: int
    """The sequence number of the item of the journal that caused it."""
    at_ns: int
    """The clock in force; 0 before the first clock."""


class AccountEffect(Effect, frozen=True, kw_only=True):
    """An effect on one account."""

    account: str
    currency: str
    """The account's base currency, in which its amounts are."""
    stale: bool = False
    """A mark is missing, old or in doubt, and could decide the level otherwise; the level before it stands."""


class Valued(AccountEffect, frozen=True, kw_only=True):
    """An effect that carries the valuation under which it was decided, at the last accepted marks."""

    equity: str
    initial_requirement: str
    maintenance_requirement: str
    collateral_value: str = ""
    """After haircuts; where the profile lends."""
    loan: str = ""
    """What is owed, where the profile lends."""
    isolated: str = ""
    """The isolated subaccount that it concerns; empty for cross."""


class MarginWarned(Valued, frozen=True, tag="margin_warned.v1"):
    """A healthy account fell below the warning level."""

    alert: ClassVar[bool] = True


class MarginLevelChanged(Valued, frozen=True, tag="margin_level_changed.v1"):
    """An account's level changed in another way. One effect a change, with the deepest level."""

    alert: ClassVar[bool] = True

    level: str
    previous: str


class MarginCallIssued(Valued, frozen=True, tag="margin_call_issued.v1"):
    """A call for collateral was issued; the amount is fixed."""

    alert: ClassVar[bool] = True

    call: str
    """``<group>/call/<n>``."""
    amount: str
    shortfall: str
    """What is missing to the restore level. The amount is this, less the unpaid part of open calls, rounded up."""
    due_at_ns: int
    """The last instant at which the call can still be met."""
    call_type: str
    """Of the profile's types of call, such as ``maintenance``."""
    tranche: int
    """1 for a call while none was unpaid; one more than the unpaid calls otherwise."""


class CallSuppressedBelowMinimum(Valued, frozen=True, tag="call_suppressed_below_minimum.v1"):
    """A call was due whose amount is below the minimum transfer amount; emitted once until it is issued or ends."""

    shortfall: str
    minimum: str


class CallReduced(AccountEffect, frozen=True, tag="call_reduced.v1"):
    """Money that arrived paid part of a call."""

    alert: ClassVar[bool] = True

    call: str
    credited: str
    unpaid: str


class CallMet(AccountEffect, frozen=True, tag="call_met.v1"):
    """Money that arrived paid the rest of a call."""

    alert: ClassVar[bool] = True

    call: str
    credited: str


class CallCured(Valued, frozen=True, tag="call_cured.v1"):
    """Resolved by price move: the account is back at its restore level, though the call is not paid in full."""

    alert: ClassVar[bool] = True

    call: str
    unpaid: str


class CallReopened(Valued, frozen=True, tag="call_reopened.v1"):
    """A closed call is open again, with its old due time."""

    alert: ClassVar[bool] = True

    call: str
    unpaid: str
    due_at_ns: int
    reason: str
    """``breach`` or ``withdrawal``."""


class CallExpired(Valued, frozen=True, tag="call_expired.v1"):
    """A due time passed and the call is not paid in full: it is overdue."""

    alert: ClassVar[bool] = True

    call: str
    unpaid: str


class CallEscalated(Valued, frozen=True, tag="call_escalated.v1"):
    """A due time passed while the valuation was undecided: an operator decides, nothing is sold automatically."""

    alert: ClassVar[bool] = True

    call: str
    unpaid: str


class CallReferenceUnmatched(AccountEffect, frozen=True, tag="call_reference_unmatched.v1"):
    """Money named a call that this account does not have; it counted as unnamed."""

    call: str


class LiquidationLeg(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How much of one asset is to be sold, or of one perpetual to be closed."""

    asset: str
    """The asset, or the perpetual."""
    amount: str
    """Value at the mark, in the base currency, before haircut."""
    quantity: str = ""
    """Of a perpetual: what the closing trade would change the position by."""
    position_side: str = ""
    """Of a perpetual in hedge mode: ``long`` or ``short``."""


class LiquidationDue(Valued, frozen=True, tag="liquidation_due.v1"):
    """A liquidation request: what is to be sold to bring the account back to its restore level. No order is placed."""

    alert: ClassVar[bool] = True

    number: int
    """Counts the group's liquidation requests."""
    amount: str
    legs: tuple[LiquidationLeg, ...]
    supersedes: int = 0
    """The number of the request that this one lowers, or 0."""


class MarkRefused(Effect, frozen=True, tag="mark_refused.v1"):
    """A quote did not become a mark; the last accepted mark stands."""

    instrument: str
    price: str
    mark: str
    reason: str
    """``not_positive``, ``crossed`` or ``deviation``."""


class MarkReanchored(Effect, frozen=True, tag="mark_reanchored.v1"):
    """The mark follows quotes outside the band: they agreed, or stayed on one side for long, or a person confirmed."""

    alert: ClassVar[bool] = True

    instrument: str
    price: str
    mark: str
    """The mark before."""
    reason: str
    """``consecutive``, ``second_source``, ``one_side`` or ``confirmed``."""


class TradeFarFromMark(AccountEffect, frozen=True, tag="trade_far_from_mark.v1"):
    """A trade was booked at a price outside the band around the mark."""

    alert: ClassVar[bool] = True

    instrument: str
    price: str
    mark: str
    isolated: str = ""
    """The isolated subaccount that it was booked in; empty for cross."""


class FeedWentStale(Effect, frozen=True, tag="feed_went_stale.v1"):
    """An instrument had no accepted quote for too long; it is valued over its band until the next one."""

    alert: ClassVar[bool] = True

    instrument: str
    mark: str
    marked_at_ns: int


class FeedNumbersRestarted(Effect, frozen=True, tag="feed_numbers_restarted.v1"):
    """A feed sends old numbers with newer times: it numbers anew. What it sends is refused and kept until a person
    sends ``feed_restarted``, or the feed another source name. One effect a restart."""

    alert: ClassVar[bool] = True

    source: str
    number: int
    """The first such number."""
    highest: int
    """The highest number before."""


class InputRefused(Effect, frozen=True, tag="input_refused.v1"):
    """An input was refused; its bytes are in the journal at this sequence number."""

    reason: str
    source: str = ""
    source_seq: int = -1
    digest: str = ""
    """SHA-256 of the raw bytes where they could not be decoded."""


class ProfileTookEffect(Effect, frozen=True, tag="profile_took_effect.v1"):
    """A version of a margin profile takes effect here."""

    profile: str
    version: int


class AnswerRequested(Effect, frozen=True, tag="answer_requested.v1"):
    """An outbox is asked for an action; the result returns as ``effect_answered``."""

    outbox: str
    """The outbox that acts on it, without its ``@``."""
    subject: str
    """What it is about: the id of an effect, or of a call."""
    expires_at_ns: int
    """The last instant at which an answer counts."""


class AnswerExpired(Effect, frozen=True, tag="answer_expired.v1"):
    """The time limit of a question passed without an answer."""

    question: str
    """The id of the ``answer_requested``."""


AnyEffect = (
    MarginWarned
    | MarginLevelChanged
    | MarginCallIssued
    | CallSuppressedBelowMinimum
    | CallReduced
    | CallMet
    | CallCured
    | CallReopened
    | CallExpired
    | CallEscalated
    | CallReferenceUnmatched
    | LiquidationDue
    | MarkRefused
    | MarkReanchored
    | TradeFarFromMark
    | FeedWentStale
    | FeedNumbersRestarted
    | InputRefused
    | ProfileTookEffect
    | AnswerRequested
    | AnswerExpired
)

EFFECT_TYPES: tuple[type[Effect], ...] = AnyEffect.__args__

_decoder = msgspec.msgpack.Decoder(AnyEffect)
_raws = msgspec.msgpack.Decoder(list[msgspec.Raw])


def decode_effect(data: bytes) -> AnyEffect:
    """Return the effect of its canonical bytes.

    Raises:
        msgspec.DecodeError: the bytes are no effect of a known version.
    """
    effect: AnyEffect = _decoder.decode(data)
    return effect


def recorded_effects(payload: bytes) -> list[bytes]:
    """Return the canonical bytes of each effect of a record of effects.

    Raises:
        msgspec.DecodeError: it is no record of effects.
    """
    return [bytes(raw) for raw in _raws.decode(payload)]


def effect_id(group: str, number: int) -> str:
    """Return the id of a group's effect of this number."""
    return f"{group}/{number}"


def split_id(effect: str) -> tuple[str, int]:
    """Return group and number of an effect id."""
    group, _, number = effect.rpartition("/")
    return group, int(number)


def group_of(effect: str) -> str:
    """Return the group of an effect id."""
    return effect.rpartition("/")[0]


class EffectPlace(NamedTuple):
    """Where an effect stands among all: this is the order of effects, whatever partition decided them."""

    sequence: int
    group: str
    number: int


def place_of(effect: Effect) -> EffectPlace:
    """Return where an effect stands."""
    return EffectPlace(effect.sequence, *split_id(effect.id))
