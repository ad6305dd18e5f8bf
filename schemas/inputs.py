"""What may enter the journal: one frozen struct an event, in the past tense, with its version in the tag."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from margin_stream.schemas.decimals import DecimalPair

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_./:@-]+\Z")]
"""An instrument, asset, profile or desk: 1-64 printable characters without spaces."""
AccountId = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+\Z")]
Text = Annotated[str, msgspec.Meta(max_length=512)]
Sequence = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Moment = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
Scale = Annotated[int, msgspec.Meta(ge=0, le=18)]
Subaccount = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[A-Za-z0-9_./:@-]*\Z")]
"""An isolated subaccount of an account; empty for cross."""
EffectId = Annotated[str, msgspec.Meta(max_length=96, pattern=r"^@?[A-Za-z0-9_-]{1,64}/[1-9][0-9]{0,17}\Z")]
"""``<group>/<number>``."""
SourceName = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class Input(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="type",
    gc=False,
):
    """The envelope of every input."""

    source: SourceName
    """Who sent it. A source is a feed (quotes, clock) or a book (everything else) by its first item."""
    source_seq: Sequence
    """The source's own number of this item; with ``source`` it is the item's identity."""
    event_time: Moment
    """When it happened, by the source: nanoseconds since 1970 (RFC 3339 in NDJSON). Kept; no decision depends on it."""
    corrects: Text = ""
    """The identity ``source#source_seq`` (or the SHA-256) of a refused input that this one replaces."""


class InstrumentListed(Input, frozen=True, tag="instrument_listed.v1"):
    """An asset or an instrument exists from here on; its scales never change."""

    instrument: Name
    kind: Literal["currency", "equity", "spot", "perpetual"]
    """``currency``: an asset that can be held (money, coin). ``equity``: a share, which is its own asset. ``spot``: a
    pair base/currency.
    ``perpetual``: a linear perpetual future, margined and settled in ``currency``; it delivers nothing, so ``base``
    stays empty."""
    quantity_scale: Scale
    """Decimal places of a quantity (of an amount, for a currency)."""
    base: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """The asset that a spot pair delivers; listed before as a currency, with at least this many decimal places."""
    currency: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """The asset in which a trade settles; listed before as a currency."""
    price_scale: Scale = 0
    """Decimal places of a price."""
    band: DecimalPair = (1, -1)
    """Deviation from the last accepted mark that a quote may show at once, as a fraction (0.1 = 10 %)."""
    band_per_second: DecimalPair = (1, -3)
    """What the band gains with each second since the last accepted mark, as a fraction."""
    band_maximum: DecimalPair = (5, -1)
    """The widest band, which is also the band over which a stale instrument is valued."""
    reanchor_quotes: Annotated[int, msgspec.Meta(ge=2, le=16)] = 3
    """The number of consecutive refused quotes that agree which re-anchors the mark."""
    reanchor_within: DecimalPair = (2, -2)
    """They agree where the highest is within this fraction of the lowest."""
    stale_after_s: Annotated[int, msgspec.Meta(ge=1, le=31_536_000)] = 300
    """A mark older than this (strictly, by the clock) is stale. Seconds."""


class ProfileActivated(Input, frozen=True, tag="profile_activated.v1"):
    """A version of a margin profile takes effect at the first clock at or past ``effective_from``."""

    profile: Name
    model: Name
    """The margin model that computes it, such as ``prime``."""
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    effective_from: Moment
    approved_by: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    parameters: dict[str, Any]
    """Every parameter of the model; decimals as strings. ``margin-stream profiles show NAME`` prints a whole set."""


class EngineActivated(Input, frozen=True, tag="engine_activated.v1"):
    """From here on the named rules version decides."""

    version: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    approved_by: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class PriceTicked(Input, frozen=True, tag="price_ticked.v1"):
    """A price was quoted or traded. It becomes a mark if the quote guard accepts it."""

    instrument: Annotated[str, msgspec.Meta(max_length=64)]
    price: DecimalPair
    bid: DecimalPair | None = None
    ask: DecimalPair | None = None


class MarkConfirmed(Input, frozen=True, tag="mark_confirmed.v1"):
    """A person confirmed a price: it becomes the mark, however far from the one before."""

    instrument: Annotated[str, msgspec.Meta(max_length=64)]
    price: DecimalPair
    actor: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    """Who confirmed it."""


class FeedRestarted(Input, frozen=True, tag="feed_restarted.v1"):
    """A person confirmed that a feed numbers anew: from here on its numbers rise from the beginning. What came before
    stays a duplicate."""

    feed: SourceName
    """The source of quotes or clocks."""
    actor: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    """Who confirmed it."""


class ClockTicked(Input, frozen=True, tag="clock_ticked.v1"):
    """Time moved. Only this moves it."""

    time: Moment
    confirmed_by: Annotated[str, msgspec.Meta(max_length=128)] = ""
    """The operator who confirms a jump of more than 8 days."""


class AccountOpened(Input, frozen=True, tag="account_opened.v2"):
    """An account exists from here on. Version 2: ``contacts`` is a list (version 1 had one ``contact``)."""

    account: str
    base_currency: Annotated[str, msgspec.Meta(max_length=64)]
    profile: Annotated[str, msgspec.Meta(max_length=64)]
    margin_group: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """The accounts margined together; empty or the account itself."""
    desk: Text = ""
    contacts: tuple[Text, ...] = ()
    """References into a directory that lies outside the journal: never a name or an address."""


class AccountChanged(Input, frozen=True, tag="account_changed.v1"):
    """Something about an account changed; a field left out stays as it is."""

    account: str
    profile: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    desk: Text | None = None
    contacts: tuple[Text, ...] | None = None
    """References, as of ``account_opened``; all of them."""


class PositionChanged(Input, frozen=True, tag="position_changed.v1"):
    """A trade, an opening balance or an adjustment changed a position."""

    account: str
    instrument: Annotated[str, msgspec.Meta(max_length=64)]
    quantity_delta: DecimalPair
    """Positive buys, negative sells."""
    price: DecimalPair
    fee: DecimalPair = (0, 0)
    """In the settlement currency; positive is paid by the account."""
    reason: Text = ""
    isolated: Subaccount = ""
    """The isolated subaccount that holds the position; empty for cross."""
    position_side: Literal["both", "long", "short"] = "both"
    """``long`` and ``short`` are kept apart (hedge mode); ``both`` nets."""
    isolated_margin_delta: DecimalPair = (0, 0)
    """Moved from cross to the subaccount with the trade, in the settlement currency; negative moves back."""
    leverage: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    """The leverage chosen for the position from here on; 0 leaves it as it is."""


class CollateralMoved(Input, frozen=True, tag="collateral_moved.v1"):
    """Money or an asset arrived on the account (positive) or left it (negative)."""

    account: str
    asset: Annotated[str, msgspec.Meta(max_length=64)]
    amount_delta: DecimalPair
    reason: Text = ""
    call: Annotated[str, msgspec.Meta(max_length=128)] = ""
    """The margin call that it answers, if the sender named one."""
    isolated: Subaccount = ""
    """Where it arrives: an isolated subaccount; empty for cross."""
    from_isolated: Subaccount | None = None
    """Left out: it comes from outside. Given: it is moved from that subaccount (empty for cross), at once; the amount
    is positive then."""


class FundingPaid(Input, frozen=True, tag="funding_paid.v1"):
    """Funding of a perpetual fell due: who is long pays quantity * price * rate to who is short (a negative rate
    reverses it)."""

    instrument: Annotated[str, msgspec.Meta(max_length=64)]
    rate: DecimalPair
    """A fraction, between -1 and 1, with at most 18 decimal places."""
    price: DecimalPair | None = None
    """The price of the computation; left out, the last accepted mark."""


class EffectAnswered(Input, frozen=True, tag="effect_answered.v1"):
    """The result of an effect outside the store: the answer of an outbox. ``source`` is ``@`` and the outbox's name;
    ``source_seq`` counts the answers to this effect, from 1. The first answer under an effect and number stands,
    whatever a later one contains.
    """

    effect: EffectId
    """The effect that is answered."""
    outcome: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    """A value that the outbox defines, such as ``delivered``."""
    detail: Text = ""


AnyInput = (
    InstrumentListed
    | ProfileActivated
    | EngineActivated
    | PriceTicked
    | MarkConfirmed
    | FeedRestarted
    | ClockTicked
    | AccountOpened
    | AccountChanged
    | PositionChanged
    | CollateralMoved
    | FundingPaid
    | EffectAnswered
)

INPUT_TYPES: tuple[type[Input], ...] = AnyInput.__args__
"""In the order of the catalogue."""


def split_tag(tag: str) -> tuple[str, int]:
    """Return name and version of a tag: ``"account_opened.v2"`` -> ``("account_opened", 2)``."""
    name, _, version = tag.rpartition(".v")
    return name, int(version)


def tag_of(kind: type[msgspec.Struct]) -> str:
    """Return the version tag of an event type."""
    return str(kind.__struct_config__.tag)


def name_of(kind: type[msgspec.Struct]) -> str:
    """Return the name of an event type without its version, as NDJSON spells it in ``type``."""
    return split_tag(tag_of(kind))[0]
