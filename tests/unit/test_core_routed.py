"""Routed items as they lie on a topic: a number for the kind, the position, the fields in order. A partition of an
older build reads them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from margin_stream.core.margin.guards import NO_BOUND, NO_LIMIT, GuardState
from margin_stream.core.margin.model import MarginFigures, SaleLeg
from margin_stream.core.sequenced import (
    FUNDING_SCALE,
    Activated,
    Batch,
    Changed,
    Clocked,
    Funded,
    Listed,
    Marked,
    Moved,
    Opened,
    RulesMoved,
    Traded,
)
from tests.unit.test_core_profiles import listed
from tests.unit.test_core_rows import activation

LISTED, ACTIVATION = listed("USDT", "currency", 2), activation("p", 1, 5)
ITEMS: list[tuple[Any, list[Any]]] = [
    (Marked(7, 1, 2), [1, 7, 1, 2]),
    (Clocked(7, 9), [2, 7, 9]),
    (Traded(7, "A", 1, 2, 3, 4), [3, 7, "A", 1, 2, 3, 4, "", 0, 0, 0]),
    (Traded(7, "A", 1, 2, 3, 4, "p", 1, 5, 20), [3, 7, "A", 1, 2, 3, 4, "p", 1, 5, 20]),
    (Moved(7, "A", 1, 2, "c"), [4, 7, "A", 1, 2, "c", "", None]),
    (Moved(7, "A", 1, 2, "c", "p", ""), [4, 7, "A", 1, 2, "c", "p", ""]),
    (Opened(7, "A", 0, "prime", "d", ("c",)), [5, 7, "A", 0, "prime", "d", ["c"]]),
    (Changed(7, "A", None, "d", None), [6, 7, "A", None, "d", None]),
    (Listed(7, LISTED), [7, 7, msgspec.to_builtins(LISTED)]),
    (Activated(7, ACTIVATION), [8, 7, msgspec.to_builtins(ACTIVATION)]),
    (Funded(7, 1, 2, 3), [9, 7, 1, 2, 3]),
    (RulesMoved(7, 2), [10, 7, 2]),
]


@pytest.mark.parametrize(("item", "expected"), ITEMS)
def test_an_item_is_its_kind_its_position_and_its_fields(item: Any, expected: list[Any]) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(item)) == expected


def test_a_batch_is_two_positions_the_items_and_perhaps_a_digest() -> None:
    batch = Batch(3, 9, [item for item, _ in ITEMS])
    data = msgspec.msgpack.encode(batch)
    assert msgspec.msgpack.decode(data) == [3, 9, [expected for _, expected in ITEMS], b""]
    assert msgspec.msgpack.decode(data, type=Batch) == batch


def test_the_seam_has_these_constants() -> None:
    assert (FUNDING_SCALE, NO_BOUND, NO_LIMIT) == (18, -1, 1 << 40)
    assert [truth.value for truth in GuardState] == [0, 1, 2]
    assert SaleLeg(1, 2) == (1, 2, 0, 0)
    assert MarginFigures(1, 2).unbounded is False
