"""Values that a shell completes and that must be looked up: profiles, scenarios, types of events, stores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts.completion import CompletionContext


OWN_DATA = ("accounts", "positions", "collateral", "prices")
"""What ``import`` books into a store."""
MARKET_FORMATS = (
    "bars",
    "binance-klines",
    "binance-trades",
    "ccxt",
    "databento",
    "polygon",
    "stooq",
    "yahoo",
    "segments",
)
"""What ``import`` prints as inputs."""


def market_formats(_: CompletionContext) -> list[str]:
    """Return the formats of market files."""
    return list(MARKET_FORMATS)


def profile_names(_: CompletionContext) -> list[str]:
    """Return the shipped margin profiles."""
    from margin_stream import profiles

    return profiles.names()


def scenario_names(_: CompletionContext) -> list[str]:
    """Return the scenarios that can be simulated."""
    from margin_stream.simulation.scenarios import SCENARIOS

    return sorted(SCENARIOS)


def event_types(_: CompletionContext) -> list[str]:
    """Return the types of inputs and effects."""
    from margin_stream.schemas.effects import EFFECT_TYPES
    from margin_stream.schemas.inputs import INPUT_TYPES, name_of

    return sorted({name_of(kind) for kind in (*INPUT_TYPES, *EFFECT_TYPES)})


def stores(context: CompletionContext) -> list[str]:
    """Return the folders that begin with what is there, and how an address begins."""
    start = context.incomplete
    above = Path(start).parent if start and not start.endswith("/") else Path(start or ".")
    try:
        found = sorted(entry for entry in above.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        found = []
    shown = [f"./{entry}" if start.startswith("./") else str(entry) for entry in found]
    return [*shown, "kafka://"]
