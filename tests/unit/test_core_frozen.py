"""What was routed, recorded or taken for parameters is never changed afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from margin_stream.core.margin.parameters import (
    AssetParameters,
    BracketParameters,
    PrimeParameters,
    UsdmParameters,
)
from margin_stream.core.sequenced import Batch
from margin_stream.journal.layout import Manifest, RecordedDigest
from tests.unit.test_core_routed import ITEMS

KINDS: set[type[Any]] = {type(item) for item, _ in ITEMS}


@pytest.mark.parametrize("kind", [*sorted(KINDS, key=lambda kind: kind.__name__), Batch, Manifest, RecordedDigest])
def test_a_routed_or_recorded_thing_is_frozen(kind: type[Any]) -> None:
    assert kind.__struct_config__.frozen


@pytest.mark.parametrize("kind", [PrimeParameters, UsdmParameters, AssetParameters, BracketParameters])
def test_parameters_are_frozen_and_take_no_unknown_field(kind: type[Any]) -> None:
    assert kind.__struct_config__.frozen
    assert kind.__struct_config__.forbid_unknown_fields
