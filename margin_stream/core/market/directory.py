"""The directory: assets and instruments with their scales, numbered in the order of their listing."""

from __future__ import annotations

from margin_stream.schemas.decimals import DecimalPair, whole
from margin_stream.schemas.inputs import InstrumentListed
from margin_stream.schemas.refusals import Refusal

UNIT = 0
"""The number of the instrument that stands for "no conversion": its price is always 1."""

PPM = 1_000_000


class Asset:
    """Something that can be held, in integer amounts of ``10**-scale``."""

    __slots__ = ("name", "number", "scale")

    def __init__(self, number: int, name: str, scale: int) -> None:
        self.number = number
        self.name = name
        self.scale = scale


class Instrument:
    """Something that is quoted and traded."""

    __slots__ = (
        "band_maximum_ppm",
        "band_per_second_ppm",
        "band_ppm",
        "base",
        "currency",
        "kind",
        "name",
        "number",
        "perpetual",
        "price_scale",
        "quantity_scale",
        "reanchor_ppm",
        "reanchor_quotes",
        "stale_after_ns",
    )

    def __init__(self, number: int, listed: InstrumentListed, base: Asset, currency: Asset) -> None:
        self.number = number
        self.name = listed.instrument
        self.kind = listed.kind
        self.perpetual = listed.kind == "perpetual"
        self.base = base
        """What a trade delivers; a perpetual delivers nothing, and its currency stands here."""
        self.currency = currency
        self.price_scale = listed.price_scale
        self.quantity_scale = listed.quantity_scale
        self.band_ppm = parts_per_million(listed.band) or 0
        self.band_per_second_ppm = parts_per_million(listed.band_per_second) or 0
        self.band_maximum_ppm = parts_per_million(listed.band_maximum) or 0
        self.reanchor_ppm = parts_per_million(listed.reanchor_within) or 0
        self.reanchor_quotes = listed.reanchor_quotes
        self.stale_after_ns = listed.stale_after_s * 1_000_000_000


def parts_per_million(pair: DecimalPair) -> int | None:
    """Return a fraction in millionths; None where it is no whole number of them."""
    shift = pair[1] + 6
    return None if shift < 0 else whole(pair[0]) * 10**shift


class Directory:
    """Assets and instruments by number and by name."""

    def __init__(self) -> None:
        self.assets: list[Asset] = []
        self.asset_by_name: dict[str, Asset] = {}
        self.instruments: list[Instrument | None] = [None]
        self.instrument_by_name: dict[str, Instrument] = {}
        self.listings: list[InstrumentListed] = []
        """Every accepted listing in order: the directory is rebuilt from these."""

    def refusal(self, listed: InstrumentListed) -> tuple[Refusal, str] | None:
        """Return why a listing would be refused, or None."""
        name = listed.instrument
        if name in self.instrument_by_name or name in self.asset_by_name:
            return Refusal.INSTRUMENT_LISTED_ALREADY, f"instrument: {name} is listed already"
        if listed.kind == "currency":
            if listed.base or listed.currency or listed.price_scale:
                return Refusal.LISTING_INVALID, "base, currency, price_scale: a currency has none of them"
            return None
        for field in ("band", "band_per_second", "band_maximum", "reanchor_within"):
            ppm = parts_per_million(getattr(listed, field))
            if ppm is None or not 0 <= ppm < PPM:
                return (
                    Refusal.LISTING_INVALID,
                    f"{field}: a fraction from 0 up to, not including, 1 with at most six decimal places",
                )
        if listed.currency not in self.asset_by_name:
            return Refusal.ASSET_UNKNOWN, f"currency: {listed.currency!r} is not listed"
        if listed.kind in ("equity", "perpetual"):
            if listed.base:
                why = "a share is its own asset" if listed.kind == "equity" else "a perpetual delivers nothing"
                return Refusal.LISTING_INVALID, f"base: {why}"
            return None
        base = self.asset_by_name.get(listed.base)
        if base is None:
            return Refusal.ASSET_UNKNOWN, f"base: {listed.base!r} is not listed"
        if base.name == listed.currency:
            return Refusal.LISTING_INVALID, "base, currency: a pair joins two assets"
        if base.scale < listed.quantity_scale:
            return (
                Refusal.LISTING_INVALID,
                f"quantity_scale: {base.name} has {base.scale} decimal places, a quantity cannot have more",
            )
        return None

    def enlist(self, listed: InstrumentListed) -> Instrument | None:
        """Add a listing that was found good; return the instrument, or None for a currency."""
        self.listings.append(listed)
        if listed.kind == "currency":
            self._add_asset(listed.instrument, listed.quantity_scale)
            return None
        if listed.kind == "equity":
            base = self._add_asset(listed.instrument, listed.quantity_scale)
        elif listed.kind == "perpetual":
            base = self.asset_by_name[listed.currency]
        else:
            base = self.asset_by_name[listed.base]
        instrument = Instrument(len(self.instruments), listed, base, self.asset_by_name[listed.currency])
        self.instruments.append(instrument)
        self.instrument_by_name[instrument.name] = instrument
        return instrument

    def _add_asset(self, name: str, scale: int) -> Asset:
        asset = Asset(len(self.assets), name, scale)
        self.assets.append(asset)
        self.asset_by_name[name] = asset
        return asset
