"""Leverage brackets made up for simulated perpetuals: in the shape of a venue's tables, sound, seeded, of no venue."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from margin_stream.core.margin.parameters import BracketParameters
from margin_stream.schemas.decimals import format_scaled

LADDER = (125, 100, 50, 25, 20, 10, 5, 4, 2, 1)
"""Largest leverages, a bracket each; the maintenance rate is half of the initial margin, 1 / (2 * leverage), in every
one of them a finite decimal."""
FIRST_CAPS = (10_000, 25_000, 50_000)
GROWTH = (2, 3, 4, 5)
"""How much further each cap lies than the one before."""
RATE_SCALE = 4


def synthetic_brackets(liquid: Mapping[str, int], seed: int) -> dict[str, list[BracketParameters]]:
    """Return a table for each pair; equal arguments give equal tables. The figures are synthetic, no venue's.

    Args:
        liquid: pair -> on which step of the ladder it begins at best: 0 for the most liquid ones (leverage 125), more
            for others.
        seed: of the steps and caps.
    """
    return {pair: _table(Random(f"brackets/{seed}/{pair}"), best) for pair, best in liquid.items()}


def _table(rng: Random, best: int) -> list[BracketParameters]:
    first = min(best + rng.randrange(2), len(LADDER) - 2)
    rows = []
    floor, amount, below = 0, 0, 0
    cap = rng.choice(FIRST_CAPS) * (4 if best == 0 else 1)
    for leverage in LADDER[first:]:
        rate = 10**RATE_SCALE // (2 * leverage)
        # The margin of a notional on the edge is the same in both brackets.
        amount += floor * (rate - below) if floor else 0
        last = leverage == LADDER[-1]
        rows.append(
            BracketParameters(
                floor=str(floor),
                cap=None if last else str(cap),
                maintenance_rate=_plain(rate),
                maintenance_amount=_plain(amount),
                max_leverage=str(leverage),
            )
        )
        floor, below = cap, rate
        cap *= rng.choice(GROWTH)
    return rows


def _plain(units: int) -> str:
    return format_scaled(units, RATE_SCALE).rstrip("0").rstrip(".")
