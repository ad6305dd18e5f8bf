"""What the models' parameters look like, as profiles have them. Decimals are texts.

Plain Python also where the core is compiled: msgspec reads these classes' annotations, which mypyc does not keep whole.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

PeriodSeconds = Annotated[int, msgspec.Meta(ge=0, le=31_536_000)]


class ParameterError(ValueError):
    """A profile's parameters do not fit its model; the text names the parameter."""


class AssetParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one asset counts as collateral."""

    haircut: str
    """Fraction taken off a positive balance, 0 to 1."""
    route: tuple[str, ...]
    """Instruments whose marks multiply into the asset's mark in the base currency; empty for the base currency
    itself."""


class BracketParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One bracket, as a profile's parameters have it. Decimals are texts, notionals in the settlement currency."""

    floor: str
    """The notional at which the bracket begins, included."""
    cap: str | None
    """Where the next one begins; null in the last."""
    maintenance_rate: str
    """Maintenance margin = notional * rate - amount."""
    maintenance_amount: str
    max_leverage: str | None = None
    """The greatest leverage of a position in it."""


class PrimeParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every parameter of the model. Decimals are texts."""

    base_currency: str
    """What amounts are in; it never changes."""
    warn: str
    """Warning level: V < warn * D."""
    call: str
    """Call level: V < call * D."""
    close_out: str
    """Close-out level: V < close_out * D; what is short is sold at once."""
    restore: str
    """A call restores to this level; LIQUIDATING is left here."""
    initial: str
    """Initial requirement as a fraction of D."""
    maintenance: str
    """Maintenance requirement as a fraction of D."""
    at_level: Literal["safe", "breach"]
    """What holds exactly at the warning, call, close-out and bankruptcy level."""
    at_restore: Literal["restored", "short"]
    """What holds exactly at the restore level."""
    call_persistence_s: PeriodSeconds
    """Seconds that the call level must stay breached before a call is issued."""
    due_after_s: PeriodSeconds
    """Seconds from issue to due time."""
    reopen_within_s: PeriodSeconds
    """Seconds from issue within which a call is reopened, at its old due time."""
    minimum_transfer: str
    """A shortfall below this, before rounding, is not called."""
    at_minimum: Literal["called", "suppressed"]
    """What becomes of a shortfall exactly at the minimum transfer amount."""
    rounding: str
    """A call is rounded up to a multiple of this."""
    tranche_step: str
    """Uncovered shortfall of at least this is an add-on call of its own."""
    liquidation_minimum: str
    """No sale is demanded below this."""
    assets: dict[str, AssetParameters]
    """Asset -> how it counts as collateral; one that is not named counts nothing."""
    tranche_share: str = "0"
    """An add-on call is also of at least this share of what open calls leave unpaid."""
    tranche_interval_s: PeriodSeconds = 3600
    """An add-on call is issued no sooner after the call before it."""


class UsdmParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every parameter of the model. Decimals are texts."""

    base_currency: str
    """What amounts are in; it never changes."""
    warn: str
    """Warning level: equity <= warn * maintenance margin."""
    restore: str
    """LIQUIDATING is left above this; a sale brings the subaccount there."""
    at_level: Literal["safe", "breach"]
    """What holds exactly at a level."""
    default_leverage: int
    """Where none was chosen for a position."""
    liquidation_minimum: str
    """No sale is demanded below this."""
    assets: dict[str, AssetParameters]
    """Asset -> how it counts as collateral; one that is not named counts nothing."""
    brackets: dict[str, list[BracketParameters]]
    """Instrument -> its table."""
