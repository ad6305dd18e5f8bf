"""A first activation: the listings of some assets, and a profile that names them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec

from margin_stream.core.store_fold import StoreFold
from margin_stream.importers.market import COIN_SCALE, CURRENCY_SCALES, FIAT, QUOTES, STABLE, Pair, routes
from margin_stream.importers.own_data.directory import PRICE_SCALES, QUANTITY_SCALES
from margin_stream.profiles import ProfileData
from margin_stream.schemas.inputs import AnyInput, InstrumentListed, ProfileActivated

KINDS = ("equity", "spot", "perpetual")


class TemplateUnclear(ValueError):
    """What an asset is cannot be told."""


def template(
    profile: ProfileData,
    assets: Sequence[str],
    base: str,
    folds: StoreFold | None,
    *,
    stale_after_s: int,
    approved_by: str,
) -> tuple[list[AnyInput], list[str]]:
    """Return inputs that list assets and activate a profile for them, and what was taken for what, in words.

    Args:
        profile: as shipped.
        assets: ``AAPL``, ``BTC``, or with what it is: ``DOGE:spot``.
        base: the base currency.
        folds: of the store, so that nothing is listed twice; None for an empty one.
        stale_after_s: of the instruments.
        approved_by: of the activation.

    Raises:
        TemplateUnclear: an asset is of a kind that is none, or that the profile does not margin.
    """
    pairs: dict[str, Pair] = {}
    taken: dict[str, list[str]] = {}
    for word in assets:
        asset, _, kind = word.partition(":")
        kind = kind or _kind_of(asset, base, profile)
        if kind not in KINDS:
            raise TemplateUnclear(f"{word}: write ASSET:equity, ASSET:spot or ASSET:perpetual")
        if asset == base:
            continue
        if profile.has_brackets is not (kind == "perpetual") and kind != "spot":
            raise TemplateUnclear(f"{word}: {profile.name} margins no {kind}")
        pairs[asset] = _pair(asset, kind, base)
        taken.setdefault(kind, []).append(pairs[asset].name)
    directory = None if folds is None else folds.intake.market.directory
    listed: set[str] = set() if directory is None else {*directory.asset_by_name, *directory.instrument_by_name}
    events: list[AnyInput] = []
    identity: dict[str, Any] = {"source": "", "event_time": 0}
    for name in sorted({base, *(pair.base for pair in pairs.values() if pair.kind == "spot")} - listed):
        scale = CURRENCY_SCALES.get(name, COIN_SCALE)
        events.append(
            InstrumentListed(**identity, source_seq=0, instrument=name, kind="currency", quantity_scale=scale)
        )
    for pair in sorted(pairs.values(), key=lambda pair: pair.name):
        if pair.name in listed:
            continue
        spot = pair.kind == "spot"
        quantity = (
            min(QUANTITY_SCALES[pair.kind], CURRENCY_SCALES.get(pair.base, COIN_SCALE))
            if spot
            else QUANTITY_SCALES[pair.kind]
        )
        events.append(
            InstrumentListed(
                **identity,
                source_seq=0,
                instrument=pair.name,
                kind=pair.kind,  # type: ignore[arg-type]
                quantity_scale=quantity,
                base=pair.base if spot else "",
                currency=base,
                price_scale=PRICE_SCALES[pair.kind],
                stale_after_s=stale_after_s,
            )
        )
    known = None if folds is None else folds.intake.accounts.profiles.get(profile.name)
    held = [pair for pair in pairs.values() if pair.kind != "perpetual"]
    parameters = profile.parameters(base, routes(held, base), _brackets(profile, pairs))
    events.append(
        ProfileActivated(
            **identity,
            source_seq=0,
            profile=profile.name,
            model=profile.model,
            version=1 if known is None else known[1] + 1,
            effective_from=0,
            approved_by=approved_by,
            parameters=parameters,
        )
    )
    digest = sha256(msgspec.json.encode(events)).hexdigest()[:16]
    numbered = [
        msgspec.structs.replace(event, source=f"template@{digest}", source_seq=number)
        for number, event in enumerate(events, 1)
    ]
    notes = [f"{kind}, quoted in {base}: {', '.join(names)}" for kind, names in sorted(taken.items())]
    notes.append(f"figures of {profile.name}: {profile.note}")
    if known is not None:
        notes.append(f"version {known[1] + 1} replaces version {known[1]} as a whole: name every asset that is held")
    return numbered, notes


def _kind_of(asset: str, base: str, profile: ProfileData) -> str:
    """Return what an asset is taken for: a coin or currency that is known is a pair, anything else a share; under a
    profile of perpetuals it is one."""
    if profile.has_brackets:
        return "spot" if asset in (*FIAT, *STABLE) else "perpetual"
    coins = {name for row in profile.haircut for name in row.assets}
    return "spot" if asset in coins or asset in QUOTES else "equity"


def _pair(asset: str, kind: str, base: str) -> Pair:
    if kind == "spot":
        return Pair(asset + base, "spot", asset, base)
    return Pair(asset, kind, asset, base)


def _brackets(profile: ProfileData, pairs: dict[str, Pair]) -> dict[str, list[object]] | None:
    """Return the profile's own illustrative table for each perpetual."""
    if not profile.has_brackets:
        return None
    rows = [
        {
            "floor": row.floor,
            "cap": row.cap,
            "maintenance_rate": row.maintenance_rate,
            "maintenance_amount": row.maintenance_amount,
            "max_leverage": row.max_leverage,
        }
        for row in profile.bracket
    ]
    return {pair.name: list(rows) for pair in pairs.values() if pair.kind == "perpetual"}
