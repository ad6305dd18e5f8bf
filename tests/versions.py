"""A rules version that only a test knows: what the mechanism does with one that this build does not have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from margin_stream.schemas.objects import SHAPES
from margin_stream.schemas.rules_versions import LATEST, REGISTERED

NEXT = LATEST + 1


@contextmanager
def registered() -> Iterator[int]:
    """Register the next version: it adds ``funding_paid``, subaccounts, leverage and the kind ``perpetual``."""
    before = dict(SHAPES)
    try:
        REGISTERED.append(NEXT)
        for tag, shape in before.items():
            name = tag.partition(".")[0]
            if name == "funding_paid":
                SHAPES[tag] = shape._replace(type_since=NEXT)
            elif name == "position_changed":
                fields = ("isolated", "position_side", "isolated_margin_delta", "leverage")
                SHAPES[tag] = shape._replace(since=dict.fromkeys(fields, NEXT))
            elif name == "collateral_moved":
                SHAPES[tag] = shape._replace(since=dict.fromkeys(("isolated", "from_isolated"), NEXT))
            elif name == "instrument_listed":
                SHAPES[tag] = shape._replace(words={"kind": {"perpetual": NEXT}})
        yield NEXT
    finally:
        REGISTERED.remove(NEXT)
        SHAPES.update(before)
