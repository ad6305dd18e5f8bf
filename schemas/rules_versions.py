"""Rules versions: from which one on an input, a field or a value is known.

A journal is folded as the rules version in force read it, for ever: what an older version refused as unknown stays
refused in its journals, though a later version knows it. ``engine_activated`` moves a store to a later version from its
sequence number on; a new store starts with the latest.

| version | what it added |
|---|---|
| 1 | the rules of ``prime``, spot and equity instruments |
| 2 | perpetuals, subaccounts, position sides, leverage, ``funding_paid``, ``effect_answered``; model ``binance-usdm`` |
"""

from __future__ import annotations

from typing import Final

LATEST: Final = 2

TYPES_SINCE: Final[dict[str, int]] = {"funding_paid": 2, "effect_answered": 2}
"""Input name -> version, where it is not the first."""
FIELDS_SINCE: Final[dict[str, dict[str, int]]] = {
    "position_changed": {"pocket": 2, "position_side": 2, "pocket_margin_delta": 2, "leverage": 2},
    "collateral_moved": {"pocket": 2, "from_pocket": 2},
}
"""Input name -> field -> version."""
WORDS_SINCE: Final[dict[tuple[str, str], dict[str, int]]] = {("instrument_listed", "kind"): {"perpetual": 2}}
"""(Input name, field) -> value -> version."""
